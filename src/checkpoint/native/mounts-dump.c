/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Mount records: who has changed nothing has none. Runs in preflight, too: all obstacles are found from mountinfo.
 */
#include "checkpoint/native/mounts.h"

#include <dirent.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/res/ipc.h"
#include "linux/mountfd.h"

/* A record to be: of a mount that is there, or of one that create made and which is no longer attached, but of which
 * others are parts. */
struct entry {
	const struct proc_mount *m;
	ssize_t base; /* index into "then"; -1: made by the container */
	struct mount_groups groups;
	bool planned; /* its propagation */
	St__Mount *msg;
};

struct plan {
	struct dump *d;
	const struct proc_mount *now, *then;
	size_t n_now, n_then;
	ssize_t root;
	struct entry *entries; /* those of "now" first */
	size_t n;
	const struct dump_nested *nested; /* NULL: the container's own namespace, else "then" is that */
	uint32_t offset;		  /* ids of records begin behind this */
	int root_fd;
};

/* The mount namespace belongs to a user namespace of the container's processes. */
static bool is_owned(const struct plan *p)
{
	return p->nested && p->nested->locked;
}

static const struct id_maps *maps_of(const struct plan *p)
{
	return is_owned(p) ? &p->nested->owner_maps : NULL;
}

#define refuse(p, m, reason, remedy)                                                                         \
	preflight_add((p)->d->report, 0, -1, "mount", reason, remedy, "%s on %s", (m)->fstype, (m)->target)

static bool same_place(const struct proc_mount *a, const struct proc_mount *b)
{
	return a->id == b->id && mounts_same_fs(a, b) && !strcmp(a->root, b->root);
}

/* A mount of config.json's that is a tmpfs of the container's own (also one with v1's hierarchies in it): its options are
 * its own as well. */
static bool is_own_tmpfs(const struct plan *p, const struct proc_mount *then)
{
	const struct spec *s = p->d->c->spec;

	for (size_t i = 0; i < s->n_mounts && !p->nested && !strcmp(then->fstype, "tmpfs"); i++) {
		const struct spec_mount *m = &s->mounts[i];

		if (!m->is_bind && m->type && (!strcmp(m->type, "tmpfs") || !strncmp(m->type, "cgroup", 6)) &&
			!strcmp(m->destination, then->target))
			return true;
	}
	return false;
}

static bool same_options(const struct plan *p, const struct proc_mount *now, const struct proc_mount *then)
{
	return !strcmp(now->super_options, then->super_options) || !is_own_tmpfs(p, then);
}

/* Mounts of a nested namespace were copied from the container's when it was made: what looks the same is taken for that. */
static bool is_copy(const struct proc_mount *now, const struct proc_mount *then)
{
	return mounts_same_fs(now, then) && !strcmp(now->root, then->root) &&
	       !strcmp(now->target, then->target);
}

static ssize_t find_then(const struct plan *p, const struct proc_mount *now)
{
	for (size_t k = 0; k < p->n_then; k++)
		if (p->nested ? is_copy(now, &p->then[k]) : same_place(now, &p->then[k]))
			return k;
	return -1;
}

static bool has_changed(const struct plan *p)
{
	if (p->n_now != p->n_then)
		return true;
	for (size_t i = 0; i < p->n_now; i++) {
		const struct proc_mount *now = &p->now[i], *then;
		ssize_t k = same_place(now, &p->then[i]) ? (ssize_t)i : find_then(p, now);

		if (k < 0)
			return true;
		then = &p->then[k];
		if (strcmp(then->target, now->target) != 0 || strcmp(then->options, now->options) != 0 ||
			strcmp(then->optional, now->optional) != 0 || !same_options(p, now, then))
			return true;
	}
	return false;
}

/* Whoever edits a file on the host often replaces it, and the container goes on with the old one, which nobody else has. */
static bool check_sources(const struct plan *p)
{
	bool good = true;

	for (size_t i = 0; i < p->n_now && !p->nested; i++)
		for (size_t k = 0; k < p->n_then; k++) {
			const struct proc_mount *now = &p->now[i], *then = &p->then[k];

			if (now->id != then->id || !mounts_same_fs(now, then) ||
				strcmp(now->target, then->target) != 0 || !strcmp(now->root, then->root))
				continue;
			refuse(p, now,
				"its source on the host has been deleted, replaced or renamed, so that a "
				"restore would show something else",
				"put the source back where it was, or restart the container");
			good = false;
		}
	return good;
}

