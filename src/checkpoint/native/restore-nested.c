/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/restore-nested.h"

#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/filters.h"
#include "checkpoint/native/network-pairs.h"
#include "checkpoint/native/nftables.h"
#include "checkpoint/native/restore-home.h"
#include "checkpoint/native/timens.h"
#include "linux/clone.h"
#include "linux/mountfd.h"

/* Kinds that a stub enters as it is. */
static const struct {
	uint32_t type;
	const char *name;
} entered[] = {{CLONE_NEWUTS, "uts"}, {CLONE_NEWNS, "mnt"}, {CLONE_NEWNET, "net"}, {CLONE_NEWIPC, "ipc"},
	{CLONE_NEWCGROUP, "cgroup"}};
_Static_assert(ARRAY_SIZE(entered) <= RESTORE_OWN_NAMESPACES, "room for descriptors");

const struct restore_nested *restore_namespace(const struct restore *r, uint64_t id)
{
	for (size_t i = 0; i < r->n_nested; i++)
		if (r->nested[i].msg->id == id)
			return &r->nested[i];
	return NULL;
}

const struct restore_nested *restore_namespace_of(
	const struct restore *r, const St__Process *p, uint32_t type)
{
	for (size_t i = 0; p && i < p->n_namespaces; i++) {
		const struct restore_nested *n = restore_namespace(r, p->namespaces[i]);

		if (n && n->msg->type == type)
			return n;
	}
	return NULL;
}

int restore_own_pid(const St__Process *p)
{
	return p->n_inner_pids ? p->inner_pids[p->n_inner_pids - 1] : p->pid;
}

int restore_own_tid(const St__Thread *t)
{
	return t->n_inner_tids ? t->inner_tids[t->n_inner_tids - 1] : t->tid;
}

/* Whether q is in the pid namespace of p or in one below it. */
static bool is_below(const struct restore *r, const St__Process *p, const St__Process *q)
{
	const struct restore_nested *top = restore_namespace_of(r, p, CLONE_NEWPID),
				    *n = restore_namespace_of(r, q, CLONE_NEWPID);

	while (n && n != top)
		n = restore_namespace(r, n->msg->parent);
	return n == top;
}

static int seen(const struct restore *r, const St__Process *viewer, const St__Process *p)
{
	if (!viewer || viewer->n_inner_pids == 0)
		return p->pid;
	return is_below(r, viewer, p) && p->n_inner_pids >= viewer->n_inner_pids
		       ? p->inner_pids[viewer->n_inner_pids - 1]
		       : 0;
}

int restore_pid_seen(const struct restore *r, const St__Process *viewer, int pid)
{
	const St__Process *p = restore_process(r, pid);

	if (!viewer || viewer->n_inner_pids == 0)
		return pid;
	return p ? seen(r, viewer, p) : 0;
}

/* ---- making ---- */

static int own_number(const struct restore *r)
{
	char text[16] = "";

	return readlinkat(r->proc_fd, "self", text, sizeof(text) - 1) < 0 ? -errno
									  : (int)strtol(text, NULL, 10);
}

static bool map_out(const struct restore_nested *n, bool group, uint32_t *id)
{
	St__IdExtent **map = group ? n->msg->gid_map : n->msg->uid_map;
	size_t n_map = group ? n->msg->n_gid_map : n->msg->n_uid_map;

	for (size_t i = 0; i < n_map; i++)
		if (*id >= map[i]->inside && *id - map[i]->inside < map[i]->count) {
			*id = map[i]->outside + (*id - map[i]->inside);
			return true;
		}
	return false;
}

bool restore_outside_id(
	const struct restore *r, const struct restore_nested *n, uint32_t id, bool group, uint32_t *ret)
{
	bool mapped = true;

	for (; n && mapped; n = restore_namespace(r, n->msg->parent))
		mapped = map_out(n, group, &id);
	*ret = id;
	return mapped;
}

