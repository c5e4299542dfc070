/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/restore-home.h"

#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/tree.h"
#include "linux/clone.h"

/* ---- the plan ---- */

size_t restore_n_tickets(const struct restore *r)
{
	size_t n = 2 * r->n_procs;

	for (size_t i = 0; i < r->n_procs; i++)
		n += r->procs[i]->n_threads;
	return r->n_clerk_tickets ? n : 0;
}

struct restore_ticket *restore_ticket(struct restore *r, size_t proc)
{
	return &r->tickets[2 * proc];
}

struct restore_ticket *restore_helper_ticket(struct restore *r, size_t proc)
{
	return &r->tickets[2 * proc + 1];
}

struct restore_ticket *restore_thread_ticket(struct restore *r, size_t proc, size_t thread)
{
	size_t n = 2 * r->n_procs + thread;

	for (size_t i = 0; i < proc; i++)
		n += r->procs[i]->n_threads;
	return &r->tickets[n];
}

static const St__Process *parent_of(const struct restore *r, const St__Process *p, size_t *ret_index)
{
	for (*ret_index = 0; *ret_index < r->n_procs; ++*ret_index)
		if (r->procs[*ret_index]->pid == p->ppid)
			return r->procs[*ret_index];
	*ret_index = 0;
	return r->procs[0];
}

/* How many will come to the clerk. */
static size_t count_tickets(const struct restore *r)
{
	const struct homes *h = &r->homes;
	size_t n = 0;

	for (size_t i = 1; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i], *parent;
		size_t at;

		parent = parent_of(r, p, &at);
		n += homes_foreign_pids(h, p, h->home[i]) > 0;
		if (h->home[i] != h->home[at])
			n += homes_foreign_pids(h, parent, h->home[at]) > 0;
		if (p->n_threads > 1 && homes_foreign_pids(h, p, homes_of_threads(h, i)) > 0)
			n += p->n_threads - 1;
	}
	return n;
}

int restore_find_homes(struct restore *r, struct error *e)
{
	const St__Namespace **spaces = arena_array(&r->arena, r->n_nested, sizeof(*spaces));
	const char *reason = NULL;
	size_t wrong = 0;
	int result;

	if (!spaces)
		return error_errno(e, -ENOMEM, "plan the process tree");
	for (size_t i = 0; i < r->n_nested; i++)
		spaces[i] = r->nested[i].msg;
	r->homes = (struct homes){
		.procs = r->procs, .n_procs = r->n_procs, .spaces = spaces, .n_spaces = r->n_nested};
	result = homes_find(&r->homes, &r->arena, &wrong, &reason);
	if (result < 0)
		return error_errno(e, result, "plan the process tree");
	if (result > 0)
		return error_set(
			e, -EOPNOTSUPP, ERROR_REFUSED, "process %d: %s", r->procs[wrong]->pid, reason);
	r->n_clerk_tickets = count_tickets(r);
	return 0;
}

static bool is_among(const int32_t *ids, size_t n, int id)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool id_is_used(const struct restore *r, int id)
{
	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i];

		if (p->pid == id || p->pgid == id || p->sid == id ||
			is_among(p->inner_pids, p->n_inner_pids, id))
			return true;
		for (size_t k = 0; k < p->n_threads; k++)
			if (p->threads[k]->tid == id ||
				is_among(p->threads[k]->inner_tids, p->threads[k]->n_inner_tids, id))
				return true;
	}
	for (size_t i = 0; i < r->tree->n_nodes; i++)
		if (r->tree->nodes[i].pid == id)
			return true;
	for (size_t i = 0; i < r->n_ptys; i++)
		if (r->ptys[i].foreground == id)
			return true;
	for (size_t i = 0; i < r->n_gone; i++)
		if (r->gone[i].pid == id)
			return true;
	return false;
}

int restore_spare_id(const struct restore *r, size_t nth)
{
	int id = 2;

	for (;; id++)
		if (!id_is_used(r, id) && nth-- == 0)
			return id;
}

