/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What blocked threads wait in, and until when. A call that a stop interrupts and that the kernel continues by restart_syscall(2) (a
 * sleep, a poll, a futex with a time limit) no longer shows its own number at the next stop; its arguments are still in the
 * registers. Where the thread sleeps (its kernel stack) tells which call it was, as long as it does: so this is read just
 * before the freeze, of those threads that /proc/TID/syscall shows in restart_syscall.
 *
 * When a sleep ends is in the task's restart block, which nobody can read. So the stopped tasks are let into restart_syscall
 * again, for moments: of all sleeps of the machine (/proc/timer_list) a task's own is the one that is there when it is.
 */
#include "checkpoint/native/waits.h"

#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "checkpoint/native/dump.h"
#include "checkpoint/native/ia32.h"

#include "base/fault.h"
#include "base/fd.h"

enum { ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };
#define NS 1000000000ll

static const struct dump_wait *find_wait(const struct dump_wait *waits, size_t n, pid_t tid)
{
	for (size_t i = 0; i < n; i++)
		if (waits[i].tid == tid)
			return &waits[i];
	return NULL;
}

static bool is_native_wait(long nr)
{
	return nr == SYS_restart_syscall || nr == SYS_nanosleep || nr == SYS_clock_nanosleep ||
	       nr == SYS_poll || nr == SYS_futex;
}

static bool is_ia32_wait(long nr)
{
	return nr == IA32_restart_syscall || nr == IA32_nanosleep || nr == IA32_clock_nanosleep ||
	       nr == IA32_clock_nanosleep_time64 || nr == IA32_poll || nr == IA32_futex ||
	       nr == IA32_futex_time64;
}

/* By its stack pointer: its registers are not known yet. */
static bool may_be_ia32(const struct dump_wait *w)
{
	return w->args[6] <= UINT32_MAX;
}

/* "230 0x1 0x0 0x7ffc1e4843b0 0x0 0x0 0x4acae0 0x7ffc1e484398 0x457743": number, arguments, stack pointer. */
static bool parse_call(const char *text, struct dump_wait *ret)
{
	char *end;

	ret->nr = strtol(text, &end, 10);
	for (size_t i = 0; i < ARRAY_SIZE(ret->args); i++)
		ret->args[i] = strtoull(end, &end, 16);
	return is_native_wait(ret->nr) || (may_be_ia32(ret) && is_ia32_wait(ret->nr));
}

/* Below /proc/PID/task, where the entries of all threads are needed anyway: one of /proc/TID would be made for this alone.
 * "before": what is known of it from an earlier look. */
