/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/shared-pids.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/restore.h"
#include "checkpoint/native/shared-user.h"

/* A process of another container in the namespace: ids of the host. */
struct pids_other {
	pid_t pid, pgrp, session;
	unsigned member;
};

/* ---- checkpoint ---- */

static bool namespace_of(pid_t pid, char *buf, size_t size)
{
	return pid > 0 && proc_readlink(pid, "ns/pid", buf, size) > 0;
}

static bool is_first(struct dump *d, pid_t pid)
{
	struct proc_status st;

	return proc_read_status(pid, 0, &d->arena, &st) == 0 && st.ns_pid[st.n_ns - 1] == 1;
}

/* Is that member in our pid namespace, and another one than we are? */
static bool is_with_us(const struct dump *d, unsigned member)
{
	const struct together *t = d->options->together;
	char own[64], its[64];

	return member != t->self && namespace_of(d->c->init_pid, own, sizeof(own)) &&
	       namespace_of(t->containers[member]->init_pid, its, sizeof(its)) && !strcmp(own, its);
}

void shared_pids_find_role(struct dump *d)
{
	const struct spec_namespace *spec = &d->c->spec->namespaces[NS_PID];
	const struct together *t = d->options->together;

	d->reaper = 0;
	d->pids_role = spec->present && !spec->path ? PIDS_OWN : PIDS_FOREIGN;
	for (unsigned i = 0; t && spec->present && i < t->n; i++) {
		if (!is_with_us(d, i))
			continue;
		if (!spec->path) {
			d->pids_role = PIDS_BEGUN;
		} else if (is_first(d, t->containers[i]->init_pid)) {
			d->pids_role = PIDS_JOINED;
			d->reaper = t->containers[i]->init_pid;
			d->reaper_member = i;
		}
	}
}

bool shared_pids_is_adopted(const struct dump *d, const struct dump_proc *p)
{
	return d->reaper && p->stat.ppid == d->reaper;
}

static int add_others(struct dump *d, unsigned member, size_t *allocated, struct error *e)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r = container_pids(d->options->together->containers[member], false, &pids, &n, e);

	for (size_t i = 0; i < n && r == 0; i++) {
		struct proc_stat st;

		if (d->n_others == *allocated) {
			size_t want = *allocated ? *allocated * 2 : 64;
			struct pids_other *more = arena_array(&d->arena, want, sizeof(*more));

			if (!more)
				return error_errno(e, -ENOMEM, "processes of other containers");
			if (d->n_others)
				memcpy(more, d->others, d->n_others * sizeof(*more));
			d->others = more;
			*allocated = want;
		}
		if (proc_read_stat(pids[i], &st) == 0)
			d->others[d->n_others++] = (struct pids_other){pids[i], st.pgrp, st.session, member};
	}
	return r;
}

static bool is_shared(const struct dump *d)
{
	return d->pids_role == PIDS_BEGUN || d->pids_role == PIDS_JOINED;
}

bool shared_pids_is_shared(const struct dump *d, unsigned member)
{
	return is_shared(d) && (member == d->options->together->self || is_with_us(d, member));
}

/* In a checkpoint they stand still by now, as we do. */
static int find_others(struct dump *d, struct error *e)
{
	const struct together *t = d->options->together;
	size_t allocated = 0;
	int r = 0;

	if (d->others || !is_shared(d))
		return 0;
	for (unsigned i = 0; i < t->n && r == 0; i++)
		if (is_with_us(d, i))
			r = add_others(d, i, &allocated, e);
	return r;
}

const char *shared_pids_whose(struct dump *d, pid_t pid)
{
	struct error ignored;

	if (find_others(d, &ignored) < 0)
		return NULL;
	for (size_t i = 0; i < d->n_others; i++)
		if (d->others[i].pid == pid)
			return peers_name(d, d->others[i].member);
	return NULL;
}

