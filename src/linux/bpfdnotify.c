/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An inode has a list of marks (fsnotify). That of dnotify has a list of watches, one for each open file description and table of descriptors
 * through which F_NOTIFY was called. Which mark is dnotify's nothing says that a program may read: each is taken for one, and a watch counts
 * if it names the very file, table and descriptor that are asked for. What lies behind no pointer reads as 0.
 */
#include "linux/bpfdnotify.h"

#include <fcntl.h>

#include "base/fd.h"
#include "linux/bpfcode.h"
#include "linux/bpfwalk.h"

/* A row of what the program writes, in words; below it on the stack, where it stands. No loops: the verifier takes seconds for one. */
enum { TABLE, FILE_ASKED, MASK, FD, FILE_WATCHED, OWNER, LEFT, N_WORDS };
enum { MARK = -8 * N_WORDS - 8, WATCH = MARK - 8, MARKS = 8, WATCHES = 8 };

enum place {
	AT_TABLE,
	AT_INODE,
	AT_MARKS,
	AT_LIST,
	AT_NODE,
	AT_FIRST_PART,
	AT_WATCHES,
	AT_NEXT,
	AT_MASK,
	AT_FD,
	AT_FILE,
	AT_OWNER,
	FUNCTION,
	N_PLACES,
};

struct code {
	struct bpf_insn insns[64 + MARKS * (32 + WATCHES * 48)];
	unsigned n;
};

static unsigned emit(struct code *c, struct bpf_insn i)
{
	c->insns[c->n] = i;
	return c->n++;
}

/* A jump that leads to what comes next. */
static void land(struct code *c, unsigned jump)
{
	c->insns[jump].off = (int16_t)(c->n - jump - 1);
}

static int word(int k)
{
	return 8 * (k - N_WORDS);
}

/* Into a slot: what lies behind the pointer in another one. */
static void emit_member(struct code *c, int slot, int size, int pointer, int at)
{
	emit(c, COPY(BPF_REG_1, BPF_REG_10));
	emit(c, ADD(BPF_REG_1, slot));
	emit(c, SET(BPF_REG_2, size));
	emit(c, LOAD(BPF_DW, BPF_REG_3, BPF_REG_10, pointer));
	emit(c, ADD(BPF_REG_3, at));
	emit(c, CALL(BPF_FUNC_probe_read_kernel));
}

static void emit_row(struct code *c)
{
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, 0));
	emit(c, COPY(BPF_REG_2, BPF_REG_10));
	emit(c, ADD(BPF_REG_2, word(0)));
	emit(c, SET(BPF_REG_3, 8 * N_WORDS));
	emit(c, CALL(BPF_FUNC_seq_write));
}

static void emit_watch(struct code *c, const struct bpf_place *at)
{
	emit_member(c, word(MASK), 4, WATCH, at[AT_MASK].at);
	emit_member(c, word(FD), 4, WATCH, at[AT_FD].at);
	emit_member(c, word(FILE_WATCHED), 8, WATCH, at[AT_FILE].at);
	emit_member(c, word(OWNER), 8, WATCH, at[AT_OWNER].at);
	emit_member(c, WATCH, 8, WATCH, at[AT_NEXT].at);
	emit_row(c);
}

static void emit_copy(struct code *c, int to, int from)
{
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, from));
	emit(c, STORE(to, BPF_REG_1));
}

static void emit_marks(struct code *c, const struct bpf_place *at)
{
	unsigned ends[MARKS];

	for (size_t i = 0; i < MARKS; i++) {
		emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, MARK));
		ends[i] = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 0, 0));
		emit_member(c, WATCH, 8, MARK, at[AT_WATCHES].at - at[AT_FIRST_PART].at - at[AT_NODE].at);
		for (int k = 0; k < WATCHES; k++)
			emit_watch(c, at);
		emit_copy(c, word(LEFT), WATCH);
		emit_row(c);
		/* hlist_node begins with the pointer to the next one, as hlist_head does. */
		emit_member(c, MARK, 8, MARK, 0);
	}
	emit_copy(c, word(LEFT), MARK);
	emit_row(c);
	for (size_t i = 0; i < MARKS; i++)
		land(c, ends[i]);
}

