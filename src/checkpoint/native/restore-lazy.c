/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/restore-lazy.h"

#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/fault.h"
#include "base/fd.h"
#include "checkpoint/native/lazy.h"
#include "checkpoint/native/restore-share.h"
#include "checkpoint/native/shared-pids.h"
#include "linux/procfs.h"

enum { PAGE = IMAGE_PAGE_SIZE, SOCKET_BUFFER = 16 << 20 };
/* Below it is read sooner than a handler is made (docs/adr/0046-lazy-restore.md). */
#define LAZY_MIN (UINT64_C(16) << 20)
/* Of one mapping. */
#define LAZY_VMA_MIN (UINT64_C(256) << 10)

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "plan the lazy restore");
}

/* ---- the plan ---- */

/* By the device, not the system call: in a user namespace that would give one which user mode alone can wait for. */
static int new_uffd(int device)
{
	int fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* Events before faults: what a fault is about must be known. */
static int enable(int uffd)
{
	struct uffdio_api api = {.api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
			    UFFD_FEATURE_EVENT_UNMAP};

	return ioctl(uffd, UFFDIO_API, &api) < 0 ? -errno : 0;
}

/* A program that runs before its image is complete is only for those who ask for it. */
static bool comes_as_stream(const struct restore *r)
{
	return r->feed && r->feed->feed;
}

/* Whether this kernel lets us, and the stubs, which have the container's power only. */
static int check_kernel(struct restore *r, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int result;

	if (r->unprivileged)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"--lazy needs root's privileges on this machine: leave it out");
	r->lazy.device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	fd = r->lazy.device < 0 ? -errno : new_uffd(r->lazy.device);
	result = fd < 0 ? fd : enable(fd);
	return result < 0 ? error_errno(e, result, "/dev/userfaultfd, which --lazy needs: leave it out") : 0;
}

/* The kernel would fill it itself, empty it for a child, or not let us. */
static bool may_be_lazy(const struct restore *r, size_t proc, size_t vma)
{
	static const uint32_t not_these = VMA_LO | VMA_LF | VMA_WF | VMA_SL | VMA_SS | VMA_DP | VMA_WC |
					  VMA_HT | VMA_IO | VMA_PF | VMA_MM | VMA_GU;
	const St__Vma *v = r->procs[proc]->memory->vmas[vma];

	return !v->special && !v->shm && !v->file && !v->n_guards && (v->flags & MAP_PRIVATE) &&
	       (v->flags & MAP_ANONYMOUS) && !(v->flags & MAP_HUGETLB) && !(v->advice & not_these) &&
	       !restore_share_in_unit(r, proc, vma);
}

/* Bytes of page data; 0 also if some of it cannot be had so. */
static uint64_t data_of(const struct restore *r, size_t proc, size_t vma)
{
	const St__Memory *m = r->procs[proc]->memory;
	uint64_t at = m->vmas[vma]->start, sum = 0;
	struct restore_piece piece;

	while (restore_next_piece(r->image, m->space, &at, m->vmas[vma]->end, &piece)) {
		if (piece.zero)
			continue;
		if (piece.space != m->space)
			return 0;
		sum += piece.end - piece.start;
	}
	return sum;
}

static bool shares_memory(const struct restore *r, size_t proc)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->memory_with == r->procs[proc]->pid)
			return true;
	return r->procs[proc]->memory_with != 0;
}

/* The guard of a thread's stack, which glibc has set as one since 2.42: above it, up to the next guard, lie the thread's stack and behind
 * that its thread-local storage. A process's first thread has its own elsewhere. */
static bool is_stack_guard(const St__Process *p, const St__Vma *v, size_t guard)
{
	uint64_t from = v->guards[guard + 1], to = v->end;

	for (size_t i = 0; i + 1 < v->n_guards; i += 2)
		if (i != guard && v->guards[i] >= from)
			to = MIN(to, v->guards[i]);
	for (size_t i = 1; i < p->n_threads; i++) {
		struct user_regs_struct regs;

		memcpy(&regs, p->threads[i]->gpr.data, sizeof(regs));
		if (from <= regs.rsp && regs.rsp < regs.fs_base && regs.fs_base < to)
			return true;
	}
	return false;
}

/* Who uses guard regions may do so again. No event tells of one, nor that a page that had been missing was one for a while. But those of
 * stacks are set when a thread is made, by a library that leaves other memory alone. */
