/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits in a pseudo terminal. Facts of the kernel's n_tty.c and pty.c that this rests on:
 * - A change of ICANON makes one line of all that waits, so lines are read in canonical mode, and written in it again.
 * - A change from IXON to none lets a stopped terminal go on, so IXON stays as it is.
 * - poll(2) and read(2) that find nothing first let the line discipline take what has been written.
 * - Bytes behind VLNEXT go into the queue without any meaning.
 */
#include "linux/tty-data.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(struct termios2) == TTY_TERMIOS, "struct termios2");

/* Special characters while lines are written: any will do, as data that is equal to them is escaped. */
enum { NEXT = 1, END_OF_FILE = 4, STOP = 19 };

int tty_open_again(int slave)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", slave);
	fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int tty_open_slave_of(int master, int flags)
{
	int locked = 0, unlock = 0, fd;

	if (ioctl(master, TIOCGPTLCK, &locked) < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	fd = ioctl(master, TIOCGPTPEER, flags | O_NOCTTY);
	fd = fd < 0 ? -errno : fd;
	if (locked)
		(void)!ioctl(master, TIOCSPTLCK, &locked);
	return fd;
}

static bool ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, 0) > 0 && (p.revents & events);
}

/* Waits for the kernel's worker, which moves data from one end to the other: microseconds, on a busy machine more. */
static bool becomes(int fd, short events, bool want)
{
	for (int i = 0; i < 5000; i++) {
		struct timespec t = {0, i < 100 ? 10000 : 1000000};

		if (ready(fd, events) == want)
			return true;
		nanosleep(&t, NULL);
	}
	return false;
}

/* No byte has a meaning, none is changed and none is echoed. */
static struct termios2 plain(const struct tty_data *t, unsigned canonical)
{
	struct termios2 s;

	memcpy(&s, t->termios, sizeof(s));
	s.c_iflag &= IXON;
	s.c_oflag = 0;
	s.c_lflag = canonical;
	memset(s.c_cc, 0, sizeof(s.c_cc));
	s.c_cc[VMIN] = 1;
	return s;
}

static bool is_canonical(const struct tty_data *t)
{
	struct termios2 s;

	memcpy(&s, t->termios, sizeof(s));
	return s.c_lflag & ICANON;
}

/* ---- taking ---- */

/* What has been read goes behind what the line discipline had, or, where that is full, to the raw data. */
static int keep(struct tty_data *t, const uint8_t *p, size_t n, unsigned marks)
{
	size_t room = TTY_DISCIPLINE - MIN(t->n_input + marks, (unsigned)TTY_DISCIPLINE), fits = MIN(n, room);

	if (n - fits > sizeof(t->raw) - t->n_raw)
		return -E2BIG;
	memcpy(t->input + t->n_input, p, fits);
	t->n_input += fits;
	memcpy(t->raw + t->n_raw, p + fits, n - fits);
	t->n_raw += n - fits;
	return 0;
}

/* End-of-file marks take a place in the queue, too. */
static unsigned count_marks(const struct tty_data *t)
{
	struct termios2 s;
	unsigned marks = 0;
	size_t at = 0;

	memcpy(&s, t->termios, sizeof(s));
	for (uint32_t i = 0; i < t->n_lines; at += t->lines[i++]) {
		uint8_t last = t->lines[i] ? t->input[at + t->lines[i] - 1] : 0;

		marks += last == 0 || (last != '\n' && last != s.c_cc[VEOL] && last != s.c_cc[VEOL2]);
	}
	return marks;
}

static int take_lines(int slave, struct tty_data *t)
{
	uint8_t buf[TTY_DISCIPLINE + 1];

	while (ready(slave, POLLIN)) {
		ssize_t n = read(slave, buf, sizeof(buf));
		unsigned marks = count_marks(t), before = t->n_input;
		int r;

		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		r = keep(t, buf, n, marks);
		if (r < 0)
			return r;
		/* Else its end has come from what was not worked off. */
		if (t->n_input - before == (size_t)n && before + n + marks <= TTY_DISCIPLINE &&
			t->n_lines < ARRAY_SIZE(t->lines))
			t->lines[t->n_lines++] = n;
	}
	return 0;
}

static int take_bytes(int slave, struct tty_data *t)
{
	unsigned marks = count_marks(t);
	uint8_t buf[TTY_DISCIPLINE + 1];

	for (;;) {
		ssize_t n = read(slave, buf, sizeof(buf));
		int r;

		if (n <= 0)
			return n < 0 && errno != EAGAIN ? -errno : 0;
		r = keep(t, buf, n, marks);
		if (r < 0)
			return r;
	}
}

