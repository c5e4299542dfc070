/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The foreground: one poll loop over the process's pidfd, our signals and, with a terminal, its master and our stdin.
 * Only a write to our stdout waits: who stops our output stops the container's.
 * Our own terminal is in raw mode meanwhile and is put back on every way out.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"
#include "linux/procfd.h"
#include "linux/pty.h"

int foreground_begin(struct foreground *f, struct error *e)
{
	sigset_t all;

	f->notify = -EBADF;
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

struct console_size foreground_size(void)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
		return (struct console_size){0};
	return (struct console_size){size.ws_row, size.ws_col};
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

/* Ours is the pid that the service manager knows, so it is not told another. */
static void pass_ready(struct foreground *f)
{
	struct error e;

	if (!container_notify_ready(f->notify))
		return;
	f->notify = -EBADF;
	if (container_notify_host(getenv("NOTIFY_SOCKET"), 0, &e) < 0)
		log_warning("%s", e.message);
}

/* What was typed and the container has not read yet. Its terminal takes some kilobytes; to wait for more room in a write
 * would keep us from reading what the container writes, for which it may wait itself. */
struct typed {
	char buf[4096];
	size_t n;
};

/* False when the terminal takes no more. */
static bool pass_typed(struct typed *t, int master)
{
	ssize_t n = t->n ? write(master, t->buf, t->n) : 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	t->n -= (size_t)n;
	memmove(t->buf, t->buf + n, t->n);
	return true;
}

/* False at the end of our stdin, which becomes theirs. */
static bool read_typed(struct typed *t)
{
	ssize_t n = read(STDIN_FILENO, t->buf + t->n, sizeof(t->buf) - t->n);

	if (n > 0)
		t->n += (size_t)n;
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return true;
	t->buf[t->n++] = 4; /* ^D; there is room: we read only into an empty buffer */
	return false;
}

/* False at the end: EIO when the last slave is closed. Who does not read our stdout must not stop the container. */
static bool show(int master)
{
	char buf[16384];
	ssize_t n = read(master, buf, sizeof(buf));

	if (n > 0)
		(void)!write_all(STDOUT_FILENO, buf, n);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* What the program wrote before its end is still in the pty. */
static void drain(int master)
{
	struct pollfd p = {.fd = master, .events = POLLIN};

	while (master >= 0 && poll(&p, 1, 0) > 0 && p.revents & POLLIN)
		if (!show(master))
			break;
}

static int loop(struct foreground *f, pid_t pid, int pidfd, int master, struct error *e)
{
	struct typed typed = {.n = 0};
	bool more = master >= 0, open = more;

	for (;;) {
		struct pollfd p[] = {
			{.fd = pidfd, .events = POLLIN},
			{.fd = f->signals, .events = POLLIN},
			{.fd = open ? master : -1, .events = POLLIN | (typed.n ? POLLOUT : 0)},
			{.fd = open && more && !typed.n ? STDIN_FILENO : -1, .events = POLLIN},
			{.fd = f->notify, .events = POLLIN},
		};

		if (poll(p, ARRAY_SIZE(p), -1) < 0) {
			if (errno == EINTR)
				continue;
			return error_errno(e, -errno, "poll");
		}
		if (p[1].revents)
			pass_signals(f, pid, pidfd, master);
		if (p[2].revents & ~POLLOUT)
			open = show(master);
		if (p[3].revents)
			more = read_typed(&typed);
		if (open && typed.n)
			open = pass_typed(&typed, master);
		if (p[4].revents)
			pass_ready(f);
		if (p[0].revents)
			return 0;
	}
}

int foreground_wait(struct foreground *f, pid_t pid, int pidfd, int master, int *ret_status, struct error *e)
{
	bool raw = false;
	struct termios old;
	int r, status;

	if (master >= 0 && fcntl(master, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(e, -errno, "the terminal");
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
