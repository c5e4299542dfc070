/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of Mount records, made in the container's init: with its capabilities, in its namespaces and by paths of its
 * own mounts, so the kernel lets an image do no more than the container itself could have done.
 *
 * Each mount is made first, and lies by itself on a stage (a tmpfs over the old root), where nothing covers anything. Then
 * mount points are opened, the mounts are moved to them, pivot_root, and the old tree goes. Propagation comes last, so
 * that nothing propagates on the way: mounts of create lend it from copies ("donors") that were put aside at the start.
 */
#include "checkpoint/native/mounts.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fault.h"
#include "base/fd.h"
#include "checkpoint/native/mounts-site.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/restore.h"
#include "container/container.h"
#include "linux/mountfd.h"

int site_failed(struct error *e, int code, const char *what, const St__Mount *m)
{
	return error_errno(e, code, "%s the mount %s%s%s", what, m->created_at[0] ? m->created_at : m->target,
		m->fstype[0] ? " of type " : "", m->fstype);
}

/* ---- the image ---- */

/* A reference to another record of the same namespace, or none. */
static bool is_reference(const struct restore *r, const St__Mount *m, uint32_t id)
{
	return !id || (id <= r->n_mounts && r->mounts[id - 1]->mount_namespace == m->mount_namespace);
}

static bool is_well_formed(const struct restore *r, size_t i)
{
	const St__Mount *m = r->mounts[i];
	int origins = (m->created_at[0] != 0) + (m->source != 0) + (m->fstype[0] != 0);

	if (m->id != i + 1 || !is_reference(r, m, m->parent) || !is_reference(r, m, m->source) ||
		!is_reference(r, m, m->inherit) || !is_reference(r, m, m->peer) || origins != 1 ||
		m->attributes >> 32 || m->propagation > 7)
		return false;
	if (m->created_at[0] ? m->created_at[0] != '/' : m->unattached)
		return false;
	if (m->fstype[0] && !mounts_options_are_good(m->fstype, m->options))
		return false;
	if (m->fstype[0] && m->path[0] && strcmp(m->fstype, "tmpfs") != 0)
		return false;
	if (m->locked && (!m->parent || m->fstype[0] || m->unattached || !m->mount_namespace))
		return false;
	if (m->pid_namespace && (strcmp(m->fstype, "proc") != 0 || !m->mount_namespace || !m->parent ||
					!restore_is_pid_namespace(r, m->pid_namespace)))
		return false;
	if (m->ipc_namespace && (strcmp(m->fstype, "mqueue") != 0 || !m->mount_namespace ||
					!restore_is_ipc_namespace(r, m->ipc_namespace)))
		return false;
	if (m->net_namespace && (strcmp(m->fstype, "sysfs") != 0 || !m->mount_namespace ||
					!restore_is_net_namespace(r, m->net_namespace)))
		return false;
	if (!strcmp(m->fstype, "nsfs") ? !restore_may_hold(r, m) : m->held_namespace || m->held_name[0])
		return false;
	if (m->created_at[0] && m->options[0] && !mounts_options_are_good("tmpfs", m->options))
		return false;
	if (m->inherit && !r->mounts[m->inherit - 1]->created_at[0])
		return false;
	return (!m->target[0] || m->target[0] == '/') && (!m->path[0] || m->path[0] == '/');
}

/* Following parents leads to the root. */
static bool is_rooted(const struct restore *r, const St__Mount *m)
{
	for (size_t steps = 0; steps < r->n_mounts; steps++) {
		if (m->unattached)
			return false;
		if (!m->parent)
			return true;
		m = r->mounts[m->parent - 1];
	}
	return false;
}

size_t site_first_of(const struct restore *r, uint64_t ns)
{
	size_t i = 0;

	while (i < r->n_mounts && r->mounts[i]->mount_namespace != ns)
		i++;
	return i;
}

/* All of a namespace come together, and have one root. */
static bool is_tree(const struct restore *r, size_t first)
{
	uint64_t ns = r->mounts[first]->mount_namespace;
	size_t roots = 0, end = first;

	for (; end < r->n_mounts && r->mounts[end]->mount_namespace == ns; end++)
		roots += !r->mounts[end]->unattached && !r->mounts[end]->parent;
	for (; end < r->n_mounts; end++)
		if (r->mounts[end]->mount_namespace == ns)
			return false;
	return roots == 1;
}