static int take_input(int slave, struct tty_data *t)
{
	struct termios2 s = plain(t, is_canonical(t) ? ICANON : 0);
	int r;

	if (ioctl(slave, TCSETS2, &s) < 0)
		return -errno;
	if (is_canonical(t)) {
		r = take_lines(slave, t);
		if (r < 0)
			return r;
		s.c_lflag = 0;
		if (ioctl(slave, TCSETS2, &s) < 0)
			return -errno;
	}
	return take_bytes(slave, t);
}

static int take_output(int master, struct tty_data *t)
{
	while (ready(master, POLLIN)) {
		ssize_t n = read(master, t->output + t->n_output, sizeof(t->output) - t->n_output);

		if (n <= 0)
			return n < 0 && errno == EIO ? 0 : -EIO; /* EIO: no slave is open */
		t->n_output += n;
		if (t->n_output == sizeof(t->output))
			return -E2BIG;
	}
	return 0;
}

/* There is room for output now, unless it is stopped, or (without a master) nobody has read it. */
static enum tty_stop find_stop(int slave)
{
	if (ready(slave, POLLOUT))
		return TTY_FLOWS;
	if (ioctl(slave, TCXONC, TCOON) == 0 && ready(slave, POLLOUT))
		return TTY_STOPPED_BY_CALL;
	if (ioctl(slave, TCXONC, TCOOFF) == 0 && ioctl(slave, TCXONC, TCOON) == 0 && ready(slave, POLLOUT))
		return TTY_STOPPED_BY_CHAR;
	return TTY_FLOWS;
}

int tty_take(int slave, int master, struct tty_data *t)
{
	int off = 0, packet = 0, r = 0;

	t->n_lines = t->n_input = t->n_raw = t->n_output = 0;
	t->stop = TTY_FLOWS;
	if (ioctl(slave, TCGETS2, t->termios) < 0)
		return -errno;
	/* In packet mode changes of the settings would be told, and each read begins with a byte that is no data. */
	if (master >= 0 && (ioctl(master, TIOCGPKT, &packet) < 0 || ioctl(master, TIOCPKT, &off) < 0))
		return -errno;
	t->packet = packet;
	if (master >= 0)
		r = take_output(master, t);
	if (r == 0)
		t->stop = find_stop(slave);
	return r == 0 ? take_input(slave, t) : r;
}

/* ---- putting ---- */

static int write_all_to(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno != EAGAIN)
			return -errno;
		if (k <= 0 && !becomes(fd, POLLOUT, true))
			return -ENOSPC;
		p += MAX(k, 0);
		n -= MAX(k, 0);
	}
	return 0;
}

/* Into the input queue: what is written to the master, or, as this is not at hand, typed for it. */
static int type(int slave, int master, const uint8_t *p, size_t n)
{
	if (master >= 0)
		return write_all_to(master, p, n);
	for (size_t i = 0; i < n; i++)
		if (ioctl(slave, TIOCSTI, p + i) < 0)
			return -errno;
	return 0;
}

static int type_stop(int slave, int master)
{
	uint8_t stop = STOP;
	int r = type(slave, master, &stop, 1);

	return r == 0 && !becomes(slave, POLLOUT, false) ? -ETIMEDOUT : r;
}

static int start(int slave)
{
	return ioctl(slave, TCXONC, TCOOFF) < 0 || ioctl(slave, TCXONC, TCOON) < 0 ? -errno : 0;
}

static int wait_for_bytes(int slave, uint32_t want)
{
	int have = 0;

	for (int i = 0; i < 5000; i++) {
		struct timespec t = {0, i < 100 ? 10000 : 1000000};

		if (ioctl(slave, FIONREAD, &have) < 0)
			return -errno;
		if ((uint32_t)have >= want)
			return 0;
		nanosleep(&t, NULL);
	}
	return -ETIMEDOUT;
}

static size_t escape(uint8_t *to, uint8_t c, const struct termios2 *s)
{
	bool special = c == '\n' || c == NEXT || c == END_OF_FILE || c == STOP ||
		       (c && (c == s->c_cc[VEOL] || c == s->c_cc[VEOL2]));

	if (special)
		*to++ = NEXT;
	*to = c;
	return special ? 2 : 1;
}

