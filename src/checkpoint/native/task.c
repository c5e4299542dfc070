/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/task.h"
#include "checkpoint/native/batch.h"
#include "checkpoint/native/ia32.h"

#include <elf.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fault.h"
#include "linux/procfs.h"
#include "linux/seccomp-run.h"

enum { STOP_TIMEOUT_MS = 5000, FLAG_EXITING = 4 /* PF_EXITING of the kernel */ };

static long xptrace(int request, pid_t tid, void *addr, void *data)
{
	return syscall(SYS_ptrace, request, tid, addr, data) < 0 ? -errno : 0;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

int task_seize(struct task *t, pid_t tid, unsigned long options, struct error *e)
{
	int r;

	*t = (struct task){.tid = tid, .options = options | PTRACE_O_TRACESYSGOOD};
	r = xptrace(PTRACE_SEIZE, tid, NULL, (void *)t->options);
	if (r < 0) {
		struct proc_status st = {};
		struct arena a = {};
		int known = r == -EPERM ? proc_read_status(tid, tid, &a, &st) : 0;

		/* One that has ended may not be traced, either. */
		if (known == -ENOENT || known == -ESRCH || st.state == 'Z' || st.state == 'X')
			r = -ESRCH;
		if (r == -EPERM && st.tracer_pid > 0)
			error_set(e, r, ERROR_REFUSED,
				"pid %d is being traced by pid %d: end the debugger, then try again", tid,
				st.tracer_pid);
		else
			error_errno(e, r, "seize pid %d", tid);
		arena_done(&a);
		return r;
	}
	t->seized = true;
	return 0;
}

int task_interrupt(struct task *t, struct error *e)
{
	int r = xptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL);

	return r < 0 ? error_errno(e, r, "interrupt pid %d", t->tid) : 0;
}

static bool is_exiting(pid_t tid)
{
	struct proc_stat st;

	return proc_read_stat(tid, &st) < 0 || st.flags & FLAG_EXITING;
}

/* waitpid with a limit. First spinning: a stop takes microseconds. 1: gone. */
static int wait_to_end(struct task *t, bool to_end, int *ret_status, struct error *e)
{
	enum { SPINS = 2000, LOOK = 64 };
	uint64_t deadline = 0;

	for (unsigned i = 0;; i++) {
		pid_t p = waitpid(t->tid, ret_status, __WALL | WNOHANG);

		if (p == t->tid)
			return WIFEXITED(*ret_status) || WIFSIGNALED(*ret_status) ? 1 : 0;
		if (p < 0 && errno == ECHILD)
			return 1;
		if (p < 0 && errno != EINTR)
			return error_errno(e, -errno, "wait for pid %d", t->tid);
		if (i < SPINS) {
			sched_yield();
			continue;
		}
		/* The first process of a pid namespace ends when all others in it have been waited for: by us. */
		if (!to_end && i % LOOK == 0 && is_exiting(t->tid))
			return 1;
		if (!deadline)
			deadline = now_ms() + STOP_TIMEOUT_MS;
		else if (now_ms() > deadline)
			return error_set(e, -ETIMEDOUT, ERROR_REFUSED,
				"pid %d does not stop (it waits uninterruptibly in the kernel, see "
				"/proc/%d/wchan): try again later",
				t->tid, t->tid);
		usleep(50);
	}
}

/* For a stop: what is about to end makes none any more. */
static int wait_status(struct task *t, int *ret_status, struct error *e)
{
	return wait_to_end(t, false, ret_status, e);
}

int task_wait_stop(struct task *t, struct error *e)
{
	for (;;) {
		int status, r, event, sig;

		r = wait_status(t, &status, e);
		if (r != 0)
			return r;
		event = status >> 16;
		sig = WSTOPSIG(status);
		if (event == PTRACE_EVENT_STOP) {
			t->stopped = true;
			t->in_group_stop = sig != SIGTRAP;
			t->stop_signal = t->in_group_stop ? sig : 0;
			return 0;
		}
		/* A signal on its way: the task takes it (frame and all), then stops for us. */
		r = xptrace(PTRACE_CONT, t->tid, NULL,
			(void *)(long)(event || sig == (SIGTRAP | 0x80) ? 0 : sig));
		if (r < 0 && r != -ESRCH)
			return error_errno(e, r, "deliver signal %d to pid %d", sig, t->tid);
	}
}

