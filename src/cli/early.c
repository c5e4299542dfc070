/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first instructions of the program, before libc's: the re-execution from a read-only mount (docs/adr/0013), so that
 * libc starts once and not twice. Its start asks the processor about its caches with dozens of CPUID instructions, each
 * of which is a trap to the hypervisor in a virtual machine: 0.4 ms on the development machine.
 *
 * Nothing of libc works here: no thread-local storage, no relocated functions, no stack protector. Whatever fails leaves
 * the matter to container_protect_runtime(), which looks again and can say why.
 */
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/util.h"

void early_protect(long *stack);
void stasis_start(void);

/* The kernel's entry: the stack pointer is all there is. %rdx is for _start, which follows. */
__asm__(".pushsection .text.stasis_start,\"ax\",@progbits\n"
	".globl stasis_start\n"
	".type stasis_start,@function\n"
	"stasis_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rdx, %rbx\n"
	"	mov %rsp, %rdi\n"
	"	call early_protect\n"
	"	mov %rbx, %rdx\n"
	"	jmp _start\n"
	".size stasis_start, .-stasis_start\n"
	".popsection\n");

static long raw(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static bool has_prefix(const char *s, const char *prefix)
{
	while (*prefix && *s == *prefix) {
		s++;
		prefix++;
	}
	return !*prefix;
}

/* Any word will do: a container that is called "run" costs its command an exec, no more. */
static bool enters_container(char **argv)
{
	for (; *argv; argv++)
		if (same(*argv, "create") || same(*argv, "run") || same(*argv, "exec") ||
			same(*argv, "restore") || same(*argv, "sandbox") || same(*argv, "checkpoint"))
			return true;
	return false;
}

static int read_only_self(void)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, .propagation = 1 << 18 /* MS_PRIVATE */};
	long fd = raw(
		SYS_open_tree, AT_FDCWD, (long)"/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, 0, 0);

	if (fd < 0)
		return fd;
	if (raw(SYS_mount_setattr, fd, (long)"", AT_EMPTY_PATH, (long)&attr, sizeof(attr)) < 0) {
		raw(SYS_close, fd, 0, 0, 0, 0);
		return -1;
	}
	return fd;
}

void early_protect(long *stack)
{
	char **argv = (char **)(stack + 1), **envp = argv + stack[0] + 1, **copy;
	struct statfs fs;
	size_t n = 0;
	int fd;

	if (!enters_container(argv) || raw(SYS_geteuid, 0, 0, 0, 0, 0) != 0)
		return;
	for (; envp[n]; n++)
		if (has_prefix(envp[n], "_STASIS_PROTECTED=")) /* it did not help the first time */
			return;
	if (n > 10000 || raw(SYS_statfs, (long)"/proc/self/exe", (long)&fs, 0, 0, 0) != 0 ||
		fs.f_flags & ST_RDONLY)
		return;
	fd = read_only_self();
	if (fd < 0)
		return;
	copy = __builtin_alloca((n + 2) * sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = envp[i];
	copy[n] = (char *)"_STASIS_PROTECTED=1";
	copy[n + 1] = NULL;
	raw(SYS_execveat, fd, (long)"", (long)argv, (long)copy, AT_EMPTY_PATH);
	raw(SYS_close, fd, 0, 0, 0, 0);
}