/* The entry of a mount that create made; it may no longer be attached. */
static struct entry *entry_of_base(struct plan *p, size_t base)
{
	struct entry *entry;

	for (size_t i = 0; i < p->n; i++)
		if (p->entries[i].base == (ssize_t)base)
			return &p->entries[i];
	entry = &p->entries[p->n];
	entry->m = &p->then[base];
	entry->base = base;
	entry->planned = true;
	entry->msg = pb_new(&p->d->arena, Mount, mount);
	if (!entry->msg)
		return NULL;
	entry->msg->id = p->offset + ++p->n;
	entry->msg->mount_namespace = p->nested ? p->nested->msg->id : 0;
	entry->msg->unattached = true;
	entry->msg->created_at = (char *)entry->m->target;
	entry->msg->level = mounts_level(p->then, base);
	return entry;
}

/* ---- where each comes from ---- */

static int from_base(struct plan *p, struct entry *entry, struct error *e)
{
	const struct proc_mount *then = &p->then[entry->base];
	const char *options;

	entry->msg->created_at = (char *)then->target;
	entry->msg->level = mounts_level(p->then, entry->base);
	if (mounts_at(p->then, p->n_then, mounts_root(p->then, p->n_then), then->target) !=
			(size_t)entry->base &&
		then->target[1])
		refuse(p, then,
			"config.json mounts something else over it, and the container has changed mounts",
			"let config.json mount only one of them");
	if (same_options(p, entry->m, then))
		return 0;
	if (mounts_options_of(p->d, &p->d->arena, entry->m, maps_of(p), &options) < 0)
		return error_errno(e, -ENOMEM, "mounts");
	entry->msg->options = (char *)options;
	return 0;
}

static bool from_part(struct entry *entry, const struct entry *of)
{
	const char *path = mounts_same_fs(entry->m, of->m) ? mounts_below(entry->m->root, of->m->root) : NULL;

	if (!path)
		return false;
	entry->msg->source = of->msg->id;
	entry->msg->path = (char *)path;
	return true;
}

/* All that hold namespaces are of one file system, of which each shows another part. */
static bool same_whole(const struct proc_mount *a, const struct proc_mount *b)
{
	return mounts_same_fs(a, b) && (strcmp(a->fstype, "nsfs") != 0 || !strcmp(a->root, b->root));
}

static bool is_late(const struct plan *p, const struct entry *entry);

/* Of the container's own mounts of one file system the widest one makes it; of several such ones not one on a proc that comes later, as
 * the others are made of it (a container engine hides parts of /proc and of /sys by one tmpfs). */
static struct entry *maker(struct plan *p, const struct entry *entry)
{
	struct entry *best = NULL;

	for (size_t i = 0; i < p->n_now; i++) {
		struct entry *other = &p->entries[i];

		if (other->base < 0 && same_whole(other->m, entry->m) &&
			(!best || strlen(other->m->root) < strlen(best->m->root) ||
				(!strcmp(other->m->root, best->m->root) && is_late(p, best) &&
					!is_late(p, other))))
			best = other;
	}
	return best;
}

/* A new cgroup mount shows the container's own cgroup, under whatever name it has on the host. */
static bool shows_whole(const struct plan *p, const struct proc_mount *m)
{
	const struct cgroup *cg = &p->d->c->cgroup;

	if (!strcmp(m->root, "/"))
		return true;
	for (size_t i = 0; !strncmp(m->fstype, "cgroup", 6) && i < cg->n_dirs; i++) {
		size_t n = strlen(cg->dirs[i].path), k = strlen(m->root);

		if (n >= k && !strcmp(cg->dirs[i].path + n - k, m->root))
			return true;
	}
	return false;
}

static bool is_among(const struct proc_mount *m, const struct proc_mount *mounts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (mounts_same_fs(m, &mounts[i]))
			return true;
	return false;
}

/* File systems of which each mount is another one. The host's own may have been bound into the container meanwhile, and
 * those of another namespace cannot be made in this one. */
static int is_of_others(struct plan *p, const struct proc_mount *m, struct error *e)
{
	static const char *const own[] = {"tmpfs", "overlay", "devpts", "proc"};
	struct proc_mount *host;
	bool asked = false;
	size_t n;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		asked |= !strcmp(own[i], m->fstype);
	if (!asked)
		return 0;
	if (is_among(m, p->then, p->n_then))
		return 1;
	for (size_t i = 0; p->nested && i < p->d->n_nested; i++)
		if (&p->d->nested[i] != p->nested &&
			is_among(m, p->d->nested[i].mounts, p->d->nested[i].n_mounts))
			return 1;
	r = proc_read_mountinfo(getpid(), &p->d->arena, &host, &n);
	if (r < 0)
		return error_errno(e, r, "read the host's mounts");
	return is_among(m, host, n);
}

