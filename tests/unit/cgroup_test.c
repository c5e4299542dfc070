/* SPDX-License-Identifier: Apache-2.0 */
/* Cgroups of our own, below our own, with processes of our own. Needs root and writable hierarchies; skipped otherwise. */
#include <json-c/json.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "cgroup/cgroup-priv.h"
#include "cgroup/stats.h"
#include "tap.h"

static const struct spec_resources no_limits;

static const char *test_id(const char *name)
{
	static char id[64];

	snprintf(id, sizeof(id), "unit-%s-%d", name, (int)getpid());
	return id;
}

static bool make(struct cgroup *cg, const char *name, const struct spec_resources *res)
{
	struct error e = {0};

	return CHECK(cgroup_init(cg, NULL, test_id(name), false, &e) == 0, "%s", e.message) &&
	       CHECK(cgroup_create(cg, res, &e) == 0, "%s", e.message);
}

static void unmake(struct cgroup *cg)
{
	struct error e = {0};

	CHECK(cgroup_delete(cg, &e) == 0, "%s", e.message);
	CHECK(cgroup_delete(cg, &e) == 0, "a second delete: %s", e.message);
	for (size_t i = 0; i < cg->n_dirs; i++)
		CHECK(access(cg->dirs[i].path, F_OK) != 0, "%s is left", cg->dirs[i].path);
}

