/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel lets a program of ours walk over all objects of a kind (an iterator) and read them. Where in its structs the
 * members lie its type information (BTF) says.
 */
#include "linux/bpfwalk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/bpfcode.h"

enum { BTF_MAX = 64 << 20, NOWHERE = INT32_MIN };

struct btf {
	const char *types, *end, *strings, *strings_end;
};

/* Since Linux 6.16 it can be mapped, which is several times as fast. */
static int map_btf(char **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
	struct stat st;
	size_t size = 0;
	ssize_t n;
	char *data;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > BTF_MAX)
		return -EOPNOTSUPP;
	data = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED) {
		data = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (data == MAP_FAILED)
			return -ENOMEM;
		while (size < (size_t)st.st_size && (n = read(fd, data + size, st.st_size - size)) > 0)
			size += n;
	}
	*ret = data;
	*ret_size = st.st_size;
	return 0;
}

static bool part(
	const char *data, size_t size, uint64_t offset, uint64_t len, const char **ret, const char **ret_end)
{
	if (offset > size || len > size - offset)
		return false;
	*ret = data + offset;
	*ret_end = *ret + len;
	return true;
}

static bool open_btf(const char *data, size_t size, struct btf *ret)
{
	const struct btf_header *h = (const void *)data;

	return size >= sizeof(*h) && h->magic == BTF_MAGIC &&
	       part(data, size, (uint64_t)h->hdr_len + h->type_off, h->type_len, &ret->types, &ret->end) &&
	       part(data, size, (uint64_t)h->hdr_len + h->str_off, h->str_len, &ret->strings,
		       &ret->strings_end) &&
	       h->str_len > 0 && ret->strings_end[-1] == '\0';
}

static const char *name_of(const struct btf *b, uint32_t offset)
{
	return offset < (size_t)(b->strings_end - b->strings) ? b->strings + offset : "";
}

/* What follows the head of a type. */
static size_t tail_of(const struct btf_type *t)
{
	size_t n = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		return 4;
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
	case BTF_KIND_DATASEC:
	case BTF_KIND_ENUM64:
		return 12 * n;
	case BTF_KIND_ENUM:
	case BTF_KIND_FUNC_PROTO:
		return 8 * n;
	default:
		return 0;
	}
}

struct walk {
	char iterator[64]; /* its function in the kernel, */
	uint32_t number;   /* and the number of that type; 0: not found */
	const struct bpf_objects *what;
	const struct bpf_field *fields;
	int at[BPF_WALK_FIELDS], inside[BPF_WALK_FIELDS]; /* NOWHERE: not found */
	size_t n;
};

static void find_members(const struct btf *b, const struct btf_type *t, struct walk *w)
{
	const char *type = name_of(b, t->name_off);
	const struct btf_member *m = (const void *)(t + 1);

	for (size_t k = 0; k < w->n; k++) {
		const struct bpf_field *f = &w->fields[k];

		for (size_t i = 0; !strcmp(type, f->type) && i < BTF_INFO_VLEN(t->info); i++) {
			const char *name = name_of(b, m[i].name_off);
			int at = (int)(BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset)
							       : m[i].offset) /
				 8;

			if (!strcmp(name, f->member))
				w->at[k] = at + (int)f->plus;
			if (f->inside && !strcmp(name, f->inside))
				w->inside[k] = at;
		}
	}
}

/* False: not all that is needed is there. */
static bool find_places(const struct btf *b, struct walk *w)
{
	uint32_t number = 1;

	for (const char *p = b->types; b->end - p >= (ptrdiff_t)sizeof(struct btf_type); number++) {
		const struct btf_type *t = (const void *)p;
		unsigned kind = BTF_INFO_KIND(t->info);

		if ((size_t)(b->end - p) < sizeof(*t) + tail_of(t))
			return false;
		if (kind == BTF_KIND_FUNC && !strcmp(name_of(b, t->name_off), w->iterator))
			w->number = number;
		else if (kind == BTF_KIND_STRUCT)
			find_members(b, t, w);
		p += sizeof(*t) + tail_of(t);
	}
	for (size_t k = 0; k < w->n; k++) {
		if (w->at[k] == NOWHERE || w->inside[k] == NOWHERE)
			return false;
		w->at[k] -= w->inside[k];
	}
	return w->number != 0;
}

/* Where each type begins, by its number. */
struct btf_index {
	uint32_t *at;
	uint32_t n;
};

