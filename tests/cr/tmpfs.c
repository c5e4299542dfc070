/* SPDX-License-Identifier: Apache-2.0 */
/* cr: tmpfs=/mnt ids=1 also=packed */
/*
 * What is in a tmpfs comes back: files (also big and sparse), directories, symbolic and hard links, FIFOs, devices,
 * sockets, with mode, owner, times and extended attributes; nothing more.
 */
#include "cr.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

static const char *const tops[] = {"/mnt", "/dev/shm"};

static void in(int top, const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s", tops[top], name);
}

static void make(int top)
{
	char a[256], b[256], big[8192];
	struct timespec times[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd;

	in(top, "file", a);
	fd = must(open(a, O_RDWR | O_CREAT, 0600));
	must(write(fd, "in tmpfs", 8));
	must(fchown(fd, 21, 22));
	must(fchmod(fd, 04751));
	if (fsetxattr(fd, "trusted.stasis", "value", 5, 0) < 0)
		check(errno == EPERM || errno == ENOTSUP, "setxattr: %m");
	must(futimens(fd, times));
	close(fd);
	in(top, "big", a);
	fd = must(open(a, O_RDWR | O_CREAT, 0644));
	for (int i = 0; i < 100; i++) {
		cr_fill(big, sizeof(big), i);
		must(pwrite(fd, big, sizeof(big), i * 3 * 8192L));
	}
	must(ftruncate(fd, 20000003));
	close(fd);
	in(top, "dir", a);
	must(mkdir(a, 01711));
	in(top, "dir/sub", a);
	must(mkdir(a, 0700));
	must(chown(a, 5, 6));
	in(top, "dir/sub/empty", a);
	close(must(open(a, O_WRONLY | O_CREAT, 0)));
	in(top, "link", a);
	must(symlink("dir/nowhere at all", a));
	in(top, "file", a);
	in(top, "dir/hard", b);
	must(link(a, b));
	in(top, "fifo", a);
	must(mkfifo(a, 0620));
	in(top, "socket", a);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%.100s", a);
	fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(bind(fd, (struct sockaddr *)&sun, sizeof(sun)));
	close(fd);
	in(top, "a name\nwith \xff bytes", a);
	close(must(open(a, O_WRONLY | O_CREAT, 0644)));
	in(top, "dir", a);
	must(utimensat(AT_FDCWD, a, times, 0));
}

static void expect(int top, const char *name, mode_t mode, uid_t uid, off_t size, nlink_t links)
{
	struct stat st;
	char path[256];

	in(top, name, path);
	check(lstat(path, &st) == 0, "%s: %m", path);
	check(st.st_mode == mode, "%s: mode %o", path, st.st_mode);
	check(st.st_uid == uid, "%s: owner %d", path, st.st_uid);
	check(size < 0 || st.st_size == size, "%s: size %ld", path, (long)st.st_size);
	check(links == 0 || st.st_nlink == links, "%s: %ld links", path, (long)st.st_nlink);
}

static void compare(int top)
{
	char a[256], b[8192];
	struct stat st, hard;
	int fd;

	expect(top, "file", S_IFREG | 04751, 21, 8, 2);
	expect(top, "big", S_IFREG | 0644, 0, 20000003, 1);
	expect(top, "dir", S_IFDIR | 01711, 0, -1, 3);
	expect(top, "dir/sub", S_IFDIR | 0700, 5, -1, 2);
	expect(top, "dir/sub/empty", S_IFREG, 0, 0, 1);
	expect(top, "link", S_IFLNK | 0777, 0, 18, 1);
	expect(top, "fifo", S_IFIFO | 0600, 0, 0, 1);
	expect(top, "socket", S_IFSOCK | 0755, 0, 0, 1);
	expect(top, "a name\nwith \xff bytes", S_IFREG | 0644, 0, 0, 1);
	in(top, "file", a);
	must(stat(a, &st));
	check(st.st_gid == 22, "group");
	check(st.st_mtim.tv_sec == 1100000000 && st.st_mtim.tv_nsec == 987654321, "%s: mtime %ld", a,
		st.st_mtim.tv_sec);
	in(top, "dir/hard", a);
	must(stat(a, &hard));
	check(st.st_ino == hard.st_ino, "the hard link is another file");
	fd = must(open(a, O_RDONLY));
	check(read(fd, b, 100) == 8 && !memcmp(b, "in tmpfs", 8), "contents of the file");
	if (fgetxattr(fd, "trusted.stasis", b, 100) >= 0)
		check(!memcmp(b, "value", 5), "extended attribute");
	else
		check(errno == ENODATA || errno == EPERM || errno == ENOTSUP, "extended attribute: %m");
	close(fd);
	in(top, "big", a);
	fd = must(open(a, O_RDONLY));
	for (int i = 0; i < 100; i++) {
		check(pread(fd, b, 8192, i * 3 * 8192L) == 8192 && cr_differs(b, 8192, i) < 0,
			"block %d of the big file", i);
		check(pread(fd, b, 8192, i * 3 * 8192L + 8192) == 8192 && b[0] == 0 && b[8191] == 0,
			"hole %d", i);
	}
	must(fstat(fd, &st));
	check(st.st_blocks < 3000, "the sparse file takes %ld blocks", (long)st.st_blocks);
	close(fd);
	in(top, "link", a);
	check(readlink(a, b, 100) == 18 && !memcmp(b, "dir/nowhere at all", 18), "the symbolic link");
	in(top, "dir", a);
	must(stat(a, &st));
	check(st.st_mtim.tv_sec == 1100000000, "%s: mtime %ld", a, st.st_mtim.tv_sec);
	check(access("/mnt/more", F_OK) == -1, "there is more");
}

int main(void)
{
	struct stat st;

	umask(022);
	for (int top = 0; top < 2; top++)
		make(top);
	must(chmod("/mnt", 0750));
	must(lstat("/dev/shm", &st));
	while (cr_wait()) {
		struct stat now;

		for (int top = 0; top < 2; top++)
			compare(top);
		must(stat("/mnt", &now));
		check((now.st_mode & 07777) == 0750, "mode of the mount's root: %o", now.st_mode);
		must(stat("/dev/shm", &now));
		check(now.st_mode == st.st_mode, "mode of /dev/shm: %o", now.st_mode);
		check(access("/dev/null", W_OK) == 0 && access("/dev/fd/0", F_OK) == 0, "/dev");
	}
	return 0;
}
