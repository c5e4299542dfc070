/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has a BPF map. No file of /proc tells how many references there are, but the kernel lets a program of ours walk over
 * all maps (an iterator) and read them. Where the counts lie in its struct bpf_map its type information (BTF) says.
 */
#include "linux/bpfmap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

enum { BTF_MAX = 64 << 20 };

struct btf {
	const char *types, *end, *strings, *strings_end;
};

struct places {
	uint32_t iterator; /* the type that the program is for */
	int id, references, users;
};

static int read_btf(char **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *data = NULL;
	struct stat st;
	size_t size = 0;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > BTF_MAX)
		return -EOPNOTSUPP;
	data = malloc(st.st_size);
	if (!data)
		return -ENOMEM;
	while (size < (size_t)st.st_size && (n = read(fd, data + size, st.st_size - size)) > 0)
		size += n;
	*ret = take_ptr(data);
	*ret_size = size;
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

static void find_members(const struct btf *b, const struct btf_type *t, struct places *to)
{
	const struct btf_member *m = (const void *)(t + 1);

	for (size_t i = 0; i < BTF_INFO_VLEN(t->info); i++) {
		const char *name = name_of(b, m[i].name_off);
		int at =
			(int)(BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset) : m[i].offset) / 8;

		if (!strcmp(name, "id"))
			to->id = at;
		else if (!strcmp(name, "refcnt"))
			to->references = at;
		else if (!strcmp(name, "usercnt"))
			to->users = at;
	}
}

static bool find_places(const struct btf *b, struct places *ret)
{
	struct places to = {.id = -1, .references = -1, .users = -1};
	uint32_t number = 1;

	for (const char *p = b->types; b->end - p >= (ptrdiff_t)sizeof(struct btf_type); number++) {
		const struct btf_type *t = (const void *)p;
		unsigned kind = BTF_INFO_KIND(t->info);

		if ((size_t)(b->end - p) < sizeof(*t) + tail_of(t))
			return false;
		if (kind == BTF_KIND_FUNC && !strcmp(name_of(b, t->name_off), "bpf_iter_bpf_map"))
			to.iterator = number;
		else if (kind == BTF_KIND_STRUCT && !strcmp(name_of(b, t->name_off), "bpf_map"))
			find_members(b, t, &to);
		p += sizeof(*t) + tail_of(t);
	}
	*ret = to;
	return to.iterator && to.id >= 0 && to.references >= 0 && to.users >= 0;
}

static int bpf(int command, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

/* Writes id, references and users of each map, 8 bytes each. */
static int load_program(const struct places *at)
{
#define INSN(c, d, s, o, i)                                                                                  \
	{                                                                                                    \
		.code = (c), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (i)                 \
	}
#define LOAD(size, to, from, offset) INSN(BPF_LDX | BPF_MEM | (size), to, from, offset, 0)
#define STORE(offset, from) INSN(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, from, offset, 0)
	const struct bpf_insn code[] = {
		LOAD(BPF_DW, BPF_REG_6, BPF_REG_1, 8), /* the map; none at the end */
		LOAD(BPF_DW, BPF_REG_7, BPF_REG_1, 0), /* struct bpf_iter_meta: begins with the seq_file */
		INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 11, 0),
		LOAD(BPF_W, BPF_REG_1, BPF_REG_6, at->id),
		STORE(-24, BPF_REG_1),
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, at->references),
		STORE(-16, BPF_REG_1),
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, at->users),
		STORE(-8, BPF_REG_1),
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -24),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 24),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_seq_write),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_TRACING,
		.expected_attach_type = BPF_TRACE_ITER,
		.attach_btf_id = at->iterator,
		.insns = (uint64_t)(uintptr_t)code,
		.insn_cnt = ARRAY_SIZE(code),
		.license = (uint64_t)(uintptr_t) "GPL"};

	return bpf(BPF_PROG_LOAD, &attr);
}

static int open_iterator(const struct places *at)
{
	_cleanup_close_ int program = load_program(at), link = -EBADF;
	union bpf_attr attr = {};

	if (program < 0)
		return program;
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.attach_type = BPF_TRACE_ITER;
	link = bpf(BPF_LINK_CREATE, &attr);
	if (link < 0)
		return link;
	attr = (union bpf_attr){.iter_create = {.link_fd = (uint32_t)link}};
	return bpf(BPF_ITER_CREATE, &attr);
}

static int read_iterator(int fd, struct arena *a, struct bpf_users **ret, size_t *ret_n)
{
	struct {
		uint64_t id, references, users;
	} row;
	struct bpf_users *all = NULL;
	size_t n = 0, room = 0;
	ssize_t got;

	while ((got = read(fd, &row, sizeof(row))) == (ssize_t)sizeof(row)) {
		if (n == room) {
			struct bpf_users *more = arena_array(a, room ? room * 2 : 64, sizeof(*more));

			if (!more)
				return -ENOMEM;
			if (n > 0)
				memcpy(more, all, n * sizeof(*all));
			room = room ? room * 2 : 64;
			all = more;
		}
		/* One reference is the iterator's, and each user has one. */
		all[n++] = (struct bpf_users){(uint32_t)row.id, row.users, row.references - row.users - 1};
	}
	if (got != 0)
		return got < 0 ? -errno : -EIO;
	*ret = all;
	*ret_n = n;
	return 0;
}

int bpf_read_users(struct arena *a, struct bpf_users **ret, size_t *ret_n)
{
	_cleanup_free_ char *data = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct places at;
	struct btf b;
	size_t size;
	int r = read_btf(&data, &size);

	if (r < 0)
		return r;
	if (!open_btf(data, size, &b) || !find_places(&b, &at))
		return -EOPNOTSUPP;
	fd = open_iterator(&at);
	return fd < 0 ? fd : read_iterator(fd, a, ret, ret_n);
}