/* A child that sleeps until it is killed, in the cgroup from its birth. */
static pid_t spawn(const struct cgroup *cg)
{
	struct cgroup_join_fds join;
	struct error e = {0};
	int v2 = cgroup_v2_fd(cg), ready[2];
	struct clone_args args = {.exit_signal = SIGCHLD};
	char c = 1;
	pid_t pid;

	if (v2 >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)v2;
	}
	if (!CHECK(cgroup_join_open(cg, v2 >= 0, NULL, &join, &e) == 0, "%s", e.message) ||
		!CHECK(pipe(ready) == 0))
		exit(1);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		c = (char)-cgroup_join(&join);
		(void)!write(ready[1], &c, 1);
		for (;;)
			pause();
	}
	CHECK(pid > 0 && read(ready[0], &c, 1) == 1 && c == 0, "join: %s", strerror(c));
	cgroup_join_close(&join);
	close(ready[0]);
	close(ready[1]);
	close_p(&v2);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static char *read_of(const struct cgroup_dir *d, const char *file, char *buf, size_t size)
{
	int dir = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ssize_t n = dir < 0 ? -1 : read_small_file_at(dir, file, buf, size);

	close_p(&dir);
	buf[n < 0 ? 0 : n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return buf;
}

static void test_lifecycle(void)
{
	struct cgroup cg;
	pid_t pid, *pids;
	size_t n = 0;
	struct error e = {0};
	char text[4096];

	if (!make(&cg, "life", &no_limits))
		return;
	pid = spawn(&cg);
	CHECK(cgroup_pids(&cg, false, &pids, &n, &e) == 0 && n == 1 && pids[0] == pid, "%zu pids, %s", n,
		e.message);
	free(pids);
	snprintf(text, sizeof(text), "/proc/%d/cgroup", pid);
	CHECK(read_small_file_at(AT_FDCWD, text, text, sizeof(text)) > 0);
	for (size_t i = 0; i < cg.n_dirs; i++) {
		char line[600];

		snprintf(line, sizeof(line), ":%s:", cg.dirs[i].controllers);
		CHECK(strstr(text, line) && strstr(strstr(text, line), cg.path), "%s not joined",
			cg.dirs[i].path);
	}
	CHECK(cgroup_delete(&cg, &e) == -EBUSY, "a cgroup with a process was deleted");
	for (size_t i = 0; i < cg.n_dirs; i++)
		CHECK(cgroup_dir_is_v2(&cg.dirs[i]) || cg.dirs[i].created);
	end(pid);
	unmake(&cg);
}

static void test_taken(void)
{
	struct cgroup cg, other;
	struct error e = {0};
	pid_t pid;

	if (!make(&cg, "taken", &no_limits))
		return;
	pid = spawn(&cg);
	CHECK(cgroup_init(&other, NULL, test_id("taken"), false, &e) == 0);
	CHECK(cgroup_create(&other, &no_limits, &e) == -EEXIST && strstr(e.message, "in use"), "%s",
		e.message);
	CHECK(kill(pid, 0) == 0 && access(cg.dirs[0].path, F_OK) == 0, "the first one was touched");
	end(pid);
	/* Empty, as a crash leaves it: replaced. */
	CHECK(cgroup_create(&other, &no_limits, &e) == 0, "%s", e.message);
	CHECK(cgroup_freeze(&cg, 100, &e) == -ESTALE && cgroup_signal(&cg, SIGKILL, &e) == -ESTALE,
		"the old record still acts: %s", e.message);
	CHECK(cgroup_delete(&cg, &e) == 0, "%s", e.message);
	CHECK(access(other.dirs[0].path, F_OK) == 0, "the old record deleted the new cgroup");
	unmake(&other);
}

static void test_never_root(void)
{
	static const char *const bad[] = {"/", "//", "..", "a/../..", "/..", "./x"};
	struct cgroup cg;
	struct error e = {0};
	char path[sizeof(cg.dirs[0].path)];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(cgroup_init(&cg, bad[i], "x", false, &e) == -EINVAL, "%s accepted", bad[i]);
	if (!make(&cg, "root", &no_limits))
		return;
	/* A forged record must not reach the root, however it is spelled. */
	memcpy(path, cg.dirs[0].path, sizeof(path));
	snprintf(cg.dirs[0].path, sizeof(cg.dirs[0].path), "/sys/fs/cgroup/x/..%.400s", cg.path);
	CHECK(cgroup_dir_open(&cg, &cg.dirs[0], &e) == -EINVAL);
	memcpy(cg.dirs[0].path, "/tmp", 5);
	CHECK(cgroup_dir_open(&cg, &cg.dirs[0], &e) == -EINVAL);
	memcpy(cg.dirs[0].path, path, sizeof(path));
	cg.dirs[0].inode++;
	CHECK(cgroup_dir_open(&cg, &cg.dirs[0], &e) == -ESTALE);
	cg.dirs[0].inode = 1;
	CHECK(cgroup_dir_open(&cg, &cg.dirs[0], &e) == -ESTALE);
	for (size_t i = 0; i < cg.n_dirs; i++)
		rmdir(cg.dirs[i].path);
	memcpy(cg.dirs[0].path, path, sizeof(path));
}

static void test_freezer(void)
{
	struct cgroup cg;
	struct error e = {0};
	pid_t pids[8], *stopped;
	size_t n;

	if (!make(&cg, "freeze", &no_limits))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		pids[i] = spawn(&cg);
	kill(pids[0], SIGSTOP);
	for (int i = 0; i < 5; i++) {
		CHECK(cgroup_is_frozen(&cg) == 0);
		CHECK(cgroup_freeze(&cg, 1000, &e) == 0, "%s", e.message);
		CHECK(cgroup_is_frozen(&cg) == 1);
		CHECK(cgroup_thaw(&cg, &e) == 0, "%s", e.message);
	}
	CHECK(cgroup_is_frozen(&cg) == 0);
	/* A signal to a frozen cgroup leaves it frozen; SIGKILL ends all. */
	CHECK(cgroup_freeze(&cg, 1000, &e) == 0 && cgroup_signal(&cg, SIGCONT, &e) == 0 &&
		cgroup_is_frozen(&cg) == 1);
	CHECK(cgroup_signal(&cg, SIGKILL, &e) == 0, "%s", e.message);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		int status = 0;

		CHECK(waitpid(pids[i], &status, 0) == pids[i] && WIFSIGNALED(status));
	}
	CHECK(cgroup_pids(&cg, true, &stopped, &n, &e) == 0 && n == 0);
	free(stopped);
	unmake(&cg);
}

