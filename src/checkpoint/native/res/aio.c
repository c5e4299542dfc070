/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring of Linux AIO is a mapping that begins with a struct aio_ring; its address is the context's id. Where the next event goes,
 * and whether requests are in flight, only the kernel knows (linux/bpfaio.h). Rings are kept when nothing is in flight: who
 * stands still begins nothing, so it is waited for what has been begun, but not for what waits for something to happen itself.
 *
 * A restore makes a ring where the kernel likes, and moves it (mremap(2) moves the id, too). The kernel's place for the next event is brought to where
 * it was by requests that end at once; events that nobody has read yet are then written over those.
 */
#include "checkpoint/native/res/aio.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/fd.h"
#include "checkpoint/native/restore-nested.h"
#include "linux/bpfaio.h"
#include "linux/cpus.h"

/* fs/aio.c */
struct ring {
	uint32_t id, n_events, head, tail, magic, compatible, incompatible, header_length;
};
_Static_assert(sizeof(struct ring) == sizeof(struct io_event), "the number of events relies on it");
#define RING_MAGIC 0xa10a10a1u
enum { PAGE = 4096, EVENT = sizeof(struct io_event), PER_PAGE = PAGE / EVENT };
#define RING_MAX (16ull << 20) /* a record has at most 64 MiB */
#define REMEDY                                                                                               \
	"let the program do its I/O in threads (for example innodb_use_native_aio=0, qemu: aio=threads)"

/* The kernel fills the pages. */
static uint32_t room_of(const St__Vma *v)
{
	return (uint32_t)((v->end - v->start) / EVENT) - 1;
}

static uint32_t unread(uint32_t head, uint32_t tail, uint32_t n)
{
	return (tail + n - head % n) % n;
}

/* Events that it has had at least. */
static uint32_t written(uint32_t head, uint32_t tail, uint32_t n)
{
	return unread(head, tail, n) > tail ? n : tail;
}

/* ---- dump ---- */

bool aio_is_ring(const struct proc_vma *v)
{
	return v->shared && !strcmp(v->name, "/[aio] (deleted)");
}

