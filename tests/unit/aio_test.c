/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes of rings of Linux AIO, and what the kernel says of them to nobody but us. */
#include <linux/aio_abi.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/res/aio.h"
#include "linux/bpfaio.h"
#include "linux/cpus.h"
#include "tap.h"

static aio_context_t make(unsigned requests)
{
	aio_context_t ring = 0;

	return syscall(SYS_io_setup, requests, &ring) == 0 ? ring : 0;
}

/* As the kernel writes it into the ring: its pages are full. */
static uint64_t length_of(aio_context_t ring)
{
	return (((uint32_t *)ring)[1] + 1) * sizeof(struct io_event);
}

static void test_sizes(void)
{
	static const unsigned requests[] = {1, 8, 16, 62, 63, 64, 100, 126, 127, 128, 500, 1000, 3000};
	uint32_t cpus = cpus_possible(NULL);

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		aio_context_t ring = make(requests[i]);

		if (!CHECK(ring != 0, "io_setup(%u): %m", requests[i]))
			continue;
		CHECK(aio_requests_for(length_of(ring), requests[i], cpus) == requests[i],
			"%u requests make a ring of %lu bytes, which would be asked for as %lu", requests[i],
			(unsigned long)length_of(ring),
			(unsigned long)aio_requests_for(length_of(ring), requests[i], cpus));
		syscall(SYS_io_destroy, ring);
	}
}

/* Of a machine with more CPUs, where few requests had a large ring; and of one with fewer. */
static void test_other_machines(void)
{
	uint32_t cpus = cpus_possible(NULL);

	for (uint64_t pages = 3 + cpus / 16; pages < 20; pages++) {
		uint64_t requests = aio_requests_for(pages * 4096, 1, cpus);
		aio_context_t ring = requests ? make(requests) : 0;

		if (CHECK(ring != 0, "no requests for %lu pages: %lu", (unsigned long)pages,
			    (unsigned long)requests))
			CHECK(length_of(ring) == pages * 4096, "%lu bytes instead of %lu pages",
				(unsigned long)length_of(ring), (unsigned long)pages);
		syscall(SYS_io_destroy, ring);
	}
	CHECK(aio_requests_for(4096, 1, 64) == 0, "64 CPUs have a ring of one page");
	CHECK(aio_requests_for(5 * 4096, 1, 64) == 1, "64 CPUs do not have a ring of five pages");
}

static void test_contexts(void)
{
	struct arena a = {};
	struct aio_context *all;
	aio_context_t rings[40] = {0};
	int p[2], zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct iocb reads = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = zero},
		    waits = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN}, *list[1];
	struct io_event e[2];
	size_t n = 0;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
		rings[i] = make(1 + i);
	r = aio_read_contexts(gettid(), &a, &all, &n);
	if (r == -EPERM || r == -EOPNOTSUPP) {
		printf("# not possible here: %d\n", r);
		goto out;
	}
	CHECK(r == 0 && n == ARRAY_SIZE(rings), "%d, %zu contexts", r, n);
	if (r < 0 || n != ARRAY_SIZE(rings) || pipe(p) < 0)
		goto out;
	for (size_t i = 0; i < n; i++)
		CHECK(all[i].address == rings[i] && all[i].id == i && all[i].max_requests == 1 + i &&
				all[i].length == length_of(rings[i]) && all[i].in_flight == 0 &&
				!all[i].cancellable && all[i].tail == 0 && all[i].completed == 0,
			"context %zu: %lx, id %u, %u requests, %ld in flight", i,
			(unsigned long)all[i].address, all[i].id, all[i].max_requests,
			(long)all[i].in_flight);
	waits.aio_fildes = p[0];
	list[0] = &waits;
	CHECK(syscall(SYS_io_submit, rings[39], 1, list) == 1, "io_submit: %m");
	list[0] = &reads;
	CHECK(syscall(SYS_io_submit, rings[39], 1, list) == 1, "io_submit: %m");
	r = aio_read_contexts(gettid(), &a, &all, &n);
	CHECK(r == 0 && n == ARRAY_SIZE(rings) && all[39].in_flight == 1 && all[39].cancellable &&
			all[39].tail == 1 && all[39].completed == 1,
		"%d: %ld in flight, tail %u", r, (long)all[39].in_flight, all[39].tail);
	CHECK(write(p[1], "x", 1) == 1 && syscall(SYS_io_getevents, rings[39], 2, 2, e, NULL) == 2,
		"io_getevents: %m");
	r = aio_read_contexts(gettid(), &a, &all, &n);
	CHECK(r == 0 && all[39].in_flight == 0 && !all[39].cancellable && all[39].tail == 2,
		"%d: %ld in flight, tail %u", r, (long)all[39].in_flight, all[39].tail);
out:
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
		syscall(SYS_io_destroy, rings[i]);
	arena_done(&a);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"sizes", test_sizes},
		{"sizes on other machines", test_other_machines},
		{"contexts", test_contexts},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