static void test_sub_cgroups(void)
{
	struct cgroup cg;
	struct error e = {0};
	const struct cgroup_dir *d;
	char path[600];
	pid_t pid, *pids;
	size_t n = 0;

	if (!make(&cg, "sub", &no_limits))
		return;
	d = cgroup_main_dir(&cg);
	snprintf(path, sizeof(path), "%s/a", d->path);
	CHECK(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/a/b", d->path);
	CHECK(mkdir(path, 0755) == 0);
	pid = spawn(&cg);
	snprintf(path, sizeof(path), "%d", pid);
	{
		char file[600];
		int dir;

		snprintf(file, sizeof(file), "%s/a/b", d->path);
		dir = open(file, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(write_string_at(dir, "cgroup.procs", path) == 0);
		close(dir);
	}
	CHECK(cgroup_pids(&cg, false, &pids, &n, &e) == 0 && n == 1 && pids[0] == pid);
	free(pids);
	CHECK(cgroup_freeze(&cg, 1000, &e) == 0 && cgroup_thaw(&cg, &e) == 0, "%s", e.message);
	CHECK(cgroup_signal(&cg, SIGTERM, &e) == 0, "%s", e.message);
	CHECK(waitpid(pid, NULL, 0) == pid);
	unmake(&cg);
}

/* Killed before it could record an inode: the record has none. */
static void test_unrecorded(void)
{
	struct cgroup cg, record;
	struct error e = {0};

	if (!make(&cg, "crash", &no_limits))
		return;
	CHECK(cgroup_init(&record, NULL, test_id("crash"), false, &e) == 0);
	CHECK(cgroup_signal(&record, SIGKILL, &e) == -ENOENT, "%s", e.message);
	unmake(&record);
}

/* A task that left the v2 tree is still the container's by its v1 cgroups. */
static void test_escaped(void)
{
	struct cgroup cg;
	struct error e = {0};
	const struct cgroup_dir *d;
	char path[600], pid_text[24];
	pid_t pid, *pids = NULL;
	size_t n = 0;
	int dir;

	if (!make(&cg, "escape", &no_limits))
		return;
	d = cgroup_v2_dir(&cg);
	if (d && cg.mode == CGROUP_HYBRID) {
		snprintf(path, sizeof(path), "%s/..", d->path);
		pid = spawn(&cg);
		snprintf(pid_text, sizeof(pid_text), "%d", pid);
		dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(write_string_at(dir, "cgroup.procs", pid_text) == 0);
		close(dir);
		CHECK(cgroup_pids(&cg, true, &pids, &n, &e) == 0 && n == 1 && pids[0] == pid);
		free(pids);
		CHECK(cgroup_signal(&cg, SIGKILL, &e) == 0, "%s", e.message);
		CHECK(waitpid(pid, NULL, 0) == pid);
	}
	unmake(&cg);
}

/* An ordinary user without a delegated cgroup runs without one, unless limits are asked for. */
static void test_unprivileged(void)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct spec_resources res = {.has_pids_limit = true, .pids_limit = 5};
		struct cgroup cg;
		struct error e = {0};

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		CHECK(cgroup_init(&cg, NULL, "unprivileged", false, &e) == 0, "%s", e.message);
		cg.optional = true;
		CHECK(cgroup_create(&cg, &res, &e) == -EACCES, "%s", e.message);
		CHECK(cgroup_init(&cg, NULL, "unprivileged", false, &e) == 0, "%s", e.message);
		CHECK(cgroup_create(&cg, &no_limits, &e) == -EACCES, "%s", e.message);
		CHECK(cgroup_init(&cg, NULL, "unprivileged", false, &e) == 0, "%s", e.message);
		cg.optional = true;
		CHECK(cgroup_create(&cg, &no_limits, &e) == 0 && cg.mode == CGROUP_NONE, "%s", e.message);
		fflush(stdout);
		_exit(tap_failed);
	}
	waitpid(child, &status, 0);
	CHECK(WEXITSTATUS(status) == 0, "status %d", WEXITSTATUS(status));
}

static struct cgroup cg_limits;
static void check_v1(const char *controller, const char *file, const char *expected)
{
	const struct cgroup_dir *d = cgroup_v1_dir(&cg_limits, controller);
	char text[4096];

	if (d)
		CHECK(strcmp(read_of(d, file, text, sizeof(text)), expected) == 0, "%s: %s, not %s", file,
			text, expected);
}

