/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory has a table of its contexts (mm_struct.ioctx_table). What is in flight is counted in a percpu_ref, which has one from
 * the beginning, and one for each request until its event and its eventfd's signal are out: the sum of what it has for each CPU.
 *
 * Where a CPU's own memory lies no symbol says that every kernel would let us use. But a map of ours with a value for each CPU has both, the
 * pointer that is good for all CPUs, and for each CPU the address that is meant.
 */
#include "linux/bpfaio.h"

#include <stdlib.h>

#include "base/fd.h"
#include "linux/bpfcode.h"
#include "linux/bpfwalk.h"
#include "linux/cpus.h"

/* A row of what the program writes, in words. */
enum {
	CONTEXT,
	ADDRESS,
	LENGTH,
	ID,
	MAX_REQUESTS,
	N_EVENTS,
	TAIL,
	COMPLETED,
	CANCELLABLE, /* the head of a list: empty, it points to itself */
	COUNTER,     /* the percpu_ref: where the counts are; the lowest bits: it counts otherwise just now */
	SUM,
	TABLE_SIZE,
	N_WORDS,
};
enum { FLAGS_OF_COUNTER = 3, OWN_REFERENCE = 1 };
/* On the stack, below the row. */
enum { TABLE = -8 * N_WORDS - 8, SIZE = TABLE - 8, SCRATCH = SIZE - 8 };

enum place {
	AT_MM,
	AT_TABLE,
	AT_SIZE,
	AT_ENTRIES,
	AT_ADDRESS,
	AT_LENGTH,
	AT_ID,
	AT_MAX_REQUESTS,
	AT_N_EVENTS,
	AT_TAIL,
	AT_COMPLETED,
	AT_CANCELLABLE,
	AT_REFERENCES,
	AT_COUNTER,
	AT_POINTER,
	FUNCTION,
	N_PLACES,
};

/* Entries of the table that a program reads one after the other: of a loop the verifier takes its time. */
enum { ENTRIES = 16, PROGRAMS = AIO_CONTEXTS / ENTRIES };

/* What the first look has found out, once for this process. */
static struct {
	bool known;
	int problem;	/* a negative errno: no look is possible */
	uint64_t *cpus; /* see read_cpus() */
	uint32_t n_cpus;
	int programs[PROGRAMS]; /* each for some entries of the table; 0: it is not needed yet */
	struct bpf_place at[N_PLACES];
} here = {
	.at = {[AT_MM] = {"task_struct", "mm", 0},
		[AT_TABLE] = {"mm_struct", "ioctx_table", 0},
		[AT_SIZE] = {"kioctx_table", "nr", 0},
		[AT_ENTRIES] = {"kioctx_table", "table", 0},
		[AT_ADDRESS] = {"kioctx", "user_id", 0},
		[AT_LENGTH] = {"kioctx", "mmap_size", 0},
		[AT_ID] = {"kioctx", "id", 0},
		[AT_MAX_REQUESTS] = {"kioctx", "max_reqs", 0},
		[AT_N_EVENTS] = {"kioctx", "nr_events", 0},
		[AT_TAIL] = {"kioctx", "tail", 0},
		[AT_COMPLETED] = {"kioctx", "completed_events", 0},
		[AT_CANCELLABLE] = {"kioctx", "active_reqs", 0},
		[AT_REFERENCES] = {"kioctx", "reqs", 0},
		[AT_COUNTER] = {"percpu_ref", "percpu_count_ptr", 0},
		[AT_POINTER] = {"bpf_array", "pptrs", 0},
		[FUNCTION] = {"bpf_iter_task", NULL, 0}},
};

enum { INSNS = 64 + ENTRIES * 128, INSNS_OF_CPU = ENTRIES * 12 };
struct code {
	struct bpf_insn *insns;
	unsigned n;
};

static int code_new(uint32_t n_cpus, struct code *ret)
{
	*ret = (struct code){calloc(INSNS + (size_t)INSNS_OF_CPU * n_cpus, sizeof(*ret->insns)), 0};
	return ret->insns ? 0 : -ENOMEM;
}

