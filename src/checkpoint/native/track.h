/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages have been written since (docs/adr/0045-pre-copy.md). Anonymous private mappings are registered with a userfaultfd whose
 * write protection is lifted by the kernel itself (UFFD_FEATURE_WP_ASYNC); PAGEMAP_SCAN tells which pages are protected still,
 * and protects again. Nobody waits for anybody: the program is slowed down by a fault for each page that it writes first.
 *
 * Invariant: a page that is protected has the contents that the last image has for it, or the last round. Whatever loses the
 * protection (fork, mremap, a new mapping, an exec, the death of who holds the userfaultfd) makes the page one that has been written.
 *
 * The descriptors are made in the processes, as a userfaultfd is one of who makes it, and closed there at once; we have
 * duplicates. Between two commands a process of ours holds them (track-hold.c).
 */
#pragma once

#include "checkpoint/native/dump.h"

/* The memory of one process. */
struct track_mm {
	pid_t pid;
	uint64_t start_time;
	int uffd;
	uint64_t
		space; /* its address space in the image (or round) since which it has been watched; 0: that has none of it */
};

/* What smaps says of mappings with these bits (track-flags.c). */
struct track_word {
	uint64_t bits;
	uint32_t letters; /* enum vma_flag */
	uint64_t protection_key;
};

struct vma_bits;

struct track {
	struct track_mm *mms;
	size_t n, allocated;
	uint64_t image; /* checksum of that image's manifest; 0: none */
	struct track_word words[64];
	size_t n_words;
	int bits_program, iterator; /* -EBADF: none */
	bool tells_empty;	    /* see track_scan_written() */
	struct vma_bits *before;    /* in an arena of the caller's */
	size_t n_before;
};
#define TRACK_INIT .bits_program = -EBADF, .iterator = -EBADF

void track_done(struct track *t);
static inline void track_done_p(struct track *t)
{
	track_done(t);
}

/* 0; or REFUSED, with what this kernel lacks. */
int track_check_kernel(struct error *e) _must_check_;
/* The memory of this process; NULL: it is not watched. */
struct track_mm *track_find(const struct track *t, const struct dump_proc *p);
/* Could this mapping be watched at all? */
bool track_is_watchable(const struct proc_vma *v);
/* Is it us who watch it (and not the program, or somebody else)? */
bool track_owns(const struct track *t, const struct dump_proc *p, const struct proc_vma *v);

/* A range of pages that are there. */
struct track_range {
	struct dump_proc *proc;
	uint64_t start, end;
	bool written; /* or new */
};
struct track_ranges {
	struct track_range *v;
	size_t n, allocated;
};
void track_ranges_done(struct track_ranges *r);

/* The tasks of d are stopped: watches all that can be watched from now on, and tells what there is of it. A process for which
 * that is not possible is left out. */
int track_round(struct dump *d, struct track *t, struct track_ranges *ret, struct error *e) _must_check_;
/* Around that, for --pre-copy: the dictionary of flags. */
void track_learn_before(struct dump *d, struct track *t);
void track_learn(struct dump *d, struct track *t);
/* Just before the last freeze; and then, instead of proc_read_maps(). 1: that has to be done. */
void track_prepare_maps(struct track *t);
int track_read_maps(struct dump *d, struct dump_proc *p, struct arena *a) _must_check_;
/* Regions of a watched mapping that are written or empty, as far as there are page tables. It takes a tenth of the time that it takes
 * to be told which pages there are. -EPERM: the mapping is not watched. Only if tells_empty. */
struct page_region;
int track_scan_written(int pagemap_fd, uint64_t start, uint64_t end, struct page_region *regions,
	size_t n_regions) _must_check_;
/* Does this kernel's scan do so, and of all that has been written? It is tried out. */
bool track_try_empty(void);
/* The tasks run: bytes that have been written since, about. */
uint64_t track_peek(struct dump *d, const struct track *t);
/* The surgeon has died while descriptors were in the processes: closes one there (by the guard). */
void track_undo(struct dump_journal *j);

/* track-hold.c: a process that holds the descriptors, and ends with the container. */
int track_hold(struct container *c, const struct track *t, struct error *e) _must_check_;
/* What it holds; nothing if there is none. drop: it ends, and lets go of them. */
void track_fetch(struct container *c, bool drop, struct track *ret);
