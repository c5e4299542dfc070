/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fanotify(7): groups that only report (FAN_CLASS_NOTIF), with their marks of inodes, mounts and file systems, made by who
 * has CAP_SYS_ADMIN outside of user namespaces. A group that decides about accesses is refused: our own reading would have
 * to wait for an answer of the container. So are events that wait, and groups of the unprivileged, as the kernel does not
 * tell what they may not be told.
 */
#include "checkpoint/native/res/marks.h"

#include <linux/capability.h>
#include <string.h>
#include <sys/fanotify.h>

/* Newer than Debian 12's header, or only in the kernel's. */
#define MARK_IGNORE 0x400
#define MARK_EVICTABLE 0x200
enum { CLASSES = FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT };
enum { KNOWN_MARK_FLAGS = FAN_MARK_IGNORED_SURV_MODIFY | MARK_EVICTABLE | MARK_IGNORE };
enum { KIND_INODE, KIND_MOUNT, KIND_FILESYSTEM };

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "[fanotify]");
}

static const char *wrong(const struct dump *d, const struct dump_file *f)
{
	if (f->info.fanotify_flags & CLASSES)
		return "it decides about accesses, also about those of a checkpoint";
	if (d->c->spec->namespaces[NS_USER].present || !(f->proc->status.cap_eff & 1ull << CAP_SYS_ADMIN))
		return "groups of those without CAP_SYS_ADMIN are not recorded";
	return NULL;
}

/* Where the mount, or a mount of the file system, is. */
static const char *mount_of(const struct dump *d, const struct proc_mark *m)
{
	for (size_t i = 0; i < d->n_mounts; i++) {
		const struct proc_mount *o = &d->mounts[i];

		if (m->mnt_id ? o->id == (int)m->mnt_id
			      : o->dev_major == m->sdev >> 20 && o->dev_minor == (m->sdev & 0xfffff))
			return o->target;
	}
	return NULL;
}

static int mark_message(
	struct dump *d, struct dump_file *f, const struct proc_mark *m, St__FanotifyMark *to, struct error *e)
{
	struct mark_target target = {.path = ""};
	bool found;

	to->kind = m->mnt_id ? KIND_MOUNT : m->ino ? KIND_INODE : KIND_FILESYSTEM;
	if (to->kind == KIND_INODE) {
		found = mark_find(d, m, &target);
	} else {
		target.path = mount_of(d, m);
		target.mode = S_IFDIR;
		found = target.path != NULL;
	}
	if (!found || (m->flags & ~(uint32_t)KNOWN_MARK_FLAGS))
		dump_refuse(d, f->proc, f->fd, "fanotify",
			found ? "a mark with flags that this version does not know"
			      : "no path to what it marks was found",
			"remove the mark first", "mark on inode %llu", (unsigned long long)m->ino);
	to->path = (char *)(target.path ? target.path : "");
	to->file = target.file;
	to->mode = target.mode;
	to->mask = m->mask;
	to->ignored_mask = m->ignored_mask;
	to->flags = m->flags;
	return 0;
}

/* The message is made here: to look for paths may take long, and must not be done twice. */
static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Fanotify *m = pb_new(&d->arena, Fanotify, fanotify);
	const char *reason = wrong(d, f);
	int r;

	if (reason) {
		dump_refuse(d, f->proc, f->fd, "fanotify", reason, "close the fanotify descriptor first",
			"fanotify group");
		return 0;
	}
	r = mark_check_queue(d, f, e);
	if (r < 0)
		return r;
	if (!m || !(m->marks = arena_array(&d->arena, f->info.n_marks, sizeof(*m->marks))))
		return error_errno(e, -ENOMEM, "fanotify");
	for (size_t i = 0; i < f->info.n_marks && r == 0; i++) {
		St__FanotifyMark *to = pb_new(&d->arena, FanotifyMark, fanotify_mark);

		if (!to)
			return error_errno(e, -ENOMEM, "fanotify");
		m->marks[m->n_marks++] = to;
		r = mark_message(d, f, &f->info.marks[i], to, e);
	}
	m->flags = f->info.fanotify_flags;
	m->event_flags = f->info.fanotify_event_flags;
	f->msg->fanotify = m;
	f->msg->kind_case = ST__FILE__KIND_FANOTIFY;
	return r;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	return 0;
}

/* Its maker must have been allowed to by config.json: restore.c holds the capabilities against that. */
static int open_fanotify(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	if (r->own_user || !(r->bounding & 1ull << CAP_SYS_ADMIN) || (m->fanotify->flags & CLASSES))
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image has a fanotify descriptor, for which the container needs CAP_SYS_ADMIN");
	/* The group remembers its flags, FAN_CLOEXEC among them: so that is not ours to add. */
	*ret_fd = fanotify_init(m->fanotify->flags, m->fanotify->event_flags);
	if (*ret_fd < 0 || fcntl(*ret_fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_errno(e, -errno, "make a fanotify descriptor");
	return 0;
}

static int add_mark(int fd, const St__FanotifyMark *m, const char *path, struct error *e)
{
	static const unsigned kinds[] = {0, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM};
	unsigned flags = FAN_MARK_ADD | kinds[m->kind] | (m->flags & MARK_EVICTABLE) |
			 (S_ISLNK(m->mode) ? FAN_MARK_DONT_FOLLOW : 0),
		 ignore = m->flags & MARK_IGNORE ? MARK_IGNORE : FAN_MARK_IGNORED_MASK;

	if (m->mask && fanotify_mark(fd, flags, m->mask, AT_FDCWD, path) < 0)
		return error_errno(e, -errno, "mark %s for fanotify", path);
	if (m->ignored_mask && fanotify_mark(fd, flags | ignore | (m->flags & FAN_MARK_IGNORED_SURV_MODIFY),
				       m->ignored_mask, AT_FDCWD, path) < 0)
		return error_errno(e, -errno, "mark %s for fanotify, to be ignored", path);
	return 0;
}

static int connect_fanotify(struct restore *r, const St__File *m, int fd, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < m->fanotify->n_marks && result == 0; i++) {
		const St__FanotifyMark *k = m->fanotify->marks[i];
		char buf[64];
		const char *path =
			k->kind == KIND_INODE ? mark_enter(r, k->file, k->path, k->mode, buf, e) : k->path;

		result = path ? add_mark(fd, k, path, e) : e->code;
	}
	return result == 0 ? mark_leave(r, e) : result;
}

extern const struct resource resource_fanotify;
const struct resource resource_fanotify = {
	.kind = "fanotify",
	.description = "fanotify groups that only report, of who has CAP_SYS_ADMIN, with their marks; with "
		       "events that "
		       "the program does not read within a second (--patience): refused",
	.kind_case = ST__FILE__KIND_FANOTIFY,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_fanotify,
	.connect = connect_fanotify,
};
