/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN modes=once,cycles,running,again */
/*
 * Sub-cgroups that the container has made come back, nested, in every hierarchy that it can mount, with limits, owners and
 * the processes in them, also one that is in another one in each hierarchy; init may be in one. The limits hold.
 */
#include "cr.h"

#include <sys/mount.h>

static bool v2_alone; /* controllers are in the v2 tree */

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	check(fd >= 0, "%s: %m", path);
	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: write %s: %m", path, text);
	close(fd);
}

static void expect(const char *path, const char *text)
{
	char b[256];

	check(cr_read(path, b, sizeof(b)) >= 0, "%s: %m", path);
	b[strcspn(b, "\n")] = 0;
	check(!strcmp(b, text), "%s is \"%s\", not \"%s\"", path, b, text);
}

static bool mount_one(const char *name, const char *type)
{
	char path[64];

	snprintf(path, sizeof(path), "/cg/%s", name);
	must(mkdir(path, 0755));
	return mount("cgroup", path, type, MS_NOSUID | MS_NODEV | MS_NOEXEC,
		       strcmp(type, "cgroup2") ? name : NULL) == 0;
}

static void make_v1(bool has[4])
{
	if (has[0]) {
		must(mkdir("/cg/pids/a", 0755));
		must(mkdir("/cg/pids/a/b c", 0755));
		must(mkdir("/cg/pids/empty", 0700));
		put("/cg/pids/a/pids.max", "77");
		put("/cg/pids/a/b c/pids.max", "3");
		must(chown("/cg/pids/a/b c", 7, 8));
		must(chown("/cg/pids/a/b c/cgroup.procs", 7, 8));
	}
	if (has[1]) {
		must(mkdir("/cg/memory/m", 0755));
		put("/cg/memory/m/memory.limit_in_bytes", "67108864");
		put("/cg/memory/m/memory.swappiness", "13");
	}
	if (has[2]) {
		must(mkdir("/cg/cpuset/s", 0755));
		put("/cg/cpuset/s/cpuset.cpus", "0");
		put("/cg/cpuset/s/cpuset.mems", "0");
	}
}

static void check_v1(bool has[4])
{
	struct stat st;

	if (has[0]) {
		expect("/cg/pids/a/pids.max", "77");
		expect("/cg/pids/a/b c/pids.max", "3");
		must(stat("/cg/pids/a/b c", &st));
		check(st.st_uid == 7 && st.st_gid == 8, "owner of a cgroup");
		must(stat("/cg/pids/a/b c/cgroup.procs", &st));
		check(st.st_uid == 7 && st.st_gid == 8, "owner of a file of a cgroup");
		must(stat("/cg/pids/a/b c/pids.max", &st));
		check(st.st_uid == 0, "owner of a file of a cgroup");
		must(stat("/cg/pids/empty", &st));
		check((st.st_mode & 07777) == 0700, "mode of a cgroup: %o", st.st_mode);
		check(st.st_nlink == 2, "another cgroup has come");
	}
	if (has[1]) {
		expect("/cg/memory/m/memory.limit_in_bytes", "67108864");
		expect("/cg/memory/m/memory.swappiness", "13");
	}
	if (has[2])
		expect("/cg/cpuset/s/cpuset.cpus", "0");
}

static void make_v2(void)
{
	char b[256];

	must(mkdir("/cg/unified/x", 0755));
	must(mkdir("/cg/unified/y", 0755));
	must(mkdir("/cg/unified/y/z", 0755));
	put("/cg/unified/y/cgroup.max.descendants", "12");
	must(cr_read("/cg/unified/cgroup.controllers", b, sizeof(b)));
	v2_alone = strstr(b, "pids");
}

static void limit_v2(void)
{
	if (!v2_alone)
		return;
	put("/cg/unified/cgroup.subtree_control", "+pids +memory");
	put("/cg/unified/y/cgroup.subtree_control", "+pids");
	put("/cg/unified/y/pids.max", "55");
	put("/cg/unified/y/z/pids.max", "3");
	put("/cg/unified/x/memory.max", "134217728");
	put("/cg/unified/x/memory.swap.max", "0");
}

static void check_v2(void)
{
	expect("/cg/unified/y/cgroup.max.descendants", "12");
	if (!v2_alone)
		return;
	expect("/cg/unified/y/cgroup.subtree_control", "pids");
	expect("/cg/unified/y/pids.max", "55");
	expect("/cg/unified/y/z/pids.max", "3");
	expect("/cg/unified/x/memory.max", "134217728");
}

/* Where this process is, as the container sees it. */
static void here(char *out, size_t size)
{
	must(cr_read("/proc/self/cgroup", out, size));
}

static void member(const char *tag, const char *pids, const char *memory, const char *v2, bool limited)
{
	static char before[8192], after[8192];
	pid_t pid = cr_fork(tag), child;

	if (pid != 0)
		return;
	if (pids)
		put(pids, "0");
	if (memory)
		put(memory, "0");
	put(v2, "0");
	here(before, sizeof(before));
	while (cr_wait()) {
		here(after, sizeof(after));
		check(!strcmp(before, after), "it was in\n%s, and is in\n%s", before, after);
		/* one, and two more */
		for (int i = 0; limited && i < 3; i++) {
			child = fork();
			if (child == 0) {
				pause();
				_exit(0);
			}
			check((child > 0) == (i < 2), "fork %d under a limit of 3 processes: %m", i);
		}
		for (int i = 0; limited && i < 2; i++) {
			char list[64], *end;

			snprintf(list, sizeof(list), "/proc/self/task/%d/children", (int)getpid());
			must(cr_read(list, after, sizeof(after)));
			child = strtol(after, &end, 10);
			must(kill(child, SIGKILL));
			must(waitpid(child, NULL, 0));
		}
	}
	_exit(0);
}

int main(void)
{
	static const char *const v1[] = {"pids", "memory", "cpuset", "cpu,cpuacct"};
	static char before[8192], after[8192];
	bool has[4];
	int events;

	must(mkdir("/cg", 0755));
	for (int i = 0; i < 4; i++)
		has[i] = mount_one(v1[i], "cgroup");
	check(mount_one("unified", "cgroup2"), "mount cgroup2: %m");
	make_v1(has);
	make_v2();
	put("/cg/unified/x/cgroup.procs", "0"); /* init itself */
	if (has[2])
		put("/cg/cpuset/s/cgroup.procs", "0");
	limit_v2();
	events = must(open("/cg/unified/y/cgroup.events", O_RDONLY));
	here(before, sizeof(before));
	member("limited", has[0] ? "/cg/pids/a/b c/cgroup.procs" : NULL,
		has[1] ? "/cg/memory/m/cgroup.procs" : NULL, "/cg/unified/y/z/cgroup.procs",
		has[0] || v2_alone);
	member("other", has[0] ? "/cg/pids/a/cgroup.procs" : NULL, NULL, "/cg/unified/x/cgroup.procs", false);
	while (cr_wait()) {
		char b[256];

		here(after, sizeof(after));
		check(!strcmp(before, after), "init was in\n%s, and is in\n%s", before, after);
		check_v1(has);
		check_v2();
		check(pread(events, b, sizeof(b) - 1, 0) > 0, "an open file of a cgroup: %m");
	}
	return 0;
}
