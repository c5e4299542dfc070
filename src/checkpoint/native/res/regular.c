/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is opened again by its path: regular files, directories, block devices and those others that know nothing of who has
 * them open, /proc and /sys files, and O_PATH descriptors of anything. A regular file that is no longer at its path because it was deleted is carried in the image
 * (a "ghost"), made anew and unlinked again; so is a deleted directory. One whose path leads elsewhere is refused.
 */
#include "checkpoint/native/res/res.h"

#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "checkpoint/native/exchange.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/res/dnotify.h"
#include "checkpoint/native/res/pressure.h"
#include "checkpoint/native/res/proc-file.h"

static const char deleted_suffix[] = " (deleted)";

static bool says_deleted(const struct dump_file *f)
{
	size_t n = strlen(f->link), s = strlen(deleted_suffix);

	return n > s && strcmp(f->link + n - s, deleted_suffix) == 0;
}

static bool match_regular(const struct dump *d, const struct dump_file *f)
{
	return S_ISREG(f->st.st_mode) && f->link[0] == '/';
}

static bool match_directory(const struct dump *d, const struct dump_file *f)
{
	return S_ISDIR(f->st.st_mode) && f->link[0] == '/';
}

static bool match_path(const struct dump *d, const struct dump_file *f)
{
	return (f->info.flags & O_PATH) && f->link[0] == '/';
}

/* Devices that keep nothing for who has them open. */
static bool match_device(const struct dump *d, const struct dump_file *f)
{
	static const struct {
		unsigned major, minor;
		bool write_only; /* readers have a position that cannot be seen */
	} table[] = {
		{1, 3, false},	  /* null */
		{1, 5, false},	  /* zero */
		{1, 7, false},	  /* full */
		{1, 8, false},	  /* random */
		{1, 9, false},	  /* urandom */
		{1, 11, true},	  /* kmsg */
		{10, 183, false}, /* hwrng */
		{10, 237, false}, /* loop-control */
	};

	if (!S_ISCHR(f->st.st_mode) || f->link[0] != '/')
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (f->st.st_rdev == makedev(table[i].major, table[i].minor))
			return !table[i].write_only || (f->info.flags & O_ACCMODE) == O_WRONLY;
	return false;
}

/* Contents and settings are the device's own; an open one has an offset. */
static bool match_block(const struct dump *d, const struct dump_file *f)
{
	return S_ISBLK(f->st.st_mode) && f->link[0] == '/';
}

/* O_EXCL at the open of a block device claims it, and does not show afterwards: but who tries the same is refused. */
static int check_claim(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int own = f->local >= 0 ? -EBADF : dump_duplicate(f), claimed = -EBADF;
	char path[64];

	if (f->fd < 0 || (f->local < 0 && own < 0))
		return 0; /* gone again */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->local >= 0 ? f->local : own);
	claimed = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (claimed < 0)
		dump_refuse(d, f->proc, f->fd, "block device",
			errno == EBUSY ? "somebody has claimed it (O_EXCL, or a mount), perhaps by this very "
					 "descriptor"
				       : "whether it is claimed (O_EXCL) cannot be seen",
			errno == EBUSY ? "close the device, or unmount it"
				       : "close the device, or make the checkpoint as root",
			"%s", f->link);
	return 0;
}

