/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files of a restore. All are made once, in the container's init, at the numbers fd_base + i; the other processes
 * inherit them by fork. Each then gives them the numbers that its own table had, and the rest is closed.
 */
#include "checkpoint/native/restore-home.h"
#include "checkpoint/native/restore.h"

#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "checkpoint/native/exchange.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/res/socket.h"
#include "checkpoint/native/ttys.h"
#include "checkpoint/native/restore-nested.h"

enum { SETTABLE_FLAGS = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME };

const St__File *restore_file(const struct restore *r, uint64_t id)
{
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->id == id)
			return r->files[i];
	return NULL;
}

const St__Process *restore_process(const struct restore *r, int pid)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->pid == pid)
			return r->procs[i];
	return NULL;
}

size_t restore_sharers_of(const struct restore *r, const St__Process *p)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_procs; i++)
		n += r->procs[i]->files_with == p->pid;
	return n;
}

int restore_fd(const struct restore *r, uint64_t id)
{
	/* Ids ascend in the image: bisect. */
	size_t lo = 0, hi = r->n_files;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->files[mid]->id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->n_files && r->files[lo]->id == id ? r->fd_base + (int)lo : -EBADF;
}

static int max_descriptor(const struct restore *r)
{
	uint32_t max = 2;

	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; k < r->procs[i]->n_descriptors; k++)
			max = MAX(max, r->procs[i]->descriptors[k]->fd);
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t t = 0; t < r->procs[i]->n_threads; t++)
			for (size_t k = 0; k < r->procs[i]->threads[t]->n_descriptors; k++)
				max = MAX(max, r->procs[i]->threads[t]->descriptors[k]->fd);
	return MIN(max, 1u << 20);
}

int restore_move_fd(const struct restore *r, int *fd)
{
	int moved = fcntl(*fd, F_DUPFD_CLOEXEC, r->fd_base + (int)r->n_files);

	if (moved < 0)
		return -errno;
	close(*fd);
	*fd = moved;
	return 0;
}

/* Our own descriptors go above all others; everything else besides stdio is closed. */
static int move_own(void *arg, int *fd, struct error *e)
{
	const struct restore *r = arg;
	int moved = fcntl(*fd, F_DUPFD_CLOEXEC, r->fd_base + (int)r->n_files);

	if (moved < 0)
		return error_errno(e, -errno, "move a descriptor above %d", r->fd_base + (int)r->n_files);
	*fd = moved;
	return 0;
}

int restore_open_root(struct restore *r, struct error *e)
{
	r->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return r->root_fd < 0 || restore_move_fd(r, &r->root_fd) < 0 ? error_errno(e, -errno, "open /") : 0;
}

int restore_make_room(struct restore *r, struct error *e)
{
	struct rlimit limit;
	int result;

	r->fd_base = MAX(max_descriptor(r) + 1, 64);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			return error_errno(e, -errno, "raise the limit of open files");
	}
	result = move_own(r, &r->proc_fd, e);
	if (result == 0)
		result = move_own(r, &r->zero_fd, e);
	if (result == 0)
		result = image_move_fds(r->image, move_own, r, e);
	if (result == 0 && r->cgroup_roots[1] >= 0)
		result = move_own(r, &r->cgroup_roots[1], e);
	if (result == 0 && r->exchange_fd >= 0)
		result = move_own(r, &r->exchange_fd, e);
	if (result == 0 && r->lazy.device >= 0)
		result = move_own(r, &r->lazy.device, e);
	if (result == 0 && r->lazy.offer >= 0)
		result = move_own(r, &r->lazy.offer, e);
	for (size_t i = 0; i < r->n_shm && result == 0; i++)
		if (r->shm[i].fd >= 0)
			result = move_own(r, &r->shm[i].fd, e);
	restore_find_late_files(r);
	if (result == 0)
		result = restore_find_gone(r, e);
	if (result == 0 && r->has_late_files) {
		r->init_pidfd = pidfd_open(getpid(), 0);
		result = r->init_pidfd < 0 ? error_errno(e, -errno, "pidfd of init")
					   : move_own(r, &r->init_pidfd, e);
	}
	if (result == 0 && r->console_master >= 0)
		result = move_own(r, &r->console_master, e);
	if (result < 0)
		return result;
	close_range(3, r->fd_base + r->n_files - 1, 0);
	return 0;
}

