/* SPDX-License-Identifier: Apache-2.0 */
/* cr: pause=3 */
/*
 * Clocks: the vdso works on; CLOCK_MONOTONIC and _BOOTTIME never go back and do not jump by the time the container was
 * an image; vdso and system call agree.
 */
#include "cr.h"

#include <sys/auxv.h>
#include <sys/time.h>

static int64_t by_call(clockid_t clock)
{
	struct timespec t;

	must(syscall(SYS_clock_gettime, clock, &t));
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void agree(clockid_t clock, const char *name)
{
	int64_t a = cr_now_ns(clock), b = by_call(clock), c = cr_now_ns(clock);

	check(a <= b && b <= c, "%s: vdso %ld, system call %ld, vdso %ld", name, (long)a, (long)b, (long)c);
}

/* Real time minus the other clock, in ms: by how much that one stood still. */
static int64_t apart(clockid_t clock)
{
	return (by_call(CLOCK_REALTIME) - by_call(clock)) / 1000000;
}

int main(void)
{
	void *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
	int64_t mono, boot, real, was_apart;
	struct timeval tv;

	check(vdso && !memcmp(vdso, "\177ELF", 4), "no vdso");
	for (;;) {
		int64_t raw;

		mono = cr_now_ns(CLOCK_MONOTONIC);
		boot = cr_now_ns(CLOCK_BOOTTIME);
		raw = cr_now_ns(CLOCK_MONOTONIC_RAW);
		real = cr_now_ns(CLOCK_REALTIME);
		was_apart = apart(CLOCK_MONOTONIC);
		if (!cr_wait())
			break;
		agree(CLOCK_MONOTONIC, "monotonic");
		agree(CLOCK_BOOTTIME, "boottime");
		agree(CLOCK_REALTIME, "realtime");
		agree(CLOCK_MONOTONIC_RAW, "monotonic raw");
		check(cr_now_ns(CLOCK_MONOTONIC) >= mono, "CLOCK_MONOTONIC went back by %ld us",
			(long)(mono - cr_now_ns(CLOCK_MONOTONIC)) / 1000);
		check(cr_now_ns(CLOCK_BOOTTIME) >= boot, "CLOCK_BOOTTIME went back");
		check(cr_now_ns(CLOCK_MONOTONIC_RAW) >= raw, "CLOCK_MONOTONIC_RAW went back");
		check(cr_now_ns(CLOCK_REALTIME) >= real, "CLOCK_REALTIME went back");
		/* In the image it stands still, so it may fall behind real time; it never gets ahead. */
		check(apart(CLOCK_MONOTONIC) - was_apart > -50, "CLOCK_MONOTONIC jumped ahead by %ld ms",
			(long)(was_apart - apart(CLOCK_MONOTONIC)));
		check(cr_now_ns(CLOCK_MONOTONIC) - mono < 2800 * 1000000LL,
			"CLOCK_MONOTONIC jumped by %ld ms",
			(long)(cr_now_ns(CLOCK_MONOTONIC) - mono) / 1000000);
		must(gettimeofday(&tv, NULL));
		check(llabs(tv.tv_sec - by_call(CLOCK_REALTIME) / 1000000000) <= 1, "gettimeofday");
		check(time(NULL) - tv.tv_sec <= 1, "time");
		check(sched_getcpu() >= 0, "getcpu");
		check((void *)getauxval(AT_SYSINFO_EHDR) == vdso && !memcmp(vdso, "\177ELF", 4),
			"the vdso moved");
	}
	return 0;
}