/* Who makes another namespace in it must have such a one. */
uint32_t restore_mapped_id(const struct restore *r, const struct restore_nested *n, bool group)
{
	St__IdExtent **map = group ? n->msg->gid_map : n->msg->uid_map;
	uint32_t id = (group ? n->msg->n_gid_map : n->msg->n_uid_map) ? map[0]->outside : 0;

	while ((n = restore_namespace(r, n->msg->parent)))
		(void)map_out(n, group, &id);
	return id;
}

/* Whose uid the maker had; with all capabilities, as they are needed to enter what is above. */
static int become_owner(const struct restore *r, const St__Namespace *m)
{
	const struct restore_nested *owner = restore_namespace(r, m->owner);
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uid_t uid = m->owner_uid;
	gid_t gid = owner ? restore_mapped_id(r, owner, true) : getegid();

	if (m->type != CLONE_NEWUSER)
		return 0;
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || thread_setresgid(gid) < 0 || thread_setresuid(uid) < 0 ||
		syscall(SYS_capget, &head, data) < 0)
		return -errno;
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int enter_owner(const struct restore *r, const St__Namespace *m)
{
	const struct restore_nested *owner = restore_namespace(r, m->owner);
	int result = become_owner(r, m);

	return result == 0 && owner && setns(owner->fd, CLONE_NEWUSER) < 0 ? -errno : result;
}

static const char *name_of(uint32_t type)
{
	for (size_t k = 0; k < ARRAY_SIZE(entered); k++)
		if (entered[k].type == type)
			return entered[k].name;
	return type == CLONE_NEWTIME ? "time_for_children" : "user";
}

/* What is in it; control->error says what went wrong, if it has a message. */
static int fill(struct restore *r, const St__Namespace *m, int *root)
{
	struct error *e = &r->control->error;

	switch (m->type) {
	case CLONE_NEWUTS:
		return sethostname(m->hostname, strlen(m->hostname)) < 0 ||
				       setdomainname(m->domainname, strlen(m->domainname)) < 0
			       ? -errno
			       : 0;
	case CLONE_NEWNS:
		return restore_nested_mounts(r, m->id, root, e);
	case CLONE_NEWTIME:
		return restore_timens_fill(r, m->id);
	default: /* a network namespace is filled when all are there */
		return 0;
	}
}

/* Likewise in a helper. Whoever could make it in a user namespace of his own could give it packet filters. */
static int fill_network(struct restore *r, const St__Namespace *m)
{
	struct network_image image = {.network = m->network,
		.tables = (const St__PacketTable **)m->packet_tables,
		.n_tables = m->n_packet_tables,
		.may_filter = m->owner || r->net.may_filter};
	int result = enter_owner(r, m);

	r->control->error.message[0] = '\0';
	if (result == 0 && setns(restore_namespace(r, m->id)->fd, CLONE_NEWNET) < 0)
		result = -errno;
	return result < 0 ? result : restore_network(&image, r->proc_fd, &r->control->error);
}

/* In a helper, which has init's table of descriptors. */
static int make(struct restore *r, const St__Namespace *m)
{
	int fd, root = -EBADF, result;
	char path[32];

	if (m->type == CLONE_NEWNS && m->owner)
		return restore_owned_mounts(r, m, enter_owner, &r->control->error);
	fd = restore_stand_in_cgroups(r, m);
	if (fd == 0)
		fd = enter_owner(r, m);
	if (fd < 0 || unshare((int)m->type) < 0)
		return fd < 0 ? fd : -errno;
	r->control->error.message[0] = '\0';
	result = fill(r, m, &root);
	if (result < 0)
		return result;
	r->control->helper_root = root;
	snprintf(path, sizeof(path), "self/ns/%s", name_of(m->type));
	fd = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC);
	/* Its files in /proc must be its own, for others to write to them. */
	if (fd < 0 || restore_move_fd(r, &fd) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
		return -errno;
	r->control->helper_fd = fd;
	r->control->helper_pid = own_number(r);
	return 0;
}

