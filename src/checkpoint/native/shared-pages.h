/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that fork() has left to be shared by relatives until one of them writes. The page map names the frame of each page:
 * the first process in which a frame is seen owns it, others that have it at the same address refer to that one.
 */
#pragma once

#include "checkpoint/native/dump.h"

struct shared_frame {
	uint64_t frame; /* as in the page map, or of the swap; 0: unused */
	uint64_t address, space;
};

struct shared_pages {
	struct shared_frame *table; /* open addressing */
	size_t n, size;		    /* a power of two */
	uint64_t zero_frame;	    /* the kernel's page of zeros, which all have */
};

void shared_pages_init(struct shared_pages *s);
void shared_pages_done(struct shared_pages *s);
/* Can it have such pages, as far as smaps tells? */
bool shared_pages_possible(const struct dump *d, const struct proc_vma *v);
/* "entry" of /proc/PID/pagemap: is the page in swap, or on its way to another frame? */
bool shared_pages_is_swapped(uint64_t entry);
/* The address space that has this page already, or 0: it is new (and now belongs to "space"), or it belongs to one process only. Of a
 * swapped page that is a guess. */
uint64_t shared_pages_owner(struct shared_pages *s, uint64_t entry, uint64_t address, uint64_t space);
