/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces that the container's processes have made for themselves (unshare, clone, setns). Each is one record, made when
 * the first process is found that is in it; a process refers to those that are not the container's. A namespace belongs to
 * a user namespace, and those of pids and users have a parent: these are recorded before it.
 *
 * Those in which no process is (held by a descriptor or a mount) are found by nested-held.c.
 */
#include "checkpoint/native/dump.h"

#include <linux/capability.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/filters.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/timens.h"
#include "linux/clone.h"

/* What of a kind is recorded, in the surgeon; positive: an obstacle was noted. */
struct nested_kind {
	const char *name;
	uint32_t flag;
	int (*read)(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e);
};

enum { CGROUP_TEXT = 65536 };

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "namespaces of the container's processes");
}

static int refuse(struct dump *d, struct dump_proc *p, const char *what, const char *reason)
{
	dump_refuse(d, p, -1, "namespace", reason, "run it in the container's own namespaces", "%s namespace",
		what);
	return 1;
}

static int read_uts(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e)
{
	_cleanup_close_ int own = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	struct utsname un;
	int r, left;

	if (own < 0 || setns(n->fd, CLONE_NEWUTS) < 0)
		return error_errno(e, -errno, "enter the uts namespace of process %d", p->ns_pid);
	r = uname(&un) < 0 ? -errno : 0;
	left = ns_return(own, CLONE_NEWUTS);
	if (left < 0 || r < 0)
		return error_errno(e, r < 0 ? r : left, "leave the uts namespace of process %d", p->ns_pid);
	n->msg->hostname = arena_strdup(&d->arena, un.nodename);
	n->msg->domainname = arena_strdup(&d->arena, strcmp(un.domainname, "(none)") ? un.domainname : "");
	return n->msg->hostname && n->msg->domainname ? 0 : no_memory(e);
}

struct dump_nested *dump_nested_by_id(struct dump *d, uint64_t id)
{
	for (size_t i = 0; i < d->n_nested; i++)
		if (d->nested[i].msg->id == id)
			return &d->nested[i];
	return NULL;
}

/* From ids of the host to those of the parent; false: not all of them are in it, one after another. */
static bool to_parent(const struct id_map *map, size_t n, uint32_t host, uint32_t size, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (host < map[i].host_id || host - map[i].host_id >= map[i].size)
			continue;
		*ret = map[i].container_id + (host - map[i].host_id);
		return size <= map[i].size - (host - map[i].host_id);
	}
	return false;
}

static int id_extents(struct dump *d, struct dump_proc *p, const struct id_map *map, size_t n,
	const struct id_map *parent, size_t n_parent, St__IdExtent ***ret, size_t *ret_n, struct error *e)
{
	*ret = arena_array(&d->arena, n, sizeof(**ret));
	if (!*ret)
		return no_memory(e);
	for (size_t i = 0; i < n; i++) {
		St__IdExtent *m = (*ret)[i] = pb_new(&d->arena, IdExtent, id_extent);

		if (!m)
			return no_memory(e);
		m->inside = map[i].container_id;
		m->count = map[i].size;
		if (!to_parent(parent, n_parent, map[i].host_id, map[i].size, &m->outside))
			return refuse(d, p, "user", "its ids are mapped to several ranges of its parent's");
	}
	*ret_n = n;
	return 0;
}

/* As restore_check_namespaces() has it. */
static int may_make_userns(struct dump *d, struct error *e)
{
	int r;

	if (!d->c->spec->seccomp)
		return 1;
	if (!d->may_make_userns) {
		r = filters_may_make_userns(d->c->spec->seccomp, e);
		if (r < 0)
			return r;
		d->may_make_userns = r ? 1 : -1;
	}
	return d->may_make_userns > 0;
}