static int remember_wait(struct dump *d, pid_t pid, pid_t tid, const struct dump_wait *before)
{
	struct dump_wait *w = &d->waits[d->n_waits];
	char path[64], text[2048];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	*w = (struct dump_wait){.tid = tid, .stack = ""};
	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	if (before && !strncmp(text, "running", 7)) {
		/* It was let go a moment ago (pre-copy.c), and is on its way back to where it slept; or else the arguments tell. */
		*w = *before;
		w->was_earlier = true;
		d->n_waits++;
		return 0;
	}
	if (!parse_call(text, w))
		return 0;
	d->n_waits++;
	if (w->nr != SYS_restart_syscall && (w->nr != IA32_restart_syscall || !may_be_ia32(w)))
		return 0;
	if (before) {
		*w = *before;
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", pid, tid);
	n = read_small_file_at(AT_FDCWD, path, text, sizeof(text));
	if (n <= 0) {
		/* not for an ordinary user, who is told one name of it only */
		snprintf(path, sizeof(path), "/proc/%d/task/%d/wchan", pid, tid);
		n = read_small_file_at(AT_FDCWD, path, text, sizeof(text));
	}
	w->stack = arena_strndup(&d->arena, text, MAX(n, (ssize_t)0));
	return w->stack ? 0 : -ENOMEM;
}

static void count_ahead(struct dump *d, const pid_t *pids, size_t n_pids, size_t n_tids)
{
	size_t n;

	d->likely.pids = n_pids;
	d->likely.tids = n_tids;
	d->likely.fds = 0;
	for (size_t i = 0; i < n_pids; i++)
		if (proc_count_fds(pids[i], &n) == 0)
			d->likely.fds += n;
}

int dump_remember_waits(struct dump *d, struct error *e)
{
	_cleanup_free_ pid_t *pids = NULL, *tids = NULL;
	const struct dump_wait *before = d->waits;
	size_t n_pids, n_tids, n_before = d->n_waits;
	int r;

	r = container_pids(d->c, false, &pids, &n_pids, e);
	if (r == 0)
		r = container_pids(d->c, true, &tids, &n_tids, e);
	if (r == 0)
		r = dump_hire(d, MAX(n_pids, n_tids / DUMP_TASKS_AT_ONCE), 0, e);
	if (r < 0)
		return r;
	d->waits = arena_array(&d->arena, n_tids + 1, sizeof(*d->waits));
	d->n_waits = 0;
	if (!d->waits)
		return error_errno(e, -ENOMEM, "waiting threads");
	count_ahead(d, pids, n_pids, n_tids);
	for (size_t i = 0; i < n_pids; i++) {
		pid_t *of = &pids[i];
		size_t n = 1;

		if (n_tids != n_pids && proc_read_tids(pids[i], &d->arena, &of, &n) < 0)
			continue;
		for (size_t k = 0; k < n && d->n_waits < n_tids; k++)
			if (remember_wait(d, pids[i], of[k], find_wait(before, n_before, of[k])) < 0)
				return error_errno(e, -ENOMEM, "waiting threads");
	}
	return 0;
}

/*
 * A stop can come when the thread is about to go on with a call that an earlier one had interrupted: its registers are those of
 * restart_syscall(2) already, which no program calls by itself. They are put back to what they were in the call, so that it is
 * dealt with as any other.
 */
int dump_back_into_call(struct task *t, struct error *e)
{
	static const unsigned char native[] = {0x0f, 0x05}, ia32[] = {0xcd, 0x80}; /* syscall, int 0x80 */
	struct user_regs_struct *r = &t->regs;
	bool is_ia32 = ia32_runs(r);
	long restart = is_ia32 ? IA32_restart_syscall : SYS_restart_syscall;
	unsigned char code[sizeof(native)];

	if ((long)r->rax != restart || task_read_memory(t->tid, r->rip, code, sizeof(code)) < 0 ||
		memcmp(code, is_ia32 ? ia32 : native, sizeof(code)) != 0)
		return 0;
	if (is_ia32 ? !is_ia32_wait((long)r->orig_rax) : !is_native_wait((long)r->orig_rax))
		r->orig_rax = restart;
	r->rax = -ERESTART_RESTARTBLOCK;
	r->rip += sizeof(code);
	return task_set_gpr(t->tid, r, e);
}

/* Does it still wait where it was seen? */
static bool has_arguments(const struct dump_wait *w, const struct user_regs_struct *regs)
{
	const uint64_t now[] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9, regs->rsp};

	return memcmp(w->args, now, sizeof(now)) == 0;
}

/* The call that the thread was seen in before a stop, and still is in. */
static bool is_same_call(const struct dump_wait *w, const struct user_regs_struct *regs)
{
	return w && w->nr != SYS_restart_syscall && is_native_wait(w->nr) && has_arguments(w, regs);
}

/* The functions of a sleep are scheduler functions, which the stack leaves out; the arguments must fit. */
static bool looks_like_sleep(const struct user_regs_struct *regs)
{
	return regs->rdi < 4096 ? regs->rsi <= 1 && regs->rdx >= 4096 : regs->rsi == 0 || regs->rsi >= 4096;
}

static int unknown_call(const struct dump_thread *t, struct error *e)
{
	return error_set(e, -EAGAIN, ERROR_REFUSED,
		"cannot checkpoint: thread %d: it waits in a call that an earlier stop had "
		"interrupted, and which of them cannot be "
		"told from its kernel stack; try again",
		t->ns_tid);
}

