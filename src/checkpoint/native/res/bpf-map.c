/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BPF maps that are open and that nobody else has: no loaded program, no other map, no pin, no process outside of the
 * container. That the kernel's own counts of references say (linux/bpfmap.h). Kept are maps whose elements can be read as a whole and
 * written back, for who may make them: with CAP_BPF, outside of user namespaces. Several descriptions of a map, also
 * such as only read or only write, are of one map again, whose id is another then.
 */
#include "checkpoint/native/res/res.h"

#include <linux/capability.h>
#include <string.h>

#include "base/fd.h"
#include "linux/bpfmap.h"
#include "linux/cpus.h"

enum {
	KEPT_FLAGS =
		BPF_F_NO_PREALLOC | BPF_F_ZERO_SEED | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG | BPF_F_MMAPABLE,
	CONTENTS_MAX = 48 << 20, /* a record has at most 64 MiB */
	ROOM_MAX = 1 << 30,	 /* of which only what is used is touched */
	KEY_MAX = 512,
};

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "bpf-map") || link_is_anon_inode(f, "[bpf-map]");
}

static bool has_each_cpu(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static bool is_kept(uint32_t type)
{
	return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_LPM_TRIE ||
	       has_each_cpu(type);
}

/* Of one element, as it is read and written. */
static uint64_t value_room(uint32_t type, uint32_t value_size, uint32_t cpus)
{
	return has_each_cpu(type) ? (value_size + 7ull) / 8 * 8 * cpus : value_size;
}

static bool may_make(const struct spec *s)
{
	const struct spec_capabilities *c = &s->process->capabilities;

	return !s->namespaces[NS_USER].present &&
	       (!s->process->has_capabilities || c->bounding & (1ull << CAP_BPF | 1ull << CAP_SYS_ADMIN));
}

static const char *wrong(const struct dump *d, const struct bpf_map_info *m, const char **remedy)
{
	*remedy = "add CAP_BPF to process.capabilities.bounding, without a user namespace";
	if (d->unprivileged || !may_make(d->c->spec))
		return "config.json does not let the container make one, so a restore would refuse it";
	*remedy = "close it before the checkpoint";
	if (!is_kept(m->type))
		return "of BPF maps only (per-CPU) hashes and arrays and LPM tries can be read and written "
		       "back as a "
		       "whole";
	if (m->map_flags & ~(uint32_t)KEPT_FLAGS || m->ifindex || m->map_extra)
		return "it has flags that this version does not know";
	if (m->btf_id)
		return "it has type information (BTF)";
	if (m->max_entries * (m->key_size + value_room(m->type, m->value_size, cpus_possible(NULL))) >
			ROOM_MAX ||
		(m->type == BPF_MAP_TYPE_ARRAY && (uint64_t)m->max_entries * m->value_size > CONTENTS_MAX))
		return "it is larger than this version keeps";
	return NULL;
}

static size_t descriptions(const struct dump *d, uint32_t id)
{
	size_t n = 0;

	for (size_t i = 0; i < d->n_files; i++)
		n += match(d, &d->files[i]) && d->files[i].info.bpf_map_id == id;
	return n;
}

static int who_else(struct dump *d, uint32_t id, const char **reason, struct error *e)
{
	int r = 0;

	if (!d->bpf_users)
		r = bpf_read_users(&d->arena, &d->bpf_users, &d->n_bpf_users);
	if (r == -ENOMEM)
		return error_errno(e, r, "BPF maps");
	*reason = "this kernel does not tell who else has it (no BTF, or no BPF iterators)";
	for (size_t i = 0; r == 0 && i < d->n_bpf_users; i++) {
		const struct bpf_users *u = &d->bpf_users[i];

		if (u->id != id)
			continue;
		*reason = u->others ? "a loaded BPF program uses it, or another map has it"
			  : u->users > descriptions(d, id) ? "somebody else has it: a process outside, a pin "
							     "in a bpffs, a socket's queue"
							   : NULL;
		break;
	}
	return 0;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = dump_duplicate(f);
	struct bpf_map_info m;
	const char *reason, *remedy = "close it before the checkpoint";
	int r;

	if (fd < 0 || bpf_map_describe(fd, &m) < 0)
		return 0; /* closed meanwhile */
	reason = wrong(d, &m, &remedy);
	r = reason ? 0 : who_else(d, m.id, &reason, e);
	if (r == 0 && reason)
		dump_refuse(d, f->proc, f->fd, "bpf map", reason, remedy, "BPF map %u (type %u, \"%s\")",
			m.id, m.type, m.name);
	return r;
}

static int copy_contents(struct dump *d, uint32_t id, St__BpfMap *m, struct error *e)
{
	uint64_t value = value_room(m->type, m->value_size, m->cpus);
	_cleanup_free_ char *keys = calloc(m->max_entries, m->key_size),
			    *values = calloc(m->max_entries, value);
	_cleanup_close_ int fd = -EBADF; /* the program's may be write-only */
	uint32_t n = 0;
	int r;

	if (!keys || !values)
		return error_errno(e, -ENOMEM, "contents of a BPF map");
	fd = bpf_map_by_id(id, BPF_F_RDONLY);
	r = fd < 0 ? fd : bpf_map_read(fd, m->max_entries, keys, values, &n);
	if (r < 0)
		return error_errno(e, r, "read BPF map %u", id);
	if (n * (m->key_size + value) > CONTENTS_MAX)
		return error_set(e, -EFBIG, ERROR_REFUSED,
			"BPF map %u has more in it than this version keeps: close it before the checkpoint",
			id);
	m->n_elements = n;
	m->keys.len = n * m->key_size;
	m->values.len = n * value;
	m->keys.data = arena_memdup(&d->arena, keys, m->keys.len);
	m->values.data = arena_memdup(&d->arena, values, m->values.len);
	return n == 0 || (m->keys.data && m->values.data) ? 0 : error_errno(e, -ENOMEM, "BPF map");
}

static struct dump_file *first_of(struct dump *d, const struct dump_file *f)
{
	size_t i = 0;

	while (!match(d, &d->files[i]) || d->files[i].info.bpf_map_id != f->info.bpf_map_id)
		i++;
	return &d->files[i];
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	const struct dump_file *first = first_of(d, f);
	St__BpfMap *m = pb_new(&d->arena, BpfMap, bpf_map);
	struct bpf_map_info info;
	int r;

	if (!m)
		return error_errno(e, -ENOMEM, "BPF map");
	r = bpf_map_describe(f->local, &info);
	if (r < 0)
		return error_errno(e, r, "describe a BPF map");
	m->first = first->id;
	m->type = info.type;
	m->key_size = info.key_size;
	m->value_size = info.value_size;
	m->max_entries = info.max_entries;
	m->flags = info.map_flags;
	m->name = arena_strndup(&d->arena, info.name, sizeof(info.name));
	m->frozen = f->info.bpf_frozen;
	m->cpus = has_each_cpu(m->type) ? cpus_possible(NULL) : 0;
	f->msg->kind_case = ST__FILE__KIND_BPF_MAP;
	f->msg->bpf_map = m;
	if (!m->name)
		return error_errno(e, -ENOMEM, "BPF map");
	return f == first ? copy_contents(d, info.id, m, e) : 0;
}

bool bpf_map_is_valid(const struct restore *r, const St__File *f)
{
	const St__BpfMap *m = f->bpf_map, *first = NULL;

	for (size_t i = 0; i < r->n_files && !first; i++)
		if (r->files[i]->id == m->first && r->files[i]->kind_case == ST__FILE__KIND_BPF_MAP)
			first = r->files[i]->bpf_map;
	return first && m->first <= f->id && first->first == m->first && is_kept(m->type) &&
	       m->key_size > 0 && m->key_size <= KEY_MAX && m->value_size <= CONTENTS_MAX &&
	       m->n_elements <= m->max_entries && m->cpus <= 1 << 16 && !(m->flags & ~(uint32_t)KEPT_FLAGS) &&
	       strlen(m->name) < BPF_OBJ_NAME_LEN && m->keys.len == (uint64_t)m->n_elements * m->key_size &&
	       m->values.len == m->n_elements * value_room(m->type, m->value_size, m->cpus);
}

int bpf_check_maps(const struct restore *r, const struct spec *s, struct error *e)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const St__File *f = r->files[i];

		if (f->kind_case != ST__FILE__KIND_BPF_MAP)
			continue;
		if (!may_make(s))
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the image has a BPF map, and the bundle's config.json does not allow the "
				"container to make one: add CAP_BPF to process.capabilities.bounding, "
				"without a "
				"user namespace, if that is wanted");
		if (f->bpf_map->cpus && f->bpf_map->cpus != cpus_possible(NULL))
			return error_set(e, -EINVAL, ERROR_REFUSED,
				"the image has a BPF map with a value for each of %u CPUs, and this machine "
				"has "
				"another number of them: restore it on one that has as many",
				f->bpf_map->cpus);
	}
	return 0;
}