static int read_user(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e)
{
	const struct dump_nested *above = dump_nested_by_id(d, n->msg->parent);
	/* We read the maps as the container sees them, if we are in its user namespace. */
	struct id_map all = {.size = UINT32_MAX};
	const struct id_maps seen = {&all, &all, 1, 1};
	const struct id_maps *parent = above ? &above->maps : d->unprivileged ? &seen : &d->ids;
	char path[64], text[16], projects[64];
	uid_t owner = 0;
	int r;

	r = may_make_userns(d, e);
	if (r < 0)
		return r;
	if (r == 0)
		return refuse(d, p, "user",
			"config.json has a seccomp profile that forbids to make one, so a restore would "
			"refuse it");
	r = idmap_read(p->shown, "uid_map", &d->arena, &n->maps.uid, &n->maps.n_uid);
	if (r == 0)
		r = idmap_read(p->shown, "gid_map", &d->arena, &n->maps.gid, &n->maps.n_gid);
	snprintf(path, sizeof(path), "/proc/%d/setgroups", p->shown);
	if (r == 0)
		r = MIN(read_small_file_at(AT_FDCWD, path, text, sizeof(text)), 0);
	if (r == 0 && ioctl(n->fd, NS_GET_OWNER_UID, &owner) < 0)
		r = -errno;
	if (r < 0)
		return error_errno(e, r, "user namespace of process %d", p->ns_pid);
	snprintf(path, sizeof(path), "/proc/%d/projid_map", p->shown);
	if (read_small_file_at(AT_FDCWD, path, projects, sizeof(projects)) > 0)
		return refuse(d, p, "user", "it maps ids of projects (projid_map)");
	n->msg->setgroups_denied = strncmp(text, "deny", 4) == 0;
	n->msg->owner_uid = dump_uid(d, owner);
	r = id_extents(d, p, n->maps.uid, n->maps.n_uid, parent->uid, parent->n_uid, &n->msg->uid_map,
		&n->msg->n_uid_map, e);
	return r ? r
		 : id_extents(d, p, n->maps.gid, n->maps.n_gid, parent->gid, parent->n_gid, &n->msg->gid_map,
			   &n->msg->n_gid_map, e);
}

/* There is nothing in it but processes. */
static int read_pid(struct dump *d _unused_, struct dump_proc *p _unused_, struct dump_nested *n _unused_,
	struct error *e _unused_)
{
	return 0;
}

static int read_mnt(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e)
{
	char path[64];
	int r;

	n->pid = p->shown;
	r = proc_read_mountinfo(p->shown, &d->arena, &n->mounts, &n->n_mounts);
	if (r < 0)
		return error_errno(e, r, "mounts of process %d", p->ns_pid);
	if (n->msg->owner) {
		const struct dump_nested *owner = dump_nested_by_id(d, n->msg->owner);

		r = dump_find_locked_mounts(d, n, owner->fd, e);
		if (r != 0)
			return r < 0 ? r
				     : refuse(d, p, "mnt",
					       "which of its mounts are locked cannot be found out");
		n->owner_maps = owner->maps;
	}
	snprintf(path, sizeof(path), "/proc/%d/root", p->shown);
	n->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return n->root_fd < 0 ? error_errno(e, -errno, "root of process %d", p->ns_pid) : 0;
}

static int read_net(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e)
{
	return dump_nested_network(d, n->fd, p->pid, n->msg, e);
}

/* What a child does in a namespace, and what it finds there: why that is refused. */
struct visit {
	struct dump *d;
	struct dump_nested *n;
	int mount_namespace; /* of the container's init */
	int (*look)(struct visit *v);
	pid_t pid;	    /* of the process in it */
	const char *cgroup; /* its /proc/PID/cgroup as we see it */
	const char *reason;
	struct error *e;
	int result;
};

static int enter_and_look(void *arg)
{
	struct visit *v = arg;

	v->result = setns(v->n->fd, (int)v->n->msg->type) < 0
			    ? error_errno(v->e, -errno, "enter a namespace of a process")
			    : v->look(v);
	return 0;
}

/* The child has our memory and our descriptors, as if it were we, while we wait; and ends there, as an ordinary user has no way
 * back. */