static bool any_in_flight(const struct aio_context *all, size_t n, bool *ret_waits)
{
	bool any = false;

	*ret_waits = false;
	for (size_t i = 0; i < n; i++) {
		any |= all[i].in_flight != 0;
		*ret_waits |= all[i].cancellable;
	}
	return any;
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

/* Until the requests of a process that stands still have ended, but for those that may never do. */
static int read_settled(struct dump *d, pid_t tid, struct aio_context **ret, size_t *ret_n)
{
	enum { LIMIT_US = 1000000 };
	int64_t start = now_us();
	bool waits;

	for (useconds_t pause = 50;; pause = MIN(2 * pause, 2000u)) {
		int r = aio_read_contexts(tid, &d->arena, ret, ret_n);

		if (r < 0 || !any_in_flight(*ret, *ret_n, &waits) || waits || now_us() - start > LIMIT_US)
			return r;
		usleep(pause);
	}
}

int aio_settle(struct dump *d, const struct dump_proc *p)
{
	struct aio_context *all;
	bool waits, any = false;
	size_t n;
	int r;

	for (size_t i = 0; i < p->n_vmas && !any; i++)
		any = aio_is_ring(&p->vmas[i]);
	if (!any)
		return 0;
	r = d->unprivileged ? -EPERM : read_settled(d, p->shown, &all, &n);
	if (r == -ENOMEM)
		return r;
	return r < 0 || any_in_flight(all, n, &waits) ? -EAGAIN : 0;
}

/* What keeps it from being recorded, by the kernel's word alone; NULL: nothing. */
static const char *obstacle(const struct dump *d, const struct dump_proc *p, const St__Vma *v,
	const struct aio_context *c, const char **ret_remedy)
{
	*ret_remedy = REMEDY;
	if (p->msg->memory->ia32)
		return "a 32-bit program has made it: not supported";
	if (!c || c->length != v->end - v->start) {
		*ret_remedy = "unmap it (or, in a child of who has made it, execute a program)";
		return "it is another process's, inherited by a fork, or not mapped as a whole";
	}
	if (c->length > RING_MAX)
		return "it is larger than this version keeps";
	if (c->n_events != room_of(v) || c->tail >= c->n_events)
		return "this version does not know what this kernel does with it";
	if (c->cancellable) {
		*ret_remedy = "let them be completed or cancelled, then checkpoint";
		return "requests are in flight which wait for something to happen (IOCB_CMD_POLL)";
	}
	if (d->stopped && c->in_flight != 0) {
		*ret_remedy = REMEDY_AIO;
		return "requests are in flight which have not ended in a second";
	}
	return NULL;
}

static size_t without_zeros(const uint8_t *p, size_t len, size_t least)
{
	while (len > least && p[len - 1] == 0)
		len--;
	return ALIGN_UP(len, (size_t)EVENT);
}

/* Of a stopped process. *ret_reason: what is wrong with the ring. */
static int read_ring(struct dump *d, const struct dump_proc *p, const struct aio_context *c, St__AioRing *m,
	const char **ret_reason)
{
	size_t len = (size_t)c->n_events * EVENT;
	struct ring ring;
	int r;

	*ret_reason = "it cannot be read";
	m->events.data = arena_alloc(&d->arena, len);
	if (!m->events.data)
		return -ENOMEM;
	r = task_read_memory(p->shown, c->address, &ring, sizeof(ring));
	if (r == 0)
		r = task_read_memory(p->shown, c->address + sizeof(ring), m->events.data, len);
	if (r < 0)
		return 0;
	m->id = c->id;
	m->max_requests = c->max_requests;
	m->head = ring.head;
	m->tail = c->tail;
	m->events.len =
		without_zeros(m->events.data, len, (size_t)EVENT * written(ring.head, c->tail, c->n_events));
	*ret_reason = NULL;
	if (ring.id != c->id || ring.magic != RING_MAGIC || ring.incompatible ||
		ring.header_length != sizeof(ring) || ring.n_events != c->n_events || ring.tail != c->tail)
		*ret_reason = "what the program has written to it the kernel does not mean";
	else if (unread(ring.head, c->tail, c->n_events) > c->completed)
		*ret_reason = "its head is not where it can be";
	return 0;
}

static int dump_ring(struct dump *d, struct dump_proc *p, St__Vma *v, const struct aio_context *all, size_t n,
	struct error *e)
{
	const struct aio_context *c = NULL;
	const char *reason, *remedy;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		if (all[i].address == v->start)
			c = &all[i];
	reason = obstacle(d, p, v, c, &remedy);
	if (!reason && d->stopped)
		r = read_ring(d, p, c, v->aio, &reason);
	if (r < 0)
		return error_errno(e, r, "rings of Linux AIO");
	if (reason)
		dump_refuse(d, p, -1, "aio", reason, remedy, "ring of Linux AIO at %llx-%llx",
			(unsigned long long)v->start, (unsigned long long)v->end);
	d->has_aio = true;
	return 0;
}

static const char *why_not_read(const struct dump *d, int r)
{
	if (d->unprivileged)
		return "an ordinary user may not see which requests are in flight";
	if (r == -E2BIG)
		return "the process has had more of them at a time than this version looks at";
	return "this kernel does not let us read which requests are in flight";
}

int aio_dump(struct dump *d, struct dump_proc *p, struct error *e)
{
	const St__Memory *m = p->msg->memory;
	struct aio_context *all = NULL;
	size_t n = 0;
	bool read = false;
	int r = 0;

	for (size_t i = 0; i < m->n_vmas; i++) {
		if (!m->vmas[i]->aio)
			continue;
		if (!read)
			r = d->unprivileged ? -EPERM
			    : d->stopped    ? read_settled(d, p->shown, &all, &n)
					    : aio_read_contexts(p->shown, &d->arena, &all, &n);
		read = true;
		if (r == -ENOMEM)
			return error_errno(e, r, "rings of Linux AIO");
		if (r == -ESRCH && !d->stopped)
			return 0;
		if (r < 0)
			dump_refuse(d, p, -1, "aio", why_not_read(d, r), REMEDY,
				"ring of Linux AIO at %llx-%llx", (unsigned long long)m->vmas[i]->start,
				(unsigned long long)m->vmas[i]->end);
		else if (dump_ring(d, p, m->vmas[i], all, n, e) < 0)
			return e->code;
	}
	return 0;
}

/* ---- restore ---- */

const char *aio_wrong(const St__Process *p, const St__Vma *v, struct aio_ids *seen)
{
	const St__AioRing *m = v->aio;
	uint64_t length = v->end - v->start;
	uint32_t n = room_of(v);

	if (v->file || v->shm || v->special || v->flags != MAP_SHARED || p->memory->ia32)
		return "a ring of Linux AIO is something else, too";
	if (length > RING_MAX || m->max_requests == 0 || m->max_requests > n || m->tail >= n ||
		m->events.len % EVENT || m->events.len > (size_t)n * EVENT ||
		m->events.len < (size_t)EVENT * written(m->head, m->tail, n))
		return "a ring of Linux AIO has an impossible size";
	if (m->id >= AIO_CONTEXTS || seen->has[m->id])
		return "a ring of Linux AIO has an impossible number";
	seen->has[m->id] = true;
	return NULL;
}

/* What the kernel makes of it: at least four requests for each CPU, twice as many events and two more, and whole pages. */
static uint64_t pages_for(uint64_t requests, uint32_t n_cpus)
{
	return (2 * MAX(requests, 4ull * n_cpus) + 2 + 1 + PER_PAGE - 1) / PER_PAGE;
}

uint64_t aio_requests_for(uint64_t length, uint64_t requests, uint32_t n_cpus)
{
	uint64_t pages = length / PAGE;

	if (pages_for(requests, n_cpus) < pages)
		requests = PER_PAGE / 2 * (pages - 1) - 1; /* the least that needs the last page */
	return pages_for(requests, n_cpus) == pages ? requests : 0;
}

static uint64_t requests_for(const St__Vma *v, uint32_t n_cpus)
{
	return aio_requests_for(v->end - v->start, v->aio->max_requests, n_cpus);
}

static bool read_number(const char *path, uint64_t *ret)
{
	char text[32];

	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	*ret = strtoull(text, NULL, 10);
	return true;
}

/* What the rings of a process count for; with one for each that had a number below theirs. */
static int requests_of(const struct restore *r, const St__Process *p, uint64_t *ret, struct error *e)
{
	uint64_t numbers = 0, n = 0;

	for (size_t i = 0; i < p->memory->n_vmas; i++) {
		const St__Vma *v = p->memory->vmas[i];
		uint64_t requests = v->aio ? requests_for(v, r->n_cpus) : 0;

		if (!v->aio)
			continue;
		if (r->n_cpus == 0 || requests == 0)
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"process %d has a ring of Linux AIO of %llu KiB, and for a machine with %u "
				"CPUs the kernel makes none so small: restore on one that has no more CPUs "
				"than the one that the image was made on",
				p->pid, (unsigned long long)(v->end - v->start) / 1024, r->n_cpus);
		*ret += requests;
		numbers = MAX(numbers, v->aio->id + 1ull);
		n++;
	}
	*ret += numbers - n;
	return 0;
}

