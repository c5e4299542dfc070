/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,lazy ignore=maps */
/*
 * Threads whose stacks end in guard regions, as those of glibc since 2.42, in a process with much memory. With "heap" another guard region
 * is in that memory; with "coroutine" a thread is on a stack of its own beside the one with the guard.
 */
#include "cr.h"

#include <pthread.h>

enum { THREADS = 3, STACK = 256 << 10, GUARD = 8192, BYTES = 24 << 20, GUARD_INSTALL = 102 };

static char *stacks, *memory, *other;
static volatile int tid; /* of the thread that sleeps elsewhere */

static void probe(char *address, int error, const char *what)
{
	int p[2];
	ssize_t n;

	must(pipe(p));
	n = write(p[1], address, 1);
	check(error ? n == -1 && errno == error : n == 1, "%s: %zd: %m", what, n);
	close(p[0]);
	close(p[1]);
}

static void sleep_in(char *stack)
{
	struct timespec t = {1000, 0};
	long result;

	/* nanosleep() with another stack pointer */
	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %1, %%rsp\n\tsyscall\n\tmov %%rbx, %%rsp"
			 : "=a"(result)
			 : "r"(stack), "a"(SYS_nanosleep), "D"(&t), "S"(0L)
			 : "rbx", "rcx", "r11", "memory");
}

static void *sleeper(void *arg)
{
	if (arg)
		tid = (int)syscall(SYS_gettid);
	while (other && arg)
		sleep_in(other + STACK - 64);
	for (;;)
		cr_msleep(1000000);
	return NULL;
}

static void await_sleep(void)
{
	char path[64], text[256], want[32];

	while (!tid)
		cr_msleep(1);
	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	snprintf(want, sizeof(want), " %p ", (void *)(other + STACK - 64));
	while (must(cr_read(path, text, sizeof(text))), !strstr(text, want))
		cr_msleep(1);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	stacks = must(mmap(NULL, THREADS * STACK, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0));
	memory = must(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	must(mprotect(memory + BYTES - 4096, 4096, PROT_READ)); /* so that the two are never one */
	cr_fill(memory, BYTES - 4096, 7);
	if (strcmp(how, "coroutine") == 0)
		other = must(mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (int i = 0; i < THREADS; i++) {
		pthread_attr_t attr;
		pthread_t t;

		if (madvise(stacks + i * STACK, GUARD, GUARD_INSTALL) < 0) {
			cr_say("result", 1, "", "SKIP: this kernel has no guard regions");
			return 0;
		}
		pthread_attr_init(&attr);
		check(!pthread_attr_setstack(&attr, stacks + i * STACK + GUARD, STACK - GUARD), "stack");
		check(!pthread_create(&t, &attr, sleeper, i ? NULL : stacks), "thread");
	}
	if (strcmp(how, "heap") == 0)
		must(madvise(memory + (1 << 20), 4096, GUARD_INSTALL));
	if (other)
		await_sleep();
	while (cr_wait()) {
		for (int i = 0; i < THREADS; i++) {
			probe(stacks + i * STACK, EFAULT, "the guard of a stack");
			probe(stacks + i * STACK + GUARD, 0, "the last page of a stack");
		}
		if (strcmp(how, "heap") == 0)
			probe(memory + (1 << 20), EFAULT, "the guard in the memory");
		else
			check(cr_differs(memory, BYTES - 4096, 7) < 0, "contents");
	}
	return 0;
}