void dump_in_child(int (*f)(void *arg), void *arg)
{
	enum { STACK = 256 * 1024 };
	_cleanup_free_ char *stack = malloc(STACK);
	pid_t child =
		stack ? clone(f, stack + STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, arg) : -1;

	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Positive: an obstacle was noted. */
static int visit(struct dump *d, struct dump_proc *p, struct dump_nested *n, const char *name,
	int (*look)(struct visit *v), const char *cgroup, struct error *e)
{
	_cleanup_close_ int mnt = -EBADF;
	struct visit v = {
		.d = d, .n = n, .look = look, .pid = p->shown, .cgroup = cgroup, .e = e, .result = -EAGAIN};
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", d->c->init_pid);
	v.mount_namespace = mnt = open(path, O_RDONLY | O_CLOEXEC);
	if (mnt < 0)
		return error_errno(e, -errno, "open %s", path);
	error_errno(e, v.result, "look into the %s namespace of process %d", name, p->ns_pid);
	dump_in_child(enter_and_look, &v);
	return v.result < 0 || !v.reason ? v.result : refuse(d, p, name, v.reason);
}

/* Most of those who make one want to be kept from the others, and have no use for its objects. Those are read later. */
static int look_at_ipc(struct visit *v)
{
	struct dump_nested *n = v->n;

	n->ipc_is_used = sysv_is_used();
	/* Where an ordinary user may mount: to see the queues. */
	if (setns(v->mount_namespace, CLONE_NEWNS) < 0)
		return error_errno(v->e, -errno, "enter the container's mount namespace");
	return ipc_look_at_nested(v->d, n, &v->reason, v->e);
}

static int read_ipc(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e)
{
	n->pid = p->shown;
	return visit(d, p, n, "ipc", look_at_ipc, NULL, e);
}

static int look_at_cgroup(struct visit *v)
{
	return dump_cgroup_roots(v->d, v->n->msg, v->pid, v->cgroup, &v->reason, v->e);
}

static int read_cgroup(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e)
{
	_cleanup_free_ char *text = malloc(CGROUP_TEXT);
	char path[64];
	ssize_t r;

	if (!text)
		return no_memory(e);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", p->shown);
	r = read_small_file_at(AT_FDCWD, path, text, CGROUP_TEXT);
	if (r < 0 && !d->stopped)
		return 1; /* it has ended */
	return r < 0 ? error_errno(e, (int)r, "read %s", path)
		     : visit(d, p, n, "cgroup", look_at_cgroup, text, e);
}

static const struct nested_kind kinds[] = {
	{"user", CLONE_NEWUSER, read_user}, /* first: it may own the others */
	{"uts", CLONE_NEWUTS, read_uts},
	{"pid", CLONE_NEWPID, read_pid},
	{"pid_for_children", CLONE_NEWPID, read_pid},
	{"ipc", CLONE_NEWIPC, read_ipc},
	{"mnt", CLONE_NEWNS, read_mnt},
	{"net", CLONE_NEWNET, read_net},
	{"cgroup", CLONE_NEWCGROUP, read_cgroup},
	{"time", CLONE_NEWTIME, dump_timens},
	{"time_for_children", CLONE_NEWTIME, dump_timens},
};

/* Is it one of the container's, as in d->namespaces ("uts:[4026531838]")? */
static bool is_containers(const struct dump *d, ino_t inode)
{
	char text[32];

	snprintf(text, sizeof(text), ":[%lu]", (unsigned long)inode);
	for (size_t i = 0; i < DUMP_NAMESPACES; i++)
		if (strstr(d->namespaces[i], text))
			return true;
	return false;
}

/* The id of the namespace behind fd (0: the container's). 1: it is not known. */
static int known(struct dump *d, int fd, uint64_t *ret)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 1;
	*ret = 0;
	for (size_t i = 0; i < d->n_nested; i++) {
		if (d->nested[i].inode == st.st_ino) {
			*ret = d->nested[i].msg->id;
			return 0;
		}
	}
	return is_containers(d, st.st_ino) ? 0 : 1;
}

static int grow(struct dump *d, struct error *e)
{
	size_t more = d->max_nested ? d->max_nested * 2 : 16;
	struct dump_nested *n;

	if (d->n_nested < d->max_nested)
		return 0;
	n = realloc(d->nested, more * sizeof(*n));
	if (!n)
		return no_memory(e);
	d->nested = n;
	d->max_nested = more;
	return 0;
}

