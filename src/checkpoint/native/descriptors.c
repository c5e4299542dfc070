/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors of all processes. Looking at them is for helpers as well, some at a time; what they are (files.c) is
 * then said in order, so that a parent's are known before those that its children inherited.
 */
#include "checkpoint/native/dump.h"

#include <sys/resource.h>

#include "base/fd.h"
#include "checkpoint/native/res/res.h"

enum { AT_ONCE = 32 };

/* Descriptors of one process: those listed, or else the numbers from "first" on. */
struct some {
	struct dump_proc *p;
	const int *fds;
	size_t first, n;
	size_t keep; /* so many may keep their duplicate until they are dumped */
	struct dump_file *seen;
	size_t n_seen;
};

struct descriptors {
	struct dump *d;
	struct some *items;
	size_t n_items, max_items;
	size_t n, may_keep;
};

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "descriptors");
}

/* The numbers of the descriptors; *ret NULL: to be tried one after another, until *ret_n are found. That is cheaper
 * than the list if there are few gaps. */
static int numbers(struct dump *d, struct dump_proc *p, int **ret, size_t *ret_n)
{
	int r = p->by_proc ? -EOPNOTSUPP : proc_count_fds(p->shown, ret_n);

	*ret = NULL;
	if (r == 0 && p->status.fd_size / 4 <= *ret_n)
		return 0;
	return proc_read_fds(p->shown, &d->arena, ret, ret_n);
}

static int add_item(struct descriptors *all, const struct some *s, struct error *e)
{
	struct arena *a = &all->d->arena;
	struct some *to;

	if (all->n_items == all->max_items) {
		size_t want = all->max_items ? 2 * all->max_items : 64;
		struct some *more = arena_array(a, want, sizeof(*more));

		if (!more)
			return no_memory(e);
		for (size_t i = 0; i < all->n_items; i++)
			more[i] = all->items[i];
		all->items = more;
		all->max_items = want;
	}
	to = &all->items[all->n_items++];
	*to = *s;
	to->keep = MIN(s->n, all->may_keep);
	all->may_keep -= to->keep;
	to->seen = arena_array(a, s->n, sizeof(*to->seen));
	return to->seen ? 0 : no_memory(e);
}

/* -ENOENT, -ESRCH: it has ended. */
static int plan(struct descriptors *all, struct dump_proc *p, struct error *e)
{
	struct dump *d = all->d;
	size_t n;
	int *fds, r;

	r = numbers(d, p, &fds, &n);
	if (r == 0 && !p->by_proc)
		r = MIN(dump_pidfd(p), 0);
	if (r < 0)
		return error_errno(e, r, "descriptors of pid %d", p->pid);
	p->msg->descriptors = arena_array(&d->arena, n, sizeof(*p->msg->descriptors));
	if (!p->msg->descriptors)
		return no_memory(e);
	for (size_t i = 0; i < n && r == 0; i += AT_ONCE) {
		struct some s = {.p = p, .fds = fds, .first = i, .n = MIN(n - i, (size_t)AT_ONCE)};

		r = add_item(all, &s, e);
	}
	all->n += n;
	return r;
}

static int look(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct descriptors *all = arg;
	struct some *s = &all->items[item];

	for (size_t i = 0; i < s->n; i++) {
		int fd = s->fds ? s->fds[s->first + i] : (int)(s->first + i);
		int r = dump_view_fd(all->d, s->p, fd, s->n_seen < s->keep, worker, &s->seen[s->n_seen], e);

		if (r < 0)
			return r;
		s->n_seen += r == 0;
	}
	return 0;
}

static int add(struct dump *d, struct dump_file *seen, struct error *e)
{
	St__Process *m = seen->proc->msg;
	St__Descriptor *to = m->descriptors[m->n_descriptors] = pb_new(&d->arena, Descriptor, descriptor);
	int r;

	if (!to)
		return no_memory(e);
	r = dump_descriptor(d, seen, to, e);
	m->n_descriptors += r == 0;
	return r;
}

