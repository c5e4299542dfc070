/* SPDX-License-Identifier: Apache-2.0 */
/* Paths below a root that is not to be trusted: whatever the links say, nothing outside is opened or made. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "linux/mountfd.h"
#include "tap.h"

static int root = -EBADF;
static char outside[] = "/tmp/stasis-mountfd-outside.XXXXXX", inside[] = "/tmp/stasis-mountfd-root.XXXXXX";

static bool is_inside(int fd, const char *path)
{
	struct stat a, b;

	return fd >= 0 && fstat(fd, &a) == 0 && fstatat(root, path, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static bool is_empty(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_nlink == 2;
}

static void test_directories(void)
{
	int fd = make_dirs_in_root(root, "/a/b/c", 0755);

	CHECK(is_inside(fd, "a/b/c"));
	close_p(&fd);
	fd = make_dirs_in_root(root, "a/b//c/", 0755);
	CHECK(is_inside(fd, "a/b/c"));
	close_p(&fd);
	fd = make_dirs_in_root(root, "../../x", 0755);
	CHECK(is_inside(fd, "x"));
	close_p(&fd);
}

/* As images bring them: /etc/resolv.conf leads to what only the running system makes. */
static void test_dangling_links(void)
{
	char chain[8], to[8];
	int fd;

	CHECK(mkdirat(root, "etc2", 0755) == 0 && symlinkat("../run/made/file", root, "etc2/resolv") == 0);
	fd = make_file_in_root(root, "/etc2/resolv");
	CHECK(is_inside(fd, "run/made/file"));
	close_p(&fd);
	CHECK(symlinkat("/no/such/dir", root, "to_dir") == 0);
	fd = make_dirs_in_root(root, "/to_dir/below", 0755);
	CHECK(is_inside(fd, "no/such/dir/below"));
	close_p(&fd);
	/* it is never followed out of the root, in a circle, or for ever */
	CHECK(symlinkat("../../../../tmp/out", root, "out") == 0);
	fd = make_file_in_root(root, "out");
	CHECK(is_inside(fd, "tmp/out"));
	close_p(&fd);
	CHECK(symlinkat("circle", root, "circle") == 0 && make_file_in_root(root, "circle") == -ELOOP);
	for (int i = 0; i < 60; i++) {
		snprintf(chain, sizeof(chain), "l%d", i);
		snprintf(to, sizeof(to), "l%d/x", i + 1);
		CHECK(symlinkat(to, root, chain) == 0);
	}
	CHECK(make_file_in_root(root, "l0") == -ELOOP);
	CHECK(is_empty(outside));
}

static void test_links(void)
{
	int fd;

	CHECK(symlinkat(outside, root, "absolute") == 0 && symlinkat("../../../..", root, "up") == 0);
	CHECK(symlinkat("/proc/self/root", root, "magic") == 0);
	fd = make_dirs_in_root(root, "up/etc", 0755);
	CHECK(is_inside(fd, "etc"));
	close_p(&fd);
	/* the link leads to a place below the root that does not exist: nothing may be made outside instead */
	fd = make_file_in_root(root, "absolute/file");
	CHECK(is_empty(outside));
	close_p(&fd);
	fd = open_in_root(root, "magic/etc/passwd", O_PATH, 0);
	CHECK(fd < 0);
	close_p(&fd);
}

static void test_files(void)
{
	int fd = make_file_in_root(root, "/etc2/deep/file");
	struct stat st;

	CHECK(is_inside(fd, "etc2/deep/file"));
	CHECK(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0);
	close_p(&fd);
	fd = make_file_in_root(root, "etc2");
	CHECK(is_inside(fd, "etc2")); /* what is there stays what it is */
	close_p(&fd);
	CHECK(make_dirs_in_root(root, "etc2/deep/file/x", 0755) == -ENOTDIR);
}

static void test_attributes(void)
{
	CHECK(mount_attr_of_flags(0) == 0);
	CHECK(mount_attr_of_flags(1 | 2 | 4 | 8) ==
		(1 | 2 | 4 | 8));		  /* ro, nosuid, nodev, noexec are the same bits */
	CHECK(mount_attr_of_flags(1024) == 0x10); /* MS_NOATIME, MOUNT_ATTR_NOATIME */
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"directories are made below the root", test_directories},
		{"links do not lead out", test_links},
		{"what links to nothing lead to is made", test_dangling_links},
		{"files are made below the root", test_files},
		{"flags of mount(2) as attributes", test_attributes},
	};
	int r;

	if (!mkdtemp(outside) || !mkdtemp(inside))
		return 1;
	root = open(inside, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = tap_main(tests, ARRAY_SIZE(tests));
	(void)!remove_tree_at(AT_FDCWD, inside);
	(void)!remove_tree_at(AT_FDCWD, outside);
	return r;
}