static void test_v1_limits(void)
{
	struct spec_resources res = {.has_memory_limit = true,
		.memory_limit = 64 << 20,
		.has_memory_swap = true,
		.memory_swap = 128 << 20,
		.has_cpu_shares = true,
		.cpu_shares = 512,
		.has_cpu_quota = true,
		.cpu_quota = 50000,
		.has_cpu_period = true,
		.cpu_period = 200000,
		.has_pids_limit = true,
		.pids_limit = 50,
		.cpuset_cpus = "0",
		.has_memory_reservation = true,
		.memory_reservation = 32 << 20};
	struct error e = {0};

	if (!cgroup_init(&cg_limits, NULL, "x", false, &e) && !cgroup_v1_dir(&cg_limits, "memory")) {
		printf("# no v1 controllers here\n");
		return;
	}
	if (!make(&cg_limits, "limits", &res))
		return;
	check_v1("memory", "memory.limit_in_bytes", "67108864");
	check_v1("memory", "memory.memsw.limit_in_bytes", "134217728");
	check_v1("memory", "memory.soft_limit_in_bytes", "33554432");
	check_v1("cpu", "cpu.shares", "512");
	check_v1("cpu", "cpu.cfs_quota_us", "50000");
	check_v1("cpu", "cpu.cfs_period_us", "200000");
	check_v1("pids", "pids.max", "50");
	check_v1("cpuset", "cpuset.cpus", "0");
	/* Up and down again, both with memory plus swap in between. */
	res.memory_limit = 256 << 20;
	res.memory_swap = 300 << 20;
	CHECK(cgroup_apply(&cg_limits, &res, &e) == 0, "%s", e.message);
	res.memory_limit = 32 << 20;
	res.memory_swap = 40 << 20;
	CHECK(cgroup_apply(&cg_limits, &res, &e) == 0, "%s", e.message);
	check_v1("memory", "memory.memsw.limit_in_bytes", "41943040");
	/* The last one is refused by the kernel: those before it are put back. */
	res.memory_limit = 48 << 20;
	res.memory_swap = 48 << 20;
	res.cpu_shares = 100;
	res.cpuset_cpus = "0";
	res.cpu_quota = 5;
	CHECK(cgroup_apply(&cg_limits, &res, &e) == -EINVAL && strstr(e.message, "cfs_quota"), "%s",
		e.message);
	check_v1("memory", "memory.limit_in_bytes", "33554432");
	check_v1("memory", "memory.memsw.limit_in_bytes", "41943040");
	check_v1("cpu", "cpu.shares", "512");
	res = (struct spec_resources){
		.has_memory_limit = true, .memory_limit = -1, .has_pids_limit = true, .pids_limit = -1};
	CHECK(cgroup_apply(&cg_limits, &res, &e) == 0, "%s", e.message);
	check_v1("pids", "pids.max", "max");
	check_v1("cpu", "cpu.shares", "512");
	unmake(&cg_limits);
}

static void test_devices_v1(void)
{
	struct spec_device_rule rules[] = {
		{false, 'a', -1, -1, "rwm"}, {true, 'b', 8, -1, "r"}, {true, 'a', 10, 200, "rw"}};
	struct spec_resources res = {.devices = rules, .n_devices = ARRAY_SIZE(rules)};
	struct cgroup cg;
	const struct cgroup_dir *d;
	char text[4096];
	int dir;

	if (!make(&cg, "devices", &res))
		return;
	d = cgroup_v1_dir(&cg, "devices");
	if (d) {
		dir = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(read_small_file_at(dir, "devices.list", text, sizeof(text)) > 0);
		CHECK(!strstr(text, "a *:*") && strstr(text, "b 8:* r") && strstr(text, "c 1:3 rwm") &&
				strstr(text, "c 136:* rwm") && strstr(text, "c 10:200 rw") &&
				strstr(text, "c *:* m"),
			"%s", text);
		close(dir);
	}
	unmake(&cg);
}