static bool is_seekable(const St__File *f)
{
	return (f->kind_case == ST__FILE__KIND_REGULAR && !(f->flags & O_PATH) &&
		       !S_ISCHR(f->regular->mode)) ||
	       f->kind_case == ST__FILE__KIND_MEMFD;
}

/* Another container has made the very description. */
static int take_description(struct restore *r, const St__File *m, int to, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int result = restore_want(r, m->description->key, "", &fd, e);

	if (result < 0)
		return result;
	return dup3(fd, to, O_CLOEXEC) < 0 ? error_errno(e, -errno, "descriptor %d", to) : 0;
}

int restore_open_file(struct restore *r, size_t i, struct error *e)
{
	const St__File *m = r->files[i];
	const struct resource *res = resource_find(m->kind_case);
	struct error ignored;
	int fd = -EBADF, result;

	if (!res)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "file %llu is of an unknown kind",
			(unsigned long long)m->id);
	if (m->description && !m->description->owner)
		return take_description(r, m, r->fd_base + (int)i, e);
	result = m->mount_namespace ? restore_enter_root(r, m->mount_namespace, e) : 0;
	if (result == 0)
		result = restore_enter_network(r, m->net_namespace, e);
	if (result == 0)
		result = res->open(r, m, &fd, e);
	if (m->mount_namespace && restore_enter_root(r, 0, result < 0 ? &ignored : e) < 0 && result == 0)
		result = e->code;
	if (result < 0)
		return m->kind_case == ST__FILE__KIND_REGULAR ? result : error_prefix(e, "%s", res->kind);
	if (m->kind_case != ST__FILE__KIND_STDIO && !(m->flags & O_PATH) &&
		fcntl(fd, F_SETFL, m->flags & SETTABLE_FLAGS & ~O_ASYNC) < 0)
		return error_errno(e, -errno, "flags of a %s", res->kind);
	if (is_seekable(m) && m->pos != 0 && lseek(fd, m->pos, SEEK_SET) < 0)
		return error_errno(e, -errno, "offset of a %s", res->kind);
	if (dup3(fd, r->fd_base + i, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "descriptor %zu", r->fd_base + i);
	close(fd);
	return 0;
}

/* Sockets first: connecting makes some of them anew, and an epoll set watches what they have become. Behind the others
 * those that would take what passes while queues are filled. Watches last, so that what we do to files makes no events. */
enum { CONNECT_SOCKETS, CONNECT_RAW_SOCKETS, CONNECT_OTHERS, CONNECT_WATCHES, CONNECT_TURNS };

static int turn_of(const St__File *m)
{
	switch (m->kind_case) {
	case ST__FILE__KIND_SOCKET:
		return raw_is_raw(m->socket) ? CONNECT_RAW_SOCKETS : CONNECT_SOCKETS;
	case ST__FILE__KIND_INOTIFY:
	case ST__FILE__KIND_FANOTIFY:
		return CONNECT_WATCHES;
	default:
		return CONNECT_OTHERS;
	}
}

static int connect_files(struct restore *r, int turn, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_files && result == 0; i++) {
		const struct resource *res = resource_find(r->files[i]->kind_case);

		if (!res->connect || turn_of(r->files[i]) != turn || restore_is_late(r, r->files[i]))
			continue;
		result = restore_enter_network(r, r->files[i]->net_namespace, e);
		if (result == 0)
			result = res->connect(r, r->files[i], r->fd_base + i, e);
	}
	while (turn == CONNECT_OTHERS && r->n_made_dirs > 0)
		rmdir(r->made_dirs[--r->n_made_dirs]);
	return result;
}