static void code_done(struct code *c)
{
	free(c->insns);
}

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

static void jump_back(struct code *c, unsigned to)
{
	emit(c, INSN(BPF_JMP | BPF_JA, 0, 0, (int)to - (int)c->n - 1, 0));
}

static int word(int k)
{
	return 8 * (k - N_WORDS);
}

/* Into a slot, from where r3 points to. */
static void emit_read(struct code *c, int slot, int size)
{
	emit(c, COPY(BPF_REG_1, BPF_REG_10));
	emit(c, ADD(BPF_REG_1, slot));
	emit(c, SET(BPF_REG_2, size));
	emit(c, CALL(BPF_FUNC_probe_read_kernel));
}

/* Into a slot: a member of what another slot points to. */
static void emit_member(struct code *c, int slot, int size, int pointer, int at)
{
	emit(c, LOAD(BPF_DW, BPF_REG_3, BPF_REG_10, pointer));
	emit(c, ADD(BPF_REG_3, at));
	emit_read(c, slot, size);
}

static void emit_zero(struct code *c, int slot)
{
	emit(c, INSN(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, slot, 0));
}

static void emit_constant(struct code *c, int reg, uint64_t value)
{
	emit(c, INSN(BPF_LD | BPF_DW | BPF_IMM, reg, 0, 0, (int32_t)value));
	emit(c, INSN(0, 0, 0, 0, (int32_t)(value >> 32)));
}

static void emit_sum(struct code *c)
{
	for (uint32_t i = 0; i < here.n_cpus; i++) {
		emit_constant(c, BPF_REG_3, here.cpus[i + 1]);
		emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, word(COUNTER)));
		emit(c, INSN(BPF_ALU64 | BPF_ADD | BPF_X, BPF_REG_3, BPF_REG_1, 0, 0));
		emit_read(c, SCRATCH, 8);
		emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, SCRATCH));
		emit(c, LOAD(BPF_DW, BPF_REG_2, BPF_REG_10, word(SUM)));
		emit(c, INSN(BPF_ALU64 | BPF_ADD | BPF_X, BPF_REG_2, BPF_REG_1, 0, 0));
		emit(c, STORE(word(SUM), BPF_REG_2));
	}
}

/* Of the stack; r7: what begins with the seq_file. */
static void emit_write(struct code *c, int slot, int size)
{
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, 0));
	emit(c, COPY(BPF_REG_2, BPF_REG_10));
	emit(c, ADD(BPF_REG_2, slot));
	emit(c, SET(BPF_REG_3, size));
	emit(c, CALL(BPF_FUNC_seq_write));
}

/* The row of an entry of the table. */
static void emit_row(struct code *c, uint32_t entry)
{
	static const struct {
		int word, size;
		enum place at;
	} members[] = {
		{ADDRESS, 8, AT_ADDRESS},
		{LENGTH, 8, AT_LENGTH},
		{ID, 4, AT_ID},
		{MAX_REQUESTS, 4, AT_MAX_REQUESTS},
		{N_EVENTS, 4, AT_N_EVENTS},
		{TAIL, 4, AT_TAIL},
		{COMPLETED, 4, AT_COMPLETED},
		{CANCELLABLE, 8, AT_CANCELLABLE},
	};
	unsigned empty;

	for (int k = 0; k < N_WORDS; k++)
		emit_zero(c, word(k));
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, SIZE));
	emit(c, STORE(word(TABLE_SIZE), BPF_REG_1));
	emit_member(c, word(CONTEXT), 8, TABLE, here.at[AT_ENTRIES].at + 8 * (int)entry);
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, word(CONTEXT)));
	empty = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 0, 0));
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		emit_member(
			c, word(members[i].word), members[i].size, word(CONTEXT), here.at[members[i].at].at);
	emit_member(c, word(COUNTER), 8, word(CONTEXT), here.at[AT_REFERENCES].at + here.at[AT_COUNTER].at);
	emit_sum(c);
	land(c, empty);
	emit_write(c, word(0), 8 * N_WORDS);
}

