/* SPDX-License-Identifier: Apache-2.0 */
/* kill, pause, resume. init is signalled through its verified pidfd, everything else through the cgroup that is ours. */
#include <errno.h>
#include <signal.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/procfd.h"

int container_kill(struct container *c, int sig, bool all, struct error *e)
{
	_cleanup_close_ int pidfd = container_init_pidfd(c);
	int r;

	if (all && c->cgroup.mode != CGROUP_NONE) {
		/* also of a stopped container: what its init left behind in a shared pid namespace */
		if (pidfd < 0 && c->init_pid == 0)
			return error_set(e, -ESRCH, ERROR_STATE, "container not running");
		return cgroup_signal(&c->cgroup, sig, e);
	}
	if (pidfd < 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running");
	r = pidfd_kill(pidfd, sig);
	if (r == -ESRCH)
		return error_set(e, r, ERROR_STATE, "os: process already finished");
	if (r < 0)
		return error_errno(e, r, "signal container %s", c->id);
	return sig == SIGKILL ? cgroup_thaw_killed(&c->cgroup, e) : 0;
}

int container_pause(struct container *c, struct error *e)
{
	enum container_status s = container_status(c);

	if (s != CONTAINER_RUNNING && s != CONTAINER_CREATED)
		return error_set(e, -EINVAL, ERROR_STATE, "container not running or created: %s",
			container_status_name(s));
	if (c->cgroup.mode == CGROUP_NONE)
		return error_set(e, -EOPNOTSUPP, ERROR_STATE, "cannot pause a container without a cgroup");
	return cgroup_freeze(&c->cgroup, 10000, e);
}

int container_resume(struct container *c, struct error *e)
{
	if (container_status(c) != CONTAINER_PAUSED)
		return error_set(e, -EINVAL, ERROR_STATE, "container not paused");
	return cgroup_thaw(&c->cgroup, e);
}
