/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN tmpfs=/mnt */
/*
 * Processes with a mount namespace of their own, as services with PrivateTmp and ProtectSystem: another /tmp, a tmpfs that
 * only they have, a read-only root; two in one namespace, and the child of one of them back in the container's. Files and
 * working directories in it, and propagation from the container's mounts to its slaves.
 */
#include "cr.h"

#include <sys/mount.h>

static char before[32768], after[32768];

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

/* Mount points, flags and types, in their order. */
static void table(char *out, size_t size)
{
	static char text[65536];
	size_t len = 0;

	must(cr_read("/proc/self/mountinfo", text, sizeof(text)));
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char target[256], options[256], type[64], *rest = strstr(line, " - ");

		check(rest && sscanf(line, "%*s %*s %*s %*s %255s %255s", target, options) == 2 &&
				sscanf(rest, " - %63s", type) == 1,
			"%s", line);
		len += snprintf(out + len, size - len, "%s %s %s%s%s\n", target, options, type,
			strstr(line, " shared:") ? " shared" : "", strstr(line, " master:") ? " slave" : "");
	}
}

static void same_table(void)
{
	size_t same = 0;

	table(after, sizeof(after));

	while (before[same] && before[same] == after[same])
		same++;
	check(!strcmp(before, after), "mounts from here on were\n%.300s, are\n%.300s", before + same,
		after + same);
}

/* The first process of the namespace. */
static void service(void)
{
	int own, dir, back;
	char b[64] = "";

	back = must(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
	must(unshare(CLONE_NEWNS));
	must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	must(mount("/private", "/tmp", NULL, MS_BIND, NULL));
	must(mount("own", "/own", "tmpfs", 0, "size=1m"));
	put("/own/file", "only here");
	put("/tmp/file", "private");
	must(mount("/cr", "/cr", NULL, MS_BIND, NULL)); /* where the rounds are told */
	must(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	own = must(open("/own/file", O_RDWR));
	dir = must(open("/tmp", O_RDONLY | O_DIRECTORY));
	must(chdir("/own"));
	cr_fork("second");
	if (strstr(cr_tag, "second")) {
		must(chdir("/tmp"));
		if (cr_fork("back") == 0) {
			must(setns(back, CLONE_NEWNS));
			must(chdir("/tmp"));
		}
	}
	close(back);
	table(before, sizeof(before));
	while (cr_wait()) {
		bool is_back = strstr(cr_tag, "back") != NULL;

		same_table();
		expect("/tmp/file", is_back ? "public" : "private");
		expect("file", is_back ? "public" : strstr(cr_tag, "second") ? "private" : "only here");
		check((access("/own/file", F_OK) == 0) == !is_back, "who has the tmpfs?");
		check(pread(own, b, 63, 0) == 9 && !memcmp(b, "only here", 9), "an open file");
		check(faccessat(dir, "file", F_OK, 0) == 0, "an open directory: %m");
		b[read(must(openat(dir, "file", O_RDONLY)), b, 63)] = 0;
		check(!strcmp(b, "private"), "the open directory is another one: %s", b);
		if (!is_back)
			check(open("/cannot", O_CREAT | O_WRONLY, 0600) == -1 && errno == EROFS,
				"the root is writable");
		expect("/mnt/later", "propagated");
	}
	_exit(0);
}

int main(void)
{
	umask(022);
	must(mkdir("/tmp", 01777) == 0 || errno == EEXIST ? 0 : -1);
	must(mkdir("/private", 0700));
	must(mkdir("/own", 0755));
	put("/tmp/file", "public");
	must(mount(NULL, "/mnt", NULL, MS_SHARED, NULL));
	must(mkdir("/mnt/a", 0755));
	put("/mnt/later", "propagated");
	if (cr_fork("service") == 0)
		service();
	table(before, sizeof(before));
	while (cr_wait()) {
		same_table();
		expect("/tmp/file", "public");
		check(access("/own/file", F_OK) == -1, "the container has a mount of the other namespace");
		/* goes to the slave; once the others have looked at their tables */
		for (int i = 0; i < cr_n_tags; i++)
			cr_await("done", cr_n, cr_tags[i]);
		must(mount("x", "/mnt/a", "tmpfs", 0, "size=1m"));
		must(cr_read("/proc/2/mountinfo", after, sizeof(after)));
		check(strstr(after, " /mnt/a "), "a mount does not propagate to the namespace");
		must(umount("/mnt/a"));
		must(cr_read("/proc/2/mountinfo", after, sizeof(after)));
		check(!strstr(after, " /mnt/a "), "an umount does not propagate to the namespace");
	}
	return 0;
}