static int write_map(struct restore *r, const char *file, St__IdExtent **map, size_t n)
{
	char path[64], text[4096];
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		len += snprintf(text + len, sizeof(text) - len, "%u %u %u\n", map[i]->inside, map[i]->outside,
			map[i]->count);
		if (len >= sizeof(text))
			return -E2BIG;
	}
	snprintf(path, sizeof(path), "%d/%s", r->control->helper_pid, file);
	return n == 0 ? 0 : write_string_at(r->proc_fd, path, text);
}

/* In another helper: who writes must be in the namespace above. */
static int write_maps(struct restore *r, const St__Namespace *m)
{
	char path[64];
	int result = enter_owner(r, m);

	snprintf(path, sizeof(path), "%d/setgroups", r->control->helper_pid);
	if (result == 0 && m->setgroups_denied)
		result = write_string_at(r->proc_fd, path, "deny");
	if (result == 0)
		result = write_map(r, "uid_map", m->uid_map, m->n_uid_map);
	return result == 0 ? write_map(r, "gid_map", m->gid_map, m->n_gid_map) : result;
}

pid_t restore_fork_sharing_files(void)
{
	struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};

	return syscall(SYS_clone3, &args, sizeof(args));
}

static pid_t start_helper(
	struct restore *r, const St__Namespace *m, int (*f)(struct restore *, const St__Namespace *))
{
	pid_t pid = restore_fork_sharing_files();

	if (pid == 0) {
		int result = f(r, m);

		if (result == 0)
			kill(getpid(), SIGSTOP);
		_exit(-result);
	}
	return pid;
}

/* A helper stops when it has done its work. */
static int await_helper(pid_t pid)
{
	int status;

	if (pid < 0)
		return -EAGAIN;
	while (waitpid(pid, &status, WUNTRACED) < 0 && errno == EINTR)
		;
	return WIFSTOPPED(status) ? 0 : WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static void end_helper(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int make_one(struct restore *r, struct restore_nested *n, struct error *e)
{
	pid_t maker = start_helper(r, n->msg, make), writer = 0;
	int result = await_helper(maker);

	if (result < 0 && r->control->error.message[0])
		*e = r->control->error;
	else if (result < 0)
		error_errno(e, result, "make a %s namespace", name_of(n->msg->type));
	else
		n->fd = r->control->helper_fd;
	if (result == 0 && n->msg->type == CLONE_NEWNS)
		n->root_fd = r->control->helper_root;
	if (result == 0 && n->msg->type == CLONE_NEWUSER) {
		writer = start_helper(r, n->msg, write_maps);
		result = await_helper(writer);
		if (result < 0)
			error_errno(e, result, "map the ids of a user namespace");
	}
	end_helper(writer);
	end_helper(maker);
	return result;
}

static int fill_networks(struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_nested && result == 0; i++) {
		const St__Namespace *m = r->nested[i].msg;
		pid_t helper = m->type == CLONE_NEWNET ? start_helper(r, m, fill_network) : 0;

		if (!helper)
			continue;
		result = await_helper(helper);
		if (result < 0 && r->control->error.message[0])
			*e = r->control->error;
		else if (result < 0)
			error_errno(e, result, "fill a network namespace");
		end_helper(helper);
	}
	return result;
}

/* Those of mounts last, as mounts may show what is in others. */
static int make_all(struct restore *r, bool mounts, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_nested && result == 0; i++)
		if (r->nested[i].msg->type != CLONE_NEWPID &&
			(r->nested[i].msg->type == CLONE_NEWNS) == mounts &&
			restore_timens_is_inits(r, r->nested[i].msg->id))
			result = make_one(r, &r->nested[i], e);
	return result;
}

