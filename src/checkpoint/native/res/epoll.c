/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll(7). A registration is a pair of an open file description and the number it had; fdinfo lists number, events,
 * data and inode. It is restored in init by giving the description that number for a moment. An edge-triggered target
 * that is ready reports once more after restore, as epoll allows.
 *
 * A one-shot that has fired has no events left. To add it so would arm it for errors and hang-ups, so it is made to fire
 * again where that can be done: what can be written to, or a pipe. Others would report a hang-up, which most of them never
 * have.
 */
#include "checkpoint/native/res/res.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "[eventpoll]");
}

/* kcmp(2): is descriptor "fd" of p the file that the epoll set watches under the number t->tfd? */
static bool is_target(
	const struct dump_file *set, const struct proc_epoll_target *t, const struct dump_file *f)
{
	struct {
		uint32_t efd, tfd, toff;
	} slot = {set->fd, t->tfd, t->toff};

	return f->fd >= 0 && f->st.st_ino == t->ino &&
	       syscall(SYS_kcmp, f->proc->shown, set->proc->shown, 7 /* KCMP_EPOLL_TFD */, f->fd, &slot) == 0;
}

/* Nearly always what the holder has under that number; else the number was closed or given to another file. */
static struct dump_file *find_target(struct dump *d, struct dump_file *set, const struct proc_epoll_target *t)
{
	const St__Process *m = set->proc->msg;

	for (size_t k = 0; m && k < m->n_descriptors; k++) {
		struct dump_file *f = m->descriptors[k]->fd == (uint32_t)t->tfd
					      ? dump_file_by_id(d, m->descriptors[k]->file)
					      : NULL;

		if (f && is_target(set, t, f))
			return f;
	}
	for (size_t i = 0; i < d->n_files; i++)
		if (is_target(set, t, &d->files[i]))
			return &d->files[i];
	return NULL;
}

struct numbered {
	int tfd;
	uint32_t index;
};

static int compare(const void *a, const void *b)
{
	const struct numbered *x = a, *y = b;

	return x->tfd != y->tfd ? (x->tfd < y->tfd ? -1 : 1) : x->index < y->index ? -1 : x->index > y->index;
}