static bool contents_are_good(const struct restore *r, uint32_t mount)
{
	const St__Mount *m;

	if (!mount)
		return site_first_of(r, 0) == r->n_mounts;
	m = mount <= r->n_mounts ? r->mounts[mount - 1] : NULL;
	return m && !m->source && (!m->fstype[0] || !strcmp(m->fstype, "tmpfs"));
}

int restore_validate_mounts(const struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->n_mounts; i++) {
		const St__Mount *m = r->mounts[i];

		if (!is_well_formed(r, i) || (!m->unattached && !is_rooted(r, m)) ||
			(site_first_of(r, m->mount_namespace) == i && !is_tree(r, i)))
			return error_set(
				e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: mount %zu is malformed", i + 1);
	}
	for (size_t i = 0; i < r->n_tmpfs; i++)
		if (!contents_are_good(r, r->tmpfs[i]->mount))
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"checkpoint.img: contents of %s belong to no tmpfs", r->tmpfs[i]->target);
	return 0;
}

bool restore_has_mounts(const struct restore *r, uint64_t ns)
{
	return site_first_of(r, ns) < r->n_mounts;
}

/* Are there any in a namespace that belongs to the container's user namespace? */
static bool has_mounts_of_its_own(const struct restore *r)
{
	for (size_t i = 0; i < r->n_mounts; i++) {
		const struct restore_nested *n = restore_namespace(r, r->mounts[i]->mount_namespace);

		if (!n || !n->msg->owner)
			return true;
	}
	return false;
}

int restore_check_mounts(const struct restore *r, const struct spec *s, struct error *e)
{
	const struct spec_capabilities *c = &s->process->capabilities;

	/* Who makes a user namespace may mount there. */
	if (!has_mounts_of_its_own(r))
		return 0;
	if (!s->namespaces[NS_MNT].present || s->namespaces[NS_MNT].path)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image brings mounts, and the bundle's config.json gives the container no mount "
			"namespace "
			"of its own");
	if (s->process->has_capabilities && !(c->bounding & 1ull << CAP_SYS_ADMIN))
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image brings mounts that the container has made, and the bundle's config.json "
			"does not allow it "
			"to mount: add CAP_SYS_ADMIN to process.capabilities.bounding, if that is wanted");
	return 0;
}

/* ---- what create has made ---- */

int site_survey(struct site *s, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	int r;

	s->old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->old_root < 0)
		return error_errno(e, -errno, "open /");
	r = read_file_at(s->r->proc_fd, "self/mountinfo", 16 << 20, &text, NULL);
	if (r == 0)
		r = proc_parse_mountinfo(text, &s->r->arena, &s->now, &s->n_now);
	return r < 0 ? error_errno(e, r, "read the mounts of the container") : 0;
}

/* *ret: a copy of the mount; *ret_donor: another one, if there is propagation to inherit. */
int site_copy_base(struct site *s, const St__Mount *m, int *ret, int *ret_donor, struct error *e)
{
	ssize_t k = mounts_find(s->now, s->n_now, m->created_at, m->level);
	_cleanup_close_ int at = -EBADF;
	struct mount_groups groups;
	int r = 0;

	if (k < 0)
		return error_set(e, -ENOENT, ERROR_CONFIG,
			"the bundle's config.json makes no mount at %s, which was there at the checkpoint",
			m->created_at);
	at = open_in_root(s->old_root, m->created_at, O_PATH, 0);
	if (at < 0 || mount_id(at) != s->now[k].id)
		return site_failed(e, at < 0 ? at : -EBUSY, "find", m);
	groups = mounts_groups(&s->now[k]);
	if (groups.unbindable)
		r = mount_change(at, 0, 0, MS_PRIVATE, false);
	if (r == 0 && (groups.shared || groups.master))
		r = *ret_donor = mount_clone(at, "", false);
	if (r >= 0)
		r = *ret = mount_clone(at, "", false);
	if (r >= 0)
		r = mount_change(*ret, 0, 0, MS_PRIVATE, false);
	return r < 0 ? site_failed(e, r, "copy", m) : 0;
}

/* ---- each mount on the stage ---- */

