/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces of the container's in which no process is: they live as long as a mount holds them (nsfs: "ip netns add x" binds
 * /proc/self/ns/net on /run/netns/x) or a descriptor. They are recorded like those of processes; the mount or the descriptor says
 * which it is, so that all that have the same have it again.
 *
 * From where such a namespace has come nobody can tell. That it is not the machine's or another container's we see by who else is in it,
 * or has it mounted. Whose clocks may still be set, or whose mounts or pids have no process by which they could be read or made, are
 * refused.
 */
#include <dirent.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/res/res.h"
#include "linux/mountfd.h"

static const struct {
	const char *name;
	uint32_t type;
	const char *refused; /* without a process in it */
} kinds[] = {
	{"net", CLONE_NEWNET, NULL},
	{"uts", CLONE_NEWUTS, NULL},
	{"ipc", CLONE_NEWIPC, NULL},
	{"user", CLONE_NEWUSER, NULL},
	{"cgroup", CLONE_NEWCGROUP, NULL},
	{"mnt", CLONE_NEWNS, "a mount namespace in which no process is"},
	{"pid", CLONE_NEWPID, "a pid namespace in which no process is"},
	{"time", CLONE_NEWTIME, "a time namespace in which no process is"},
};

bool dump_parse_namespace(const char *text, struct dump_ns_name *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].name);
		char *end;

		if (strncmp(text, kinds[i].name, n) != 0 || strncmp(text + n, ":[", 2) != 0)
			continue;
		*ret = (struct dump_ns_name){
			kinds[i].name, kinds[i].type, (ino_t)strtoul(text + n + 2, &end, 10)};
		return end[0] == ']' && !end[1];
	}
	return false;
}

static void name_text(const struct dump_ns_name *name, char text[32])
{
	snprintf(text, 32, "%s:[%lu]", name->kind, (unsigned long)name->inode);
}

const struct dump_nested *dump_nested_by_name(const struct dump *d, const struct dump_ns_name *name)
{
	for (size_t i = 0; i < d->n_nested; i++)
		if (d->nested[i].inode == name->inode && d->nested[i].msg->type == name->type)
			return &d->nested[i];
	return NULL;
}

bool dump_is_containers(const struct dump *d, const struct dump_ns_name *name)
{
	char text[32];

	name_text(name, text);
	for (size_t i = 0; i < DUMP_NAMESPACES; i++)
		if (!strcmp(d->namespaces[i], text))
			return true;
	return false;
}

/* ---- whose it is ---- */

static bool is_mounted_among(const struct proc_mount *mounts, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(mounts[i].fstype, "nsfs") && !strcmp(mounts[i].root, text))
			return true;
	return false;
}

static bool came_by_create(struct dump *d, const char *text)
{
	struct proc_mount *then;
	size_t n;

	return d->c->mountinfo && strstr(d->c->mountinfo, text) &&
	       proc_parse_mountinfo(d->c->mountinfo, &d->arena, &then, &n) == 0 &&
	       is_mounted_among(then, n, text);
}

static bool is_mounted_outside(struct dump *d, const char *text)
{
	struct proc_mount *host;
	size_t n;

	return proc_read_mountinfo(getpid(), &d->arena, &host, &n) == 0 && is_mounted_among(host, n, text);
}

/* Of the container's processes none is in it. */
static bool is_lived_in(const struct dump_ns_name *name, const char *text)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	bool found = false;

	while (proc && !found && (entry = readdir(proc))) {
		char path[300], its[64];
		ssize_t n;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/ns/%s", entry->d_name, name->kind);
		n = readlink(path, its, sizeof(its) - 1);
		its[MAX(n, 0)] = '\0';
		found = !strcmp(its, text);
	}
	if (proc)
		closedir(proc);
	return found;
}

const char *dump_why_not_held(struct dump *d, const struct dump_ns_name *name)
{
	char text[32];

	name_text(name, text);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].type == name->type && kinds[i].refused)
			return kinds[i].refused;
	if (came_by_create(d, text))
		return "it is not one of the container's own: config.json has mounted it";
	if (is_mounted_outside(d, text))
		return "it is not one of the container's own: it is mounted outside, too";
	if (is_lived_in(name, text))
		return "it is not one of the container's own: a process outside is in it";
	return NULL;
}

/* ---- held by mounts ---- */

