/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes and threads of a container as /proc shows them. Works on running tasks (preflight: a task that ends
 * meanwhile is simply not there) and on stopped ones (then everything must be readable).
 */
#include "checkpoint/native/dump.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "base/fd.h"
#include "base/trace.h"

#include "checkpoint/native/filters.h"
#include "checkpoint/native/ia32.h"
#include "checkpoint/native/cpu.h"
#include "checkpoint/native/sched-attr.h"
#include "checkpoint/native/states.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/shared-pids.h"
#include "checkpoint/native/ttys.h"

St__TimeSpec *pb_timespec(struct arena *a, int64_t sec, int64_t nsec)
{
	St__TimeSpec *t = pb_new(a, TimeSpec, time_spec);

	if (t) {
		t->sec = sec;
		t->nsec = nsec;
	}
	return t;
}

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "collect the container's state");
}

int dump_hire(struct dump *d, size_t n_procs, size_t n_fds, struct error *e)
{
	enum { WORTHWHILE = 8, OTHER_FDS = 1024 };
	unsigned helpers = n_procs < WORTHWHILE ? 0 : CREW_HELPERS;
	int fd;

	/* A table of descriptors that threads share grows only after an RCU grace period: 10 ms each time that it doubles. */
	if (helpers > 0 && d->fd_room < n_fds + OTHER_FDS) {
		crew_free(d->crew);
		d->crew = NULL;
		d->fd_room = n_fds + OTHER_FDS;
		fd = fcntl(d->root_fd, F_DUPFD_CLOEXEC, (int)d->fd_room);
		close_p(&fd); /* above the limit it is slow, no more */
	}
	if (!d->crew)
		return crew_new(helpers, &d->crew, e);
	crew_hire(d->crew, helpers);
	return 0;
}

/* One process may have memory enough for several readers. */
static int hire_for_memory(struct dump *d, struct error *e)
{
	enum { WORTHWHILE_KIB = 32 << 10 };
	uint64_t kib = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		kib += d->procs[i].status.vm_rss_kib;
	return d->writer && kib >= WORTHWHILE_KIB ? dump_hire(d, kib, 0, e) : 0;
}

static bool has_parent(const struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == p->stat.ppid)
			return true;
	return false;
}

/* Of those from sorted[done] on. Returns how many there are now. */
static size_t add_descendants(struct dump *d, struct dump_proc *sorted, bool *used, size_t done, size_t n)
{
	for (; done < n; done++) {
		for (size_t i = 0; i < d->n_procs; i++) {
			if (!used[i] && d->procs[i].stat.ppid == sorted[done].pid) {
				sorted[n++] = d->procs[i];
				used[i] = true;
			}
		}
	}
	return n;
}

/* Those whose parent is outside, with their descendants. */
static size_t add_roots(struct dump *d, struct dump_proc *sorted, bool *used, bool adopted, size_t n)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		const struct dump_proc *p = &d->procs[i];

		if (used[i] || has_parent(d, p) || shared_pids_is_adopted(d, p) != adopted)
			continue;
		used[i] = true;
		sorted[n++] = *p;
		n = add_descendants(d, sorted, used, n - 1, n);
	}
	return n;
}

/* Parents before children, init first: a stable selection by depth below init. Init's own parent is
 * outside, and that of a process that exec brought in, which comes behind init's own. */
static int order(struct dump *d, struct error *e)
{
	struct dump_proc *sorted = arena_array(&d->arena, d->n_procs, sizeof(*sorted));
	bool *used = arena_array(&d->arena, d->n_procs, sizeof(*used));
	size_t n = 0;

	if (!sorted || !used)
		return no_memory(e);
	for (size_t i = 0; i < d->n_procs; i++) {
		if (d->procs[i].pid == d->c->init_pid) {
			sorted[n++] = d->procs[i];
			used[i] = true;
		}
	}
	if (n == 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container \"%s\" has no init process", d->c->id);
	n = add_descendants(d, sorted, used, 0, n);
	for (int adopted = 0; adopted < 2; adopted++)
		n = add_roots(d, sorted, used, adopted, n);
	for (size_t i = 0; i < d->n_procs; i++) /* a parent that is its own descendant: none of them */
		if (!used[i])
			sorted[n++] = d->procs[i];
	d->procs = sorted;
	dump_find_exec_sessions(d);
	return 0;
}

