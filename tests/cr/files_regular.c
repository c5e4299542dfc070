/* SPDX-License-Identifier: Apache-2.0 */
/* Regular files: offset, status flags, content; a file that is only read, one that is appended to, one renamed. */
#include "cr.h"

static off_t size_of(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_size;
}

int main(void)
{
	int rw, append, ro, wo, big, sync, path, noatime;
	char b[64];
	off_t size = 0;

	rw = must(open("/tmp/rw", O_RDWR | O_CREAT | O_EXCL, 0640));
	must(write(rw, "0123456789abcdef", 16));
	must(lseek(rw, 7, SEEK_SET));
	append = must(open("/tmp/append", O_WRONLY | O_CREAT | O_APPEND, 0600));
	must(write(append, "start", 5));
	ro = must(open("/tmp/rw", O_RDONLY));
	must(read(ro, b, 3));
	wo = must(open("/tmp/wo", O_WRONLY | O_CREAT | O_NONBLOCK, 0600));
	must(rename("/tmp/wo", "/tmp/renamed"));
	big = must(open("/tmp/big", O_RDWR | O_CREAT, 0600));
	must(lseek(big, 5LL << 32, SEEK_SET)); /* beyond the end, above 32 bits */
	sync = must(open("/tmp/sync", O_RDWR | O_CREAT | O_SYNC | O_NOATIME, 0600));
	path = must(open("/tmp/rw", O_PATH));
	noatime = must(open("/proc/self/stat", O_RDONLY));
	size = 5;
	for (int round = 1; cr_wait(); round++) {
		check(lseek(rw, 0, SEEK_CUR) == 7, "offset %ld", (long)lseek(rw, 0, SEEK_CUR));
		check(read(rw, b, 4) == 4 && !memcmp(b, "789a", 4), "content at the offset");
		must(lseek(rw, 7, SEEK_SET));
		check((fcntl(rw, F_GETFL) & O_ACCMODE) == O_RDWR, "access mode");
		check(lseek(ro, 0, SEEK_CUR) == 3, "offset of the other description");
		check(write(ro, b, 1) == -1 && errno == EBADF, "a read-only fd can write");
		check(fcntl(append, F_GETFL) & O_APPEND, "O_APPEND is gone");
		must(lseek(append, 0, SEEK_SET));
		must(write(append, "more", 4));
		size += 4;
		check(size_of(append) == size, "appended to %ld", (long)size_of(append));
		check(fcntl(wo, F_GETFL) & O_NONBLOCK, "O_NONBLOCK is gone");
		check(read(wo, b, 1) == -1, "a write-only fd can read");
		check(lseek(big, 0, SEEK_CUR) == 5LL << 32, "offset above 32 bits");
		check((fcntl(sync, F_GETFL) & O_SYNC) == O_SYNC, "O_SYNC is gone");
		check(fcntl(sync, F_GETFL) & O_NOATIME, "O_NOATIME is gone");
		check(fcntl(path, F_GETFL) & O_PATH, "O_PATH is gone");
		check(read(path, b, 1) == -1 && errno == EBADF, "an O_PATH fd can read");
		check(pread(noatime, b, 10, 0) > 0, "a file of /proc: %m");
	}
	return 0;
}