/* A session and a group are made by who leads them, or who stands in for him: in one container. */
static void check_ids(struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 0; i < d->n_others; i++) {
		const struct pids_other *o = &d->others[i];
		bool session =
			     p->stat.session && (p->stat.session == o->pid || p->stat.session == o->session),
		     group = p->stat.pgrp && (p->stat.pgrp == o->pid || p->stat.pgrp == o->pgrp);

		if (!session && !group)
			continue;
		dump_refuse(d, p, -1, "process",
			arena_printf(&d->arena, "its %s is also one of the container \"%s\", whose %s",
				session ? "session" : "process group", peers_name(d, o->member),
				p->zombie ? "process it was: nobody has waited for it"
					  : "pid namespace it is in"),
			p->zombie ? "let the first process of the pid namespace wait for its children"
				  : "end it, or leave it in the cgroup that it was begun in",
			"process %d (%s)", p->ns_pid, p->stat.comm);
		return;
	}
}

/* What it would tell its parent, who may run already. */
static void check_adopted(struct dump *d, const struct dump_proc *p)
{
	if (!shared_pids_is_adopted(d, p) || p->by_exec)
		return;
	if (p->zombie || p->stat.state == 'T' || (d->stopped && p->threads[0].task.in_group_stop))
		dump_refuse(d, p, -1, "process",
			arena_printf(&d->arena, "it %s, and its parent is in the container \"%s\"",
				p->zombie ? "has ended" : "is stopped", peers_name(d, d->reaper_member)),
			p->zombie ? REMEDY_WAIT : "let it go on (SIGCONT) or end it", "process %d (%s)",
			p->ns_pid, p->stat.comm);
}

static void refuse_foreign(struct dump *d)
{
	bool in_sandbox = d->c->sandbox && d->c->spec->namespaces[NS_PID].path;

	preflight_add(d->report, 0, -1, "namespace",
		in_sandbox ? "it is the pid namespace of another container, which is not checkpointed with it"
			   : "processes could not get their pids back in a pid namespace of others",
		in_sandbox
			? "checkpoint all containers of its sandbox together (--sandbox), if the other one "
			  "is one of them"
			: "give the container a pid namespace of its own, or that of another container of "
			  "its sandbox",
		"shared pid namespace");
}

/* With the first process of a pid namespace all others are killed. */
static void refuse_to_end_others(struct dump *d)
{
	_cleanup_(container_free_p) struct container *guest = NULL;

	if (d->options->leave_running || d->options->pre_dump || !container_has_guest(d->c, &guest))
		return;
	preflight_add(d->report, 0, -1, "namespace",
		arena_printf(&d->arena,
			"the container \"%s\" is in it as well, and would be killed with its first process",
			guest->name),
		"checkpoint all containers of its sandbox together (--sandbox), or end the others first",
		"pid namespace");
}

int shared_pids_check(struct dump *d, struct error *e)
{
	int r;

	if (d->pids_role == PIDS_FOREIGN)
		refuse_foreign(d);
	if (d->pids_role == PIDS_OWN)
		refuse_to_end_others(d);
	if (!is_shared(d))
		return 0;
	if (d->c->cgroup.mode == CGROUP_NONE) {
		preflight_add(d->report, 0, -1, "namespace",
			"without a cgroup nobody knows which of the processes in it are the container's",
			"give the container a cgroup", "shared pid namespace");
		return 0;
	}
	r = find_others(d, e);
	for (size_t i = 0; i < d->n_procs && r == 0; i++) {
		check_ids(d, &d->procs[i]);
		check_adopted(d, &d->procs[i]);
	}
	return r;
}

int shared_pids_message(struct dump *d, St__Shared **ret, struct error *e)
{
	char ns[64];

	if (!is_shared(d))
		return 0;
	*ret = pb_new(&d->arena, Shared, shared);
	if (!*ret || !namespace_of(d->c->init_pid, ns, sizeof(ns)))
		return error_errno(e, -ENOMEM, "pid namespace");
	(*ret)->owner = d->pids_role == PIDS_BEGUN;
	(*ret)->with = (char *)((*ret)->owner ? "" : peers_name(d, d->reaper_member));
	/* "pid:[4026532281]" */
	(*ret)->key = arena_printf(&d->arena, "pids-%.*s", (int)strspn(ns + 5, "0123456789"), ns + 5);
	d->shares = true;
	return (*ret)->key ? 0 : error_errno(e, -ENOMEM, "pid namespace");
}

