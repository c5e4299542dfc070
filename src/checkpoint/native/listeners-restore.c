/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/listeners.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/task.h"
#include "checkpoint/native/tree.h"
#include "linux/procfs.h"

/* ---- what an image says ---- */

static const St__SeccompFilter *filter(const St__Process *p, uint64_t id)
{
	size_t i = 0;

	while (p->seccomp_filters[i]->id != id)
		i++;
	return p->seccomp_filters[i];
}

size_t listeners_n_born_with(const St__Process *p, const St__Thread *t, uint64_t *ret_listener)
{
	if (ret_listener)
		*ret_listener = 0;
	for (size_t i = 0; i < t->n_seccomp_filters; i++) {
		uint64_t listener = filter(p, t->seccomp_filters[i])->listener;

		if (!listener)
			continue;
		if (ret_listener)
			*ret_listener = listener;
		return i + 1;
	}
	return 0;
}

uint64_t listeners_of(const St__Process *p)
{
	uint64_t listener = 0;

	if (p->state != 2)
		(void)listeners_n_born_with(p, p->threads[0], &listener);
	return listener;
}

/* All threads have it, above the same ones, and there is no other one. */
static bool threads_agree(const St__Process *p)
{
	const St__Thread *first = p->threads[0];
	uint64_t listener, other;
	size_t n = listeners_n_born_with(p, first, &listener);

	for (size_t i = 0; i < p->n_threads; i++) {
		const St__Thread *t = p->threads[i];

		if (listeners_n_born_with(p, t, &other) != n || other != listener ||
			(n > 0 && memcmp(t->seccomp_filters, first->seccomp_filters,
					  n * sizeof(*t->seccomp_filters)) != 0))
			return false;
		for (size_t k = n; k < t->n_seccomp_filters; k++)
			if (filter(p, t->seccomp_filters[k])->listener)
				return false;
	}
	return true;
}

bool listeners_has_agent(const St__Process *p)
{
	size_t n = p->state == 2 ? 0 : listeners_n_born_with(p, p->threads[0], NULL);

	return n > 0 && filter(p, p->threads[0]->seccomp_filters[n - 1])->agent;
}

static const St__Process *who_has(const struct restore *r, uint64_t listener)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (listeners_of(r->procs[i]) == listener)
			return r->procs[i];
	return NULL;
}

int listeners_validate(const struct restore *r, struct error *e)
{
	bool good = true, any = false;

	for (size_t i = 0; i < r->n_procs && good; i++) {
		uint64_t id = listeners_of(r->procs[i]);
		const St__File *f = id ? restore_file(r, id) : NULL;

		any |= id != 0;
		good = (r->procs[i]->state == 2 || threads_agree(r->procs[i])) &&
		       (!id || listeners_has_agent(r->procs[i]) ||
			       (f && f->kind_case == ST__FILE__KIND_SECCOMP_LISTENER &&
				       !f->seccomp_listener->ended));
	}
	for (size_t i = 0; i < r->n_files && good; i++) {
		const St__File *f = r->files[i];

		if (f->kind_case != ST__FILE__KIND_SECCOMP_LISTENER)
			continue;
		any = true;
		good = f->seccomp_listener->ended || who_has(r, f->id);
	}
	if (!good)
		return error_set(e, -EBADMSG, ERROR_CORRUPT,
			"checkpoint.img: a seccomp filter with a listener is malformed");
	return any && r->unprivileged ? error_set(e, -EPERM, ERROR_REFUSED,
						"the image has a seccomp filter with a listener, which only "
						"a privileged user can "
						"suspend while the process is made: restore it as root")
				      : 0;
}

int listeners_loader(const struct restore *r, uint64_t listener)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->tree->nodes[i].loads && listeners_of(r->procs[i]) == listener)
			return r->procs[i]->pid;
	return 0;
}

/* ---- in a stub ---- */

static long futex(uint32_t *word, int op, uint32_t value)
{
	return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

/* Until the parent has suspended its filters. It polls for that. */
static int ask_parent(struct restore *r, size_t index, struct error *e)
{
	struct restore_watch *w = &r->watches[index];
	char pid[32] = "";

	if (readlinkat(r->proc_fd, "self", pid, sizeof(pid) - 1) < 0)
		return error_errno(e, -errno, "own pid");
	w->pid = (int32_t)strtol(pid, NULL, 10);
	if (r->is_traced)
		return 0;
	__atomic_store_n(&w->asked, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&w->turn, __ATOMIC_SEQ_CST))
		futex(&w->turn, FUTEX_WAIT, 0);
	r->is_traced = true;
	return 0;
}

/* The parent hands the listener over. Nobody here may keep it: who asks would wait for ever when the agent is gone. */
static void wait_for_agent(struct restore_watch *w, int listener)
{
	w->listener = listener;
	__atomic_store_n(&w->loaded, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&w->sent, __ATOMIC_SEQ_CST))
		futex(&w->sent, FUTEX_WAIT, 0);
	close(listener);
}

static int load(const St__SeccompFilter *f)
{
	struct sock_fprog program = {
		f->instructions.len / sizeof(struct sock_filter), (struct sock_filter *)f->instructions.data};
	unsigned long flags = f->flags | (f->listener ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0);
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);

	return fd < 0 ? -errno : (int)fd;
}

