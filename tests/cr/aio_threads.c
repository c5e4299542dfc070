/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that wait for events of Linux AIO (io_getevents, io_pgetevents), while nothing is in flight and before a request is
 * begun by another one; a process that shares the memory, and so the ring; and a child with a ring of its own, at the address of
 * its parent's.
 *
 * cr: modes=once,cycles,running,again,userns
 */
#include "cr.h"

#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>

#ifndef SYS_io_pgetevents
#define SYS_io_pgetevents 333
#endif

struct waiter {
	aio_context_t ring;
	volatile int started, got, failed;
	volatile uint64_t data;
	bool with_mask;
};

static int file;
static struct waiter waiters[2], member;
static char stack[64 << 10] __attribute__((aligned(16)));

static aio_context_t make(void)
{
	aio_context_t id = 0;

	must(syscall(SYS_io_setup, 20, &id));
	return id;
}

static void begin(aio_context_t ring, uint64_t data)
{
	static char byte;
	struct iocb io = {.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = file,
		.aio_buf = (uint64_t)&byte,
		.aio_nbytes = 1,
		.aio_data = data};
	struct iocb *list[] = {&io};

	check(syscall(SYS_io_submit, ring, 1, list) == 1, "io_submit: %m");
}

static void *wait_for_events(void *arg)
{
	struct waiter *w = arg;

	w->started = 1;
	for (;;) {
		struct {
			sigset_t *set;
			size_t size;
		} mask;
		sigset_t set;
		struct io_event e;
		long n;

		sigemptyset(&set);
		mask.set = &set;
		mask.size = 8;
		n = w->with_mask ? syscall(SYS_io_pgetevents, w->ring, 1, 1, &e, NULL, &mask)
				 : syscall(SYS_io_getevents, w->ring, 1, 1, &e, NULL);
		if (n != 1) {
			w->failed = errno;
			return NULL;
		}
		w->data = e.data;
		w->got++;
	}
	return NULL;
}

/* Shares the memory, but no thread-local storage: errno is that of its parent. */
static int wait_as_member(void *arg)
{
	wait_for_events(arg);
	_exit(1);
}

static void wake(struct waiter *w, uint64_t data)
{
	int before = w->got;

	check(w->failed == 0, "io_getevents failed: %s", strerror(w->failed));
	begin(w->ring, data);
	for (int i = 0; i < 5000 && w->got == before && !w->failed; i++)
		cr_msleep(1);
	check(w->failed == 0, "io_getevents failed: %s", strerror(w->failed));
	check(w->got == before + 1 && w->data == data, "%d events, the last one %llu", w->got - before,
		(unsigned long long)w->data);
}

static void use(aio_context_t ring, int n)
{
	struct io_event events[20];

	for (int i = 0; i < n; i++)
		begin(ring, 7 * i);
	check(syscall(SYS_io_getevents, ring, n, 20, events, NULL) == n, "io_getevents: %m");
	for (int i = 0; i < n; i++)
		check(events[i].data == (uint64_t)7 * i && events[i].res == 1, "event %d is another one", i);
}

int main(void)
{
	aio_context_t own;
	uint64_t round = 0;

	file = must(open("/tmp/aio", O_CREAT | O_RDWR, 0600));
	must(write(file, "x", 1));
	if (cr_fork("child") == 0) {
		own = make();
		while (cr_wait())
			use(own, 9);
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		pthread_t t;

		waiters[i].ring = make();
		waiters[i].with_mask = i == 1;
		check(pthread_create(&t, NULL, wait_for_events, &waiters[i]) == 0, "no thread");
	}
	member.ring = make();
	must(clone(wait_as_member, stack + sizeof(stack), CLONE_VM | SIGCHLD, &member));
	while (!waiters[0].started || !waiters[1].started || !member.started)
		cr_msleep(1);
	own = make();
	while (cr_wait()) {
		round++;
		wake(&waiters[0], 1000 + round);
		wake(&waiters[1], 2000 + round);
		wake(&member, 3000 + round);
		use(own, 3);
	}
	return 0;
}
