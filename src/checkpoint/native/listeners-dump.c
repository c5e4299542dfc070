/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/listeners.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/res/res.h"
#include "linux/scfilters.h"

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "seccomp filters");
}

bool listeners_is_one(const struct dump_file *f)
{
	return link_is_anon_inode(f, "seccomp notify");
}

static void refuse(struct dump *d, struct dump_proc *p, const char *reason, const char *remedy)
{
	dump_refuse(d, p, -1, "seccomp", reason, remedy, "seccomp filter with a listener");
}

/* Its program may have closed it just now. */
static int look_at_file(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int own = -EBADF;
	int fd = f->local, r;

	if (fd < 0)
		fd = own = dump_duplicate(f);
	if (fd < 0)
		return d->stopped ? error_errno(e, fd, "listener of a seccomp filter") : 0;
	f->listener = arena_new(&d->arena, struct seccomp_listener_seen);
	if (!f->listener)
		return no_memory(e);
	r = seccomp_listener_of(fd, &d->arena, f->listener);
	if (r == -ENOMEM)
		return no_memory(e);
	if (r < 0)
		f->listener = NULL;
	return 0;
}

static struct dump_file *file_of(struct dump *d, uint64_t filter)
{
	for (size_t i = 0; i < d->n_files; i++)
		if (d->files[i].listener && d->files[i].listener->filter == filter)
			return &d->files[i];
	return NULL;
}

static uint64_t new_id(const St__Process *p)
{
	uint64_t id = 0;

	for (size_t i = 0; i < p->n_seccomp_filters; i++)
		id = MAX(id, p->seccomp_filters[i]->id);
	return id + 1;
}

/* The runtime's own filter, which is the first that any process has, is the agent's to listen to: a restore gives him the new one. 0: it
 * is not. */
static uint64_t agents_id(struct dump *d, size_t at, const struct seccomp_filter_seen *seen)
{
	struct dump_agents *a = d->agents;

	if (at > 0 || !d->c->spec->seccomp || !d->c->spec->seccomp->notifies)
		return 0;
	while (a && a->filter != seen->filter)
		a = a->next;
	if (!a) {
		a = arena_new(&d->arena, struct dump_agents);
		if (!a)
			return 0;
		*a = (struct dump_agents){seen->filter, dump_new_id(d), d->agents};
		d->agents = a;
	}
	return a->id;
}

/* The record of a filter like that one, with this listener. Without it, there may be several with the same program. */
static St__SeccompFilter *listened(struct dump *d, struct dump_proc *p, const St__SeccompFilter *like,
	uint64_t listener, bool agent, bool killable)
{
	St__SeccompFilter **list, *f;

	for (size_t i = 0; i < p->msg->n_seccomp_filters; i++)
		if (p->msg->seccomp_filters[i]->listener == listener)
			return p->msg->seccomp_filters[i];
	f = pb_new(&d->arena, SeccompFilter, seccomp_filter);
	list = arena_array(&d->arena, p->msg->n_seccomp_filters + 1, sizeof(*list));
	if (!f || !list)
		return NULL;
	memcpy(list, p->msg->seccomp_filters, p->msg->n_seccomp_filters * sizeof(*list));
	f->id = new_id(p->msg);
	f->instructions = like->instructions;
	f->flags = like->flags | (killable ? SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0);
	f->listener = listener;
	f->agent = agent;
	list[p->msg->n_seccomp_filters++] = f;
	p->msg->seccomp_filters = list;
	return f;
}

static int record(struct dump *d, struct dump_proc *p, struct dump_thread *t, size_t at,
	const struct seccomp_filter_seen *seen, uint64_t listener, bool agent, struct error *e)
{
	uint64_t *id = &t->msg->seccomp_filters[at];
	St__SeccompFilter *f = NULL;

	for (size_t i = 0; i < p->msg->n_seccomp_filters; i++)
		if (p->msg->seccomp_filters[i]->id == *id)
			f = p->msg->seccomp_filters[i];
	f = f ? listened(d, p, f, listener, agent, seen->wait_killable) : NULL;
	if (!f)
		return no_memory(e);
	*id = f->id;
	d->has_listeners = true;
	return 0;
}

/* 1: there is an obstacle. *ret_listener: of the filter that has one; 0: none has. */
static int look_at_thread(
	struct dump *d, struct dump_proc *p, struct dump_thread *t, uint64_t *ret_listener, struct error *e)
{
	struct seccomp_filter_seen seen[SECCOMP_FILTERS_MAX];
	size_t n = 0;
	int r = 0;

