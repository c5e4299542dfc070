/* SPDX-License-Identifier: Apache-2.0 */
/* delete: the end of a container. Every step may be repeated; the state directory goes last, so that a delete that was
 * interrupted can be run again. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"
#include "linux/procfd.h"

/* The first process of a pid namespace of several containers may be held up by the parent of another one's init, who does not
 * wait for that: then it is as dead as can be. */
static int wait_for_end(const struct container *c, int pidfd)
{
	enum { TIMEOUT_MS = 10000, LOOK_MS = 200 };
	int r = 0;

	for (int i = 0; r == 0 && i < TIMEOUT_MS / LOOK_MS; i++) {
		r = pidfd_wait_exit(pidfd, LOOK_MS);
		if (r == 0 && process_awaits_others(c->init_pid))
			return 1;
	}
	return r;
}

static int kill_init(struct container *c, struct error *e)
{
	_cleanup_close_ int pidfd = container_init_pidfd(c);
	int r;

	if (pidfd < 0)
		return 0;
	r = pidfd_kill(pidfd, SIGKILL);
	if (r < 0 && r != -ESRCH)
		return error_errno(e, r, "kill container %s", c->id);
	(void)!cgroup_thaw_killed(&c->cgroup, NULL);
	r = wait_for_end(c, pidfd);
	if (r == 0)
		return error_set(
			e, -ETIMEDOUT, ERROR_STATE, "container %s init still running after SIGKILL", c->id);
	return r < 0 ? error_errno(e, r, "wait for container %s", c->id) : 0;
}

/* Processes outlive their init only in a pid namespace that is not the container's own. */
static bool may_outlive_init(struct container *c)
{
	const struct spec_namespace *pid;

	if (container_load_spec(c, NULL) < 0)
		return true;
	pid = &c->spec->namespaces[NS_PID];
	return !pid->present || pid->path;
}

/* Whoever fills its memory notices that nobody wants it any more. */
static void settle_filling(struct container *c)
{
	struct error ignored;

	(void)!container_filling_wait(c, 5000, &ignored);
}

int container_delete(struct container *c, bool force, struct error *e)
{
	enum container_status s = container_status(c);
	int r = fault_point("delete-start", e);

	if (r < 0)
		return r;
	if (s != CONTAINER_STOPPED && !force)
		return error_set(e, -EBUSY, ERROR_STATE,
			"cannot delete container %s that is not stopped: %s (kill it first, or use --force)",
			c->id, container_status_name(s));
	if (s != CONTAINER_STOPPED) {
		r = kill_init(c, e);
		if (r < 0)
			return r;
	}
	r = fault_point("delete-killed", e);
	if (r < 0)
		return r;
	settle_filling(c);
	r = may_outlive_init(c) ? cgroup_signal(&c->cgroup, SIGKILL, e) : 0;
	if (r == 0 || r == -ENOENT || r == -ESRCH)
		r = cgroup_delete(&c->cgroup, e);
	if (r == 0)
		r = rdt_remove(&c->rdt, e);
	if (r == 0)
		r = fault_point("delete-cgroup", e);
	if (r < 0)
		return error_prefix(e, "delete container %s", c->id);
	if (c->init_pid > 0) { /* a create that never came so far had nothing to tell hooks about */
		struct error ignored;

		r = container_run_hooks(c, HOOK_POSTSTOP, &ignored);
		if (r < 0)
			log_warning("poststop hooks: %s", ignored.message);
	}
	r = fault_point("delete-hooks", e);
	if (r < 0)
		return r;
	state_remove_dir(c);
	c->init_pid = 0; /* a second delete has nothing to tell hooks about, either */
	return fault_point("delete-end", e);
}