int restore_make_namespaces(struct restore *r, struct error *e)
{
	for (size_t k = 0; r->n_nested > 0 && k < ARRAY_SIZE(entered); k++) {
		char path[32];

		snprintf(path, sizeof(path), "self/ns/%s", entered[k].name);
		r->own_ns[k] = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC);
		if (r->own_ns[k] < 0 || restore_move_fd(r, &r->own_ns[k]) < 0)
			return error_errno(e, -errno, "open %s", path);
	}
	return make_all(r, false, e);
}

int restore_finish_namespaces(struct restore *r, struct error *e)
{
	int result = make_all(r, true, e);

	if (result == 0)
		result = restore_network_pairs(r, e);
	return result < 0 ? result : fill_networks(r, e);
}

int restore_pid_namespace_of(pid_t pid)
{
	enum { PIDFD_GET_PID_NAMESPACE = 0xff05 };
	_cleanup_close_ int pidfd = pidfd_open(pid, 0);
	int fd = pidfd < 0 ? -1 : ioctl(pidfd, PIDFD_GET_PID_NAMESPACE, 0);

	return fd < 0 ? -errno : fd;
}

int restore_open_namespace(const struct restore *r, uint64_t id, int flags)
{
	const struct restore_nested *n = restore_namespace(r, id);
	_cleanup_close_ int of_pids = -EBADF;
	char path[32];
	int fd;

	if (n && n->msg->type == CLONE_NEWTIME)
		return restore_timens_open(r, id, flags);
	if (n && n->msg->type == CLONE_NEWPID)
		of_pids = restore_pid_namespace_of(restore_first_of(r, n)->pid);
	snprintf(path, sizeof(path), "self/fd/%d", of_pids >= 0 ? of_pids : n ? n->fd : -EBADF);
	fd = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC | flags);
	return fd < 0 ? -errno : fd;
}

/* Who makes it may have gone to others meanwhile. */
static int open_own(const struct restore *r, const char *name)
{
	char path[32] = "";
	int fd;

	for (size_t k = 0; k < ARRAY_SIZE(entered); k++)
		if (!strcmp(entered[k].name, name) && r->n_nested > 0)
			snprintf(path, sizeof(path), "self/fd/%d", r->own_ns[k]);
		else if (!strcmp(entered[k].name, name))
			snprintf(path, sizeof(path), "self/ns/%s", entered[k].name);
	fd = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int restore_mount_namespace(const struct restore *r, const St__Mount *m)
{
	_cleanup_close_ int fd = m->held_namespace ? restore_open_namespace(r, m->held_namespace, 0)
						   : open_own(r, m->held_name);

	return fd < 0 ? fd : mount_clone(fd, "", false);
}

bool restore_may_hold(const struct restore *r, const St__Mount *m)
{
	const struct restore_nested *n = restore_namespace(r, m->held_namespace);
	const uint32_t can = CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP;

	if (m->held_namespace)
		return n && (n->msg->type & can);
	for (size_t k = 0; k < ARRAY_SIZE(entered); k++)
		if (!strcmp(entered[k].name, m->held_name))
			return entered[k].type & can;
	return false;
}

/* NULL: the container's. */
static int enter_one(struct restore *r, size_t k, const struct restore_nested *n)
{
	if (r->in_ns[k] == n)
		return 0;
	if (setns(n ? n->fd : r->own_ns[k], (int)entered[k].type) < 0)
		return -errno;
	r->in_ns[k] = n;
	return 0;
}

static size_t mount_kind(void)
{
	size_t k = 0;

	while (entered[k].type != CLONE_NEWNS)
		k++;
	return k;
}

bool restore_is_pid_namespace(const struct restore *r, uint64_t id)
{
	const struct restore_nested *n = restore_namespace(r, id);

	return n && n->msg->type == CLONE_NEWPID;
}

bool restore_is_ipc_namespace(const struct restore *r, uint64_t id)
{
	const struct restore_nested *n = restore_namespace(r, id);

	return n && n->msg->type == CLONE_NEWIPC;
}

bool restore_is_net_namespace(const struct restore *r, uint64_t id)
{
	const struct restore_nested *n = restore_namespace(r, id);

	return n && n->msg->type == CLONE_NEWNET;
}

int restore_where_proc_is_seen(struct restore *r, struct error *e)
{
	static const struct restore_nested nowhere = {.fd = -EBADF};
	size_t k = mount_kind();

	/* Who has settled in the container's makes a copy, where it may mount; from his own there is no way back. */
	if (r->here && r->in_ns[k])
		return 0;
	if (!r->here)
		return enter_one(r, k, NULL) < 0 ? error_errno(e, -errno, "enter the container's mounts") : 0;
	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(e, -errno, "copy the container's mounts");
	r->in_ns[k] = &nowhere;
	return 0;
}

int restore_enter_namespaces(struct restore *r, const St__Process *p, struct error *e)
{
	for (size_t k = 0; r->n_nested > 0 && k < ARRAY_SIZE(entered); k++) {
		const struct restore_nested *n = restore_namespace_of(r, p, entered[k].type);

		if (enter_one(r, k, n) < 0)
			return error_errno(
				e, -errno, "process %d: enter its %s namespace", p->pid, entered[k].name);
	}
	return 0;
}

/* ---- pid namespaces ---- */

const St__Process *restore_first_of(const struct restore *r, const struct restore_nested *n)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (restore_own_pid(r->procs[i]) == 1 &&
			restore_namespace_of(r, r->procs[i], CLONE_NEWPID) == n)
			return r->procs[i];
	return NULL;
}

