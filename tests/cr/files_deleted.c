/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files without a name: deleted ones on disk and in tmpfs, O_TMPFILE, one with two descriptions, one whose name another file took,
 * one in a directory that is deleted too.
 */
/* cr: ids=1 also=packed */
#include "cr.h"

static int make(const char *path, const char *text)
{
	int fd = must(open(path, O_RDWR | O_CREAT | O_EXCL, 0640));

	must(write(fd, text, strlen(text)));
	return fd;
}

static void same(int fd, const char *text, const char *what)
{
	char b[128] = "";
	struct stat st;

	must(fstat(fd, &st));
	check(st.st_size == (off_t)strlen(text), "%s has %ld bytes", what, (long)st.st_size);
	check(pread(fd, b, sizeof(b), 0) == (ssize_t)strlen(text) && !strcmp(b, text), "%s contains '%s'",
		what, b);
}

int main(void)
{
	int gone = make("/tmp/gone", "gone for good"), again, shm = make("/dev/shm/gone", "gone from tmpfs");
	int replaced = make("/tmp/replaced", "the old one");
	int nameless = must(open("/tmp", O_TMPFILE | O_RDWR, 0600)), inside, big = make("/tmp/big", "big");
	char b[64];
	struct stat st;

	again = must(open("/tmp/gone", O_RDONLY));
	must(fchmod(gone, 0604));
	must(fchown(gone, 12, 34));
	must(lseek(gone, 5, SEEK_SET));
	must(lseek(again, 2, SEEK_SET));
	must(unlink("/tmp/gone"));
	must(unlink("/dev/shm/gone"));
	must(unlink("/tmp/replaced"));
	close(make("/tmp/replaced", "the new one"));
	must(write(nameless, "never had a name", 16));
	must(mkdir("/tmp/dir", 0755));
	inside = make("/tmp/dir/file", "in a directory that is gone");
	must(unlink("/tmp/dir/file"));
	must(rmdir("/tmp/dir"));
	must(pwrite(big, "end", 3, 100 << 20)); /* sparse */
	must(unlink("/tmp/big"));
	while (cr_wait()) {
		same(gone, "gone for good", "the deleted file");
		check(lseek(gone, 0, SEEK_CUR) == 5 && lseek(again, 0, SEEK_CUR) == 2, "offsets");
		must(fstat(gone, &st));
		check((st.st_mode & 07777) == 0604 && st.st_uid == 12 && st.st_gid == 34, "mode %o of %d:%d",
			st.st_mode, st.st_uid, st.st_gid);
		check(st.st_nlink == 0, "%ld links", (long)st.st_nlink);
		check(access("/tmp/gone", F_OK) == -1, "its name is back");
		must(pwrite(gone, "GONE", 4, 0));
		check(pread(again, b, 4, 0) == 4 && !memcmp(b, "GONE", 4),
			"two descriptions are two files now");
		must(pwrite(gone, "gone", 4, 0));
		same(shm, "gone from tmpfs", "the deleted file of /dev/shm");
		same(replaced, "the old one", "the replaced file");
		int new = must(open("/tmp/replaced", O_RDONLY));
		same(new, "the new one", "the file that took its name");
		close(new);
		same(nameless, "never had a name", "O_TMPFILE");
		same(inside, "in a directory that is gone", "in the deleted directory");
		check(pread(big, b, 3, 100 << 20) == 3 && !memcmp(b, "end", 3), "the sparse one's end");
		must(fstat(big, &st));
		check(st.st_blocks < 10000, "the sparse file takes %ld blocks", (long)st.st_blocks);
	}
	return 0;
}