static bool is_mounted(const struct dump *d, const struct dump_file *f)
{
	uint64_t any;

	return dump_mount_namespace(d, f->info.mnt_id, &any);
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	bool gone = says_deleted(f) && f->st.st_nlink == 0;
	int pid = proc_file_pid(d, f);

	if (pid) {
		proc_file_check(d, f, pid);
		return 0;
	}
	if (dnotify_check(d, f, e) < 0)
		return e->code;
	if (pressure_may_be_armed(f)) {
		const char *remedy = NULL, *reason = NULL;
		int r = pressure_check(d, f, &reason, &remedy, e);

		if (r == 0 && reason)
			dump_refuse(d, f->proc, f->fd, "file", reason, remedy, "%s", f->link);
		return r;
	}
	if (S_ISBLK(f->st.st_mode) && !(f->info.flags & O_PATH) && check_claim(d, f, e) < 0)
		return e->code;
	if (gone && (S_ISREG(f->st.st_mode) || S_ISDIR(f->st.st_mode)))
		return 0;
	if (gone)
		dump_refuse(d, f->proc, f->fd, "file", "deleted special files are not supported yet",
			"close it first", "%s", f->link);
	else if (says_deleted(f) && !(f->other_name = dump_find_name(d, f->info.mnt_id, f->link, &f->st)))
		dump_refuse(d, f->proc, f->fd, "file",
			"it was deleted under this name, and its other names are not seen in the container",
			"close it, or delete its other names too", "%s", f->link);
	else if (!says_deleted(f) && !dump_path_is(d, f, f->link, &f->st) && f->fd >= 0 && !is_mounted(d, f))
		dump_refuse(d, f->proc, f->fd, "file",
			"it was opened in a mount that the container does not have: detached (umount -l), or "
			"somebody else's",
			"close it, or pass it as stdin, stdout or stderr", "%s", f->link);
	else if (!says_deleted(f) && !dump_path_is(d, f, f->link, &f->st))
		dump_refuse(d, f->proc, f->fd, "file",
			"it is no longer found at its path (renamed, replaced or mounted over)",
			"close it, or restart the program that holds it", "%s", f->link);
	return 0;
}

/* Contents of a deleted file, by a description of our own: the task's may be write-only. */
static int ghost(struct dump *d, struct dump_file *f, St__Regular *m, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	char path[96];
	int r;

	for (const struct dump_file *o = NULL; (o = dump_same_inode(d, f, o));) {
		if (o != f && o->msg->kind_case == ST__FILE__KIND_REGULAR && o->msg->regular->ghost) {
			f->msg->shared = o->msg->shared;
			m->ghost = o->msg->regular->ghost;
			m->space = o->msg->regular->space;
			m->xattrs = o->msg->regular->xattrs;
			m->n_xattrs = o->msg->regular->n_xattrs;
			return 0;
		}
	}
	m->space = dump_new_id(d);
	/* It becomes a part of a name, in a folder that other containers of the sandbox may have, too. */
	m->ghost = m->space | (uint64_t)(d->options->together ? d->options->together->self + 1 : 0) << 40;
	if (*m->other_name)
		return 0;
	if (f->st.st_nlink == 0 && peers_shared(d, f, &f->msg->shared, e) < 0)
		return e->code;
	if (f->msg->shared && !f->msg->shared->owner)
		return 0;
	if (f->fd >= 0)
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->proc->shown, f->fd);
	else
		snprintf(path, sizeof(path), "/proc/%d/%s", f->proc->shown, f->by_name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, -errno, "open the deleted file %s", f->link);
	r = dump_xattrs(&d->arena, fd, f->link, &m->xattrs, &m->n_xattrs, e);
	if (r < 0 || S_ISDIR(f->st.st_mode))
		return r; /* a deleted directory is empty */
	return dump_contents(d, m->space, fd, f->st.st_size, e);
}

