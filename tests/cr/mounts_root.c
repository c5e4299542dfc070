/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 caps=SYS_ADMIN,SYS_CHROOT */
/*
 * The container has given itself another root (pivot_root), and has overlays in it: one on directories of the root, with
 * a file mapped and one open that has been copied up, and one in a tmpfs. Masks and read-only paths of config.json are as
 * it has left them.
 */
#include "cr.h"

#include <sys/mount.h>

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

static void change_root(void)
{
	must(mkdir("/new", 0755));
	must(mount("/", "/new", NULL, MS_BIND | MS_REC, NULL));
	must(mkdir("/new/old", 0755));
	must(syscall(SYS_pivot_root, "/new", "/new/old"));
	must(chdir("/"));
	must(umount2("/old", MNT_DETACH));
	must(rmdir("/old"));
}

static void make_overlay(const char *at, const char *source)
{
	char path[5][128], options[600];
	static const char *const names[] = {"lower", "upper", "work", "lower2", "merged"};

	for (int i = 0; i < 5; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/%s", at, names[i]);
		must(mkdir(path[i], 0755));
	}
	snprintf(options, sizeof(options), "%s/lower/file", at);
	put(options, "lower");
	snprintf(options, sizeof(options), "%s/lower/gone", at);
	put(options, "gone");
	snprintf(options, sizeof(options), "%s/lower2/file2", at);
	put(options, "lower 2");
	snprintf(options, sizeof(options), "lowerdir=%s:%s,upperdir=%s,workdir=%s,userxattr", path[0],
		path[3], path[1], path[2]);
	must(mount(source, path[4], "overlay", MS_NODEV, options));
	snprintf(options, sizeof(options), "%s/gone", path[4]);
	must(unlink(options));
	snprintf(options, sizeof(options), "%s/new", path[4]);
	put(options, "new");
	snprintf(options, sizeof(options), "%s/file2", path[4]);
	put(options, "upper 2");
}

static void check_overlay(const char *at)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/merged/file", at);
	expect(path, "lower");
	snprintf(path, sizeof(path), "%s/merged/new", at);
	expect(path, "new");
	snprintf(path, sizeof(path), "%s/merged/file2", at);
	expect(path, "upper 2");
	snprintf(path, sizeof(path), "%s/lower2/file2", at);
	expect(path, "lower 2");
	snprintf(path, sizeof(path), "%s/merged/gone", at);
	check(access(path, F_OK) == -1 && errno == ENOENT, "%s is back", path);
}

static void lines(char *out, size_t size)
{
	char text[32768];
	size_t len = 0;

	must(cr_read("/proc/self/mountinfo", text, sizeof(text)));
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char target[256], options[256], type[64], *rest = strstr(line, " - ");

		check(rest && sscanf(line, "%*s %*s %*s %*s %255s %255s", target, options) == 2 &&
				sscanf(rest, " - %63s", type) == 1,
			"%s", line);
		len += snprintf(out + len, size - len, "%s %s %s\n", target, options, type);
	}
}

int main(void)
{
	static char before[32768], after[32768];
	char *map, b[16] = "";
	int fd;

	umask(022);
	change_root();
	must(mkdir("/o", 0755));
	make_overlay("/o", "first");
	must(mkdir("/t", 0755));
	must(mount("t", "/t", "tmpfs", 0, "size=2m"));
	make_overlay("/t", "second");
	/* a part of the overlay elsewhere, and something mounted in it */
	must(mkdir("/bound", 0755));
	must(mount("/o/merged", "/bound", NULL, MS_BIND, NULL));
	must(mkdir("/bound/sub", 0755));
	must(mount("s", "/bound/sub", "tmpfs", 0, "size=1m"));
	put("/bound/sub/file", "in an overlay");
	fd = must(open("/o/merged/file2", O_RDWR));
	map = must(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0));
	lines(before, sizeof(before));
	while (cr_wait()) {
		lines(after, sizeof(after));
		check(!strcmp(before, after), "mounts were \n%s, are\n%s", before, after);
		check_overlay("/o");
		check_overlay("/t");
		expect("/bound/new", "new");
		expect("/bound/sub/file", "in an overlay");
		check(access("/old", F_OK) == -1 && access("/new/old", F_OK) == -1, "the old root is there");
		check(pread(fd, b, 15, 0) == 7 && !memcmp(b, "upper 2", 7), "an open file in the overlay");
		check(!memcmp(map, "upper 2", 7), "a mapped file in the overlay");
		/* it works on */
		put("/o/merged/later", "later");
		expect("/o/upper/later", "later");
	}
	return 0;
}
