/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restartable sequences: the area that glibc registered for each thread is still registered (the kernel writes its
 * cpu_id), and a critical section that is being run all the time never tears: its counter has one increment a pass.
 */
#include "cr.h"

#include <linux/rseq.h>
#include <pthread.h>
#include <sys/rseq.h>

static volatile int round_, done[2], stop;
static volatile int64_t passes, counter;

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/* counter++ as a critical section: the commit is its last instruction. Returns false if it was cut off. */
static bool increment(struct rseq *r)
{
	int64_t v;

	__asm__ goto("	.pushsection __rseq_cs, \"aw\"\n"
		     "	.balign 32\n"
		     "3:	.long 0, 0\n"
		     "	.quad 1f, 2f - 1f, 4f\n"
		     "	.popsection\n"
		     "	leaq 3b(%%rip), %%rax\n"
		     "	movq %%rax, 8(%[r])\n"
		     "1:	movq %[c], %%rcx\n"
		     "	movl $400, %%edx\n"
		     "5:	decl %%edx\n"
		     "	jnz 5b\n"
		     "	incq %%rcx\n"
		     "	movq %%rcx, %[c]\n"
		     "2:	jmp 6f\n"
		     "	.pushsection __rseq_failure, \"ax\"\n"
		     "	.byte 0x0f, 0xb9, 0x3d\n"
		     "	.long 0x53053053\n"
		     "4:	jmp %l[cut]\n"
		     "	.popsection\n"
		     "6:\n"
		     : /* no outputs */
		     : [r] "r"(r), [c] "m"(counter)
		     : "rax", "rcx", "rdx", "memory", "cc"
		     : cut);
	(void)v;
	return true;
cut:
	return false;
}

static void check_area(const char *who)
{
	struct rseq *r = area();
	cpu_set_t all, one;
	unsigned cpu;

	must(sched_getaffinity(0, sizeof(all), &all));
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		must(sched_setaffinity(0, sizeof(one), &one));
		cpu = __atomic_load_n(&r->cpu_id, __ATOMIC_RELAXED);
		check(cpu == (unsigned)i, "%s: on CPU %d rseq says %d", who, i, (int)cpu);
	}
	must(sched_setaffinity(0, sizeof(all), &all));
	/* Registering it again fails with EBUSY only if it is registered with these very values. */
	check(syscall(SYS_rseq, r, __rseq_size < 32 ? 32 : __rseq_size, 0, RSEQ_SIG) == -1 && errno == EBUSY,
		"%s: the area is not registered: %m", who);
}

static void *spin(void *arg CR_UNUSED)
{
	int seen = 0;

	done[0] = 1;
	while (!stop) {
		while (!increment(area()))
			;
		passes++;
		check(counter == passes, "the counter is %ld after %ld passes", (long)counter, (long)passes);
		if (round_ != seen) {
			seen = round_;
			check_area("spinning thread");
			done[0] = seen + 1;
		}
	}
	return NULL;
}

int main(void)
{
	pthread_t thread;

	check(__rseq_size > 0, "glibc did not register rseq");
	check(pthread_create(&thread, NULL, spin, NULL) == 0, "pthread_create");
	while (!done[0])
		cr_msleep(1);
	for (int round = 1; cr_wait(); round++) {
		int64_t before = passes;

		check_area("main thread");
		round_ = round;
		while (done[0] != round + 1 || passes == before)
			cr_msleep(1);
	}
	stop = 1;
	pthread_join(thread, NULL);
	return 0;
}
