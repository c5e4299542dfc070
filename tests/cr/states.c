/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_NICE,SYS_RESOURCE */
/*
 * Small states of threads and processes: who writes what others wait for (PR_SET_IO_FLUSHER), reading the time stamp counter is a fault, memory failures, NUMA policies of threads
 * and of mappings, merging of memory, huge pages only where advised, and memory that never becomes executable.
 */
#include "cr.h"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <setjmp.h>
#include <x86intrin.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif

static __thread sigjmp_buf back;
static volatile int rounds, passed;
static char *bound, *plain;
static int has_mdwe, has_merge, thp, flusher;

static void on_fault(int sig)
{
	siglongjmp(back, 1);
}

static int tsc_is_a_fault(void)
{
	if (sigsetjmp(back, 1))
		return 1;
	(void)__rdtsc();
	return 0;
}

static int policy_of(void *at, unsigned long *nodes)
{
	unsigned long mask[16] = {};
	int mode = -1;

	must(syscall(SYS_get_mempolicy, &mode, mask, 1024, at, at ? MPOL_F_ADDR : 0));
	*nodes = mask[0];
	return mode;
}

/* A thread with states of its own. */
static void *other(void *arg)
{
	unsigned long nodes = 1;
	int seen = 0;

	must(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
	must(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	must(syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &nodes, 1024));
	flusher = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0; /* where CAP_SYS_RESOURCE is to be had */
	passed = -1;
	for (;;) {
		while (rounds == seen)
			usleep(1000); /* without the vdso's clock, which would fault */
		seen = rounds;
		check(tsc_is_a_fault(), "the time stamp counter can be read");
		check(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY, "memory failures: %d",
			prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
		check(policy_of(NULL, &nodes) == MPOL_INTERLEAVE && nodes == 1, "policy of the thread");
		check(!flusher || prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1,
			"the thread is no I/O flusher: %m");
		passed = seen;
	}
	return arg;
}

/* Each has registered for some of them. */
static void check_barriers(bool of_child)
{
	static const struct {
		int call, register_it;
		bool of_child;
	} all[] = {
		{1 << 3, 1 << 4, false}, /* MEMBARRIER_CMD_PRIVATE_EXPEDITED */
		{1 << 5, 1 << 6, true},	 /* _SYNC_CORE */
		{1 << 7, 1 << 8, false}, /* _RSEQ */
	};
	static bool done;
	int known = syscall(SYS_membarrier, 1 << 9 /* GET_REGISTRATIONS */, 0, 0),
	    want = of_child ? 1 << 2 : 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		bool ours = all[i].of_child == of_child;
		int r;

		if (!done && ours)
			must(syscall(SYS_membarrier, all[i].register_it, 0, 0));
		r = syscall(SYS_membarrier, all[i].call, 0, 0);
		check(ours ? r == 0 : r < 0 && errno == EPERM, "barrier %d: %d, %m", all[i].call, r);
		want |= ours ? all[i].register_it : 0;
	}
	if (!done && of_child)
		must(syscall(SYS_membarrier, 1 << 2 /* REGISTER_GLOBAL_EXPEDITED */, 0, 0));
	check(!done || known < 0 || (known & want) == want, "barriers: %#x, not %#x", known, want);
	done = true;
}

/* What it maps from now on cannot be both, nor become executable. */
static void child(void)
{
	char *p;

	has_mdwe = prctl(PR_SET_MDWE, 1, 0, 0, 0) == 0;
	has_merge = prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
	prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0); /* except where advised, 6.18 */
	thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	p = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	check_barriers(true);
	while (cr_wait()) {
		check_barriers(true);
		if (has_mdwe) {
			check(prctl(PR_GET_MDWE, 0, 0, 0, 0) == 1, "it is lost");
			check(mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0 && errno == EACCES,
				"memory became executable: %m");
		}
		check(prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == (has_merge ? 1 : -1), "merging");
		check(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == thp, "huge pages: %d, not %d",
			prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), thp);
	}
	_exit(0);
}

int main(void)
{
	unsigned long nodes = 1;
	pthread_t thread;

	signal(SIGSEGV, on_fault);
	bound = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	plain = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	must(syscall(SYS_mbind, bound, 4096, MPOL_BIND | MPOL_F_STATIC_NODES, &nodes, 1024, 0));
	must(syscall(SYS_mbind, plain, 8192, MPOL_PREFERRED, &nodes, 1024, 0));
	pthread_create(&thread, NULL, other, NULL);
	while (!passed)
		cr_msleep(1);
	if (cr_fork("child") == 0)
		child();
	check_barriers(false);
	while (cr_wait()) {
		check_barriers(false);
		check(!tsc_is_a_fault(), "the time stamp counter of the first thread");
		check(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_DEFAULT, "memory failures");
		check(!flusher || prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 0,
			"the first thread is an I/O flusher");
		check(policy_of(NULL, &nodes) == MPOL_DEFAULT && nodes == 0, "policy of the first thread");
		check(policy_of(bound, &nodes) == (MPOL_BIND | MPOL_F_STATIC_NODES) && nodes == 1,
			"policy of a mapping: %#x %#lx", policy_of(bound, &nodes), nodes);
		check(policy_of(bound + 4096, &nodes) == MPOL_DEFAULT, "policy of its neighbour");
		check(policy_of(plain, &nodes) == MPOL_PREFERRED && nodes == 1, "policy of a shared mapping");
		rounds = cr_n;
		while (passed != cr_n)
			cr_msleep(1);
	}
	return 0;
}
