/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot is made by a fork: in each process with much private memory a batch (batch.h) makes a child, which keeps what is
 * to be copied, unmaps all else, and ends. At its end its memory is held (memory-hold.h); then it dies and is reaped. All of
 * this happens while the tasks are stopped, so that nobody can see it, and what is left is memory without a process: no
 * pid, no descriptor, nothing that could be signalled, waited for or counted.
 *
 * The child never runs an instruction of the program, and should we die, its batch ends it. It has no exit signal, so
 * only who asks for such children (__WALL) could wait for it; its parent reaps it in another call of ours. What is left
 * of this then does the guard, by the journal.
 *
 * Mappings whose fork is not a copy (MADV_DONTFORK, MADV_WIPEONFORK, huge pages of the pool), that may not be read, have
 * guard regions, or pages that relatives share, are copied while the tasks are stopped.
 */
#include "checkpoint/native/snapshot.h"

#include <linux/rseq.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/trace.h"
#include "checkpoint/native/batch.h"
#include "checkpoint/native/memory-hold.h"
#include "checkpoint/native/pre-copy.h"
#include "checkpoint/native/pid-cursor.h"
#include "checkpoint/native/shared-pages.h"

/* Less than this is sooner copied than forked: a fork takes about 0.5 ms, and then 1/15 of the time of a copy. */
enum { PROCESS_MIN_KIB = 8 << 10, MAPPING_MIN_KIB = 256, MAPPINGS_MAX = 64, OPS_MAX = MAPPINGS_MAX + 7 };

struct forking {
	struct dump_proc *p;
	struct task child;
	struct snapshot snapshot;
	uint64_t first; /* readable: the beginning of a mapping that it keeps */
	bool begun, made, dead;
};

struct snapshots {
	struct memory_holds *holds;
	struct forking forks[DUMP_SNAPSHOTS_MAX];
	unsigned n;
	uint64_t kib; /* of all of them */
	uint64_t available_kib;
	uint64_t oom_kills; /* of the machine, before the freeze */
};

/* A number that follows a name in a file of lines. */
static uint64_t number_in(const char *path, const char *name)
{
	char text[16384];
	const char *at;

	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	at = strstr(text, name);
	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Where all memory is accounted for beforehand, a program could be refused memory because we hold a copy. */
static bool overcommit_is_strict(void)
{
	char text[16];

	return read_small_file_at(AT_FDCWD, "/proc/sys/vm/overcommit_memory", text, sizeof(text)) <= 0 ||
	       text[0] == '2';
}

/* It takes the kernel the longer the more CPUs there are. */
static uint64_t oom_kills(void)
{
	return number_in("/proc/vmstat", "\noom_kill ");
}

int dump_snapshots_prepare(struct dump *d, struct error *e)
{
	struct memory_holds *holds;

	if (!d->options->leave_running || d->unprivileged || overcommit_is_strict() ||
		memory_holds_new(DUMP_SNAPSHOTS_MAX, &holds) < 0)
		return 0;
	d->snapshots = arena_new(&d->arena, struct snapshots);
	if (!d->snapshots) {
		memory_holds_free(holds);
		return error_errno(e, -ENOMEM, "snapshots");
	}
	d->snapshots->holds = holds;
	d->snapshots->available_kib = number_in("/proc/meminfo", "MemAvailable:");
	d->snapshots->oom_kills = oom_kills();
	return 0;
}

/* KiB of a mapping that a snapshot can hold; 0: not this one. */
static uint64_t holdable_kib(const struct dump *d, const struct proc_vma *v)
{
	const uint32_t not = VMA_DC | VMA_WF | VMA_WC | VMA_HT | VMA_DP | VMA_GU | VMA_UM | VMA_UI | VMA_IO |
			     VMA_PF | VMA_MM | VMA_SS | VMA_UNKNOWN;

	if (v->shared || v->inode || !(v->prot & PROT_READ) || (v->flags & not ) ||
		strncmp(v->name, "[v", 2) == 0 || shared_pages_possible(d, v))
		return 0;
	return v->anonymous_kib + v->swap_kib;
}

/* The larger mappings, if these are many. Their sum; 0: it is not worth while. */
static uint64_t choose_mappings(const struct dump *d, struct dump_proc *p)
{
	uint64_t least = MAPPING_MIN_KIB, sum;
	size_t n;

	for (;; least *= 2) {
		sum = n = 0;
		for (size_t i = 0; i < p->n_vmas; i++) {
			uint64_t kib = holdable_kib(d, &p->vmas[i]);

			p->late[i] = kib >= least;
			n += p->late[i];
			sum += p->late[i] ? kib : 0;
		}
		if (p->sizes_unknown)
			sum = MIN(sum, p->status.vm_rss_kib);
		if (n <= MAPPINGS_MAX)
			return sum >= PROCESS_MIN_KIB ? sum : 0;
	}
}

/* Whether its child would be where it is itself. The first child in a new pid namespace would be the init of that. */
static bool children_stay(const struct dump *d, const struct dump_proc *p)
{
	static const char *const kinds[][2] = {
		{"ns/pid", "ns/pid_for_children"}, {"ns/time", "ns/time_for_children"}};
	char self[64], children[64];

	if (p->status.n_ns != d->pid_level + 1)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ssize_t n = proc_readlink(p->shown, kinds[i][0], self, sizeof(self));

		if (n == -ENOENT && i > 0)
			continue; /* a kernel without time namespaces */
		if (n < 0 || proc_readlink(p->shown, kinds[i][1], children, sizeof(children)) < 0 ||
			strcmp(self, children) != 0)
			return false;
	}
	return true;
}