static bool is_empty(const struct plan *p, const struct proc_mount *m)
{
	int fd = open_in_root(p->root_fd, m->target, O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	size_t n = 0;

	while (dir && (entry = readdir(dir)))
		n++;
	if (dir)
		closedir(dir);
	return dir && n == 2;
}

static bool is_directory(const struct plan *p, const struct proc_mount *m)
{
	_cleanup_close_ int fd = open_in_root(p->root_fd, m->target, O_PATH | O_DIRECTORY, 0);

	return fd >= 0;
}

/* Whose processes a proc shows: those among which its 1 is the first one. */
static void find_pid_namespace(const struct plan *p, struct entry *entry)
{
	const struct dump *d = p->d;
	_cleanup_close_ int fd = open_in_root(p->root_fd, entry->m->target, O_RDONLY | O_DIRECTORY, 0);
	char text[64] = "", its[64];

	if (fd < 0 || readlinkat(fd, "1/ns/pid", text, sizeof(text) - 1) < 0)
		refuse(p, entry->m, "whose processes it shows cannot be found out", "unmount it");
	for (size_t i = 0; i < d->n_nested; i++) {
		snprintf(its, sizeof(its), "pid:[%lu]", (unsigned long)d->nested[i].inode);
		if (d->nested[i].msg->type == CLONE_NEWPID && !strcmp(text, its)) {
			entry->msg->pid_namespace = d->nested[i].msg->id;
			return;
		}
	}
	for (size_t i = 0; i < DUMP_NAMESPACES && text[0]; i++)
		if (!strcmp(dump_namespaces[i], "pid") && strcmp(d->namespaces[i], text) != 0)
			refuse(p, entry->m,
				"it shows processes of a pid namespace that is not the container's",
				"unmount it");
}

/* Whose queues an mqueue shows. */
static int find_ipc_namespace(struct plan *p, struct entry *entry, struct error *e)
{
	int r = mqueue_namespace_of_mount(p->d, entry->m, &entry->msg->ipc_namespace, e);

	if (r > 0 || (r == 0 && entry->msg->ipc_namespace && !p->nested))
		refuse(p, entry->m,
			r > 0 ? "it shows the queues of an ipc namespace in which no process of the "
				"container is"
			      : "it shows the queues of an ipc namespace that a process has made for itself, "
				"and is among the container's own mounts",
			"unmount it");
	return MIN(r, 0);
}

/* The device of a sysfs that is mounted in a network namespace. */
struct sysfs_visit {
	int net, mnt;
	dev_t device;
};

static int mount_sysfs_there(void *arg)
{
	struct sysfs_visit *v = arg;
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (setns(v->net, CLONE_NEWNET) < 0 || setns(v->mnt, CLONE_NEWNS) < 0)
		return 0;
	fd = mount_make("sysfs", "sysfs", "", NULL, 0);
	if (fd >= 0 && fstat(fd, &st) == 0)
		v->device = st.st_dev;
	return 0;
}

/* Whose interfaces a sysfs shows. Who may mount none there (an ordinary user) takes it for that of a process that sees it. */
static void find_net_namespace(const struct plan *p, struct entry *entry)
{
	struct dump *d = p->d;
	dev_t device = makedev(entry->m->dev_major, entry->m->dev_minor);
	bool asked = false;
	char path[64];

	for (size_t i = 0; i < d->n_nested; i++) {
		struct sysfs_visit v = {.net = d->nested[i].fd};

		if (d->nested[i].msg->type != CLONE_NEWNET)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/mnt", d->c->init_pid);
		v.mnt = open(path, O_RDONLY | O_CLOEXEC);
		dump_in_child(mount_sysfs_there, &v);
		close_p(&v.mnt);
		asked |= v.device != 0;
		if (v.device == device)
			entry->msg->net_namespace = d->nested[i].msg->id;
	}
	for (size_t i = 0; i < d->n_procs && !asked; i++)
		if (d->procs[i].shown == p->nested->pid)
			entry->msg->net_namespace = dump_namespace_of(d, &d->procs[i], CLONE_NEWNET);
}

/* Which namespace it holds: Namespace.id, or a name of the container's own. */
static const char *find_held(const struct plan *p, struct entry *entry)
{
	const struct dump_nested *n;
	struct dump_ns_name name;
	const char *why;

	if (!dump_parse_namespace(entry->m->root, &name))
		return "it holds a namespace of an unknown kind";
	entry->msg->held_name = (char *)name.kind;
	if (dump_is_containers(p->d, &name))
		return name.type & (CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP)
			       ? NULL
			       : "it holds the container's own user, pid or time namespace";
	n = dump_nested_by_name(p->d, &name);
	if (!n) {
		why = dump_why_not_held(p->d, &name);
		return why ? why
			   : "it holds a namespace that cannot be looked at: something is mounted over it";
	}
	entry->msg->held_namespace = n->msg->id;
	return name.type & (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWTIME)
		       ? "it holds a mount, pid or time namespace of the container's processes: not "
			 "supported yet"
		       : NULL;
}

static int from_held(struct plan *p, struct entry *entry)
{
	const char *why = find_held(p, entry);

	if (why)
		refuse(p, entry->m, why, "unmount it");
	entry->msg->fstype = (char *)entry->m->fstype;
	entry->msg->device = (char *)entry->m->source;
	return 0;
}

static int from_new(struct plan *p, struct entry *entry, struct error *e)
{
	const struct proc_mount *m = entry->m;
	const char *options;
	int r = !strcmp(m->fstype, "nsfs") ? 0 : is_of_others(p, m, e);

	if (!strcmp(m->fstype, "nsfs"))
		return from_held(p, entry);

	if (r < 0)
		return r;
	if (r > 0 || !mounts_can_make(m->fstype)) {
		refuse(p, m,
			"the container (or someone on the host) has mounted it, and such a file system "
			"cannot be made again",
			"unmount it, or let config.json mount it");
		return 0;
	}
	if (!strcmp(m->fstype, "hugetlbfs") && !is_empty(p, m))
		refuse(p, m, "there are files in it, which are not recorded", "remove them");
	/* What else was in a tmpfs nobody sees any more. (The root of a sandbox by bwrap is such a one.) */
	if (!strcmp(m->fstype, "tmpfs") && m->root[1] && is_directory(p, m))
		entry->msg->path = (char *)m->root;
	else if (!shows_whole(p, m))
		refuse(p, m, "it is a part of a file system that is not mounted as a whole any more",
			"mount the whole file system somewhere, too");
	if (mounts_options_of(p->d, &p->d->arena, m, maps_of(p), &options) < 0)
		return error_errno(e, -ENOMEM, "mounts");
	if (!strcmp(m->fstype, "proc"))
		find_pid_namespace(p, entry);
	if (!strcmp(m->fstype, "sysfs") && p->nested)
		find_net_namespace(p, entry);
	if (!strcmp(m->fstype, "mqueue"))
		r = find_ipc_namespace(p, entry, e);
	if (r < 0)
		return r;
	entry->msg->fstype = (char *)m->fstype;
	entry->msg->device = (char *)m->source;
	entry->msg->options = (char *)options;
	return 0;
}

static int find_origin(struct plan *p, struct entry *entry, struct error *e)
{
	const struct entry *from;

	if (strstr(entry->m->root, "//deleted") || strstr(entry->m->target, "//deleted")) {
		refuse(p, entry->m, "what it shows, or where it is mounted, has been deleted", "unmount it");
		return 0;
	}
	for (size_t i = 0; i < p->n_now; i++)
		if (p->entries[i].base >= 0 && from_part(entry, &p->entries[i]))
			return 0;
	for (size_t k = 0; k < p->n_then; k++) {
		if (!mounts_same_fs(entry->m, &p->then[k]) || !mounts_below(entry->m->root, p->then[k].root))
			continue;
		from = entry_of_base(p, k);
		return from && from_part(entry, from) ? 0 : error_errno(e, -ENOMEM, "mounts");
	}
	from = maker(p, entry);
	if (from == entry)
		return from_new(p, entry, e);
	if (!from_part(entry, from))
		refuse(p, entry->m, "it is a part of a file system that is not mounted as a whole any more",
			"mount the whole file system somewhere, too");
	return 0;
}

/* ---- overlays: their layers are paths, looked up when they are mounted ---- */

static void check_layer(struct plan *p, const struct entry *entry, const char *layer)
{
	size_t i = entry - p->entries;
	_cleanup_close_ int fd = -EBADF;

	for (size_t k = i + 1; k < p->n_now; k++)
		if (!mounts_same_fs(p->now + k, entry->m) && mounts_below(layer, p->now[k].target)) {
			refuse(p, entry->m, "its layers are no longer where they were when it was mounted",
				"unmount what covers them");
			return;
		}
	if (mounts_below(layer, entry->m->target))
		return;
	fd = open_in_root(p->root_fd, layer, O_PATH | O_DIRECTORY, 0);
	if (layer[0] != '/' || fd < 0)
		refuse(p, entry->m, "its layers are not found by their paths", "mount it by absolute paths");
}

static void check_overlay(struct plan *p, const struct entry *entry)
{
	static const char *const names[] = {"lowerdir", "upperdir", "workdir"};
	const char *options = entry->msg->options;

	if (strchr(options, '\\') || strstr(options, "datadir") ||
		strstr(entry->m->super_options, "lowerdir+") || strstr(entry->m->super_options, "volatile") ||
		strstr(options, "index=on") || strstr(options, "nfs_export=on"))
		refuse(p, entry->m,
			"an overlay with such options (volatile, index, datadir) cannot be mounted again",
			"mount it without them");
	if (entry->m == &p->now[p->root])
		refuse(p, entry->m, "its layers are outside of the container's root", "use another root");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *layers = mounts_option(&p->d->arena, options, names[i]);

		for (char *one; layers && (one = strsep(&layers, ":"));)
			if (*one)
				check_layer(p, entry, one);
	}
}

