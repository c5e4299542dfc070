/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug.Stacks: where tasks stand, as /proc tells it, and what their stacks look like. User frames are found as a debugger without
 * debug information would: values on the stack that point behind a call instruction.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "checkpoint/native/task.h"
#include "linux/procfs.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/sandbox.h"

enum { STACK_BYTES = 16 << 10, FRAMES_MAX = 64, CALL_BYTES = 7, TEXT_MAX = 16 << 10 };

struct looking {
	const struct container *k;
	struct json_object *list;
	bool stop;
	/* of the process: */
	pid_t pid;
	int mem;
	struct arena arena;
	struct proc_vma *vmas;
	size_t n_vmas;
};

static bool read_task(const struct looking *l, pid_t tid, const char *name, char *buf, size_t size)
{
	char path[80];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", l->pid, tid, name);
	n = read_small_file_at(AT_FDCWD, path, buf, size);
	while (n > 0 && buf[n - 1] == '\n')
		buf[--n] = 0;
	if (n <= 0)
		buf[0] = 0;
	return n > 0;
}

static const struct proc_vma *vma_at(const struct looking *l, uint64_t address)
{
	for (size_t i = 0; i < l->n_vmas; i++)
		if (address >= l->vmas[i].start && address < l->vmas[i].end)
			return &l->vmas[i];
	return NULL;
}

/* call rel32, or a call through a register or memory: 2, 3, 6 or 7 bytes. */
static bool is_behind_call(const struct looking *l, uint64_t address)
{
	static const int by_modrm[] = {2, 3, 6, 7};
	uint8_t b[CALL_BYTES];

	if (pread(l->mem, b, sizeof(b), (off_t)(address - sizeof(b))) != sizeof(b))
		return false;
	if (b[CALL_BYTES - 5] == 0xe8)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(by_modrm); i++)
		if (b[CALL_BYTES - by_modrm[i]] == 0xff && (b[CALL_BYTES - by_modrm[i] + 1] >> 3 & 7) == 2)
			return true;
	return false;
}

static void add_hex(struct json_object *o, const char *key, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)n);
	json_add_string(o, key, text);
}

static void add_frame(struct json_object *list, const struct proc_vma *v, uint64_t address, bool found)
{
	struct json_object *o = json_object_new_object();

	add_hex(o, "address", address);
	json_object_object_add(o, "found", json_object_new_boolean(found));
	if (v && *v->name) {
		json_add_string(o, "file", v->name);
		add_hex(o, "offset", address - v->start + v->offset);
	}
	json_object_array_add(list, o);
}

static struct json_object *user_frames(const struct looking *l, uint64_t sp, uint64_t pc)
{
	struct json_object *list = json_object_new_array();
	uint64_t words[STACK_BYTES / 8];
	const struct proc_vma *v;
	ssize_t n;

	if (!pc)
		return list;
	add_frame(list, vma_at(l, pc), pc, false);
	n = l->mem < 0 ? 0 : pread(l->mem, words, sizeof(words), (off_t)(sp & ~7ull));
	for (ssize_t i = 0; i < n / 8 && json_object_array_length(list) < FRAMES_MAX; i++) {
		v = vma_at(l, words[i]);
		if (v && (v->prot & PROT_EXEC) && is_behind_call(l, words[i]))
			add_frame(list, v, words[i], true);
	}
	return list;
}

/* By ptrace, for a moment. False: it has gone, or somebody else traces it. */
static bool stopped_at(pid_t tid, uint64_t *sp, uint64_t *pc)
{
	_cleanup_(arena_done) struct arena a = {};
	struct error ignored;
	struct task t;
	bool known;

	if (task_seize(&t, tid, 0, &ignored) < 0)
		return false;
	known = task_interrupt(&t, &ignored) == 0 && task_wait_stop(&t, &ignored) == 0 &&
		task_read_registers(&t, &a, &ignored) == 0;
	*sp = t.regs.rsp;
	*pc = t.regs.rip;
	(void)!task_detach(&t, &ignored);
	return known;
}

/* "[<0>] do_wait+0x5e/0x130", one a line. */
static struct json_object *kernel_frames(const struct looking *l, pid_t tid)
{
	struct json_object *list = json_object_new_array();
	char text[TEXT_MAX], *rest = text, *line;

	if (!read_task(l, tid, "stack", text, sizeof(text)))
		return list;
	while ((line = strsep(&rest, "\n"))) {
		const char *name = strchr(line, ' ');

		json_object_array_add(list, json_object_new_string(name ? name + 1 : line));
	}
	return list;
}