/* Zombies are in no cgroup list any more: they are found as children of the living. */
static int add_zombies(struct dump *d, size_t max, struct error *e)
{
	size_t living = d->n_procs;

	for (size_t i = 0; i < living; i++) {
		for (size_t k = 0; k < d->procs[i].n_children; k++) {
			pid_t pid = d->procs[i].children[k];
			bool known = false;
			int r;

			for (size_t n = 0; n < d->n_procs && !known; n++)
				known = d->procs[n].pid == pid;
			if (known || d->n_procs == max)
				continue;
			r = dump_look_first(d, pid, &d->procs[d->n_procs], &d->arena, e);
			if (r < 0)
				return r;
			if (r == 0 && d->procs[d->n_procs].zombie)
				d->n_procs++;
			else
				close_p(&d->procs[d->n_procs].pidfd);
		}
	}
	return 0;
}

struct finding {
	struct dump *d;
	const pid_t *pids;
};

static int find_process(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct finding *f = arg;

	return dump_look_first(f->d, f->pids[item], &f->d->procs[item], dump_arena(f->d, worker), e);
}

struct some_threads {
	struct dump_proc *p;
	size_t from, to;
};

struct thread_finding {
	struct dump *d;
	struct some_threads *items;
};

static int look_at_threads(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct thread_finding *f = arg;
	struct some_threads *s = &f->items[item];

	return dump_look_threads(s->p, s->from, s->to, dump_arena(f->d, worker), e);
}

/* Those that the first look has left. */
static int find_threads(struct dump *d, struct error *e)
{
	struct thread_finding f = {d};
	size_t max = 0, n = 0;
	int r;

	for (size_t i = 0; i < d->n_procs; i++)
		if (dump_has_many_threads(&d->procs[i]))
			max += 1 + d->procs[i].n_threads / DUMP_TASKS_AT_ONCE;
	if (max == 0)
		return 0;
	f.items = arena_array(&d->arena, max, sizeof(*f.items));
	if (!f.items)
		return no_memory(e);
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		for (size_t k = 0; dump_has_many_threads(p) && k < p->n_threads; k += DUMP_TASKS_AT_ONCE)
			f.items[n++] = (struct some_threads){p, k, MIN(k + DUMP_TASKS_AT_ONCE, p->n_threads)};
	}
	r = crew_start(d->crew, look_at_threads, &f, n, e);
	if (r == 0)
		r = crew_finish(d->crew, e);
	for (size_t i = 0; i < d->n_procs && r >= 0; i++)
		if (dump_has_many_threads(&d->procs[i]))
			r = dump_gather_threads(&d->procs[i], &d->arena, e);
	return MIN(r, 0);
}

static int find_living(struct dump *d, const pid_t *pids, size_t n, struct error *e)
{
	struct finding f = {d, pids};
	int r = crew_start(d->crew, find_process, &f, n, e);

	d->n_procs = 0;
	for (size_t i = 0; i < n && r >= 0; i++) {
		r = crew_need(d->crew, i, e);
		if (r == 0)
			d->procs[d->n_procs++] = d->procs[i];
	}
	crew_drop(d->crew);
	return MIN(r, 0);
}

static pid_t ns_id(const struct dump *d, pid_t host, const int *ids, size_t n)
{
	return n > 0 ? ids[MIN(d->pid_level, n - 1)] : host;
}

/* Their ids as the container sees them, who may have pid namespaces below its own. */
static void name_tasks(struct dump *d)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == d->c->init_pid)
			d->pid_level = d->procs[i].status.n_ns - 1;
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		p->ns_pid = ns_id(d, p->pid, p->status.ns_pid, p->status.n_ns);
		if (p->ended_leader)
			p->ended_leader->ns_tid = p->ns_pid;
		for (size_t k = 0; k < p->n_threads; k++)
			p->threads[k].ns_tid = ns_id(
				d, p->threads[k].tid, p->threads[k].status.ns_pid, p->threads[k].status.n_ns);
	}
}