/* ---- propagation ---- */

static bool same_groups(const struct mount_groups *a, const struct mount_groups *b)
{
	return a->shared == b->shared && a->master == b->master;
}

static bool can_give(const struct proc_mount *from, const struct entry *to)
{
	return mounts_same_fs(from, to->m) && mounts_below(to->m->root, from->root);
}

/* A mount as create made it with exactly these groups, or (master) whose peers are to be the master. */
static bool inherit(struct plan *p, struct entry *entry, bool master)
{
	const struct mount_groups *want = &entry->groups;

	for (size_t n = 0; n <= p->n_then; n++) {
		/* its own first */
		size_t k = n == 0 ? (size_t)MAX(entry->base, 0) : n - 1;
		struct mount_groups then;
		struct entry *from;

		if ((n == 0 && entry->base < 0) || k >= p->n_then || !can_give(&p->then[k], entry))
			continue;
		then = mounts_groups(&p->then[k]);
		if (master ? then.shared != want->master : !same_groups(&then, want))
			continue;
		from = entry_of_base(p, k);
		if (!from)
			return false;
		entry->msg->inherit = from->msg->id;
		return true;
	}
	return false;
}

/* A slave that create has made, of the same master: its copy becomes shared as well ("ip netns add" does so where the machine's root is
 * shared). */
