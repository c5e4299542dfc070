/* SPDX-License-Identifier: Apache-2.0 */
/* One datagram a message, so that no framing is needed and a dead peer is an end of file. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "container/container-priv.h"

struct sync_message {
	uint32_t type;
	int32_t number;	    /* SYNC_CLONED, SYNC_SOURCE */
	struct error error; /* SYNC_ERROR only */
};

int sync_send(int fd, enum sync_type type)
{
	uint32_t t = type;

	return send(fd, &t, sizeof(t), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int sync_send_number(int fd, enum sync_type type, int number)
{
	struct sync_message m = {.type = type, .number = number};

	return send(fd, &m, offsetof(struct sync_message, error), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void sync_send_error(int fd, const struct error *e)
{
	struct sync_message m = {.type = SYNC_ERROR, .error = *e};

	/* nobody left to tell when this fails */
	if (send(fd, &m, sizeof(m), MSG_NOSIGNAL) < 0)
		return;
}

bool sync_is_closed(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) > 0 && p.revents & POLLHUP;
}

int sync_receive(int fd, int *ret_number, struct error *e)
{
	struct sync_message m = {0};
	ssize_t n;

	for (int reset = 0; reset < 2; reset++) {
		do
			n = recv(fd, &m, sizeof(m), 0);
		while (n < 0 && errno == EINTR);
		/* it has closed without having read all: this is said before what it had sent */
		if (n >= 0 || errno != ECONNRESET)
			break;
	}
	if (n < 0 && errno != ECONNRESET)
		return error_errno(e, -errno, "receive from the container's init");
	if (n <= 0)
		return error_set(e, -ECONNRESET, ERROR_SYSTEM,
			"the container's init process died while it was set up");
	if (m.type == SYNC_ERROR && n == sizeof(m) && m.error.code < 0) {
		m.error.message[sizeof(m.error.message) - 1] = '\0';
		if (e)
			*e = m.error;
		return m.error.code;
	}
	if (ret_number)
		*ret_number = m.number;
	return (int)(m.type & INT32_MAX);
}

int sync_expect(int fd, enum sync_type type, struct error *e)
{
	int r = sync_receive(fd, NULL, e);

	if (r < 0 || r == (int)type)
		return r < 0 ? r : 0;
	return error_set(e, -EPROTO, ERROR_INTERNAL, "message %d instead of %d from the container's init", r,
		(int)type);
}