/* If the program writes to all of its memory meanwhile, all of that is there twice. */
static bool there_is_room(const struct dump *d, const struct dump_proc *p, uint64_t kib)
{
	const struct snapshots *s = d->snapshots;
	uint64_t needed = (s->kib + kib) + (s->kib + kib) / 128;

	return needed < s->available_kib / 2 && cgroup_memory_room(&d->c->cgroup, p->shown) / 1024 > needed;
}

static int choose(struct dump *d, struct dump_proc *p, struct error *e)
{
	struct snapshots *s = d->snapshots;
	uint64_t kib;

	p->late = arena_array(&d->arena, MAX(p->n_vmas, (size_t)1), sizeof(*p->late));
	if (!p->late)
		return error_errno(e, -ENOMEM, "snapshots");
	kib = choose_mappings(d, p);
	if (kib == 0 || s->n == DUMP_SNAPSHOTS_MAX || !children_stay(d, p) || !there_is_room(d, p, kib)) {
		p->late = NULL;
		return 0;
	}
	s->kib += kib;
	s->forks[s->n] = (struct forking){.p = p, .snapshot = {s->n, -EBADF, -EBADF}};
	s->n++;
	return 0;
}

int dump_snapshots_choose(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_procs && r == 0 && d->snapshots; i++)
		if (!d->procs[i].zombie && !dump_is_member(&d->procs[i]) && !pre_copy_has(&d->procs[i]) &&
			d->procs[i].status.vm_rss_kib >= PROCESS_MIN_KIB)
			r = choose(d, &d->procs[i], e);
	return r;
}

/* What the child unmaps: all but the mappings that it keeps, and the area in which it runs. */
static void unmap_others(struct batch *b, const struct dump_proc *p, uint64_t *ret_first)
{
	uint64_t at = 0, end = 0, area_end = p->area + p->area_len;
	bool area_kept = false;

	for (size_t i = 0; i <= p->n_vmas; i++) {
		const struct proc_vma *v = i < p->n_vmas ? &p->vmas[i] : NULL;

		if (!area_kept && (!v || v->start > p->area)) {
			if (p->area > at)
				batch_call(b, 0, SYS_munmap, at, p->area - at);
			at = area_end;
			area_kept = true;
		}
		if (v && v->end < INT64_MAX) /* not [vsyscall] */
			end = v->end;
		if (!v || !p->late[i])
			continue;
		if (!*ret_first)
			*ret_first = v->start;
		if (v->start > at)
			batch_call(b, 0, SYS_munmap, at, v->start - at);
		at = v->end;
	}
	if (end > at)
		batch_call(b, 0, SYS_munmap, at, end - at);
}

