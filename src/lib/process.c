/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of containers: waiting for them by pidfd, whoever their parent is. */
#include <signal.h>
#include <stdio.h>

#include "base/fd.h"
#include "lib/lib-priv.h"
#include "linux/procfd.h"

int process_wait(int pidfd, int timeout_ms, int *ret_status, struct error *e)
{
	int r = pidfd_wait_exit(pidfd, timeout_ms);

	if (r == 0)
		return 1;
	if (r < 0)
		return error_errno(e, r, "wait");
	r = pidfd_reap(pidfd, ret_status);
	if (r == -ECHILD)
		r = pidfd_exit_status(pidfd, ret_status);
	return r < 0 ? error_set(e, -ENODATA, ERROR_KERNEL,
			       "it has ended, but how is not known: this kernel tells only the parent, "
			       "which a subreaper is (PR_SET_CHILD_SUBREAPER)")
		     : 0;
}

EXPORT int stasis_wait(
	struct stasis_container *c, int timeout_ms, int *ret_status, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = c->pidfd < 0 ? lib_record(c, false, &record, &e) : 0;

	if (r == 0 && c->pidfd < 0)
		r = error_set(&e, -ESRCH, ERROR_STATE, "container not running");
	if (r == 0)
		r = process_wait(c->pidfd, timeout_ms, ret_status, &e);
	return lib_error(r, &e, ret_error);
}

EXPORT void stasis_process_free(struct stasis_process *p)
{
	if (p)
		close_p(&p->pidfd);
	free(p);
}

EXPORT pid_t stasis_process_pid(const struct stasis_process *p)
{
	return p->pid;
}

EXPORT int stasis_process_pidfd(const struct stasis_process *p)
{
	return p->pidfd;
}

EXPORT int stasis_process_signal(struct stasis_process *p, int sig, struct stasis_error *ret_error)
{
	struct error e;
	int r = pidfd_kill(p->pidfd, sig);

	if (r < 0)
		error_errno(&e, r, "signal process %d", p->pid);
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_process_wait(
	struct stasis_process *p, int timeout_ms, int *ret_status, struct stasis_error *ret_error)
{
	struct error e;

	return lib_error(process_wait(p->pidfd, timeout_ms, ret_status, &e), &e, ret_error);
}