/* One line, or what is not one yet. An end that the line does not bring itself was an end-of-file mark. */
static int type_line(
	int slave, int master, const uint8_t *p, size_t n, bool complete, const struct termios2 *s)
{
	uint8_t buf[2 * TTY_DISCIPLINE + 1];
	bool own_end = complete && n > 0 && p[n - 1] &&
		       (p[n - 1] == '\n' || p[n - 1] == s->c_cc[VEOL] || p[n - 1] == s->c_cc[VEOL2]);
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		if (own_end && i == n - 1)
			buf[len++] = p[i];
		else
			len += escape(buf + len, p[i], s);
	}
	if (complete && !own_end)
		buf[len++] = END_OF_FILE;
	return type(slave, master, buf, len);
}

static int put_lines(int slave, int master, const struct tty_data *t)
{
	struct termios2 s = plain(t, ICANON | IEXTEN), was;
	uint32_t at = 0, marks = count_marks(t);
	int r = 0;

	memcpy(&was, t->termios, sizeof(was));
	s.c_iflag = IXON;
	s.c_cc[VLNEXT] = NEXT;
	s.c_cc[VEOF] = END_OF_FILE;
	s.c_cc[VSTOP] = STOP;
	s.c_cc[VEOL] = was.c_cc[VEOL];
	s.c_cc[VEOL2] = was.c_cc[VEOL2];
	if (ioctl(slave, TCSETS2, &s) < 0)
		return -errno;
	for (uint32_t i = 0; i < t->n_lines && r == 0; at += t->lines[i++])
		r = type_line(slave, master, t->input + at, t->lines[i], true, &s);
	if (r == 0)
		r = type_line(slave, master, t->input + at, t->n_input - at, false, &s);
	if (r < 0 || master < 0)
		return r;
	/* All has come through once the stop behind it has. It does not where the queue is full to the last byte. */
	if (t->n_input + marks >= TTY_DISCIPLINE)
		return wait_for_bytes(slave, at);
	r = type_stop(slave, master);
	return r == 0 ? start(slave) : r;
}

static int put_input(int slave, int master, const struct tty_data *t)
{
	struct termios2 s = plain(t, 0);
	int r;

	if (t->n_input == 0 && t->n_lines == 0)
		return 0;
	if (is_canonical(t))
		return put_lines(slave, master, t);
	s.c_iflag = 0;
	if (ioctl(slave, TCSETS2, &s) < 0)
		return -errno;
	r = type(slave, master, t->input, t->n_input);
	return r == 0 && master >= 0 ? wait_for_bytes(slave, t->n_input) : r;
}

static int put_stop(int slave, int master, const struct tty_data *t)
{
	struct termios2 s = plain(t, 0);

	if (t->stop == TTY_STOPPED_BY_CALL)
		return ioctl(slave, TCXONC, TCOOFF) < 0 ? -errno : 0;
	if (t->stop == TTY_FLOWS)
		return 0;
	s.c_lflag = is_canonical(t) ? ICANON : 0; /* as it is */
	s.c_iflag = IXON;
	s.c_cc[VSTOP] = STOP;
	if (ioctl(slave, TCSETS2, &s) < 0)
		return -errno;
	return type_stop(slave, master);
}

static int put_all(int slave, int master, const struct tty_data *t)
{
	struct termios2 s = plain(t, 0);
	int on = 1, r = 0;

	if (ioctl(slave, TCSETS2, &s) < 0)
		return -errno;
	if (t->n_output)
		r = write_all_to(slave, t->output, t->n_output);
	if (r == 0)
		r = put_input(slave, master, t);
	if (r == 0)
		r = put_stop(slave, master, t);
	if (ioctl(slave, TCSETS2, t->termios) < 0 && r == 0)
		r = -errno;
	if (r == 0 && t->n_raw)
		r = type(slave, master, t->raw, t->n_raw);
	if (t->packet && ioctl(master, TIOCPKT, &on) < 0 && r == 0)
		r = -errno;
	return r;
}

int tty_put(int slave, int master, const struct tty_data *t)
{
	int flags = master < 0 ? 0 : fcntl(master, F_GETFL), r;

	/* A program's own description: it may block. */
	if (master >= 0 && !(flags & O_NONBLOCK) && fcntl(master, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	r = put_all(slave, master, t);
	if (master >= 0 && !(flags & O_NONBLOCK))
		(void)!fcntl(master, F_SETFL, flags);
	return r;
}