static void add_task(const struct looking *l, pid_t tid, int inside)
{
	struct json_object *o = json_object_new_object();
	char comm[64], stat[1024], wchan[128], call[256], state[2] = "?";
	unsigned long long sp = 0, pc = 0, ignored[6];
	uint64_t stopped_sp, stopped_pc;
	const char *end;
	int nr;

	/* Before it is stopped, which would be all that there is to be seen. */
	(void)read_task(l, tid, "comm", comm, sizeof(comm));
	(void)read_task(l, tid, "wchan", wchan, sizeof(wchan));
	end = read_task(l, tid, "stat", stat, sizeof(stat)) ? strrchr(stat, ')') : NULL;
	if (end && end[1] == ' ')
		state[0] = end[2];
	json_add_string(o, "id", l->k->id);
	json_object_object_add(o, "pid", json_object_new_int(l->pid));
	json_object_object_add(o, "pidInside", inside > 0 ? json_object_new_int(inside) : NULL);
	json_object_object_add(o, "tid", json_object_new_int(tid));
	json_add_string(o, "name", comm);
	json_add_string(o, "state", state);
	json_object_object_add(
		o, "waitsIn", *wchan && strcmp(wchan, "0") != 0 ? json_object_new_string(wchan) : NULL);
	if (read_task(l, tid, "syscall", call, sizeof(call)) &&
		sscanf(call, "%d %llx %llx %llx %llx %llx %llx %llx %llx", &nr, &ignored[0], &ignored[1],
			&ignored[2], &ignored[3], &ignored[4], &ignored[5], &sp, &pc) == 9 &&
		nr >= 0)
		json_object_object_add(o, "systemCall", json_object_new_int(nr));
	else
		json_object_object_add(o, "systemCall", NULL);
	json_object_object_add(o, "kernel", kernel_frames(l, tid));
	if (l->stop && stopped_at(tid, &stopped_sp, &stopped_pc)) {
		sp = stopped_sp;
		pc = stopped_pc;
	}
	json_object_object_add(o, "user", user_frames(l, sp, pc));
	json_object_array_add(l->list, o);
}

static void add_process(struct looking *l, pid_t pid)
{
	int inside = container_pid_inside(l->k, pid);
	pid_t *tids = NULL;
	char path[64];
	size_t n = 0;

	l->pid = pid;
	l->arena = (struct arena){};
	l->vmas = NULL;
	l->n_vmas = 0;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	l->mem = open(path, O_RDONLY | O_CLOEXEC);
	if (proc_read_maps(pid, false, &l->arena, &l->vmas, &l->n_vmas) < 0)
		l->n_vmas = 0;
	if (proc_read_tids(pid, &l->arena, &tids, &n) < 0)
		n = 0; /* gone meanwhile */
	for (size_t i = 0; i < n; i++)
		add_task(l, tids[i], inside);
	close_p(&l->mem);
	arena_done(&l->arena);
}

static int add_container(struct call *c, const struct container *k, struct json_object *list, struct error *e)
{
	_cleanup_free_ pid_t *pids = NULL;
	struct looking l = {.k = k, .list = list, .stop = call_bool(c, "stop"), .mem = -EBADF};
	size_t n;
	int r = container_pids(k, false, &pids, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++)
		add_process(&l, pids[i]);
	return r;
}

static int add_all(struct call *c, struct json_object *list, struct error *e)
{
	_cleanup_(sandbox_free_p) struct sandbox *s = NULL;
	int r = sandbox_open(c->supervisor->root, c->supervisor->id, &s, e);

	if (r == -ENOENT)
		return 0;
	for (size_t i = 0; r == 0 && i < s->n_members; i++) {
		_cleanup_(container_free_p) struct container *k = NULL;

		/* Who is stopped by us must not be stopped by a checkpoint meanwhile. */
		r = container_load(s->root, s->members[i].id, call_bool(c, "stop"), &k, e);
		if (r == -ENOENT && e->kind == ERROR_STATE)
			r = 0; /* deleted meanwhile */
		else if (r == 0 && container_status(k) > CONTAINER_CREATING &&
			 container_status(k) < CONTAINER_STOPPED)
			r = add_container(c, k, list, e);
	}
	return r;
}

static int stacks(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	_cleanup_json_ struct json_object *list = json_object_new_array();
	struct json_object *o;
	int r = call_no_fds(c, e);

	if (r == 0 && call_string(c, "id")) {
		r = call_container_named(c, call_bool(c, "stop"), &k, e);
		if (r == 0 && container_status(k) == CONTAINER_STOPPED)
			r = error_set(e, -ESRCH, ERROR_STATE, "container not running: %s is stopped", k->id);
		if (r == 0)
			r = add_container(c, k, list, e);
	} else if (r == 0) {
		r = add_all(c, list, e);
	}
	if (r < 0)
		return r;
	o = json_object_new_object();
	json_object_object_add(o, "tasks", take_ptr(list));
	return call_reply(c, o, false);
}

const struct method debug_methods[] = {
	{"io.stasis.Debug", "Stacks", stacks, METHOD_WORKER},
	{},
};