/* Over the questions of its first thread, which have been answered: two calls, then those of the child. */
static int place_fork(struct forking *f)
{
	struct dump_thread *t = &f->p->threads[0];
	struct op ops[OPS_MAX + 1] = {};
	struct batch b = {.ops = ops, .max_ops = OPS_MAX};
	uint64_t *stack = (uint64_t *)&ops[OPS_MAX];
	size_t own;
	int r;

	batch_call(&b, OP_MAY_FAIL | OP_CHILD, SYS_clone, CLONE_FILES | CLONE_FS,
		t->ops + OPS_MAX * sizeof(struct op));
	dump_end_batch(&b, f->p, t);
	own = b.n_ops;
	/* Where the kernel writes on which CPU it runs may be unmapped. */
	if (t->msg->rseq_addr)
		batch_call(&b, 0, SYS_rseq, t->msg->rseq_addr, t->msg->rseq_len, RSEQ_FLAG_UNREGISTER,
			t->msg->rseq_signature);
	unmap_others(&b, f->p, &f->first);
	batch_call(&b, OP_MAY_FAIL, SYS_exit_group, 0);
	stack[0] = t->ops + own * sizeof(struct op);
	stack[1] = b.n_ops - own;
	if (b.overflow || t->n_ops < ARRAY_SIZE(ops))
		return -ENOSPC;
	r = task_write_memory(f->p->shown, t->ops, ops, sizeof(ops));
	return r < 0 ? r : (int)own;
}

static int begin(struct forking *f, struct error *e)
{
	struct dump_thread *t = &f->p->threads[0];
	int own = place_fork(f), r;

	if (own < 0)
		return 0;
	r = task_trace_children(&t->task, true, e);
	if (r == 0)
		r = task_batch_start(
			&t->task, f->p->area, t->ops, own, f->p->area + f->p->area_head, t->frame, e);
	f->begun = r == 0;
	return r;
}

/* The batch of the parent comes to its end, with or without a child. */
static int wait_for_child(struct forking *f, struct error *e)
{
	struct task *t = &f->p->threads[0].task;
	int r = task_batch_child(t, &f->child, e), after;

	f->made = r == 0;
	if (f->made)
		r = task_batch_wait(t, e);
	after = task_trace_children(t, false, r < 0 ? NULL : e);
	return r < 0 ? r : after;
}