/* Forks go to the pid namespace of this process from now on. */
static int aim_at(const struct restore *r, const St__Process *viewer, const St__Process *init)
{
	int pid = init == viewer || !init ? getpid() : seen(r, viewer, init);
	_cleanup_close_ int pidfd = pid > 0 ? pidfd_open(pid, 0) : -EBADF;

	return pidfd < 0 || setns(pidfd, CLONE_NEWPID) < 0 ? -errno : 0;
}

/* ids: the outermost first, 0: any, of a helper; of the first "foreign" ones the clerk sees to it that the child gets them. */
static int fork_with_ids(struct restore *r, struct clone_args *args, const int32_t *ids, size_t n,
	size_t foreign, struct restore_ticket *t)
{
	pid_t inside_first[TICKET_LEVELS + 1];
	pid_t pid;

	for (size_t i = 0; i < n - foreign; i++)
		inside_first[i] = ids[n - 1 - i];
	args->set_tid_size = ids[0] ? n - foreign : 0;
	args->set_tid = args->set_tid_size ? (uintptr_t)inside_first : 0;
	if (foreign)
		restore_ask_clerk(r, t);
	pid = syscall(SYS_clone3, args, sizeof(*args));
	if (pid < 0)
		pid = -errno;
	if (foreign && pid != 0)
		restore_thank_clerk(t);
	return pid;
}

static size_t index_of(const struct restore *r, const St__Process *p)
{
	size_t i = 0;

	while (i + 1 < r->n_procs && r->procs[i] != p)
		i++;
	return i;
}

/* The ids of a process, the outermost first; how many. */
static size_t all_ids(const St__Process *p, int pid, int32_t ids[TICKET_LEVELS + 1])
{
	size_t n = p ? MIN(p->n_inner_pids, (size_t)TICKET_LEVELS) : 0;

	ids[0] = pid;
	for (size_t i = 0; i < n; i++)
		ids[i + 1] = p->inner_pids[i];
	return n + 1;
}

static int fork_child(struct restore *r, const St__Process *parent, const St__Process *child, int pid,
	struct clone_args *args)
{
	size_t index = child ? index_of(r, child) : 0,
	       foreign = child && r->here ? homes_foreign_pids(&r->homes, child, r->here) : 0;
	struct restore_ticket *t = foreign ? restore_ticket(r, index) : NULL;
	int32_t ids[TICKET_LEVELS + 1];
	size_t n = all_ids(child, pid, ids);
	pid_t got;