/* ---- restore ---- */

bool restore_joins_pids(const struct restore *r)
{
	return r->container->pids && !r->container->pids->owner;
}

static int check_joined(const struct restore *r, const struct spec *s, struct error *e)
{
	const struct container_create_options *o = &r->options->create;
	_cleanup_(container_free_p) struct container *owner = NULL;
	const char *name = r->container->pids->with, *path = s->namespaces[NS_PID].path;
	struct stat given, its;
	char link[64];
	int result = o->sandbox ? container_find_member(o->root, o->sandbox, name, &owner, e) : -ENOENT;

	if (result < 0 && result != -ENOENT)
		return result;
	if (result < 0)
		return error_set(e, -ENOENT, ERROR_STATE,
			"the container was in the pid namespace of \"%s\": restore or create that one first, "
			"and "
			"give its "
			"namespace in linux.namespaces of config.json",
			name);
	snprintf(link, sizeof(link), "/proc/%d/ns/pid", owner->init_pid);
	if (stat(link, &its) < 0 || stat(path, &given) < 0)
		return error_errno(e, -errno, "pid namespace");
	if (its.st_dev == given.st_dev && its.st_ino == given.st_ino)
		return shared_user_check_pids(s, owner, e);
	return error_set(e, -ESTALE, ERROR_CONFIG,
		"the container shared the pid namespace of \"%s\", and config.json gives it another one: "
		"give it "
		"%s in "
		"linux.namespaces",
		name, link);
}

int shared_pids_check_bundle(const struct restore *r, const struct spec *s, struct error *e)
{
	const struct spec_namespace *ns = &s->namespaces[NS_PID];

	if (!restore_joins_pids(r))
		return ns->present && !ns->path ? 0
						: error_set(e, -EINVAL, ERROR_CONFIG,
							  "restore needs a pid namespace of the container's "
							  "own in config.json");
	if (!ns->present || !ns->path)
		return error_set(e, -EINVAL, ERROR_CONFIG,
			"the container shared the pid namespace of \"%s\": give it that one's in "
			"linux.namespaces "
			"of "
			"config.json",
			r->container->pids->with);
	return check_joined(r, s, e);
}

static int highest_id(const struct restore *r)
{
	int max = 0;

	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i];

		max = MAX(max, MAX(p->pid, MAX((int)p->pgid, (int)p->sid)));
		for (size_t k = 0; k < p->n_threads; k++)
			max = MAX(max, p->threads[k]->tid);
	}
	return max;
}

/* Those of several containers come here at the same time. */
int shared_pids_keep_clear(struct restore *r, struct error *e)
{
	_cleanup_close_ int ns = -EBADF, cursor = -EBADF;
	char text[32];
	ssize_t n;
	int highest;

	if (!r->container->pids)
		return 0;
	highest = highest_id(r);
	ns = openat(r->proc_fd, "thread-self/ns/pid", O_RDONLY | O_CLOEXEC);
	cursor = openat(r->proc_fd, "sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC);
	if (cursor < 0 && errno == ENOENT)
		return 0; /* this kernel has none: then a pid may be taken, and is said to be */
	if (ns < 0 || cursor < 0 || flock(ns, LOCK_EX) < 0)
		return error_errno(e, -errno, "the last pid of the pid namespace");
	n = read(cursor, text, sizeof(text) - 1);
	if (n <= 0)
		return error_errno(e, n < 0 ? -errno : -EIO, "the last pid of the pid namespace");
	text[n] = '\0';
	if (strtol(text, NULL, 10) >= highest)
		return 0;
	n = snprintf(text, sizeof(text), "%d", highest);
	return pwrite(cursor, text, n, 0) == n ? 0
					       : error_errno(e, -errno, "the last pid of the pid namespace");
}