static bool inherit_slave(struct plan *p, struct entry *entry)
{
	for (size_t k = 0; k < p->n_then; k++) {
		struct mount_groups then = mounts_groups(&p->then[k]);
		struct entry *from;

		if (then.shared || then.master != entry->groups.master || !can_give(&p->then[k], entry))
			continue;
		from = entry_of_base(p, k);
		entry->msg->inherit = from ? from->msg->id : 0;
		return from;
	}
	return false;
}

static bool join(struct plan *p, struct entry *entry, bool master)
{
	for (size_t i = 0; i < p->n_now; i++) {
		const struct entry *other = &p->entries[i];

		if (other == entry || !other->planned || !can_give(other->m, entry) ||
			(master ? other->groups.shared != entry->groups.master
				: !same_groups(&other->groups, &entry->groups)))
			continue;
		entry->msg->peer = other->msg->id;
		return true;
	}
	return false;
}

/* Whether another one should begin the group: a wider one, or there is one already (which could not give). */
static bool another_begins(const struct plan *p, const struct entry *entry)
{
	for (size_t i = 0; i < p->n_now; i++) {
		const struct entry *other = &p->entries[i];

		if (other != entry && other->groups.shared == entry->groups.shared &&
			(other->planned ||
				(can_give(other->m, entry) && strcmp(other->m->root, entry->m->root) != 0)))
			return true;
	}
	return false;
}

static bool plan_one(struct plan *p, struct entry *entry)
{
	const struct mount_groups *want = &entry->groups;
	uint32_t steps = want->shared ? MOUNT_SHARED : 0;

	if (want->unbindable)
		entry->msg->propagation = MOUNT_UNBINDABLE;
	if (!want->shared && !want->master)
		return true;
	if (inherit(p, entry, false) || join(p, entry, false))
		return true;
	if (want->shared && another_begins(p, entry))
		return false;
	entry->msg->propagation |= steps;
	if (!want->master || inherit_slave(p, entry))
		return true;
	entry->msg->propagation |= MOUNT_SLAVE;
	return inherit(p, entry, true) || join(p, entry, true);
}