int dump_find_processes(struct dump *d, struct error *e)
{
	TRACE("find processes");
	enum { MAX_ZOMBIES = 1024 };
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r;

	shared_pids_find_role(d);
	r = container_pids(d->c, false, &pids, &n, e);
	if (r == 0)
		r = dump_hire(d, n, 0, e);
	if (r < 0)
		return r;
	d->procs = arena_array(&d->arena, n + MAX_ZOMBIES, sizeof(*d->procs));
	if (!d->procs)
		return no_memory(e);
	r = find_living(d, pids, n, e);
	if (r == 0)
		r = hire_for_memory(d, e);
	if (r == 0)
		r = find_threads(d, e);
	if (r < 0)
		return r;
	if (d->n_procs == 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container \"%s\" is not running", d->c->id);
	r = add_zombies(d, n + MAX_ZOMBIES, e);
	if (r < 0)
		return r;
	name_tasks(d);
	return order(d, e);
}

bool dump_has_changed(struct dump *d)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n, living = 0, known = 0;
	bool vanished;
	struct error e;

	if (d->stopped || container_pids_found(d->c, false, &pids, &n, &vanished, &e) < 0)
		return false;
	for (size_t i = 0; i < d->n_procs; i++) {
		living += !d->procs[i].zombie;
		for (size_t k = 0; k < n && !d->procs[i].zombie; k++)
			known += d->procs[i].pid == pids[k];
	}
	return known < living || known < n || vanished;
}

bool dump_leader_is_needed(struct dump *d, struct dump_proc *p)
{
	const char *what = NULL;

	if (!p->ended_leader)
		return false;
	if (p->pid == d->c->init_pid)
		what = "of the container's init";
	else if (p->other_namespaces)
		what = "of a process with namespaces of its own";
	else if (p->status.state == 'T' || (d->stopped && p->threads[0].task.in_group_stop))
		what = "of a stopped process";
	else if (dump_pidfd(p) < 0)
		what = "on a kernel before Linux 6.9";
	if (what)
		dump_refuse(d, p, -1, "process", "its leader thread has ended while others run",
			"let it end, then checkpoint", "leader %s (%s)", what, p->stat.comm);
	return what;
}

bool dump_refuse_hidden(struct dump *d)
{
	bool any = false;
	char text[64];

	for (size_t i = 0; d->unprivileged && i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		if (p->zombie || proc_readlink(p->shown, "ns/user", text, sizeof(text)) != -EACCES)
			continue;
		any = true;
		dump_refuse(d, p, -1, "process", HIDDEN_REASON,
			"let it call prctl(PR_SET_DUMPABLE, 1), or make the checkpoint as root",
			"process %d (%s)", p->ns_pid, p->stat.comm);
	}
	return any;
}

/* A tracer in the container could be made to ask for us, but not even it is told which options it has set (PTRACE_SETOPTIONS),
 * nor which stop it has been told of already: what a restore would put back would be a guess. */
static void check_traced(struct dump *d, struct dump_proc *p, pid_t tracer)
{
	const char *reason = "only one tracer is possible";

	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == tracer)
			reason = "only its tracer can look at it, and the kernel tells not even that its "
				 "options";
	dump_refuse(d, p, -1, "traced task", reason, "end the debugger or strace, then checkpoint",
		"traced by pid %d", tracer);
}

static void check_process(struct dump *d, struct dump_proc *p)
{
	const struct proc_status *s = &p->status;

	if (s->tracer_pid != 0 && !d->stopped)
		check_traced(d, p, s->tracer_pid);
	(void)dump_leader_is_needed(d, p);
	dump_check_exec_session(d, p);
	if (p->n_threads > 0 && p->threads[0].tid != p->shown)
		dump_refuse(d, p, -1, "process", "its leader thread is missing",
			"let it end, then checkpoint", "process %d", p->ns_pid);
	if (!process_exit_signal_is_kept(p->stat.exit_signal) && p != &d->procs[0])
		dump_refuse(d, p, -1, "process",
			"its exit signal (made by clone with such a one) is not supported",
			"let it end, then checkpoint", "exit signal %d", p->stat.exit_signal);
	for (size_t i = 0; i < p->n_threads; i++)
		state_check(d, p, &p->threads[i]);
	filters_check(d, p);
}

