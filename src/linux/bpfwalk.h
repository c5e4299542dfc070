/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that the kernel keeps of its objects and shows in no file: a BPF iterator of ours goes over them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/util.h"

enum { BPF_WALK_FIELDS = 20 };

/* What is walked over. */
struct bpf_objects {
	const char *
		kind; /* "bpf_map", "udp", "task": all of the machine or of our namespace; "task_file": one file, */
	int tid, fd; /* of this thread (as we see it), with this number */
};
/* A member of a struct of the kernel, of 4 or 8 bytes. The last one may be of more: what lies behind it, in the values that are left. */
struct bpf_field {
	const char *type, *member;
	unsigned size;
	unsigned
		from; /* n > 0: the struct is where field n - 1 points to; 0: it is the object, or what that begins with */
	const char *inside; /* the pointer is not to the struct but to this member of it; NULL: it is */
	unsigned plus;	    /* so many bytes behind the member's beginning */
};
enum { BPF_FROM_TASK = 100 /* of a file: the task that has it */ };
struct bpf_row {
	uint64_t values[BPF_WALK_FIELDS];
};

/* These members of all objects. What lies behind a pointer that leads nowhere is 0. -EOPNOTSUPP: this kernel does not have the
 * iterator, or does not say where the members are; -EPERM. */
int bpf_walk(const struct bpf_objects *what, const struct bpf_field *fields, size_t n, struct arena *a,
	struct bpf_row **ret, size_t *ret_n) _must_check_;

/* The same in two steps, for who looks several times: a descriptor (or a negative errno), and what there is now. */
int bpf_walk_open(const struct bpf_objects *what, const struct bpf_field *fields, size_t n) _must_check_;
int bpf_walk_read(int walk, struct arena *a, struct bpf_row **ret, size_t *ret_n) _must_check_;

/* For who writes the program himself. */
struct bpf_place {
	const char *name,
		*member; /* of a struct, or of an unnamed part of it; NULL: it is a function or a variable */
	int at;		 /* the member's offset, or the number of the function's or variable's type */
};
/* Fills "at" of all of them; -EOPNOTSUPP: this kernel does not say where one is. */
int bpf_places(struct bpf_place *places, size_t n) _must_check_;
