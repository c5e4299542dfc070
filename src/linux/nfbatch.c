/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/nfbatch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/sockdiag.h"

enum { ANSWER_SIZE = 64 * 1024, ROOM = 128 << 20 };

static void *reserve(struct nf_batch *b, size_t n)
{
	size_t want = b->len + NLMSG_ALIGN(n);
	void *at;

	if (!b->data || want > b->size) {
		size_t size = MAX(want, b->size * 2 + 4096);
		char *p = b->failed ? NULL : realloc(b->data, size);

		if (!p) {
			b->failed = true;
			return NULL;
		}
		b->data = p;
		b->size = size;
	}
	at = b->data + b->len;
	memset(at, 0, NLMSG_ALIGN(n));
	b->len = want;
	return at;
}

void nf_batch_put(struct nf_batch *b, int type, const void *value, size_t len)
{
	struct nlattr *a = reserve(b, NLA_HDRLEN + len);

	if (!a)
		return;
	*a = (struct nlattr){.nla_type = type, .nla_len = NLA_HDRLEN + len};
	if (len)
		memcpy((char *)a + NLA_HDRLEN, value, len);
}

void nf_batch_put_text(struct nf_batch *b, int type, const char *text)
{
	nf_batch_put(b, type, text, strlen(text) + 1);
}

void nf_batch_put_number(struct nf_batch *b, int type, uint32_t value)
{
	value = htonl(value);
	nf_batch_put(b, type, &value, sizeof(value));
}

void nf_batch_put_all(struct nf_batch *b, const void *attributes, size_t len)
{
	void *at = len > 0 ? reserve(b, len) : NULL;

	if (at)
		memcpy(at, attributes, len);
}

size_t nf_batch_nest(struct nf_batch *b, int type)
{
	size_t at = b->len;

	nf_batch_put(b, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void nf_batch_end_nest(struct nf_batch *b, size_t at)
{
	if (!b->failed)
		((struct nlattr *)(b->data + at))->nla_len = b->len - at;
}

static void finish_message(struct nf_batch *b)
{
	if (!b->failed && b->len > b->message)
		((struct nlmsghdr *)(b->data + b->message))->nlmsg_len = b->len - b->message;
}

static void message(struct nf_batch *b, int type, int flags, uint8_t family, uint16_t resource)
{
	struct nlmsghdr *h;
	struct nfgenmsg *g;

	finish_message(b);
	b->message = b->len;
	h = reserve(b, NLMSG_HDRLEN + sizeof(*g));
	if (!h)
		return;
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = ++b->seq;
	g = NLMSG_DATA(h);
	*g = (struct nfgenmsg){.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
}

void nf_batch_message(struct nf_batch *b, int type, int flags, uint8_t family)
{
	if (b->len == 0)
		message(b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	message(b, NFNL_SUBSYS_NFTABLES << 8 | type, flags, family, 0);
}

/* The first error of the answers up to that of message "last". */
static int take_answers(int fd, uint32_t last, uint32_t *ret_failed)
{
	_cleanup_free_ char *buf = malloc(ANSWER_SIZE);

	while (buf) {
		ssize_t n = recv(fd, buf, ANSWER_SIZE, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; NLMSG_OK(h, (size_t)n);
			h = NLMSG_NEXT(h, n)) {
			const struct nlmsgerr *err = NLMSG_DATA(h);

			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_len < NLMSG_LENGTH(sizeof(*err)))
				continue;
			if (err->error < 0 && ret_failed)
				*ret_failed = h->nlmsg_seq;
			if (err->error < 0 || h->nlmsg_seq >= last)
				return err->error;
		}
	}
	return -ENOMEM;
}

int nf_socket(int netns_fd)
{
	int fd = netns_fd < 0 ? socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER)
			      : netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);

	return netns_fd < 0 && fd < 0 ? -errno : fd;
}

/* The last message but one (the last is the end of the batch) asks for an answer. */
static int send_batch(struct nf_batch *b, int netns_fd, uint32_t *ret_failed)
{
	_cleanup_close_ int fd = nf_socket(netns_fd);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct timeval limit = {.tv_sec = 60};
	int room = ROOM, yes = 1;

	if (fd < 0)
		return fd;
	if (!b->failed)
		((struct nlmsghdr *)(b->data + b->message))->nlmsg_flags |= NLM_F_ACK;
	message(b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	finish_message(b);
	if (b->failed)
		return -ENOMEM;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &yes, sizeof(yes)); /* no copy of what was refused */
	if (sendto(fd, b->data, b->len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	return take_answers(fd, b->seq - 1, ret_failed);
}

int nf_batch_commit(struct nf_batch *b, int netns_fd, uint32_t *ret_failed)
{
	int r = b->len == 0 && !b->failed ? 0 : send_batch(b, netns_fd, ret_failed);

	nf_batch_done(b);
	return r;
}

void nf_batch_done(struct nf_batch *b)
{
	free(b->data);
	*b = (struct nf_batch){.seq = b->seq};
}