St__Credentials *dump_credentials(struct dump *d, const struct proc_status *s)
{
	St__Credentials *c = pb_new(&d->arena, Credentials, credentials);

	if (!c)
		return NULL;
	c->n_uid = c->n_gid = 4;
	c->uid = arena_memdup(&d->arena, s->uid, sizeof(s->uid));
	c->gid = arena_memdup(&d->arena, s->gid, sizeof(s->gid));
	c->n_groups = s->n_groups;
	c->groups = arena_memdup(&d->arena, s->groups, s->n_groups * sizeof(*s->groups));
	if (!c->uid || !c->gid || !c->groups)
		return NULL;
	for (size_t i = 0; i < 4; i++) {
		c->uid[i] = dump_uid(d, c->uid[i]);
		c->gid[i] = dump_gid(d, c->gid[i]);
	}
	for (size_t i = 0; i < c->n_groups; i++)
		c->groups[i] = dump_gid(d, c->groups[i]);
	c->cap_inh = s->cap_inh;
	c->cap_prm = s->cap_prm;
	c->cap_eff = s->cap_eff;
	c->cap_bnd = s->cap_bnd;
	c->cap_amb = s->cap_amb;
	c->no_new_privs = s->no_new_privs;
	return c;
}

/* What a task of a fair policy has that has not chosen another one: ours. 0: this kernel gives no choice (before 6.12). */
static uint64_t fair_slice(void)
{
	struct sched_attributes attr = {.size = sizeof(attr)};

	return syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0 ? 0 : attr.runtime;
}

static int collect_scheduling(struct dump *d, struct dump_thread *t, struct error *e)
{
	struct sched_attributes attr = {.size = sizeof(attr)};
	char mask[512];
	long n;

	if (syscall(SYS_sched_getattr, t->tid, &attr, sizeof(attr), 0) < 0)
		return error_errno(e, -errno, "scheduling of pid %d", t->tid);
	t->msg->sched_policy = attr.policy;
	t->msg->sched_priority = attr.priority;
	t->msg->nice = attr.nice;
	t->msg->sched_flags = attr.flags & 7; /* reset-on-fork; of SCHED_DEADLINE: reclaim, overrun */
	if (attr.policy == SCHED_POLICY_DEADLINE || attr.runtime != fair_slice()) {
		t->msg->sched_runtime = attr.runtime;
		t->msg->sched_deadline = attr.deadline;
		t->msg->sched_period = attr.period;
	}
	n = syscall(SYS_sched_getaffinity, t->tid, sizeof(mask), mask);
	if (n < 0)
		return error_errno(e, -errno, "affinity of pid %d", t->tid);
	t->msg->affinity.len = n;
	t->msg->affinity.data = arena_memdup(&d->arena, mask, n);
	t->msg->ioprio = MAX((long)syscall(SYS_ioprio_get, 1 /* IOPRIO_WHO_PROCESS */, t->tid), 0l);
	return t->msg->affinity.data ? 0 : no_memory(e);
}

enum { KEY_0_RIGHTS = 3 }; /* of the register of rights: reading and writing are forbidden */

static int robust_list(const struct dump_thread *t, St__Thread *m, struct error *e)
{
	size_t len = 0;

	if (syscall(SYS_get_robust_list, t->tid, &m->robust_list, &len) < 0)
		return error_errno(e, -errno, "robust list of pid %d", t->tid);
	m->robust_list_len = len;
	return 0;
}