/* The context has a struct bpf_iter_meta, which begins with the seq_file, the task, the number and the file. */
static void write_program(struct code *c, const struct bpf_place *at, int fd)
{
	unsigned ends[3];

	emit(c, LOAD(BPF_DW, BPF_REG_7, BPF_REG_1, 0));
	emit(c, LOAD(BPF_DW, BPF_REG_9, BPF_REG_1, 8));
	emit(c, LOAD(BPF_W, BPF_REG_8, BPF_REG_1, 16));
	emit(c, LOAD(BPF_DW, BPF_REG_6, BPF_REG_1, 24));
	ends[0] = emit(c, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_8, 0, 0, fd));
	ends[1] = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_9, 0, 0, 0));
	ends[2] = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 0, 0));
	for (int slot = WATCH; slot < 0; slot += 8)
		emit(c, INSN(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, slot, 0));
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_9, at[AT_TABLE].at));
	emit(c, STORE(word(TABLE), BPF_REG_1));
	emit(c, STORE(word(FILE_ASKED), BPF_REG_6));
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, at[AT_INODE].at));
	emit(c, STORE(MARK, BPF_REG_1));
	emit_member(c, MARK, 8, MARK, at[AT_MARKS].at);
	emit_member(c, MARK, 8, MARK, at[AT_LIST].at);
	emit_marks(c, at);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		land(c, ends[i]);
	emit(c, SET(BPF_REG_0, 0));
	emit(c, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

static int load_program(int fd)
{
	struct bpf_place at[N_PLACES] = {
		[AT_TABLE] = {"task_struct", "files", 0},
		[AT_INODE] = {"file", "f_inode", 0},
		[AT_MARKS] = {"inode", "i_fsnotify_marks", 0},
		[AT_LIST] = {"fsnotify_mark_connector", "list", 0},
		[AT_NODE] = {"fsnotify_mark", "obj_list", 0},
		[AT_FIRST_PART] = {"dnotify_mark", "fsn_mark", 0},
		[AT_WATCHES] = {"dnotify_mark", "dn", 0},
		[AT_NEXT] = {"dnotify_struct", "dn_next", 0},
		[AT_MASK] = {"dnotify_struct", "dn_mask", 0},
		[AT_FD] = {"dnotify_struct", "dn_fd", 0},
		[AT_FILE] = {"dnotify_struct", "dn_filp", 0},
		[AT_OWNER] = {"dnotify_struct", "dn_owner", 0},
		[FUNCTION] = {"bpf_iter_task_file", NULL, 0},
	};
	struct code c = {};
	int r = bpf_places(at, N_PLACES);

	if (r < 0)
		return r;
	write_program(&c, at, fd);
	return bpf_load_iterator(c.insns, c.n, (uint32_t)at[FUNCTION].at);
}

/* What the kernel has made of the argument of F_NOTIFY; -EOPNOTSUPP: not what is known to us. */
static int translate(uint32_t mask, uint32_t *ret)
{
	static const struct {
		uint32_t kernel, user;
	} bits[] = {
		{0x20000000, DN_MULTISHOT},
		{0x1, DN_ACCESS},
		{0x2, DN_MODIFY},
		{0x100 | 0x80, DN_CREATE},
		{0x200 | 0x40, DN_DELETE},
		{0x10000000, DN_RENAME},
		{0x4, DN_ATTRIB},
	};
	const uint32_t children = 0x08000000;
	uint32_t known = children;

	*ret = 0;
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		if ((mask & bits[i].kernel) != bits[i].kernel)
			continue;
		*ret |= bits[i].user;
		known |= bits[i].kernel;
	}
	return known == mask && *ret & ~DN_MULTISHOT ? 0 : -EOPNOTSUPP;
}

static int read_watch(int rows, int fd, uint32_t *ret)
{
	uint64_t row[N_WORDS];
	bool left = false;
	ssize_t n;

	*ret = 0;
	while ((n = read(rows, row, sizeof(row))) == sizeof(row)) {
		left |= row[LEFT] != 0;
		if (row[FILE_WATCHED] == row[FILE_ASKED] && row[OWNER] == row[TABLE] &&
			row[FD] == (uint64_t)fd)
			return translate((uint32_t)row[MASK], ret);
	}
	return n < 0 ? -errno : n > 0 ? -EIO : left ? -E2BIG : 0;
}

int bpf_dnotify_read(pid_t tid, int fd, uint32_t *ret)
{
	_cleanup_close_ int program = load_program(fd);
	_cleanup_close_ int rows = program < 0 ? -EBADF : bpf_iterate_thread(program, tid);

	if (program < 0)
		return program;
	return rows < 0 ? rows : read_watch(rows, fd, ret);
}