static int add(struct dump *d, struct dump_proc *p, const struct nested_kind *k, int fd, uint64_t *ret,
	struct error *e);

/* A child of ours in that namespace; it does nothing but system calls, as other threads may be in the middle of anything. */
static pid_t stand_in(int fd, uint32_t type)
{
	pid_t child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (child == 0) {
		if (setns(fd, (int)type) == 0)
			syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP);
		_exit(1);
	}
	return child;
}

/* One in which nobody is: what /proc says of a process in it, it says of a child of ours then. */
static int add_empty(struct dump *d, struct dump_proc *p, const struct nested_kind *k, int fd, uint64_t *ret,
	struct error *e)
{
	struct dump_proc there = *p;
	pid_t child = stand_in(fd, k->flag);
	int status = 0, r;

	if (child < 0)
		return error_errno(e, -errno, "look into a %s namespace of process %d", k->name, p->ns_pid);
	while (waitpid(child, &status, WUNTRACED) < 0 && errno == EINTR)
		;
	there.shown = there.pid = child;
	r = WIFSTOPPED(status) ? add(d, &there, k, fd, ret, e)
			       : refuse(d, p, k->name, "nobody is in it, and it cannot be entered");
	kill(child, SIGKILL);
	while (WIFSTOPPED(status) && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

/* 1: an obstacle. */
static int find_owner(struct dump *d, struct dump_proc *p, int fd, uint64_t *ret, struct error *e)
{
	_cleanup_close_ int user = ioctl(fd, NS_GET_USERNS);

	if (user < 0)
		return refuse(d, p, "user", "it belongs to one outside of the container");
	/* A sandbox (bwrap) goes on to a second one, and leaves the first to what belongs to it. */
	return known(d, user, ret) == 0 ? 0 : add_empty(d, p, &kinds[0], user, ret, e);
}

static int add(struct dump *d, struct dump_proc *p, const struct nested_kind *k, int fd, uint64_t *ret,
	struct error *e)
{
	_cleanup_close_ int parent = -EBADF;
	struct dump_nested *n;
	uint64_t owner = 0;
	struct stat st;
	int r = find_owner(d, p, fd, &owner, e);

	if (r != 0)
		return r;
	if (grow(d, e) < 0 || fstat(fd, &st) < 0)
		return e->code;
	n = &d->nested[d->n_nested];
	*n = (struct dump_nested){.fd = -EBADF,
		.root_fd = -EBADF,
		.mqueue_folder = -EBADF,
		.inode = st.st_ino,
		.msg = pb_new(&d->arena, Namespace, namespace)};
	if (!n->msg)
		return no_memory(e);
	n->msg->id = dump_new_id(d);
	n->msg->type = k->flag;
	n->msg->owner = owner;
	if (k->flag == CLONE_NEWUSER || k->flag == CLONE_NEWPID) {
		parent = ioctl(fd, NS_GET_PARENT);
		if (known(d, parent, &n->msg->parent) != 0)
			return refuse(d, p, k->name, "its parent is a namespace without a process");
	}
	n->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	d->n_nested++;
	r = n->fd < 0 ? error_errno(e, -errno, "namespaces") : k->read(d, p, n, e);
	*ret = n->msg->id;
	return r;
}

/* 1: an obstacle. */
static int find_or_add(
	struct dump *d, struct dump_proc *p, const struct nested_kind *k, uint64_t *ret, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", p->shown, k->name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && !strcmp(k->name, "pid_for_children") && errno == ENOENT)
		return refuse(
			d, p, k->name, "its next child would be the init of a new one: not supported yet");
	if (fd < 0 && !d->stopped && (errno == ENOENT || errno == ESRCH))
		return 1; /* it has ended */
	if (fd < 0)
		return error_errno(e, -errno, "open %s", path);
	return known(d, fd, ret) == 0 ? 0 : add(d, p, k, fd, ret, e);
}

int dump_add_held(struct dump *d, struct dump_proc *p, uint32_t type, int fd, struct error *e)
{
	size_t before = d->n_nested;
	uint64_t id = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int r;

		if (kinds[i].flag != type)
			continue;
		r = add_empty(d, p, &kinds[i], fd, &id, e);
		if (d->n_nested > before)
			d->nested[d->n_nested - 1].pid = 0; /* that was the child */
		return MIN(r, 0);
	}
	return error_errno(e, -EINVAL, "namespaces");
}

static bool differs(const struct dump_proc *p, const char *name)
{
	for (size_t i = 0; i < DUMP_NAMESPACES; i++)
		if (!strcmp(dump_namespaces[i], name))
			return p->other_namespaces & 1u << i;
	return false;
}

/* The pids of a task below the container's pid namespace. */
static int inner_ids(
	struct dump *d, const struct proc_status *s, int32_t **ret, size_t *ret_n, struct error *e)
{
	*ret_n = s->n_ns > d->pid_level ? s->n_ns - 1 - d->pid_level : 0;
	*ret = arena_memdup(&d->arena, s->ns_pid + d->pid_level + 1, *ret_n * sizeof(**ret));
	return *ret ? 0 : no_memory(e);
}

/* A thread is of the pid namespace that its process's children are of. */
static void check_threads(struct dump *d, struct dump_proc *p, bool other_children)
{
	if (p->stat.num_threads > 1 && other_children)
		refuse(d, p, "pid_for_children",
			"a process with several threads is in it: not supported yet");
}

static const struct dump_proc *find_pid(const struct dump *d, pid_t pid)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == pid)
			return &d->procs[i];
	return NULL;
}