/* Threads of stopped processes: what can be had from outside. */
static int collect_thread(struct dump *d, struct dump_proc *p, struct dump_thread *t, struct error *e)
{
	struct __ptrace_rseq_configuration rseq = {};
	struct task *task = &t->task;
	struct user_regs_struct *regs;
	St__Thread *m;
	int r;

	m = t->msg = pb_new(&d->arena, Thread, thread);
	if (!m)
		return no_memory(e);
	m->tid = t->ns_tid;
	/* A copy: what the image says of an interrupted call is not what the running task needs. */
	regs = arena_memdup(&d->arena, &task->regs, sizeof(task->regs));
	if (!regs)
		return no_memory(e);
	m->gpr.data = (uint8_t *)regs;
	m->gpr.len = sizeof(*regs);
	r = dump_interrupted_call(d, t, regs, e);
	if (r < 0)
		return r;
	m->xstate.data = task->xstate;
	m->xstate.len = task->xstate_len;
	m->sigmask = task->sigmask;
	if (cpu_key_rights(task->xstate, task->xstate_len) & KEY_0_RIGHTS)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"cannot checkpoint: thread %d of process %d may just now not use memory without a "
			"protection "
			"key, so it cannot be asked for its state: try again",
			t->ns_tid, p->ns_pid);
	if (cpu_used_xfeatures(task->xstate, task->xstate_len) & ~cpu_usual_xfeatures())
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"cannot checkpoint: thread %d of process %d has something in registers (AMX) that a "
			"restore "
			"could not give it: try again",
			t->ns_tid, p->ns_pid);
	m->comm = arena_strdup(&d->arena, t->status.name);
	m->credentials = dump_credentials(d, &t->status);
	m->seccomp_mode = t->status.seccomp;
	if (!m->comm || !m->credentials)
		return no_memory(e);
	if (ia32_runs(&task->regs))
		r = ia32_collect_thread(&d->arena, t->tid, m, e);
	else
		r = robust_list(t, m, e);
	if (r < 0)
		return r;
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, sizeof(rseq), &rseq) >= 0) {
		m->rseq_addr = rseq.rseq_abi_pointer;
		m->rseq_len = rseq.rseq_abi_size;
		m->rseq_signature = rseq.signature;
	}
	if (state_collect_thread(d, p, t) < 0)
		return no_memory(e);
	return collect_scheduling(d, t, e);
}

/* rseq: registering again after restore clears rseq_cs, so a thread stopped inside a critical section must be sent to its
 * abort handler now, as the kernel would do when it is preempted there (man: Documentation/userspace-api/rseq). */
static int fix_rseq(struct dump_thread *t, struct error *e)
{
	struct {
		uint32_t version, flags;
		uint64_t start_ip, post_commit_offset, abort_ip;
	} cs;
	struct user_regs_struct *regs = (struct user_regs_struct *)t->msg->gpr.data;
	uint64_t at, ip = regs->rip;

	if (!t->msg->rseq_addr || task_read_memory(t->tid, t->msg->rseq_addr + 8, &at, sizeof(at)) < 0 || !at)
		return 0;
	if (task_read_memory(t->tid, at, &cs, sizeof(cs)) < 0)
		return 0;
	if (ip - cs.start_ip < cs.post_commit_offset)
		regs->rip = cs.abort_ip;
	return 0;
}

static int posix_timers(struct dump *d, struct dump_proc *p, struct error *e)
{
	const struct proc_posix_timer *timers = p->timers;
	size_t n = p->n_timers;

	p->msg->n_posix_timers = n;
	p->msg->posix_timers = arena_array(&d->arena, n, sizeof(*p->msg->posix_timers));
	if (!p->msg->posix_timers)
		return no_memory(e);
	for (size_t i = 0; i < n; i++) {
		St__PosixTimer *t = p->msg->posix_timers[i] = pb_new(&d->arena, PosixTimer, posix_timer);

		if (!t)
			return no_memory(e);
		t->id = timers[i].id;
		t->clockid = timers[i].clockid;
		t->notify = timers[i].notify;
		t->signo = timers[i].signo;
		t->sigval = timers[i].sigval;
		for (size_t k = 0; k < p->n_threads; k++)
			if (p->threads[k].tid == timers[i].tid || p->threads[k].ns_tid == timers[i].tid)
				t->tid = p->threads[k].ns_tid;
	}
	return 0;
}