static void emit_end(struct code *c)
{
	emit(c, SET(BPF_REG_0, 0));
	emit(c, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

/* The context has a struct bpf_iter_meta, which begins with the seq_file, and the task (none: it is the end). */
static void write_program(struct code *c, uint32_t first)
{
	emit(c, LOAD(BPF_DW, BPF_REG_7, BPF_REG_1, 0));
	emit(c, LOAD(BPF_DW, BPF_REG_6, BPF_REG_1, 8));
	emit(c, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_6, 0, 2, 0));
	emit_end(c);
	emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, here.at[AT_MM].at));
	emit(c, STORE(TABLE, BPF_REG_1));
	emit_zero(c, SIZE);
	emit_zero(c, SCRATCH);
	emit_member(c, TABLE, 8, TABLE, here.at[AT_TABLE].at);
	emit_member(c, SIZE, 4, TABLE, here.at[AT_SIZE].at);
	for (uint32_t i = 0; i < ENTRIES; i++) {
		unsigned behind;

		emit(c, LOAD(BPF_DW, BPF_REG_1, BPF_REG_10, SIZE));
		behind = emit(c, INSN(BPF_JMP | BPF_JLE | BPF_K, BPF_REG_1, 0, 0, (int)(first + i)));
		emit_row(c, first + i);
		land(c, behind);
	}
	emit_end(c);
}

/* A pointer as a number, which may be reckoned with. */
static void emit_as_number(struct code *c, int slot, int reg)
{
	emit(c, STORE(SIZE, reg));
	emit(c, COPY(BPF_REG_3, BPF_REG_10));
	emit(c, ADD(BPF_REG_3, SIZE));
	emit_read(c, slot, 8);
}

/* Writes the pointer of a map's value, and for each CPU what it is there. */
static void write_calibration(struct code *c, int map, uint32_t n_cpus)
{
	unsigned end, loop, all, none;

	emit(c, LOAD(BPF_DW, BPF_REG_7, BPF_REG_1, 0));
	emit(c, LOAD(BPF_DW, BPF_REG_6, BPF_REG_1, 8));
	end = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 0, 0));
	emit_zero(c, SCRATCH);
	emit_zero(c, TABLE);
	emit(c, INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map));
	emit(c, INSN(0, 0, 0, 0, 0));
	emit_as_number(c, SCRATCH, BPF_REG_1);
	emit_member(c, SCRATCH, 8, SCRATCH, here.at[AT_POINTER].at);
	emit_write(c, SCRATCH, 8);
	emit(c, SET(BPF_REG_9, 0));
	loop = c->n;
	all = emit(c, INSN(BPF_JMP | BPF_JGE | BPF_K, BPF_REG_9, 0, 0, (int)n_cpus));
	emit(c, INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map));
	emit(c, INSN(0, 0, 0, 0, 0));
	emit(c, COPY(BPF_REG_2, BPF_REG_10));
	emit(c, ADD(BPF_REG_2, TABLE)); /* the key: 0 */
	emit(c, COPY(BPF_REG_3, BPF_REG_9));
	emit(c, CALL(BPF_FUNC_map_lookup_percpu_elem));
	none = emit(c, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 0, 0));
	emit_as_number(c, SCRATCH, BPF_REG_0);
	emit_write(c, SCRATCH, 8);
	emit(c, ADD(BPF_REG_9, 1));
	jump_back(c, loop);
	land(c, end);
	land(c, all);
	land(c, none);
	emit_end(c);
}

static int read_all(int program, pid_t tid, void *buf, size_t size, size_t *ret)
{
	_cleanup_close_ int fd = bpf_iterate_thread(program, tid);
	ssize_t n = fd < 0 ? fd : read(fd, buf, size);

	if (n < 0)
		return fd < 0 ? fd : -errno;
	*ret = n;
	return 0;
}

static int load(struct code *c)
{
	return bpf_load_iterator(c->insns, c->n, (uint32_t)here.at[FUNCTION].at);
}

