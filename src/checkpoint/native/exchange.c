/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/exchange.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "checkpoint/native/restore.h"

static int begin(const struct restore *r, struct exchange_message *m, uint32_t op, const char *key,
	const char *part, struct error *e)
{
	*m = (struct exchange_message){.op = op};
	if (r->exchange_fd < 0)
		return error_set(e, -EINVAL, ERROR_STATE,
			"the image has objects that several containers of a sandbox share: restore all of "
			"them, from "
			"the image of the sandbox");
	if (snprintf(m->key, sizeof(m->key), "%s%s%s", key, *part ? "-" : "", part) >= (int)sizeof(m->key))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "the key of a shared object is too long");
	return 0;
}

static ssize_t exchange_send(int to, const struct exchange_message *m, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec data = {(void *)m, sizeof(*m)};
	struct msghdr msg = {.msg_iov = &data, .msg_iovlen = 1};
	ssize_t n;

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	}
	do {
		n = sendmsg(to, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t exchange_receive(int from, struct exchange_message *m, int *ret_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec data = {m, sizeof(*m)};
	struct msghdr msg = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;

	*ret_fd = -EBADF;
	do {
		n = recvmsg(from, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
	return n;
}

int restore_offer(const struct restore *r, const char *key, const char *part, int fd, struct error *e)
{
	struct exchange_message m;
	int result = begin(r, &m, EXCHANGE_OFFER, key, part, e);
	ssize_t n;

	if (result < 0)
		return result;
	n = exchange_send(r->exchange_fd, &m, fd);
	return n < 0 ? error_errno(e, (int)n, "offer \"%s\" to the other containers", m.key) : 0;
}

int restore_want(const struct restore *r, const char *key, const char *part, int *ret_fd, struct error *e)
{
	struct exchange_message m, answer = {};
	_cleanup_close_ int fd = -EBADF;
	int result = begin(r, &m, EXCHANGE_WANT, key, part, e);
	ssize_t n;

	if (result < 0)
		return result;
	n = exchange_send(r->exchange_fd, &m, -1);
	if (n >= 0)
		n = exchange_receive(r->exchange_fd, &answer, &fd);
	if (n < 0)
		return error_errno(e, (int)n, "wait for \"%s\" of another container", m.key);
	if (n != sizeof(answer) || strcmp(answer.key, m.key) != 0 || fd < 0)
		return error_set(e, -ECONNRESET, ERROR_STATE,
			"wait for \"%s\" of another container: the restore of the sandbox has been given up",
			m.key);
	result = r->fd_base ? restore_move_fd(r, &fd) : 0;
	if (result < 0)
		return error_errno(e, result, "what another container offers");
	*ret_fd = take_fd(&fd);
	return 0;
}