static bool uses_guards(const St__Process *p)
{
	for (size_t i = 0; i < p->memory->n_vmas; i++) {
		const St__Vma *v = p->memory->vmas[i];

		if (v->advice & VMA_GU && !v->n_guards)
			return true;
		for (size_t k = 0; k + 1 < v->n_guards; k += 2)
			if (!is_stack_guard(p, v, k))
				return true;
	}
	return false;
}

static int choose(struct restore *r, uint64_t *ret_sum, struct error *e)
{
	uint64_t least = r->options->lazy == LAZY_YES ? 1 : LAZY_VMA_MIN;

	r->lazy.vmas = arena_array(&r->arena, r->n_procs, sizeof(*r->lazy.vmas));
	if (!r->lazy.vmas)
		return no_memory(e);
	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Memory *m = r->procs[i]->memory;
		bool any = false;

		if (r->procs[i]->state == 2 || shares_memory(r, i) || m->lock_future ||
			uses_guards(r->procs[i]))
			continue;
		r->lazy.vmas[i] = arena_array(&r->arena, m->n_vmas, sizeof(*r->lazy.vmas[i]));
		if (!r->lazy.vmas[i])
			return no_memory(e);
		for (size_t k = 0; k < m->n_vmas; k++) {
			uint64_t size = may_be_lazy(r, i, k) ? data_of(r, i, k) : 0;

			r->lazy.vmas[i][k] = size >= least;
			any |= size >= least;
			*ret_sum += size >= least ? size : 0;
		}
		r->lazy.n += any;
		if (!any)
			r->lazy.vmas[i] = NULL;
	}
	return 0;
}

bool restore_is_lazy(const struct restore *r, size_t proc, size_t vma)
{
	return r->lazy.n > 0 && r->lazy.vmas[proc] && r->lazy.vmas[proc][vma];
}

/* Restartable sequences: the kernel writes there whenever a thread of the stub comes back from a call. */
bool restore_lazy_island(const St__Process *p, const St__Vma *v, uint64_t *at, uint64_t *ret_end)
{
	uint64_t start = UINT64_MAX, end = 0;

	for (size_t i = 0; i < p->n_threads; i++) {
		uint64_t from = p->threads[i]->rseq_addr & ~(uint64_t)(PAGE - 1),
			 to = ALIGN_UP(p->threads[i]->rseq_addr + p->threads[i]->rseq_len, (uint64_t)PAGE);

		from = MAX(from, MAX(*at, v->start));
		to = MIN(to, v->end);
		if (p->threads[i]->rseq_addr && from < to && from < start) {
			start = from;
			end = to;
		}
	}
	*at = start;
	*ret_end = end;
	return end > 0;
}

static void mark_pieces(struct restore *r, uint64_t space, uint64_t at, uint64_t end)
{
	struct restore_piece piece;

	while (restore_next_piece(r->image, space, &at, end, &piece)) {
		size_t first, last;

		if (piece.zero)
			continue;
		image_stored_chunks(
			r->image, piece.layer, piece.offset, piece.end - piece.start, &first, &last);
		for (size_t k = first; k <= last; k++)
			r->lazy.checked_before[piece.layer][k / 8] |= 1u << k % 8;
	}
}

struct lazy_place {
	uint64_t space, start, end;
};

static int compare_places(const void *a, const void *b)
{
	const struct lazy_place *x = a, *y = b;

	if (x->space != y->space)
		return x->space < y->space ? -1 : 1;
	return x->start < y->start ? -1 : x->start > y->start;
}

static int list_places(struct restore *r, struct lazy_place **ret, size_t *ret_n)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_procs; i++)
		n += r->lazy.vmas[i] ? r->procs[i]->memory->n_vmas : 0;
	*ret = arena_array(&r->arena, n, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; r->lazy.vmas[i] && k < r->procs[i]->memory->n_vmas; k++)
			if (r->lazy.vmas[i][k])
				(*ret)[n++] = (struct lazy_place){r->procs[i]->memory->space,
					r->procs[i]->memory->vmas[k]->start,
					r->procs[i]->memory->vmas[k]->end};
	qsort(*ret, n, sizeof(**ret), compare_places);
	*ret_n = n;
	return 0;
}

static int make_bits(struct restore *r)
{
	unsigned n = image_n_layers(r->image);

	r->lazy.checked_before = arena_array(&r->arena, n, sizeof(*r->lazy.checked_before));
	for (unsigned i = 0; r->lazy.checked_before && i < n; i++) {
		r->lazy.checked_before[i] = arena_array(&r->arena, image_n_chunks(r->image, i) / 8 + 1, 1);
		if (!r->lazy.checked_before[i])
			return -ENOMEM;
	}
	return r->lazy.checked_before ? 0 : -ENOMEM;
}

