/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/confine.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "linux/caps.h"
#include "linux/seccomp-load.h"

/* What the C library does between two lines of a parser: memory, random numbers for hash tables, a copy of the machine's name. A
 * stream comes as it comes, and others wait for it. */
static const int harmless[] = {
	SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_getrandom, SYS_uname, SYS_clock_gettime,
	SYS_rt_sigreturn, SYS_exit, SYS_exit_group,
#ifdef __SANITIZE_ADDRESS__
	SYS_sigaltstack, /* its runtime, before it leaves for good */
#endif
};
static const int of_streams[] = {SYS_read, SYS_pread64, SYS_write, SYS_pwrite64, SYS_ftruncate, SYS_fallocate,
	SYS_futex, SYS_restart_syscall};

#define LOAD(member)                                                                                         \
	(struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
/* Arguments are 64 bits wide: their lower halves, and in all that is compared here the upper ones are 0 or ignored. */
#define ARG(n) (offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))

struct filter {
	struct sock_filter code[96];
	unsigned short n;
};

static void put(struct filter *f, struct sock_filter i)
{
	if (f->n < ARRAY_SIZE(f->code))
		f->code[f->n++] = i;
}

static void answer(struct filter *f, uint32_t value)
{
	put(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, value));
}

static void jump(struct filter *f, unsigned short op, uint32_t k, uint8_t yes, uint8_t no)
{
	put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | op | BPF_K, k, yes, no));
}

static void allow(struct filter *f, int nr)
{
	jump(f, BPF_JEQ, nr, 0, 1);
	answer(f, SECCOMP_RET_ALLOW);
}

/* Memory that can never be executed. */
static void allow_not_executable(struct filter *f, int nr)
{
	jump(f, BPF_JEQ, nr, 0, 4);
	put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(2)));
	jump(f, BPF_JSET, PROT_EXEC, 0, 1);
	answer(f, SECCOMP_RET_KILL_PROCESS);
	answer(f, SECCOMP_RET_ALLOW);
}

/* And only of nobody's file. */
static void allow_anonymous(struct filter *f)
{
	jump(f, BPF_JEQ, SYS_mmap, 0, 6);
	put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(2)));
	jump(f, BPF_JSET, PROT_EXEC, 2, 0);
	put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(3)));
	jump(f, BPF_JSET, MAP_ANONYMOUS, 1, 0);
	answer(f, SECCOMP_RET_KILL_PROCESS);
	answer(f, SECCOMP_RET_ALLOW);
}

/* On descriptor 0. */
static void allow_on_channel(struct filter *f, int nr)
{
	jump(f, BPF_JEQ, nr, 0, 4);
	put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(0)));
	jump(f, BPF_JEQ, 0, 1, 0);
	answer(f, SECCOMP_RET_KILL_PROCESS);
	answer(f, SECCOMP_RET_ALLOW);
}

static void make_filter(struct filter *f, enum confine_for what)
{
	put(f, LOAD(arch));
	jump(f, BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0);
	answer(f, SECCOMP_RET_KILL_PROCESS);
	put(f, LOAD(nr));
	for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
		allow(f, harmless[i]);
	for (size_t i = 0; what == CONFINE_STREAM && i < ARRAY_SIZE(of_streams); i++)
		allow(f, of_streams[i]);
	if (what == CONFINE_PARSER) {
		allow_on_channel(f, SYS_read);
		allow_on_channel(f, SYS_write);
	}
	allow_not_executable(f, SYS_mprotect);
	allow_anonymous(f);
	answer(f, SECCOMP_RET_KILL_PROCESS);
}

struct sock_fprog confine_filter(enum confine_for what)
{
	static struct filter filters[2];
	struct filter *f = &filters[what];

	f->n = 0;
	make_filter(f, what);
	return (struct sock_fprog){f->n, f->code};
}

/* A write of a stream into memory is one of a file: its size stays free. */
static int limit(enum confine_for what, struct error *e)
{
	static const int none[] = {
		RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_CORE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_FSIZE};
	size_t n = ARRAY_SIZE(none) - (what == CONFINE_STREAM);
	struct rlimit zero = {0, 0};

	for (size_t i = 0; i < n; i++)
		if (setrlimit(none[i], &zero) < 0)
			return error_errno(e, -errno, "limit the process that reads the image");
	return 0;
}

int confine_self(enum confine_for what, struct error *e)
{
	struct sock_fprog program = confine_filter(what);
	struct caps nothing = {0};
	int r;

	/* In that order: what comes later could not be done, or would be undone. */
	r = limit(what, e);
	if (r < 0)
		return r;
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(e, -errno, "confine the process that reads the image");
	/* The ambient ones go with the permitted ones. */
	r = caps_set(&nothing);
	if (r == 0)
		r = seccomp_install(&program, 0);
	return r < 0 ? error_errno(e, r, "confine the process that reads the image") : 0;
}
