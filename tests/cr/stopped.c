/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children stopped by SIGSTOP stay so, go on at SIGCONT, and wait tells of it: a stop that was collected is not told
 * again, one that was not is; WCONTINUED works. Also of a parent that is stopped itself.
 */
#include "cr.h"

static char state_of(pid_t pid)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	must(cr_read(path, text, sizeof(text)));
	return strrchr(text, ')')[2];
}

static pid_t counter(volatile uint64_t **count)
{
	pid_t pid;

	*count = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pid = must(fork());
	if (pid == 0)
		for (;; (**count)++)
			cr_msleep(1);
	while (**count == 0)
		cr_msleep(1);
	return pid;
}

static void stop(pid_t pid)
{
	must(kill(pid, SIGSTOP));
	while (state_of(pid) != 'T')
		cr_msleep(1);
}

static bool changed(pid_t pid, int what, int code)
{
	siginfo_t info = {0};

	must(waitid(P_PID, pid, &info, what | WNOHANG));
	check(info.si_pid == 0 || info.si_code == code, "code %d", info.si_code);
	return info.si_pid == pid;
}

struct family {
	pid_t child;
	int go, answer; /* what the parent is asked to do; what it found: 1 good, 2 bad */
};

static volatile sig_atomic_t sigchlds;

static void count_sigchld(int sig CR_UNUSED)
{
	sigchlds++;
}

/* A process that has stopped its child and knows it; stopped in its turn. */
static pid_t stopped_parent(volatile struct family **ret)
{
	volatile struct family *f =
		must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	volatile uint64_t *count;
	pid_t pid = must(fork());

	*ret = f;
	if (pid == 0) {
		pid_t child = counter(&count);

		signal(SIGCHLD, count_sigchld);
		stop(child);
		while (sigchlds == 0)
			cr_msleep(1);
		check(changed(child, WSTOPPED, CLD_STOPPED), "the stop of the grandchild");
		f->child = child;
		for (int seen = 0;; cr_msleep(1)) {
			if (f->go == seen)
				continue;
			seen = f->go;
			f->answer = changed(child, WSTOPPED, CLD_STOPPED) || state_of(child) != 'T' ||
						    sigchlds != 1
					    ? 2
					    : 1;
		}
	}
	while (!f->child)
		cr_msleep(1);
	stop(pid);
	check(changed(pid, WSTOPPED, CLD_STOPPED), "the stop of the parent");
	return pid;
}

static void check_family(pid_t pid, volatile struct family *f)
{
	check(state_of(pid) == 'T' && state_of(f->child) == 'T', "parent or child runs");
	check(!changed(pid, WSTOPPED, CLD_STOPPED), "the parent's stop is told again");
	f->answer = 0;
	f->go++;
	must(kill(pid, SIGCONT));
	while (!f->answer)
		cr_msleep(1);
	check(f->answer == 1, "a stopped parent learns of its child's stop again");
	check(changed(pid, WCONTINUED, CLD_CONTINUED), "WCONTINUED of the parent");
	stop(pid);
	check(changed(pid, WSTOPPED, CLD_STOPPED), "the parent's stop after the restore");
}

int main(void)
{
	volatile struct family *f;
	pid_t parent = stopped_parent(&f);
	volatile uint64_t *told_count, *untold_count, before;
	pid_t told = counter(&told_count), untold = counter(&untold_count);

	stop(told);
	check(changed(told, WSTOPPED, CLD_STOPPED), "the stop before the checkpoint");
	for (;;) {
		stop(untold);
		if (!cr_wait())
			break;
		check_family(parent, f);
		check(state_of(told) == 'T', "the stopped child is in state %c", state_of(told));
		before = *told_count;
		cr_msleep(20);
		check(*told_count == before, "the stopped child runs");
		check(!changed(told, WSTOPPED, CLD_STOPPED),
			"a stop that was collected before is told again");
		check(changed(untold, WSTOPPED, CLD_STOPPED), "a stop that was not collected is forgotten");
		check(!changed(untold, WSTOPPED, CLD_STOPPED), "the stop is told twice");
		must(kill(told, SIGCONT));
		must(kill(untold, SIGCONT));
		while (*told_count == before)
			cr_msleep(1);
		check(changed(told, WCONTINUED, CLD_CONTINUED), "WCONTINUED");
		check(changed(untold, WCONTINUED, CLD_CONTINUED), "WCONTINUED of the other");
		stop(told);
		check(changed(told, WSTOPPED, CLD_STOPPED), "a stop after the restore");
		before = *untold_count;
		while (*untold_count == before)
			cr_msleep(1);
	}
	must(kill(f->child, SIGKILL));
	must(kill(parent, SIGKILL));
	must(waitpid(parent, NULL, 0));
	must(kill(told, SIGKILL)); /* also while it is stopped */
	must(waitpid(told, NULL, 0));
	return 0;
}