static int new_place(struct site *s, bool directory)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%u", s->n_places++);
	if (directory ? mkdirat(s->stage, name, 0700) : mknodat(s->stage, name, S_IFREG | 0600, 0))
		return -errno;
	fd = openat(s->stage, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int site_put_on_stage(struct site *s, const St__Mount *m, int fd, struct error *e)
{
	_cleanup_close_ int place = -EBADF;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return site_failed(e, -errno, "look at", m);
	r = place = new_place(s, S_ISDIR(st.st_mode));
	if (r >= 0)
		r = mount_attach(fd, place);
	return r < 0 ? site_failed(e, r, "attach", m) : 0;
}

/* A place in a mount; path "": its root, which may be a file. */
int site_open_place(int mount, const char *path)
{
	int fd;

	if (path[0])
		return open_in_root(mount, path, O_PATH | O_NOFOLLOW, 0);
	fd = fcntl(mount, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int site_make_part(struct site *s, const St__Mount *m, int *ret, struct error *e)
{
	_cleanup_close_ int at = site_open_place(s->made[m->source - 1 - s->first].fd, m->path);
	int r = at < 0 ? at : (*ret = mount_clone(at, "", false));

	if (r >= 0)
		r = mount_change(*ret, 0, 0, MS_PRIVATE, false);
	return r < 0 ? site_failed(e, r, "bind", m) : 0;
}

/* Its layers are looked up in the new tree, as far as it is there. mount(2), as layers are longer than fsconfig(2) takes. */
static int make_overlay(struct site *s, const St__Mount *m, int *ret, struct error *e)
{
	_cleanup_close_ int place = new_place(s, true);
	char name[16];
	int r = 0;

	if (place < 0 || s->root < 0)
		return site_failed(e, place < 0 ? place : -EINVAL, "make", m);
	if (fchdir(s->made[s->root].fd) < 0 || chroot(".") < 0 || fchdir(place) < 0)
		r = -errno;
	if (r == 0 && mount(m->device, ".", "overlay", 0, m->options) < 0)
		r = -errno;
	if (fchdir(s->old_root) < 0 || chroot(".") < 0)
		r = r < 0 ? r : -errno;
	snprintf(name, sizeof(name), "%u", s->n_places - 1);
	if (r == 0)
		*ret = openat(s->stage, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return r < 0 || *ret < 0 ? site_failed(e, r < 0 ? r : -errno, "make", m) : 0;
}

bool site_is_read_only(const St__Mount *m)
{
	return !strcmp(m->options, "ro") || !strncmp(m->options, "ro,", 3);
}

/* A mount of a directory in it, of which nothing else is to be seen. */
static int part_of_new(int whole, const char *path)
{
	_cleanup_close_ int fd = whole, at = make_dirs_in_root(fd, path, 0755);
	int r = at < 0 ? at : mount_clone(at, "", false);

	return r;
}

/* "ro" of the file system itself waits until its contents are there. */
int site_make_new(struct site *s, const St__Mount *m, int *ret, struct error *e)
{
	const char *options = !site_is_read_only(m) ? m->options : m->options[2] ? m->options + 3 : "";

	if (!strcmp(m->fstype, "mqueue") && restore_enter_ipc(s->r, m->ipc_namespace, e) < 0)
		return e->code;
	if (!strcmp(m->fstype, "sysfs") && restore_enter_network(s->r, m->net_namespace, e) < 0)
		return e->code;
	*ret = !strcmp(m->fstype, "nsfs") ? restore_mount_namespace(s->r, m)
					  : mount_make(m->fstype, m->device, options, NULL, 0);
	if (*ret >= 0 && m->path[0])
		*ret = part_of_new(*ret, m->path);
	return *ret < 0 ? site_failed(e, *ret, "make", m) : 0;
}

static int fill(struct site *s, const St__Mount *m, int mount, struct error *e)
{
	const char *options = m->created_at[0] || site_is_read_only(m) ? m->options : "";
	int r = 0;

	for (size_t i = 0; i < s->r->n_tmpfs && r == 0; i++) {
		_cleanup_close_ int fd = -EBADF;

		if (s->r->tmpfs[i]->mount != m->id)
			continue;
		r = mount_change(mount, 0, MOUNT_ATTR_RDONLY, 0, false);
		if (r < 0)
			return site_failed(e, r, "fill", m);
		fd = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = restore_tmpfs_at(s->r, s->r->tmpfs[i], fd < 0 ? -errno : fd, e);
	}
	if (r == 0 && *options) {
		r = mount_reconfigure(mount, options);
		r = r < 0 ? site_failed(e, r, "set the options of", m) : 0;
	}
	return r;
}

/* The mount points of all that will be mounted on it, while nothing covers them. */
int site_open_mount_points(struct site *s, const St__Mount *m, struct error *e)
{
	for (size_t i = 0; i < s->n; i++) {
		const St__Mount *child = s->mounts[i];
		int *target = &s->made[i].target;

		if (child->unattached || child->parent != m->id || restore_mount_is_late(s->r, child))
			continue;
		*target = site_open_place(s->made[m->id - 1 - s->first].fd, child->target);
		if (*target < 0)
			return site_failed(e, *target, "find the mount point of", child);
	}
	return 0;
}

static int make_one(struct site *s, const St__Mount *m, struct error *e)
{
	bool overlay = !strcmp(m->fstype, "overlay");
	struct made *made = &s->made[m->id - 1 - s->first];
	int fd = -EBADF, r;

	if (m->created_at[0])
		fd = made->fd; /* copied already */
	r = m->created_at[0] ? 0
	    : m->source	     ? site_make_part(s, m, &fd, e)
	    : overlay	     ? make_overlay(s, m, &fd, e)
			     : site_make_new(s, m, &fd, e);
	made->fd = fd;
	if (r == 0 && !overlay)
		r = site_put_on_stage(s, m, fd, e);
	if (r == 0)
		r = fill(s, m, fd, e);
	return r < 0 ? r : site_open_mount_points(s, m, e);
}

/* Moves what is made to its place, as far as its parent is made, too. */
int site_attach_made(struct site *s, struct error *e)
{
	for (size_t i = 0; i < s->n; i++) {
		struct made *made = &s->made[i];
		int r;

		if (made->fd < 0 || made->target < 0 || made->attached)
			continue;
		r = mount_attach(made->fd, made->target);
		if (r < 0)
			return site_failed(e, r, "attach", s->mounts[i]);
		made->attached = true;
	}
	return 0;
}

/* First all that needs nothing but create's mounts; overlays one after another, each with what is made of it. */
static int make_all(struct site *s, struct error *e)
{
	size_t left = s->n;
	bool overlays = false;
	bool *done = arena_array(&s->r->arena, s->n, sizeof(*done));

	if (!done)
		return error_errno(e, -ENOMEM, "mounts");
	for (size_t i = 0; i < s->n; i++) {
		done[i] = restore_mount_is_late(s->r, s->mounts[i]);
		left -= done[i];
	}
	while (left > 0) {
		size_t before = left;
		int result = 0;

		for (size_t i = 0; i < s->n && result == 0; i++) {
			const St__Mount *m = s->mounts[i];
			bool overlay = !strcmp(m->fstype, "overlay");

			if (done[i] || (m->source && !done[m->source - 1 - s->first]) ||
				(overlay && !overlays))
				continue;
			result = make_one(s, m, e);
			done[i] = true;
			left--;
			overlays = overlays && !overlay;
		}
		if (result == 0)
			result = site_attach_made(s, e);
		if (result < 0)
			return result;
		if (before == left && overlays)
			return error_set(
				e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: mounts are made of each other");
		overlays = before == left;
	}
	return 0;
}

/* Mounts are listed in the order in which they were made, and programs see that: so all of them are made once more, in the
 * order of the records, and put together as before. */
static int make_again(struct site *s, struct error *e)
{
	for (size_t i = 0; i < s->n; i++) {
		const St__Mount *m = s->mounts[i];
		struct made *made = &s->made[i];
		int r, fd;

		if (m->unattached || restore_mount_is_late(s->r, m))
			continue;
		r = fd = mount_clone(made->fd, "", false);
		if (fd < 0)
			return site_failed(e, fd, "copy", m);
		close(made->fd);
		close_p(&made->target);
		made->fd = fd;
		made->attached = false;
		r = site_put_on_stage(s, m, fd, e);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < s->n; i++) {
		int r = s->made[i].fd < 0 || s->mounts[i]->unattached
				? 0
				: site_open_mount_points(s, s->mounts[i], e);

		if (r < 0)
			return r;
	}
	return site_attach_made(s, e);
}

/* ---- the new tree takes the place of the old ---- */

static int enter_tree(struct site *s, struct error *e)
{
	if (fchdir(s->made[s->root].fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return error_errno(e, -errno, "pivot_root to the container's own root");
	if (fchdir(s->old_root) < 0)
		return error_errno(e, -errno, "enter the old root");
	/* the stage lies on top of it */
	if (umount2(".", MNT_DETACH) < 0 || umount2(".", MNT_DETACH) < 0)
		return error_errno(e, -errno, "detach the old root");
	return chdir("/") < 0 ? error_errno(e, -errno, "enter /") : 0;
}

int site_set_attributes(struct site *s, struct error *e)
{
	enum {
		ALL = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
		      MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR__ATIME
	};

	for (size_t i = 0; i < s->n; i++) {
		const St__Mount *m = s->mounts[i];
		uint64_t have = UINT64_MAX;
		int r = 0;

		/* What create has made with the same attributes is left as it is: they may be locked. */
		if (m->created_at[0]) {
			ssize_t k = mounts_find(s->now, s->n_now, m->created_at, m->level);

			if (k < 0 || !mounts_attributes(&s->now[k], &have))
				have = UINT64_MAX;
		}
		if (s->made[i].fd >= 0 && !m->unattached && (have != m->attributes || m->created_at[0] == 0))
			r = mount_change(s->made[i].fd, m->attributes, ALL & ~m->attributes, 0, false);
		if (r < 0)
			return site_failed(e, r, "set the flags of", m);
	}
	return 0;
}

/* 1: whoever it is to be a peer of is not ready. */
static int set_propagation(struct site *s, const St__Mount *m)
{
	int fd = s->made[m->id - 1 - s->first].fd, from = -EBADF, r = 0;

	if (m->peer && !s->made[m->peer - 1 - s->first].grouped)
		return 1;
	if (m->inherit)
		from = s->made[m->inherit - 1 - s->first].donor;
	else if (m->peer)
		from = s->made[m->peer - 1 - s->first].fd;
	if (from >= 0) {
		r = mount_set_group(from, fd);
		/* a peer that is private here: create's mounts propagate nothing on this host */
		if (r == -EINVAL && m->peer)
			r = 0;
	}
	if (r == 0 && m->propagation & MOUNT_SLAVE)
		r = mount_change(fd, 0, 0, MS_SLAVE, false);
	if (r == 0 && m->propagation & MOUNT_SHARED)
		r = mount_change(fd, 0, 0, MS_SHARED, false);
	if (r == 0 && m->propagation & MOUNT_UNBINDABLE)
		r = mount_change(fd, 0, 0, MS_UNBINDABLE, false);
	return r;
}

static int set_all_propagation(struct site *s, struct error *e)
{
	for (bool progress = true; progress;) {
		progress = false;
		for (size_t i = 0; i < s->n; i++) {
			const St__Mount *m = s->mounts[i];
			int r;

			if (s->made[i].grouped || m->unattached || s->made[i].fd < 0)
				continue;
			r = set_propagation(s, m);
			if (r < 0)
				return site_failed(e, r, "set the propagation of", m);
			s->made[i].grouped = r == 0;
			progress |= r == 0;
		}
	}
	return 0;
}

int site_open_stage(struct site *s, struct error *e)
{
	int r = mount_change(s->old_root, 0, 0, MS_PRIVATE, true);

	if (r == 0)
		r = s->stage = mount_make("tmpfs", "tmpfs", "mode=755", NULL, 0);
	if (r >= 0)
		r = mount_attach(s->stage, s->old_root);
	return r < 0 ? error_errno(e, r, "prepare the container's mounts") : 0;
}

static int build(struct site *s, struct error *e)
{
	int r = site_survey(s, e);

	for (size_t i = 0; i < s->n && r == 0; i++)
		if (s->mounts[i]->created_at[0])
			r = site_copy_base(s, s->mounts[i], &s->made[i].fd, &s->made[i].donor, e);
	if (r < 0)
		return r;
	/* from here on nothing propagates: neither what is attached, nor that the old tree is detached */
	r = site_open_stage(s, e);
	if (r == 0)
		r = make_all(s, e);
	if (r == 0)
		r = make_again(s, e);
	if (r == 0)
		r = site_set_attributes(s, e);
	if (r == 0)
		r = enter_tree(s, e);
	return r < 0 ? r : set_all_propagation(s, e);
}

int site_begin(struct site *s, struct restore *r, uint64_t ns, struct error *e)
{
	*s = (struct site){
		.r = r, .old_root = -EBADF, .stage = -EBADF, .root = -1, .first = site_first_of(r, ns)};
	s->mounts = r->mounts + s->first;
	while (s->first + s->n < r->n_mounts && s->mounts[s->n]->mount_namespace == ns)
		s->n++;
	s->made = arena_array(&r->arena, s->n, sizeof(*s->made));
	if (!s->made)
		return error_errno(e, -ENOMEM, "mounts");
	for (size_t i = 0; i < s->n; i++) {
		s->made[i] = (struct made){-EBADF, -EBADF, -EBADF, 0, false, false};
		if (!s->mounts[i]->parent && !s->mounts[i]->unattached)
			s->root = i;
	}
	return 0;
}

void site_end(struct site *s)
{
	for (size_t i = 0; i < s->n; i++) {
		close_p(&s->made[i].fd);
		close_p(&s->made[i].target);
		close_p(&s->made[i].donor);
	}
	close_p(&s->stage);
	close_p(&s->old_root);
}

static int make_tree(struct restore *r, uint64_t ns, struct error *e)
{
	struct site s;
	int result = site_begin(&s, r, ns, e);

	if (result < 0)
		return result;
	result = build(&s, e);
	site_end(&s);
	return result < 0 ? error_prefix(e, "mounts of the container") : 0;
}

int restore_mounts(struct restore *r, struct error *e)
{
	int result = restore_has_mounts(r, 0) ? make_tree(r, 0, e) : 0;

	return result < 0 ? result : fault_point("restore-mounts", e);
}

int restore_nested_mounts(struct restore *r, uint64_t ns, int *ret_root, struct error *e)
{
	int result = make_tree(r, ns, e), root;

	if (result < 0)
		return result;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || restore_move_fd(r, &root) < 0)
		return error_errno(e, -errno, "open the root of a mount namespace");
	*ret_root = root;
	return 0;
}

/* ---- for the next checkpoint ---- */

/* The mount that a record has become. Mounts are told by their parent and their mount point. */
static const struct proc_mount *now_of(const struct restore *r, const struct proc_mount *now, size_t n,
	const St__Mount *m, const char **path)
{
	const struct proc_mount *parent;
	const char *above;
	ssize_t root;

	if (!m->parent) {
		root = mounts_root(now, n);
		*path = "/";
		return root < 0 ? NULL : &now[root];
	}
	parent = now_of(r, now, n, r->mounts[m->parent - 1], &above);
	for (size_t i = 0; parent && i < n; i++) {
		const char *below = mounts_below(now[i].target, parent->target);

		if (now[i].parent_id == parent->id && &now[i] != parent && below &&
			!strcmp(below, m->target)) {
			*path = now[i].target;
			return &now[i];
		}
	}
	return NULL;
}

/* Ids that no mount has. */
enum { NO_MOUNT = 2000000000 };

static int new_id(const struct proc_mount *then, const int *ids, size_t n, int id)
{
	for (size_t i = 0; i < n; i++)
		if (then[i].id == id)
			return ids[i];
	return NO_MOUNT - 1;
}

/* create's text, with the ids that its mounts have now. */
static char *with_ids(const char *text, const struct proc_mount *then, const int *ids, size_t n)
{
	size_t size = strlen(text) + n * 24 + 1, len = 0;
	char *out = malloc(size);

	for (size_t i = 0; out && *text && i < n; i++) {
		const char *rest = text + strcspn(text, " ") + 1, *end = strchrnul(rest, '\n');

		rest += strcspn(rest, " ");
		len += snprintf(out + len, size - len, "%d %d%.*s\n", ids[i],
			new_id(then, ids, n, then[i].parent_id), (int)(end - rest), rest);
		text = end + (*end == '\n');
	}
	return out;
}

int restore_remember_mounts(struct restore *r, struct container *c, struct error *e)
{
	struct proc_mount *then, *now;
	size_t n_then, n_now;
	char *text;
	int *ids;

	if (!restore_has_mounts(r, 0))
		return 0;
	if (proc_parse_mountinfo(c->mountinfo, &r->arena, &then, &n_then) < 0 ||
		proc_read_mountinfo(c->init_pid, &r->arena, &now, &n_now) < 0)
		return error_set(e, -EIO, ERROR_SYSTEM, "read the restored container's mounts");
	ids = arena_array(&r->arena, n_then, sizeof(*ids));
	for (size_t i = 0; ids && i < n_then; i++)
		ids[i] = NO_MOUNT + i;
	for (size_t i = 0; ids && i < r->n_mounts; i++) {
		const St__Mount *m = r->mounts[i];
		ssize_t k = m->created_at[0] && !m->unattached && !m->mount_namespace
				    ? mounts_find(then, n_then, m->created_at, m->level)
				    : -1;
		const struct proc_mount *is;
		const char *path;

		is = k < 0 ? NULL : now_of(r, now, n_now, m, &path);
		if (is)
			ids[k] = is->id;
	}
	text = ids ? with_ids(c->mountinfo, then, ids, n_then) : NULL;
	return text ? container_keep_mounts(c, text, e) : error_errno(e, -ENOMEM, "mounts");
}
