/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/restorer.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/meeting.h"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static volatile sig_atomic_t restorer_pid;

static void pass_on(int sig)
{
	if (restorer_pid > 0)
		kill(restorer_pid, SIGTERM);
	(void)sig;
}

static void tell(struct meeting *m, const struct image_statistics *stats, int result, const struct error *e)
{
	struct meeting_report r = {
		.type = result < 0 ? MEETING_HAS_FAILED : MEETING_IS_RUNNING, .stats = *stats};

	if (m->report < 0)
		return;
	if (result < 0)
		r.error = *e;
	(void)!send(m->report, &r, sizeof(r), MSG_NOSIGNAL);
}

/* It ends gently with its command, until it goes on alone. In a session of its own the terminal's signals don't reach it. */
static int begin(pid_t command, struct error *e)
{
	sigset_t term;

	setsid();
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		signal(signals[i], SIG_DFL);
	/* Held back, until the container's creation looks for it. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &term, NULL) < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		return error_errno(e, -errno, "the restoring process");
	return getppid() == command ? 0 : error_set(e, -ECANCELED, ERROR_SYSTEM, "the command was killed");
}

static _Noreturn void restorer(const struct restore_options *o, pid_t command)
{
	struct meeting *m = o->meeting;
	struct image_statistics stats = {};
	struct container *c = NULL;
	struct error e = {};
	int r = begin(command, &e);

	prctl(PR_SET_NAME, "stasis-restorer");
	if (r == 0)
		r = restore_run(o, &c, &stats, &e);
	tell(m, &stats, r, &e);
	_exit(r < 0);
}

static int listen_to(int fd, pid_t pid, struct image_statistics *stats, struct error *e)
{
	struct meeting_report r = {};
	ssize_t n;
	int status = 0;

	do
		n = recv(fd, &r, sizeof(r), 0);
	while (n < 0 && errno == EINTR);
	if (n == sizeof(r) && r.type == MEETING_IS_READY)
		return 0;
	/* Its end is the moment when init has got another parent. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(r))
		return error_set(e, -ECANCELED, ERROR_SYSTEM,
			"the restoring process died of signal %d: delete what is left of the container",
			WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	if (stats)
		*stats = r.stats;
	if (r.type != MEETING_HAS_FAILED)
		return 1;
	r.error.message[sizeof(r.error.message) - 1] = '\0';
	*e = r.error;
	return r.error.code < 0 ? r.error.code : -EIO;
}

int restorer_run(const struct restore_options *o, struct image_statistics *stats, struct error *e)
{
	struct sigaction pass = {.sa_handler = pass_on}, old[ARRAY_SIZE(signals)];
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF;
	pid_t command = getpid(), pid;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(e, -errno, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	restorer_pid = 0;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], NULL, &old[i]) == 0 && old[i].sa_handler != SIG_IGN)
			sigaction(signals[i], &pass, NULL);
	pid = fork();
	if (pid == 0) {
		close_p(&ours);
		o->meeting->report = theirs;
		trace_process("restorer");
		restorer(o, command);
	}
	restorer_pid = pid;
	close_p(&theirs);
	meeting_close(o->meeting); /* it is the restorer's */
	r = pid < 0 ? error_errno(e, -errno, "fork") : listen_to(ours, pid, stats, e);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &old[i], NULL);
	restorer_pid = 0;
	return r;
}
