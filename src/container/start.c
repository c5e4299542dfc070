/* SPDX-License-Identifier: Apache-2.0 */
/* start: a message to the waiting init. init answers with its error, or by its exec, which closes the connection. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"

static int check_created(const struct container *c, struct error *e)
{
	switch (container_status(c)) {
	case CONTAINER_CREATED:
		return 0;
	case CONTAINER_STOPPED:
		return error_set(e, -EINVAL, ERROR_STATE, "cannot start a container that has stopped");
	case CONTAINER_RUNNING:
		return error_set(e, -EINVAL, ERROR_STATE, "cannot start an already running container");
	case CONTAINER_PAUSED:
		return error_set(e, -EINVAL, ERROR_STATE,
			"cannot start a container in the paused state: resume it first");
	default:
		return error_set(e, -EINVAL, ERROR_STATE, "cannot start a container in the creating state");
	}
}

/* Tells the waiting init to go; *ret_fd is where it answers. */
static int tell_init(struct container *c, int *ret_fd, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r = check_created(c, e);

	if (r == 0)
		r = container_load_spec(c, e);
	if (r < 0)
		return r;
	fd = start_socket_connect(c);
	if (fd < 0)
		return error_errno(e, fd, "connect to the container's init");
	r = sync_send(fd, SYNC_GO);
	if (r < 0)
		return error_errno(e, r, "send to the container's init");
	*ret_fd = take_fd(&fd);
	return 0;
}

int container_receive_start(struct container *c, int *ret)
{
	_cleanup_close_ int fd = accept4(c->start_fd, NULL, NULL, SOCK_CLOEXEC);
	struct timeval limit = {.tv_sec = 1}; /* who only asks whether we are here says nothing, and goes */
	struct error none;

	if (fd < 0)
		return errno == EINTR || errno == EAGAIN || errno == ECONNABORTED ? 0 : -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (sync_receive(fd, NULL, &none) != SYNC_GO)
		return 0;
	*ret = take_fd(&fd);
	return 1;
}

void container_answer_start(int fd, const struct error *failure)
{
	if (failure)
		sync_send_error(fd, failure);
	else
		(void)!sync_send(fd, SYNC_READY);
	close_p(&fd);
}

void container_end_waiting(struct container *c)
{
	if (c->start_fd >= 0)
		unlinkat(c->dir_fd, START_SOCKET, 0);
	close_p(&c->start_fd);
}

int container_start(struct container *c, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct error later;
	int r = fault_point("start-start", e);

	container_settle(c);
	if (r == 0 && c->starting)
		fd = take_fd(&c->init_fd);
	else if (r == 0)
		r = tell_init(c, &fd, e);
	if (r == 0)
		r = fault_point("start-told", e);
	if (r < 0)
		return r;
	/* end of file: it has exec'ed (or was killed meanwhile, which is not start's failure) */
	r = sync_expect(fd, SYNC_READY, e);
	if (r == -ECONNRESET && c->restoring)
		return error_set(
			e, r, ERROR_SYSTEM, "the process that was to restore the container was killed");
	if (r < 0 && r != -ECONNRESET)
		return r;
	if (!c->starting)
		unlinkat(c->dir_fd, START_SOCKET, 0);
	c->starting = false;
	close_p(&c->init_fd);
	r = fault_point("start-end", e);
	if (r < 0)
		return r;
	r = hooks_run(c->spec, c, HOOK_POSTSTART, CONTAINER_RUNNING, c->init_pid, e);
	/* the runtime-spec: such a container is stopped and destroyed */
	if (r < 0 && container_delete(c, true, &later) < 0)
		log_warning("after a failed poststart hook: %s", later.message);
	return r;
}
