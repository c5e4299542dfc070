/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pseudo terminals: numbers with gaps, settings, size, owner and mode of the node, what waits in both directions and both
 * modes, the end of which is still being typed, descriptions shared and not, stopped output, packet mode, a locked
 * one, an exclusive one, one without a slave, one whose slave was closed, one that has hung up.
 */
/* cr: modes=once,cycles,running,again,userns */
#include "cr.h"

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

enum { PAIRS = 8 };
static int master[PAIRS], slave[PAIRS];

static int number(int m)
{
	int n;

	must(ioctl(m, TIOCGPTN, &n));
	return n;
}

static void make_pairs(void)
{
	int spare[3], m;

	for (int i = 0; i < 3; i++)
		spare[i] = must(posix_openpt(O_RDWR | O_NOCTTY));
	for (int i = 0; i < PAIRS; i++)
		must(openpty(&master[i], &slave[i], NULL, NULL, NULL));
	for (int i = 0; i < 3; i++)
		close(spare[i]);
	/* One whose slave nobody has opened, at the lowest number. */
	m = must(posix_openpt(O_RDWR | O_NOCTTY));
	must(grantpt(m));
	check(number(m) == 0, "the spare numbers are free: %d", number(m));
}

static void typed(int i, const char *text, size_t n)
{
	check(write(master[i], text, n) == (ssize_t)n, "type: %m");
	cr_msleep(30);
}

static void set_lflag(int i, tcflag_t off)
{
	struct termios t;

	must(tcgetattr(slave[i], &t));
	t.c_lflag &= ~off;
	t.c_cc[VEOL] = '!';
	must(tcsetattr(slave[i], TCSANOW, &t));
}

static int polled(int fd, int events)
{
	struct pollfd p = {.fd = fd, .events = (short)events};

	must(poll(&p, 1, 0));
	return p.revents;
}

#define line_is(fd, want) read_is(fd, want, sizeof(want) - 1)
static void read_is(int fd, const char *want, size_t n)
{
	char buf[8192];
	ssize_t k;

	check(polled(fd, POLLIN) & POLLIN, "nothing to be read, not \"%.*s\"", (int)n, want);
	k = must(read(fd, buf, sizeof(buf)));
	check(k == (ssize_t)n && memcmp(buf, want, n) == 0, "read \"%.*s\" (%zd), not \"%.*s\" (%zu)", (int)k,
		buf, k, (int)n, want, n);
}

/* 0: lines and half a line, echo off. 1: raw, with every byte there is. 2: output for the master, and an echo. */
static void set_data(void)
{
	struct termios t;
	char all[256];

	set_lflag(0, ECHO);
	typed(0, "one\ntwo\004three!\004half", 19);
	must(tcgetattr(slave[1], &t));
	cfmakeraw(&t);
	must(tcsetattr(slave[1], TCSANOW, &t));
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	typed(1, all, sizeof(all));
	check(write(slave[2], "a\tb\n", 4) == 4, "output");
	typed(2, "echo", 4);
	cr_msleep(20);
}

static void check_data(void)
{
	char all[256];

	check(polled(slave[3], POLLIN) == 0 && polled(master[3], POLLIN) == 0, "an empty one is not empty");
	line_is(slave[0], "one\n");
	line_is(slave[0], "two");
	line_is(slave[0], "three!");
	line_is(slave[0], "");
	check(polled(slave[0], POLLIN) == 0, "half a line is none");
	typed(0, "\177\177-way\n", 7);
	line_is(slave[0], "ha-way\n");
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	read_is(slave[1], all, 256);
	line_is(master[2], "a\tb\r\necho");
	typed(2, "d\n", 2);
	line_is(slave[2], "echod\n");
	line_is(master[2], "d\r\n");
	typed(0, "one\ntwo\004three!\004half", 19);
	typed(1, all, sizeof(all));
	check(write(slave[2], "a\tb\n", 4) == 4, "output");
	typed(2, "echo", 4);
}

static void set_states(void)
{
	struct winsize size = {24, 80, 640, 480};
	int on = 1;

	must(ioctl(slave[3], TIOCSWINSZ, &size));
	must(fchown(slave[3], 12, 34));
	must(fchmod(slave[3], 0604));
	check(write(slave[4], "x", 1) == 1, "output");
	must(tcflow(slave[4], TCOOFF));
	must(ioctl(master[5], TIOCPKT, &on));
	check(write(slave[5], "data", 4) == 4, "output");
	must(ioctl(master[6], TIOCSPTLCK, &on));
	must(ioctl(master[6], TIOCEXCL));
	must(ioctl(slave[6], TIOCEXCL));
}

static void check_states(void)
{
	struct winsize size;
	struct stat st;
	int n = 0;

	must(ioctl(master[3], TIOCGWINSZ, &size));
	check(size.ws_row == 24 && size.ws_col == 80 && size.ws_xpixel == 640 && size.ws_ypixel == 480,
		"the size");
	must(fstat(slave[3], &st));
	check(st.st_uid == 12 && st.st_gid == 34 && (st.st_mode & 07777) == 0604,
		"owner and mode of the node: %u:%u %o", st.st_uid, st.st_gid, st.st_mode);
	check(polled(slave[4], POLLOUT) == 0, "the output is not stopped");
	typed(4, "\021", 1);
	check(polled(slave[4], POLLOUT) == 0, "^Q starts what tcflow has stopped");
	line_is(master[5], "\0data");
	check(write(slave[5], "data", 4) == 4, "output: %m");
	must(ioctl(master[6], TIOCGPTLCK, &n));
	check(n == 1, "it is not locked");
	must(ioctl(master[6], TIOCGEXCL, &n));
	check(n == 1, "the master is not exclusive");
	n = 0;
	must(ioctl(slave[6], TIOCGEXCL, &n));
	check(n == 1, "the slave is not exclusive");
	check(polled(master[7], 0) == POLLHUP, "the slave was closed: %d", polled(master[7], 0));
}

int main(void)
{
	int numbers[PAIRS], hung_master, hung, again, shared, m;
	struct termios t;

	make_pairs();
	must(openpty(&hung_master, &hung, NULL, NULL, NULL));
	again = must(open(ttyname(slave[3]), O_RDONLY | O_NOCTTY | O_NONBLOCK));
	shared = must(dup(slave[3]));
	m = must(open("/dev/ptmx", O_RDWR));
	close(hung_master);
	check(read(hung, &t, 1) == 0, "hung up: %m");
	close(slave[7]);
	set_data();
	set_states();
	for (int i = 0; i < PAIRS; i++)
		numbers[i] = number(master[i]);
	if (cr_fork("child") == 0) {
		while (cr_wait())
			check(number(master[3]) == numbers[3], "the child's master");
		_exit(0);
	}
	while (cr_wait()) {
		for (int i = 0; i < PAIRS; i++)
			check(number(master[i]) == numbers[i], "number %d was %d", number(master[i]),
				numbers[i]);
		must(fcntl(shared, F_SETFL, O_NONBLOCK));
		check(fcntl(slave[3], F_GETFL) & O_NONBLOCK, "the description is not shared any more");
		must(fcntl(shared, F_SETFL, 0));
		check(fcntl(again, F_GETFL) & O_NONBLOCK, "another description is shared");
		check((fcntl(again, F_GETFL) & O_ACCMODE) == O_RDONLY, "opened for reading");
		check_data();
		check_states();
		check(polled(m, 0) == 0, "nobody has opened the slave: %d", polled(m, 0));
		check(read(hung, &t, 1) == 0 && write(hung, "x", 1) == -1 && errno == EIO,
			"it has not hung up: %m");
	}
	return 0;
}