void restore_ticket_fill(
	struct restore_ticket *t, size_t proc, size_t foreign, int outermost, const int32_t *inner)
{
	t->proc = proc;
	t->n = foreign;
	t->pids[0] = outermost;
	for (size_t i = 1; i < foreign && i < TICKET_LEVELS; i++)
		t->pids[i] = inner[i - 1];
}

/* ---- the clerk ---- */

static long futex(uint32_t *word, int op, uint32_t value)
{
	return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void set(uint32_t *word)
{
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	futex(word, FUTEX_WAKE, INT32_MAX);
}

static void await(uint32_t *word)
{
	while (!__atomic_load_n(word, __ATOMIC_SEQ_CST))
		futex(word, FUTEX_WAIT, 0);
}

void restore_ask_clerk(struct restore *r, struct restore_ticket *t)
{
	__atomic_store_n(&t->asked, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&r->control->n_asked, 1, __ATOMIC_SEQ_CST);
	futex(&r->control->n_asked, FUTEX_WAKE, INT32_MAX);
	await(&t->turn);
}

void restore_thank_clerk(struct restore_ticket *t)
{
	set(&t->done);
}

/* So that the next process of our pid namespace gets that pid. */
static int set_cursor(const struct restore *r, int pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid - 1);
	return write_string_at(r->proc_fd, "sys/kernel/ns_last_pid", text);
}

/* The same in another one: by a helper that is born there. */
static int set_cursor_in(const struct restore *r, const struct restore_nested *ns, size_t levels, int pid)
{
	const St__Process *init = restore_first_of(r, ns);
	_cleanup_close_ int pidfd = init ? pidfd_open(init->pid, 0) : -EBADF;
	pid_t ids[TICKET_LEVELS + 1], helper;
	struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)ids, .set_tid_size = levels};
	int status;

	for (size_t i = 0; i < levels; i++)
		ids[i] = restore_spare_id(r, 1);
	if (pidfd < 0 || setns(pidfd, CLONE_NEWPID) < 0)
		return -errno;
	helper = syscall(SYS_clone3, &args, sizeof(args));
	if (helper == 0)
		_exit(-set_cursor(r, pid));
	if (helper < 0)
		return -errno;
	while (waitpid(helper, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* The outermost comes last: nobody else is born there, then. */
static int serve(const struct restore *r, struct restore_ticket *t)
{
	const struct restore_nested *ns = restore_namespace_of(r, r->procs[t->proc], CLONE_NEWPID);
	size_t level = restore_pid_levels(r, ns);
	int result = 0;

	for (; ns && result == 0; ns = restore_namespace(r, ns->msg->parent), level--)
		if (level < t->n)
			result = set_cursor_in(r, ns, level + 1, t->pids[level]);
	if (result == 0)
		result = set_cursor(r, t->pids[0]);
	if (result < 0)
		return result;
	set(&t->turn);
	await(&t->done);
	return 0;
}

static int serve_all(struct restore *r)
{
	uint32_t *asked = &r->control->n_asked;

	for (size_t served = 0; served < r->n_clerk_tickets;) {
		uint32_t seen = __atomic_load_n(asked, __ATOMIC_SEQ_CST);
		bool any = false;

		for (size_t i = 0; i < restore_n_tickets(r); i++) {
			struct restore_ticket *t = &r->tickets[i];
			int result;

			if (t->turn || !__atomic_load_n(&t->asked, __ATOMIC_SEQ_CST))
				continue;
			result = serve(r, t);
			if (result < 0)
				return result;
			any = true;
			served++;
		}
		if (!any)
			futex(asked, FUTEX_WAIT, seen);
	}
	return 0;
}

int restore_start_clerk(struct restore *r, struct error *e)
{
	pid_t id = restore_spare_id(r, 0), pid;
	struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&id, .set_tid_size = 1};
	int result;

	if (!r->n_clerk_tickets)
		return 0;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		result = serve_all(r);
		if (result == 0)
			_exit(0);
		error_errno(e, result,
			"set the next pid (/proc/sys/kernel/ns_last_pid) for processes of a nested user "
			"namespace");
		restore_stub_fail(r, e);
	}
	r->clerk = pid;
	return pid < 0 ? error_errno(e, -errno, "fork a helper") : 0;
}