/* Opens devices in a child that is in "dir" (v2). */
static int open_in(int dir, const char *path, int flags)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD, .flags = CLONE_INTO_CGROUP, .cgroup = (uint64_t)dir};
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	int status = 0;

	if (pid == 0)
		_exit(open(path, flags | O_CLOEXEC) < 0 ? errno : 0);
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static void test_devices_v2(void)
{
	struct spec_device_rule rules[] = {{false, 'a', -1, -1, "rwm"}, {true, 'c', 1, 11, "r"}};
	struct spec_resources res = {.devices = rules, .n_devices = ARRAY_SIZE(rules)};
	struct spec_device_rule all[] = {{true, 'a', -1, -1, "rwm"}, {false, 'c', 1, 11, "w"}};
	struct error e = {0};
	struct cgroup cg;
	int dir;

	if (!make(&cg, "bpf", &no_limits))
		return;
	dir = cgroup_v2_fd(&cg);
	if (dir < 0) {
		printf("# no v2 here\n");
		unmake(&cg);
		return;
	}
	CHECK(devices_apply_v2(dir, &res, &e) == 0, "%s", e.message);
	CHECK(open_in(dir, "/dev/null", O_RDWR) == 0);
	CHECK(open_in(dir, "/dev/zero", O_RDONLY) == 0);
	CHECK(open_in(dir, "/dev/kmsg", O_RDONLY) == 0);
	CHECK(open_in(dir, "/dev/kmsg", O_WRONLY) == EPERM);
	CHECK(open_in(dir, "/dev/mem", O_RDONLY) == EPERM || access("/dev/mem", F_OK) != 0);
	/* Replaced, not added. */
	res.devices = all;
	CHECK(devices_apply_v2(dir, &res, &e) == 0, "%s", e.message);
	CHECK(open_in(dir, "/dev/kmsg", O_RDONLY) == 0);
	CHECK(open_in(dir, "/dev/kmsg", O_WRONLY) == EPERM);
	res.n_devices = 1;
	CHECK(devices_apply_v2(dir, &res, &e) == 0, "%s", e.message);
	CHECK(open_in(dir, "/dev/kmsg", O_WRONLY) == 0);
	close(dir);
	unmake(&cg);
}

/* v2 files by name, in a plain folder: this machine's controllers may all be on v1. */
static void check_v2(const char *folder, const char *file, const char *expected)
{
	struct cgroup_dir d;
	char text[256];

	snprintf(d.path, sizeof(d.path), "%s", folder);
	CHECK(strcmp(read_of(&d, file, text, sizeof(text)), expected) == 0, "%s: %s, not %s", file, text,
		expected);
}

static void test_v2_limits(void)
{
	static const char *const files[] = {"memory.max", "memory.swap.max", "memory.low", "cpu.weight",
		"cpu.max", "cpu.max.burst", "cpu.idle", "cpuset.cpus", "pids.max", "io.weight", "io.max",
		"hugetlb.2MB.max", "memory.high"};
	struct spec_blkio_device throttle = {.major = 8, .minor = 0, .rate = 1048576};
	struct spec_hugepage_limit huge[] = {{"2MB", 4096}, {"1GB", 0}};
	struct spec_sysctl unified = {"memory.high", "12345"};
	struct spec_resources res = {.has_memory_limit = true,
		.memory_limit = 100,
		.has_memory_swap = true,
		.memory_swap = 150,
		.has_memory_reservation = true,
		.memory_reservation = -1,
		.has_cpu_shares = true,
		.cpu_shares = 1024,
		.has_cpu_quota = true,
		.cpu_quota = 20000,
		.has_pids_limit = true,
		.pids_limit = -1,
		.cpuset_cpus = "0-1",
		.has_blkio_weight = true,
		.blkio_weight = 1000,
		.blkio_throttle[BLKIO_WRITE_BPS] = {&throttle, 1},
		.hugepage_limits = huge,
		.n_hugepage_limits = 2,
		.unified = &unified,
		.n_unified = 1,
		.has_cpu_burst = true,
		.cpu_burst = 7};
	char folder[] = "/tmp/cgroup-test-XXXXXX", path[64];
	struct cgroup cg = {.mode = CGROUP_V2};
	struct error e = {0};
	struct limits l;
	int dir;

	if (!CHECK(mkdtemp(folder) != NULL))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	limits_init(&l, &cg, false, &e);
	CHECK(v2_apply(&l, dir, &res) == 0, "%s", e.message);
	check_v2(folder, "memory.max", "100");
	check_v2(folder, "memory.swap.max", "50");
	check_v2(folder, "memory.low", "max");
	check_v2(folder, "cpu.weight", "100");
	CHECK(v2_cpu_weight(2) == 1 && v2_cpu_weight(512) == 59 && v2_cpu_weight(262144) == 10000 &&
		v2_cpu_weight(UINT64_MAX) == 10000);
	check_v2(folder, "cpu.max", "20000 100000");
	check_v2(folder, "cpu.max.burst", "7");
	check_v2(folder, "cpuset.cpus", "0-1");
	check_v2(folder, "pids.max", "max");
	check_v2(folder, "io.weight", "default 10000");
	check_v2(folder, "io.max", "8:0 wbps=1048576");
	check_v2(folder, "hugetlb.2MB.max", "4096");
	check_v2(folder, "memory.high", "12345");
	unified.name = "no.such";
	CHECK(v2_apply(&l, dir, &res) == -ENOENT && strstr(e.message, "no.such"), "%s", e.message);
	limits_done(&l, false);
	close(dir);
	CHECK(remove_tree_at(AT_FDCWD, folder) == 0);
}

