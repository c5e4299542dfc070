/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copying of pages: which there are (pages-scan.c), how their contents come into the image (pages-copy.c), and who does it
 * when, for all processes (pages.c).
 */
#pragma once

#include <pthread.h>

#include "checkpoint/native/dump.h"
#include "checkpoint/native/shared-pages.h"

enum { PAGE = IMAGE_PAGE_SIZE };

/* One reader a worker; p, the descriptors and what follows are those of the process that it reads just now. */
struct page_reader {
	struct dump *d;
	struct dump_proc *p;
	struct arena *arena;
	int pagemap_fd, mem_fd;
	bool no_scan;	   /* this kernel has no PAGEMAP_SCAN */
	bool relative;	   /* the mapping has pages that relatives have, too */
	bool late;	   /* those mappings that a snapshot was to hold, and only those */
	bool held;	   /* the descriptors are of one: there is no process */
	uint64_t from, to; /* the part of the address space that is asked for */
	struct image_stage *stage;
	uint64_t
		since; /* its address space in the parent or the last round, where pages can be named; 0: all is copied */
	bool unchanged; /* the pages that are being copied are as they were there */
};

/* A process, or a part of a large one: so that several readers have something to do also if there is one process only. */
struct page_slice {
	struct dump_proc *p;
	uint64_t from, to;
};

/* A part of a large file. */
struct page_content {
	uint64_t space, from, to;
	int fd;	   /* our own duplicate */
	bool last; /* of that: it is closed with this one */
};

/* The copying of all processes, by as many readers as there are helpers. */
struct page_job {
	struct page_reader readers[1 + CREW_HELPERS]; /* the first one is that of the main thread */
	struct page_slice *slices;
	size_t n_slices;
	struct page_content *contents; /* what dump_contents() has left to the helpers */
	size_t n_contents, max_contents;
	pthread_mutex_t lock; /* of all below */
	struct shared_pages shared;
	enum pages_phase {
		PAGES_STOPPED, /* all that snapshots will not hold */
		PAGES_REST,    /* what they were to hold, and do not */
		PAGES_HELD,    /* what they hold: the tasks may run */
	} phase;
	uint64_t done;
};

/* Opens what a process's pages are read by, all of it; closes that. */
int pages_open(struct page_reader *pr, struct dump *d, struct dump_proc *p, struct error *e) _must_check_;
void pages_close(struct page_reader *pr);
/* Bytes of pr->p. */
int pages_read(
	struct page_reader *pr, uint64_t start, void *buffer, size_t len, struct error *e) _must_check_;
/* All private pages of pr->p in its part, or those of late mappings there, into the image. What is a guard region gets into the
 * mapping's record. */
int pages_scan(struct page_reader *pr, struct error *e) _must_check_;
/* The pages from start to end, all of which are there; those that a relative has given already only by name. */
int pages_copy(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e) _must_check_;
/* For the progress: so much more is done; is to do. */
void pages_count(struct dump *d, uint64_t bytes);
void pages_expect(struct dump *d, uint64_t bytes);
/* pages-since.c: such pages that are as they were in pr->since. pages_copy() has those that no relative has given named. */
int pages_unchanged(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e) _must_check_;
int pages_name(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e) _must_check_;