/* Those that a program may be sent for what it does itself. */
static const uint64_t faults = 1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1) | 1ull << (SIGILL - 1) |
			       1ull << (SIGFPE - 1) | 1ull << (SIGTRAP - 1) | 1ull << (SIGSYS - 1);

bool task_has_fault(const struct proc_status *status)
{
	return status->sig_pnd & ~status->sig_blk & faults;
}

int task_take_fault(struct task *t, struct error *e)
{
	int status, r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);

	if (r < 0)
		return error_errno(e, r, "continue pid %d", t->tid);
	r = wait_status(t, &status, e);
	if (r != 0 || status >> 16)
		return r;
	/* Asked for now it stops before the first instruction of the handler. */
	r = task_interrupt(t, e);
	if (r == 0)
		r = xptrace(PTRACE_CONT, t->tid, NULL, (void *)(long)WSTOPSIG(status));
	return r < 0 ? error_errno(e, r, "continue pid %d", t->tid) : task_wait_stop(t, e);
}

int task_read_registers(struct task *t, struct arena *a, struct error *e)
{
	static _Thread_local char buf[16384];
	struct iovec iov = {buf, sizeof(buf)};
	int r;

	/* All 64-bit ones, also of a task that runs 32-bit code. */
	r = xptrace(PTRACE_GETREGS, t->tid, NULL, &t->regs);
	if (r < 0)
		return error_errno(e, r, "registers of pid %d", t->tid);
	r = xptrace(PTRACE_GETREGSET, t->tid, (void *)NT_X86_XSTATE, &iov);
	if (r < 0)
		return error_errno(e, r, "extended registers of pid %d", t->tid);
	t->xstate_len = iov.iov_len;
	t->xstate = arena_memdup(a, buf, iov.iov_len);
	if (!t->xstate)
		return error_errno(e, -ENOMEM, "registers of pid %d", t->tid);
	r = xptrace(PTRACE_GETSIGMASK, t->tid, (void *)sizeof(t->sigmask), &t->sigmask);
	return r < 0 ? error_errno(e, r, "signal mask of pid %d", t->tid) : 0;
}

int task_set_gpr(pid_t tid, const struct user_regs_struct *regs, struct error *e)
{
	int r = xptrace(PTRACE_SETREGS, tid, NULL, (void *)regs);

	return r < 0 ? error_errno(e, r, "set registers of pid %d", tid) : 0;
}

int task_set_xstate(pid_t tid, const void *xstate, size_t len, struct error *e)
{
	struct iovec iov = {(void *)xstate, len};
	int r = xptrace(PTRACE_SETREGSET, tid, (void *)NT_X86_XSTATE, &iov);

	return r < 0 ? error_errno(e, r, "set extended registers of pid %d", tid) : 0;
}

int task_set_sigmask(pid_t tid, uint64_t mask, struct error *e)
{
	int r = xptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof(mask), &mask);

	return r < 0 ? error_errno(e, r, "set signal mask of pid %d", tid) : 0;
}

static int go_to_syscall_stop(struct task *t, struct error *e)
{
	int r = xptrace(PTRACE_SYSCALL, t->tid, NULL, NULL);

	return r < 0 ? error_errno(e, r, "continue pid %d", t->tid) : 0;
}

/* If all signals are blocked: such a one is of the instruction itself, which would do it again for ever. */
static bool is_fault(int status)
{
	int sig = WSTOPSIG(status);

	return WIFSTOPPED(status) && status >> 16 == 0 && (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL);
}