/* Page data that is read before the program runs is checked before, too. The rest when it is wanted. */
static int mark_checked_before(struct restore *r, struct error *e)
{
	struct lazy_place *places;
	const struct image_run *runs;
	size_t n_places, n_runs, p = 0;

	if (make_bits(r) < 0 || list_places(r, &places, &n_places) < 0)
		return no_memory(e);
	runs = image_all_runs(r->image, &n_runs);
	for (size_t i = 0; i < n_runs; i++) {
		uint64_t at = runs[i].address, end = at + runs[i].n_pages * PAGE;

		while (p < n_places && (places[p].space < runs[i].space ||
					       (places[p].space == runs[i].space && places[p].end <= at)))
			p++;
		for (size_t k = p; k < n_places && places[k].space == runs[i].space && places[k].start < end;
			k++) {
			if (places[k].start > at)
				mark_pieces(r, runs[i].space, at, places[k].start);
			at = MIN(end, MAX(at, places[k].end));
		}
		mark_pieces(r, runs[i].space, at, end);
	}
	for (size_t i = 0; i < r->n_procs; i++) {
		for (size_t k = 0; r->lazy.vmas[i] && k < r->procs[i]->memory->n_vmas; k++) {
			uint64_t from = 0, to;

			for (; r->lazy.vmas[i][k] &&
				restore_lazy_island(r->procs[i], r->procs[i]->memory->vmas[k], &from, &to);
				from = to)
				mark_pieces(r, r->procs[i]->memory->space, from, to);
		}
	}
	return 0;
}

static int make_sockets(struct restore *r, struct error *e)
{
	int pair[2], size = SOCKET_BUFFER, yes = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(e, -errno, "socket pair");
	r->lazy.offers = pair[0];
	r->lazy.offer = pair[1];
	/* Nobody reads it before all have written. */
	if (setsockopt(r->lazy.offers, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) < 0)
		return error_errno(e, -errno, "socket pair");
	(void)!setsockopt(r->lazy.offer, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	return 0;
}

/* Without --lazy, too, much memory is filled this way, before the program runs: UFFDIO_COPY by two threads takes half of the time that
 * faults of the stub do. But not faster than huge pages. */
bool restore_lazy_comes_in_question(const struct restore *r)
{
	return r->options->lazy == LAZY_YES ||
	       (!(r->options->lazy == LAZY_NO && r->huge_fill) && !r->unprivileged && !comes_as_stream(r) &&
		       (image_manifest(r->image)->statistics.bytes >= LAZY_MIN ||
			       image_n_layers(r->image) > 1));
}

int restore_lazy_plan(struct restore *r, struct error *e)
{
	struct error why;
	uint64_t sum = 0;
	int result;

	if (!restore_lazy_comes_in_question(r))
		return 0;
	result = check_kernel(r, &why);
	if (result < 0) {
		if (r->options->lazy == LAZY_YES)
			*e = why;
		return r->options->lazy == LAZY_YES ? result : 0;
	}
	result = choose(r, &sum, e);
	if (result < 0)
		return result;
	if (sum == 0 || (r->options->lazy != LAZY_YES && sum < LAZY_MIN)) {
		r->lazy.n = 0;
		return 0;
	}
	result = mark_checked_before(r, e);
	return result < 0 ? result : make_sockets(r, e);
}

/* ---- in the stubs ---- */

int restore_lazy_offer(struct restore *r, size_t index, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec data = {&index, sizeof(index)};
	struct msghdr m = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	if (r->lazy.n == 0 || !r->lazy.vmas[index])
		return 0;
	fd = new_uffd(r->lazy.device);
	if (fd < 0)
		return error_errno(e, fd, "userfaultfd");
	control.header = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(r->lazy.offer, &m, MSG_NOSIGNAL) < 0 ? error_errno(e, -errno, "send a userfaultfd")
							    : 0;
}

/* ---- in the parent ---- */

/* What a stub has sent: a userfaultfd; the kernel says who it is. */
struct offer {
	size_t index;
	int uffd, pagemap;
};

static void offer_done(struct offer *o)
{
	close_p(&o->uffd);
	close_p(&o->pagemap);
}

static int receive(struct restore *r, struct offer *o, struct error *e)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control = {};
	struct iovec data = {&o->index, sizeof(o->index)};
	struct msghdr m = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(r->lazy.offers, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct ucred who = {};
	char path[64];

	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(&o->uffd, CMSG_DATA(c), sizeof(int));
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof(who)))
			memcpy(&who, CMSG_DATA(c), sizeof(who));
	}
	if (n != sizeof(o->index) || o->uffd < 0 || o->index >= r->n_procs || !r->lazy.vmas[o->index])
		return error_errno(e, n < 0 ? -errno : -EPROTO, "receive a userfaultfd");
	snprintf(path, sizeof(path), "/proc/%d/pagemap", who.pid);
	o->pagemap = open(path, O_RDONLY | O_CLOEXEC);
	return o->pagemap < 0 ? error_errno(e, -errno, "%s", path) : 0;
}