/* 0 for what has none, as for a device without a medium. */
static uint64_t block_size(int fd)
{
	uint64_t size = 0;

	return ioctl(fd, BLKGETSIZE64, &size) < 0 ? 0 : size;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Regular *m = pb_new(&d->arena, Regular, regular);
	size_t n = strlen(f->link);

	if (!m)
		return error_errno(e, -ENOMEM, "file");
	m->process = proc_file_pid(d, f);
	m->process_gone = m->process && proc_file_is_gone(d, f);
	m->deleted = says_deleted(f) && !m->process;
	if (m->deleted && f->st.st_nlink > 0)
		m->other_name = (char *)f->other_name;
	m->path = says_deleted(f) ? arena_strndup(&d->arena, f->link, n - strlen(deleted_suffix))
				  : (char *)f->link;
	m->trigger = f->trigger;
	d->has_pressure_triggers |= m->trigger != NULL;
	m->mode = f->st.st_mode;
	m->size = S_ISBLK(f->st.st_mode) && f->local >= 0 ? block_size(f->local) : (uint64_t)f->st.st_size;
	m->mtime_ns = f->st.st_mtim.tv_sec * 1000000000ull + f->st.st_mtim.tv_nsec;
	m->rdev = f->st.st_rdev;
	m->uid = dump_uid(d, f->st.st_uid);
	m->gid = dump_gid(d, f->st.st_gid);
	m->atime = pb_timespec(&d->arena, f->st.st_atim.tv_sec, f->st.st_atim.tv_nsec);
	m->mtime = pb_timespec(&d->arena, f->st.st_mtim.tv_sec, f->st.st_mtim.tv_nsec);
	if (!m->path || !m->atime || !m->mtime)
		return error_errno(e, -ENOMEM, "file");
	f->msg->kind_case = ST__FILE__KIND_REGULAR;
	f->msg->regular = m;
	return m->deleted ? ghost(d, f, m, e) : 0; /* with a name left its contents are where they are */
}

static int open_flags(const St__File *m)
{
	return (m->flags & ~(unsigned)(O_CREAT | O_EXCL | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY) | O_ASYNC)) |
	       O_NOCTTY | O_CLOEXEC | (S_ISREG(m->regular->mode) ? O_NONBLOCK : 0);
}

/* O_TMPFILE, which a nameless file keeps among its flags, contains O_DIRECTORY. */
static int open_flags_of(const St__File *m)
{
	return S_ISREG(m->regular->mode) ? open_flags(m) & ~O_DIRECTORY : open_flags(m);
}

/* While the files are being opened the ghost has a name of its own beside its old one. */
static int ghost_name(const St__Regular *m, char *to, size_t size)
{
	return (size_t)snprintf(to, size, "%s.stasis-%llu", m->path, (unsigned long long)m->ghost) >= size
		       ? -ENAMETOOLONG
		       : 0;
}

static int ghost_attributes(const St__Regular *m, int fd, struct error *e)
{
	struct timespec times[2] = {{m->atime ? m->atime->sec : 0, m->atime ? m->atime->nsec : UTIME_OMIT},
		{m->mtime ? m->mtime->sec : 0, m->mtime ? m->mtime->nsec : UTIME_OMIT}};

	if (fchown(fd, m->uid, m->gid) < 0 || fchmod(fd, m->mode & 07777) < 0)
		return error_errno(e, -errno, "owner and mode of %s", m->path);
	if (restore_xattrs(m->xattrs, m->n_xattrs, fd, m->path, e) < 0)
		return e->code;
	return futimens(fd, times) < 0 ? error_errno(e, -errno, "times of %s", m->path) : 0;
}

static int make_ghost_file(struct restore *r, const St__Regular *m, const char *name, struct error *e)
{
	_cleanup_close_ int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int result;

	if (fd < 0)
		return errno == EEXIST ? 0
				       : error_errno(e, -errno, "make the deleted file %s again", m->path);
	result = restore_contents(r, m->space, fd, m->size, e);
	return result < 0 ? result : ghost_attributes(m, fd, e);
}

/* A deleted file may have been in a directory that is gone as well: it is there again until all files are open. */
static int make_parents(struct restore *r, const char *path, struct error *e)
{
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		char *dir = arena_strndup(&r->arena, path, slash - path);

		if (!dir)
			return error_errno(e, -ENOMEM, "make %s", path);
		if (mkdir(dir, 0700) < 0) {
			if (errno == EEXIST)
				continue;
			return error_errno(e, -errno, "make the directory %s for a deleted file", dir);
		}
		if (r->n_made_dirs == ARRAY_SIZE(r->made_dirs))
			return error_set(e, -E2BIG, ERROR_REFUSED, "too many deleted directories");
		r->made_dirs[r->n_made_dirs++] = dir;
	}
	return 0;
}

