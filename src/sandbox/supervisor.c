/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/log.h"
#include "sandbox/application.h"
#include "sandbox/sandbox.h"
#include "sandbox/server.h"
#include "sandbox/session.h"
#include "sandbox/supervisor-priv.h"

enum { GRACE_MS = 5000, OTHER_ONE_MS = 10000, ENDED_MAX = 256 };

/* ---- its end ---- */

/* Removes what only we have put there; the directory too, if it is empty then. Whoever joins meanwhile makes it anew, and
 * starts another supervisor, as the socket is gone already. */
static void remove_sandbox(struct supervisor *s)
{
	remove_tree_at(s->dir_fd, CONTAINER_EXITS);
	unlinkat(s->dir_fd, CONTAINER_RESTORES, 0);
	unlinkat(s->dir_fd, CONTAINER_SUPERVISOR_LOCK, 0);
	container_tidy_sandbox(s->root, s->id);
}

static bool is_needed(const struct supervisor *s)
{
	return s->members || s->workers || s->holds || server_n_clients(s->server);
}

void supervisor_check_end(struct supervisor *s)
{
	struct error e;

	if (s->ending)
		return;
	if (s->members)
		loop_clear_timer(s->loop, &s->grace);
	if (is_needed(s) || s->grace.set)
		return;
	/* Who comes now finds no socket and starts another one, who waits for our lock; who came just before is served. */
	s->ending = true;
	if (!server_unlisten(s->server)) {
		members_scan(s);
		if (!is_needed(s) &&
			(unlinkat(s->dir_fd, CONTAINER_MEMBERS, AT_REMOVEDIR) == 0 || errno == ENOENT)) {
			remove_sandbox(s);
			loop_stop(s->loop);
			return;
		}
	}
	s->ending = false;
	if (server_listen(s->server, &e) < 0) {
		log_error(&e);
		loop_stop(s->loop);
	}
}

static void grace_is_over(void *arg)
{
	supervisor_check_end(arg);
}

/* ---- children ---- */

static bool knows(const struct supervisor *s, pid_t pid)
{
	for (const struct member *m = s->members; m; m = m->next)
		if (m->process.pid == pid)
			return true;
	return false;
}

static void child_ended(struct supervisor *s, pid_t pid, int status)
{
	for (struct member *m = s->members; m; m = m->next)
		if (m->process.pid == pid)
			process_reaped(&m->process, status);
	for (struct process *p = s->others; p; p = p->next)
		if (p->pid == pid)
			process_reaped(p, status);
	(void)(worker_reaped(s, pid, status) || application_reaped(s, pid, status));
}

/* Containers that a worker made, what exec left behind, and workers: we are their parent, if only by adoption. What a worker
 * has said of a process was said before the process became ours. */
static void children_end(struct supervisor *s)
{
	siginfo_t child;
	int status;

	for (;;) {
		child.si_pid = 0;
		if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 || child.si_pid == 0)
			break;
		workers_look(s);
		if (!knows(s, child.si_pid))
			members_look(s); /* while its pid is its own */
		if (waitpid(child.si_pid, &status, WNOHANG) == child.si_pid)
			child_ended(s, child.si_pid, status);
	}
}

static void signal_comes(void *arg, uint32_t events)
{
	struct supervisor *s = arg;
	struct signalfd_siginfo si;

	if (read(s->signals.fd, &si, sizeof(si)) != sizeof(si))
		return;
	switch (si.ssi_signo) {
	case SIGTERM: /* containers run on, and the next one takes over */
		loop_stop(s->loop);
		return;
	case SIGCHLD:
		children_end(s);
		break;
	case MEMBERS_SIGNAL:
	case MEMBERS_STATE_SIGNAL:
		members_changed(s, (int)si.ssi_signo);
		break;
	}
	supervisor_check_end(s);
}

/* Probes run processes in containers for months, and nobody asks how they ended: the oldest go. */
static void forget_oldest(struct supervisor *s)
{
	struct process **oldest = NULL, *p;
	size_t n = 0;

	for (struct process **i = &s->others; *i; i = &(*i)->next)
		if ((*i)->exited) {
			oldest = i;
			n++;
		}
	if (n <= ENDED_MAX)
		return;
	p = *oldest;
	*oldest = p->next;
	process_done(p);
	free(p);
}

void supervisor_keep_process(struct supervisor *s, pid_t pid, int inside, uint64_t start_time, const char *id)
{
	struct process *p = calloc(1, sizeof(*p));

	forget_oldest(s);
	if (!p)
		return;
	p->id = strdup(id);
	p->inside = inside;
	p->next = s->others;
	s->others = p;
	if (process_watch(p, s->loop, pid, start_time) != 0)
		p->exited = true;
}