static int offer_file(struct restore *r, size_t i, const St__Shared *as, struct error *e)
{
	int result = r->opened[i] ? 0 : restore_open_file(r, i, e);

	if (result < 0)
		return result;
	r->opened[i] = true;
	return restore_offer(r, as->key, "", r->fd_base + (int)i, e);
}

static bool is_first_of_key(const struct restore *r, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (r->files[k]->shared && !strcmp(r->files[k]->shared->key, r->files[i]->shared->key))
			return false;
	return true;
}

static int offer_shared(struct restore *r, size_t i, struct error *e)
{
	const St__File *m = r->files[i];
	const struct resource *res = resource_find(m->kind_case);
	struct error ignored;
	int result = 0;

	if (!res || !is_first_of_key(r, i))
		return 0;
	if (!res->offer)
		return offer_file(r, i, m->shared, e);
	if (m->mount_namespace)
		result = restore_enter_root(r, m->mount_namespace, e);
	if (result == 0)
		result = res->offer(r, m, e);
	if (m->mount_namespace && restore_enter_root(r, 0, result < 0 ? &ignored : e) < 0 && result == 0)
		result = e->code;
	return result;
}

/* What other containers wait for comes before all that we wait for ourselves: nobody waits in a circle. */
static int offer_files(struct restore *r, struct error *e)
{
	int result = 0;

	r->opened = arena_array(&r->arena, r->n_files, sizeof(*r->opened));
	if (!r->opened)
		return error_errno(e, -ENOMEM, "files");
	for (size_t i = 0; i < r->n_files && result == 0; i++)
		if (r->files[i]->shared && r->files[i]->shared->owner)
			result = offer_shared(r, i, e);
	/* These may be ends of what another container owns: that has been offered by now. */
	for (size_t i = 0; i < r->n_files && result == 0; i++)
		if (r->files[i]->description && r->files[i]->description->owner)
			result = offer_file(r, i, r->files[i]->description, e);
	return result;
}

int restore_open_files(struct restore *r, struct error *e)
{
	int result = offer_files(r, e);

	if (result == 0)
		result = restore_make_ttys(r, e);
	for (size_t i = 0; i < r->n_files && result == 0; i++)
		if (!r->opened[i] &&
			(!restore_is_late(r, r->files[i]) || r->files[i]->kind_case == ST__FILE__KIND_EPOLL))
			result = restore_open_file(r, i, e);
	if (result == 0)
		result = restore_finish_ttys(r, e);
	for (int turn = 0; turn < CONNECT_TURNS && result == 0; turn++)
		result = connect_files(r, turn, e);
	return result < 0 ? result : restore_enter_network(r, 0, e);
}

static int set_ids(uid_t uid, uid_t euid)
{
	return syscall(SYS_setresuid, uid, euid, 0) < 0 ? -errno : 0;
}

/* Whether a signal is allowed is decided by the ids of who has set the owner. A change of ids makes the kernel forget who
 * may look at us and who ends us. */
static int set_owner_as(struct restore *r, const St__Owner *m, int fd)
{
	struct f_owner_ex o = {.type = m->type, .pid = m->pid};
	bool other = m->uid || m->euid;
	int result = other ? set_ids(m->uid, m->euid) : 0;

	if (result == 0 && fcntl(fd, F_SETOWN_EX, &o) < 0)
		result = -errno;
	if (!other)
		return result;
	if (set_ids(0, 0) < 0 || (r->own_user && prctl(PR_SET_DUMPABLE, 1) < 0) ||
		prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return result;
}

/* Does a process come to have it by restore_place_files()? */
static bool is_placed(const struct restore *r, const St__File *m)
{
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; !r->procs[i]->memory_with && k < r->procs[i]->n_descriptors; k++)
			if (r->procs[i]->descriptors[k]->file == m->id)
				return true;
	return false;
}

