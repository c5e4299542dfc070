/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN ignore=thread */
/*
 * A terminal whose session lives in a pid namespace of its own: the kernel has one session and one foreground group, which
 * have other numbers inside than outside. The master is held outside.
 */
#include "cr.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;
static volatile sig_atomic_t interrupted;

static void on_signal(int sig CR_UNUSED)
{
	interrupted++;
}

/* The job that has the terminal. */
static void foreground(void)
{
	pid_t self = getpid();

	signal(SIGINT, on_signal);
	for (int n = 0; cr_wait(); n++) {
		check(getpid() == self && getpgrp() == self && getsid(0) == 1, "pid %d, group %d, session %d",
			getpid(), getpgrp(), getsid(0));
		check(tcgetpgrp(slave) == self, "the foreground group is %d, not %d", tcgetpgrp(slave), self);
		check(interrupted == n, "%d signals before, not %d", interrupted, n);
		check(write(master, "\003", 1) == 1, "type: %m");
		for (int i = 0; i < 2000 && interrupted == n; i++)
			cr_msleep(1);
		check(interrupted == n + 1, "^C is no SIGINT here");
	}
	_exit(0);
}

/* The leader: the first process of the namespace. */
static void leader(void)
{
	pid_t job;

	check(getpid() == 1, "the first process has pid %d", getpid());
	must(setsid());
	must(ioctl(slave, TIOCSCTTY, 0));
	signal(SIGTTOU, SIG_IGN);
	if (must(fork()) == 0) /* so that pids differ */
		_exit(0);
	job = cr_fork("job");
	if (job == 0) {
		must(setpgid(0, 0));
		must(tcsetpgrp(slave, getpid()));
		foreground();
	}
	while (cr_wait()) {
		int tty;

		check(tcgetsid(slave) == 1, "session %d", tcgetsid(slave));
		check(tcgetpgrp(slave) == job, "foreground group %d, not %d", tcgetpgrp(slave), job);
		tty = must(open("/dev/tty", O_RDWR));
		check(tcgetpgrp(tty) == job, "by /dev/tty: %d", tcgetpgrp(tty));
		close(tty);
	}
	_exit(0);
}

int main(void)
{
	pid_t outer = cr_fork("outer");

	if (outer) {
		cr_idle();
		return 0;
	}
	must(openpty(&master, &slave, NULL, NULL, &(struct winsize){24, 80, 0, 0}));
	must(unshare(CLONE_NEWPID));
	if (cr_fork("leader") == 0)
		leader();
	while (cr_wait()) {
		struct winsize size;

		must(ioctl(master, TIOCGWINSZ, &size));
		check(size.ws_row == 24 && size.ws_col == 80, "size %dx%d", size.ws_row, size.ws_col);
	}
	_exit(0);
}
