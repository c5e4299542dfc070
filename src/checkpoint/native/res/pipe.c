/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pipes and named FIFOs. Descriptions of one pipe have the same inode; the first record carries capacity and contents.
 * Contents are copied with tee(2), which leaves them where they are. An end that is open outside of the container
 * (other than as stdio) is refused: poll(2) on an end whose partner we do not see tells.
 */
#include "checkpoint/native/res/res.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "checkpoint/native/exchange.h"
#include "checkpoint/native/peers.h"

enum { LARGEFILE_FLAG = 0100000 }; /* O_LARGEFILE, which is 0 for 64-bit programs' headers */

static bool match_pipe(const struct dump *d, const struct dump_file *f)
{
	return S_ISFIFO(f->st.st_mode) && strncmp(f->link, "pipe:[", 6) == 0;
}

static bool match_fifo(const struct dump *d, const struct dump_file *f)
{
	return S_ISFIFO(f->st.st_mode) && f->link[0] == '/' && !(f->info.flags & O_PATH);
}

static bool reads(unsigned flags)
{
	return (flags & O_ACCMODE) != O_WRONLY;
}

static bool writes(unsigned flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* Is there a reader (or writer) among the descriptions of this pipe that the container has, or others of its sandbox? */
static bool has_end(struct dump *d, const struct dump_file *f, bool (*end)(unsigned))
{
	for (const struct dump_file *o = NULL; (o = dump_same_inode(d, f, o));)
		if (o->fd >= 0 && end(o->info.flags))
			return true;
	for (const struct peer_file *o = NULL; (o = peers_next(d, f->st.st_dev, f->st.st_ino, o));)
		if (o->fd >= 0 && end(o->flags))
			return true;
	return false;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct pollfd pfd;
	bool outside;

	if (has_end(d, f, reads) && has_end(d, f, writes))
		return 0;
	fd = dump_duplicate(f);
	if (fd < 0)
		return 0; /* closed meanwhile */
	pfd = (struct pollfd){.fd = fd, .events = POLLIN | POLLOUT};
	if (poll(&pfd, 1, 0) < 0)
		return error_errno(e, -errno, "poll %s", f->link);
	outside = reads(f->info.flags) ? !(pfd.revents & POLLHUP) : !(pfd.revents & POLLERR);
	/* A FIFO that nobody has written to yet shows no hang-up either. */
	/* An exec session's caller is gone after a restore, which a pipe shows as a hang-up. */
	if (outside && match_pipe(d, f) && !f->proc->by_exec)
		dump_refuse_outside(d, f->proc, f->fd, "pipe",
			"its other end is open outside of the container",
			dump_outside_remedy(
				d, "pass it as stdin, stdout or stderr of the container, or close it"),
			"%s", f->link);
	return 0;
}

static int check_fifo(struct dump *d, struct dump_file *f, struct error *e)
{
	if (f->st.st_nlink > 0 && !dump_path_is(d, f, f->link, &f->st))
		dump_refuse(d, f->proc, f->fd, "fifo", "it is no longer found at its path",
			"keep the FIFO until the checkpoint is done", "%s", f->link);
	return check(d, f, e);
}

/* Reads what tee() copied; with packets each read gives one. */
static int read_copy(struct dump *d, int from, St__Pipe *m, size_t len)
{
	size_t at = 0, max_packets = 1024;

	m->data.data = arena_alloc(&d->arena, len);
	m->packet_sizes = m->packet ? arena_array(&d->arena, max_packets, sizeof(*m->packet_sizes)) : NULL;
	if (!m->data.data || (m->packet && !m->packet_sizes))
		return -ENOMEM;
	while (at < len) {
		ssize_t n = read(from, m->data.data + at, len - at);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		if (m->packet) {
			if (m->n_packet_sizes == max_packets)
				return -E2BIG;
			m->packet_sizes[m->n_packet_sizes++] = n;
		}
		at += n;
	}
	m->data.len = len;
	return 0;
}

/* A pipe of ours for the copies, one for all: it is empty again after each. */
static int copy_pipe(struct dump *d, int capacity)
{
	if (d->pipe_copy[0] < 0 && pipe2(d->pipe_copy, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	if (fcntl(d->pipe_copy[1], F_GETPIPE_SZ) < capacity &&
		fcntl(d->pipe_copy[1], F_SETPIPE_SZ, capacity) < 0)
		return -errno;
	return 0;
}

/* A reading end, or one of our own. */
static int reading_end(struct dump *d, const struct dump_file *f, int *opened)
{
	char path[64];

	for (const struct dump_file *o = NULL; (o = dump_same_inode(d, f, o));)
		if (o->local >= 0 && !(o->info.flags & O_PATH) && reads(o->info.flags))
			return o->local;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->local);
	*opened = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return *opened;
}

static int contents(struct dump *d, struct dump_file *f, St__Pipe *m, struct error *e)
{
	_cleanup_close_ int opened = -EBADF;
	int from = reading_end(d, f, &opened), pending = 0, r;
	ssize_t n;

	if (from < 0)
		return error_errno(e, -errno, "read the contents of %s", f->link);
	m->capacity = fcntl(f->local, F_GETPIPE_SZ);
	if (ioctl(from, FIONREAD, &pending) < 0)
		return error_errno(e, -errno, "size of %s", f->link);
	if (pending == 0)
		return 0;
	r = copy_pipe(d, m->capacity);
	if (r < 0)
		return error_errno(e, r, "copy the contents of %s", f->link);
	n = tee(from, d->pipe_copy[1], m->capacity, SPLICE_F_NONBLOCK);
	if (n != pending)
		return error_errno(e, n < 0 ? -errno : -EIO, "copy the %d bytes in %s", pending, f->link);
	r = read_copy(d, d->pipe_copy[0], m, n);
	return r < 0 ? error_errno(e, r, "copy the contents of %s", f->link) : 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Pipe *m = pb_new(&d->arena, Pipe, pipe);

	if (!m)
		return error_errno(e, -ENOMEM, "pipe");
	m->pipe = f->st.st_ino;
	if (match_fifo(d, f)) {
		m->deleted = f->st.st_nlink == 0;
		m->fifo_path = arena_strndup(
			&d->arena, f->link, strlen(f->link) - (m->deleted ? strlen(" (deleted)") : 0));
		m->mode = f->st.st_mode & 07777;
		m->uid = dump_uid(d, f->st.st_uid);
		m->gid = dump_gid(d, f->st.st_gid);
		if (!m->fifo_path)
			return error_errno(e, -ENOMEM, "fifo");
	}
	f->msg->kind_case = ST__FILE__KIND_PIPE;
	f->msg->pipe = m;
	if (peers_shared(d, f, &f->msg->shared, e) < 0)
		return e->code;
	for (const struct dump_file *o = NULL; (o = dump_same_inode(d, f, o));) {
		if (o != f && o->msg->kind_case == ST__FILE__KIND_PIPE)
			return 0;
		if (o->info.flags & O_DIRECT)
			m->packet = true;
	}
	for (const struct peer_file *o = NULL; (o = peers_next(d, f->st.st_dev, f->st.st_ino, o));)
		m->packet |= (o->flags & O_DIRECT) != 0;
	return f->msg->shared && !f->msg->shared->owner ? 0 : contents(d, f, m, e);
}

/* The first record of the same pipe: its place in r->files. */
static size_t first_of(const struct restore *r, const St__Pipe *m)
{
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_PIPE && r->files[i]->pipe->pipe == m->pipe)
			return i;
	return r->n_files;
}

/* Writes the contents through a blocking-free description with the right packet mode. */
static int refill(const St__Pipe *m, int fd, struct error *e)
{
	size_t at = 0;

	if (m->n_packet_sizes == 0 && m->data.len > 0) {
		int r = write_all(fd, m->data.data, m->data.len);

		return r < 0 ? error_errno(e, r, "refill a pipe with %zu bytes", m->data.len) : 0;
	}
	for (size_t i = 0; i < m->n_packet_sizes; i++) {
		size_t n = m->packet_sizes[i];

		if (n > m->data.len - at)
			return error_set(
				e, -EBADMSG, ERROR_CORRUPT, "packet sizes of a pipe exceed its contents");
		if (write(fd, m->data.data + at, n) != (ssize_t)n)
			return error_errno(e, -errno, "refill a pipe");
		at += n;
	}
	return 0;
}

/* The name under which a FIFO is opened: its own, or that of a deleted one until all of its ends are open. */
static const char *fifo_name(const St__Pipe *m, char buf[4200])
{
	if (!m->deleted)
		return m->fifo_path;
	snprintf(buf, 4200, "%s.stasis-%llu", m->fifo_path, (unsigned long long)m->pipe);
	return buf;
}

static int make_deleted_fifo(const St__Pipe *m, const char *name, struct error *e)
{
	if (mkfifo(name, 0600) < 0 || chown(name, m->uid, m->gid) < 0 || chmod(name, m->mode) < 0)
		return error_errno(e, -errno, "make the deleted FIFO %s again", m->fifo_path);
	return 0;
}

/* Another container has made it, and given it its contents. */
static int fetch(struct restore *r, const St__File *f, struct restore_pipe *p, struct error *e)
{
	int result = restore_want(r, f->shared->key, "w", &p->write_fd, e);

	if (result < 0)
		return result;
	p->pipe = f->pipe->pipe;
	p->read_fd = p->write_fd;
	if (*f->pipe->fifo_path)
		return 0;
	p->read_fd = -EBADF;
	return restore_want(r, f->shared->key, "r", &p->read_fd, e);
}

/* Makes the pipe and keeps a description for both directions in r->pipes. */
static int make(struct restore *r, const St__Pipe *m, struct restore_pipe *p, struct error *e)
{
	char buf[4200];
	int ends[2];

	if (m->fifo_path && *m->fifo_path) {
		const char *name = fifo_name(m, buf);
		int result = m->deleted ? make_deleted_fifo(m, name, e) : 0;

		if (result < 0)
			return result;
		p->write_fd = open(name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (p->write_fd < 0)
			return error_errno(e, -errno, "open the FIFO %s", m->fifo_path);
	} else {
		if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
			return error_errno(e, -errno, "make a pipe");
		p->read_fd = ends[0];
		p->write_fd = ends[1];
		if (restore_move_fd(r, &p->read_fd) < 0)
			return error_errno(e, -errno, "make a pipe");
	}
	if (restore_move_fd(r, &p->write_fd) < 0)
		return error_errno(e, -errno, "make a pipe");
	if (p->read_fd < 0)
		p->read_fd = p->write_fd;
	p->pipe = m->pipe;
	if (m->capacity && fcntl(p->write_fd, F_SETPIPE_SZ, m->capacity) < 0)
		return error_errno(e, -errno, "set the capacity of a pipe to %u", m->capacity);
	if (m->packet && fcntl(p->write_fd, F_SETFL, O_NONBLOCK | O_DIRECT) < 0)
		return error_errno(e, -errno, "packet mode of a pipe");
	return refill(m, p->write_fd, e);
}

static bool is_elsewhere(const St__File *m)
{
	return m->shared && !m->shared->owner;
}

static int have(struct restore *r, const St__File *m, struct restore_pipe **ret, struct error *e)
{
	size_t first = first_of(r, m->pipe);
	struct restore_pipe *p = *ret = &r->pipes[first];

	if (p->read_fd >= 0)
		return 0;
	return is_elsewhere(m) ? fetch(r, m, p, e) : make(r, r->files[first]->pipe, p, e);
}

/* Before any other file is opened: for the other containers. */
static int offer_pipe(struct restore *r, const St__File *m, struct error *e)
{
	struct restore_pipe *p = &r->pipes[first_of(r, m->pipe)];
	int result;

	if (p->read_fd >= 0)
		return 0;
	result = have(r, m, &p, e);
	if (result == 0)
		result = restore_offer(r, m->shared->key, "w", p->write_fd, e);
	if (result == 0 && p->read_fd != p->write_fd)
		result = restore_offer(r, m->shared->key, "r", p->read_fd, e);
	return result;
}

/* Is what is at that path the FIFO of the other container? */
static int compare(const St__File *m, int fd, int other, struct error *e)
{
	struct stat a, b;

	if (fstat(fd, &a) < 0 || fstat(other, &b) < 0)
		return error_errno(e, -errno, "the FIFO %s", m->pipe->fifo_path);
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	return error_set(e, -ESTALE, ERROR_CONFIG,
		"%s was one FIFO in this container and in \"%s\", and is not the same file now: mount the "
		"same "
		"volume into both",
		m->pipe->fifo_path, m->shared->with);
}

static int open_end(
	struct restore *r, const St__File *m, const struct restore_pipe *p, int *ret_fd, struct error *e)
{
	bool by_name = m->pipe->fifo_path && *m->pipe->fifo_path && !(m->pipe->deleted && is_elsewhere(m));
	char path[64], buf[4200];

	/* O_NONBLOCK: opening a FIFO for reading must not wait; the flags are set afterwards. */
	if (by_name) {
		*ret_fd = open(fifo_name(m->pipe, buf), (m->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
	} else {
		snprintf(path, sizeof(path), "self/fd/%d", reads(m->flags) ? p->read_fd : p->write_fd);
		*ret_fd = openat(r->proc_fd, path, (m->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
	}
	if (*ret_fd < 0)
		return error_errno(e, -errno, "open a pipe again");
	return by_name && is_elsewhere(m) ? compare(m, *ret_fd, p->write_fd, e) : 0;
}

static int open_pipe(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	struct restore_pipe *p;
	int result = have(r, m, &p, e);

	if (result < 0)
		return result;
	/* The description that pipe2() made is told from those opened again by its lack of O_LARGEFILE. */
	if (!(m->flags & LARGEFILE_FLAG) && (m->flags & O_ACCMODE) != O_RDWR &&
		!(m->pipe->fifo_path && *m->pipe->fifo_path)) {
		*ret_fd = fcntl(reads(m->flags) ? p->read_fd : p->write_fd, F_DUPFD_CLOEXEC,
			r->fd_base + (int)r->n_files);
		return *ret_fd < 0 ? error_errno(e, -errno, "duplicate a pipe") : 0;
	}
	return open_end(r, m, p, ret_fd, e);
}

static int connect_fifo(struct restore *r, const St__File *m, int fd, struct error *e)
{
	const St__Pipe *p = m->pipe;
	char buf[4200];

	if (is_elsewhere(m))
		return 0;
	if (!p->deleted ||
		renameat2(AT_FDCWD, fifo_name(p, buf), AT_FDCWD, p->fifo_path, RENAME_NOREPLACE) < 0)
		return !p->deleted || errno == ENOENT || unlink(buf) == 0
			       ? 0
			       : error_errno(e, -errno, "unlink %s", buf);
	return unlink(p->fifo_path) < 0 ? error_errno(e, -errno, "unlink %s", p->fifo_path) : 0;
}

extern const struct resource resource_pipe, resource_fifo;
const struct resource resource_pipe = {
	.kind = "pipe",
	.description = "pipes: contents, capacity, packet mode, ends shared or closed",
	.kind_case = ST__FILE__KIND_PIPE,
	.match = match_pipe,
	.check = check,
	.dump = dump,
	.offer = offer_pipe,
	.open = open_pipe,
	.connect = connect_fifo,
};
const struct resource resource_fifo = {
	.kind = "fifo",
	.description = "named FIFOs with their contents",
	.kind_case = ST__FILE__KIND_PIPE,
	.match = match_fifo,
	.check = check_fifo,
	.dump = dump,
	.offer = offer_pipe,
	.open = open_pipe,
	.connect = connect_fifo,
};