static void plan_propagation(struct plan *p)
{
	bool progress = true;

	while (progress) {
		progress = false;
		for (size_t i = 0; i < p->n_now; i++) {
			struct entry *entry = &p->entries[i];

			if (entry->planned)
				continue;
			entry->msg->propagation = 0;
			entry->planned = plan_one(p, entry);
			progress |= entry->planned;
		}
	}
	for (size_t i = 0; i < p->n_now; i++)
		if (!p->entries[i].planned)
			refuse(p, p->entries[i].m,
				"mounts propagate to or from it that are not in the container",
				"make it private (mount --make-private)");
}

/* ---- all of them ---- */

static const char *below_parent(const struct plan *p, size_t i, uint32_t *ret_parent)
{
	for (size_t k = 0; k < p->n_now; k++) {
		if (p->now[k].id != p->now[i].parent_id || k == i)
			continue;
		*ret_parent = p->offset + k + 1;
		return mounts_below(p->now[i].target, p->now[k].target);
	}
	return NULL;
}

static int make_entries(struct plan *p, struct error *e)
{
	for (size_t i = 0; i < p->n_now; i++) {
		struct entry *entry = &p->entries[i];
		const char *target = "";

		*entry = (struct entry){.m = &p->now[i], .base = find_then(p, &p->now[i])};
		entry->groups = mounts_groups(entry->m);
		entry->msg = pb_new(&p->d->arena, Mount, mount);
		if (!entry->msg)
			return error_errno(e, -ENOMEM, "mounts");
		entry->msg->id = p->offset + ++p->n;
		entry->msg->mount_namespace = p->nested ? p->nested->msg->id : 0;
		entry->msg->locked = is_owned(p) && p->nested->locked[i];
		if ((ssize_t)i != p->root)
			target = below_parent(p, i, &entry->msg->parent);
		if (!target || !mounts_attributes(entry->m, &entry->msg->attributes))
			refuse(p, entry->m, "its place or its options are not understood", "unmount it");
		entry->msg->target = target ? (char *)target : (char *)"";
	}
	return 0;
}

/* ---- in a namespace that belongs to a user namespace of the container's processes ---- */

/* The mount of the container's that it is a copy of, or a part; NULL: it was mounted in there. */
static const struct proc_mount *original(const struct plan *p, const struct entry *entry)
{
	size_t k = 0;

	while (entry->msg->source && k++ <= p->n)
		entry = &p->entries[entry->msg->source - 1 - p->offset];
	return entry->base >= 0 ? &p->then[entry->base] : NULL;
}

static const struct entry *parent_of(const struct plan *p, const struct entry *entry)
{
	return entry->msg->parent ? &p->entries[entry->msg->parent - 1 - p->offset] : NULL;
}

/* A mount of the container's that is shared has made its copy a slave of it; one that is a slave, another slave. */
static bool plan_slave(struct plan *p, struct entry *entry)
{
	for (size_t k = 0; k < p->n_then; k++) {
		struct mount_groups then = mounts_groups(&p->then[k]);
		struct entry *from;

		if (!can_give(&p->then[k], entry) ||
			(then.shared ? then.shared : then.master) != entry->groups.master)
			continue;
		from = entry_of_base(p, k);
		entry->msg->inherit = from ? from->msg->id : 0;
		return from;
	}
	return false;
}

/* The kernel lets nobody in there take these away, nor change the times of access. */
static bool may_have_attributes(const struct entry *entry, const struct proc_mount *from)
{
	enum {
		KEPT = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		TIMES = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME
	};
	uint64_t had;

	return mounts_attributes(from, &had) && (had & KEPT & ~entry->msg->attributes) == 0 &&
	       (had & TIMES) == (entry->msg->attributes & TIMES);
}

static void plan_owned_one(struct plan *p, struct entry *entry)
{
	const struct proc_mount *from = original(p, entry);
	const struct entry *parent = parent_of(p, entry);

	if (entry->msg->locked && (!from || !parent || !original(p, parent)))
		refuse(p, entry->m,
			"it is locked, and has not come from the container's own mounts together with that "
			"on which it lies",
			"run it in the container's own namespaces");
	if (from && !may_have_attributes(entry, from))
		refuse(p, entry->m,
			"it has flags that could not be set in its user namespace: those of the container's "
			"mount have changed",
			"undo that");
	if (!from && !strcmp(entry->m->fstype, "overlay"))
		refuse(p, entry->m,
			"an overlay that was mounted in a user namespace of its own: not supported yet",
			"unmount it");
	if (entry->groups.shared || entry->groups.unbindable ||
		(entry->groups.master && (!from || !plan_slave(p, entry))))
		refuse(p, entry->m, "its propagation, in a user namespace of its own, is not supported",
			"make it private (mount --make-private)");
	entry->planned = true;
}

