/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The foreground: one poll loop over the process's pidfd, our signals and, with a terminal, its master and our stdin.
 * Our own terminal is in raw mode meanwhile and is put back on every way out.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "linux/procfd.h"
#include "linux/pty.h"

int foreground_begin(struct foreground *f, struct error *e)
{
	sigset_t all;

	sigfillset(&all);
	/* these are ours when we fail ourselves; and stopping is the shell's business */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGTSTP);
	sigdelset(&all, SIGTTIN);
	sigdelset(&all, SIGTTOU);
	if (sigprocmask(SIG_BLOCK, &all, &f->old_mask) < 0)
		return error_errno(e, -errno, "block signals");
	f->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	return f->signals < 0 ? error_errno(e, -errno, "signalfd") : 0;
}

void foreground_end(struct foreground *f)
{
	close_p(&f->signals);
	sigprocmask(SIG_SETMASK, &f->old_mask, NULL);
}

static void copy_size(int master)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		(void)!ioctl(master, TIOCSWINSZ, &size);
}

/* Reaps what we inherited as subreaper; the process itself stays for its pidfd. */
static void reap_orphans(pid_t but)
{
	siginfo_t si = {0};

	while (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid > 0 && si.si_pid != but) {
		waitpid(si.si_pid, NULL, WNOHANG);
		si.si_pid = 0;
	}
}

static void pass_signals(struct foreground *f, pid_t pid, int pidfd, int master)
{
	struct signalfd_siginfo s;

	while (read(f->signals, &s, sizeof(s)) == sizeof(s)) {
		if (s.ssi_signo == SIGCHLD)
			reap_orphans(pid);
		else if (s.ssi_signo == SIGWINCH && master >= 0)
			copy_size(master);
		else if (s.ssi_signo != SIGPIPE && s.ssi_signo != SIGURG)
			(void)!pidfd_kill(pidfd, s.ssi_signo);
	}
}

/* False at the end: EIO when the last slave is closed. */
static bool copy_some(int from, int to)
{
	char buf[16384];
	ssize_t n = read(from, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	return n > 0 && write_all(to, buf, n) == 0;
}

/* What the program wrote before its end is still in the pty. */
static void drain(int master)
{
	struct pollfd p = {.fd = master, .events = POLLIN};

	while (master >= 0 && poll(&p, 1, 0) > 0 && p.revents & POLLIN)
		if (!copy_some(master, STDOUT_FILENO))
			break;
}

static int loop(struct foreground *f, pid_t pid, int pidfd, int master, struct error *e)
{
	struct pollfd p[4] = {
		{.fd = pidfd, .events = POLLIN},
		{.fd = f->signals, .events = POLLIN},
		{.fd = master, .events = POLLIN},
		{.fd = master >= 0 ? STDIN_FILENO : -1, .events = POLLIN},
	};

	for (;;) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0) {
			if (errno == EINTR)
				continue;
			return error_errno(e, -errno, "poll");
		}
		if (p[1].revents)
			pass_signals(f, pid, pidfd, master);
		if (p[2].revents && !copy_some(master, STDOUT_FILENO))
			p[2].fd = -1;
		if (p[3].revents && !copy_some(STDIN_FILENO, master)) {
			char eof = 4; /* our stdin ended: so does theirs */

			p[3].fd = -1;
			(void)!write(master, &eof, 1);
		}
		if (p[0].revents)
			return 0;
	}
}

int foreground_wait(struct foreground *f, pid_t pid, int pidfd, int master, int *ret_status, struct error *e)
{
	bool raw = false;
	struct termios old;
	int r, status;

	if (master >= 0 && isatty(STDIN_FILENO)) {
		copy_size(master);
		raw = tty_make_raw(STDIN_FILENO, &old) == 0;
	}
	r = loop(f, pid, pidfd, master, e);
	if (r == 0)
		drain(master);
	if (raw)
		(void)!tty_restore(STDIN_FILENO, &old);
	if (r < 0)
		return r;
	r = pidfd_reap(pidfd, &status);
	if (r < 0)
		return error_errno(e, r, "wait for the process");
	*ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return 0;
}