/* Whether the time at that address is one of 32 bits: -1, if it could be either. One of 64 bits has zeros in the upper half of its
 * seconds. */
static int is_time32(const struct dump_thread *t, uint64_t address)
{
	uint32_t words[4] = {};

	if (task_read_memory(t->tid, address, words, sizeof(words)) < 0)
		return -1;
	return words[1] || words[2] >= NS || words[3] ? 1 : -1;
}

/* The calls that differ in their times alone are the same to who goes on with one, but for what is written back. */
static int ia32_interrupted_call(
	struct dump *d, const struct dump_thread *t, struct user_regs_struct *regs, struct error *e)
{
	const struct dump_wait *w = find_wait(d->waits, d->n_waits, t->tid);
	const uint64_t now[] = {regs->rbx, regs->rcx, regs->rdx, regs->rsi, regs->rdi, regs->rbp, regs->rsp};
	bool same = w && memcmp(w->args, now, sizeof(now)) == 0;
	int short_time;

	if (!w || (w->was_earlier && !same))
		return unknown_call(t, e);
	if (same && w->nr != IA32_restart_syscall) {
		regs->orig_rax = w->nr;
	} else if (strstr(w->stack, "poll")) {
		regs->orig_rax = IA32_poll;
	} else if (strstr(w->stack, "futex")) {
		regs->orig_rax = is_time32(t, (uint32_t)regs->rsi) > 0 ? IA32_futex : IA32_futex_time64;
	} else if (*w->stack && (uint32_t)regs->rbx >= 4096) {
		regs->orig_rax = IA32_nanosleep;
	} else if (*w->stack && (uint32_t)regs->rcx == 0) {
		short_time = is_time32(t, regs->rsi ? (uint32_t)regs->rsi : (uint32_t)regs->rdx);
		if (short_time < 0 && regs->rsi)
			return unknown_call(t, e);
		regs->orig_rax = short_time > 0 ? IA32_clock_nanosleep : IA32_clock_nanosleep_time64;
	} else {
		return unknown_call(t, e);
	}
	return 0;
}

int dump_interrupted_call(
	struct dump *d, const struct dump_thread *t, struct user_regs_struct *regs, struct error *e)
{
	const struct dump_wait *w;
	const char *stack;

	if (ia32_runs(regs) && regs->orig_rax == IA32_restart_syscall &&
		(long)regs->rax == -ERESTART_RESTARTBLOCK)
		return ia32_interrupted_call(d, t, regs, e);
	if (ia32_runs(regs) || (long)regs->orig_rax != SYS_restart_syscall ||
		(long)regs->rax != -ERESTART_RESTARTBLOCK)
		return 0;
	w = find_wait(d->waits, d->n_waits, t->tid);
	stack = w && (!w->was_earlier || has_arguments(w, regs)) ? w->stack : "";
	if (is_same_call(w, regs))
		regs->orig_rax = w->nr;
	else if (strstr(stack, "poll"))
		regs->orig_rax = SYS_poll;
	else if (strstr(stack, "futex"))
		regs->orig_rax = SYS_futex;
	else if (*stack && looks_like_sleep(regs))
		/* One takes a small number first, the other a pointer. */
		regs->orig_rax = regs->rdi < 4096 ? SYS_clock_nanosleep : SYS_nanosleep;
	else
		return unknown_call(t, e);
	return 0;
}

static bool is_sleep_clock(int clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
	       clock == CLOCK_TAI;
}

/* Calls of i386 have times of 32 bits, but those that end in _time64. */
static struct wait wait_of_ia32(const struct user_regs_struct *regs)
{
	struct wait w = {.nr = (long)regs->orig_rax,
		.args = {(uint32_t)regs->rbx, (uint32_t)regs->rcx, (uint32_t)regs->rdx, (uint32_t)regs->rsi,
			(uint32_t)regs->rdi, (uint32_t)regs->rbp},
		.ia32 = true};

