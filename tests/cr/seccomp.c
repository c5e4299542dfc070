/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters stay in force: one of the process, a second and a third one on top in a child, one of a single thread. Of two that
 * answer with an error that of the newer one counts.
 */
/* cr: modes=once,cycles,running,again,userns,packed */
#include "cr.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>

/* The system call nr answers with the errno e from now on. */
static void forbid(int nr, int e)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | e),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static void expect(const char *who, int nr, int e)
{
	long r;

	errno = 0;
	r = syscall(nr, 0, 0, 0);
	check(e ? r == -1 && errno == e : errno < 60, "%s: call %d gives %ld, %m", who, nr, r);
}

static volatile int round_, done;

static void *filtered(void *arg CR_UNUSED)
{
	forbid(SYS_umask, 73);
	for (int seen = 0;;) {
		done = seen + 1;
		while (round_ == seen)
			cr_msleep(1);
		seen = round_;
		expect("thread", SYS_getpgid, 71);
		expect("thread", SYS_umask, 73);
	}
	return NULL;
}

int main(void)
{
	pthread_t thread;

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	forbid(SYS_getpgid, 71);
	if (cr_fork("two") == 0) {
		forbid(SYS_getpriority, 74);
		forbid(SYS_getpriority, 72);
		while (cr_wait()) {
			expect("child", SYS_getpgid, 71);
			expect("child", SYS_getpriority, 72);
			expect("child", SYS_umask, 0);
			check(prctl(PR_GET_SECCOMP) == 2, "mode");
		}
		return 0;
	}
	check(pthread_create(&thread, NULL, filtered, NULL) == 0, "pthread_create");
	while (!done)
		cr_msleep(1);
	for (int round = 1; cr_wait(); round++) {
		expect("parent", SYS_getpgid, 71);
		expect("parent", SYS_getpriority, 0);
		expect("parent", SYS_umask, 0);
		round_ = round;
		while (done != round + 1)
			cr_msleep(1);
	}
	return 0;
}