/* If we die it runs on with this mask for a moment, and is killed by what it does not let through then. */
uint64_t task_sleep_mask(uint64_t own)
{
	const uint64_t never = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1);

	return (~faults & ~never) | own;
}

/* A signal that somebody sends: it waits again, once it is blocked as well. */
static int put_back(struct task *t, int sig, struct error *e)
{
	int r = task_set_sigmask(t->tid, ~0ull, e);

	if (r == 0)
		r = xptrace(PTRACE_SYSCALL, t->tid, NULL, (void *)(long)sig);
	return r < 0 ? error_errno(e, r, "continue pid %d", t->tid) : 0;
}

/* Other stops (a thaw, a stop signal) are passed over. "sleeps": not all signals are blocked. */
static int wait_syscall_stop(struct task *t, bool sleeps, struct error *e)
{
	for (;;) {
		int status, r, sig;

		r = wait_status(t, &status, e);
		if (r != 0)
			return r < 0 ? r : error_set(e, -ESRCH, ERROR_STATE, "pid %d died", t->tid);
		sig = status >> 16 ? 0 : WSTOPSIG(status);
		if (sig == (SIGTRAP | 0x80))
			return 0;
		if (is_fault(status) && !sleeps)
			return error_set(e, -EFAULT, ERROR_SYSTEM, "pid %d cannot be made to call: signal %d",
				t->tid, sig);
		r = sig && faults & 1ull << (sig - 1) ? put_back(t, sig, e) : go_to_syscall_stop(t, e);
		if (r < 0)
			return r;
	}
}

/* Tests kill us here. FAULT_CALL: only in the call of that number. */
static void call_fault(const struct task_call *c, const char *name)
{
	const char *only = c->faulty ? getenv("FAULT_CALL") : NULL;
	struct error ignored;

	if (c->faulty && (!only || strtol(only, NULL, 10) == c->nr))
		(void)!fault_point(name, &ignored);
}

static int take_note(struct task *t, const struct task_note *what, struct error *e)
{
	if (!t->note && t->notes->n == TASK_NOTES_MAX)
		return error_set(e, -E2BIG, ERROR_REFUSED, "more than %d threads", TASK_NOTES_MAX);
	if (!t->note)
		t->note = &t->notes->of[t->notes->n++];
	*t->note = *what;
	t->note->tid = t->tid;
	t->note->regs = t->regs;
	t->note->sigmask = t->sigmask;
	t->note->active = true;
	return 0;
}

/* To where the kernel asks us before it makes the waiting call. The mask changes while the task is in the loop, where also a signal
 * handler would find back to. */
static int begin_parked(struct task_call *c, struct error *e)
{
	struct task *t = c->task;
	struct task_note note = {.nr = c->nr, .insn = c->insn, .park = t->park};
	struct user_regs_struct regs;
	int r;

	c->faulty = getenv("FAULT");
	memcpy(note.args, c->args, sizeof(note.args));
	r = take_note(t, &note, e);
	if (r < 0)
		return r;
	park_in_loop(&t->park, &t->regs, &regs);
	r = task_set_gpr(t->tid, &regs, e);
	if (r < 0)
		return r;
	call_fault(c, "call-parked");
	r = task_set_sigmask(t->tid, ~0ull, e);
	if (r < 0)
		return r;
	call_fault(c, "call-masked");
	park_in_call(&t->park, &t->regs, c->insn, &regs);
	r = task_set_gpr(t->tid, &regs, e);
	if (r < 0)
		return r;
	call_fault(c, "call-waiting");
	return go_to_syscall_stop(t, e);
}

/* It becomes our call. */
static int enter_parked(struct task_call *c, struct error *e)
{
	struct task *t = c->task;
	struct user_regs_struct regs;
	int r;

	call_fault(c, "call-stopped");
	park_after_call(&t->park, &t->regs, c->nr, c->args, &regs);
	r = task_set_gpr(t->tid, &regs, e);
	if (r < 0)
		return r;
	call_fault(c, "call-entered");
	return go_to_syscall_stop(t, e);
}