int aio_check_room(struct restore *r, struct error *e)
{
	uint64_t need = 0, used, limit;
	int result = 0;

	r->n_cpus = cpus_possible(NULL);
	for (size_t i = 0; i < r->n_procs && result == 0; i++)
		if (r->procs[i]->state != 2)
			result = requests_of(r, r->procs[i], &need, e);
	if (result < 0 || need == 0 || !read_number("/proc/sys/fs/aio-nr", &used) ||
		!read_number("/proc/sys/fs/aio-max-nr", &limit) || used + need <= limit)
		return result;
	return error_set(e, -EAGAIN, ERROR_REFUSED,
		"the container has rings of Linux AIO for %llu requests, and of the %llu that this machine "
		"allows %llu are taken: raise the sysctl fs.aio-max-nr",
		(unsigned long long)need, (unsigned long long)limit, (unsigned long long)used);
}

/* Requests after which the kernel's place for the next event is that of the image, with as many events unread. */
static uint64_t rounds_of(const St__Vma *v)
{
	const St__AioRing *m = v->aio;

	return m->tail + (unread(m->head, m->tail, room_of(v)) > m->tail ? (uint64_t)room_of(v) : 0);
}

/* At a time. Slots that other CPUs keep for themselves are less than half of the ring. */
enum { BLOCK = 256 };
static uint32_t block_of(const St__Vma *v)
{
	return MIN((uint32_t)BLOCK, room_of(v) / 4);
}

uint64_t aio_ops(const St__Vma *v)
{
	/* io_setup, mremap, futex, process_vm_writev, mprotect; what is read is read in blocks of its own; numbers before it */
	return 8 + 2 * (rounds_of(v) / block_of(v) + 2) + 2 * (uint64_t)v->aio->id;
}

uint64_t aio_data(const St__Vma *v)
{
	return v->aio->events.len + 256;
}
_Static_assert(AIO_DATA >= 2 * 512 + BLOCK * (8 + EVENT) + 256, "what all rings of a process use");

