/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 caps=SYS_ADMIN tmpfs=/mnt */
/*
 * Mounts that the container makes itself come back: tmpfs with contents, binds of directories, files and trees, also below
 * other mounts and over them, proc, sysfs, devpts, mqueue; flags of remounts; what config.json mounts and the container has
 * moved, unmounted or covered; peer groups, slaves and unbindable ones; files and working directories in all that.
 */
#include "cr.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

static char before[65536], after[65536];

static void put(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640));

	must(write(fd, text, strlen(text)));
	close(fd);
}

static void expect(const char *path, const char *text)
{
	char b[256];

	check(cr_read(path, b, sizeof(b)) >= 0, "%s: %m", path);
	check(!strcmp(b, text), "%s holds \"%s\", not \"%s\"", path, b, text);
}

/* mountinfo with what must be the same: no ids, groups by the order in which they come. */
static void table(char *out, size_t size)
{
	static char text[65536];
	int seen[256], n_seen = 0;
	size_t len = 0;

	must(cr_read("/proc/self/mountinfo", text, sizeof(text)));
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *p = strchr(strchr(strchr(line, ' ') + 1, ' ') + 1, ' ') + 1, *word, *rest;
		char *mode = strstr(line, ",mode=755");

		/* of the mount point, if it was there at create */
		if (mode && strstr(line, " - tmpfs "))
			memmove(mode, mode + 9, strlen(mode + 9) + 1);
		for (word = strtok_r(p, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
			char *number = strchr(word, ':');

			if (number && (!strncmp(word, "shared:", 7) || !strncmp(word, "master:", 7))) {
				int group = atoi(number + 1), k = 0;

				while (k < n_seen && seen[k] != group)
					k++;
				if (k == n_seen)
					seen[n_seen++] = group;
				len += snprintf(out + len, size - len, "%.7s%d ", word, k);
			} else if (strncmp(word, "/stasis", 7) != 0 && !strstr(word, "/bundle")) {
				len += snprintf(out + len, size - len, "%s ", word);
			}
		}
		len += snprintf(out + len, size - len, "\n");
	}
}

static void compare_tables(void)
{
	const char *a = before, *b = after;

	/* also the order in which they are listed, which is that in which they were made */
	while (*a && *b) {
		size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");

		check(n == m && !memcmp(a, b, n), "mountinfo was \"%.*s\", is \"%.*s\"", (int)n, a, (int)m,
			b);
		a += n + 1;
		b += m + 1;
	}
	check(!*a && !*b, "there were more mounts, or less");
}

static void make_filesystems(void)
{
	must(mkdir("/w", 0755));
	must(mkdir("/w/t", 0755));
	must(mount("mine", "/w/t", "tmpfs", MS_NOSUID | MS_NODEV, "size=3m,mode=0711"));
	put("/w/t/file", "in a tmpfs");
	must(mkdir("/w/t/dir", 0700));
	must(chown("/w/t/dir", 7, 8));
	put("/w/t/dir/deep", "deep");
	/* on it another one, which covers a file of it */
	must(mkdir("/w/t/over", 0751));
	put("/w/t/over/hidden", "covered");
	must(mount("two", "/w/t/over", "tmpfs", 0, "size=1m"));
	put("/w/t/over/shown", "covers");
	/* one that is read-only */
	must(mkdir("/w/ro", 0755));
	must(mount("ro", "/w/ro", "tmpfs", 0, "size=1m"));
	put("/w/ro/file", "read-only");
	must(mount(NULL, "/w/ro", NULL, MS_REMOUNT | MS_RDONLY, "size=1m"));
	for (int i = 0; i < 3; i++) {
		static const char *const types[] = {"proc", "devpts", "mqueue"};
		static const char *const data[] = {"hidepid=0", "newinstance,ptmxmode=0666,mode=0600", ""};
		char path[64];

		snprintf(path, sizeof(path), "/w/%s", types[i]);
		must(mkdir(path, 0755));
		if (mount(types[i], path, types[i], MS_NOSUID | MS_NOEXEC, data[i]) < 0)
			check(errno == EPERM, "%s: %m", path);
	}
}

static void make_binds(void)
{
	must(mkdir("/w/from", 0755));
	must(mkdir("/w/from/sub", 0755));
	put("/w/from/sub/file", "bound");
	must(mkdir("/w/to", 0755));
	must(mount("/w/from", "/w/to", NULL, MS_BIND, NULL));
	/* (atime is locked in a user namespace) */
	if (mount(NULL, "/w/to", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOEXEC | MS_NOATIME, NULL) < 0)
		must(mount(NULL, "/w/to", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOEXEC, NULL));
	/* a file, over another one */
	put("/w/one", "one");
	put("/w/other", "other");
	must(mount("/w/one", "/w/other", NULL, MS_BIND, NULL));
	/* a part of a tmpfs, mounted below a mount that is covered later */
	must(mkdir("/w/part", 0755));
	must(mount("/w/t/dir", "/w/part", NULL, MS_BIND, NULL));
	/* a tree */
	must(mkdir("/w/tree", 0755));
	must(mount("/w/t", "/w/tree", NULL, MS_BIND | MS_REC, NULL));
	/* a bind over a directory which has a mount below it */
	must(mkdir("/w/c", 0755));
	must(mkdir("/w/c/d", 0755));
	must(mount("/w/from", "/w/c/d", NULL, MS_BIND, NULL));
	must(mount("/w/from", "/w/c", NULL, MS_BIND, NULL));
	/* something over itself, twice */
	must(mount("/w/from", "/w/from", NULL, MS_BIND, NULL));
	must(mount("/w/from", "/w/from", NULL, MS_BIND, NULL));
}

