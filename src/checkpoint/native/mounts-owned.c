/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounts of a namespace that belongs to a user namespace of the container's processes. Those that came from outside are
 * locked in there, flags and all, and only the kernel locks them: when such a namespace is made of another one. So a helper
 * (the packer) builds what comes from outside in a copy of the container's mount namespace: each mount that is to be free by
 * itself, with what is to be locked to it, on a stage that becomes the root. Its child (the builder) enters the user namespace
 * and makes the mount namespace, in which all of this is locked; it takes copies of the free ones, which keep what is locked
 * to them, makes what was mounted in there, and puts the tree together.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/mounts-site.h"
#include "checkpoint/native/restore-home.h"
#include "checkpoint/native/restore-nested.h"
#include "linux/clone.h"
#include "linux/mountfd.h"

static struct made *made_of(struct site *s, uint32_t id)
{
	return &s->made[id - 1 - s->first];
}

/* A mount of the container's, or a part of one. */
static bool is_from_outside(const struct site *s, const St__Mount *m)
{
	for (size_t steps = 0; m->source && steps <= s->n; steps++)
		m = s->mounts[m->source - 1 - s->first];
	return m->created_at[0];
}

static int open_on_stage(const struct site *s, const struct made *m, int flags)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%u", m->place);
	fd = openat(s->stage, name, flags | O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* ---- the packer ---- */

static int pack_one(struct site *s, size_t i, struct error *e)
{
	const St__Mount *m = s->mounts[i];
	struct made *made = &s->made[i];
	int r = m->created_at[0] ? 0 : site_make_part(s, m, &made->fd, e);

	made->place = s->n_places;
	return r < 0 ? r : site_put_on_stage(s, m, made->fd, e);
}

/* Sources before their parts. */
static int pack_all(struct site *s, struct error *e)
{
	bool *done = arena_array(&s->r->arena, s->n, sizeof(*done));
	bool progress = true;
	int r = done ? 0 : error_errno(e, -ENOMEM, "mounts");

	while (progress && r == 0) {
		progress = false;
		for (size_t i = 0; i < s->n && r == 0; i++) {
			const St__Mount *m = s->mounts[i];

			if (done[i] || !is_from_outside(s, m) ||
				(m->source && !done[m->source - 1 - s->first]))
				continue;
			r = pack_one(s, i, e);
			done[i] = progress = true;
		}
	}
	return r;
}

static int lock_together(struct site *s, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < s->n && r == 0; i++) {
		const St__Mount *m = s->mounts[i];

		if (!m->locked)
			continue;
		r = s->made[i].target = site_open_place(made_of(s, m->parent)->fd, m->target);
		if (r < 0)
			return site_failed(e, r, "find the mount point of", m);
		r = 0;
	}
	return r < 0 ? r : site_attach_made(s, e);
}

/* The copy in the user namespace's becomes a slave of what is shared here. */
static int lend_propagation(struct site *s, struct error *e)
{
	for (size_t i = 0; i < s->n; i++) {
		const St__Mount *m = s->mounts[i];
		int donor = m->inherit ? made_of(s, m->inherit)->donor
				       : -EBADF, /* none: create's are private here */
			r = donor >= 0 ? mount_set_group(donor, s->made[i].fd) : 0;

		if (r < 0)
			return site_failed(e, r, "set the propagation of", m);
	}
	return 0;
}

static int pack(struct site *s, struct error *e)
{
	int r = unshare(CLONE_NEWNS) < 0 ? error_errno(e, -errno, "copy the container's mounts")
					 : site_survey(s, e);

	for (size_t i = 0; i < s->n && r == 0; i++)
		if (s->mounts[i]->created_at[0])
			r = site_copy_base(s, s->mounts[i], &s->made[i].fd, &s->made[i].donor, e);
	if (r == 0)
		r = site_open_stage(s, e);
	if (r == 0)
		r = pack_all(s, e);
	if (r == 0)
		r = lock_together(s, e);
	if (r == 0)
		r = lend_propagation(s, e);
	/* The container's own tree stays, out of the way: a new proc wants one to be seen. */
	if (r == 0 && (fchdir(s->stage) < 0 || mkdir("old", 0755) < 0 || mkdir("new", 0755) < 0 ||
			      syscall(SYS_pivot_root, ".", "old") < 0 || chdir("/") < 0))
		r = error_errno(e, -errno, "prepare the container's mounts");
	return r;
}

/* ---- the builder ---- */

static uint32_t one_of(St__IdExtent *const *map, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (map[i]->inside == 0)
			return 0;
	return n > 0 ? map[0]->inside : UINT32_MAX;
}