/* When all that were planned have been looked at: what is missing has higher numbers. */
static int add_rest(struct descriptors *all, const struct some *last, struct error *e)
{
	struct dump_proc *p = last->p;
	size_t n = last->first + last->n;

	for (size_t fd = n; !last->fds && fd < p->status.fd_size && p->msg->n_descriptors < n; fd++) {
		struct dump_file seen;
		int r = dump_view_fd(all->d, p, (int)fd, false, 0, &seen, e);

		if (r == 0)
			r = add(all->d, &seen, e);
		if (r < 0)
			return r;
	}
	/* While the tasks run some may have been closed. */
	if (all->d->stopped && p->msg->n_descriptors != n)
		return error_set(e, -EIO, ERROR_INTERNAL,
			"process %d has %zu descriptors, of which %zu were found", p->ns_pid, n,
			p->msg->n_descriptors);
	return 0;
}

static int add_all(struct descriptors *all, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < all->n_items && r == 0; i++) {
		struct some *s = &all->items[i];

		r = crew_need(all->d->crew, i, e);
		for (size_t k = 0; k < s->n_seen && r == 0; k++)
			r = add(all->d, &s->seen[k], e);
		if (r == 0 && (i + 1 == all->n_items || s[1].p != s->p))
			r = add_rest(all, s, e);
	}
	return r;
}

static size_t may_keep(const struct dump *d)
{
	struct rlimit limit = {};

	getrlimit(RLIMIT_NOFILE, &limit);
	return d->stopped ? limit.rlim_cur / 2 : 0;
}

static int plan_tables(struct descriptors *all, struct error *e)
{
	int r = 0;

	for (struct dump_table *t = all->d->tables; t && r == 0; t = t->next) {
		r = plan(all, &t->as, e);
		if ((r == -ENOENT || r == -ESRCH) && !all->d->stopped)
			r = 0;
	}
	return r;
}

/* Of the tables of threads: into their messages, with what is not kept. */
static void finish_tables(struct dump *d)
{
	for (struct dump_table *t = d->tables; t; t = t->next) {
		for (size_t i = 0; i < t->as.msg->n_descriptors; i++) {
			uint32_t fd = t->as.msg->descriptors[i]->fd;
			const struct dump_file *f = dump_file_by_id(d, t->as.msg->descriptors[i]->file);

			if (f && f->proc == &t->as && f->resource &&
				f->resource->kind_case == ST__FILE__KIND_EPOLL)
				dump_refuse(d, &t->as, fd, "epoll",
					"only a thread with a table of its own has it", "let the thread end",
					"thread %d", t->as.status.ns_pid[t->as.status.n_ns - 1]);
		}
		for (size_t k = 0; k < t->as.n_threads && d->stopped; k++) {
			if (t->as.threads[k].tid != t->as.shown)
				continue;
			t->as.threads[k].msg->own_files = true;
			t->as.threads[k].msg->descriptors = t->as.msg->descriptors;
			t->as.threads[k].msg->n_descriptors = t->as.msg->n_descriptors;
		}
	}
}

int dump_descriptors(struct dump *d, struct error *e)
{
	struct descriptors all = {.d = d, .may_keep = may_keep(d)};
	int r = 0;

	for (size_t i = 0; i < d->n_procs && r == 0; i++) {
		if (!d->procs[i].msg || d->procs[i].zombie || d->procs[i].msg->files_with)
			continue;
		r = plan(&all, &d->procs[i], e);
		if ((r == -ENOENT || r == -ESRCH) && !d->stopped)
			r = 0; /* it ended while preflight looked at it */
	}
	if (r == 0)
		r = plan_tables(&all, e);
	if (r == 0)
		r = dump_hire(d, all.n / AT_ONCE, d->stopped ? all.n : 0, e);
	if (r == 0)
		r = crew_start(d->crew, look, &all, all.n_items, e);
	if (r == 0)
		r = add_all(&all, e);
	crew_drop(d->crew);
	if (r == 0)
		finish_tables(d);
	for (size_t i = 0; r < 0 && i < all.n_items; i++)
		for (size_t k = 0; k < all.items[i].n_seen; k++)
			close_p(&all.items[i].seen[k].local);
	return r;
}