/* What config.json has mounted. */
static void change_given(void)
{
	must(mkdir("/w/moved", 0755));
	put("/mnt/file", "moved");
	must(mount("/mnt", "/w/moved", NULL, MS_MOVE, NULL));
	must(umount("/dev/mqueue"));
	put("/dev/shm/file", "shm");
	must(mount("/w/from", "/dev/shm", NULL, MS_BIND, NULL));
	must(umount("/dev/shm"));
	must(mount(NULL, "/dev/shm", NULL, MS_REMOUNT | MS_NOEXEC | MS_NODEV, "size=2m"));
}

static void make_groups(void)
{
	static const char *const dirs[] = {"/w/g", "/w/g1", "/w/g2", "/w/g3", "/w/p", "/w/u"};

	for (size_t i = 0; i < 6; i++)
		must(mkdir(dirs[i], 0755));
	must(mount("g", "/w/g", "tmpfs", 0, "size=1m"));
	must(mkdir("/w/g/a", 0755));
	must(mount(NULL, "/w/g", NULL, MS_SHARED, NULL));
	must(mount("/w/g", "/w/g1", NULL, MS_BIND, NULL)); /* a peer */
	must(mount("/w/g", "/w/g2", NULL, MS_BIND, NULL));
	must(mount(NULL, "/w/g2", NULL, MS_SLAVE, NULL));     /* a slave, */
	must(mount(NULL, "/w/g2", NULL, MS_SHARED, NULL));    /* with peers of its own, */
	must(mount("/w/g2/a", "/w/g3", NULL, MS_BIND, NULL)); /* of which this is one */
	must(mount("/w/g", "/w/p", NULL, MS_BIND, NULL));
	must(mount(NULL, "/w/p", NULL, MS_PRIVATE, NULL));
	must(mount("/w/g", "/w/u", NULL, MS_BIND, NULL));
	must(mount(NULL, "/w/u", NULL, MS_UNBINDABLE, NULL));
	/* goes to all of them but /w/p and /w/u */
	must(mount("x", "/w/g/a", "tmpfs", 0, "size=1m"));
	put("/w/g/a/x", "everywhere");
}

static void check_contents(void)
{
	struct stat a, b;

	expect("/w/t/file", "in a tmpfs");
	expect("/w/t/dir/deep", "deep");
	expect("/w/part/deep", "deep");
	expect("/w/t/over/shown", "covers");
	expect("/w/tree/over/shown", "covers");
	expect("/w/tree/file", "in a tmpfs");
	expect("/w/ro/file", "read-only");
	expect("/w/to/sub/file", "bound");
	expect("/w/other", "one");
	expect("/w/c/sub/file", "bound");
	expect("/w/moved/file", "moved");
	expect("/dev/shm/file", "shm");
	expect("/w/g1/a/x", "everywhere");
	expect("/w/g3/x", "everywhere");
	must(stat("/w/t", &a));
	check((a.st_mode & 07777) == 0711, "mode of a tmpfs: %o", a.st_mode);
	must(stat("/w/t/dir", &a));
	must(stat("/w/part", &b));
	check(a.st_ino == b.st_ino && a.st_dev == b.st_dev && a.st_uid == 7,
		"a bind shows another directory");
	check(open("/w/to/sub/file", O_WRONLY) == -1 && errno == EROFS, "a read-only mount is writable");
	check(open("/w/ro/file", O_WRONLY) == -1 && errno == EROFS, "a read-only tmpfs is writable");
	check(access("/w/p/a/x", F_OK) == -1, "a mount propagated to a private one");
	check(access("/mnt/file", F_OK) == -1, "what was moved is still at its old place");
}

/* Mounts propagate as before. */
static void check_groups(void)
{
	must(mount("y", "/w/g1/a", "tmpfs", 0, "size=1m"));
	put("/w/g1/a/y", "again");
	expect("/w/g/a/y", "again");
	expect("/w/g2/a/y", "again");
	expect("/w/g3/y", "again");
	check(access("/w/p/a/y", F_OK) == -1, "propagated to a private mount");
	must(umount("/w/g1/a"));
	check(access("/w/g2/a/y", F_OK) == -1, "an umount did not propagate");
	must(mount("z", "/w/g2/a", "tmpfs", 0, "size=1m"));
	put("/w/g2/a/z", "slave");
	expect("/w/g3/z", "slave");
	check(access("/w/g/a/z", F_OK) == -1, "propagated from a slave to its master");
	must(umount("/w/g2/a"));
}

int main(void)
{
	char b[64] = "";
	int file, ro;

	umask(022);
	make_filesystems();
	make_binds();
	change_given();
	make_groups();
	file = must(open("/w/part/deep", O_RDWR));
	ro = must(open("/w/to/sub/file", O_RDONLY));
	must(chdir("/w/t/over"));
	table(before, sizeof(before));
	while (cr_wait()) {
		table(after, sizeof(after));
		compare_tables();
		check_contents();
		check_groups();
		expect("shown", "covers");
		check(pread(file, b, 63, 0) == 4 && !memcmp(b, "deep", 4), "an open file in a bind");
		check(pread(ro, b, 63, 0) == 5 && !memcmp(b, "bound", 5), "an open file in a bind");
		/* what a covering mount hides is still there */
		must(umount2("/w/t/over", MNT_DETACH));
		expect("/w/t/over/hidden", "covered");
		must(mount("two", "/w/t/over", "tmpfs", 0, "size=1m"));
		put("/w/t/over/shown", "covers");
		must(chdir("/w/t/over"));
		table(before, sizeof(before));
	}
	return 0;
}