/* How far each CPU's own memory is from what pointers to it say. The pointer itself comes first: room for n_cpus + 1. */
static int read_cpus(uint64_t *cpus, uint32_t n_cpus)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_PERCPU_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};
	_cleanup_close_ int map = bpf_command(BPF_MAP_CREATE, &attr), program = -EBADF;
	size_t n = 0, size = (n_cpus + 1) * sizeof(*cpus);
	struct code c;
	int r = map < 0 ? map : code_new(n_cpus, &c);

	if (r < 0)
		return r;
	write_calibration(&c, map, n_cpus);
	program = load(&c);
	code_done(&c);
	r = program < 0 ? program : read_all(program, gettid(), cpus, size, &n);
	if (r < 0)
		return r;
	for (uint32_t i = 1; i <= n_cpus; i++)
		cpus[i] -= cpus[0];
	return n == size && cpus[0] != 0 ? 0 : -EOPNOTSUPP;
}

static int find_out(void)
{
	bool in_a_row = false;
	uint32_t n_cpus = cpus_possible(&in_a_row);
	_cleanup_free_ uint64_t *cpus = calloc(n_cpus + 1, sizeof(*cpus));
	int r = cpus ? bpf_places(here.at, ARRAY_SIZE(here.at)) : -ENOMEM;

	/* A jump over one entry is not further than 32767 instructions. */
	if (r == 0 && (n_cpus == 0 || n_cpus > 2048 || !in_a_row))
		r = -EOPNOTSUPP;
	if (r == 0)
		r = read_cpus(cpus, n_cpus);
	if (r < 0)
		return r;
	here.n_cpus = n_cpus;
	here.cpus = take_ptr(cpus);
	return 0;
}

static int program_for(uint32_t first)
{
	int *program = &here.programs[first / ENTRIES];
	struct code c;
	int r;

	if (*program > 0)
		return *program;
	r = code_new(here.n_cpus, &c);
	if (r < 0)
		return r;
	write_program(&c, first);
	r = load(&c);
	code_done(&c);
	if (r > 0)
		*program = r;
	return r;
}

static struct aio_context describe(const uint64_t *row)
{
	return (struct aio_context){.address = row[ADDRESS],
		.length = row[LENGTH],
		.id = (uint32_t)row[ID],
		.max_requests = (uint32_t)row[MAX_REQUESTS],
		.n_events = (uint32_t)row[N_EVENTS],
		.tail = (uint32_t)row[TAIL],
		.completed = (uint32_t)row[COMPLETED],
		.in_flight = row[COUNTER] & FLAGS_OF_COUNTER ? -1 : (int64_t)row[SUM] - OWN_REFERENCE,
		.cancellable = row[CANCELLABLE] != row[CONTEXT] + (uint64_t)here.at[AT_CANCELLABLE].at};
}

int aio_read_contexts(pid_t tid, struct arena *a, struct aio_context **ret, size_t *ret_n)
{
	uint64_t rows[ENTRIES][N_WORDS], size = ENTRIES;
	size_t n = 0;

	if (!here.known)
		here.problem = find_out();
	here.known = true;
	*ret = arena_array(a, AIO_CONTEXTS, sizeof(**ret));
	if (here.problem < 0 || !*ret)
		return *ret ? here.problem : -ENOMEM;
	for (uint32_t first = 0; first < size; first += ENTRIES) {
		int program = first < AIO_CONTEXTS ? program_for(first) : -E2BIG;
		size_t bytes = 0;
		int r = program < 0 ? program : read_all(program, tid, rows, sizeof(rows), &bytes);

		if (r < 0)
			return r;
		if (bytes % sizeof(rows[0]))
			return -EIO;
		for (size_t i = 0; i < bytes / sizeof(rows[0]); i++) {
			size = rows[i][TABLE_SIZE];
			if (rows[i][CONTEXT])
				(*ret)[n++] = describe(rows[i]);
		}
	}
	*ret_n = n;
	return 0;
}