static int end_parked(struct task_call *c, struct error *e)
{
	struct task *t = c->task;
	int r;

	call_fault(c, "call-made");
	t->note->result = c->result;
	t->note->done = true;
	r = task_set_sigmask(t->tid, t->sigmask, e);
	if (r < 0)
		return r;
	call_fault(c, "call-unmasked");
	r = task_set_gpr(t->tid, &t->regs, e);
	if (r < 0)
		return r;
	call_fault(c, "call-over");
	t->note->active = false;
	return 0;
}

static bool is_parked(const struct task_call *c)
{
	return c->task->notes && c->task->park.loop && !c->again && !c->ia32;
}

static int call_begin(struct task_call *c, struct error *e)
{
	struct task *t = c->task;
	struct user_regs_struct regs = t->regs;
	int r;

	if (c->again) {
		r = task_set_sigmask(t->tid, task_sleep_mask(t->sigmask), e);
		return r == 0 ? go_to_syscall_stop(t, e) : r;
	}
	if (!seccomp_lets_through(t->filters, t->n_filters, c->nr, c->args))
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the seccomp filter of pid %d does not let it make the system call %ld, which only a "
			"privileged user can suspend: allow it in linux.seccomp",
			t->tid, c->nr);
	if (is_parked(c))
		return begin_parked(c, e);
	regs.cs = c->ia32 ? IA32_CS : IA32_CODE_64;
	regs.rip = c->insn;
	regs.rax = c->nr;
	regs.orig_rax = -1; /* no restart of the interrupted call */
	regs.rdi = c->args[0];
	regs.rsi = c->args[1];
	regs.rdx = c->args[2];
	regs.r10 = c->args[3];
	regs.r8 = c->args[4];
	regs.r9 = c->args[5];
	if (c->ia32) {
		regs.rbx = c->args[0];
		regs.rcx = c->args[1];
		regs.rdx = c->args[2];
		regs.rsi = c->args[3];
		regs.rdi = c->args[4];
		regs.rbp = c->args[5];
	}
	r = task_set_sigmask(t->tid, ~0ull, e);
	if (r == 0)
		r = task_set_gpr(t->tid, &regs, e);
	return r == 0 ? go_to_syscall_stop(t, e) : r;
}

static int call_enter(struct task_call *c, struct error *e)
{
	int r = wait_syscall_stop(c->task, c->again, e);

	if (r == 0 && is_parked(c))
		return enter_parked(c, e);
	return r == 0 ? go_to_syscall_stop(c->task, e) : r;
}

static int call_end(struct task_call *c, struct error *e)
{
	struct task *t = c->task;
	struct user_regs_struct after;
	int r;

	r = wait_syscall_stop(t, c->again, e);
	if (r < 0)
		return r;
	r = xptrace(PTRACE_GETREGS, t->tid, NULL, &after);
	if (r < 0)
		return error_errno(e, r, "registers of pid %d", t->tid);
	c->result = after.rax;
	if (is_parked(c))
		return end_parked(c, e);
	r = task_set_gpr(t->tid, &t->regs, e);
	return r < 0 ? r : task_set_sigmask(t->tid, t->sigmask, e);
}

typedef int call_step(struct task_call *c, struct error *e);

/* It never came to its end, or to its beginning. One that does not stop, or is gone, cannot be helped. */
static void call_put_back(struct task_call *c)
{
	struct task *t = c->task;
	struct error ignored;
	int r = task_set_sigmask(t->tid, t->sigmask, &ignored);

	if (r == 0)
		r = task_set_gpr(t->tid, &t->regs, &ignored);
	if (t->note)
		t->note->active = r < 0;
}

/* Each step for all before the next one; what fails is left out from there on. */
static int do_steps(
	struct task_call *calls, size_t n, call_step *const *steps, size_t n_steps, struct error *e)
{
	int first = 0;

