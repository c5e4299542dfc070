/* SPDX-License-Identifier: Apache-2.0 */
/* Rings of Linux AIO (io_setup(2)), which are mappings of the memory that has them (docs/adr/0059-linux-aio.md). */
#pragma once

#include "checkpoint/native/batch.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"
#include "linux/bpfaio.h"

bool aio_is_ring(const struct proc_vma *v);
/* Of a process that is stopped: 0: no request is in flight that could still write to its memory. -EAGAIN: one is, or that is not known;
 * -ENOMEM. Waits a moment for those that will end. */
int aio_settle(struct dump *d, const struct dump_proc *p) _must_check_;
/* Completes the records of its rings, or notes obstacles. */
int aio_dump(struct dump *d, struct dump_proc *p, struct error *e) _must_check_;

/* What of the record makes no sense; NULL: nothing. "seen": of the process's others. */
struct aio_ids {
	bool has[AIO_CONTEXTS];
};
const char *aio_wrong(const St__Process *p, const St__Vma *v, struct aio_ids *seen);
/* What io_setup is to be asked for, so that a ring for so many requests has this length again; 0: with so many CPUs it has not. */
uint64_t aio_requests_for(uint64_t length, uint64_t requests, uint32_t n_cpus);
/* In the parent, before anything is made: does this machine make rings of these sizes, and so many? */
int aio_check_room(struct restore *r, struct error *e) _must_check_;
/* How many calls and how much data the next ones need, of each ring and for all of them. */
uint64_t aio_ops(const St__Vma *v);
uint64_t aio_data(const St__Vma *v);
enum { AIO_OPS = 2, AIO_DATA = 16 << 10 };
/* Memory in the place of a ring; and the rings, once all memory is in its places. */
void op_aio_place(struct batch *b, const St__Vma *v);
void op_aio_rings(struct batch *b, const struct restore *r, const St__Process *p);
