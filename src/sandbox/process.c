/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/process.h"

#include <stdlib.h>
#include <time.h>

#include "base/fd.h"
#include "linux/procfd.h"

static void end(struct process *p)
{
	struct timespec now;
	int fd = p->pidfd.fd;

	clock_gettime(CLOCK_REALTIME, &now);
	p->exited_at_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
	p->exited = true;
	loop_forget(p->loop, &p->pidfd);
	close_p(&fd);
	if (p->ended)
		p->ended(p, p->arg);
	while (p->waiters) {
		struct process_waiter *w = p->waiters;

		p->waiters = w->next;
		w->exited(w, p);
	}
}

void process_reaped(struct process *p, int status)
{
	if (p->exited)
		return;
	p->status = status;
	p->status_known = true;
	end(p);
}

void process_look(struct process *p)
{
	if (p->pidfd.fd < 0 || pidfd_wait_exit(p->pidfd.fd, 0) == 0)
		return;
	p->status_known = pidfd_exit_status(p->pidfd.fd, &p->status) == 0;
	end(p);
}

static void ready(void *arg, uint32_t events)
{
	process_look(arg);
}

int process_watch(struct process *p, struct loop *l, pid_t pid, uint64_t start_time)
{
	_cleanup_close_ int fd = pidfd_open_process(pid);
	uint64_t start;
	int r;

	p->loop = l;
	p->pidfd = (struct loop_fd){-EBADF, ready, p};
	p->pid = pid;
	p->start_time = start_time;
	if (fd == -ESRCH)
		return 1;
	if (fd < 0)
		return fd;
	/* read after the pidfd is ours: a pid that has been reused has another one */
	if (start_time && (process_start_time(pid, &start) < 0 || start != start_time))
		return 1;
	r = loop_watch(l, &p->pidfd, fd, EPOLLIN);
	if (r == 0)
		(void)take_fd(&fd);
	return r;
}

void process_wait(struct process *p, struct process_waiter *w)
{
	w->next = p->waiters;
	p->waiters = w;
}

void process_unwait(struct process *p, struct process_waiter *w)
{
	for (struct process_waiter **i = &p->waiters; *i; i = &(*i)->next)
		if (*i == w) {
			*i = w->next;
			return;
		}
}

/* Who still waits hears that there is nothing to be known. */
void process_done(struct process *p)
{
	int fd = p->pidfd.fd;

	if (p->loop && !p->exited) {
		p->ended = NULL;
		end(p);
	} else if (p->loop) {
		loop_forget(p->loop, &p->pidfd);
		close_p(&fd);
	}
	free(p->id);
}