static int index_types(const struct btf *b, struct btf_index *ret)
{
	uint32_t room = 0;

	*ret = (struct btf_index){.n = 1}; /* 0 is void */
	for (const char *p = b->types; b->end - p >= (ptrdiff_t)sizeof(struct btf_type);) {
		const struct btf_type *t = (const void *)p;

		if ((size_t)(b->end - p) < sizeof(*t) + tail_of(t))
			break;
		if (ret->n >= room) {
			uint32_t *more;

			room = room ? 2 * room : 1 << 16;
			more = reallocarray(ret->at, room, sizeof(*more));
			if (!more) {
				free(ret->at);
				return -ENOMEM;
			}
			ret->at = more;
		}
		ret->at[ret->n++] = (uint32_t)(p - b->types);
		p += sizeof(*t) + tail_of(t);
	}
	return 0;
}

static const struct btf_type *type_of(const struct btf *b, const struct btf_index *x, uint32_t number)
{
	return number > 0 && number < x->n ? (const void *)(b->types + x->at[number]) : NULL;
}

/* Of a struct or union; members without a name are looked into. -1: it has none of that name. */
static int offset_of(const struct btf *b, const struct btf_index *x, const struct btf_type *t,
	const char *member, int depth)
{
	const struct btf_member *m = (const void *)(t + 1);

	for (size_t i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		int at =
			(int)(BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset) : m[i].offset) / 8;
		const struct btf_type *inner;
		int r;

		if (!strcmp(name_of(b, m[i].name_off), member))
			return at;
		if (m[i].name_off != 0 || depth == 4)
			continue;
		inner = type_of(b, x, m[i].type);
		if (!inner || (BTF_INFO_KIND(inner->info) != BTF_KIND_STRUCT &&
				      BTF_INFO_KIND(inner->info) != BTF_KIND_UNION))
			continue;
		r = offset_of(b, x, inner, member, depth + 1);
		if (r >= 0)
			return at + r;
	}
	return -1;
}

/* What the type with that number says of the places that have not been found yet. */
static void find_place(
	const struct btf *b, const struct btf_index *x, uint32_t number, struct bpf_place *places, size_t n)
{
	const struct btf_type *t = type_of(b, x, number);
	unsigned kind = BTF_INFO_KIND(t->info);
	const char *name;

	if (kind != BTF_KIND_STRUCT && kind != BTF_KIND_FUNC && kind != BTF_KIND_VAR)
		return;
	name = name_of(b, t->name_off);
	for (size_t k = 0; k < n; k++) {
		struct bpf_place *p = &places[k];

		if (p->at >= 0 || (kind == BTF_KIND_STRUCT) != (p->member != NULL) ||
			strcmp(name, p->name) != 0)
			continue;
		p->at = p->member ? offset_of(b, x, t, p->member, 0) : (int)number;
	}
}

int bpf_places(struct bpf_place *places, size_t n)
{
	struct btf_index x;
	struct btf b;
	size_t size;
	char *data;
	int r = map_btf(&data, &size);

	if (r < 0)
		return r;
	for (size_t k = 0; k < n; k++)
		places[k].at = -1;
	r = open_btf(data, size, &b) ? index_types(&b, &x) : -EOPNOTSUPP;
	if (r == 0) {
		for (uint32_t number = 1; number < x.n; number++)
			find_place(&b, &x, number, places, n);
		free(x.at);
	}
	munmap(data, size);
	for (size_t k = 0; k < n && r == 0; k++)
		r = places[k].at < 0 ? -EOPNOTSUPP : 0;
	return r;
}

struct program {
	struct bpf_insn code[BPF_WALK_FIELDS * (1 + 6) + 32];
	unsigned n;
};

static void emit(struct program *p, struct bpf_insn i)
{
	p->code[p->n++] = i;
}

/* Where in the row, which is on the stack. */
static int slot(size_t k)
{
	return 8 * (int)k - (int)sizeof(struct bpf_row);
}

/* Of the object, which the verifier knows; or, unknown to it, of what a field points to. */
static void emit_field(struct program *p, const struct walk *w, size_t k)
{
	const struct bpf_field *f = &w->fields[k];

	if (f->from == 0 || f->from == BPF_FROM_TASK) {
		emit(p, LOAD(f->size == 8 ? BPF_DW : BPF_W, BPF_REG_1, f->from == 0 ? BPF_REG_6 : BPF_REG_9,
				w->at[k]));
		emit(p, STORE(slot(k), BPF_REG_1));
		return;
	}
	emit(p, COPY(BPF_REG_1, BPF_REG_10));
	emit(p, ADD(BPF_REG_1, slot(k)));
	emit(p, SET(BPF_REG_2, (int)f->size));
	emit(p, LOAD(BPF_DW, BPF_REG_3, BPF_REG_10, slot(f->from - 1)));
	emit(p, ADD(BPF_REG_3, w->at[k]));
	emit(p, CALL(BPF_FUNC_probe_read_kernel));
}

/* For each object it writes a row. The context has a struct bpf_iter_meta, which begins with the seq_file, and the object; of
 * files: the task, the number, the file. */
