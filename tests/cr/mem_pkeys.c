/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protection keys: which are allocated (with a gap), which mappings have them (also one that has been freed since), what each
 * thread may do with them, and memory that may only be executed, whose key is the kernel's.
 */
#include "cr.h"

#include <pthread.h>
#include <setjmp.h>

#define PAGE 4096UL

static __thread sigjmp_buf back;
static __thread siginfo_t last;
static char *locked, *closed, *orphan, *code;
static int read_only, no_access, freed;
static volatile int rounds, passed;

static void on_fault(int sig CR_UNUSED, siginfo_t *info, void *context CR_UNUSED)
{
	last = *info;
	siglongjmp(back, 1);
}

/* The signal comes with the rights of the beginning, and siglongjmp() leaves them. */
static unsigned rights(void)
{
	unsigned eax, edx;

	__asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

static void set_rights(unsigned to)
{
	__asm__ volatile(".byte 0x0f, 0x01, 0xef" ::"a"(to), "c"(0), "d"(0));
}

/* The key that forbids it; 0: it may. */
static int denied(char *at, int write)
{
	unsigned before = rights();

	if (sigsetjmp(back, 1)) {
		set_rights(before);
		check(last.si_code == SEGV_PKUERR, "a fault of another kind: %d", last.si_code);
		return last.si_pkey;
	}
	if (write)
		*(volatile char *)at = *(volatile char *)at;
	else
		(void)*(volatile char *)at;
	return 0;
}

/* It may write where the others may only read, and must not use at all what is open to them. */
static void *other(void *arg CR_UNUSED)
{
	unsigned mine;

	set_rights((rights() | 3u << 2 * no_access) & ~(3u << 2 * read_only));
	mine = rights();
	passed = -1;
	for (int seen = 0;;) {
		while (rounds == seen)
			cr_msleep(1);
		seen = rounds;
		check(rights() == mine, "the thread's rights were %#x, are %#x", mine, rights());
		check(!denied(locked, 1), "the thread may not write");
		check(denied(closed, 0) == no_access, "the thread may read");
		passed = seen;
	}
	return NULL;
}

static char *page(int prot, int key)
{
	char *p = must(mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + PAGE;

	must(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
	cr_fill(p, PAGE, key);
	must(pkey_mprotect(p, PAGE, prot, key));
	return p;
}

int main(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	unsigned mine;
	pthread_t thread;

	sigaction(SIGSEGV, &sa, NULL);
	freed = pkey_alloc(0, 0);
	if (freed < 0) {
		cr_say("unavailable", 1, "", "protection keys");
		pause();
	}
	code = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6); /* mov $42, %eax; ret */
	must(mprotect(code, PAGE, PROT_EXEC));
	read_only = must(pkey_alloc(0, 0));
	no_access = must(pkey_alloc(0, 0));
	locked = page(PROT_READ | PROT_WRITE, read_only);
	closed = page(PROT_READ, no_access);
	orphan = page(PROT_READ | PROT_WRITE, freed);
	must(pkey_free(freed));
	check(pthread_create(&thread, NULL, other, NULL) == 0, "pthread_create");
	while (!passed)
		cr_msleep(1);
	must(pkey_set(read_only, PKEY_DISABLE_WRITE));
	mine = rights();
	while (cr_wait()) {
		check(rights() == mine, "rights were %#x, are %#x", mine, rights());
		check(cr_differs(locked, PAGE, read_only) < 0, "what may be read only");
		check(denied(locked, 1) == read_only, "it may be written");
		check(cr_differs(closed, PAGE, no_access) < 0, "what another thread must not read");
		check(cr_differs(orphan, PAGE, freed) < 0, "what has a key that has been freed");
		must(pkey_set(freed, PKEY_DISABLE_ACCESS));
		check(denied(orphan, 0) == freed, "the freed key is not that of the page any more");
		set_rights(mine);
		check(((int (*)(void))code)() == 42, "what may be executed");
		check(denied(code, 0) > 0, "what may only be executed can be read");
		check(pkey_alloc(0, 0) == freed, "another key is free than before");
		must(pkey_free(freed));
		check(pkey_mprotect(code, PAGE, PROT_EXEC, 15) < 0 && errno == EINVAL, "a key too many");
		set_rights(mine);
		rounds = cr_n;
		while (passed != cr_n)
			cr_msleep(1);
	}
	return 0;
}