/* In a pid namespace of its own it can be put into a group only by who leads it, or by birth: then all between have to be in
 * that group. */
static void check_group(struct dump *d, struct dump_proc *p)
{
	const struct dump_proc *q = p;

	if (p->status.n_ns <= d->pid_level + 1 ||
		(find_pid(d, p->stat.pgrp) && p->status.ns_pgid[p->status.n_ns - 1] > 0))
		return;
	while (q && q->pid != p->stat.pgrp && q->stat.pgrp == p->stat.pgrp)
		q = find_pid(d, q->stat.ppid);
	if (!q || q->pid != p->stat.pgrp)
		refuse(d, p, "pid",
			"its process group is led by nobody, or from outside of its pid namespace");
}

static const char *of_init(const struct dump *d, const char *name)
{
	for (size_t i = 0; i < DUMP_NAMESPACES; i++)
		if (!strcmp(dump_namespaces[i], name))
			return d->namespaces[i];
	return "";
}

/* What it is in is the container's, and made by create; what its children would be in is not. */
static void check_init(struct dump *d, struct dump_proc *p)
{
	if (strcmp(of_init(d, "pid"), of_init(d, "pid_for_children")) != 0)
		refuse(d, p, "pid_for_children", "the children of the container's init would be in another");
}

/* Its children's may be its own, which is noted already. */
static void note_namespace(struct dump *d, struct dump_proc *p, const struct nested_kind *k, uint64_t id)
{
	St__Process *m = p->msg;
	bool for_children = strstr(k->name, "_for_children"), own = false;

	for (size_t i = 0; i < m->n_namespaces; i++)
		own |= m->namespaces[i] == id;
	if (!for_children)
		m->namespaces[m->n_namespaces++] = id;
	else if (!own && k->flag == CLONE_NEWPID)
		m->children_pid_namespace = id;
	else if (!own && dump_nested_by_id(d, id)->msg->owner)
		refuse(d, p, k->name, "it belongs to a user namespace of its own: not supported yet");
	else if (!own)
		m->children_time_namespace = id;
}