static uint64_t json_number(struct json_object *o, const char *a, const char *b, const char *c)
{
	json_object_object_get_ex(o, a, &o);
	if (b)
		json_object_object_get_ex(o, b, &o);
	json_object_object_get_ex(o, c, &o);
	return json_object_get_uint64(o);
}

static void test_stats(void)
{
	struct spec_resources res = {
		.has_pids_limit = true, .pids_limit = 50, .has_memory_limit = true, .memory_limit = 64 << 20};
	struct cgroup_stats s;
	struct cgroup cg;
	struct error e = {0};
	struct json_object *o;
	char *text = NULL;
	pid_t pid;

	if (!cgroup_init(&cg, NULL, "x", false, &e) && cg.mode == CGROUP_V2)
		memset(&res, 0, sizeof(res));
	if (!make(&cg, "stats", &res))
		return;
	pid = spawn(&cg);
	CHECK(cgroup_stats_read(&cg, &s, &e) == 0, "%s", e.message);
	if (cgroup_v1_dir(&cg, "pids"))
		CHECK(s.has_pids && s.pids_current == 1 && s.pids_limit == 50);
	if (cgroup_v1_dir(&cg, "memory"))
		CHECK(s.memory.present && s.memory.limit == 64 << 20 && s.memory.usage > 0 &&
			s.memory.max >= s.memory.usage && s.n_memory_stat > 10 && s.swap.limit == UINT64_MAX);
	if (cgroup_v1_dir(&cg, "cpuacct"))
		CHECK(s.has_cpu && s.cpu_total > 0 && s.n_cpus > 0 && s.percpu && s.percpu_user &&
			s.percpu_kernel);
	CHECK(cgroup_stats_json(&s, NULL, NULL, &text) == 0);
	o = json_tokener_parse(text);
	if (CHECK(o != NULL, "%s", text))
		CHECK(json_number(o, "cpu", "usage", "total") == s.cpu_total &&
				json_number(o, "memory", "usage", "limit") == s.memory.limit &&
				json_number(o, "pids", NULL, "current") == s.pids_current,
			"%s", text);
	json_object_put(o);
	free(text);
	cgroup_stats_done(&s);
	end(pid);
	unmake(&cg);
	CHECK(cgroup_stats_read(&cg, &s, &e) == -ENOENT, "%s", e.message);
	cgroup_stats_done(&s);
}

