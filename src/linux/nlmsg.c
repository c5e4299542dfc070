/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/nlmsg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { ANSWER_SIZE = 32 * 1024, TOO_LONG = UINT32_MAX };

void *netlink_begin(struct netlink_message *m, int type, int flags, size_t header)
{
	m->h = (struct nlmsghdr){
		.nlmsg_len = NLMSG_LENGTH(header), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
	return memset(m->body, 0, NLMSG_ALIGN(header));
}

/* Room for an attribute with that much behind its header; NULL: none. */
static struct rtattr *room(struct netlink_message *m, int type, size_t len)
{
	size_t at = NLMSG_ALIGN((size_t)m->h.nlmsg_len), whole = RTA_SPACE(len);
	struct rtattr *a = (struct rtattr *)((char *)m + at);

	if (m->h.nlmsg_len == TOO_LONG || len > UINT16_MAX - RTA_LENGTH(0) || at + whole > sizeof(*m)) {
		m->h.nlmsg_len = TOO_LONG;
		return NULL;
	}
	memset(a, 0, whole);
	*a = (struct rtattr){.rta_type = type, .rta_len = RTA_LENGTH(len)};
	m->h.nlmsg_len = at + whole;
	return a;
}

void netlink_put(struct netlink_message *m, int type, const void *data, size_t len)
{
	struct rtattr *a = room(m, type, len);

	if (a && len > 0)
		memcpy(RTA_DATA(a), data, len);
}

void netlink_put_u32(struct netlink_message *m, int type, uint32_t value)
{
	netlink_put(m, type, &value, sizeof(value));
}

size_t netlink_nest(struct netlink_message *m, int type)
{
	size_t at = NLMSG_ALIGN((size_t)m->h.nlmsg_len);

	return room(m, type | NLA_F_NESTED, 0) ? at : 0;
}

void netlink_end_nest(struct netlink_message *m, size_t nest)
{
	size_t len = m->h.nlmsg_len - nest;

	if (m->h.nlmsg_len == TOO_LONG)
		return;
	if (len > UINT16_MAX)
		m->h.nlmsg_len = TOO_LONG;
	else
		((struct rtattr *)((char *)m + nest))->rta_len = len;
}

/* The status in an error or at the end of a dump: 1, or the error. */
static int status_of(const struct nlmsghdr *h)
{
	int status = 0;

	if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(status)))
		memcpy(&status, NLMSG_DATA(h), sizeof(status));
	else if (h->nlmsg_type == NLMSG_ERROR)
		return -EBADMSG;
	return status < 0 ? status : 1;
}

/* 1: that was all, 0: there is more. */
static int take(const char *buf, size_t len, netlink_answer_fn answer, void *arg, bool *changed)
{
	for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; NLMSG_OK(h, len);
		h = NLMSG_NEXT(h, len)) {
		int r;

		*changed |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
		if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
			return status_of(h);
		r = answer ? answer(h, arg) : 0;
		if (r < 0)
			return r;
		if (!(h->nlmsg_flags & NLM_F_MULTI))
			return 1; /* the answer to a question */
	}
	return 0;
}

int netlink_ask(int socket, const struct netlink_message *m, netlink_answer_fn answer, void *arg)
{
	_cleanup_free_ char *buf = malloc(ANSWER_SIZE);
	bool changed = false;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	if (m->h.nlmsg_len == TOO_LONG)
		return -EMSGSIZE;
	if (send(socket, m, m->h.nlmsg_len, 0) < 0)
		return -errno;
	while (r == 0) {
		ssize_t n = recv(socket, buf, ANSWER_SIZE, MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || n > ANSWER_SIZE)
			return n < 0 ? -errno : -EMSGSIZE;
		r = take(buf, n, answer, arg, &changed);
	}
	return r < 0 ? r : changed ? -EAGAIN : 0;
}

const struct rtattr *netlink_attributes(const struct nlmsghdr *h, size_t header, int *len)
{
	if (h->nlmsg_len < NLMSG_LENGTH(header))
		return NULL;
	*len = h->nlmsg_len - MIN((size_t)h->nlmsg_len, NLMSG_SPACE(header));
	return (const struct rtattr *)((const char *)h + NLMSG_SPACE(header));
}

const struct rtattr *netlink_find(const struct rtattr *a, int len, int type)
{
	netlink_for(a, len)
	{
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	}
	return NULL;
}

uint32_t netlink_u32(const struct rtattr *a, uint32_t otherwise)
{
	if (a && RTA_PAYLOAD(a) >= sizeof(otherwise))
		memcpy(&otherwise, RTA_DATA(a), sizeof(otherwise));
	return otherwise;
}