int dump_nested_namespaces(struct dump *d, struct dump_proc *p, struct error *e)
{
	St__Process *m = p->msg;
	int r = 0;

	if (p->split_namespace)
		refuse(d, p, p->split_namespace, "one of its threads is in another than the process");
	if (p == &d->procs[0])
		check_init(d, p);
	if (!p->other_namespaces)
		return 0;
	m->namespaces = arena_array(&d->arena, ARRAY_SIZE(kinds), sizeof(*m->namespaces));
	if (!m->namespaces || inner_ids(d, &p->status, &m->inner_pids, &m->n_inner_pids, e) < 0)
		return no_memory(e);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint64_t id = 0;

		if (!differs(p, kinds[i].name))
			continue;
		r = find_or_add(d, p, &kinds[i], &id, e);
		if (r < 0)
			return r;
		if (r > 0 || !id)
			continue;
		note_namespace(d, p, &kinds[i], id);
	}
	check_threads(d, p, m->children_pid_namespace);
	check_group(d, p);
	for (size_t i = 0; i < p->n_threads && d->stopped; i++)
		if (inner_ids(d, &p->threads[i].status, &p->threads[i].msg->inner_tids,
			    &p->threads[i].msg->n_inner_tids, e) < 0)
			return e->code;
	return 0;
}

void dump_nested_done(struct dump *d)
{
	for (size_t i = 0; i < d->n_nested; i++) {
		close_p(&d->nested[i].fd);
		close_p(&d->nested[i].root_fd);
		close_p(&d->nested[i].mqueue_folder);
	}
	free(d->nested);
}

static bool has_mount(const struct proc_mount *mounts, size_t n, int id)
{
	for (size_t i = 0; i < n; i++)
		if (mounts[i].id == id)
			return true;
	return false;
}

bool dump_mount_namespace(const struct dump *d, int mnt_id, uint64_t *ret)
{
	*ret = 0;
	if (has_mount(d->mounts, d->n_mounts, mnt_id))
		return true;
	for (size_t i = 0; i < d->n_nested; i++) {
		if (!has_mount(d->nested[i].mounts, d->nested[i].n_mounts, mnt_id))
			continue;
		*ret = d->nested[i].msg->id;
		return true;
	}
	return false;
}

uint64_t dump_namespace_of(const struct dump *d, const struct dump_proc *p, uint32_t type)
{
	for (size_t i = 0; i < d->n_nested && p->msg; i++)
		for (size_t k = 0; k < p->msg->n_namespaces; k++)
			if (d->nested[i].msg->type == type && d->nested[i].msg->id == p->msg->namespaces[k])
				return d->nested[i].msg->id;
	return 0;
}

uint64_t dump_mount_namespace_of(const struct dump *d, const struct dump_proc *p)
{
	return dump_namespace_of(d, p, CLONE_NEWNS);
}

bool dump_has_nested(const struct dump *d, uint32_t type)
{
	for (size_t i = 0; i < d->n_nested; i++)
		if (d->nested[i].msg->type == type)
			return true;
	return false;
}

int dump_net_namespace(const struct dump *d, int socket, uint64_t *ret)
{
	_cleanup_close_ int fd = ioctl(socket, SIOCGSKNS);
	struct stat st;
	char text[32];

	*ret = 0;
	if (fd < 0 && errno == EPERM)
		return 0; /* an ordinary user's container in the host's network */
	if (fd < 0 || fstat(fd, &st) < 0)
		return 1;
	for (size_t i = 0; i < d->n_nested; i++) {
		if (d->nested[i].inode != st.st_ino)
			continue;
		*ret = d->nested[i].msg->id;
		return 0;
	}
	snprintf(text, sizeof(text), "net:[%lu]", (unsigned long)st.st_ino);
	for (size_t i = 0; i < DUMP_NAMESPACES; i++)
		if (!strcmp(d->namespaces[i], text))
			return 0;
	return 1;
}

int dump_net_namespace_fd(const struct dump *d, uint64_t id)
{
	for (size_t i = 0; id && i < d->n_nested; i++)
		if (d->nested[i].msg->id == id)
			return d->nested[i].fd;
	return -EBADF;
}

int dump_root_of(const struct dump *d, const struct dump_file *f)
{
	for (size_t i = 0; f && f->mnt_ns && i < d->n_nested; i++)
		if (d->nested[i].msg->id == f->mnt_ns)
			return d->nested[i].root_fd;
	return d->root_fd;
}