static int process_message(struct dump *d, struct dump_proc *p, struct error *e)
{
	const struct proc_status *s = &p->status;
	St__Process *m = p->msg = pb_new(&d->arena, Process, process);

	if (!m)
		return no_memory(e);
	m->pid = p->ns_pid;
	m->pgid = ns_id(d, p->stat.pgrp, s->ns_pgid, s->n_ns);
	m->sid = ns_id(d, p->stat.session, s->ns_sid, s->n_ns);
	m->exit_signal = p == &d->procs[0] ? SIGCHLD : p->stat.exit_signal;
	m->comm = arena_strdup(&d->arena, p->stat.comm);
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == p->stat.ppid)
			m->ppid = d->procs[i].ns_pid;
	if (shared_pids_is_adopted(d, p) && !p->by_exec)
		m->ppid = SHARED_PIDS_REAPER;
	m->by_exec = p->by_exec;
	if (p->by_exec && !m->ppid) {
		m->ppid = dump_parent_of_exec(d, p)->ns_pid;
		m->exit_signal = SIGCHLD;
	}
	if (p->zombie) {
		m->state = 2;
		m->exit_code = p->stat.exit_code;
		return 0;
	}
	if (!d->stopped)
		return 0;
	m->umask = s->umask;
	m->exit_code = p->stat.exit_code; /* of a stopped one: whether its parent has been told */
	return 0;
}

/* The kernel keeps of it what kill(2) and /proc want. What it had chosen for itself by prctl(2) nobody can ask any more. */
static int collect_ended_leader(struct dump *d, struct dump_proc *p, struct error *e)
{
	struct dump_thread *t = p->ended_leader;
	const St__Thread *other = p->threads[0].msg;
	St__Thread *m = t->msg = pb_new(&d->arena, Thread, thread);
	char path[64], text[64];

	if (!m)
		return no_memory(e);
	m->tid = t->ns_tid;
	m->ended = true;
	m->exit_code = p->stat.exit_code;
	m->sigmask = t->status.sig_blk;
	m->comm = arena_strdup(&d->arena, p->stat.comm);
	m->credentials = dump_credentials(d, &t->status);
	if (!m->comm || !m->credentials)
		return no_memory(e);
	m->seccomp_mode = other->seccomp_mode;
	m->seccomp_filters = other->seccomp_filters;
	m->n_seccomp_filters = other->n_seccomp_filters;
	snprintf(path, sizeof(path), "/proc/%d/timerslack_ns", p->pid);
	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) > 0)
		m->timer_slack_ns = strtoull(text, NULL, 10);
	return collect_scheduling(d, t, e);
}

static int collect_stopped(struct dump *d, struct dump_proc *p, struct error *e)
{
	size_t ended = p->ended_leader ? 1 : 0;
	St__Process *m = p->msg;
	int r = 0;

	m->n_threads = ended + p->n_threads;
	m->threads = arena_array(&d->arena, m->n_threads, sizeof(*m->threads));
	if (!m->threads)
		return no_memory(e);
	if (p->threads[0].task.in_group_stop) {
		m->state = 1;
		m->stop_signal = p->threads[0].task.stop_signal;
	}
	for (size_t i = 0; i < p->n_threads && r == 0; i++) {
		r = collect_thread(d, p, &p->threads[i], e);
		if (r == 0)
			r = filters_collect(d, p, &p->threads[i], e);
		if (r == 0)
			r = fix_rseq(&p->threads[i], e);
		m->threads[ended + i] = p->threads[i].msg;
	}
	if (r == 0 && ended)
		r = collect_ended_leader(d, p, e);
	if (ended)
		m->threads[0] = p->ended_leader->msg;
	return r;
}

/* Each mode has its own handlers, robust lists and segments: of those of the other one nobody would know. */
static void check_code(struct dump *d, struct dump_proc *p)
{
	for (size_t i = 0; i < p->n_threads; i++)
		if (ia32_runs(&p->threads[i].task.regs) != p->msg->memory->ia32)
			dump_refuse(d, p, -1, "process",
				"a thread of it runs 32-bit code in a 64-bit program, or 64-bit code in a "
				"32-bit one: not "
				"supported",
				REMEDY_AGAIN, "thread %d", p->threads[i].ns_tid);
}

static int collect_process(struct dump *d, struct dump_proc *p, struct error *e)
{
	int r;

	check_process(d, p);
	r = p->msg ? 0 : process_message(d, p, e);
	if (r == 0 && d->stopped && !p->zombie) {
		p->msg->oom_score_adj = p->oom_score_adj;
		p->msg->autogroup_nice = p->autogroup_nice;
		/* That of init is whoever's who runs the container. */
		p->msg->has_login = p->loginuid != d->procs[0].loginuid;
		p->msg->loginuid = p->msg->has_login ? dump_uid(d, p->loginuid) : 0;
		r = posix_timers(d, p, e);
	}
	if (r == 0)
		r = dump_nested_namespaces(d, p, e);
	if (r < 0 || p->zombie)
		return r;
	if (r == 0)
		r = dump_mappings(d, p, e);
	if (r == 0 && d->stopped)
		check_code(d, p);
	return r;
}

