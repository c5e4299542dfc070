/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that the kernel keeps of its objects and shows in no file: a BPF iterator of ours goes over them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/util.h"

enum { BPF_WALK_FIELDS = 4 };

/* A member of a struct of the kernel, of 4 or 8 bytes; all structs begin where the object begins. */
struct bpf_field {
	const char *type, *member;
	unsigned size;
};
struct bpf_row {
	uint64_t values[BPF_WALK_FIELDS];
};

/* These members of all objects of a kind ("bpf_map", "udp"): of the machine, or where it makes a difference of our network
 * namespace. -EOPNOTSUPP: this kernel does not have the iterator, or does not say where the members are; -EPERM. */
int bpf_walk(const char *kind, const struct bpf_field *fields, size_t n, struct arena *a,
	struct bpf_row **ret, size_t *ret_n) _must_check_;