static void plan_owned(struct plan *p)
{
	for (size_t i = 0; i < p->n_now; i++)
		plan_owned_one(p, &p->entries[i]);
}

/* ---- a proc of a nested pid namespace: the first process there mounts it, and what lies on it, once all else is there ---- */

static const struct entry *source_of(const struct plan *p, const struct entry *entry)
{
	return entry->msg->source ? &p->entries[entry->msg->source - 1 - p->offset] : NULL;
}

static bool is_late(const struct plan *p, const struct entry *entry)
{
	for (size_t steps = 0; entry && steps <= p->n; steps++, entry = parent_of(p, entry))
		for (const struct entry *from = entry; from; from = source_of(p, from))
			if (from->msg->pid_namespace)
				return true;
	return false;
}

static bool is_made_of_late(const struct plan *p, const struct entry *entry)
{
	while ((entry = source_of(p, entry)))
		if (is_late(p, entry))
			return true;
	return false;
}

static bool is_in_use(const struct plan *p, const struct proc_mount *m)
{
	for (size_t i = 0; i < p->d->n_files; i++)
		if ((int)p->d->files[i].info.mnt_id == m->id)
			return true;
	return false;
}

/* The first process of the pid namespace is in this mount namespace. */
static bool first_is_here(const struct plan *p, uint64_t pids)
{
	for (size_t i = 0; i < p->d->n_procs; i++) {
		const struct dump_proc *q = &p->d->procs[i];
		bool in_it = false;

		for (size_t k = 0; q->msg && k < q->msg->n_namespaces; k++)
			in_it |= q->msg->namespaces[k] == pids;
		if (in_it && q->own_pid == 1 && p->nested &&
			dump_mount_namespace_of(p->d, q) == p->nested->msg->id)
			return true;
	}
	return false;
}

static void check_late(struct plan *p)
{
	for (size_t i = 0; i < p->n_now; i++) {
		const struct entry *entry = &p->entries[i];
		const char *reason = NULL;

		if (!is_late(p, entry))
			reason = is_made_of_late(p, entry)
					 ? "it is a part of what lies on a proc of a nested pid namespace"
					 : NULL;
		else if (!strcmp(entry->msg->fstype, "overlay"))
			reason = "it is an overlay, and lies on a proc of a nested pid namespace";
		else if (entry->msg->pid_namespace && !first_is_here(p, entry->msg->pid_namespace))
			reason = "it shows a pid namespace whose first process is in another mount namespace";
		else if (is_in_use(p, entry->m))
			reason = "it shows a nested pid namespace, and files of it are open";
		else if (entry->groups.shared || entry->groups.master || entry->groups.unbindable)
			reason = "it shows a nested pid namespace, and is not private";
		if (reason)
			refuse(p, entry->m, reason, "unmount it");
	}
}

static int make_records(struct plan *p, struct error *e)
{
	int r = make_entries(p, e);

	for (size_t i = 0; i < p->n_now && r == 0; i++) {
		struct entry *entry = &p->entries[i];

		if (entry->base >= 0)
			r = from_base(p, entry, e);
		else
			r = find_origin(p, entry, e);
		if (r == 0 && !strcmp(entry->m->fstype, "overlay") && entry->msg->fstype[0])
			check_overlay(p, entry);
	}
	if (r == 0 && is_owned(p))
		plan_owned(p);
	else if (r == 0)
		plan_propagation(p);
	if (r == 0)
		check_late(p);
	return r;
}

/* A mount that shows all of a file system, and can be reached by its path. */
static const struct proc_mount *whole_view(const struct plan *p, const struct proc_mount *m)
{
	for (size_t i = 0; i < p->n_now; i++)
		if (mounts_same_fs(&p->now[i], m) && !strcmp(p->now[i].root, m->root) &&
			mounts_at(p->now, p->n_now, p->root, p->now[i].target) == i)
			return &p->now[i];
	return NULL;
}