	if ((long)regs->rax != -ERESTART_RESTARTBLOCK)
		return w;
	w.time32 = w.nr != IA32_clock_nanosleep_time64 && w.nr != IA32_futex_time64;
	switch (w.nr) {
	case IA32_nanosleep:
		w.kind = WAIT_TIMESPEC;
		w.remnant = w.args[1];
		break;
	case IA32_clock_nanosleep:
	case IA32_clock_nanosleep_time64:
		w.kind = w.args[1] == 0 && is_sleep_clock((int)w.args[0]) ? WAIT_TIMESPEC : WAIT_NONE;
		w.argument = 2;
		w.remnant = w.args[3];
		break;
	case IA32_futex:
	case IA32_futex_time64:
		w.kind = (w.args[1] & FUTEX_CMD_MASK) == FUTEX_WAIT ? WAIT_TIMESPEC : WAIT_NONE;
		w.argument = 3;
		break;
	case IA32_poll:
		w.kind = (int)w.args[2] >= 0 ? WAIT_MILLISECONDS : WAIT_NONE;
		w.argument = 2;
		break;
	}
	w.address = w.args[w.argument];
	if (w.kind == WAIT_TIMESPEC && w.address == 0)
		w.kind = WAIT_NONE;
	return w;
}

struct wait wait_of_registers(const struct user_regs_struct *regs)
{
	struct wait w = {.nr = (long)regs->orig_rax,
		.args = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9}};
	bool block = (long)regs->rax == -ERESTART_RESTARTBLOCK, again = (long)regs->rax == -ERESTARTNOHAND;

	if (ia32_runs(regs))
		return wait_of_ia32(regs);
	if (w.nr == SYS_nanosleep && block) {
		w.kind = WAIT_TIMESPEC;
		w.remnant = w.args[1];
	} else if (w.nr == SYS_clock_nanosleep && block && w.args[1] == 0) {
		w.kind = WAIT_TIMESPEC;
		w.argument = 2;
		w.remnant = w.args[3];
	} else if (w.nr == SYS_futex && block && (w.args[1] & FUTEX_CMD_MASK) == FUTEX_WAIT) {
		w.kind = WAIT_TIMESPEC;
		w.argument = 3;
	} else if (w.nr == SYS_poll && block) {
		w.kind = WAIT_MILLISECONDS;
		w.argument = 2;
	} else if (w.nr == SYS_ppoll && again) {
		w.kind = WAIT_LEFT;
		w.argument = 2;
	} else if (w.nr == SYS_pselect6 && again) {
		w.kind = WAIT_LEFT;
		w.argument = 4;
	} else if (w.nr == SYS_select && again) {
		w.kind = WAIT_LEFT_TIMEVAL;
		w.argument = 4;
	}
	w.address = w.args[w.argument];
	if (w.kind == WAIT_MILLISECONDS && (int)w.address < 0)
		w.kind = WAIT_NONE;
	/* Without a time, or on the clock of a CPU: there is nothing to go on with. */
	if ((w.kind != WAIT_MILLISECONDS && w.address == 0) ||
		(w.nr == SYS_clock_nanosleep && !is_sleep_clock((int)w.args[0])))
		w.kind = WAIT_NONE;
	return w;
}

static int64_t now_ns(int clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

/* From the caller's memory: what the kernel has written there at the freeze, or else all that was asked for. */
static int64_t read_time(const struct dump_thread *t, const struct wait *w)
{
	int64_t value[2] = {0, 0};
	int32_t short_value[2];
	int r;

	if (w->kind == WAIT_MILLISECONDS)
		return (int64_t)(int)w->address * 1000000;
	r = task_read_memory(t->tid, w->remnant ? w->remnant : w->address,
		w->time32 ? (void *)short_value : value, w->time32 ? sizeof(short_value) : sizeof(value));
	if (r >= 0 && w->time32) {
		value[0] = short_value[0];
		value[1] = short_value[1];
	}
	if (r < 0 || value[0] < 0 || value[0] > INT64_MAX / NS / 2 || value[1] < 0 || value[1] >= NS)
		return 0;
	return value[0] * NS + value[1] * (w->kind == WAIT_LEFT_TIMEVAL ? 1000 : 1);
}

struct sleeps {
	struct proc_sleep *of;
	size_t n;
	bool incomplete; /* somebody was not seen asleep */
};

static int read_sleeps(struct dump *d, struct sleeps *ret, struct error *e)
{
	int r = proc_read_timer_list(&d->arena, &ret->of, &ret->n);

	return r < 0 ? error_errno(e, r, "/proc/timer_list") : 0;
}

static bool has_sleep(const struct sleeps *s, const struct proc_sleep *one)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->of[i].clock == one->clock && s->of[i].ends_ns == one->ends_ns)
			return true;
	return false;
}

