/* SPDX-License-Identifier: Apache-2.0 */
/* Private anonymous memory: contents, protections page by page, holes, a big sparse area, and copy-on-write after fork. */
#include "cr.h"

#define PAGE 4096UL

static char *area(size_t size, int prot, int flags)
{
	return must(mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0));
}

/* Whether a page can be read (by write(2) from it) or written (by read(2) into it). */
static bool readable(const void *p)
{
	int fd = must(open("/dev/null", O_WRONLY | O_CLOEXEC)), pipes[2];
	bool r;

	must(pipe2(pipes, O_CLOEXEC));
	r = write(pipes[1], p, 1) == 1;
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
	return r;
}

static bool writable(void *p)
{
	int fd = must(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	bool r = read(fd, p, 1) == 1;

	close(fd);
	return r;
}

int main(void)
{
	size_t sparse_size = 4UL << 30, n = 64;
	char *full = area(n * PAGE, PROT_READ | PROT_WRITE, 0);
	char *mixed = area(6 * PAGE, PROT_READ | PROT_WRITE, 0);
	char *none = area(4 * PAGE, PROT_READ | PROT_WRITE, 0);
	char *sparse = area(sparse_size, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	char *zeros = area(16 * PAGE, PROT_READ | PROT_WRITE, 0);
	char *hole = area(5 * PAGE, PROT_READ | PROT_WRITE, 0);
	char *code = area(PAGE, PROT_READ | PROT_WRITE, 0);
	char *shared_cow = area(8 * PAGE, PROT_READ | PROT_WRITE, 0);
	char *readonly = area(3 * PAGE, PROT_READ | PROT_WRITE, 0);
	bool child;

	cr_fill(full, n * PAGE, 1);
	cr_fill(mixed, 6 * PAGE, 2);
	must(mprotect(mixed + PAGE, PAGE, PROT_READ));
	must(mprotect(mixed + 3 * PAGE, PAGE, PROT_NONE));
	must(mprotect(mixed + 4 * PAGE, PAGE, PROT_READ | PROT_EXEC));
	cr_fill(none, 4 * PAGE, 3);
	must(mprotect(none, 4 * PAGE, PROT_NONE)); /* unreadable, but what is there stays there */
	for (size_t at = 0; at < sparse_size; at += 256UL << 20)
		*(uint64_t *)(sparse + at + 8) = cr_mix(at);
	memset(zeros, 0, 8 * PAGE); /* touched, and zero */
	cr_fill(hole, 5 * PAGE, 4);
	must(munmap(hole + 2 * PAGE, PAGE));
	memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6); /* mov eax, 42; ret */
	must(mprotect(code, PAGE, PROT_READ | PROT_EXEC));
	cr_fill(readonly, 3 * PAGE, 6);
	must(mprotect(readonly, 3 * PAGE, PROT_READ));
	cr_fill(shared_cow, 8 * PAGE, 5);
	child = cr_fork("child") == 0;
	if (child) /* its own from now on */
		cr_fill(shared_cow, 2 * PAGE, 50);
	else
		cr_fill(shared_cow + 6 * PAGE, 2 * PAGE, 51);

	for (uint64_t round = 1; cr_wait(); round++) {
		check(cr_differs(full, n * PAGE, 1) < 0, "full differs at %zd",
			cr_differs(full, n * PAGE, 1));
		check(!writable(mixed + PAGE) && readable(mixed + PAGE), "page 1 should be read-only");
		check(!readable(mixed + 3 * PAGE), "page 3 should be PROT_NONE");
		check(!writable(mixed + 4 * PAGE) && readable(mixed + 4 * PAGE), "page 4 should be r-x");
		must(mprotect(mixed + 3 * PAGE, PAGE, PROT_READ));
		check(cr_differs(mixed, 6 * PAGE, 2) < 0, "mixed differs at %zd",
			cr_differs(mixed, 6 * PAGE, 2));
		must(mprotect(mixed + 3 * PAGE, PAGE, PROT_NONE));
		check(!readable(none), "PROT_NONE is readable");
		must(mprotect(none, 4 * PAGE, PROT_READ));
		check(cr_differs(none, 4 * PAGE, 3) < 0, "what was under PROT_NONE differs");
		must(mprotect(none, 4 * PAGE, PROT_NONE));
		for (size_t at = 0; at < sparse_size; at += 256UL << 20) {
			check(*(uint64_t *)(sparse + at + 8) == cr_mix(at), "sparse differs at %zx", at);
			check(*(uint64_t *)(sparse + at + 16 * PAGE) == 0, "a hole of sparse is not zero");
		}
		for (size_t i = 0; i < 16 * PAGE; i++)
			check(zeros[i] == 0, "zeros are not zero at %zu", i);
		check(cr_differs(hole, 2 * PAGE, 4) < 0, "below the hole");
		check(cr_differs(hole + 3 * PAGE, 2 * PAGE, 4 + 3 * PAGE / 8) < 0, "above the hole");
		check(!readable(hole + 2 * PAGE), "the hole is filled");
		check(((int (*)(void))code)() == 42, "code in anonymous memory");
		check(cr_differs(readonly, 3 * PAGE, 6) < 0 && !writable(readonly), "read-only memory");
		check(cr_differs(shared_cow, 2 * PAGE, child ? 50 : 5) < 0,
			"copy-on-write: pages the child wrote");
		check(cr_differs(shared_cow + 2 * PAGE, 4 * PAGE, 5 + 2 * PAGE / 8) < 0,
			"copy-on-write: common pages");
		check(cr_differs(shared_cow + 6 * PAGE, 2 * PAGE, child ? 5 + 6 * PAGE / 8 : 51) < 0,
			"copy-on-write: pages the parent wrote");
		/* After MADV_DONTNEED memory is zero: it must not be a private mapping of the image. */
		must(madvise(full + (n - round) * PAGE, PAGE, MADV_DONTNEED));
		for (size_t i = 0; i < PAGE; i++)
			check(full[(n - round) * PAGE + i] == 0, "not zero after MADV_DONTNEED");
		cr_fill(full, n * PAGE, 1);
	}
	return 0;
}
