/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/scfilters.h"

#include "base/fd.h"
#include "linux/bpfcode.h"
#include "linux/bpfwalk.h"

/* A row of what the program writes, in words. */
enum { FILTER, NOTIFICATION, OLDER, KILLABLE, N_WORDS };

enum place { AT_SECCOMP, AT_FILTER, AT_OLDER, AT_NOTIFICATION, AT_KILLABLE, FUNCTION, N_PLACES };

/* What the first look has found out, once for this process. */
static struct {
	bool known;
	int program; /* or a negative errno: no look is possible */
	struct bpf_place at[N_PLACES];
} here = {
	.at = {[AT_SECCOMP] = {"task_struct", "seccomp", 0},
		[AT_FILTER] = {"seccomp", "filter", 0},
		[AT_OLDER] = {"seccomp_filter", "prev", 0},
		[AT_NOTIFICATION] = {"seccomp_filter", "notif", 0},
		[AT_KILLABLE] = {"seccomp_filter", "wait_killable_recv", 0},
		[FUNCTION] = {"bpf_iter_task", NULL, 0}},
};

struct code {
	struct bpf_insn insns[64];
	unsigned n;
};

static unsigned emit(struct code *c, struct bpf_insn i)
{
	c->insns[c->n] = i;
	return c->n++;
}

/* On the stack. */
static int word(int k)
{
	return 8 * (k - N_WORDS);
}

/* Of the filter of this row; a read of what is not there leaves 0. */
static void emit_member(struct code *c, int to, int size, enum place at)
{
	emit(c, SET(BPF_REG_1, 0));
	emit(c, STORE(word(to), BPF_REG_1));
	emit(c, COPY(BPF_REG_1, BPF_REG_10));
	emit(c, ADD(BPF_REG_1, word(to)));
	emit(c, SET(BPF_REG_2, size));
	emit(c, LOAD(BPF_DW, BPF_REG_3, BPF_REG_10, word(FILTER)));
	emit(c, ADD(BPF_REG_3, here.at[at].at));
	emit(c, CALL(BPF_FUNC_probe_read_kernel));
}

static void land(struct code *c, unsigned jump)
{
	c->insns[jump].off = (int16_t)(c->n - jump - 1);
}

/* The context has a struct bpf_iter_meta, which begins with the seq_file, and the task (none: it is the end). A row for each of its
 * filters, the newest first. */
static void write_program(struct code *c)
{
	unsigned none, all, last, loop;

	emit(c, LOAD(BPF_DW, BPF_REG_7, BPF_REG_1, 0));
	emit(c, LOAD(BPF_DW, BPF_REG_6, BPF_REG_1, 8));
	none = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 0, 0));
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, here.at[AT_SECCOMP].at + here.at[AT_FILTER].at));
	emit(c, STORE(word(FILTER), BPF_REG_1));
	emit(c, SET(BPF_REG_8, 0));
	loop = c->n;
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, word(FILTER)));
	last = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 0, 0));
	all = emit(c, INSN(BPF_JMP | BPF_JGE | BPF_K, BPF_REG_8, 0, 0, SECCOMP_FILTERS_MAX + 1));
	emit(c, ADD(BPF_REG_8, 1));
	emit_member(c, NOTIFICATION, 8, AT_NOTIFICATION);
	emit_member(c, OLDER, 8, AT_OLDER);
	emit_member(c, KILLABLE, 1, AT_KILLABLE);
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, 0));
	emit(c, COPY(BPF_REG_2, BPF_REG_10));
	emit(c, ADD(BPF_REG_2, word(0)));
	emit(c, SET(BPF_REG_3, 8 * N_WORDS));
	emit(c, CALL(BPF_FUNC_seq_write));
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, word(OLDER)));
	emit(c, STORE(word(FILTER), BPF_REG_1));
	emit(c, INSN(BPF_JMP | BPF_JA, 0, 0, (int)loop - (int)c->n - 1, 0));
	land(c, none);
	land(c, last);
	land(c, all);
	emit(c, SET(BPF_REG_0, 0));
	emit(c, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

static int find_out(void)
{
	struct code c = {};
	int r = bpf_places(here.at, N_PLACES);

	if (r < 0)
		return r;
	write_program(&c);
	return bpf_load_iterator(c.insns, c.n, (uint32_t)here.at[FUNCTION].at);
}

int seccomp_filters_of(pid_t tid, struct arena *a, struct seccomp_filter_seen *ret, size_t *ret_n)
{
	enum { MOST = SECCOMP_FILTERS_MAX + 1 };
	uint64_t(*rows)[N_WORDS] = arena_array(a, MOST, sizeof(*rows));
	_cleanup_close_ int fd = -EBADF;
	size_t n = 0;
	ssize_t got;

	if (!rows)
		return -ENOMEM;
	if (!here.known)
		here.program = find_out();
	here.known = true;
	if (here.program < 0)
		return here.program;
	fd = bpf_iterate_thread(here.program, tid);
	if (fd < 0)
		return fd;
	while (n < MOST && (got = read(fd, rows + n, (MOST - n) * sizeof(*rows))) != 0) {
		if (got < 0 || got % (ssize_t)sizeof(*rows))
			return got < 0 ? -errno : -EIO;
		n += (size_t)got / sizeof(*rows);
	}
	if (n > SECCOMP_FILTERS_MAX)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < n; i++)
		ret[n - 1 - i] = (struct seccomp_filter_seen){.filter = rows[i][FILTER],
			.listened = rows[i][NOTIFICATION] != 0,
			.wait_killable = (rows[i][KILLABLE] & 0xff) != 0};
	*ret_n = n;
	return 0;
}

/* The flags came with Linux 6.6. */
static int walk(int fd, bool has_flags, struct arena *a, struct bpf_row **ret)
{
	static const struct bpf_field fields[] = {
		{"file", "private_data", 8},
		{"seccomp_filter", "users", 4, 1},
		{"seccomp_filter", "notif", 8, 1},
		{"notification", "flags", 4, 3},
	};
	size_t n;
	int r = bpf_walk(&(struct bpf_objects){"task_file", gettid(), fd}, fields,
		ARRAY_SIZE(fields) - !has_flags, a, ret, &n);

	return r < 0 ? r : n == 1 ? 0 : -EOPNOTSUPP;
}

int seccomp_listener_of(int fd, struct arena *a, struct seccomp_listener_seen *ret)
{
	struct bpf_row *row;
	int r = walk(fd, true, a, &row);

	if (r == -EOPNOTSUPP)
		r = walk(fd, false, a, &row);
	if (r < 0)
		return r;
	*ret = (struct seccomp_listener_seen){.filter = row->values[0],
		.ended = (uint32_t)row->values[1] == 0,
		.flags = (uint32_t)row->values[3]};
	return ret->filter ? 0 : -EOPNOTSUPP;
}