/* A thread whose sleep is looked for. */
struct sleeper {
	struct dump_proc *p;
	struct dump_thread *t;
	uint32_t rounds; /* bit n: it is let into its sleep in round n */
	struct proc_sleep found;
	unsigned n_found;
	bool over; /* the sleep came to its end by itself */
};

/* Until it sleeps, or has come to its end already. On a busy machine it may have to wait for a CPU. */
static bool await_sleep(const struct sleeper *s)
{
	enum { TRIES = 1000, SPIN = 20 };

	for (int tries = 0; tries < TRIES; tries++) {
		struct proc_stat stat;

		if (proc_read_task_stat(s->p->pid, s->t->tid, &stat) < 0)
			return false;
		if (stat.state != 'R' && stat.state != 'D')
			return true;
		if (tries >= SPIN)
			usleep(20);
	}
	return false;
}

/* The call has come to its end by itself. */
static int note_over(struct sleeper *s, const struct task_call *call, struct error *e)
{
	struct user_regs_struct *regs = (struct user_regs_struct *)s->t->msg->gpr.data,
				*own = &s->t->task.regs;

	s->over = true;
	own->rax = regs->rax = call->result;
	own->orig_rax = regs->orig_rax = -1;
	return task_set_gpr(s->t->tid, own, e);
}

/* The stopped tasks of this round go on with their sleeps, and are stopped again. *ret: all sleeps between. */
static int let_sleep(struct dump *d, struct sleeper *all, size_t n_all, unsigned round, struct sleeps *ret,
	struct error *e)
{
	struct task_call *calls = arena_array(&d->arena, n_all, sizeof(*calls));
	struct sleeper **who = arena_array(&d->arena, n_all, sizeof(struct sleeper *));
	struct dump_journal *j = d->journal;
	size_t n = 0;
	int r, ended;

	if (!calls || !who)
		return error_errno(e, -ENOMEM, "waiting threads");
	for (size_t i = 0; i < n_all; i++) {
		struct task *t = &all[i].t->task;

		if (!(all[i].rounds & 1u << round) || all[i].over)
			continue;
		who[n] = &all[i];
		j->asleep[n] = (struct dump_asleep){t->tid, t->sigmask};
		calls[n++] = (struct task_call){.task = t, .again = true};
	}
	j->n_asleep = n;
	r = task_sleep_begin(calls, n, e);
	for (size_t i = 0; i < n && r == 0; i++)
		ret->incomplete |= !await_sleep(who[i]);
	if (r == 0)
		r = fault_point("checkpoint-asleep", e);
	if (r == 0)
		r = read_sleeps(d, ret, e);
	ended = task_sleep_end(calls, n, r < 0 ? NULL : e);
	j->n_asleep = 0;
	if (r == 0)
		r = ended;
	if (r == 0)
		r = task_settle(calls, n, e);
	for (size_t i = 0; i < n && r == 0; i++)
		if (calls[i].result != -ERESTART_RESTARTBLOCK)
			r = note_over(who[i], &calls[i], e);
	return r;
}

enum { MAX_BITS = 24, MAX_ROUNDS = MAX_BITS + 4 };

/*
 * Each thread is known by the rounds in which it sleeps: its number, in binary, and its parity, so that a sleep which the
 * list misses once, as it moves, is not taken for another one's. A foreign sleep is there from its beginning to its end:
 * it is never missing in the second round alone.
 */
