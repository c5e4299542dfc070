/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process whose end the supervisor waits for: a container's init, or one that exec made. It need not be our child: the kernel
 * keeps the status for who holds a pidfd (Linux 6.15), and before it is reaped /proc has it.
 */
#pragma once

#include <sys/types.h>

#include "sandbox/loop.h"

struct process;

struct process_waiter {
	/* It has exited. The waiter is out of the list already. */
	void (*exited)(struct process_waiter *w, const struct process *p);
	struct process_waiter *next;
};

struct process {
	struct loop *loop;
	struct loop_fd pidfd; /* .fd: -EBADF when it is not known, or has exited */
	pid_t pid;	      /* 0: none */
	uint64_t start_time;
	int inside; /* its number in the container; likewise */
	char *id;   /* of its container: only of those in supervisor.others */
	bool exited, status_known;
	int status;	      /* wait(2) */
	int64_t exited_at_ns; /* CLOCK_REALTIME, when we learned of it */
	struct process_waiter *waiters;
	void (*ended)(struct process *p, void *arg); /* before the waiters; NULL */
	void *arg;
	struct process *next;
};

/* Begins to watch pid if it is the process of that start time (0: whatever it is). 1: there is no such process any more. */
int process_watch(struct process *p, struct loop *l, pid_t pid, uint64_t start_time) _must_check_;
/* Learns of the end if there was one, now. */
void process_look(struct process *p);
/* A child of ours has ended: what waitid() said. */
void process_reaped(struct process *p, int status);
void process_wait(struct process *p, struct process_waiter *w);
void process_unwait(struct process *p, struct process_waiter *w);
void process_done(struct process *p);