	if (foreign)
		restore_ticket_fill(t, index, foreign, pid, child->inner_pids);
	got = fork_with_ids(r, args, ids, n, foreign, t);
	if (got <= 0 || !foreign || got == seen(r, parent, child))
		return got;
	kill(got, SIGKILL);
	return -EEXIST;
}

/* By a helper, which enters the user namespace that is to own the pid namespace: the child has to be born there, but as a child
 * of ours. */
static int fork_at_home(
	struct restore *r, const St__Process *parent, const St__Process *child, int pid, uint64_t flags)
{
	size_t index = index_of(r, child), at = index_of(r, parent),
	       foreign = r->here ? homes_foreign_pids(&r->homes, parent, r->here) : 0;
	struct clone_args of_helper = {.flags = flags, .exit_signal = child->exit_signal},
			  of_child = {.flags = CLONE_PARENT | CLONE_NEWPID};
	struct restore_ticket *t = foreign ? restore_helper_ticket(r, index) : NULL;
	int32_t ids[TICKET_LEVELS + 1];
	struct error e;
	pid_t helper;
	int status;

	for (size_t i = 0; i <= parent->n_inner_pids && i <= TICKET_LEVELS; i++)
		ids[i] = restore_spare_id(r, 2 + index);
	if (foreign)
		restore_ticket_fill(t, at, foreign, ids[0], ids + 1);
	helper = fork_with_ids(
		r, &of_helper, ids, MIN(parent->n_inner_pids, (size_t)TICKET_LEVELS) + 1, foreign, t);
	if (helper == 0) {
		int result = restore_enter_namespaces(r, child, &e) < 0 ||
					     (restore_mounts_late(r, child) &&
						     enter_one(r, mount_kind(), NULL) < 0)
				     ? -EPERM
				     : restore_settle(r, child, r->homes.home[index]);

		if (result == 0)
			result = fork_child(r, parent, child, pid, &of_child);
		if (result == 0)
			return 0;
		_exit(result > 0 ? 0 : -result);
	}
	while (helper > 0 && waitpid(helper, &status, __WALL) < 0 && errno == EINTR)
		;
	if (helper < 0)
		return helper;
	return !WIFEXITED(status) ? -EIO : WEXITSTATUS(status) ? -WEXITSTATUS(status) : pid;
}

int restore_fork(
	struct restore *r, const St__Process *parent, const St__Process *child, int pid, uint64_t flags)
{
	const struct restore_nested *from = restore_namespace_of(r, parent, CLONE_NEWPID),
				    *to = restore_namespace_of(r, child, CLONE_NEWPID);
	struct clone_args args = {.flags = flags, .exit_signal = child ? child->exit_signal : SIGCHLD};
	bool first = child && to != from && restore_own_pid(child) == 1,
	     aimed = child && to != from && !first;
	int result;

	if (first && r->homes.home[index_of(r, child)] != r->here)
		return fork_at_home(r, parent, child, pid, flags);
	if (flags & CLONE_PARENT)
		args.exit_signal = 0; /* as ours */
	if (first)
		args.flags |= CLONE_NEWPID;
	if (aimed && aim_at(r, parent, restore_first_of(r, to)) < 0)
		return -errno;
	result = fork_child(r, parent, child, pid, &args);
	if (aimed && result != 0 && aim_at(r, parent, NULL) < 0)
		return -errno;
	return result;
}

int restore_children_namespace(struct restore *r, const St__Process *p, struct error *e)
{
	const struct restore_nested *n = restore_namespace(r, p->children_pid_namespace);

	if (n && aim_at(r, p, restore_first_of(r, n)) < 0)
		return error_errno(e, -errno, "process %d: the pid namespace of its children", p->pid);
	return 0;
}

/* ---- what an image may say ---- */

static int corrupt(struct error *e, uint64_t id)
{
	return error_set(e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: namespace %llu is malformed",
		(unsigned long long)id);
}

static bool is_type(const struct restore *r, uint64_t id, uint32_t type, size_t before)
{
	const struct restore_nested *n = restore_namespace(r, id);

	return id == 0 || (n && n->msg->type == type && n < r->nested + before);
}

