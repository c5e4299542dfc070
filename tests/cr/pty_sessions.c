/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions with a controlling terminal: a shell with a job in the foreground, one in the background and one that is stopped, a
 * process that has let go of the terminal, /dev/tty held open; a session that has no descriptor of its terminal;
 * one whose foreground group has ended.
 */
#include "cr.h"

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave, master2, slave2, master3, slave3;
static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted += sig == SIGINT || sig == SIGWINCH ? 1 : 100;
}

/* Field 7 (tty_nr) or 8 (tpgid) of /proc/PID/stat. */
static int stat_field(pid_t pid, int field)
{
	char path[64], text[1024], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	must(cr_read(path, text, sizeof(text)));
	p = strrchr(text, ')') + 1;
	for (int i = 3; i < field; i++)
		p = strchr(p + 1, ' ');
	return atoi(p);
}

static void foreground_job(void)
{
	struct sigaction a = {.sa_handler = on_signal};

	must(sigaction(SIGINT, &a, NULL));
	must(sigaction(SIGWINCH, &a, NULL));
	must(sigaction(SIGHUP, &a, NULL));
	must(sigaction(SIGCONT, &a, NULL));
	for (int n = 0; cr_wait();) {
		check(interrupted == n, "signals on the way: %d, not %d", interrupted, n);
		/* ^C and a change of size, from the other side. */
		check(write(master, "\003", 1) == 1, "type: %m");
		n++;
		for (int i = 0; i < 2000 && interrupted < n; i++)
			cr_msleep(1);
		check(interrupted == n, "^C is no SIGINT here: %d, not %d", interrupted, n);
		must(ioctl(master, TIOCSWINSZ, &(struct winsize){(unsigned short)(20 + n), 80, 0, 0}));
		n++;
		check(interrupted == n, "a new size is no SIGWINCH here: %d, not %d", interrupted, n);
	}
	_exit(0);
}

static void background_job(void)
{
	char c;

	signal(SIGTTIN, SIG_IGN);
	while (cr_wait()) {
		check(getpgrp() == getpid() && stat_field(getpid(), 7) == stat_field(getppid(), 7),
			"its terminal");
		check(read(slave, &c, 1) == -1 && errno == EIO, "a read in the background: %m");
	}
	_exit(0);
}

static void without_terminal(void)
{
	must(ioctl(slave, TIOCNOTTY));
	while (cr_wait()) {
		check(stat_field(getpid(), 7) == 0, "it has a terminal again: %d", stat_field(getpid(), 7));
		check(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO, "it has a terminal again");
	}
	_exit(0);
}

static pid_t job(const char *tag, void (*run)(void))
{
	pid_t pid = cr_fork(tag);

	if (pid == 0) {
		setpgid(0, 0);
		run();
	}
	setpgid(pid, pid);
	return pid;
}

static void stopped_job(void)
{
	for (;;)
		pause();
}

static void shell(void)
{
	pid_t fore, back, stopped;
	int tty, n;

	close(slave2);
	close(slave3);
	signal(SIGTTOU, SIG_IGN);
	must(setsid());
	must(ioctl(slave, TIOCSCTTY, 0));
	tty = must(open("/dev/tty", O_RDWR));
	fore = job("fore", foreground_job);
	must(tcsetpgrp(slave, fore));
	back = job("back", background_job);
	job("none", without_terminal);
	stopped = must(fork());
	if (stopped == 0) {
		setpgid(0, 0);
		stopped_job();
	}
	setpgid(stopped, stopped);
	must(kill(stopped, SIGTSTP));
	must(waitpid(stopped, NULL, WUNTRACED));
	while (cr_wait()) {
		check(tcgetpgrp(slave) == fore, "the foreground group: %d", tcgetpgrp(slave));
		check(tcgetsid(slave) == getpid(), "the session: %d", tcgetsid(slave));
		check(tcgetpgrp(tty) == fore, "/dev/tty: %m");
		must(ioctl(tty, TIOCGPTN, &n) == -1 ? 0 : -1);
		must(ioctl(tty, FIONREAD, &n));
		check(write(tty, "tty\n", 4) == 4, "write to /dev/tty: %m");
		must(tcsetpgrp(tty, back));
		check(tcgetpgrp(slave) == back, "the new foreground group");
		must(tcsetpgrp(tty, fore));
		must(kill(stopped, SIGCONT));
		check(waitpid(stopped, &n, WCONTINUED) == stopped && WIFCONTINUED(n), "fg: %m");
		must(kill(stopped, SIGTSTP));
		check(waitpid(stopped, &n, WUNTRACED) == stopped && WSTOPSIG(n) == SIGTSTP, "^Z: %m");
	}
	kill(stopped, SIGKILL);
	_exit(0);
}

static void without_descriptor(void)
{
	must(setsid());
	must(ioctl(slave2, TIOCSCTTY, 0));
	close(slave2);
	close(slave3);
	if (cr_fork("inner") == 0) {
		while (cr_wait())
			close(must(open("/dev/tty", O_RDWR | O_NOCTTY)));
		_exit(0);
	}
	while (cr_wait()) {
		check(stat_field(getpid(), 7) != 0, "it has no terminal any more");
		close(must(open("/dev/tty", O_RDWR)));
	}
	_exit(0);
}

static void without_foreground(void)
{
	pid_t pid;

	close(slave2);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	must(setsid());
	must(ioctl(slave3, TIOCSCTTY, 0));
	pid = must(fork());
	if (pid == 0) {
		setpgid(0, 0);
		_exit(0);
	}
	setpgid(pid, pid);
	must(tcsetpgrp(slave3, pid));
	must(waitpid(pid, NULL, 0));
	while (cr_wait()) {
		check(tcgetpgrp(slave3) != getpgrp() && kill(-tcgetpgrp(slave3), 0) == -1,
			"a group that has ended: %d", tcgetpgrp(slave3));
		must(tcsetpgrp(slave3, getpgrp()));
		check(tcgetpgrp(slave3) == getpgrp(), "the foreground group");
		pid = must(fork());
		if (pid == 0) {
			setpgid(0, 0);
			_exit(0);
		}
		setpgid(pid, pid);
		must(tcsetpgrp(slave3, pid));
		must(waitpid(pid, NULL, 0));
	}
	_exit(0);
}

int main(void)
{
	char text[100];

	cr_not_init();
	must(openpty(&master, &slave, NULL, NULL, NULL));
	must(openpty(&master2, &slave2, NULL, NULL, NULL));
	must(openpty(&master3, &slave3, NULL, NULL, NULL));
	if (cr_fork("shell") == 0)
		shell();
	if (cr_fork("closed") == 0)
		without_descriptor();
	if (cr_fork("gone") == 0)
		without_foreground();
	close(slave2);
	while (cr_wait()) {
		struct pollfd p = {.fd = master, .events = POLLIN};

		check(ioctl(master, TIOCGPGRP, &(int){0}) == 0 && tcgetsid(master) > 1,
			"the session of the master: %m");
		check(poll(&p, 1, 2000) == 1 && read(master, text, sizeof(text)) > 0,
			"what was written to it: %m");
		p.fd = master2;
		/* Its session opens it for a moment. */
		for (int i = 0; i < 1000 && poll(&p, 1, 0) == 0; i++)
			cr_msleep(1);
		check(poll(&p, 1, 0) == 1 && (p.revents & POLLHUP), "nobody has it open: %d", p.revents);
	}
	return 0;
}