static void write_program(struct program *p, const struct walk *w)
{
	bool is_file = w->what->tid != 0;
	unsigned ends[3];
	size_t n_ends = 0;

	emit(p, LOAD(BPF_DW, BPF_REG_7, BPF_REG_1, 0));
	emit(p, LOAD(BPF_DW, BPF_REG_6, BPF_REG_1, is_file ? 24 : 8));
	if (is_file) {
		emit(p, LOAD(BPF_W, BPF_REG_8, BPF_REG_1, 16));
		emit(p, LOAD(BPF_DW, BPF_REG_9, BPF_REG_1, 8));
		ends[n_ends++] = p->n;
		emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_8, 0, 0, w->what->fd));
		ends[n_ends++] = p->n;
		emit(p, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_9, 0, 0, 0));
	}
	ends[n_ends++] = p->n;
	emit(p, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 0, 0));
	emit(p, SET(BPF_REG_1, 0));
	for (size_t k = 0; k < BPF_WALK_FIELDS; k++)
		emit(p, STORE(slot(k), BPF_REG_1));
	for (size_t k = 0; k < w->n; k++)
		emit_field(p, w, k);
	emit(p, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, 0));
	emit(p, COPY(BPF_REG_2, BPF_REG_10));
	emit(p, ADD(BPF_REG_2, slot(0)));
	emit(p, SET(BPF_REG_3, sizeof(struct bpf_row)));
	emit(p, CALL(BPF_FUNC_seq_write));
	for (size_t i = 0; i < n_ends; i++)
		p->code[ends[i]].off = (int16_t)(p->n - ends[i] - 1);
	emit(p, SET(BPF_REG_0, 0));
	emit(p, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

static int load_program(const struct walk *w)
{
	struct program p = {};

	write_program(&p, w);
	return bpf_load_iterator(p.code, p.n, w->number);
}

static int make_link(const struct walk *w)
{
	_cleanup_close_ int program = load_program(w);
	union bpf_iter_link_info of = {.task = {.tid = (uint32_t)w->what->tid}};
	union bpf_attr attr = {};

	if (program < 0)
		return program;
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.attach_type = BPF_TRACE_ITER;
	if (w->what->tid) {
		attr.link_create.iter_info = (uint64_t)(uintptr_t)&of;
		attr.link_create.iter_info_len = sizeof(of);
	}
	return bpf_command(BPF_LINK_CREATE, &attr);
}

static int read_rows(int fd, struct arena *a, struct bpf_row **ret, size_t *ret_n)
{
	enum { AT_ONCE = 128 };
	struct bpf_row *all = arena_array(a, AT_ONCE, sizeof(*all));
	size_t n = 0, room = AT_ONCE;

	for (;;) {
		ssize_t got;

		if (all && room - n < AT_ONCE) {
			struct bpf_row *more = arena_array(a, room * 2, sizeof(*more));

			if (more)
				memcpy(more, all, n * sizeof(*all));
			room *= 2;
			all = more;
		}
		if (!all)
			return -ENOMEM;
		got = read(fd, all + n, AT_ONCE * sizeof(*all));
		if (got < 0 || got % (ssize_t)sizeof(*all))
			return got < 0 ? -errno : -EIO;
		if (got == 0)
			break;
		n += got / sizeof(*all);
	}
	*ret = all;
	*ret_n = n;
	return 0;
}

int bpf_walk_read(int walk, struct arena *a, struct bpf_row **ret, size_t *ret_n)
{
	union bpf_attr attr = {.iter_create = {.link_fd = (uint32_t)walk}};
	_cleanup_close_ int fd = bpf_command(BPF_ITER_CREATE, &attr);

	return fd < 0 ? fd : read_rows(fd, a, ret, ret_n);
}

int bpf_walk(const struct bpf_objects *what, const struct bpf_field *fields, size_t n, struct arena *a,
	struct bpf_row **ret, size_t *ret_n)
{
	_cleanup_close_ int walk = bpf_walk_open(what, fields, n);

	return walk < 0 ? walk : bpf_walk_read(walk, a, ret, ret_n);
}

int bpf_walk_open(const struct bpf_objects *what, const struct bpf_field *fields, size_t n)
{
	struct walk w = {.what = what, .fields = fields, .n = MIN(n, (size_t)BPF_WALK_FIELDS)};
	struct btf b;
	size_t size = 0;
	char *data = NULL;
	bool found;
	int r = map_btf(&data, &size);

	snprintf(w.iterator, sizeof(w.iterator), "bpf_iter_%s", what->kind);
	for (size_t k = 0; k < w.n; k++) {
		w.at[k] = NOWHERE;
		w.inside[k] = fields[k].inside ? NOWHERE : 0;
	}
	if (r < 0)
		return r;
	found = open_btf(data, size, &b) && find_places(&b, &w);
	munmap(data, size);
	return found ? make_link(&w) : -EOPNOTSUPP;
}
