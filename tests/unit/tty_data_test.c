/* SPDX-License-Identifier: Apache-2.0 */
/* Data that waits in a pseudo terminal is taken out and put back, unnoticed (linux/tty-data.h). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "linux/tty-data.h"
#include "tap.h"

static int master, slave, again;
static struct tty_data data;

static struct termios open_pair(void)
{
	struct termios t;

	if (openpty(&master, &slave, NULL, NULL, NULL) < 0 || tcgetattr(slave, &t) < 0)
		exit(77);
	again = tty_open_again(slave);
	return t;
}

static void close_pair(void)
{
	close(again);
	close(slave);
	close(master);
}

static bool ready_in(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static void typed(const char *text, size_t n)
{
	CHECK(write(master, text, n) == (ssize_t)n, "typed %zu bytes", n);
	usleep(20000);
}

static void take_and_put(int with_master)
{
	int r = tty_take(again, with_master ? master : -EBADF, &data);

	CHECK(r == 0, "taken: %d", r);
	r = tty_put(again, with_master ? master : -EBADF, &data);
	CHECK(r == 0, "put back: %d", r);
}

static void line_is(const char *want, size_t n)
{
	char buf[8192];
	ssize_t k = read(again, buf, sizeof(buf));

	CHECK(k == (ssize_t)n && memcmp(buf, want, n) == 0, "a line of %zu bytes: read %zd (%.*s)", n, k,
		(int)MAX(k, 0), buf);
}

static void canonical(int with_master)
{
	struct termios t = open_pair();

	t.c_lflag &= ~ECHO;
	t.c_cc[VEOL] = '!';
	tcsetattr(slave, TCSANOW, &t);
	/* A line; one that ^D ends; one with an escaped newline and ^D in it; the other end; nothing but ^D; half a line. */
	typed("first\nsecond\004th\026\ni\026\004rd\nfour!\004half\021", 34);
	take_and_put(with_master);
	line_is("first\n", 6);
	line_is("second", 6);
	line_is("th\ni\004rd\n", 8);
	line_is("four!", 5);
	line_is("", 0);
	CHECK(read(again, &t, 1) == -1 && errno == EAGAIN, "half a line is none");
	typed(" more\n", 6);
	line_is("half more\n", 10);
	close_pair();
}

static void erase_in_half_a_line(int with_master)
{
	struct termios t = open_pair();

	t.c_lflag &= ~ECHO;
	tcsetattr(slave, TCSANOW, &t);
	typed("ab\177c", 4);
	take_and_put(with_master);
	typed("\177d\n", 3);
	line_is("ad\n", 3);
	close_pair();
}

static void raw(int with_master)
{
	char all[256], back[300];
	struct termios t = open_pair();
	int n;

	cfmakeraw(&t);
	tcsetattr(slave, TCSANOW, &t);
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	typed(all, sizeof(all));
	take_and_put(with_master);
	n = read(again, back, sizeof(back));
	CHECK(n == 256 && memcmp(all, back, 256) == 0, "all bytes come back: %d", n);
	close_pair();
}

static void much(void)
{
	static char text[9000], back[9000];
	struct termios t = open_pair();
	size_t n = 0;

	cfmakeraw(&t);
	tcsetattr(slave, TCSANOW, &t);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 23);
	typed(text, sizeof(text));
	CHECK(write(again, text, sizeof(text)) == sizeof(text), "output");
	usleep(20000);
	take_and_put(1);
	CHECK(data.n_input == TTY_DISCIPLINE && data.n_raw == sizeof(text) - TTY_DISCIPLINE,
		"worked off %u, raw %u", data.n_input, data.n_raw);
	for (ssize_t k; n < sizeof(text) && (k = read(again, back + n, sizeof(back) - n)) > 0;)
		n += (size_t)k;
	CHECK(n == sizeof(text) && memcmp(text, back, n) == 0, "the input comes back: %zu", n);
	for (n = 0; n < sizeof(text);) {
		ssize_t k = read(master, back + n, sizeof(back) - n);

		if (k <= 0)
			break;
		n += (size_t)k;
	}
	CHECK(n == sizeof(text) && memcmp(text, back, n) == 0, "the output comes back: %zu", n);
	close_pair();
}

