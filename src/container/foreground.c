/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A signal to the foreground process group of a terminal, as its keys would send it. The kernel sends it to the whole group at
 * once when the group's leader lives (Linux 6.9); else each member gets it by its own pidfd, until there is none without.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/procfd.h"
#include "linux/procfs.h"

#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1u << 2)
#endif

enum { ROUNDS = 10 };

struct signalled {
	pid_t pid;
	unsigned long long start_time;
};

struct foreground {
	const struct container *c;
	int id, sig;
	struct signalled *done;
	size_t n_done, max_done;
};

static bool is_done(const struct foreground *g, pid_t pid, unsigned long long start_time)
{
	for (size_t i = 0; i < g->n_done; i++)
		if (g->done[i].pid == pid && g->done[i].start_time == start_time)
			return true;
	return false;
}

static int note_done(struct foreground *g, pid_t pid, unsigned long long start_time)
{
	if (g->n_done == g->max_done) {
		size_t max = g->max_done ? 2 * g->max_done : 16;
		struct signalled *more = reallocarray(g->done, max, sizeof(*more));

		if (!more)
			return -ENOMEM;
		g->done = more;
		g->max_done = max;
	}
	g->done[g->n_done++] = (struct signalled){pid, start_time};
	return 0;
}

/* 1: it is of the group, and got the signal now. whole: the group, of which it is the leader. */
static int signal_member(struct foreground *g, pid_t pid, bool whole)
{
	_cleanup_close_ int pidfd = pidfd_open_process(pid);
	struct proc_stat st;
	int r;

	if (pidfd < 0 || proc_read_stat(pid, &st) < 0 || st.pgrp != g->id || is_done(g, pid, st.start_time))
		return 0;
	if (pidfd_wait_exit(pidfd, 0) != 0)
		return 0; /* what was read may be of another process */
	r = (int)syscall(SYS_pidfd_send_signal, pidfd, g->sig, NULL, whole ? PIDFD_SIGNAL_PROCESS_GROUP : 0);
	if (r < 0)
		return errno == ESRCH ? 0 : -errno;
	r = note_done(g, pid, st.start_time);
	return r < 0 ? r : 1;
}

/* How many of the container's processes got it in this round. */
static int signal_round(struct foreground *g, const pid_t *pids, size_t n)
{
	int count = 0;

	for (size_t i = 0; i < n; i++) {
		int r = signal_member(g, pids[i], false);

		if (r < 0)
			return r;
		count += r;
	}
	return count;
}

/* 1: all of them, by the leader. */
static int signal_whole(struct foreground *g, const pid_t *pids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == g->id) {
			int r = signal_member(g, pids[i], true);

			return r == -EINVAL ? 0 : r; /* the kernel is older */
		}
	return 0;
}

static int signal_group(struct foreground *g, struct error *e)
{
	bool any = false;

	for (int i = 0; i < ROUNDS; i++) {
		_cleanup_free_ pid_t *pids = NULL;
		size_t n;
		int r = container_pids(g->c, false, &pids, &n, e);

		if (r < 0)
			return r;
		if (i == 0 && signal_whole(g, pids, n) == 1)
			return 0;
		r = signal_round(g, pids, n);
		if (r < 0)
			return error_errno(e, r, "signal the foreground process group");
		if (r == 0)
			break;
		any = true;
	}
	return any ? 0
		   : error_set(e, -ESRCH, ERROR_STATE,
			     "the terminal's foreground process group has no process in container %s",
			     g->c->id);
}

int container_kill_foreground(struct container *c, pid_t pid, int sig, struct error *e)
{
	struct foreground g = {.c = c, .sig = sig};
	struct proc_stat st;
	int r = proc_read_stat(pid, &st);

	if (r < 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running");
	if (st.tty_nr == 0)
		return error_set(e, -ENOTTY, ERROR_STATE, "the process has no terminal");
	if (st.tpgid <= 0)
		return error_set(e, -ESRCH, ERROR_STATE, "its terminal has no foreground process group");
	g.id = st.tpgid;
	r = signal_group(&g, e);
	free(g.done);
	return r;
}