/* By init, which sees all processes, and may take all ids. */
int restore_owners(struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const St__File *m = r->files[i];
		int fd = restore_fd(r, m->id), result;

		if (!m->owner)
			continue;
		result = m->owner->pid ? set_owner_as(r, m->owner, fd) : 0;
		if (result < 0)
			return error_errno(
				e, result, "give the signals of a file to process %d", m->owner->pid);
		if (m->owner->signal && fcntl(fd, F_SETSIG, m->owner->signal) < 0)
			return error_errno(e, -errno, "choose signal %d of a file", m->owner->signal);
		if ((m->flags & O_ASYNC) && !is_placed(r, m) &&
			fcntl(fd, F_SETFL, m->flags & SETTABLE_FLAGS) < 0)
			return error_errno(e, -errno, "O_ASYNC of a file");
	}
	return 0;
}

int restore_place_files(struct restore *r, const St__Process *p, struct error *e)
{
	uint32_t gap = 0;

	for (size_t i = 0; i < p->n_descriptors; i++) {
		const St__Descriptor *d = p->descriptors[i];
		int from = restore_fd(r, d->file), result = 0;
		const struct resource *res;
		const St__File *m;

		if (from < 0 || d->fd >= (uint32_t)r->fd_base)
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"descriptor %u of process %d refers to an unknown file", d->fd, p->pid);
		if (dup3(from, d->fd, d->cloexec ? O_CLOEXEC : 0) < 0)
			return error_errno(e, -errno, "give descriptor %u to process %d", d->fd, p->pid);
		m = r->files[from - r->fd_base];
		res = resource_find(m->kind_case);
		/* Signals tell the number that does it first. */
		if (m->owner && (m->flags & O_ASYNC) && fcntl(d->fd, F_SETFL, m->flags & SETTABLE_FLAGS) < 0)
			return error_errno(e, -errno, "O_ASYNC of descriptor %d", d->fd);
		if (res->place)
			result = res->place(r, m, p, d->fd, e);
		if (result < 0)
			return result;
	}
	/* What the process itself did not have, also of the caller's stdio. */
	for (size_t i = 0; i <= p->n_descriptors; i++) {
		uint32_t next = i < p->n_descriptors ? p->descriptors[i]->fd : (uint32_t)r->fd_base;

		if (next > gap)
			close_range(gap, next - 1, 0);
		gap = next + 1;
	}
	return 0;
}

int restore_contents(struct restore *r, uint64_t space, int fd, uint64_t size, struct error *e)
{
	const struct image_run *runs;
	size_t n;

	if (ftruncate(fd, size) < 0)
		return error_errno(e, -errno, "size %llu", (unsigned long long)size);
	if (huge_shift_of(fd))
		return huge_restore_contents(r, space, fd, huge_shift_of(fd), e);
	runs = image_runs(r->image, space, &n);
	for (size_t i = 0; i < n; i++) {
		uint64_t len = runs[i].n_pages * IMAGE_PAGE_SIZE, at = 0;
		off_t from = runs[i].offset, to = runs[i].address;
		int result, pages_fd = image_pages_fd(r->image, runs[i].layer);
		char buf[65536];

		if (runs[i].kind != IMAGE_PAGES_DATA || runs[i].address >= size)
			continue;
		len = MIN(len, size - runs[i].address);
		while (at < len) {
			ssize_t k =
				pages_fd < 0 ? -1 : copy_file_range(pages_fd, &from, fd, &to, len - at, 0);

			/* Not between these filesystems, or not stored as it is: by hand. */
			if (k <= 0) {
				k = MIN(len - at, sizeof(buf));
				result = image_read_data(r->image, runs[i].layer, from, buf, k, e);
				if (result < 0)
					return result;
				result = pwrite_all(fd, buf, k, to);
				if (result < 0)
					return error_errno(e, result, "copy %llu bytes from the image",
						(unsigned long long)len);
				from += k;
				to += k;
			}
			at += k;
		}
	}
	return 0;
}
