/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Remote syscall batches. A batch is an array of system calls that a small position-independent loop
 * (arch/x86_64/loop.S) executes inside a task: injected into a stopped task to ask it what only it can say, and run by
 * the stubs of a restore once their own memory is gone.
 */
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include "base/error.h"

enum op_flags {
	OP_MAY_FAIL = 1, /* store the result and go on */
	OP_EXPECT = 2,	 /* anything but the preset result ends the process */
	OP_CHILD = 4,	 /* clone: the child's stack holds {first op, count} of its own batch */
	OP_IA32 = 16,	 /* by its i386 number; arguments below 4 GiB */
	OP_CHECK = 32,	 /* it goes on, and who made the batch looks at the result (batch_check) */
	OP_WAIT = 8,	 /* futex wait: repeat while *(u32 *)args[0] == args[2] */
};

struct op {
	uint32_t nr, flags;
	uint64_t args[6];
	int64_t result;
};
_Static_assert(sizeof(struct op) == 64, "loop.S knows this layout");

/* Where the loop leaves a failed op before it ends the process. */
struct batch_control {
	uint64_t failed_op; /* address of the op; 0: none failed */
	int64_t failed_result;
};

extern const char batch_loop_start[], batch_loop_syscall[], batch_loop_end[];
#define BATCH_LOOP_SIZE ((size_t)(batch_loop_end - batch_loop_start))

/* A batch under construction, in local memory: ops and the data they point to. Addresses that ops use are those of
 * the place where the batch will run: batch_address() translates. Never allocates: memory is given. */
struct batch {
	struct op *ops;
	size_t n_ops, max_ops;
	char *data;
	size_t n_data, max_data;
	uint64_t remote;     /* address that data[0] has where the batch runs */
	uint64_t remote_ops; /* and ops[0] */
	bool overflow;	     /* something did not fit: checked once, at the end */
};

/* Appends a call; returns it (a scratch op if the batch is full: overflow is then set). */
struct op *batch_op(struct batch *b, uint32_t flags, uint32_t nr, uint64_t a0, uint64_t a1, uint64_t a2,
	uint64_t a3, uint64_t a4, uint64_t a5);
/* Room for n bytes of data (zeroed, 16-aligned); *ret_remote is its address where the batch runs. */
void *batch_data(struct batch *b, size_t n, uint64_t *ret_remote);
/* The same, filled. Returns the remote address. */
uint64_t batch_bytes(struct batch *b, const void *p, size_t n);

#define batch_call(b, flags, nr, ...) batch_call_(b, flags, nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define batch_call_(b, flags, nr, a0, a1, a2, a3, a4, a5, ...)                                               \
	batch_op(b, flags, nr, (uint64_t)(a0), (uint64_t)(a1), (uint64_t)(a2), (uint64_t)(a3),               \
		(uint64_t)(a4), (uint64_t)(a5))

/* In a program that must not end by it: what fails in the loop is an error outside, and the loop goes on to its end. */
void batch_fail_outside(struct batch *b);
int batch_check(const struct batch *b, int pid, struct error *e) _must_check_;

/* The name of a system call of a batch, for messages ("mmap"), or "syscall 123". */
const char *batch_syscall_name(uint32_t nr, char buf[32]);