static unsigned plan_rounds(struct sleeper *s, size_t n)
{
	unsigned bits = 0;

	while (n > 1u << bits)
		bits++;
	for (size_t i = 0; i < n; i++) {
		s[i].rounds = 1u | (uint32_t)i << 2 | (uint32_t)(__builtin_popcountl(i) & 1) << (bits + 2) |
			      1u << (bits + 3);
		s[i].n_found = 0;
	}
	return bits + 4;
}

static void tell_apart(struct sleeper *s, size_t n, const struct sleeps *seen, unsigned rounds)
{
	for (size_t i = 0; i < seen[0].n; i++) {
		const struct proc_sleep *one = &seen[0].of[i];
		uint32_t in = 1;

		for (unsigned k = 1; k < rounds; k++)
			in |= (uint32_t)has_sleep(&seen[k], one) << k;
		for (size_t k = 0; k < n; k++) {
			if (s[k].rounds == in) {
				s[k].found = *one;
				s[k].n_found++;
			}
		}
	}
}

/* Not somebody else's, which ends later than what had been asked for. */
static void note_end(struct sleeper *s)
{
	int64_t end = (int64_t)s->found.ends_ns - now_ns(s->found.clock) + now_ns(CLOCK_MONOTONIC);

	if (end < s->t->wait_end)
		s->t->wait_end = end;
}

/* When the sleeps end, by CLOCK_MONOTONIC. Who cannot be told apart from others is tried again, and then keeps what it has. */
static int find_ends(struct dump *d, struct sleeper *s, size_t n, struct error *e)
{
	enum { MANY = 4096, TRIES = 4 };

	for (int tries = 0; tries < TRIES && n > 0 && n < 1u << MAX_BITS; tries++) {
		struct sleeps seen[MAX_ROUNDS] = {};
		unsigned rounds = plan_rounds(s, n);
		bool incomplete = false;
		size_t left = 0;

		for (unsigned k = 0; k < rounds && !incomplete; k++) {
			int r = let_sleep(d, s, n, k, &seen[k], e);

			if (r < 0 || seen[k].n > MANY)
				return r;
			incomplete = seen[k].incomplete;
		}
		if (!incomplete)
			tell_apart(s, n, seen, rounds);
		for (size_t i = 0; i < n; i++) {
			if (s[i].n_found == 1)
				note_end(&s[i]);
			else if (!s[i].over)
				s[left++] = s[i];
		}
		n = left;
	}
	return 0;
}

/* *ret: whether it has to be found out when its sleep ends. */
static void measure_wait(struct dump *d, struct dump_thread *t, bool *ret)
{
	/* A short sleep begins anew: it may last a little longer at any time, and to find its end would cost all tasks a
	 * millisecond. */
	enum { SHORT_NS = 100000000 };
	struct wait w = wait_of_registers((const struct user_regs_struct *)t->msg->gpr.data);
	bool known;
	int64_t time;

	*ret = false; /* and for an ordinary user, who may not see the list */
	if (w.kind == WAIT_NONE)
		return;
	time = read_time(t, &w);
	known = w.remnant || w.kind == WAIT_LEFT || w.kind == WAIT_LEFT_TIMEVAL;
	if (!known && time <= SHORT_NS)
		return;
	t->wait_end = d->frozen_at + time;
	if (known)
		return;
	*ret = !d->unprivileged;
}

static size_t count_threads(const struct dump *d)
{
	size_t n = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		n += d->procs[i].n_threads;
	return n;
}

int dump_measure_waits(struct dump *d, struct error *e)
{
	struct sleeper *s = arena_array(&d->arena, count_threads(d), sizeof(*s));
	size_t n = 0;

	if (!s)
		return error_errno(e, -ENOMEM, "waiting threads");
	for (size_t i = 0; i < d->n_procs; i++) {
		for (size_t k = 0; k < d->procs[i].n_threads && !d->procs[i].zombie; k++) {
			bool unknown;

			s[n].p = &d->procs[i];
			s[n].t = &d->procs[i].threads[k];
			measure_wait(d, s[n].t, &unknown);
			n += unknown && n < DUMP_SLEEPERS_MAX;
		}
	}
	return find_ends(d, s, n, e);
}