/* What was not worked off is echoed once, not twice and not never. */
static void echo_of_raw(void)
{
	static char text[4000 + 200 + 1], line[8192], back[20000];
	struct termios t = open_pair(), plain = t;
	size_t n = 0, echoed = 0;

	for (size_t i = 0; i < 4000; i++)
		text[i] = i % 100 == 99 ? '\n' : 'x';
	plain.c_lflag &= ~ECHO;
	tcsetattr(slave, TCSANOW, &plain);
	typed(text, 4000);
	t.c_oflag &= ~OPOST;
	tcsetattr(slave, TCSANOW, &t);
	memset(text + 4000, 'y', 200);
	text[4200] = '\n';
	typed(text + 4000, 201);
	take_and_put(1);
	for (int idle = 0; idle < 50;) {
		ssize_t k = ready_in(again) ? read(again, line, sizeof(line)) : 0,
			got = ready_in(master) ? read(master, back, sizeof(back)) : 0;

		n += (size_t)MAX(k, 0);
		idle = k > 0 || got > 0 ? 0 : idle + 1;
		for (ssize_t i = 0; i < got; i++)
			echoed += back[i] == 'y';
		usleep(1000);
	}
	CHECK(n == sizeof(text), "read %zu of %zu bytes", n, sizeof(text));
	CHECK(echoed == 200, "%zu of 200 were echoed", echoed);
	close_pair();
}

static void stops(void)
{
	struct termios t = open_pair();
	struct pollfd p = {.fd = again, .events = POLLOUT};
	char c = 021;

	CHECK(write(again, "out", 3) == 3, "output");
	tcflow(slave, TCOOFF);
	take_and_put(1);
	CHECK(data.stop == TTY_STOPPED_BY_CALL && poll(&p, 1, 0) == 0, "stopped by a call");
	typed(&c, 1);
	CHECK(poll(&p, 1, 0) == 0, "^Q does not start what a call has stopped");
	tcflow(slave, TCOON);
	CHECK(poll(&p, 1, 0) == 1, "it flows");
	c = 023;
	typed(&c, 1);
	take_and_put(1);
	CHECK(data.stop == TTY_STOPPED_BY_CHAR && poll(&p, 1, 0) == 0, "stopped by ^S");
	CHECK(read(master, &t, sizeof(t)) == 3, "the output is there");
	c = 021;
	typed(&c, 1);
	CHECK(poll(&p, 1, 0) == 1, "it flows");
	take_and_put(1);
	CHECK(data.stop == TTY_FLOWS && poll(&p, 1, 0) == 1, "and still does");
	close_pair();
}

static void packet(void)
{
	int on = 1;
	char buf[100];

	open_pair();
	ioctl(master, TIOCPKT, &on);
	CHECK(write(again, "out", 3) == 3, "output");
	take_and_put(1);
	CHECK(read(master, buf, sizeof(buf)) == 4 && !memcmp(buf, "\0out", 4),
		"packet mode, nothing else is told");
	close_pair();
}

static void by_master(void)
{
	canonical(1);
	erase_in_half_a_line(1);
	raw(1);
}

/* Without the master (a container's console) it is typed by TIOCSTI, which not everybody may. */
static void by_typing(void)
{
	if (geteuid() != 0)
		return;
	canonical(0);
	erase_in_half_a_line(0);
	raw(0);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"by the master", by_master},
		{"by TIOCSTI", by_typing},
		{"more than the line discipline takes", much},
		{"what was not worked off is echoed once", echo_of_raw},
		{"stopped output", stops},
		{"packet mode", packet},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
