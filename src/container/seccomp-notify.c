/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCMP_ACT_NOTIFY: the filter's listener goes to an agent, with the state that the runtime-spec defines. Only who loads
 * the filter gets the listener, and by then its own system calls may wait for the very agent that has not got it yet. So
 * a second thread, which the filter does not hold for, sends it; the first one waits without a system call until that
 * is done.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/pty.h"
#include "linux/seccomp-load.h"

enum { UNKNOWN = 1 };

struct handover {
	int socket;
	const char *text;
	atomic_int listener; /* UNKNOWN, a descriptor, or a negative errno: there is none */
	atomic_int result;   /* UNKNOWN, 0 or a negative errno */
};

int seccomp_connect_agent(const struct spec_seccomp *s, int *ret, struct error *e)
{
	int fd;

	if (!s || !s->notifies)
		return 0;
	fd = terminal_connect(s->listener_path, e);
	if (fd < 0)
		return error_prefix(e, "linux.seccomp.listenerPath");
	*ret = fd;
	return 0;
}

static void *hand_over(void *arg)
{
	const struct timespec moment = {.tv_nsec = 20 * 1000};
	struct handover *h = arg;
	int listener, r;

	while ((listener = atomic_load(&h->listener)) == UNKNOWN)
		nanosleep(&moment, NULL);
	r = listener < 0 ? listener : socket_send_fd(h->socket, listener, h->text);
	/* one state for a connection; and who holds a listener himself waits for ever when the agent is gone */
	close(h->socket);
	if (listener >= 0)
		close(listener);
	atomic_store(&h->result, r);
	return NULL;
}

/* The filter may hold for every call by now. Only a thread that has a processor of its own may wait so; one that takes
 * it from the other (a real-time policy, one processor) gives way after a while, at the filter's mercy. */
static int wait_without_calls(const struct handover *h)
{
	const long patience = 1L << 30;
	int r;

	for (long i = 0; (r = atomic_load(&h->result)) == UNKNOWN; i++)
		if (i > patience)
			sched_yield();
	return r;
}

int seccomp_load_with_agent(const struct sock_fprog *program, const struct spec_seccomp *s, int socket,
	const struct oci_state *state, pid_t pid, struct error *e)
{
	struct handover h = {.socket = socket, .listener = UNKNOWN, .result = UNKNOWN};
	_cleanup_free_ char *text = NULL;
	pthread_t thread;
	int r, sent;

	r = oci_process_state_json(state, pid, s->listener_metadata, &text);
	if (r < 0)
		return error_errno(e, r, "state for the seccomp agent");
	h.text = text;
	r = -pthread_create(&thread, NULL, hand_over, &h);
	if (r == 0)
		r = -pthread_detach(thread);
	if (r < 0)
		return error_errno(e, r, "start a thread to send the seccomp listener");
	/* this thread only: the other has to send yet, and no third one is there */
	r = seccomp_install(
		program, (s->flags & ~SECCOMP_FILTER_FLAG_TSYNC) | SECCOMP_FILTER_FLAG_NEW_LISTENER);
	atomic_store(&h.listener, r);
	sent = wait_without_calls(&h);
	return r < 0	  ? error_errno(e, r, "load the seccomp filter")
	       : sent < 0 ? error_errno(e, sent, "send the seccomp listener to its agent")
			  : 0;
}

int container_send_listener(struct container *c, int listener, pid_t pid, struct error *e)
{
	_cleanup_close_ int socket = -EBADF;
	_cleanup_free_ char *text = NULL;
	struct oci_state state;
	int r = container_load_spec(c, e);

	if (r == 0)
		r = seccomp_connect_agent(c->spec->seccomp, &socket, e);
	if (r < 0)
		return r;
	state = container_oci_state(c, c->spec, CONTAINER_CREATING, c->init_pid);
	r = oci_process_state_json(&state, pid, c->spec->seccomp->listener_metadata, &text);
	if (r == 0)
		r = socket_send_fd(socket, listener, text);
	return r < 0 ? error_errno(e, r, "send the seccomp listener to its agent") : 0;
}
