/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping and releasing a container. The freezer stops all tasks at one moment (no new ones can appear); then each
 * thread is seized and interrupted, and the freezer is opened again, because frozen tasks cannot run the batches
 * of ask.c (and on v1 not even answer ptrace). A paused container is frozen again before its tasks are let go.
 */
#include "checkpoint/native/listeners.h"
#include "checkpoint/native/dump.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/filters.h"
#include "checkpoint/native/shared-pids.h"
#include "checkpoint/native/states.h"
#include "linux/procfd.h"

enum { FREEZE_TIMEOUT_MS = 10000 };

static int seize_all(struct dump *d, struct error *e)
{
	TRACE("seize");
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		for (size_t k = 0; k < p->n_threads; k++) {
			struct dump_thread *t = &p->threads[k];
			int r;

			r = filters_seize(d, &t->task, t->tid, &t->status, e);
			if (r == 0)
				r = task_interrupt(&t->task, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/*
 * signal(7) lists calls that a mere stop makes return EINTR, without any handler. Ours is not to be noticed: unless a
 * signal waits for the task, the call is made again.
 */
bool dump_hide_interruption(struct task *t, const struct proc_status *status)
{
	static const int calls[] = {SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait,
		SYS_semop, SYS_semtimedop, SYS_msgrcv, SYS_msgsnd, SYS_accept, SYS_accept4, SYS_recvfrom,
		SYS_recvmsg, SYS_recvmmsg, SYS_sendto, SYS_sendmsg, SYS_io_getevents};
	struct user_regs_struct *r = &t->regs;

	if ((long)r->rax != -EINTR || (long)r->orig_rax < 0 ||
		((status->sig_pnd | status->shd_pnd) & ~status->sig_blk))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if ((long)r->orig_rax == calls[i]) {
			r->rax = r->orig_rax;
			r->rip -= 2;
			r->orig_rax = -1;
			return true;
		}
	}
	return false;
}

static int take_fault(struct dump_thread *t, struct error *e)
{
	struct arena a = {};
	struct proc_status now;
	int r = proc_read_status(t->tid, t->tid, &a, &now);

	if (r == 0 && task_has_fault(&now)) {
		r = task_take_fault(&t->task, e);
		if (r == 0)
			r = proc_read_status(t->tid, t->tid, &a, &now);
	}
	if (r == 0) {
		t->status.sig_pnd = now.sig_pnd;
		t->status.shd_pnd = now.shd_pnd;
		t->status.sig_blk = now.sig_blk;
	}
	arena_done(&a);
	return r;
}

static int wait_all(struct dump *d, struct error *e)
{
	TRACE("wait for stops");
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		for (size_t k = 0; k < p->n_threads; k++) {
			struct task *t = &p->threads[k].task;
			int r = t->stopped ? 0 : task_wait_stop(t, e);

			if (r == 0 && task_has_fault(&p->threads[k].status))
				r = take_fault(&p->threads[k], e);
			if (r == 1)
				return error_set(e, -EAGAIN, ERROR_STATE,
					"process %d ended at the moment of the checkpoint: try again",
					p->ns_pid);
			if (r == 0)
				r = task_read_registers(t, &d->arena, e);
			if (r == 0)
				r = dump_back_into_call(t, e);
			if (r == 0 && dump_hide_interruption(t, &p->threads[k].status))
				r = task_set_gpr(t->tid, &t->regs, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* Who waits for an answer that must come from another one of them (listeners.h) does not stop before it comes: they are let go on until
 * it has come, and tried again. */
static int freeze_cgroup(struct dump *d, struct error *e)
{
	enum { FIRST_MS = 100, PAUSE_US = 200 };
	uint64_t start = now_ms(), passed = 0;
	pid_t waits = 0;
	int r;

	while ((r = cgroup_freeze_begin(&d->c->cgroup, FIRST_MS, e)) == -ETIMEDOUT &&
		(passed = now_ms() - start) < FREEZE_TIMEOUT_MS && (waits = listeners_hold_up(d)) > 0) {
		if (cgroup_thaw(&d->c->cgroup, e) < 0)
			return e->code;
		while (listeners_holds_up(waits) && now_ms() - start < FREEZE_TIMEOUT_MS)
			usleep(PAUSE_US);
	}
	if (r == -ETIMEDOUT && waits == 0)
		r = cgroup_freeze(&d->c->cgroup, FREEZE_TIMEOUT_MS - FIRST_MS, e);
	else if (r == -ETIMEDOUT && cgroup_thaw(&d->c->cgroup, e) == 0)
		error_set(e, r, ERROR_STATE,
			"process %d waits for an answer to what its seccomp filter has asked, and cannot be "
			"stopped before "
			"(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV): try again",
			waits);
	return r;
}

/* From here on nothing of the container runs. */
static int freeze(struct dump *d, struct error *e)
{
	TRACE("freeze");
	struct timespec now;
	int r;

	if (d->c->cgroup.mode == CGROUP_NONE) {
		r = dump_stop_unfrozen(d, e);
	} else {
		d->journal->frozen = true;
		r = freeze_cgroup(d, e);
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	d->frozen_at = now.tv_sec * 1000000000ll + now.tv_nsec;
	if (r == 0)
		r = fault_point("checkpoint-frozen", e);
	return r < 0 ? r : dump_find_processes(d, e);
}

/* Somebody waits in vfork, or did so when the others were stopped. */
static bool is_restless(struct dump *d)
{
	return dump_anyone_in_vfork(d) || (d->c->cgroup.mode == CGROUP_NONE && !dump_all_stopped(d));
}

/* They have been interrupted, and go on by restart_syscall: where they wait is seen while they are frozen, or else when they
 * wait again. */
static int let_go(struct dump *d, struct error *e)
{
	int r;

	if (d->c->cgroup.mode == CGROUP_NONE) {
		dump_release_unfrozen(d);
		usleep(1000);
		return dump_remember_waits(d, e);
	}
	r = dump_remember_waits(d, e);
	return r == 0 ? cgroup_thaw(&d->c->cgroup, e) : r;
}

/* All at one moment at which nobody waits in vfork, if there is one soon. */
static int freeze_at_rest(struct dump *d, struct error *e)
{
	enum { TRIES = 200 };
	int r = freeze(d, e);

	for (int i = 0; i < TRIES && r == 0 && !d->journal->paused && is_restless(d); i++) {
		r = let_go(d, e);
		if (r < 0)
			return r;
		for (size_t k = 0; k < d->n_procs; k++)
			close_p(&d->procs[k].pidfd);
		usleep(i < 20 ? 200 : 5000);
		r = freeze(d, e);
	}
	return r == 0 && dump_anyone_in_vfork(d) ? dump_refuse_vfork(d, e) : r;
}

int dump_stop(struct dump *d, struct error *e)
{
	TRACE("stop tasks");
	int r;

	d->journal->paused = cgroup_is_frozen(&d->c->cgroup) == 1;
	r = freeze_at_rest(d, e);
	if (r == 0)
		r = d->unfrozen ? dump_adopt_unfrozen(d, e) : seize_all(d, e);
	if (r == 0)
		r = fault_point("checkpoint-seized", e);
	if (r < 0)
		return r;
	r = d->journal->frozen ? cgroup_thaw(&d->c->cgroup, e) : 0;
	if (r < 0)
		return r;
	d->journal->frozen = d->journal->paused;
	r = wait_all(d, e);
	if (r < 0)
		return r;
	d->stopped = true;
	r = state_suspend_dispatches(d, e);
	return r < 0 ? r : fault_point("checkpoint-thawed", e);
}

/* Where the stop failed, some have been interrupted and have not stopped yet. Only a stopped one can be let go. */
static void let_go_of(struct dump *d, struct dump_thread *t)
{
	struct error ignored;

	if (t->task.seized && !t->task.stopped && !d->journal->paused &&
		task_wait_stop(&t->task, &ignored) == 0 &&
		task_read_registers(&t->task, &d->arena, &ignored) == 0 &&
		dump_hide_interruption(&t->task, &t->status))
		(void)!task_set_gpr(t->tid, &t->task.regs, &ignored);
	(void)!task_detach(&t->task, &ignored);
}

int dump_resume(struct dump *d, struct error *e)
{
	struct error ignored;
	int r = 0;

	/* A stopped task counts as frozen only once it is let go: the wait is short, and done below. */
	if (d->journal->paused)
		(void)!cgroup_freeze(&d->c->cgroup, 1, &ignored);
	else if (d->journal->frozen) /* asked for, whether or not all tasks count as frozen just now */
		r = cgroup_thaw(&d->c->cgroup, e);
	state_resume_dispatches(d->journal);
	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_threads; k++)
			let_go_of(d, &d->procs[i].threads[k]);
	dump_release_unfrozen(d);
	if (d->journal->paused)
		r = cgroup_freeze(&d->c->cgroup, FREEZE_TIMEOUT_MS, e);
	d->journal->frozen = false;
	d->stopped = false;
	task_notes_drop(&d->journal->calls);
	return r;
}

/* Much memory is given back by us, too, beside the dying process, which may get little of the CPUs. */
static void release_memory(const struct dump_proc *p)
{
	enum { WORTHWHILE_KIB = 32 << 10 };

	if (!p->zombie && p->pidfd >= 0 && p->status.vm_rss_kib >= WORTHWHILE_KIB)
		(void)!syscall(SYS_process_mrelease, p->pidfd, 0); /* Linux 5.15; else it does it alone */
}

/*
 * Traced tasks stay zombies until their tracer has waited for them. The first process of a pid namespace that other containers share
 * is only gone when all of theirs are, and of their inits it is somebody else who learns: that is not waited for without end.
 */
static void await_deaths(const struct dump *d)
{
	enum { PATIENCE_MS = 5000, LOOK_MS = 200 };
	int flags = __WALL | (d->pids_role == PIDS_BEGUN ? WNOHANG : 0), left = PATIENCE_MS;

	while (left > 0) {
		pid_t pid = waitpid(-1, NULL, flags);

		if (pid < 0 && errno != EINTR)
			return;
		if (pid == 0) {
			usleep(1000);
			left--;
		}
		if (pid == 0 && left % LOOK_MS == 0 && process_awaits_others(d->c->init_pid))
			return;
	}
}

/* Init's death takes the whole pid namespace with it; without one, each process is killed. */
int dump_kill(struct dump *d, struct error *e)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		if (!p->zombie && syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0) < 0 &&
			errno != ESRCH)
			return error_errno(e, -errno, "kill pid %d", p->pid);
	}
	for (size_t i = 0; i < d->n_procs; i++)
		release_memory(&d->procs[i]);
	await_deaths(d);
	return 0;
}
