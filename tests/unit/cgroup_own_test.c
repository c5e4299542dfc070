/* SPDX-License-Identifier: Apache-2.0 */
/* Where a container's cgroup goes when the caller is in one itself, or sees only a part of the hierarchies. Each test is a
 * child with a mount namespace and cgroups of its own. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cgroup/cgroup-priv.h"
#include "tap.h"

static const struct spec_resources no_limits;

static void enter(const char *dir)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	CHECK(write_string_at(AT_FDCWD, path, "0") == 0, "%s", dir);
}

static void in_child(void (*run)(void))
{
	pid_t child;
	int status = 0;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(77);
		run();
		fflush(stdout);
		_exit(tap_failed);
	}
	waitpid(child, &status, 0);
	if (WEXITSTATUS(status) == 77)
		printf("# not possible here\n");
	CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77), "status %x",
		status);
}

/* Makes the cgroup, sees that it is at "expected", and removes it. */
static void expect_at(const char *cgroups_path, const char *id, const char *expected)
{
	struct cgroup cg;
	struct error e = {0};
	const struct cgroup_dir *d;

	if (!CHECK(cgroup_init(&cg, cgroups_path, id, false, &e) == 0, "%s", e.message))
		return;
	d = cgroup_main_dir(&cg);
	CHECK(strcmp(d->path, expected) == 0, "%s, not %s", d->path, expected);
	CHECK(cgroup_create(&cg, &no_limits, &e) == 0, "%s", e.message);
	CHECK(access(expected, F_OK) == 0);
	CHECK(cgroup_delete(&cg, &e) == 0, "%s", e.message);
	CHECK(access(expected, F_OK) != 0);
}

static void v2_only(void)
{
	if (umount2("/sys/fs/cgroup", MNT_DETACH) < 0 ||
		mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0)
		_exit(77);
}

/* A v2 cgroup with processes has no children with controllers: the container's is a sibling of the caller's. */
static void beside_own_v2(void)
{
	char top[64], own[80], expected[128];

	v2_only();
	snprintf(top, sizeof(top), "/sys/fs/cgroup/unit-own-%d", (int)getpid());
	snprintf(own, sizeof(own), "%s/session", top);
	if (mkdir(top, 0755) < 0 || mkdir(own, 0755) < 0)
		_exit(77);
	enter(own);
	snprintf(expected, sizeof(expected), "%s/stasis-x", top);
	expect_at(NULL, "x", expected);
	snprintf(expected, sizeof(expected), "%s/pod/x", top);
	expect_at("pod/x", "x", expected);
	snprintf(expected, sizeof(expected), "/sys/fs/cgroup/unit-abs-%d/x", (int)getpid());
	expect_at(expected + strlen("/sys/fs/cgroup"), "x", expected);
	enter("/sys/fs/cgroup");
	CHECK(rmdir(own) == 0 && rmdir(top) == 0);
}

static void test_beside_own_v2(void)
{
	in_child(beside_own_v2);
}

/* A container in a container: the mount shows the caller's own cgroup as its root. */
static void below_a_part(void)
{
	char own[64];

	v2_only();
	snprintf(own, sizeof(own), "/sys/fs/cgroup/unit-part-%d", (int)getpid());
	if (mkdir(own, 0755) < 0)
		_exit(77);
	enter(own);
	if (mount(own, "/sys/fs/cgroup", NULL, MS_BIND, NULL) < 0)
		_exit(77);
	expect_at(NULL, "x", "/sys/fs/cgroup/stasis-x");
	expect_at("/a/b", "x", "/sys/fs/cgroup/a/b");
	umount("/sys/fs/cgroup");
	enter("/sys/fs/cgroup");
	CHECK(rmdir(own) == 0);
}

static void test_below_a_part(void)
{
	in_child(below_a_part);
}

/* The same seen from a cgroup namespace. */
static void in_a_namespace(void)
{
	char own[64];

	v2_only();
	snprintf(own, sizeof(own), "/sys/fs/cgroup/unit-ns-%d", (int)getpid());
	if (mkdir(own, 0755) < 0)
		_exit(77);
	enter(own);
	/* The same filesystem can't be mounted twice on one place, so the outer one waits elsewhere. */
	CHECK(mount("/sys/fs/cgroup", "/mnt", NULL, MS_BIND, NULL) == 0 && umount("/sys/fs/cgroup") == 0);
	if (CHECK(unshare(CLONE_NEWCGROUP) == 0) &&
		CHECK(mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) == 0)) {
		expect_at(NULL, "x", "/sys/fs/cgroup/stasis-x");
		umount("/sys/fs/cgroup");
	}
	enter("/mnt");
	snprintf(own, sizeof(own), "/mnt/unit-ns-%d", (int)getpid());
	CHECK(rmdir(own) == 0);
}

static void test_in_a_namespace(void)
{
	in_child(in_a_namespace);
}

/* v1: below the caller's own cgroup, in that hierarchy only. */
static void below_own_v1(void)
{
	char own[80], expected[128];

	if (umount2("/sys/fs/cgroup/unified", MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		_exit(77);
	snprintf(own, sizeof(own), "/sys/fs/cgroup/freezer/unit-own-%d", (int)getpid());
	if (mkdir(own, 0755) < 0)
		_exit(77);
	enter(own);
	snprintf(expected, sizeof(expected), "%s/stasis-x", own);
	expect_at(NULL, "x", expected);
	enter("/sys/fs/cgroup/freezer");
	CHECK(rmdir(own) == 0);
}

static void test_below_own_v1(void)
{
	in_child(below_own_v1);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"beside the caller's own (v2)", test_beside_own_v2},
		{"below a part of the hierarchy", test_below_a_part},
		{"in a cgroup namespace", test_in_a_namespace},
		{"below the caller's own (v1)", test_below_own_v1},
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	return tap_main(tests, ARRAY_SIZE(tests));
}