	for (size_t k = 0; k < n_steps; k++) {
		for (size_t i = 0; i < n; i++) {
			int r = calls[i].failed ? 0 : steps[k](&calls[i], first < 0 ? NULL : e);

			if (r < 0) {
				calls[i].failed = true;
				call_put_back(&calls[i]);
			}
			first = first < 0 ? first : r;
		}
	}
	return first;
}

int task_calls(struct task_call *calls, size_t n, struct error *e)
{
	static call_step *const steps[] = {call_begin, call_enter, call_end};

	return do_steps(calls, n, steps, ARRAY_SIZE(steps), e);
}

int task_sleep_begin(struct task_call *calls, size_t n, struct error *e)
{
	static call_step *const steps[] = {call_begin, call_enter};

	return do_steps(calls, n, steps, ARRAY_SIZE(steps), e);
}

int task_sleep_prepare(struct task_call *calls, size_t n, struct error *e)
{
	static call_step *const steps[] = {call_begin};

	return do_steps(calls, n, steps, ARRAY_SIZE(steps), e);
}

int task_sleep_enter(struct task_call *call, struct error *e)
{
	static call_step *const steps[] = {call_enter};

	return do_steps(call, 1, steps, ARRAY_SIZE(steps), e);
}

static int sleep_interrupt(struct task_call *c, struct error *e)
{
	return task_interrupt(c->task, e);
}

int task_sleep_end(struct task_call *calls, size_t n, struct error *e)
{
	static call_step *const steps[] = {sleep_interrupt, call_end};

	return do_steps(calls, n, steps, ARRAY_SIZE(steps), e);
}

void task_notes_drop(struct task_notes *notes)
{
	for (unsigned i = 0; i < notes->n; i++)
		if (notes->of[i].active)
			return;
	notes->n = 0;
}

int task_syscall(
	struct task *t, uint64_t syscall_insn, long nr, const uint64_t args[6], int64_t *ret, struct error *e)
{
	struct task_call c = {.task = t, .insn = syscall_insn, .nr = nr};
	int r;

	memcpy(c.args, args, sizeof(c.args));
	r = task_calls(&c, 1, e);
	*ret = c.result;
	return r;
}

/* An interrupted call that the kernel would make again. */
static bool wants_restart(const struct user_regs_struct *regs)
{
	enum { ERESTARTSYS = 512, ERESTART_RESTARTBLOCK = 516 };
	long result = -(long)regs->rax;

	return (long)regs->orig_rax >= 0 && result >= ERESTARTSYS && result <= ERESTART_RESTARTBLOCK;
}

static int settle_begin(struct task_call *c, struct error *e)
{
	struct task *t = c->task;
	int r;

	if (!wants_restart(&t->regs))
		return 0;
	r = task_interrupt(t, e);
	if (r < 0)
		return r;
	r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
	return r < 0 ? error_errno(e, r, "continue pid %d", t->tid) : 0;
}

/* It stops before it takes a signal: the kernel looks for a stop that is asked for first (get_signal()). So no handler begins here, and
 * its registers stay those that we know. */
static int settle_end(struct task_call *c, struct error *e)
{
	struct task *t = c->task;

	while (wants_restart(&t->regs)) {
		int status, r;

		r = wait_status(t, &status, e);
		if (r != 0)
			return r < 0 ? r : error_set(e, -ESRCH, ERROR_STATE, "pid %d died", t->tid);
		if (status >> 16 == PTRACE_EVENT_STOP)
			return 0;
		r = xptrace(PTRACE_CONT, t->tid, NULL, (void *)(long)(status >> 16 ? 0 : WSTOPSIG(status)));
		if (r < 0)
			return error_errno(e, r, "continue pid %d", t->tid);
	}
	return 0;
}

int task_settle(struct task_call *calls, size_t n, struct error *e)
{
	static call_step *const steps[] = {settle_begin, settle_end};

	return do_steps(calls, n, steps, ARRAY_SIZE(steps), e);
}