static const struct restore_nested *owner_of(const struct site *s)
{
	return restore_namespace(s->r, restore_namespace(s->r, s->mounts[0]->mount_namespace)->msg->owner);
}

/* By number of the user namespace. */
static int take_own_ids(const struct site *s, struct error *e)
{
	const struct restore_nested *user = owner_of(s);

	if (thread_setresgid(one_of(user->msg->gid_map, user->msg->n_gid_map)) < 0 ||
		thread_setresuid(one_of(user->msg->uid_map, user->msg->n_uid_map)) < 0)
		return error_errno(e, -errno, "take an id of a user namespace");
	return 0;
}

static int begin_owned(struct site *s, struct error *e)
{
	int r = 0;

	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(e, -errno, "make a mount namespace in a user namespace");
	if (take_own_ids(s, e) < 0)
		return e->code;
	close_p(&s->old_root);
	close_p(&s->stage);
	s->old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = s->old_root < 0 ? -errno : 0;
	if (r == 0 && mount("tmpfs", "/new", "tmpfs", 0, "mode=700") < 0)
		r = -errno;
	return r < 0 ? error_errno(e, r, "prepare the container's mounts") : 0;
}

/* A copy with all that is locked to it. */
static int take_packed(struct site *s, const St__Mount *m, struct made *made, struct error *e)
{
	_cleanup_close_ int at = -EBADF;
	int r;

	s->stage = s->old_root;
	at = open_on_stage(s, made, 0);
	r = at < 0 ? at : mount_clone(at, "", true);
	close_p(&made->fd);
	made->fd = r;
	return r < 0 ? site_failed(e, r, "copy", m) : 0;
}

static int build_one(struct site *s, size_t i, int stage, struct error *e)
{
	const St__Mount *m = s->mounts[i];
	struct made *made = &s->made[i];
	int r = is_from_outside(s, m) ? take_packed(s, m, made, e)
		: m->source	      ? site_make_part(s, m, &made->fd, e)
				      : site_make_new(s, m, &made->fd, e);

	s->stage = stage;
	return r < 0 ? r : site_put_on_stage(s, m, made->fd, e);
}

static bool is_ready(const struct site *s, const St__Mount *m, const bool *done)
{
	return is_from_outside(s, m) || !m->source || done[m->source - 1 - s->first];
}

/* In the order of the records, as far as nothing is made of a later one: programs see that order. */
static int build_all(struct site *s, struct error *e)
{
	_cleanup_close_ int stage = open("/new", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool *done = arena_array(&s->r->arena, s->n, sizeof(*done));
	bool progress = true;
	int r = done && stage >= 0 ? 0 : error_errno(e, -ENOMEM, "mounts");

	s->n_places = 0;
	while (progress && r == 0) {
		progress = false;
		for (size_t i = 0; i < s->n && r == 0; i++) {
			const St__Mount *m = s->mounts[i];

			if (done[i] || m->locked || m->unattached || restore_mount_is_late(s->r, m) ||
				!is_ready(s, m, done))
				continue;
			r = build_one(s, i, stage, e);
			done[i] = progress = true;
		}
	}
	s->stage = -EBADF;
	return r;
}

/* They are there, on those that they came with. */
static int find_locked(struct site *s, struct error *e)
{
	for (size_t i = 0; i < s->n; i++) {
		const St__Mount *m = s->mounts[i];
		int fd;

		s->made[i].attached = m->locked;
		close_p(&s->made[i].target);
		if (!m->locked)
			continue;
		fd = open_in_root(made_of(s, m->parent)->fd, m->target[0] ? m->target : "/", O_PATH, 0);
		if (fd < 0)
			return site_failed(e, fd, "find", m);
		close_p(&s->made[i].fd);
		s->made[i].fd = fd;
	}
	return 0;
}

/* Those of the user namespace, whose contents the packer brings: it may give them to whom they belong. */
static void wait_for_contents(struct site *s, int *fds)
{
	for (size_t i = 0; i < s->n; i++)
		fds[i] = s->made[i].fd;
	kill(getpid(), SIGSTOP);
}

static int finish_options(struct site *s, struct error *e)
{
	for (size_t i = 0; i < s->n; i++) {
		const St__Mount *m = s->mounts[i];
		int r = s->made[i].fd >= 0 && m->fstype[0] && site_is_read_only(m)
				? mount_reconfigure(s->made[i].fd, m->options)
				: 0;

		if (r < 0)
			return site_failed(e, r, "set the options of", m);
	}
	return 0;
}

static int put_together(struct site *s, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < s->n && r == 0; i++)
		for (size_t k = 0; k < s->n && r == 0; k++) {
			const St__Mount *m = s->mounts[k];

			if (s->made[k].fd < 0 || m->unattached || m->locked || m->parent != s->mounts[i]->id)
				continue;
			r = s->made[k].target = site_open_place(s->made[i].fd, m->target);
			r = r < 0 ? site_failed(e, r, "find the mount point of", m) : 0;
		}
	if (r == 0)
		r = site_attach_made(s, e);
	return r == 0 ? site_set_attributes(s, e) : r;
}

