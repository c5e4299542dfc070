/* SPDX-License-Identifier: Apache-2.0 */
/* cr: seconds=240 */
/* Numbers: 1000 descriptors of six kinds, 60 threads, 40 processes, 1500 mappings. */
#include "cr.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

enum { FDS = 1000, THREADS = 60, PROCESSES = 40, MAPPINGS = 1500 };

static volatile uint64_t counts[THREADS];
static int fds[FDS];
static char *mappings[MAPPINGS];

static void *count(void *arg)
{
	for (;;) {
		counts[(intptr_t)arg]++;
		cr_msleep(5);
	}
	return NULL;
}

static int make(int i)
{
	int p[2];

	switch (i % 6) {
	case 0:
		return must(eventfd(i, 0));
	case 1:
		return must(open("/etc/passwd", O_RDONLY));
	case 2:
		must(pipe(p));
		must(write(p[1], &i, sizeof(i)));
		must(dup2(p[1], 2000 + i));
		close(p[1]);
		return p[0];
	case 3:
		return must(timerfd_create(CLOCK_MONOTONIC, 0));
	case 4:
		return must(epoll_create1(0));
	default:
		return must(open("/dev/null", O_RDWR));
	}
}

static void verify(int i)
{
	uint64_t v = 0;
	char c;
	struct itimerspec t;

	if (i % 6 == 0 && i > 0) {
		check(read(fds[i], &v, 8) == 8 && v == (uint64_t)i, "eventfd %d: %lu", i, v);
		must(write(fds[i], &v, 8));
	} else if (i % 6 == 1) {
		check(lseek(fds[i], 0, SEEK_CUR) == i % 7, "offset of file %d", i);
		check(pread(fds[i], &c, 1, 0) == 1 && c == 'r', "file %d", i);
	} else if (i % 6 == 2) {
		check(read(fds[i], &v, 4) == 4 && v == (uint64_t)i, "pipe %d: %lu", i, v);
		must(write(2000 + i, &v, 4));
	} else if (i % 6 == 3) {
		must(timerfd_gettime(fds[i], &t));
	} else if (i % 6 == 4) {
		check(epoll_wait(fds[i], NULL, 0, 0) == -1 && errno == EINVAL, "epoll %d", i);
	}
}

int main(void)
{
	pthread_t t;

	for (int i = 0; i < PROCESSES; i++) {
		char tag[16];

		snprintf(tag, sizeof(tag), "p%d", i);
		if (cr_fork(tag) == 0) {
			char *mine = malloc(100000);

			cr_fill(mine, 100000, i);
			while (cr_wait())
				check(cr_differs(mine, 100000, i) < 0, "memory of process %d", i);
			_exit(0);
		}
	}
	for (int i = 0; i < FDS; i++) {
		fds[i] = make(i);
		if (i % 6 == 1)
			must(lseek(fds[i], i % 7, SEEK_SET));
	}
	for (int i = 0; i < MAPPINGS; i++) {
		/* Every other page read-only, so that none merge. */
		mappings[i] =
			must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		*(int *)mappings[i] = i;
		must(mprotect(mappings[i], 4096, i % 2 ? PROT_READ : PROT_READ | PROT_EXEC));
	}
	for (intptr_t i = 0; i < THREADS; i++)
		check(pthread_create(&t, NULL, count, (void *)i) == 0, "pthread_create");
	for (int i = 0; i < THREADS; i++)
		while (!counts[i])
			cr_msleep(1);
	while (cr_wait()) {
		uint64_t before[THREADS];

		memcpy(before, (void *)counts, sizeof(before));
		for (int i = 0; i < FDS; i++)
			verify(i);
		for (int i = 0; i < MAPPINGS; i++)
			check(*(int *)mappings[i] == i, "mapping %d", i);
		for (int i = 0; i < THREADS; i++)
			for (int ms = 0; counts[i] == before[i]; ms++) {
				check(ms < 3000, "thread %d stands still", i);
				cr_msleep(1);
			}
	}
	_exit(0);
}
