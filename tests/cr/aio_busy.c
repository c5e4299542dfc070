/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux AIO that never rests: always thirty requests in flight, with O_DIRECT, that write and read back blocks; each tells an eventfd. No
 * request and no signal may get lost, none come twice, and no block may have other contents than were read or written last. (Not "running": the file
 * is outside of the image.)
 *
 * cr: ignore=eventfd-count,memory modes=once,cycles,again,precopy,chain seconds=120
 */
#include "cr.h"

#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

enum { BLOCKS = 40, SIZE = 1 << 20, IN_FLIGHT = 30 };

static struct block {
	struct iocb io;
	uint64_t version; /* what the block in the file has, or will have */
	bool busy;
} blocks[BLOCKS];
static char *buffers;
static aio_context_t ring;
static int file, signals;
static volatile bool end;
static volatile uint64_t n_begun, n_ended, n_signals;

static char *buffer(int i)
{
	return buffers + (size_t)i * SIZE;
}

/* The first word of a page: little work, so that the disk is what there is to wait for. */
static uint64_t *word_of(int i, int page)
{
	return (uint64_t *)(buffer(i) + page * 4096);
}

static uint64_t expected(int i, int page)
{
	return cr_mix((blocks[i].version * BLOCKS + i) * (SIZE / 4096) + page);
}

static void fill(int i)
{
	for (int page = 0; page < SIZE / 4096; page++)
		*word_of(i, page) = expected(i, page);
}

static void spoil(int i)
{
	for (int page = 0; page < SIZE / 4096; page++)
		*word_of(i, page) = 0;
}

static void begin(int i, bool write)
{
	struct block *b = &blocks[i];
	struct iocb *list[] = {&b->io};

	if (write) {
		b->version++;
		fill(i);
	} else {
		spoil(i);
	}
	b->busy = true;
	b->io = (struct iocb){.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_fildes = file,
		.aio_buf = (uint64_t)buffer(i),
		.aio_nbytes = SIZE,
		.aio_offset = (int64_t)i * SIZE,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = signals,
		.aio_data = i};
	check(syscall(SYS_io_submit, ring, 1, list) == 1, "io_submit: %m");
	n_begun++;
}

static void is_done(const struct io_event *e)
{
	struct block *b = &blocks[e->data];

	check(e->data < BLOCKS && b->busy && e->obj == (uint64_t)&b->io && e->res == SIZE,
		"block %llu: result %lld, %s", (unsigned long long)e->data, (long long)e->res,
		b->busy ? "asked for" : "not asked for");
	for (int page = 0; page < SIZE / 4096; page++)
		check(*word_of(e->data, page) == expected(e->data, page),
			"page %d of block %llu has another content", page, (unsigned long long)e->data);
	b->busy = false;
	n_ended++;
}

/* Waits for a signal, then takes as many events as were told of. */
static void take(void)
{
	struct io_event events[BLOCKS];
	struct pollfd p = {signals, POLLIN, 0};
	uint64_t n;
	long got;

	check(poll(&p, 1, 10000) == 1, "no signal in ten seconds: %llu requests, %llu events",
		(unsigned long long)n_begun, (unsigned long long)n_ended);
	must(read(signals, &n, sizeof(n)));
	n_signals += n;
	got = syscall(SYS_io_getevents, ring, n, n, events, NULL);
	check(got == (long)n, "%llu signals, %ld events: %m", (unsigned long long)n, got);
	for (long i = 0; i < got; i++)
		is_done(&events[i]);
}

static void *work(void *arg)
{
	uint64_t random = 1;

	while (!end) {
		while (n_begun - n_ended < IN_FLIGHT) {
			int i = (int)((random = cr_mix(random)) % BLOCKS);

			if (!blocks[i].busy)
				begin(i, random >> 60 & 1);
		}
		take();
	}
	while (n_ended < n_begun)
		take();
	return NULL;
}

int main(void)
{
	pthread_t t;

	file = open("/tmp/aio", O_CREAT | O_RDWR | O_DIRECT, 0600);
	if (file < 0) {
		cr_say("unavailable", 1, "", "O_DIRECT");
		file = must(open("/tmp/aio", O_CREAT | O_RDWR, 0600));
	}
	signals = must(eventfd(0, EFD_NONBLOCK));
	buffers = must(mmap(NULL, BLOCKS * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	must(syscall(SYS_io_setup, BLOCKS, &ring));
	for (int i = 0; i < BLOCKS; i++) {
		fill(i);
		check(pwrite(file, buffer(i), SIZE, (off_t)i * SIZE) == SIZE, "write: %m");
	}
	while (true) {
		end = false;
		check(pthread_create(&t, NULL, work, NULL) == 0, "no thread");
		for (uint64_t before = n_ended; n_ended == before;)
			cr_msleep(1);
		if (!cr_wait())
			break;
		end = true;
		pthread_join(t, NULL);
		check(n_begun == n_ended && n_signals == n_ended, "%llu requests, %llu events, %llu signals",
			(unsigned long long)n_begun, (unsigned long long)n_ended,
			(unsigned long long)n_signals);
	}
	return 0;
}
