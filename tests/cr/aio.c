/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings of Linux AIO: an empty one, one with events that have not been read, one whose events go over its end, one that is full, and
 * one that is read in its memory, without a system call. Contexts go on as they were: events come in their order, the next ones
 * behind them, so many requests are possible as before, and io_destroy ends them.
 *
 * cr: also=old,packed,streamed,precopy modes=once,cycles,running,again,lazy,userns,old,packed,streamed,precopy
 */
#include "cr.h"

#include <linux/aio_abi.h>

struct ring {
	uint32_t id, nr, head, tail, magic, compatible, incompatible, header_length;
	struct io_event events[];
};

struct ctx {
	aio_context_t id;
	uint64_t begun, read; /* requests are numbered in their "data" */
};

static int file;
static char buffer[512];
static struct iocb requests[4096];

static struct ring *ring_of(const struct ctx *c)
{
	return (struct ring *)c->id;
}

static struct ctx make(unsigned requests_max)
{
	struct ctx c = {};

	must(syscall(SYS_io_setup, requests_max, &c.id));
	check(ring_of(&c)->magic == 0xa10a10a1, "the ring is none: %#x", ring_of(&c)->magic);
	return c;
}

/* Returns whether it was taken. */
static bool begin(struct ctx *c)
{
	struct iocb *r = &requests[c->begun % 4096];
	long n;

	*r = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = file,
		.aio_buf = (uint64_t)buffer,
		.aio_nbytes = c->begun % 100,
		.aio_data = c->begun};
	n = syscall(SYS_io_submit, c->id, 1, &r);
	check(n == 1 || (n == -1 && errno == EAGAIN), "io_submit: %ld: %m", n);
	c->begun += n == 1;
	return n == 1;
}

static void begin_some(struct ctx *c, int n)
{
	for (int i = 0; i < n; i++)
		check(begin(c), "request %d was not taken", i);
}

static void is_next(struct ctx *c, const struct io_event *e)
{
	check(e->data == c->read, "event %llu came instead of %llu", (unsigned long long)e->data,
		(unsigned long long)c->read);
	check(e->obj == (uint64_t)&requests[c->read % 4096] && e->res == (int64_t)(c->read % 100) &&
			e->res2 == 0,
		"event %llu has another request or result", (unsigned long long)c->read);
	c->read++;
}

static void read_some(struct ctx *c, int n)
{
	struct timespec none = {};
	struct io_event e;

	for (int i = 0; i < n; i++) {
		check(syscall(SYS_io_getevents, c->id, 1, 1, &e, &none) == 1, "event %d of %d is missing", i,
			n);
		is_next(c, &e);
	}
}

static void is_empty(struct ctx *c)
{
	struct timespec none = {};
	struct io_event e;

	check(c->read == c->begun, "%llu requests, %llu events", (unsigned long long)c->begun,
		(unsigned long long)c->read);
	check(syscall(SYS_io_getevents, c->id, 1, 1, &e, &none) == 0,
		"there is an event that nobody has asked for");
}

/* As libaio and fio do it. */
static void read_in_memory(struct ctx *c, int n)
{
	struct ring *r = ring_of(c);

	for (int i = 0; i < n; i++) {
		check(r->head != r->tail, "event %d is missing", i);
		is_next(c, &r->events[r->head]);
		__atomic_store_n(&r->head, (r->head + 1) % r->nr, __ATOMIC_SEQ_CST);
	}
}

static int fill(struct ctx *c)
{
	int n = 0;

	while (begin(c))
		n++;
	return n;
}

static void on_one_cpu(void)
{
	cpu_set_t all, one;

	must(sched_getaffinity(0, sizeof(all), &all));
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
		if (CPU_ISSET(i, &all))
			CPU_SET(i, &one);
	must(sched_setaffinity(0, sizeof(one), &one));
}

int main(void)
{
	struct ctx empty, waits, over, full, memory, large, gone;
	int capacity;

	file = must(open("/tmp/aio", O_CREAT | O_RDWR, 0600));
	must(ftruncate(file, 4096));
	on_one_cpu();
	empty = make(1);
	waits = make(100);
	gone = make(8);
	over = make(128);
	full = make(10);
	memory = make(32);
	large = make(2000);
	must(syscall(SYS_io_destroy, gone.id));

	begin_some(&waits, 7);
	for (uint32_t i = 0; i < ring_of(&over)->nr - 5; i++) {
		begin_some(&over, 1);
		read_some(&over, 1);
	}
	begin_some(&over, 20);
	capacity = fill(&full);
	check(capacity >= 60, "a ring takes %d requests", capacity);
	begin_some(&memory, 9);
	read_in_memory(&memory, 6);
	for (int i = 0; i < 9; i++) {
		begin_some(&large, 1000);
		read_some(&large, 1000);
	}
	begin_some(&large, 1700);
	/* Neither shared with children nor for everybody's eyes. */
	must(madvise(ring_of(&waits), 8192, MADV_DONTFORK));

	while (cr_wait()) {
		is_empty(&empty);
		begin_some(&empty, 3);
		read_some(&empty, 3);

		begin_some(&waits, 2);
		read_some(&waits, 9);
		is_empty(&waits);
		begin_some(&waits, 7);

		begin_some(&over, 3);
		read_some(&over, 23);
		is_empty(&over);
		begin_some(&over, 20);

		check(!begin(&full), "a full ring takes one more");
		read_some(&full, capacity);
		is_empty(&full);
		check(fill(&full) == capacity, "it does not take as many as before");

		read_in_memory(&memory, 3);
		check(ring_of(&memory)->head == ring_of(&memory)->tail, "it is not empty");
		is_empty(&memory);
		begin_some(&memory, 9);
		read_in_memory(&memory, 6);

		read_some(&large, 1700);
		is_empty(&large);
		begin_some(&large, 1700);

		must(syscall(SYS_io_destroy, empty.id));
		check(syscall(SYS_io_destroy, empty.id) == -1 && errno == EINVAL, "io_destroy again: %m");
		empty = make(1);
	}
	return 0;
}
