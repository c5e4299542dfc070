/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox that a container is in: named by its creator (--sandbox), or by the annotations of Kubernetes, as containerd, CRI-O
 * and podman set them. On disk it is one small file for each member, <root>/@sandboxes/<sandbox>/members/<id>, with the
 * member's name in the sandbox; the directory is made by the first one and is src/sandbox's from then on. A file without a
 * container is one of a create or delete that was killed, and means nothing.
 *
 * podman's pods: only the containers that come after the first one have annotations, and name that one. It becomes a member with
 * them, by its file alone: who reads its state looks for that (membership_adopted).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container-priv.h"

static const char *annotation(const struct spec *s, const char *const names[2])
{
	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < s->n_annotations; i++)
			if (!strcmp(s->annotations[i].name, names[k]))
				return s->annotations[i].value;
	return NULL;
}

int container_find_sandbox(const struct container_create_options *o, const struct spec *s, char **ret_sandbox,
	char **ret_name, struct error *e)
{
	/* containerd, then CRI-O (and podman, for the first two) */
	static const char *const type_names[] = {
		"io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"};
	static const char *const id_names[] = {
		"io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"};
	static const char *const name_names[] = {
		"io.kubernetes.cri.container-name", "io.kubernetes.container.name"};
	const char *type = annotation(s, type_names), *sandbox = o->sandbox, *name = o->name;
	bool is_root = type && !strcmp(type, "sandbox");

	if (!sandbox && type)
		sandbox = annotation(s, id_names);
	if (!sandbox && is_root)
		sandbox = o->id;
	/* Somebody has to serve it. */
	if (!sandbox && !o->name && spec_annotation(s, APPLICATION_IMAGE_PATH))
		sandbox = o->id;
	if (!sandbox && o->name)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--container-name is a name within a sandbox: say which with --sandbox");
	if (!sandbox)
		return 0;
	if (container_id_check(sandbox, e) < 0)
		return error_prefix(e, "sandbox");
	if (!name)
		name = annotation(s, name_names);
	if (!name || !*name)
		name = is_root ? CONTAINER_NAME_OF_ROOT : o->id;
	if (container_id_check(name, e) < 0)
		return error_prefix(e, "name of the container");
	*ret_sandbox = strdup(sandbox);
	*ret_name = strdup(name);
	return *ret_sandbox && *ret_name ? 0 : error_errno(e, -ENOMEM, "container %s", o->id);
}

int membership_decide(
	struct container *c, const struct spec *s, const struct container_create_options *o, struct error *e)
{
	return container_find_sandbox(o, s, &c->sandbox, &c->name, e);
}