/* A number that was closed and given to another file, both of which are watched. */
static int count_equal_numbers(struct dump *d, struct dump_file *f)
{
	size_t n = f->info.n_epoll;
	struct numbered *list = arena_array(&d->arena, n, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		list[i] = (struct numbered){f->info.epoll[i].tfd, i};
	qsort(list, n, sizeof(*list), compare);
	for (size_t i = 1; i < n; i++)
		if (list[i].tfd == list[i - 1].tfd)
			f->info.epoll[list[i].index].toff = f->info.epoll[list[i - 1].index].toff + 1;
	return 0;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	if (count_equal_numbers(d, f) < 0)
		return error_errno(e, -ENOMEM, "epoll");
	/* Its targets are added by the first process that has it. */
	if (dump_is_member(f->proc) && !f->proc->msg->files_with)
		dump_refuse(d, f->proc, f->fd, "epoll",
			"only a process that shares its memory with another one has it: not supported yet",
			"close it first", "%s", f->link);
	for (size_t i = 0; i < f->info.n_epoll; i++)
		if (!find_target(d, f, &f->info.epoll[i]))
			dump_refuse(d, f->proc, f->fd, "epoll",
				"a watched file is no longer open under the number it was added with",
				"remove it from the epoll set before closing", "epoll target %d",
				f->info.epoll[i].tfd);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Epoll *m = pb_new(&d->arena, Epoll, epoll);

	if (!m)
		return error_errno(e, -ENOMEM, "epoll");
	m->targets = arena_array(&d->arena, f->info.n_epoll, sizeof(*m->targets));
	if (!m->targets)
		return error_errno(e, -ENOMEM, "epoll");
	for (size_t i = 0; i < f->info.n_epoll; i++) {
		const struct proc_epoll_target *t = &f->info.epoll[i];
		struct dump_file *target = find_target(d, f, t);
		St__EpollTarget *to = m->targets[i] = pb_new(&d->arena, EpollTarget, epoll_target);

		if (!to)
			return error_errno(e, -ENOMEM, "epoll");
		if (!target)
			return error_set(e, -ENOENT, ERROR_REFUSED, "epoll target %d is not open", t->tfd);
		to->fd = t->tfd;
		to->events = t->events;
		to->data = t->data;
		to->file = target->id;
	}
	m->n_targets = f->info.n_epoll;
	f->msg->kind_case = ST__FILE__KIND_EPOLL;
	f->msg->epoll = m;
	return 0;
}

static int open_epoll(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	*ret_fd = epoll_create1(EPOLL_CLOEXEC);
	return *ret_fd < 0 ? error_errno(e, -errno, "make an epoll set") : 0;
}

static int control(
	struct restore *r, int epfd, int op, const St__EpollTarget *t, uint32_t events, struct error *e)
{
	struct epoll_event ev = {.events = events, .data.u64 = t->data};
	int from = restore_fd(r, t->file), moved = -1, flags, result = 0;

	if (from < 0)
		return error_set(
			e, -ENOENT, ERROR_CORRUPT, "epoll target %u refers to an unknown file", t->fd);
	/* The number may be in use by something else: out of the way for a moment. */
	flags = fcntl(t->fd, F_GETFD);
	if (from != (int)t->fd) {
		moved = fcntl(t->fd, F_DUPFD_CLOEXEC, r->fd_base);
		if (dup3(from, t->fd, O_CLOEXEC) < 0)
			return error_errno(e, -errno, "give descriptor %u to an epoll target", t->fd);
	}
	if (epoll_ctl(epfd, op, t->fd, &ev) < 0)
		result = error_errno(e, -errno, "add descriptor %u to an epoll set", t->fd);
	if (from != (int)t->fd) {
		if (moved >= 0 && dup3(moved, t->fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0 && result == 0)
			result = error_errno(e, -errno, "put descriptor %u back", t->fd);
		close(moved >= 0 ? moved : (int)t->fd);
	}
	return result;
}

static bool is_disarmed(const St__EpollTarget *t)
{
	return (t->events & EPOLLONESHOT) && !(t->events & ~(uint32_t)(EPOLLONESHOT | EPOLLET | EPOLLWAKEUP));
}

/* The end of a pipe that an empty pipe's other end can be filled by; -EBADF: it is none, or has no such end. */
static int writer_of(const struct restore *r, const St__File *m)
{
	for (size_t i = 0; m->kind_case == ST__FILE__KIND_PIPE && i < r->n_files; i++) {
		const St__File *o = r->files[i];

		if (o->kind_case == ST__FILE__KIND_PIPE && o->pipe->pipe == m->pipe->pipe &&
			(o->flags & O_ACCMODE) != O_RDONLY)
			return r->fd_base + (int)i;
	}
	return -EBADF;
}

/* Before any other target is there: what epoll_wait() gives is this one, and it is then disarmed. */
static int add_disarmed(struct restore *r, int epfd, const St__EpollTarget *t, struct error *e)
{
	int fd = restore_fd(r, t->file), writer, result;
	struct epoll_event ev;
	char c = 0;

	result =
		control(r, epfd, EPOLL_CTL_ADD, t, t->events | EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP, e);
	if (result < 0 || epoll_wait(epfd, &ev, 1, 0) == 1)
		return result;
	writer = writer_of(r, r->files[fd - r->fd_base]);
	if (writer >= 0 && write(writer, &c, 1) == 1) {
		int n = epoll_wait(epfd, &ev, 1, 0);

		if (read(fd, &c, 1) != 1)
			return error_errno(e, -EIO, "empty a pipe");
		if (n == 1)
			return 0;
	}
	return control(r, epfd, EPOLL_CTL_MOD, t, t->events, e);
}

static int add_targets(struct restore *r, const St__File *m, int epfd, bool signalfds, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < m->epoll->n_targets && result == 0; i++) {
		const St__EpollTarget *t = m->epoll->targets[i];
		int at = restore_fd(r, t->file) - r->fd_base;
		bool signalfd = at >= 0 && r->files[at]->kind_case == ST__FILE__KIND_SIGNALFD;

		if (signalfd == signalfds && (signalfd || !is_disarmed(t)))
			result = control(r, epfd, EPOLL_CTL_ADD, t, t->events, e);
	}
	return result;
}

static int connect_epoll(struct restore *r, const St__File *m, int fd, struct error *e)
{
	for (size_t i = 0; i < m->epoll->n_targets; i++) {
		const St__EpollTarget *t = m->epoll->targets[i];
		int at = restore_fd(r, t->file) - r->fd_base;

		if (at >= 0 && is_disarmed(t) && r->files[at]->kind_case != ST__FILE__KIND_SIGNALFD &&
			add_disarmed(r, fd, t, e) < 0)
			return e->code;
	}
	return add_targets(r, m, fd, false, e);
}

/* A signalfd wakes the set when a signal comes to the process that has added it. That is taken to be the one, of those
 * that have the set, that is their ancestor. */
static int place_epoll(struct restore *r, const St__File *m, const St__Process *p, int fd, struct error *e)
{
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; k < r->procs[i]->n_descriptors; k++)
			if (r->procs[i]->descriptors[k]->file == m->id)
				return r->procs[i] == p && r->procs[i]->descriptors[k]->fd == (uint32_t)fd
					       ? add_targets(r, m, fd, true, e)
					       : 0;
	return 0;
}

extern const struct resource resource_epoll;
const struct resource resource_epoll = {
	.kind = "epoll",
	.description = "epoll sets, also nested, level, edge, exclusive and one-shot; one that has fired "
		       "reports a hang-up "
		       "unless it can be written to or is a pipe",
	.kind_case = ST__FILE__KIND_EPOLL,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_epoll,
	.connect = connect_epoll,
	.place = place_epoll,
};