static void test_v2_stats(void)
{
	static const struct {
		const char *file, *text;
	} files[] = {
		{"cpu.stat", "usage_usec 10\nuser_usec 7\nsystem_usec 3\nnr_periods 5\nnr_throttled "
			     "2\nthrottled_usec 9\n"},
		{"memory.current", "1000\n"},
		{"memory.max", "max\n"},
		{"memory.peak", "3000\n"},
		{"memory.events", "low 0\nhigh 0\nmax 4\noom 0\n"},
		{"memory.stat", "anon 5\nfile 6\nkernel 7\n"},
		{"memory.swap.current", "24\n"},
		{"memory.swap.max", "100\n"},
		{"pids.current", "8\n"},
		{"pids.max", "max\n"},
		{"io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 "
			    "rbytes=18446744073709551615\n"},
		{"hugetlb.2MB.current", "4096\n"},
		{"hugetlb.2MB.rsvd.current", "0\n"},
		{"io.pressure", "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=0.00 "
				"avg300=0.00 total=6\n"},
	};
	char folder[] = "/tmp/cgroup-test-XXXXXX";
	struct cgroup_stats s = {0};
	struct error e = {0};
	char *text = NULL;
	int dir;

	if (!CHECK(mkdtemp(folder) != NULL))
		return;
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(stats_read_v2(dir, &s, &e) == 0 && !s.has_cpu && !s.memory.present && !s.has_pids, "%s",
		e.message);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		CHECK(write_file_atomic_at(dir, files[i].file, files[i].text, strlen(files[i].text), 0600) ==
			0);
	CHECK(stats_read_v2(dir, &s, &e) == 0, "%s", e.message);
	CHECK(s.cpu_total == 10000 && s.cpu_user == 7000 && s.cpu_kernel == 3000 && s.periods == 5 &&
		s.throttled_periods == 2 && s.throttled_time == 9000);
	CHECK(s.memory.usage == 1000 && s.memory.limit == UINT64_MAX && s.memory.max == 3000 &&
		s.memory.failcnt == 4 && s.cache == 6 && s.n_memory_stat == 3 && s.swap.usage == 1024 &&
		s.swap.limit == UINT64_MAX);
	CHECK(s.has_pids && s.pids_current == 8 && s.pids_limit == 0);
	CHECK(s.io_bytes.n == 4 && s.io_operations.n == 3 && s.io_bytes.entries[3].value == UINT64_MAX &&
		s.io_bytes.entries[3].minor == 16 && strcmp(s.io_operations.entries[1].op, "Write") == 0);
	CHECK(s.n_hugetlb == 1 && strcmp(s.hugetlb[0].page_size, "2MB") == 0 && s.hugetlb[0].usage == 4096);
	CHECK(s.io_pressure.present && s.io_pressure.some.avg10 == 1.5 && s.io_pressure.full.total == 6);
	CHECK(cgroup_stats_json(&s, NULL, "[]", &text) == 0 && strstr(text, "\"network_interfaces\":[]}") &&
			strstr(text, "{\"major\":8,\"minor\":0,\"op\":\"Read\",\"value\":1}"),
		"%s", text);
	{
		struct json_object *o = json_tokener_parse(text);

		CHECK(o && json_number(o, "blkio", "psi", "some") == 0 &&
			json_number(o, "cpu", "throttling", "throttledTime") == 9000);
		json_object_put(o);
	}
	free(text);
	cgroup_stats_done(&s);
	CHECK(write_file_atomic_at(dir, "pids.current", "x", 1, 0600) == 0);
	CHECK(stats_read_v2(dir, &s, &e) == -EBADMSG && strstr(e.message, "pids.current"), "%s", e.message);
	cgroup_stats_done(&s);
	close(dir);
	CHECK(remove_tree_at(AT_FDCWD, folder) == 0);
}

static void test_paths(void)
{
	static const struct spec_resources some = {.has_pids_limit = true, .pids_limit = 5};
	struct cgroup cg;
	struct error e = {0};

	CHECK(cgroup_init(&cg, "/a//b/", "x", false, &e) == 0 && strcmp(cg.path, "/a/b") == 0);
	CHECK(cgroup_init(&cg, "a/b", "x", false, &e) == 0 && strcmp(cg.path, "/a/b") == 0);
	CHECK(cgroup_init(&cg, NULL, "x", false, &e) == 0 && strcmp(cg.path, "/stasis-x") == 0);
	CHECK(cgroup_init(&cg, "/a", "x", true, &e) == 0 && cg.mode == CGROUP_NONE && cg.n_dirs == 0);
	CHECK(cgroup_create(&cg, &some, &e) == 0 && cgroup_attach(&cg, getpid(), false, &e) == 0 &&
		cgroup_delete(&cg, &e) == 0 && cgroup_v2_fd(&cg) == -EBADF);
	CHECK(cgroup_freeze(&cg, 10, &e) == -ENOTSUP && cgroup_is_frozen(&cg) == 0);
}

/* A path with parents, which the cpuset must be given too, and which go when the last container in them goes; attach as
 * for a process that already runs. */