static int open_directory(int at, const char *name, bool make)
{
	int fd;

	if (make && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int container_open_sandbox(const char *root, const char *sandbox, bool make)
{
	_cleanup_close_ int root_fd = -EBADF, all = -EBADF;
	int r = make ? state_make_root(root) : 0;

	if (r < 0)
		return r;
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return -errno;
	all = open_directory(root_fd, CONTAINER_SANDBOXES, make);
	return all < 0 ? all : open_directory(all, sandbox, make);
}

/* The container that the sandbox is called after is its root, also if it does not say so itself. */
static int adopt_root(const struct container *c, int members)
{
	_cleanup_(container_free_p) struct container *root = NULL;
	struct error ignored;

	if (!strcmp(c->sandbox, c->id) || faccessat(members, c->sandbox, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (container_load(c->root, c->sandbox, false, &root, &ignored) < 0 || root->sandbox)
		return 0;
	return write_file_replace_at(
		members, c->sandbox, CONTAINER_NAME_OF_ROOT, strlen(CONTAINER_NAME_OF_ROOT), 0600);
}

static int open_members(const struct container *c, const char *sandbox, bool make)
{
	_cleanup_close_ int dir = container_open_sandbox(c->root, sandbox, make);

	return dir < 0 ? dir : open_directory(dir, CONTAINER_MEMBERS, make);
}

/* A checkpoint of the sandbox has its lock: it is of all who are in it. */
static int wait_for_checkpoint(const struct container *c, int members)
{
	while (flock(members, LOCK_SH | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (c->interrupt_fd >= 0 && interrupt_wait(c->interrupt_fd, -1, 5) == -EINTR)
			return -EINTR;
	}
	return 0;
}

int membership_enter(struct container *c, bool annotated, struct error *e)
{
	_cleanup_close_ int members = -EBADF;
	int r;

	if (!c->sandbox)
		return 0;
	/* The last member of a sandbox of that name may take the directory away meanwhile. */
	for (int i = 0; i < 10; i++) {
		close_p(&members);
		members = open_members(c, c->sandbox, true);
		r = members < 0 ? members : wait_for_checkpoint(c, members);
		if (r == 0)
			r = write_file_replace_at(members, c->id, c->name, strlen(c->name), 0600);
		if (r != -ENOENT)
			break;
	}
	if (r == 0 && annotated)
		r = adopt_root(c, members);
	return r < 0 ? error_errno(e, r, "join the sandbox %s", c->sandbox) : 0;
}

/* Which member is looked for: of that name, or one that lives in the pid namespace of "host", and is another one. */
struct wanted {
	const char *name;
	const struct container *host;
};

static bool is_guest(const struct container *c, const struct container *host)
{
	char path[64];
	struct stat its, own;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", c->init_pid);
	if (!strcmp(c->id, host->id) || stat(path, &its) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", host->init_pid);
	return stat(path, &own) == 0 && its.st_dev == own.st_dev && its.st_ino == own.st_ino;
}

/* 1: another one, or not any more. */
static int load_member(const char *root, int members, const char *id, const struct wanted *w,
	struct container **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	char text[300];
	ssize_t n = read_small_file_at(members, id, text, sizeof(text));

	if (n < 0 || (w->name && (strlen(w->name) != (size_t)n || memcmp(text, w->name, n) != 0)))
		return 1;
	if (container_load(root, id, false, &c, e) < 0 || container_status(c) == CONTAINER_STOPPED)
		return 1;
	if (w->host && !is_guest(c, w->host))
		return 1;
	*ret = take_ptr(c);
	return 0;
}

/* 1: there is none. */
static int find_member(const char *root, const char *sandbox, const struct wanted *w, struct container **ret,
	struct error *e)
{
	_cleanup_close_ int dir = container_open_sandbox(root, sandbox, false), members = -EBADF;
	struct dirent *ent;
	int r = 1;
	DIR *d;

	members = dir < 0 ? dir : open_directory(dir, CONTAINER_MEMBERS, false);
	d = members < 0 ? NULL : fdopendir(fcntl(members, F_DUPFD_CLOEXEC, 3));
	while (d && r == 1 && (ent = readdir(d)))
		if (ent->d_name[0] != '.')
			r = load_member(root, members, ent->d_name, w, ret, e);
	if (d)
		closedir(d);
	return r;
}

bool container_has_guest(const struct container *c, struct container **ret)
{
	struct error ignored;

	return c->sandbox &&
	       find_member(c->root, c->sandbox, &(struct wanted){.host = c}, ret, &ignored) == 0;
}

int container_find_member(
	const char *root, const char *sandbox, const char *name, struct container **ret, struct error *e)
{
	int r = find_member(root, sandbox, &(struct wanted){.name = name}, ret, e);

	return r == 1 ? error_set(e, -ENOENT, ERROR_STATE,
				"the sandbox %s has no container \"%s\" that lives", sandbox, name)
		      : r;
}

int membership_adopted(struct container *c)
{
	_cleanup_close_ int members = open_members(c, c->id, false);

	if (members < 0 || faccessat(members, c->id, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	c->sandbox = strdup(c->id);
	c->name = strdup(CONTAINER_NAME_OF_ROOT);
	return c->sandbox && c->name ? 0 : -ENOMEM;
}

/* ---- restores ---- */

static bool read_restores(int fd, struct sandbox_restores *ret)
{
	char text[80];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	*ret = (struct sandbox_restores){};
	if (n < 0)
		return false;
	text[n] = '\0';
	return n == 0 || sscanf(text, "restores %" SCNu64 " failed %" SCNu64, &ret->all, &ret->failed) == 2;
}

bool container_read_restores(int sandbox_fd, struct sandbox_restores *ret)
{
	_cleanup_close_ int fd =
		openat(sandbox_fd, CONTAINER_RESTORES, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 && read_restores(fd, ret);
}

/* It is not made here: the directory might be about to go. */
void container_count_restore(const char *root, const char *sandbox, bool failed)
{
	_cleanup_close_ int dir = container_open_sandbox(root, sandbox, false), fd = -EBADF;
	struct sandbox_restores n;
	char text[80];

	fd = dir < 0 ? dir : openat(dir, CONTAINER_RESTORES, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0 || !read_restores(fd, &n))
		return;
	n.all++;
	n.failed += failed;
	snprintf(text, sizeof(text), "restores %-20" PRIu64 "\nfailed %-20" PRIu64 "\n", n.all, n.failed);
	(void)!pwrite_all(fd, text, strlen(text), 0);
}

/* The lock of the supervisor that there is not, or -ENOENT: there was none. -EWOULDBLOCK: there is one. */
static int lock_instead_of_supervisor(int dir)
{
	_cleanup_close_ int fd = openat(dir, CONTAINER_SUPERVISOR_LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : take_fd(&fd);
}

void container_tidy_sandbox(const char *root, const char *sandbox)
{
	_cleanup_close_ int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int dir = container_open_sandbox(root, sandbox, false), all = -EBADF, lock = -EBADF;

	if (root_fd < 0 || dir < 0)
		return;
	lock = lock_instead_of_supervisor(dir);
	if (lock < 0 && lock != -ENOENT)
		return; /* it comes here when it ends */
	/* Each step fails where something is left, or has come again. */
	if (unlinkat(dir, CONTAINER_MEMBERS, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return;
	if (lock >= 0) { /* of one that was killed */
		unlinkat(dir, CONTAINER_CONTROL_SOCKET, 0);
		unlinkat(dir, "." CONTAINER_CONTROL_SOCKET, 0);
		remove_tree_at(dir, CONTAINER_EXITS);
		unlinkat(dir, CONTAINER_RESTORES, 0);
		unlinkat(dir, CONTAINER_SUPERVISOR_LOCK, 0);
	}
	all = open_directory(root_fd, CONTAINER_SANDBOXES, false);
	if (all >= 0 && unlinkat(all, sandbox, AT_REMOVEDIR) == 0)
		unlinkat(root_fd, CONTAINER_SANDBOXES, AT_REMOVEDIR);
}

void membership_leave(const struct container *c)
{
	_cleanup_close_ int members = c->sandbox ? open_members(c, c->sandbox, false) : -EBADF;

	if (members < 0)
		return;
	unlinkat(members, c->id, 0);
	container_tidy_sandbox(c->root, c->sandbox);
}