struct process *supervisor_find_process(struct supervisor *s, const char *id, int inside)
{
	for (struct process *p = s->others; p; p = p->next)
		if (p->inside == inside && p->id && !strcmp(p->id, id))
			return p;
	return NULL;
}

/* ---- its beginning ---- */

/* 1: there is another one already, or no such sandbox any more. */
static int take_lock(struct supervisor *s, struct error *e)
{
	for (int waited = 0;; waited++) {
		close_p(&s->dir_fd);
		close_p(&s->lock_fd);
		s->dir_fd = container_open_sandbox(s->root, s->id, false);
		if (s->dir_fd == -ENOENT)
			return 1;
		if (s->dir_fd < 0)
			return error_errno(e, s->dir_fd, "open the sandbox %s", s->id);
		s->lock_fd = openat(s->dir_fd, CONTAINER_SUPERVISOR_LOCK,
			O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (s->lock_fd < 0)
			return error_errno(e, -errno, "lock the sandbox %s", s->id);
		if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0) {
			struct stat st;

			/* of a directory that has been removed meanwhile? */
			if (fstat(s->lock_fd, &st) == 0 && st.st_nlink)
				return 0;
			continue;
		}
		if (errno != EWOULDBLOCK)
			return error_errno(e, -errno, "lock the sandbox %s", s->id);
		if (sandbox_is_served(s->dir_fd))
			return 1;
		if (waited >= OTHER_ONE_MS)
			return error_set(e, -EBUSY, ERROR_STATE,
				"the sandbox %s has a supervisor that does not answer", s->id);
		usleep(1000); /* it begins or ends */
	}
}

static int watch_signals(struct supervisor *s, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, MEMBERS_SIGNAL);
	sigaddset(&mask, MEMBERS_STATE_SIGNAL);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return error_errno(e, -errno, "become subreaper");
	fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	s->signals = (struct loop_fd){-EBADF, signal_comes, s};
	r = fd < 0 ? -errno : loop_watch(s->loop, &s->signals, fd, EPOLLIN);
	if (r < 0)
		return error_errno(e, r, "watch processes");
	(void)take_fd(&fd);
	return 0;
}

static void supervisor_done(struct supervisor *s)
{
	s->ending = true;
	session_free(s->session);
	free(s->restore_failure);
	server_free(s->server);
	members_done(s);
	while (s->others) {
		struct process *p = s->others;

		s->others = p->next;
		process_done(p);
		free(p);
	}
	loop_free(s->loop);
	close_p(&s->dir_fd);
	close_p(&s->lock_fd);
	free(s->root);
	free(s->id);
}

/* Of the one before, or a new one: who restores counts there. */
static void make_counters(const struct supervisor *s)
{
	_cleanup_close_ int fd = openat(s->dir_fd, CONTAINER_RESTORES,
		O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd < 0)
		log_warning("restores are not counted: %s", error_text(-errno).s);
}

static int serve(struct supervisor *s, struct error *e)
{
	int r = loop_new(&s->loop);

	make_counters(s);

	if (r < 0)
		return error_errno(e, r, "supervise the sandbox %s", s->id);
	r = server_new(s, &s->server, e);
	if (r == 0)
		r = watch_signals(s, e);
	if (r == 0)
		r = members_watch(s, e);
	if (r == 0)
		r = server_listen(s->server, e);
	if (r < 0)
		return r;
	s->grace = (struct loop_timer){.due = grace_is_over, .arg = s};
	if (!s->members)
		loop_set_timer(s->loop, &s->grace, GRACE_MS);
	r = loop_run(s->loop);
	return r < 0 ? error_errno(e, r, "supervise the sandbox %s", s->id) : 0;
}

int supervisor_main(const struct supervisor_options *o, struct error *e)
{
	_cleanup_(supervisor_done) struct supervisor s = {
		.dir_fd = -EBADF, .lock_fd = -EBADF, .members_fd = -EBADF};
	int r = container_id_check(o->id, e);

	if (r < 0)
		return r;
	s.root = strdup(o->root);
	s.id = strdup(o->id);
	if (!s.root || !s.id)
		return error_errno(e, -ENOMEM, "sandbox %s", o->id);
	umask(022);
	r = take_lock(&s, e);
	if (r == 0)
		r = serve(&s, e);
	return r > 0 ? 0 : r;
}
