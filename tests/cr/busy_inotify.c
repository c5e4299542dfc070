/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all modes=cycles,running,userns,rootless */
/*
 * A program that takes its time to read the events of its inotify queue: this is empty for a third of the time only, and
 * a checkpoint finds such a moment. No event is lost, and none comes twice.
 */
#include "cr.h"

#include <poll.h>
#include <sys/inotify.h>

enum { WAITING_MS = 140, EMPTY_MS = 60 };

static volatile struct {
	int made, seen, wrong;
} * shared;

static void make(const char *folder)
{
	char path[64];

	for (;;) {
		snprintf(path, sizeof(path), "%s/%d", folder, shared->made);
		shared->made++;
		close(must(open(path, O_CREAT | O_WRONLY, 0600)));
		must(unlink(path));
		cr_msleep(WAITING_MS + EMPTY_MS);
	}
}

static void read_late(int in)
{
	char b[4096] __attribute__((aligned(8)));
	struct pollfd p = {.fd = in, .events = POLLIN};

	for (;;) {
		ssize_t n;

		if (poll(&p, 1, -1) != 1)
			continue;
		cr_msleep(WAITING_MS);
		n = must(read(in, b, sizeof(b)));
		for (ssize_t i = 0; i < n;) {
			struct inotify_event *e = (void *)(b + i);

			shared->wrong |= e->mask != IN_CREATE || atoi(e->name) != shared->seen;
			shared->seen++;
			i += sizeof(*e) + e->len;
		}
	}
}

int main(void)
{
	int in = must(inotify_init1(IN_CLOEXEC));

	shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	must(mkdir("/tmp/watched", 0755));
	must(inotify_add_watch(in, "/tmp/watched", IN_CREATE));
	if (must(fork()) == 0)
		make("/tmp/watched");
	if (must(fork()) == 0)
		read_late(in);
	while (cr_wait()) {
		int before = shared->seen;

		for (int ms = 0; shared->seen < before + 3; ms++) {
			check(ms < 5000, "no events come");
			cr_msleep(1);
		}
		check(!shared->wrong, "another event than was due");
	}
	_exit(0);
}