static int open_file(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The child runs to its end, and its memory is held. Whatever fails here, memory is copied in the old way. */
static void hold(struct dump *d, struct forking *f)
{
	struct snapshot *s = &f->snapshot;
	struct error ignored;
	int status = 0, r = task_child_to_exit(&f->child, &status, &ignored);

	f->dead = r == 1;
	if (r != 0 || status != 0)
		return;
	s->mem_fd = open_file(f->child.tid, "mem");
	s->pagemap_fd = open_file(f->child.tid, "pagemap");
	if (s->mem_fd >= 0 && s->pagemap_fd >= 0 &&
		memory_hold(d->snapshots->holds, s->number, s->mem_fd, f->first) == 0)
		f->p->snapshot = s;
}

/* The children, as their parents know them, are reaped by these. */
static int reap(struct dump *d, struct error *e)
{
	struct snapshots *s = d->snapshots;
	struct task_call calls[DUMP_SNAPSHOTS_MAX];
	struct error ignored;
	size_t n = 0;
	int r = 0;

	for (unsigned i = 0; i < s->n; i++) {
		struct forking *f = &s->forks[i];
		int64_t pid = 0;

		if (!f->made)
			continue;
		if (!f->dead && task_child_end(&f->child, r < 0 ? &ignored : e) < 0)
			r = r < 0 ? r : e->code;
		if (task_read_memory(f->p->shown, f->p->threads[0].ops + offsetof(struct op, result), &pid,
			    sizeof(pid)) < 0)
			continue; /* its parent is dead */
		calls[n++] = (struct task_call){.task = &f->p->threads[0].task,
			.insn = f->p->syscall_insn,
			.nr = SYS_wait4,
			.args = {pid, 0, __WALL | WNOHANG, 0}};
	}
	if (task_calls(calls, n, r < 0 ? NULL : e) < 0)
		r = r < 0 ? r : e->code;
	for (size_t i = 0; i < n && r == 0; i++)
		if (calls[i].result != (int64_t)calls[i].args[0])
			r = error_set(e, -EIO, ERROR_INTERNAL, "the snapshot of pid %d was not reaped: %lld",
				calls[i].task->tid, (long long)calls[i].result);
	return r;
}

static void note(struct dump *d)
{
	struct dump_journal *j = d->journal;
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	for (unsigned i = 0; i < d->snapshots->n; i++) {
		const struct dump_proc *p = d->snapshots->forks[i].p;

		j->forking[i].pid = p->shown;
		j->forking[i].syscall_insn = p->syscall_insn;
		j->forking[i].since = now.tv_sec * sysconf(_SC_CLK_TCK);
	}
	j->n_forking = d->snapshots->n;
}

/* All forks at once; then one after the other is followed to its end. The first error counts, the others are seen off. */
static int fork_all(struct dump *d, struct error *e)
{
	struct snapshots *s = d->snapshots;
	struct error *into = e, ignored = {};
	int first = 0, r;

	for (unsigned i = 0; i < s->n; i++) {
		r = begin(&s->forks[i], into);
		first = first < 0 ? first : r;
		into = first < 0 ? &ignored : e;
	}
	for (unsigned i = 0; i < s->n; i++) {
		r = s->forks[i].begun ? wait_for_child(&s->forks[i], into) : 0;
		first = first < 0 ? first : MIN(r, 0);
		into = first < 0 ? &ignored : e;
		if (s->forks[i].made)
			hold(d, &s->forks[i]);
	}
	r = fault_point("checkpoint-snapshot", into);
	first = first < 0 ? first : r;
	r = reap(d, first < 0 ? &ignored : e);
	return first < 0 ? first : r;
}

static void drop_all(struct dump *d)
{
	for (unsigned i = 0; i < d->snapshots->n; i++) {
		memory_let_go(d->snapshots->holds, i);
		d->snapshots->forks[i].p->snapshot = NULL;
	}
}

int dump_snapshots_take(struct dump *d, struct error *e)
{
	TRACE("snapshots");
	struct pid_cursor cursor = {.end = -EBADF};
	int r;

	if (!d->snapshots || d->snapshots->n == 0 || pid_cursor_hold(d->c->init_pid, &cursor) < 0)
		return 0;
	note(d);
	r = fork_all(d, e);
	if (pid_cursor_release(&cursor) < 0 && r == 0)
		r = error_set(e, -EIO, ERROR_SYSTEM, "put the next pid of the container back");
	d->journal->n_forking = 0;
	/* Who is out of memory might have chosen the child, and taken its memory away from under us. */
	if (oom_kills() != d->snapshots->oom_kills)
		drop_all(d);
	return r;
}

void dump_snapshots_done(struct dump *d)
{
	struct snapshots *s = d->snapshots;

	if (!s)
		return;
	for (unsigned i = 0; i < s->n; i++) {
		close_p(&s->forks[i].snapshot.mem_fd);
		close_p(&s->forks[i].snapshot.pagemap_fd);
	}
	memory_holds_free(s->holds);
	d->snapshots = NULL;
}

/* Its children that have no exit signal, are younger than the freeze, and dead. */
static size_t find_leftovers(const struct dump_forking *f, struct arena *a, uint64_t *ret, size_t max)
{
	char path[64], *text = NULL, *at;
	size_t n = 0, len;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", f->pid, f->pid);
	if (read_file_at(AT_FDCWD, path, 1 << 20, &text, &len) < 0)
		return 0;
	for (at = text; n < max && *at;) {
		pid_t pid = strtol(at, &at, 10);
		struct proc_status status;
		struct proc_stat stat;

		if (pid <= 0)
			break;
		at += *at == ' ';
		if (proc_read_stat(pid, &stat) == 0 && stat.exit_signal == 0 && stat.start_time >= f->since &&
			proc_read_status(pid, pid, a, &status) == 0)
			ret[n++] = status.ns_pid[status.n_ns - 1];
	}
	free(text);
	return n;
}

void dump_reap_leftover(const struct dump_forking *f)
{
	struct task_call calls[4];
	struct error ignored;
	struct arena a = {};
	uint64_t pids[4];
	struct task t;
	size_t n = find_leftovers(f, &a, pids, ARRAY_SIZE(pids));

	for (size_t i = 0; i < n; i++) {
		calls[i] = (struct task_call){.task = &t,
			.insn = f->syscall_insn,
			.nr = SYS_wait4,
			.args = {pids[i], 0, __WALL, 0}};
		if (dump_stop_leftover(&t, f->pid, &a) == 0 && task_calls(&calls[i], 1, &ignored) == 0)
			(void)!task_settle(&calls[i], 1, &ignored);
		(void)!task_detach(&t, &ignored);
	}
	arena_done(&a);
}
