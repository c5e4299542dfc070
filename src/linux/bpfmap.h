/* SPDX-License-Identifier: Apache-2.0 */
/* bpf(2), as far as maps are concerned. Results: 0 or a descriptor, or a negative errno. */
#pragma once

#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/util.h"

int bpf_map_describe(int fd, struct bpf_map_info *ret) _must_check_;
/* By type, sizes, max_entries, map_flags and name; the descriptor is for reading and writing. */
int bpf_map_make(const struct bpf_map_info *m) _must_check_;
/* Another description of the same map; flags: BPF_F_RDONLY, BPF_F_WRONLY. Wants CAP_SYS_ADMIN of the machine. */
int bpf_map_by_id(uint32_t id, uint32_t flags) _must_check_;
int bpf_map_freeze(int fd) _must_check_;
/* All elements: keys and values one behind the other, room for max_entries of them. */
int bpf_map_read(int fd, uint32_t max_entries, void *keys, void *values, uint32_t *ret_n) _must_check_;
int bpf_map_write(int fd, const void *keys, const void *values, uint32_t n) _must_check_;

/* Who has a map: "users" are open descriptions and pins, "others" programs and maps of maps. */
struct bpf_users {
	uint32_t id;
	uint64_t users, others;
};
/* Of all maps of the machine, by a program that runs in the kernel for it. -EOPNOTSUPP: this kernel cannot tell. */
int bpf_read_users(struct arena *a, struct bpf_users **ret, size_t *ret_n) _must_check_;