/* Nothing leads out of the container, and no descriptor belongs to an interface: as a dump has it. */
static bool bad_network(const St__Namespace *m)
{
	const St__Network *n = m->network;

	if (!n || network_wrong(n))
		return true;
	for (size_t i = 0; i < n->n_links; i++)
		if ((n->links[i]->outside && !n->links[i]->inside) || !strcmp(n->links[i]->kind, "tun"))
			return true;
	for (size_t i = 0; i < m->n_packet_tables; i++)
		if (nftables_wrong(m->packet_tables[i]))
			return true;
	return false;
}

static int validate_namespace(const struct restore *r, size_t i, struct error *e)
{
	enum { MAX_EXTENTS = 340 };
	const St__Namespace *m = r->nested[i].msg;

	if (m->id == 0 || restore_namespace(r, m->id) != &r->nested[i] ||
		!is_type(r, m->owner, CLONE_NEWUSER, i) || m->n_uid_map > MAX_EXTENTS ||
		m->n_gid_map > MAX_EXTENTS)
		return corrupt(e, m->id);
	if (m->type == CLONE_NEWUTS && (!m->hostname || !m->domainname))
		return corrupt(e, m->id);
	if (m->type == CLONE_NEWPID &&
		(!is_type(r, m->parent, CLONE_NEWPID, i) || !restore_first_of(r, &r->nested[i])))
		return corrupt(e, m->id);
	if (m->type == CLONE_NEWNS)
		return !restore_has_mounts(r, m->id) ? corrupt(e, m->id) : 0;
	if (m->type == CLONE_NEWNET && bad_network(m))
		return corrupt(e, m->id);
	if (m->type == CLONE_NEWUSER)
		return m->parent == m->owner ? 0 : corrupt(e, m->id);
	for (size_t k = 0; k < ARRAY_SIZE(entered); k++)
		if (entered[k].type == m->type)
			return 0;
	return m->type == CLONE_NEWPID || m->type == CLONE_NEWTIME ? 0 : corrupt(e, m->id);
}

size_t restore_pid_levels(const struct restore *r, const struct restore_nested *n)
{
	size_t levels = 0;

	for (; n; n = restore_namespace(r, n->msg->parent))
		levels++;
	return levels;
}

static bool bad_ids(const St__Process *p, const int32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] <= 0)
			return true;
	return n != p->n_inner_pids;
}

static int validate_process(const struct restore *r, const St__Process *p, struct error *e)
{
	if (p->n_namespaces > 16 || p->n_inner_pids > 31 ||
		p->n_inner_pids != restore_pid_levels(r, restore_namespace_of(r, p, CLONE_NEWPID)) ||
		bad_ids(p, p->inner_pids, p->n_inner_pids) ||
		(p->children_pid_namespace &&
			!is_type(r, p->children_pid_namespace, CLONE_NEWPID, r->n_nested)))
		return corrupt(e, p->children_pid_namespace);
	for (size_t i = 0; i < p->n_namespaces; i++)
		if (!restore_namespace(r, p->namespaces[i]))
			return corrupt(e, p->namespaces[i]);
	for (size_t i = 0; i < p->n_threads; i++)
		if (bad_ids(p, p->threads[i]->inner_tids, p->threads[i]->n_inner_tids))
			return corrupt(e, 0);
	return 0;
}

