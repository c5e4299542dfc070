/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/wait.h"

#include <fcntl.h>
#include <sys/file.h>

#include "base/fd.h"
#include "sandbox/client.h"
#include "sandbox/sandbox.h"

/* Who checkpoints a sandbox has its list of members locked. */
static int wait_for_members(const char *root, const char *sandbox, struct error *e)
{
	_cleanup_close_ int dir = container_open_sandbox(root, sandbox, false), members = -EBADF;

	members = dir < 0 ? dir
			  : openat(dir, CONTAINER_MEMBERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (members < 0)
		return 0;
	while (flock(members, LOCK_SH) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "wait for a checkpoint of the sandbox %s", sandbox);
	return 0;
}

int sandbox_wait_checkpoint(const char *root, const char *sandbox, struct container *c, struct error *e)
{
	uint64_t failed = 0;
	int r = 0;

	if (c) {
		container_read_attempts(c);
		failed = c->attempts.failed;
	}
	if (sandbox)
		r = wait_for_members(root, sandbox, e);
	if (r < 0 || !c)
		return r;
	r = container_lock(c, e);
	if (r == -ENOENT)
		return 0; /* it has ended with its checkpoint */
	if (r < 0)
		return r;
	container_unlock(c);
	container_read_attempts(c);
	if (c->attempts.failed != failed)
		return error_set(e, -EIO, ERROR_STATE,
			"the checkpoint of container %s has failed: it goes on as before", c->id);
	return 0;
}

int sandbox_wait_restore(const char *root, const char *sandbox, struct error *e)
{
	int fd = sandbox_connect(root, sandbox, false, e);
	_cleanup_(client_done) struct client c = {.fd = fd};

	return fd < 0 ? fd
		      : client_call(&c, &(struct client_call){.method = "io.stasis.Sandbox.WaitRestore"},
				NULL, e);
}