int task_drop_signal(struct task *t, int sig, struct error *e)
{
	int status = 0, r = task_set_sigmask(t->tid, ~(1ull << (sig - 1)), e);

	/* A stop of before comes first. */
	do {
		if (r == 0)
			r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
		if (r < 0)
			return error_errno(e, r, "continue pid %d", t->tid);
		r = wait_status(t, &status, e);
		if (r != 0)
			return r < 0 ? r : error_set(e, -ESRCH, ERROR_STATE, "pid %d died", t->tid);
	} while (status >> 16 == PTRACE_EVENT_STOP);
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != sig || status >> 16)
		return error_set(e, -EIO, ERROR_SYSTEM, "pid %d stops with status %#x, not for signal %d",
			t->tid, status, sig);
	return task_set_sigmask(t->tid, t->sigmask, e);
}

int task_choose_end_signal(uint64_t caught, uint64_t pending)
{
	static const int candidates[] = {SIGURG, SIGWINCH, SIGCHLD};

	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++)
		if (!((caught | pending) & (1ull << (candidates[i] - 1))))
			return candidates[i];
	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++)
		if (!(pending & (1ull << (candidates[i] - 1))))
			return candidates[i];
	return 0;
}

bool task_batch_waits(const struct task *t)
{
	enum { ERESTART_RESTARTBLOCK = 516 };

	return t->notes && (long)t->regs.orig_rax >= 0 && (long)t->regs.rax == -ERESTART_RESTARTBLOCK;
}

int task_batch_start(struct task *t, uint64_t loop, uint64_t ops, size_t n_ops, uint64_t control,
	uint64_t frame, struct error *e)
{
	struct user_regs_struct regs = t->regs;
	struct error ignored;
	int r = 0;

	/* Without, a sleep of so many threads is cut short if we die just here. */
	if (task_batch_waits(t) && (t->note || t->notes->n < TASK_NOTES_MAX - TASK_NOTES_CALLS))
		r = take_note(t,
			&(struct task_note){.nr = -1,
				.insn = loop + (batch_loop_syscall - batch_loop_start),
				.park.mark = ops + (n_ops - 1) * sizeof(struct op)},
			e);
	if (r < 0)
		return r;
	regs.cs = IA32_CODE_64;
	regs.rip = loop;
	regs.rdi = ops;
	regs.rsi = n_ops;
	regs.rdx = control;
	regs.rcx = frame;
	regs.orig_rax = -1;
	regs.eflags &= ~0x500ul; /* no single step, no reversed strings */
	/* In this order: the loop finds back with any mask. */
	r = task_set_gpr(t->tid, &regs, e);
	(void)!fault_point("call-batch-placed", &ignored);
	if (r == 0)
		r = task_set_sigmask(t->tid, ~(1ull << (t->end_signal - 1)), e);
	if (r < 0)
		return r;
	r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
	return r < 0 ? error_errno(e, r, "continue pid %d", t->tid) : 0;
}

/* Its last call was made: in this order, as above. */
static int end_batch(struct task *t, struct error *e)
{
	struct error ignored;
	int r = task_set_sigmask(t->tid, t->sigmask, e);

	(void)!fault_point("call-batch-unmasked", &ignored);
	if (r == 0)
		r = task_set_gpr(t->tid, &t->regs, e);
	if (t->note)
		t->note->active = r < 0;
	return r;
}

int task_batch_wait(struct task *t, struct error *e)
{
	for (;;) {
		int status, r;

		r = wait_status(t, &status, e);
		if (r != 0)
			return r < 0 ? r : error_set(e, -ESRCH, ERROR_STATE, "pid %d died", t->tid);
		if (status >> 16 == 0 && WSTOPSIG(status) == t->end_signal)
			break;
		r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
		if (r < 0)
			return error_errno(e, r, "continue pid %d", t->tid);
	}
	return end_batch(t, e);
}

static int set_options(struct task *t, unsigned long options, struct error *e)
{
	int r = xptrace(PTRACE_SETOPTIONS, t->tid, NULL, (void *)options);

	return r < 0 ? error_errno(e, r, "options of pid %d", t->tid) : 0;
}