static int enter_owned(struct site *s, struct error *e)
{
	if (fchdir(s->made[s->root].fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return error_errno(e, -errno, "pivot_root to the namespace's own root");
	if (fchdir(s->old_root) < 0 || umount2(".", MNT_DETACH) < 0)
		return error_errno(e, -errno, "detach the container's mounts");
	return chdir("/") < 0 ? error_errno(e, -errno, "enter /") : 0;
}

static int keep(struct restore *r, struct error *e)
{
	int ns = openat(r->proc_fd, "self/ns/mnt", O_RDONLY | O_CLOEXEC),
	    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (ns < 0 || root < 0 || restore_move_fd(r, &ns) < 0 || restore_move_fd(r, &root) < 0)
		return error_errno(e, -errno, "open a mount namespace");
	r->control->helper_fd = ns;
	r->control->helper_root = root;
	return 0;
}

static int build(struct site *s, int *fds, struct error *e)
{
	int r = begin_owned(s, e);

	if (r == 0)
		r = build_all(s, e);
	if (r == 0)
		r = find_locked(s, e);
	if (r < 0)
		return r;
	wait_for_contents(s, fds);
	r = finish_options(s, e);
	if (r == 0)
		r = put_together(s, e);
	if (r == 0)
		r = enter_owned(s, e);
	return r < 0 ? r : keep(s->r, e);
}

/* ---- both ---- */

/* Nobody whose ids are not mapped may make a file in there. */
static int take_mapped_ids(const struct site *s, struct error *e)
{
	const struct restore_nested *user = owner_of(s);

	syscall(SYS_setfsgid, restore_mapped_id(s->r, user, true));
	syscall(SYS_setfsuid, restore_mapped_id(s->r, user, false));
	return restore_raise_capabilities() < 0 ? error_errno(e, -errno, "take an id of a user namespace")
						: 0;
}

static int fill(struct site *s, const int *fds, struct error *e)
{
	int r = take_mapped_ids(s, e);

	for (size_t i = 0; i < s->n && r == 0; i++)
		for (size_t k = 0; k < s->r->n_tmpfs && r == 0; k++) {
			_cleanup_close_ int fd = -EBADF;

			if (s->r->tmpfs[k]->mount != s->mounts[i]->id)
				continue;
			fd = openat(fds[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			r = restore_tmpfs_at(s->r, s->r->tmpfs[k], fd < 0 ? -errno : fd, e);
		}
	return r;
}

static int await_builder(pid_t pid, int *ret_status)
{
	while (waitpid(pid, ret_status, WUNTRACED) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int have_built(
	struct site *s, restore_enter_t *enter, const St__Namespace *m, int *fds, struct error *e)
{
	int status = 0, r;
	struct restore *rs = s->r;
	struct error *its = &rs->control->error;
	pid_t pid;

	its->message[0] = 0;
	pid = restore_fork_sharing_files();
	if (pid == 0) {
		r = enter(rs, m);
		r = r < 0 ? error_errno(its, r, "enter the user namespace of a mount namespace")
			  : build(s, fds, its);
		_exit(r < 0 ? 1 : 0);
	}
	if (pid < 0 || await_builder(pid, &status) < 0)
		return error_errno(e, -errno, "fork a helper");
	r = WIFSTOPPED(status) ? fill(s, fds, e) : 0;
	if (r < 0)
		kill(pid, SIGKILL);
	if (WIFSTOPPED(status))
		kill(pid, SIGCONT);
	while (WIFSTOPPED(status) && await_builder(pid, &status) == 0)
		;
	if (r < 0)
		return r;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		if (its != e)
			*e = *its;
		return its->message[0] ? its->code : error_errno(e, -EIO, "make a mount namespace");
	}
	return 0;
}

int restore_owned_mounts(struct restore *r, const St__Namespace *m, restore_enter_t *enter, struct error *e)
{
	struct site s;
	int *fds, result = site_begin(&s, r, m->id, e);

	if (result < 0)
		return result;
	fds = mmap(NULL, s.n * sizeof(*fds), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fds == MAP_FAILED)
		return error_errno(e, -errno, "mounts");
	result = pack(&s, e);
	if (result == 0)
		result = have_built(&s, enter, m, fds, e);
	munmap(fds, s.n * sizeof(*fds));
	return result < 0 ? error_prefix(e, "mounts of a nested namespace") : 0;
}