/* Of a mount that is whole, but covered: whether it can be uncovered, in a copy of the namespace. */
static bool is_within_reach(struct plan *p, struct dump_tmpfs_view *v, const struct proc_mount *m)
{
	_cleanup_close_ int fd = -EBADF;

	v->view = m;
	v->covered = true;
	if (strcmp(m->root, "/") != 0)
		return false;
	fd = dump_bare_mount(p->d, v);
	return fd >= 0;
}

/* Contents of file systems that only the container has (tmpfs.c). */
static void list_contents(struct plan *p)
{
	struct dump *d = p->d;

	for (size_t i = 0; i < p->n; i++) {
		const struct entry *entry = &p->entries[i];
		struct dump_tmpfs_view *v = &d->contents[d->n_contents];

		if (entry->base >= 0 ? !is_own_tmpfs(p, &p->then[entry->base])
				     : strcmp(entry->msg->fstype, "tmpfs") != 0)
			continue;
		*v = (struct dump_tmpfs_view){
			.mount = entry->msg->id, .nested = p->nested, .view = whole_view(p, entry->m)};
		if (!v->view && !is_within_reach(p, v, entry->m))
			refuse(p, entry->m,
				"something else is mounted over it, or it is mounted as a whole no more: its "
				"contents "
				"cannot be read",
				"unmount what covers it, or all of it");
		d->n_contents++;
	}
}

static bool may_mount(const struct spec *s)
{
	const struct spec_capabilities *c = &s->process->capabilities;

	return s->namespaces[NS_MNT].present && !s->namespaces[NS_MNT].path &&
	       (!s->process->has_capabilities || (c->bounding & 1ull << CAP_SYS_ADMIN));
}

static int plan_tree(struct plan *p, struct error *e)
{
	struct dump *d = p->d;
	int r;

	if (!check_sources(p))
		return 0;
	p->root = mounts_root(p->now, p->n_now);
	if (p->root < 0 || mounts_root(p->then, p->n_then) < 0 || (!is_owned(p) && !may_mount(d->c->spec))) {
		preflight_add(d->report, 0, -1, "mount",
			p->root < 0
				? "init of its mount namespace has another root directory than that"
				: "mounts have changed, and config.json does not allow that to the container",
			p->root < 0
				? "let it stay in the namespace's root"
				: "undo the change, or add CAP_SYS_ADMIN to process.capabilities.bounding",
			"mounts of the container");
		return 0;
	}
	p->offset = d->n_mount_msgs;
	p->entries = arena_array(&d->arena, p->n_now + p->n_then, sizeof(*p->entries));
	if (!p->entries)
		return error_errno(e, -ENOMEM, "mounts");
	r = make_records(p, e);
	if (r < 0)
		return r;
	list_contents(p);
	for (size_t i = 0; i < p->n; i++)
		d->mount_msgs[d->n_mount_msgs++] = p->entries[i].msg;
	return 0;
}

/* Room for all records that there can be. */
static int make_room(struct dump *d, size_t n_then, struct error *e)
{
	size_t n = d->n_mounts + n_then;

	for (size_t i = 0; i < d->n_nested; i++)
		if (d->nested[i].mounts)
			n += d->nested[i].n_mounts + d->n_mounts;
	d->mount_msgs = arena_array(&d->arena, n, sizeof(*d->mount_msgs));
	d->contents = arena_array(&d->arena, n, sizeof(*d->contents));
	return d->mount_msgs && d->contents ? 0 : error_errno(e, -ENOMEM, "mounts");
}

int dump_mounts(struct dump *d, struct error *e)
{
	TRACE("mounts");
	struct plan p = {.d = d, .now = d->mounts, .n_now = d->n_mounts, .root_fd = d->root_fd};
	struct proc_mount *then;
	int r;

	if (!d->c->mountinfo)
		return 0;
	if (proc_parse_mountinfo(d->c->mountinfo, &d->arena, &then, &p.n_then) < 0)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "the mount table kept at create is damaged");
	p.then = then;
	r = make_room(d, p.n_then, e);
	if (r == 0 && has_changed(&p))
		r = plan_tree(&p, e);
	for (size_t i = 0; i < d->n_nested && r == 0; i++) {
		const struct dump_nested *n = &d->nested[i];

		if (!n->mounts)
			continue;
		p = (struct plan){.d = d,
			.now = n->mounts,
			.n_now = n->n_mounts,
			.then = d->mounts,
			.n_then = d->n_mounts,
			.nested = n,
			.root_fd = n->root_fd};
		r = plan_tree(&p, e);
	}
	return r;
}
