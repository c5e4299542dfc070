/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/bpfmap.h"

#include <string.h>

#include "linux/bpfcode.h"
#include "linux/bpfwalk.h"

int bpf_map_describe(int fd, struct bpf_map_info *ret)
{
	struct bpf_map_info info = {};
	union bpf_attr attr = {.info = {.bpf_fd = (uint32_t)fd,
				       .info_len = sizeof(info),
				       .info = (uint64_t)(uintptr_t)&info}};
	int r = bpf_command(BPF_OBJ_GET_INFO_BY_FD, &attr);

	if (r == 0)
		*ret = info;
	return r;
}

int bpf_map_make(const struct bpf_map_info *m)
{
	union bpf_attr attr = {.map_type = m->type,
		.key_size = m->key_size,
		.value_size = m->value_size,
		.max_entries = m->max_entries,
		.map_flags = m->map_flags};

	memcpy(attr.map_name, m->name, MIN(sizeof(attr.map_name), sizeof(m->name)));
	return bpf_command(BPF_MAP_CREATE, &attr);
}

int bpf_map_by_id(uint32_t id, uint32_t flags)
{
	union bpf_attr attr = {.map_id = id, .open_flags = flags};

	return bpf_command(BPF_MAP_GET_FD_BY_ID, &attr);
}

int bpf_map_freeze(int fd)
{
	union bpf_attr attr = {.map_fd = (uint32_t)fd};

	return bpf_command(BPF_MAP_FREEZE, &attr);
}

/* With room for all of them, so one call will do; it ends in ENOENT, as there are no more. */
int bpf_map_read(int fd, uint32_t max_entries, void *keys, void *values, uint32_t *ret_n)
{
	char next[512]; /* where to go on: a key, at most */
	union bpf_attr attr = {.batch = {.map_fd = (uint32_t)fd,
				       .keys = (uint64_t)(uintptr_t)keys,
				       .values = (uint64_t)(uintptr_t)values,
				       .count = max_entries,
				       .out_batch = (uint64_t)(uintptr_t)next}};
	int r = bpf_command(BPF_MAP_LOOKUP_BATCH, &attr);

	if (r == 0 || r == -ENOENT)
		*ret_n = attr.batch.count;
	return r == -ENOENT ? 0 : r;
}

int bpf_map_write(int fd, const void *keys, const void *values, uint32_t n)
{
	union bpf_attr attr = {.batch = {.map_fd = (uint32_t)fd,
				       .keys = (uint64_t)(uintptr_t)keys,
				       .values = (uint64_t)(uintptr_t)values,
				       .count = n}};
	int r = n == 0 ? 0 : bpf_command(BPF_MAP_UPDATE_BATCH, &attr);

	return r == 0 && n > 0 && attr.batch.count != n ? -EIO : r;
}

int bpf_read_users(struct arena *a, struct bpf_users **ret, size_t *ret_n)
{
	enum { ID, REFERENCES, USERS };
	static const struct bpf_field fields[] = {
		[ID] = {"bpf_map", "id", 4},
		[REFERENCES] = {"bpf_map", "refcnt", 8},
		[USERS] = {"bpf_map", "usercnt", 8},
	};
	struct bpf_row *rows;
	struct bpf_users *all;
	size_t n;
	int r = bpf_walk(&(struct bpf_objects){"bpf_map"}, fields, ARRAY_SIZE(fields), a, &rows, &n);

	if (r < 0)
		return r;
	all = arena_array(a, MAX(n, (size_t)1), sizeof(*all));
	if (!all)
		return -ENOMEM;
	/* One reference is the iterator's, and each user has one. */
	for (size_t i = 0; i < n; i++)
		all[i] = (struct bpf_users){(uint32_t)rows[i].values[ID], rows[i].values[USERS],
			rows[i].values[REFERENCES] - rows[i].values[USERS] - 1};
	*ret = all;
	*ret_n = n;
	return 0;
}