static void read_own_namespaces(struct dump *d)
{
	char name[64];

	for (size_t i = 0; i < DUMP_NAMESPACES; i++) {
		/* Init may have made another one for its children: the container's is what it is in itself. */
		snprintf(name, sizeof(name), "ns/%s",
			strcmp(dump_namespaces[i], "time_for_children") ? dump_namespaces[i] : "time");
		if (proc_readlink(d->procs[0].pid, name, d->namespaces[i], sizeof(d->namespaces[i])) < 0)
			d->namespaces[i][0] = '\0';
	}
}

static int collect_processes(struct dump *d, struct error *e)
{
	int r = crew_start(d->crew, dump_look, d, d->n_procs, e);

	/* Meanwhile what only their tracer can ask. */
	for (size_t i = 0; i < d->n_procs && r >= 0 && d->stopped; i++) {
		r = process_message(d, &d->procs[i], e);
		if (r == 0 && !d->procs[i].zombie)
			r = collect_stopped(d, &d->procs[i], e);
	}
	for (size_t i = 0; i < d->n_procs && r >= 0; i++) {
		r = crew_need(d->crew, i, e);
		if (r == 0)
			r = collect_process(d, &d->procs[i], e);
		if ((r == -ENOENT || r == -ESRCH) && !d->stopped)
			r = 0; /* it ended while preflight looked at it */
	}
	crew_drop(d->crew);
	return MIN(r, 0);
}

int dump_collect(struct dump *d, struct error *e)
{
	TRACE("collect");
	int r;

	r = proc_read_mountinfo(d->procs[0].pid, &d->arena, &d->mounts, &d->n_mounts);
	if (r < 0)
		return error_errno(e, r, "mounts of the container");
	read_own_namespaces(d);
	d->ipc_role = ipc_find_role(d);
	r = dump_read_ids(d, e);
	if (r < 0)
		return r;
	r = dump_view_begin(d, e);
	if (r == 0)
		r = collect_processes(d, e);
	if (r == 0)
		r = dump_sharing(d, e);
	if (r == 0)
		r = dump_mounted_namespaces(d, e);
	if (r == 0)
		r = dump_descriptors(d, e);
	if (r == 0 && d->stopped)
		r = dump_in_flight(d, e);
	dump_view_end(d);
	if (r == 0)
		r = dump_open_namespaces(d, e);
	if (r == 0)
		r = dump_listeners(d, e);
	if (r == 0)
		r = peers_publish(d, e);
	if (r == 0)
		r = dump_check_tree(d, e);
	if (r == 0)
		r = dump_check_files(d, e);
	return r < 0 ? r : dump_check_ttys(d, e);
}

void dump_done(struct dump *d)
{
	crew_free(d->crew);
	for (size_t i = 0; i < d->n_procs; i++)
		close_p(&d->procs[i].pidfd);
	for (struct dump_table *t = d->tables; t; t = t->next)
		close_p(&t->as.pidfd);
	for (size_t i = 0; i < d->n_files; i++)
		close_p(&d->files[i].local);
	close_p(&d->root_fd);
	for (size_t i = 0; d->is_prepared && i < CGROUP_MAX_DIRS; i++)
		close_p(&d->cgroup_dirs[i]);
	close_p(&d->mqueue_folder);
	close_p(&d->parent.fd);
	close_p(&d->pipe_copy[0]);
	close_p(&d->pipe_copy[1]);
	dump_nested_done(d);
	vma_flags_free(d->vma_flags);
	free(d->kept_filter.filter);
	free(d->message);
	free(d->files);
	for (size_t i = 0; i < ARRAY_SIZE(d->helper_arenas); i++)
		arena_done(&d->helper_arenas[i]);
	arena_done(&d->arena);
}