/* Another record of the same ghost may have made it already. */
static int make_ghost(struct restore *r, const St__Regular *m, const char *name, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int result = make_parents(r, name, e);

	if (result < 0)
		return result;
	if (*m->other_name)
		return link(m->other_name, name) < 0 && errno != EEXIST
			       ? error_errno(e, -errno, "link %s to %s", m->other_name, name)
			       : 0;
	if (!S_ISDIR(m->mode))
		return make_ghost_file(r, m, name, e);
	if (mkdir(name, 0700) < 0)
		return errno == EEXIST
			       ? 0
			       : error_errno(e, -errno, "make the deleted directory %s again", m->path);
	fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_errno(e, -errno, "open %s", name) : ghost_attributes(m, fd, e);
}

/* The new container's own, whose environment may be another one. */
static bool may_differ(const St__Regular *m)
{
	return !strcmp(m->path, CONTAINER_APPLICATION "/" CONTAINER_APPLICATION_ENVIRONMENT);
}

static int verify(const St__Regular *m, int fd, struct error *e)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st) < 0)
		return error_errno(e, -errno, "%s", m->path);
	size = S_ISBLK(st.st_mode) ? block_size(fd) : (uint64_t)st.st_size;
	if ((st.st_mode & S_IFMT) != (m->mode & S_IFMT) ||
		(!S_ISREG(m->mode) && !S_ISDIR(m->mode) && st.st_rdev != m->rdev))
		return error_set(e, -ESTALE, ERROR_REFUSED,
			"%s is of another type than at the checkpoint: restore the bundle's files as they "
			"were",
			m->path);
	if ((S_ISREG(m->mode) || S_ISBLK(m->mode)) && size != m->size && !may_differ(m))
		return error_set(e, -ESTALE, ERROR_REFUSED,
			"%s has %llu bytes, at the checkpoint it had %llu: restore the bundle's files %s"
			"as they were",
			m->path, (unsigned long long)size, (unsigned long long)m->size,
			S_ISBLK(m->mode) ? "and devices " : "");
	return 0;
}

/* Nameless from the start (O_TMPFILE, which shows in the flags). It gets the ghost's name for others to open it. */
static int open_nameless(struct restore *r, const St__File *m, const char *name, int *ret_fd, struct error *e)
{
	const char *slash = strrchr(m->regular->path, '/');
	char dir[4200];
	int result;

	snprintf(dir, sizeof(dir), "%.*s", (int)MAX(slash - m->regular->path, 1), m->regular->path);
	*ret_fd = open(dir, (m->flags & O_ACCMODE) | O_TMPFILE | O_CLOEXEC, m->regular->mode & 07777);
	if (*ret_fd < 0)
		return error_errno(e, -errno, "make a nameless file in %s", dir);
	result = restore_contents(r, m->regular->space, *ret_fd, m->regular->size, e);
	if (result < 0)
		return result;
	result = ghost_attributes(m->regular, *ret_fd, e);
	if (result < 0)
		return result;
	(void)!linkat(*ret_fd, "", AT_FDCWD, name,
		AT_EMPTY_PATH); /* not with O_EXCL: nobody else can have it open by name then */
	return 0;
}

/* A deleted file that another container has made again. */
static bool is_elsewhere(const St__File *m)
{
	return m->shared && !m->shared->owner;
}

static int open_elsewhere(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int result = restore_want(r, m->shared->key, "", &fd, e);
	char path[64];

	if (result < 0)
		return result;
	snprintf(path, sizeof(path), "self/fd/%d", fd);
	*ret_fd = openat(r->proc_fd, path, open_flags_of(m) & ~O_NOFOLLOW);
	return *ret_fd < 0 ? error_errno(e, -errno, "open %s of another container", m->regular->path) : 0;
}

