/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files by odd ways: O_PATH of a symbolic link, a FIFO, a socket; renamed; deleted under the name it was opened by, with
 * another name in another directory; a deleted one with extended attributes, times and 6 GiB; with O_DIRECT, O_SYNC,
 * O_APPEND, O_NOATIME; a FIFO that is open in both directions.
 */
#include "cr.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

#define GIB (1ull << 30)

static int link_fd, fifo_path, socket_path, renamed, elsewhere, big, nameless, direct, sync_fd, append,
	noatime, both;
static char block[65536];

static int make(const char *path, const char *text, int flags)
{
	int fd = must(open(path, O_RDWR | O_CREAT | flags, 0640));

	must(write(fd, text, strlen(text)));
	return fd;
}

static void make_big(void)
{
	struct timespec times[2] = {{1000, 5}, {2000, 7}};

	big = make("/tmp/big", "", 0);
	for (int gib = 0; gib < 6; gib += 2) {
		cr_fill(block, sizeof(block), gib);
		check(pwrite(big, block, sizeof(block), gib * GIB + 4096) == sizeof(block), "write: %m");
	}
	must(ftruncate(big, 6 * GIB + 123));
	must(fsetxattr(big, "user.note", "kept", 4, 0));
	must(futimens(big, times));
	must(unlink("/tmp/big"));
}

static void set_up(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};

	must(symlink("/nowhere", "/tmp/link"));
	link_fd = must(open("/tmp/link", O_PATH | O_NOFOLLOW));
	must(mkfifo("/tmp/fifo", 0600));
	fifo_path = must(open("/tmp/fifo", O_PATH));
	must(bind(must(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&a, sizeof(a)));
	socket_path = must(open("/tmp/socket", O_PATH));
	must(mkdir("/tmp/a", 0755));
	must(mkdir("/tmp/a/b", 0755));
	renamed = make("/tmp/before", "renamed", 0);
	must(rename("/tmp/before", "/tmp/a/after"));
	elsewhere = make("/tmp/first", "elsewhere", 0);
	must(link("/tmp/first", "/tmp/a/b/second"));
	must(unlink("/tmp/first"));
	make_big();
	nameless = must(open("/tmp", O_TMPFILE | O_RDWR, 0600));
	must(fsetxattr(nameless, "user.note", "kept", 4, 0));
	direct = make("/tmp/direct", "", O_DIRECT);
	sync_fd = make("/tmp/sync", "sync", O_SYNC);
	append = make("/tmp/append", "append", O_APPEND);
	noatime = make("/tmp/noatime", "noatime", O_NOATIME);
	must(mkfifo("/tmp/both", 0600));
	both = must(open("/tmp/both", O_RDWR));
	must(write(both, "both", 4));
}

static void check_paths(void)
{
	struct stat st, other;
	char b[64] = "";

	check(readlinkat(link_fd, "", b, sizeof(b)) == 8 && !strcmp(b, "/nowhere"), "the link: %s", b);
	must(fstat(fifo_path, &st));
	check(S_ISFIFO(st.st_mode) && (fcntl(fifo_path, F_GETFL) & O_PATH), "the FIFO");
	must(fstat(socket_path, &st));
	check(S_ISSOCK(st.st_mode) && (fcntl(socket_path, F_GETFL) & O_PATH), "the socket");
	check(pread(renamed, b, 7, 0) == 7 && !memcmp(b, "renamed", 7), "the renamed one");
	check(pread(elsewhere, b, 9, 0) == 9 && !memcmp(b, "elsewhere", 9), "the one with another name");
	must(fstat(elsewhere, &st));
	must(stat("/tmp/a/b/second", &other));
	check(st.st_ino == other.st_ino && st.st_nlink == 1, "it is not the same file any more, %d links",
		(int)st.st_nlink);
	check(access("/tmp/first", F_OK) == -1, "its first name is back");
}

static void check_big(void)
{
	struct stat st;
	char note[8] = "";

	must(fstat(big, &st));
	check(st.st_size == 6 * GIB + 123 && st.st_blocks < 2000, "%lld bytes, %lld blocks",
		(long long)st.st_size, (long long)st.st_blocks);
	check(st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7, "its time is %ld", (long)st.st_mtime);
	for (int gib = 0; gib < 6; gib += 2) {
		check(pread(big, block, sizeof(block), gib * GIB + 4096) == sizeof(block) &&
				cr_differs(block, sizeof(block), gib) < 0,
			"what is at %d GiB", gib);
	}
	must(futimens(big, (struct timespec[2]){{1000, 5}, {2000, 7}}));
	check(fgetxattr(big, "user.note", note, 8) == 4 && !memcmp(note, "kept", 4), "its attribute: %m");
	check(fgetxattr(nameless, "user.note", note, 8) == 4, "the nameless one's attribute: %m");
}

static void check_flags(void)
{
	char b[16];

	check(fcntl(direct, F_GETFL) & O_DIRECT, "O_DIRECT");
	check((fcntl(sync_fd, F_GETFL) & O_SYNC) == O_SYNC, "O_SYNC");
	check(fcntl(append, F_GETFL) & O_APPEND, "O_APPEND");
	check(fcntl(noatime, F_GETFL) & O_NOATIME, "O_NOATIME");
	must(pwrite(append, "+", 1, 0));
	check(pread(append, b, 7, 0) == 7 && b[0] == 'a', "it does not append");
	check(read(both, b, 4) == 4 && !memcmp(b, "both", 4), "the FIFO in both directions");
	must(write(both, "both", 4));
}

int main(void)
{
	set_up();
	while (cr_wait()) {
		check_paths();
		check_big();
		check_flags();
	}
	return 0;
}
