/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of POSIX queues (res/mqueue-messages.c). One can only be looked at by taking it: so all are taken out of a queue and
 * put back at once, while the tasks stand still. What is out just now is in shared memory, for the guard.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "base/util.h"

enum { QUEUE_MESSAGES = 8192, QUEUE_BYTES = 16 << 20 };

struct dump_queue_journal {
	bool taken;
	pid_t pid;	/* a process that has it open, */
	int fd;		/* by this; -1: of whose ipc namespace, */
	char name[256]; /* it has this name, without "/" */
	bool putting;	/* all of it is here, and goes back */
	uint32_t total; /* what was in it: messages, */
	uint32_t bytes; /* and their bytes */
	uint32_t n, sent;
	uint64_t used; /* of data */
	uint32_t lengths[QUEUE_MESSAGES], priorities[QUEUE_MESSAGES];
	char data[QUEUE_BYTES];
};

/* Bytes in the queue, and whether somebody waits to be notified. */
int queue_read_state(int fd, uint32_t *ret_bytes, bool *ret_notified) _must_check_;
/* May so much be taken, with room for one message more? */
bool queue_fits(uint64_t messages, uint64_t bytes, uint64_t message_size);
/* All out of it, and in again: of a descriptor that is open for both and does not block. The second must follow the first,
 * whatever happens. */
int queue_take(int fd, struct dump_queue_journal *j, struct error *e) _must_check_;
int queue_put(int fd, struct dump_queue_journal *j, struct error *e) _must_check_;
/* A child of the guard: puts back what a surgeon had taken out when it died. Stays in the queue's ipc namespace. */
void dump_undo_queue(struct dump_queue_journal *j);