	*ret_listener = 0;
	if (t->status.seccomp == SECCOMP_MODE_FILTER)
		r = seccomp_filters_of(t->tid, &d->arena, seen, &n);
	if (r == -ENOMEM)
		return no_memory(e);
	if (r == -ESRCH && !d->stopped)
		return 0;
	if (r < 0) {
		refuse(d, p,
			"this kernel does not tell whether its listener is open (it has no BTF, or no BPF "
			"iterators)",
			"run it without SCMP_ACT_NOTIFY");
		return 1;
	}
	if (d->stopped && n != t->msg->n_seccomp_filters)
		return error_set(e, -EIO, ERROR_INTERNAL, "thread %d has %zu seccomp filters, not %zu",
			t->ns_tid, t->msg->n_seccomp_filters, n);
	for (size_t i = 0; i < n; i++) {
		const struct dump_file *f = seen[i].listened ? file_of(d, seen[i].filter) : NULL;

		if (!seen[i].listened)
			continue;
		*ret_listener = f ? f->id : agents_id(d, i, &seen[i]);
		if (!*ret_listener) {
			refuse(d, p,
				"its listener is held by a process outside of the container, which nobody "
				"would "
				"answer after a restore",
				"have the listener held in the container, or by the agent of "
				"linux.seccomp.listenerPath");
			return 1;
		}
		r = d->stopped ? record(d, p, t, i, &seen[i], *ret_listener, !f, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int look_at_process(struct dump *d, struct dump_proc *p, struct error *e)
{
	for (size_t k = 0; k < p->n_threads && !p->zombie; k++) {
		uint64_t listener;
		int r = look_at_thread(d, p, &p->threads[k], &listener, e);

		if (r != 0)
			return MIN(r, 0);
		if (k == 0)
			p->listener = listener;
		if (listener == p->listener)
			continue;
		refuse(d, p,
			"only some of its threads have it, or they have different ones: not supported yet",
			"have a process do this that does nothing else");
		return 0;
	}
	return 0;
}

static void check_files(struct dump *d)
{
	for (size_t i = 0; i < d->n_files; i++) {
		const struct dump_file *f = &d->files[i];
		bool found = !f->listener || f->listener->ended;

		for (size_t k = 0; k < d->n_procs && !found; k++)
			found = d->procs[k].listener == f->id;
		if (!found)
			dump_refuse(d, f->proc, f->fd, "seccomp listener",
				"processes outside of the container have the filter that it is for",
				"close it before the checkpoint", "%s", f->link);
	}
}

/* A profile with SCMP_ACT_NOTIFY is the agent's, who is outside: so preflight can say. */
static bool is_wanted(const struct dump *d)
{
	for (size_t i = 0; i < d->n_files; i++)
		if (listeners_is_one(&d->files[i]))
			return true;
	return d->may_notify || (!d->stopped && d->c->spec->seccomp && d->c->spec->seccomp->notifies);
}

bool listeners_holds_up(pid_t tid)
{
	char path[64], text[128];
	struct proc_stat st;

	snprintf(path, sizeof(path), "/proc/%d/wchan", tid);
	return read_small_file_at(AT_FDCWD, path, text, sizeof(text)) > 0 && strstr(text, "seccomp") &&
	       proc_read_stat(tid, &st) == 0 && st.state == 'D';
}

pid_t listeners_hold_up(const struct dump *d)
{
	_cleanup_free_ pid_t *tids = NULL;
	struct error ignored;
	size_t n, i = 0;

	if (container_pids(d->c, true, &tids, &n, &ignored) < 0)
		return 0;
	while (i < n && !listeners_holds_up(tids[i]))
		i++;
	return i < n ? tids[i] : 0;
}

int dump_listeners(struct dump *d, struct error *e)
{
	int r = 0;

	/* An ordinary user may not look: filters.c refuses what he has not loaded himself. */
	if (d->unprivileged || !is_wanted(d))
		return 0;
	for (size_t i = 0; i < d->n_files && r == 0; i++)
		if (listeners_is_one(&d->files[i]))
			r = look_at_file(d, &d->files[i], e);
	for (size_t i = 0; i < d->n_procs && r == 0; i++)
		if (d->procs[i].msg)
			r = look_at_process(d, &d->procs[i], e);
	if (r == 0)
		check_files(d);
	return r;
}