int listeners_load(struct restore *r, size_t index, struct error *e)
{
	const St__Process *p = r->procs[index];
	const St__Thread *t = p->threads[0];
	uint64_t listener;
	size_t n = listeners_n_born_with(p, t, &listener);
	int result = ask_parent(r, index, e);

	if (result < 0)
		return result;
	for (size_t i = 0; i < n && result >= 0; i++)
		result = load(filter(p, t->seccomp_filters[i]));
	if (result < 0)
		return error_errno(e, result, "process %d: load a seccomp filter with a listener", p->pid);
	if (listeners_has_agent(p)) {
		wait_for_agent(&r->watches[index], result);
		return 0;
	}
	if (dup3(result, restore_fd(r, listener), O_CLOEXEC) < 0)
		return error_errno(e, -errno, "listener of a seccomp filter");
	close(result);
	return 0;
}

/* ---- in the parent ---- */

enum {
	OPTIONS = PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP | PTRACE_O_TRACESYSGOOD,
	FORKS = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE
};

bool listeners_any(const struct restore *r)
{
	return r->n_traced > 0 || r->n_loads > 0;
}

static int add(struct restore *r, pid_t tid, struct error *e)
{
	if (r->n_traced == r->max_traced) {
		size_t want = MAX(2 * r->max_traced, (size_t)64);
		pid_t *more = arena_array(&r->arena, want, sizeof(*more));

		if (!more)
			return error_errno(e, -ENOMEM, "restore");
		if (r->n_traced > 0)
			memcpy(more, r->traced, r->n_traced * sizeof(*more));
		r->traced = more;
		r->max_traced = want;
	}
	r->traced[r->n_traced++] = tid;
	return 0;
}

static int send_to_agent(struct container *c, struct restore_watch *w, struct error *e)
{
	_cleanup_close_ int pidfd = pidfd_open(w->pid, 0), fd = -EBADF;

	if (pidfd >= 0)
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, w->listener, 0);
	if (fd < 0)
		return error_errno(e, -errno, "listener of pid %d", w->pid);
	if (container_send_listener(c, fd, w->pid, e) < 0)
		return e->code;
	__atomic_store_n(&w->sent, 1, __ATOMIC_SEQ_CST);
	futex(&w->sent, FUTEX_WAKE, INT32_MAX);
	return 0;
}

static int begin(struct restore *r, struct restore_watch *w, struct error *e)
{
	int result;

	if (ptrace(PTRACE_SEIZE, w->pid, NULL, (void *)(unsigned long)(OPTIONS | FORKS)) < 0)
		return error_errno(e, -errno, "suspend the seccomp filters of pid %d", w->pid);
	result = add(r, w->pid, e);
	r->n_loads--;
	__atomic_store_n(&w->turn, 1, __ATOMIC_SEQ_CST);
	futex(&w->turn, FUTEX_WAKE, INT32_MAX);
	return result;
}

/* Stubs have all signals blocked, so it has done something that it cannot go on from. A traced init does not die of that by itself. */
static bool is_dying_init(pid_t tid)
{
	struct proc_stat st;

	return proc_read_stat(tid, &st) == 0 && st.ppid == getpid();
}

/* Who it has made is traced from birth on, with the same options. */
static int let_go_on(struct restore *r, pid_t tid, int status, struct error *e)
{
	int event = status >> 16, sig = WSTOPSIG(status), result = 0;
	unsigned long child;

	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
		if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &child) < 0)
			return error_errno(e, -errno, "child of pid %d", tid);
		result = add(r, (pid_t)child, e);
	}
	if (event)
		sig = 0;
	else if (is_dying_init(tid))
		return kill(tid, SIGKILL) < 0 ? error_errno(e, -errno, "kill pid %d", tid) : 0;
	(void)!ptrace(PTRACE_CONT, tid, NULL, (void *)(long)sig); /* or it has been killed */
	return result;
}

/* 1: it has ended. */
static int look_at(struct restore *r, pid_t tid, int how, struct error *e)
{
	int status, result = 0;
	pid_t got;

	while (result == 0 && (got = waitpid(tid, &status, __WALL | how)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || !WIFSTOPPED(status))
			return 1;
		result = let_go_on(r, tid, status, e);
	}
	return result;
}

static int look_at_all(struct restore *r, int how, struct error *e)
{
	for (size_t i = 0; i < r->n_traced;) {
		int result = look_at(r, r->traced[i], how, e);

		if (result < 0)
			return result;
		if (result > 0)
			r->traced[i] = r->traced[--r->n_traced];
		else
			i++;
	}
	return 0;
}

/* Who was killed when its parent was, before that could tell of it: the pid namespace's end waits for all. (What has only stopped is shown
 * here as well, whatever is asked for.) */
static void reap_strays(void)
{
	siginfo_t info = {};
	struct proc_stat st;

	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 && info.si_pid > 0 &&
		(info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) &&
		proc_read_stat(info.si_pid, &st) == 0 && st.ppid != getpid())
		(void)!waitpid(info.si_pid, NULL, __WALL);
}

int listeners_serve(struct restore *r, struct container *c, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_procs && result == 0; i++) {
		struct restore_watch *w = &r->watches[i];

		if (__atomic_load_n(&w->loaded, __ATOMIC_SEQ_CST) && !w->sent)
			result = send_to_agent(c, w, e);

		if (__atomic_load_n(&w->asked, __ATOMIC_SEQ_CST) && !w->turn && result == 0)
			result = begin(r, w, e);
	}
	if (result == 0)
		result = look_at_all(r, WNOHANG, e);
	reap_strays();
	return result;
}

bool listeners_take_over(struct restore *r, struct task *t)
{
	for (size_t i = 0; i < r->n_traced; i++) {
		if (r->traced[i] != t->tid)
			continue;
		*t = (struct task){.tid = t->tid, .options = OPTIONS, .seized = true};
		r->traced[i] = r->traced[--r->n_traced];
		return true;
	}
	return false;
}

int listeners_reap(struct restore *r, struct error *e)
{
	return look_at_all(r, 0, e);
}