void op_aio_place(struct batch *b, const St__Vma *v)
{
	batch_call(b, OP_EXPECT, SYS_mmap, v->start, v->end - v->start, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
		->result = v->start;
}

/* Of an op's argument, where the batch will run. */
static uint64_t address_of(const struct batch *b, const uint64_t *argument)
{
	return b->remote_ops + ((const char *)argument - (const char *)b->ops);
}

/* Where the kernel puts it io_setup writes into the arguments of the call that moves it. */
static void op_make(struct batch *b, const struct restore *r, const St__Vma *v)
{
	struct timespec none = {};
	uint64_t length = v->end - v->start;
	struct op *setup = batch_call(b, 0, SYS_io_setup, requests_for(v, r->n_cpus)),
		  *move = batch_call(b, OP_EXPECT, SYS_mremap, 0, length, length,
			  MREMAP_MAYMOVE | MREMAP_FIXED, v->start);

	setup->args[1] = address_of(b, &move->args[0]);
	move->result = v->start;
	/* Has it the size that we think? It does not wait, but compares. */
	batch_call(b, OP_EXPECT, SYS_futex, v->start + offsetof(struct ring, n_events), FUTEX_WAIT_PRIVATE,
		room_of(v), batch_bytes(b, &none, sizeof(none)))
		->result = -ETIMEDOUT;
}

struct requests {
	uint64_t list, events; /* addresses: of BLOCK pointers to a request; of room for as many events */
};

/* To read nothing from /dev/zero ends at once. */
static struct requests make_requests(struct batch *b, int zero_fd)
{
	struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = zero_fd};
	uint64_t at = batch_bytes(b, &request, sizeof(request));
	struct requests q = {};
	uint64_t *list = batch_data(b, BLOCK * sizeof(*list), &q.list);

	for (size_t i = 0; i < BLOCK && list; i++)
		list[i] = at;
	(void)!batch_data(b, (size_t)BLOCK * EVENT, &q.events);
	return q;
}

static void op_run(struct batch *b, const struct requests *q, const St__Vma *v, uint64_t n, bool read)
{
	while (n > 0) {
		uint64_t some = MIN(n, (uint64_t)block_of(v));

		batch_call(b, OP_EXPECT, SYS_io_submit, v->start, some, q->list)->result = some;
		if (read)
			batch_call(b, OP_EXPECT, SYS_io_getevents, v->start, some, some, q->events, 0)
				->result = some;
		n -= some;
	}
}

/* What the program sees. */
static void op_write(struct batch *b, const St__Process *p, const St__Vma *v)
{
	const St__AioRing *m = v->aio;
	size_t len = m->events.len;
	struct iovec ours[] = {{(void *)batch_bytes(b, &m->head, sizeof(m->head)), sizeof(m->head)},
		{(void *)batch_bytes(b, m->events.data, len), len}},
		     theirs[] = {{(void *)(v->start + offsetof(struct ring, head)), sizeof(m->head)},
			     {(void *)(v->start + sizeof(struct ring)), len}};

	batch_call(b, OP_EXPECT, SYS_process_vm_writev, restore_own_pid(p),
		batch_bytes(b, ours, sizeof(ours)), ARRAY_SIZE(ours), batch_bytes(b, theirs, sizeof(theirs)),
		ARRAY_SIZE(theirs), 0)
		->result = (int64_t)(sizeof(m->head) + len);
}

/* On one CPU, so that no other one keeps slots for itself: a full ring needs all of them. */
static void op_stay(struct batch *b, bool stay)
{
	unsigned char mask[512] = {};
	long n = syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);
	bool found = false;

	for (long i = 0; i < n && stay; i++) {
		unsigned char bit = found ? 0 : mask[i] & -mask[i];

		found |= bit != 0;
		mask[i] = bit;
	}
	if (n > 0)
		batch_call(b, 0, SYS_sched_setaffinity, 0, n, batch_bytes(b, mask, n));
}

static void op_ring(struct batch *b, const struct restore *r, const St__Process *p, const St__Vma *v,
	const struct requests *q)
{
	uint64_t rounds = rounds_of(v), n = unread(v->aio->head, v->aio->tail, room_of(v));

	op_make(b, r, v);
	op_run(b, q, v, rounds - n, true);
	op_run(b, q, v, n, false);
	if (v->aio->head || v->aio->events.len)
		op_write(b, p, v);
	if (v->prot != (PROT_READ | PROT_WRITE))
		batch_call(b, 0, SYS_mprotect, v->start, v->end - v->start, v->prot);
}

/* The kernel gives the lowest number that is free, so one that the program had destroyed is made, too, for a while. */
void op_aio_rings(struct batch *b, const struct restore *r, const St__Process *p)
{
	const St__Vma *rings[AIO_CONTEXTS] = {};
	struct op *others[AIO_CONTEXTS] = {};
	struct requests q;
	size_t n = 0;

	for (size_t i = 0; i < p->memory->n_vmas; i++) {
		const St__Vma *v = p->memory->vmas[i];

		if (v->aio) {
			rings[v->aio->id] = v;
			n = MAX(n, v->aio->id + (size_t)1);
		}
	}
	if (n == 0)
		return;
	q = make_requests(b, r->zero_fd);
	op_stay(b, true);
	for (size_t i = 0; i < n; i++)
		if (rings[i])
			op_ring(b, r, p, rings[i], &q);
		else
			others[i] = batch_call(b, 0, SYS_io_setup, 1);
	for (size_t i = 0; i < n; i++)
		if (others[i]) {
			struct op *end = batch_call(b, 0, SYS_io_destroy, 0);

			others[i]->args[1] = address_of(b, &end->args[0]);
		}
	op_stay(b, false);
}