int restore_validate_namespaces(const struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_nested && result == 0; i++)
		result = validate_namespace(r, i, e);
	for (size_t i = 0; i < r->n_procs && result == 0; i++) {
		result = validate_process(r, r->procs[i], e);
		if (result == 0 && !restore_timens_is_valid(r, i))
			result = corrupt(e, r->procs[i]->children_time_namespace);
	}
	for (size_t i = 0; i < r->n_files && result == 0; i++)
		if (!is_type(r, r->files[i]->net_namespace, CLONE_NEWNET, r->n_nested))
			result = corrupt(e, r->files[i]->net_namespace);
		else if (r->files[i]->kind_case == ST__FILE__KIND_NS && r->files[i]->ns->id &&
			 !restore_namespace(r, r->files[i]->ns->id))
			result = corrupt(e, r->files[i]->ns->id);
	if (result == 0 && r->procs[0]->n_namespaces)
		result = corrupt(e, r->procs[0]->namespaces[0]);
	if (result == 0 && !restore_network_pairs_are_whole(r))
		result = error_set(e, -EBADMSG, ERROR_CORRUPT,
			"checkpoint.img: an interface to another network namespace has no other end");
	return result;
}

static bool maps_itself(St__IdExtent **map, size_t n, bool any, uint32_t owner)
{
	return n == 0 || (n == 1 && map[0]->count == 1 && (any || map[0]->outside == owner));
}

/* What the container's processes could not have done by themselves the image does not get done by us. */
int restore_check_namespaces(
	const struct restore *r, uint64_t allowed, const struct spec_seccomp *profile, struct error *e)
{
	int may_make_user = 1;

	for (size_t i = 0; i < r->n_nested && profile; i++)
		if (r->nested[i].msg->type == CLONE_NEWUSER) {
			may_make_user = filters_may_make_userns(profile, e);
			break;
		}
	if (may_make_user < 0)
		return may_make_user;
	for (size_t i = 0; i < r->n_nested; i++) {
		const St__Namespace *m = r->nested[i].msg;
		const char *cap = NULL;

		if (m->type == CLONE_NEWUSER && !may_make_user)
			cap = "another seccomp profile";
		if (m->type != CLONE_NEWUSER && m->owner == 0 && !(allowed & 1ull << CAP_SYS_ADMIN))
			cap = "CAP_SYS_ADMIN";
		if (m->owner == 0 && (m->monotonic_offset || m->boottime_offset) &&
			!(allowed & 1ull << CAP_SYS_TIME))
			cap = "CAP_SYS_TIME";
		if (m->owner == 0 && !maps_itself(m->uid_map, m->n_uid_map, false, m->owner_uid) &&
			!(allowed & 1ull << CAP_SETUID))
			cap = "CAP_SETUID";
		if (m->owner == 0 && !maps_itself(m->gid_map, m->n_gid_map, true, 0) &&
			!(allowed & 1ull << CAP_SETGID))
			cap = "CAP_SETGID";
		if (cap)
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the image has a namespace (type %#x) that a process of the container could "
				"only have "
				"made with %s, which the bundle's config.json does not allow",
				m->type, cap);
	}
	return 0;
}

/* Paths of files are those of the namespace in which they were opened. */
int restore_enter_root(const struct restore *r, uint64_t ns, struct error *e)
{
	const struct restore_nested *n = restore_namespace(r, ns);
	int root = ns ? (n ? n->root_fd : -EBADF) : r->root_fd;

	return fchdir(root) < 0 || chroot(".") < 0
		       ? error_errno(
				 e, -errno, "enter the root of mount namespace %llu", (unsigned long long)ns)
		       : 0;
}

static int enter_kind(struct restore *r, uint32_t type, uint64_t ns, struct error *e)
{
	for (size_t k = 0; r->n_nested > 0 && k < ARRAY_SIZE(entered); k++)
		if (entered[k].type == type && enter_one(r, k, restore_namespace(r, ns)) < 0)
			return error_errno(e, -errno, "enter %s namespace %llu", entered[k].name,
				(unsigned long long)ns);
	return 0;
}

/* A socket belongs to the network namespace in which it was made. */
int restore_enter_network(struct restore *r, uint64_t ns, struct error *e)
{
	return enter_kind(r, CLONE_NEWNET, ns, e);
}

int restore_enter_ipc(struct restore *r, uint64_t ns, struct error *e)
{
	return enter_kind(r, CLONE_NEWIPC, ns, e);
}
