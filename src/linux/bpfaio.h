/* SPDX-License-Identifier: Apache-2.0 */
/* Rings of Linux AIO (io_setup(2)) as the kernel has them: no file shows more than where they are mapped. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/util.h"

struct aio_context {
	uint64_t address, length; /* of the ring's mapping; the address is what the program calls it by */
	uint32_t id;		  /* its number in the kernel's table */
	uint32_t max_requests;	  /* what io_setup was asked for */
	uint32_t n_events;	  /* for so many the ring has room */
	uint32_t tail;		  /* where the next event will be written */
	uint32_t completed;	  /* events that it knows nothing of whether they have been read */
	int64_t in_flight;	  /* requests that have not ended */
	bool cancellable; /* there are such among them as can be cancelled: they wait for something to happen */
};

enum { AIO_CONTEXTS = 256 /* so many of one memory are looked at */ };

/* Those of the memory that the thread has. -EOPNOTSUPP: this kernel does not let us look; -EPERM; -E2BIG: there are, or were, more at
 * a time than are looked at. The first look of a process takes some milliseconds, later ones (also of its forks) some ten
 * microseconds. */
int aio_read_contexts(pid_t tid, struct arena *a, struct aio_context **ret, size_t *ret_n) _must_check_;