int task_trace_children(struct task *t, bool on, struct error *e)
{
	return set_options(t, on ? t->options | PTRACE_O_TRACECLONE : t->options, e);
}

int task_batch_child(struct task *t, struct task *ret_child, struct error *e)
{
	unsigned long pid = 0;
	int status, r;

	for (;;) {
		r = wait_status(t, &status, e);
		if (r != 0)
			return r < 0 ? r : error_set(e, -ESRCH, ERROR_STATE, "pid %d died", t->tid);
		if (status >> 16 == PTRACE_EVENT_CLONE) {
			r = xptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &pid);
			*ret_child = (struct task){.tid = pid, .seized = true, .options = t->options};
		} else if (status >> 16 == 0 && WSTOPSIG(status) == t->end_signal) {
			r = end_batch(t, e);
			return r < 0 ? r : 1;
		}
		if (r == 0)
			r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
		if (r < 0)
			return error_errno(e, r, "continue pid %d", t->tid);
		if (pid)
			return 0;
	}
}

int task_child_to_exit(struct task *t, int *ret_status, struct error *e)
{
	unsigned long code = 0;
	int status, r = task_wait_stop(t, e);

	if (r == 0)
		r = set_options(t, t->options | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXIT, e);
	while (r == 0) {
		r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
		if (r < 0)
			return error_errno(e, r, "continue pid %d", t->tid);
		r = wait_to_end(t, true, &status, e);
		if (r == 0 && status >> 16 == PTRACE_EVENT_EXIT) {
			r = xptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &code);
			*ret_status = code;
			return r < 0 ? error_errno(e, r, "status of pid %d", t->tid) : 0;
		}
		/* An instruction that faults would do so for ever. */
		if (r == 0 && status >> 16 == 0 && WSTOPSIG(status) != (SIGTRAP | 0x80))
			kill(t->tid, SIGKILL);
	}
	return r;
}

int task_child_end(struct task *t, struct error *e)
{
	int status, r = 0;

	kill(t->tid, SIGKILL);
	while (r == 0) {
		r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
		if (r < 0 && r != -ESRCH)
			return error_errno(e, r, "continue pid %d", t->tid);
		r = wait_to_end(t, true, &status, e);
	}
	return MIN(r, 0);
}

int task_exit(struct task *t, struct error *e)
{
	int status, r = xptrace(PTRACE_SETOPTIONS, t->tid, NULL, (void *)(t->options | PTRACE_O_TRACEEXIT));

	if (r == 0)
		r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
	while (r == 0) {
		if (wait_status(t, &status, e) != 0)
			return error_set(e, -ESRCH, ERROR_STATE, "thread %d died", t->tid);
		if (status >> 16 == PTRACE_EVENT_EXIT)
			return 0;
		r = xptrace(PTRACE_CONT, t->tid, NULL, NULL);
	}
	return error_errno(e, r, "let thread %d end", t->tid);
}

int task_detach(struct task *t, struct error *e)
{
	int r;

	if (!t->seized)
		return 0;
	t->seized = false;
	r = xptrace(PTRACE_DETACH, t->tid, NULL, NULL);
	return r < 0 && r != -ESRCH ? error_errno(e, r, "detach from pid %d", t->tid) : 0;
}

int task_read_memory(pid_t pid, uint64_t address, void *buf, size_t len)
{
	struct iovec local = {buf, len}, remote = {(void *)address, len};
	ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	return n < 0 ? -errno : (size_t)n == len ? 0 : -EFAULT;
}

int task_write_memory(pid_t pid, uint64_t address, const void *buf, size_t len)
{
	struct iovec local = {(void *)buf, len}, remote = {(void *)address, len};
	ssize_t n = process_vm_writev(pid, &local, 1, &remote, 1, 0);

	return n < 0 ? -errno : (size_t)n == len ? 0 : -EFAULT;
}