static void test_nested_and_attach(void)
{
	struct cgroup cg, sibling;
	struct error e = {0};
	char path[64], parent[512];
	pid_t pid;

	snprintf(path, sizeof(path), "unit-nested-%d/x/y", (int)getpid());
	if (!CHECK(cgroup_init(&cg, path, "x", false, &e) == 0, "%s", e.message) ||
		!CHECK(cgroup_create(&cg, &no_limits, &e) == 0, "%s", e.message))
		return;
	snprintf(path, sizeof(path), "unit-nested-%d/x/z", (int)getpid());
	CHECK(cgroup_init(&sibling, path, "x", false, &e) == 0 &&
			cgroup_create(&sibling, &no_limits, &e) == 0,
		"%s", e.message);
	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	CHECK(cgroup_attach(&cg, pid, false, &e) == 0, "%s", e.message);
	CHECK(cgroup_signal(&cg, SIGKILL, &e) == 0, "%s", e.message);
	CHECK(waitpid(pid, NULL, 0) == pid);
	unmake(&cg);
	snprintf(parent, sizeof(parent), "%s", sibling.dirs[0].path);
	*strrchr(parent, '/') = 0;
	CHECK(access(parent, F_OK) == 0, "the parent of another one is gone");
	unmake(&sibling);
	for (size_t i = 0; i < cg.n_dirs; i++) {
		snprintf(parent, sizeof(parent), "%s", cg.dirs[i].path);
		*strrchr(parent, '/') = 0;
		CHECK(access(parent, F_OK) != 0, "%s is left", parent);
		*strrchr(parent, '/') = 0;
		CHECK(access(parent, F_OK) != 0, "%s is left", parent);
	}
}

/* Only the v2 tree in sight, as on a machine without v1. */
static void test_pure_v2(void)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct cgroup cg;
		struct error e = {0};
		pid_t pid;

		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
			mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, NULL) < 0)
			_exit(77);
		if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0)
			_exit(77);
		if (!make(&cg, "v2", &no_limits))
			_exit(1);
		CHECK(cg.mode == CGROUP_V2 && cg.n_dirs == 1, "mode %d, %zu dirs", cg.mode, cg.n_dirs);
		pid = spawn(&cg);
		CHECK(cgroup_freeze(&cg, 1000, &e) == 0 && cgroup_is_frozen(&cg) == 1, "%s", e.message);
		CHECK(cgroup_signal(&cg, SIGKILL, &e) == 0 && waitpid(pid, NULL, 0) == pid, "%s", e.message);
		unmake(&cg);
		fflush(stdout);
		_exit(tap_failed);
	}
	waitpid(child, &status, 0);
	CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77, "status %d", WEXITSTATUS(status));
}

/* Only v1 in sight: the v1 freezer and its signals. */
static void test_pure_v1(void)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct error e = {0};
		struct cgroup cg;

		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(77);
		umount2("/sys/fs/cgroup/unified", MNT_DETACH);
		if (cgroup_init(&cg, NULL, "x", false, &e) < 0 || cg.mode != CGROUP_V1)
			_exit(77);
		test_freezer();
		test_sub_cgroups();
		fflush(stdout);
		_exit(tap_failed);
	}
	waitpid(child, &status, 0);
	CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77, "status %d", WEXITSTATUS(status));
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"paths, and a disabled manager", test_paths},
		{"create, join, list, delete", test_lifecycle},
		{"a taken name, a stale record", test_taken},
		{"never the root of a hierarchy", test_never_root},
		{"freeze and thaw, signals to frozen tasks", test_freezer},
		{"sub-cgroups made by the container", test_sub_cgroups},
		{"nested path, attach", test_nested_and_attach},
		{"directories without a record", test_unrecorded},
		{"a task that left the v2 tree", test_escaped},
		{"an ordinary user", test_unprivileged},
		{"v1 limits, update, rollback", test_v1_limits},
		{"v2 limits", test_v2_limits},
		{"v1 devices", test_devices_v1},
		{"v2 devices by BPF", test_devices_v2},
		{"statistics", test_stats},
		{"v2 statistics", test_v2_stats},
		{"pure v2", test_pure_v2},
		{"pure v1", test_pure_v1},
	};
	struct cgroup cg;
	struct error e = {0};

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid() != 0 || cgroup_init(&cg, NULL, "probe", false, &e) < 0) {
		printf("1..0 # SKIP needs root and cgroups: %s\n", e.message);
		return 0;
	}
	return tap_main(tests, ARRAY_SIZE(tests));
}
