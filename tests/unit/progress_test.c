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
	p = progress_to(fds[1], PROGRESS_AUTO);
	CHECK(!progress_is_shown(&p));
	progress_start(&p, "memory", "Writing", 100);
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
	p = progress_to(fd, PROGRESS_AUTO);
	CHECK(progress_is_shown(&p));
	progress_start(&p, "memory", "Writing memory", UINT64_C(1) << 30);
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

/* Two with one line: it says what both have done, and goes when the last one has ended. */
static void test_shares(void)
{
	struct progress_shares shares = {};
	struct progress a, b;
	char buf[4096];
	int master = -1, fd = open_terminal(&master);

	if (!CHECK(fd >= 0))
		return;
	a = b = progress_to(fd, PROGRESS_TTY);
	a.shares = b.shares = &shares;
	b.self = 1;
	progress_start(&a, "memory", "Writing memory", UINT64_C(1) << 30);
	progress_start(&b, "memory", "Writing memory", UINT64_C(3) << 30);
	a.start_ns -= UINT64_C(2000000000);
	b.start_ns -= UINT64_C(2000000000);
	progress_update(&a, UINT64_C(1) << 29);
	CHECK(shown(master, buf, sizeof(buf)) < 0, "nothing in the first half second");
	shares.next_ns = 0;
	progress_update(&b, UINT64_C(1) << 29);
	CHECK(shown(master, buf, sizeof(buf)) > 0 && strstr(buf, "Writing memory: 25%, 1.0 GiB of 4.0 GiB"),
		"%s", buf);
	progress_update(&a, UINT64_C(3) << 28);
	CHECK(shown(master, buf, sizeof(buf)) < 0, "one line in a tenth of a second, whoever writes it");
	progress_update(&a, UINT64_C(1) << 30);
	progress_stop(&a);
	CHECK(shown(master, buf, sizeof(buf)) < 0, "the other one goes on");
	shares.next_ns = 0;
	progress_update(&b, UINT64_C(1) << 30);
	CHECK(shown(master, buf, sizeof(buf)) > 0 && strstr(buf, "50%, 2.0 GiB of 4.0 GiB"), "%s", buf);
	progress_stop(&b);
	CHECK(shown(master, buf, sizeof(buf)) > 0 && !strcmp(buf, "\r\033[K"), "the line is removed");
	close(fd);
	close(master);
}

static void test_json(void)
{
	struct progress p;
	char buf[4096];
	int fds[2];

	CHECK(pipe2(fds, O_NONBLOCK) == 0);
	p = progress_to(fds[1], PROGRESS_JSON);
	progress_update(&p, 7); /* between phases: nothing */
	progress_start(&p, "freeze", NULL, 0);
	progress_start(&p, "memory", "Writing memory", 4000); /* ends the one before */
	CHECK(shown(fds[0], buf, sizeof(buf)) > 0 &&
			strstr(buf, "{\"phase\": \"freeze\", \"bytes\": 0, \"us\": 0, \"done\": false}\n{") ==
				buf &&
			strstr(buf,
				"\"done\": true}\n{\"phase\": \"memory\", \"bytes\": 0, \"total\": 4000, "),
		"%s", buf);
	progress_update(&p, 500);
	CHECK(shown(fds[0], buf, sizeof(buf)) < 0, "not more often than ten times a second");
	p.start_ns -= UINT64_C(2000000000);
	p.next_ns = 0;
	progress_update(&p, 1000);
	CHECK(shown(fds[0], buf, sizeof(buf)) > 0 &&
			strstr(buf, "\"bytes\": 1000, \"total\": 4000, \"rate\": ") &&
			strstr(buf, ", \"left_us\": 6") && strstr(buf, "\"done\": false}\n"),
		"%s", buf);
	progress_stop(&p);
	CHECK(shown(fds[0], buf, sizeof(buf)) > 0 && strstr(buf, "\"left_us\": 0, ") &&
			strstr(buf, "\"done\": true}\n"),
		"%s", buf);
	progress_stop(&p);
	CHECK(shown(fds[0], buf, sizeof(buf)) < 0);
	close(fds[0]);
	close(fds[1]);
}

/* Nobody reads: lines are missed, none is cut off. */
static void test_busy_reader(void)
{
	struct progress p;
	char buf[8192];
	int fds[2];
	ssize_t n;

	CHECK(pipe2(fds, O_NONBLOCK) == 0 && fcntl(fds[1], F_SETFL, 0) == 0);
	alarm(10);
	p = progress_to(fds[1], PROGRESS_JSON);
	progress_start(&p, "memory", "Writing", 1000);
	for (int i = 0; i < 5000; i++) {
		p.next_ns = 0;
		progress_update(&p, 500);
	}
	progress_stop(&p);
	alarm(0);
	while ((n = read(fds[0], buf, sizeof(buf))) > 0)
		CHECK(n == sizeof(buf) || buf[n - 1] == '\n');
	close(fds[0]);
	close(fds[1]);
}

static void test_modes(void)
{
	enum progress_mode mode = PROGRESS_TTY;
	struct error e;

	CHECK(progress_mode_parse(NULL, &mode, &e) == 0 && mode == PROGRESS_AUTO);
	CHECK(progress_mode_parse("json", &mode, &e) == 0 && mode == PROGRESS_JSON);
	CHECK(progress_mode_parse("none", &mode, &e) == 0 && mode == PROGRESS_NONE);
	CHECK(progress_mode_parse("JSON", &mode, &e) == -EINVAL && e.kind == ERROR_USAGE &&
		mode == PROGRESS_NONE);
}

/* Nobody reads from the terminal: its buffer fills, and the operation goes on. */
static void test_stopped_terminal(void)
{
	struct progress p;
	int master = -1, fd = open_terminal(&master);

	if (!CHECK(fd >= 0))
		return;
	alarm(10);
	p = progress_to(fd, PROGRESS_TTY);
	progress_start(&p, "memory", "Writing", 1000);
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
		{"several with one line", test_shares},
		{"as JSON", test_json},
		{"a reader that is busy does not block", test_busy_reader},
		{"modes", test_modes},
		{"a stopped terminal does not block", test_stopped_terminal},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
