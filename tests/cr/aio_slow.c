/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads by Linux AIO past the page cache that have been begun when it is ready, into memory that is not touched before they are asked for.
 * On a disk that is slow (tests/integration/precopy.sh makes it so) they are in flight all the time until then.
 *
 * cr: ignore=memory,eventfd-count modes=once
 */
#include "cr.h"

#include <linux/aio_abi.h>
#include <sys/eventfd.h>

enum { BLOCKS = 8, SIZE = 512 << 10 };

static aio_context_t ring;
static struct iocb requests[BLOCKS];
static char *buffers;
static int file, signals;

static void begin(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		struct iocb *list[] = {&requests[i]};

		requests[i] = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_fildes = file,
			.aio_buf = (uint64_t)buffers + (uint64_t)i * SIZE,
			.aio_nbytes = SIZE,
			.aio_offset = (int64_t)i * SIZE,
			.aio_flags = IOCB_FLAG_RESFD,
			.aio_resfd = signals};
		check(syscall(SYS_io_submit, ring, 1, list) == 1, "io_submit: %m");
	}
}

int main(void)
{
	struct io_event events[BLOCKS];
	uint64_t n;

	buffers = must(mmap(NULL, BLOCKS * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	cr_fill(buffers, BLOCKS * SIZE, 1);
	file = must(open("/tmp/aio", O_CREAT | O_RDWR, 0600));
	check(write(file, buffers, BLOCKS * SIZE) == BLOCKS * SIZE && fsync(file) == 0, "write: %m");
	close(file);
	file = open("/tmp/aio", O_RDWR | O_DIRECT);
	if (file < 0)
		file = must(open("/tmp/aio", O_RDWR));
	signals = must(eventfd(0, 0));
	must(syscall(SYS_io_setup, BLOCKS, &ring));
	memset(buffers, 0xee, BLOCKS * SIZE);
	begin();
	if (cr_wait()) {
		check(syscall(SYS_io_getevents, ring, BLOCKS, BLOCKS, events, NULL) == BLOCKS,
			"io_getevents: %m");
		for (int i = 0; i < BLOCKS; i++)
			check(events[i].res == SIZE, "request %d: %lld", i, (long long)events[i].res);
		check(cr_differs(buffers, BLOCKS * SIZE, 1) < 0, "it has read something else");
		check(read(signals, &n, sizeof(n)) == sizeof(n) && n == BLOCKS, "%llu signals",
			(unsigned long long)n);
		cr_idle();
	}
	return 0;
}
