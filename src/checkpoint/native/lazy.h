/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handler of a lazy restore: a process of ours that fills the private memory of a container's processes while they run
 * (docs/adr/0046-lazy-restore.md). restore-lazy.c registers the memory with userfaultfd(2) and starts it.
 *
 * Two processes hold the userfaultfds, and each kills the container when the other one is gone without having finished: with
 * the last descriptor the kernel would give zeros for what is missing.
 */
#pragma once

#include <pthread.h>

#include "container/container.h"
#include "image/image.h"

/* ---- lazy-ranges.c: what of an address space is still to be filled ---- */
struct lazy_range {
	uint64_t start, end;
	uint64_t address; /* of "start", in the image's address space: another one after mremap() */
};
/* Sorted, disjoint. The functions return -ENOMEM at worst. */
struct lazy_ranges {
	struct lazy_range *v;
	size_t n, max;
};
void lazy_ranges_done(struct lazy_ranges *r);
/* Instead of what is there. */
int lazy_ranges_add(struct lazy_ranges *r, struct lazy_range range) _must_check_;
int lazy_ranges_cut(struct lazy_ranges *r, uint64_t start, uint64_t end) _must_check_;
/* mremap(2). */
int lazy_ranges_move(struct lazy_ranges *r, uint64_t from, uint64_t to, uint64_t len) _must_check_;
/* The range that holds the address, or the first one behind it; r->n: none. */
size_t lazy_ranges_find(const struct lazy_ranges *r, uint64_t address);

/* ---- the handler ---- */
enum { LAZY_THREADS = 2, LAZY_HINTS = 16 };

struct lazy_memory {
	int uffd;	/* -EBADF: complete, or the process is gone */
	int pagemap;	/* /proc/PID/pagemap; -EBADF: of a fork's child */
	uint64_t space; /* in the image */
	struct lazy_ranges missing;
	unsigned claims;  /* threads that are filling a part of it */
	uint64_t *faults; /* that could not be answered yet */
	size_t n_faults, max_faults;
	unsigned waited;
};

/* What one thread is about to fill: cut from "missing". Events that change the memory put back what is left of it. */
struct lazy_claim {
	struct lazy_memory *m; /* NULL: none, or taken back */
	uint64_t start, end;   /* moves on */
	uint64_t address, offset;
	unsigned layer;
	unsigned waited; /* for memory: see lazy_may_wait() */
};

struct lazy_hint { /* a fault was there: what comes next may be wanted soon */
	struct lazy_memory *m;
	uint64_t address, left;
};

struct lazy {
	const struct image *image;
	int image_dir;	      /* for the working set; -EBADF: it is not kept */
	int dir_fd, state_fd; /* the container's state directory and its file "filling" */
	int init_pidfd;
	const struct cgroup *cgroup;
	bool is_waited_for; /* the program runs when all is there */
	bool joins_pids;    /* the container does not end with its init */

	struct lazy_memory **memories;
	size_t n_memories, max_memories;

	/* The order of the locks. Whoever fills memory reads "events"; who reads an event, writes it: while a task waits for
	 * its madvise() or munmap() to be noticed, nothing is filled, and then with what it has changed in mind. */
	pthread_rwlock_t events;
	pthread_mutex_t
		lock; /* of all that follows, and of the lists of memories and what is missing in them */
	pthread_cond_t more;
	struct lazy_claim claims[LAZY_THREADS];
	struct lazy_hint hints[LAZY_HINTS];
	size_t n_hints;
	struct image_touched *order; /* of the last restore */
	size_t n_order, at_order;
	struct image_touched *touched; /* by faults: NULL: not noted */
	size_t n_touched;
	uint64_t last_fault_us; /* 0: none yet */
	bool failed;
	struct error error;

	int poll_fd, wake_fd; /* of the thread that answers faults */
};

#define LAZY_FAILURE "fill the memory of a process"

/* lazy-fill.c */
void *lazy_fill_thread(void *arg); /* a struct lazy_thread */
struct lazy_thread {
	struct lazy *l;
	struct lazy_claim *claim;
	pthread_t thread;
};
/* Under the lock: "claim" is given back, what is left of it is missing again. */
int lazy_give_back(struct lazy_claim *claim) _must_check_;
/* The cgroup has reached its limit: whether to try again, after a while. */
bool lazy_may_wait(unsigned *waited);
bool lazy_is_complete(const struct lazy_memory *m);
void lazy_fail(struct lazy *l, const struct error *e);
/* Into the memory, as far as it is missing there; *done grows. -EAGAIN: an event is to be read first; -ESRCH: the process is gone. */
int lazy_put(const struct lazy_memory *m, uint64_t to, const uint8_t *from, uint64_t len,
	uint64_t *done) _must_check_;

/* How many of the "len" bytes can be filled; 0: none of the next *ret_taken. */
uint64_t lazy_vacant(const struct lazy_memory *m, uint64_t at, uint64_t len, uint64_t *ret_taken);
uint64_t lazy_now_us(void);

/* lazy-events.c: answers faults and follows what processes do, until all is filled, or fails. Guard: a pidfd. */
int lazy_serve(struct lazy *l, int guard, struct error *e) _must_check_;
/* Takes ownership of "uffd", which is non-blocking, and of "pagemap"; "missing" is taken over. */
struct lazy_memory *lazy_add_memory(
	struct lazy *l, int uffd, int pagemap, uint64_t space, struct lazy_ranges *missing);

/* lazy-process.c: starts the two processes. *ret_pid is to be waited for with lazy_started(), which also fails if they could not
 * be made. Descriptors of l stay the caller's. */
int lazy_start(struct lazy *l, pid_t *ret_pid, struct error *e) _must_check_;
int lazy_started(pid_t pid, struct error *e) _must_check_;