/* A descriptor of the namespace itself; -ENOENT: something is mounted over it. */
static int open_mount(int root, const struct proc_mount *m, const struct dump_ns_name *name)
{
	_cleanup_close_ int at = open_in_root(root, m->target, O_PATH, 0);
	_cleanup_close_ int fd = -EBADF;
	char path[64];
	struct stat st;

	if (at < 0)
		return at;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", at);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return mount_id(at) == m->id && st.st_ino == name->inode ? take_fd(&fd) : -ENOENT;
}

/* What stands in the way is noted with the mount (mounts-dump.c): what has no record cannot be mounted again. */
static int hold_mounted(struct dump *d, int root, const struct proc_mount *m, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct dump_ns_name name;

	if (strcmp(m->fstype, "nsfs") != 0 || !dump_parse_namespace(m->root, &name) ||
		dump_is_containers(d, &name) || dump_nested_by_name(d, &name) || dump_why_not_held(d, &name))
		return 0;
	fd = open_mount(root, m, &name);
	return fd < 0 ? 0 : dump_add_held(d, &d->procs[0], name.type, fd, e);
}

int dump_mounted_namespaces(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_mounts && r == 0; i++)
		r = hold_mounted(d, d->root_fd, &d->mounts[i], e);
	/* Each that is found has none of mounts itself. */
	for (size_t i = 0; i < d->n_nested && r == 0; i++) {
		const struct proc_mount *mounts = d->nested[i].mounts;
		size_t n = d->nested[i].n_mounts;
		int root = d->nested[i].root_fd;

		for (size_t k = 0; k < n && r == 0; k++)
			r = hold_mounted(d, root, &mounts[k], e);
	}
	return r;
}

/* ---- held by descriptors ---- */

/* The namespace itself, whatever the descriptor is good for. */
static int open_file(const struct dump_file *f)
{
	_cleanup_close_ int own = f->local >= 0 ? fcntl(f->local, F_DUPFD_CLOEXEC, 3) : dump_duplicate(f);
	char path[64];
	int fd;

	if (own < 0)
		return own;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", own);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A descriptor that was opened by the path of a mount shows that path. */
static bool is_on_nsfs(const struct stat *st)
{
	struct stat own;

	return S_ISREG(st->st_mode) && major(st->st_dev) == 0 && (st->st_mode & 07777) == 0444 &&
	       st->st_size == 0 && stat("/proc/self/ns/net", &own) == 0 && own.st_dev == st->st_dev;
}

/* By which the file comes back, like others that have a path. */
static bool is_at_path(const struct dump *d, const struct dump_file *f)
{
	_cleanup_close_ int at =
		f->link[0] == '/' ? open_in_root(dump_root_of(d, f), f->link, O_PATH, 0) : -EBADF;
	struct stat st;

	return at >= 0 && fstat(at, &st) == 0 && st.st_dev == f->st.st_dev && st.st_ino == f->st.st_ino;
}

bool dump_is_namespace(const struct dump *d, const struct dump_file *f)
{
	struct dump_ns_name name;

	return dump_parse_namespace(f->link, &name) || (is_on_nsfs(&f->st) && !is_at_path(d, f));
}

bool dump_namespace_of_file(const struct dump_file *f, struct dump_ns_name *ret)
{
	_cleanup_close_ int fd = -EBADF;
	int type;

	if (dump_parse_namespace(f->link, ret))
		return true;
	fd = open_file(f);
	type = fd < 0 ? -1 : ioctl(fd, NS_GET_NSTYPE);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if ((int)kinds[i].type == type) {
			*ret = (struct dump_ns_name){kinds[i].name, kinds[i].type, f->st.st_ino};
			return true;
		}
	return false;
}

/* What stands in the way is noted with the file (res/namespace.c). */
static int hold_open(struct dump *d, const struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct dump_ns_name name;

	if (!dump_namespace_of_file(f, &name) || dump_is_containers(d, &name) ||
		dump_nested_by_name(d, &name) || dump_why_not_held(d, &name))
		return 0;
	fd = open_file(f);
	return fd < 0 ? 0 : dump_add_held(d, f->proc ? f->proc : &d->procs[0], name.type, fd, e);
}

int dump_open_namespaces(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_files && r == 0; i++)
		if (d->files[i].resource && d->files[i].resource->kind_case == ST__FILE__KIND_NS)
			r = hold_open(d, &d->files[i], e);
	return r;
}