static int register_memory(
	const struct restore *r, size_t index, int uffd, struct lazy_ranges *missing, struct error *e)
{
	const St__Memory *m = r->procs[index]->memory;
	int result = enable(uffd);

	for (size_t i = 0; i < m->n_vmas && result == 0; i++) {
		const St__Vma *v = m->vmas[i];
		struct uffdio_register reg = {
			.range = {v->start, v->end - v->start}, .mode = UFFDIO_REGISTER_MODE_MISSING};

		if (!r->lazy.vmas[index][i])
			continue;
		if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
			result = -errno;
		if (result == 0)
			result = lazy_ranges_add(missing, (struct lazy_range){v->start, v->end, v->start});
	}
	return result < 0 ? error_errno(e, result, "userfaultfd of process %d", r->procs[index]->pid) : 0;
}

static int take_memory(struct restore *r, struct lazy *l, struct error *e)
{
	_cleanup_(offer_done) struct offer o = {.uffd = -EBADF, .pagemap = -EBADF};
	_cleanup_(lazy_ranges_done) struct lazy_ranges missing = {};
	int result = receive(r, &o, e);

	if (result == 0)
		result = register_memory(r, o.index, o.uffd, &missing, e);
	if (result == 0 && !lazy_add_memory(l, o.uffd, o.pagemap, r->procs[o.index]->memory->space, &missing))
		result = error_errno(e, -ENOMEM, "userfaultfd");
	if (result == 0)
		o.uffd = o.pagemap = -EBADF;
	return result;
}

static void drop(struct lazy *l)
{
	for (size_t i = 0; i < l->n_memories; i++) {
		close_p(&l->memories[i]->uffd);
		close_p(&l->memories[i]->pagemap);
		lazy_ranges_done(&l->memories[i]->missing);
		free(l->memories[i]);
	}
	free(l->memories);
	close_p(&l->state_fd);
	close_p(&l->poll_fd);
	close_p(&l->init_pidfd);
}

bool restore_lazy_is_waited_for(const struct restore *r)
{
	return r->lazy.n > 0 && r->options->lazy == LAZY_NO;
}

int restore_lazy_begin(struct restore *r, struct container *c, struct error *e)
{
	struct lazy l = {.image = r->image,
		.image_dir = r->lazy.image_dir,
		.dir_fd = c->dir_fd,
		.state_fd = -EBADF,
		.cgroup = &c->cgroup,
		.is_waited_for = restore_lazy_is_waited_for(r),
		.joins_pids = restore_joins_pids(r),
		.wake_fd = -EBADF};
	int result = 0;

	if (r->lazy.n == 0)
		return 0;
	l.init_pidfd = container_init_pidfd(c);
	l.poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l.poll_fd < 0 || l.init_pidfd < 0)
		result = error_errno(e, -errno, "lazy restore");
	for (size_t i = 0; i < r->lazy.n && result == 0; i++)
		result = take_memory(r, &l, e);
	if (result == 0)
		result = container_filling_begin(c, &l.state_fd, e);
	if (result == 0)
		result = fault_point("restore-lazy", e);
	if (result == 0)
		result = lazy_start(&l, &r->lazy.starter, e);
	drop(&l);
	return result;
}

int restore_lazy_end(struct restore *r, struct error *e)
{
	pid_t pid = r->lazy.starter;

	r->lazy.starter = 0;
	return pid > 0 ? lazy_started(pid, e) : 0;
}

int restore_lazy_failed(struct restore *r, struct container *c, struct error *e)
{
	struct error ignored;

	if (r->lazy.starter > 0 && restore_lazy_end(r, &ignored) == 0 &&
		container_filling_failure(c, &ignored) < 0)
		*e = ignored;
	return e->code;
}

void restore_lazy_done(struct restore *r)
{
	close_p(&r->lazy.device);
	close_p(&r->lazy.offer);
	close_p(&r->lazy.offers);
}