static int open_regular(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	const St__Regular *f = m->regular;
	char name[4200];
	int result;

	if (is_elsewhere(m))
		return open_elsewhere(r, m, ret_fd, e);
	if (f->deleted) {
		if (ghost_name(f, name, sizeof(name)) < 0)
			return error_set(
				e, -ENAMETOOLONG, ERROR_CORRUPT, "path of a deleted file is too long");
		if ((m->flags & O_TMPFILE) == O_TMPFILE && access(name, F_OK) < 0)
			return open_nameless(r, m, name, ret_fd, e);
		result = make_ghost(r, f, name, e);
		if (result < 0)
			return result;
	}
	if (f->process_gone) {
		*ret_fd = proc_file_open_gone(f, open_flags_of(m), e);
		return MIN(*ret_fd, 0);
	}
	if (f->trigger) {
		*ret_fd = pressure_open(r, f, open_flags_of(m), e);
		return MIN(*ret_fd, 0);
	}
	*ret_fd = open(f->deleted ? name : f->path, open_flags_of(m));
	if (*ret_fd < 0 && errno == ENOENT && !f->deleted)
		return error_set(e, -ENOENT, ERROR_STATE,
			"%s was open or mapped at the checkpoint, and is not there: restore the bundle's "
			"files and mounts "
			"as they were",
			f->path);
	if (*ret_fd < 0)
		return error_errno(e, -errno, "open %s", f->path);
	return verify(f, *ret_fd, e);
}

/* O_PATH of a socket's file: by now the socket has been bound, which makes its file anew. */
static int open_again(const St__File *m, int fd, struct error *e)
{
	_cleanup_close_ int again = open(m->regular->path, open_flags_of(m));

	if (again < 0 || dup3(again, fd, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "open %s", m->regular->path);
	return verify(m->regular, fd, e);
}

static int connect_regular(struct restore *r, const St__File *m, int fd, struct error *e)
{
	const St__Regular *f = m->regular;
	int flag = S_ISDIR(f->mode) ? AT_REMOVEDIR : 0;
	char name[4200];

	if (S_ISSOCK(f->mode))
		return open_again(m, fd, e);
	/* Under the old name first, if that is free, so that /proc shows it as before. The first of several does it. */
	if (!f->deleted || ghost_name(f, name, sizeof(name)) < 0)
		return 0;
	if (renameat2(AT_FDCWD, name, AT_FDCWD, f->path, RENAME_NOREPLACE) == 0)
		return unlinkat(AT_FDCWD, f->path, flag) < 0 ? error_errno(e, -errno, "unlink %s", f->path)
							     : 0;
	if (errno != ENOENT && unlinkat(AT_FDCWD, name, flag) < 0 && errno != ENOENT)
		return error_errno(e, -errno, "unlink %s", name);
	return 0;
}

#define BY_PATH(ident, kind_name, what, match_function)                                                      \
	extern const struct resource resource_##ident;                                                       \
	const struct resource resource_##ident = {                                                           \
		.kind = kind_name,                                                                           \
		.description = what,                                                                         \
		.kind_case = ST__FILE__KIND_REGULAR,                                                         \
		.match = match_function,                                                                     \
		.check = check,                                                                              \
		.dump = dump,                                                                                \
		.open = open_regular,                                                                        \
		.connect = connect_regular,                                                                  \
	}

BY_PATH(regular, "file",
	"regular files, also deleted ones; files of /proc, also of processes that are gone, of /sys and the "
	"cgroup; triggers for pressure, which may fire once more after a restore. Refused: files of threads "
	"in /proc, "
	"triggers of which an event waits, or on a kernel without BTF",
	match_regular);
BY_PATH(directory, "directory", "directories held open, also deleted ones", match_directory);
BY_PATH(path, "O_PATH", "O_PATH descriptors", match_path);
BY_PATH(device, "/dev node", "null, zero, full, random, urandom, hwrng, loop-control; kmsg for writing only",
	match_device);
BY_PATH(block, "block device",
	"their offset; what is on them stays where it is. Claimed ones (O_EXCL): refused", match_block);
