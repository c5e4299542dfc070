/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batons: a process writes its number to a pipe, forks one that goes on, and ends, hundreds of times a second. Who looks at them finds their
 * parents dead, and the only writers of the pipes are always processes that were not there a moment ago.
 * cr: ignore=all
 */
#include "cr.h"

#define BATONS 6

static int ends[BATONS];
static int64_t last[BATONS];

static void run(int fd)
{
	for (int64_t n = 1;; n++) {
		pid_t child;

		if (write(fd, &n, sizeof(n)) != sizeof(n))
			_exit(1);
		usleep(5000);
		child = fork();
		if (child != 0)
			_exit(child < 0);
	}
}

/* What has come is whole and in order; more comes. */
static void read_all(int i)
{
	int64_t before = last[i], n;
	ssize_t r = 0;

	while (last[i] < before + 3 || r > 0) {
		r = read(ends[i], &n, sizeof(n));
		if (r < 0 && errno == EAGAIN) {
			cr_msleep(1);
			continue;
		}
		check(r == sizeof(n), "read: %zd: %m", r);
		check(n == last[i] + 1, "after %lld comes %lld", (long long)last[i], (long long)n);
		last[i] = n;
	}
}

int main(void)
{
	int pipes[2];

	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < BATONS; i++) {
		must(pipe2(pipes, O_NONBLOCK));
		must(fcntl(pipes[1], F_SETPIPE_SZ, 1 << 20));
		if (must(fork()) == 0) {
			must(setsid());
			run(pipes[1]);
		}
		must(close(pipes[1]));
		ends[i] = pipes[0];
	}
	while (cr_wait())
		for (int i = 0; i < BATONS; i++)
			read_all(i);
	return 0;
}