/* ---- who lives in there ---- */

/* false: an id has no name there. */
static bool map_ids(const struct restore *r, const St__Credentials *c, struct restore_ids *ids)
{
	const St__Credentials *base = r->born_as;
	const struct homes *h = &r->homes;
	bool good = true;

	for (size_t i = 0; i < 4; i++) {
		ids->uid[i] = ids->gid[i] = UINT32_MAX;
		if (c->uid[i] != base->uid[i])
			good &= homes_map_uid(h, r->here, c->uid[i], &ids->uid[i]);
		if (c->gid[i] != base->gid[i])
			good &= homes_map_gid(h, r->here, c->gid[i], &ids->gid[i]);
	}
	ids->groups_differ =
		c->n_groups != base->n_groups ||
		(c->n_groups > 0 && memcmp(c->groups, base->groups, c->n_groups * sizeof(*c->groups)) != 0);
	for (size_t i = 0; i < c->n_groups && ids->groups_differ; i++)
		good &= homes_map_gid(h, r->here, c->groups[i], &ids->groups[i]);
	return good;
}

int restore_ids(struct restore *r, const St__Credentials *c, struct restore_ids *ret)
{
	*ret = (struct restore_ids){.n_groups = c->n_groups,
		.groups = arena_memdup(&r->arena, c->groups, c->n_groups * sizeof(*c->groups))};
	if (!ret->groups)
		return -ENOMEM;
	if (r->here && r->born_as)
		return map_ids(r, c, ret) ? 0 : -EPERM;
	memcpy(ret->uid, c->uid, sizeof(ret->uid));
	memcpy(ret->gid, c->gid, sizeof(ret->gid));
	ret->groups_differ = !restore_has_groups(c->groups, c->n_groups);
	return 0;
}

int restore_raise_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int become(struct restore *r, const St__Credentials *c)
{
	struct restore_ids ids;
	int result = restore_ids(r, c, &ids);

	if (result < 0)
		return result;
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 ||
		(ids.groups_differ && thread_setgroups(ids.n_groups, ids.groups) < 0) ||
		syscall(SYS_setresgid, ids.gid[0], ids.gid[1], ids.gid[2]) < 0 ||
		syscall(SYS_setresuid, ids.uid[0], ids.uid[1], ids.uid[2]) < 0)
		return -errno;
	return restore_raise_capabilities();
}

/* Nobody in there may raise them again. */
static int raise_limits(const struct restore *r)
{
	for (size_t k = 0; k < RLIM_NLIMITS; k++) {
		struct rlimit now;
		rlim_t most;

		if (getrlimit(k, &now) < 0)
			return -errno;
		most = now.rlim_max;
		for (size_t i = 0; i < r->n_procs; i++)
			if (k < r->procs[i]->n_rlimits)
				most = MAX(most, (rlim_t)r->procs[i]->rlimits[k]->hard);
		if (most == now.rlim_max)
			continue;
		now.rlim_max = most;
		if (setrlimit(k, &now) < 0)
			return -errno;
	}
	return 0;
}

int restore_settle(struct restore *r, const St__Process *p, uint64_t home)
{
	const struct restore_nested *n = restore_namespace(r, home);
	const St__Credentials *c = p->n_threads > 0 ? p->threads[0]->credentials : NULL;
	int result = r->here == 0 ? raise_limits(r) : 0;

	if (result == 0 && c)
		result = become(r, c);
	if (result < 0)
		return result;
	/* What is not dumpable has its files in /proc owned by somebody else. */
	if (!n || setns(n->fd, CLONE_NEWUSER) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
		return n ? -errno : -EINVAL;
	r->here = home;
	r->born_as = c;
	return 0;
}
