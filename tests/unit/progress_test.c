/* SPDX-License-Identifier: Apache-2.0 */
/* The progress line: silent where it should be, right where it is shown, and never blocking. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>

#include "base/progress.h"
#include "tap.h"

static int open_terminal(int *ret_master)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), fd;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return -1;
	fd = open(ptsname(master), O_RDWR | O_NOCTTY);
	*ret_master = master;
	return fd;
}

static ssize_t shown(int master, char *buf, size_t size)
{
	ssize_t n = read(master, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n;
}

static void test_no_terminal(void)
{
	struct progress p;
	int fds[2];
	char c;

	CHECK(pipe2(fds, O_NONBLOCK) == 0);
	progress_start(&p, fds[1], "Writing", 100);
	p.start_ns = p.next_ns = 0;
	progress_update(&p, 50);
	progress_stop(&p);
	CHECK(read(fds[0], &c, 1) < 0, "nothing is written to a pipe");
	close(fds[0]);
	close(fds[1]);
}

static void test_terminal(void)
{
	struct progress p;
	char buf[4096];
	int master = -1, fd = open_terminal(&master);

	if (!CHECK(fd >= 0))
		return;
	progress_start(&p, fd, "Writing memory", UINT64_C(1) << 30);
	progress_update(&p, 100);
	CHECK(shown(master, buf, sizeof(buf)) < 0, "nothing in the first half second");
	p.start_ns -= UINT64_C(2000000000);
	p.next_ns = 0;
	progress_update(&p, UINT64_C(1) << 29);
	CHECK(shown(master, buf, sizeof(buf)) > 0 &&
			strstr(buf, "Writing memory: 50%, 512 MiB of 1.0 GiB, 256 MiB/s, 2 s left"),
		"%s", buf);
	progress_update(&p, UINT64_C(3) << 28);
	CHECK(shown(master, buf, sizeof(buf)) < 0, "not more often than ten times a second");
	progress_stop(&p);
	CHECK(shown(master, buf, sizeof(buf)) > 0 && !strcmp(buf, "\r\033[K"), "the line is removed");
	progress_update(&p, 1);
	CHECK(shown(master, buf, sizeof(buf)) < 0);
	close(fd);
	close(master);
}

/* Nobody reads from the terminal: its buffer fills, and the operation goes on. */
static void test_stopped_terminal(void)
{
	struct progress p;
	int master = -1, fd = open_terminal(&master);

	if (!CHECK(fd >= 0))
		return;
	alarm(10);
	progress_start(&p, fd, "Writing", 1000);
	CHECK(tcflow(fd, TCOOFF) == 0);
	for (int i = 0; i < 5000; i++) {
		p.next_ns = 0;
		progress_update(&p, 500);
	}
	progress_stop(&p);
	alarm(0);
	close(master);
	close(fd);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"silent without a terminal", test_no_terminal},
		{"on a terminal", test_terminal},
		{"a stopped terminal does not block", test_stopped_terminal},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