static int make(const St__BpfMap *m, struct error *e)
{
	struct bpf_map_info info = {.type = m->type,
		.key_size = m->key_size,
		.value_size = m->value_size,
		.max_entries = m->max_entries,
		.map_flags = m->flags};
	_cleanup_close_ int fd = -EBADF;
	int r;

	memcpy(info.name, m->name, strlen(m->name));
	fd = bpf_map_make(&info);
	if (fd < 0)
		return error_errno(e, fd, "make a BPF map of type %u", m->type);
	r = bpf_map_write(fd, m->keys.data, m->values.data, m->n_elements);
	if (r == 0 && m->frozen)
		r = bpf_map_freeze(fd);
	return r < 0 ? error_errno(e, r, "fill a BPF map") : take_fd(&fd);
}

/* Reading or writing only is a matter of the description. */
static int reopen(int fd, uint32_t flags, struct error *e)
{
	struct bpf_map_info info;
	int r = bpf_map_describe(fd, &info);

	if (r == 0)
		r = bpf_map_by_id(info.id, (flags & O_ACCMODE) == O_RDONLY   ? BPF_F_RDONLY
					   : (flags & O_ACCMODE) == O_WRONLY ? BPF_F_WRONLY
									     : 0);
	return r < 0 ? error_errno(e, r, "open a BPF map once more") : r;
}

static int open_map(struct restore *r, const St__File *f, int *ret_fd, struct error *e)
{
	bool is_first = f->bpf_map->first == f->id;
	_cleanup_close_ int made = is_first ? make(f->bpf_map, e) : -EBADF;

	if (is_first && made < 0)
		return made;
	if (is_first && (f->flags & O_ACCMODE) == O_RDWR)
		*ret_fd = take_fd(&made);
	else
		*ret_fd = reopen(is_first ? made : restore_fd(r, f->bpf_map->first), f->flags, e);
	return MIN(*ret_fd, 0);
}

extern const struct resource resource_bpf_map;
const struct resource resource_bpf_map = {
	.kind = "bpf map",
	.description =
		"BPF maps that no program, pin or process outside has: hashes, arrays (also per CPU) and LPM "
		"tries "
		"with their elements, flags, frozen ones; their ids are others afterwards. Others, in a user "
		"namespace, with BTF, or on a kernel without it: refused",
	.kind_case = ST__FILE__KIND_BPF_MAP,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_map,
};
