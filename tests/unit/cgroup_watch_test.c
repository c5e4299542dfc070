/* SPDX-License-Identifier: Apache-2.0 */
/* A child is given too little memory, and the OOM killer's visit is seen. Needs root and a memory controller. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "cgroup/cgroup-priv.h"
#include "cgroup/watch.h"
#include "tap.h"

static struct cgroup cg;
static enum { MEMORY_V1, MEMORY_V2, MEMORY_NONE } memory;

/* Touches 64 MiB in the cgroup, which has 8; returns the wait status. */
static int use_memory(void)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		char *p;

		if (cgroup_attach(&cg, getpid(), false, NULL) < 0)
			_exit(1);
		p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(p, 1, 64 << 20);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static bool ready(const struct cgroup_watch *w, int timeout_ms)
{
	struct pollfd p = {.fd = w->fd, .events = w->events};

	return poll(&p, 1, timeout_ms) == 1;
}

static void test_oom(void)
{
	struct spec_resources res = {.has_memory_limit = true,
		.memory_limit = 8 << 20,
		.has_memory_swap = true,
		.memory_swap = 8 << 20};
	struct cgroup_watch oom, low;
	struct error e = {0};
	int status;

	if (memory == MEMORY_NONE) {
		printf("# no memory controller here\n");
		return;
	}
	if (!CHECK(cgroup_create(&cg, &res, &e) == 0, "%s", e.message))
		return;
	if (CHECK(cgroup_watch_oom(&cg, &oom, &e) == 0, "%s", e.message) &&
		CHECK(cgroup_watch_pressure(&cg, CGROUP_PRESSURE_LOW, &low, &e) == 0, "%s", e.message)) {
		CHECK(!ready(&oom, 0) && cgroup_oom_kills(&oom) == 0);
		status = use_memory();
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
		CHECK(ready(&oom, 2000) && cgroup_oom_kills(&oom) == 1 && cgroup_oom_kills(&oom) == 0);
		CHECK(!ready(&oom, 0));
		/* Reclaim came before the killer. */
		CHECK(ready(&low, 2000));
		cgroup_watch_drain(&low);
		cgroup_watch_done(&oom);
		cgroup_watch_done(&low);
	}
	CHECK(cgroup_watch_oom(&cg, &oom, &e) == 0, "%s", e.message);
	CHECK(cgroup_delete(&cg, &e) == 0, "%s", e.message);
	CHECK(ready(&oom, 2000) && cgroup_oom_kills(&oom) == -ENODEV, "the end of the cgroup is not seen");
	cgroup_watch_done(&oom);
}

static void test_none(void)
{
	struct cgroup none = {0};
	struct cgroup_watch w;
	struct error e = {0};

	CHECK(cgroup_watch_oom(&none, &w, &e) == -ENOTSUP);
	CHECK(cgroup_watch_pressure(&none, CGROUP_PRESSURE_CRITICAL, &w, &e) == -ENOTSUP);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"OOM kill and pressure", test_oom},
		{"without a memory cgroup", test_none},
	};
	struct error e = {0};
	char id[40];

	snprintf(id, sizeof(id), "unit-watch-%d", (int)getpid());
	if (geteuid() != 0 || cgroup_init(&cg, NULL, id, false, &e) < 0) {
		printf("1..0 # SKIP needs root and cgroups: %s\n", e.message);
		return 0;
	}
	memory = cgroup_v1_dir(&cg, "memory") ? MEMORY_V1 : cg.mode == CGROUP_V2 ? MEMORY_V2 : MEMORY_NONE;
	return tap_main(tests, ARRAY_SIZE(tests));
}
