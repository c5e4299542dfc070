/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One batch of netlink messages makes the whole table, or nothing: a chain at the hook of local input, and for each
 * family of addresses a set of flows and a rule: "meta mark != ours, addresses and ports in the set: drop".
 */
#include "linux/nflock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "linux/sockdiag.h"

enum { ANSWER_SIZE = 64 * 1024, FLOWS_A_MESSAGE = 256, PORTS_SIZE = 4 };

/* Messages on their way. An attribute that did not fit for want of memory shows in "failed". */
struct batch {
	char *data;
	size_t len, size, message; /* message: where the last one begins */
	uint32_t seq;
	bool failed;
};

struct family {
	int family;
	uint8_t nfproto;
	const char *set;
	uint32_t set_id, address_size, address_offset; /* of one address; of both in the header */
};

static const struct family families[] = {
	{AF_INET, NFPROTO_IPV4, "four", 1, 4, 12},
	{AF_INET6, NFPROTO_IPV6, "six", 2, 16, 8},
};

static void *reserve(struct batch *b, size_t n)
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

static void put(struct batch *b, int type, const void *value, size_t len)
{
	struct nlattr *a = reserve(b, NLA_HDRLEN + len);

	if (!a)
		return;
	*a = (struct nlattr){.nla_type = type, .nla_len = NLA_HDRLEN + len};
	if (len)
		memcpy((char *)a + NLA_HDRLEN, value, len);
}

static void put_text(struct batch *b, int type, const char *text)
{
	put(b, type, text, strlen(text) + 1);
}

static void put_number(struct batch *b, int type, uint32_t value)
{
	value = htonl(value);
	put(b, type, &value, sizeof(value));
}

/* Attributes within another one: what begin() gives is for end(). */
static size_t begin(struct batch *b, int type)
{
	size_t at = b->len;

	put(b, type | NLA_F_NESTED, NULL, 0);
	return at;
}

static void end(struct batch *b, size_t at)
{
	if (!b->failed)
		((struct nlattr *)(b->data + at))->nla_len = b->len - at;
}

static void finish_message(struct batch *b)
{
	if (!b->failed && b->len > b->message)
		((struct nlmsghdr *)(b->data + b->message))->nlmsg_len = b->len - b->message;
}

static void message(struct batch *b, int type, int flags, uint8_t family, uint16_t resource)
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

static void table_message(struct batch *b, int type, int flags)
{
	message(b, NFNL_SUBSYS_NFTABLES << 8 | type, flags, NFPROTO_INET, 0);
}

static void put_chain(struct batch *b, const char *table)
{
	size_t hook;

	table_message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	put_text(b, NFTA_CHAIN_TABLE, table);
	put_text(b, NFTA_CHAIN_NAME, "in");
	hook = begin(b, NFTA_CHAIN_HOOK);
	put_number(b, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN);
	put_number(b, NFTA_HOOK_PRIORITY, (uint32_t)-400);
	end(b, hook);
	put_text(b, NFTA_CHAIN_TYPE, "filter");
}

static void put_set(struct batch *b, const char *table, const struct family *f)
{
	table_message(b, NFT_MSG_NEWSET, NLM_F_CREATE);
	put_text(b, NFTA_SET_TABLE, table);
	put_text(b, NFTA_SET_NAME, f->set);
	put_number(b, NFTA_SET_FLAGS, 0);
	put_number(b, NFTA_SET_KEY_TYPE, 0);
	put_number(b, NFTA_SET_KEY_LEN, 2 * f->address_size + PORTS_SIZE);
	put_number(b, NFTA_SET_ID, f->set_id);
}

static void put_flow(struct batch *b, const struct family *f, const struct nflock_flow *flow)
{
	size_t element = begin(b, NFTA_LIST_ELEM), key = begin(b, NFTA_SET_ELEM_KEY), n = f->address_size;
	unsigned char value[2 * 16 + PORTS_SIZE];

	memcpy(value, flow->remote, n);
	memcpy(value + n, flow->local, n);
	memcpy(value + 2 * n, &flow->remote_port, 2);
	memcpy(value + 2 * n + 2, &flow->local_port, 2);
	put(b, NFTA_DATA_VALUE, value, 2 * n + PORTS_SIZE);
	end(b, key);
	end(b, element);
}

static void put_flows(
	struct batch *b, const char *table, const struct family *f, const struct nflock_flow *flows, size_t n)
{
	size_t list = 0, in_list = 0;

	for (size_t i = 0; i < n; i++) {
		if (flows[i].family != f->family)
			continue;
		if (in_list == 0) {
			table_message(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
			put_text(b, NFTA_SET_ELEM_LIST_TABLE, table);
			put_text(b, NFTA_SET_ELEM_LIST_SET, f->set);
			put_number(b, NFTA_SET_ELEM_LIST_SET_ID, f->set_id);
			list = begin(b, NFTA_SET_ELEM_LIST_ELEMENTS);
		}
		put_flow(b, f, &flows[i]);
		if (++in_list == FLOWS_A_MESSAGE) {
			end(b, list);
			in_list = 0;
		}
	}
	if (in_list)
		end(b, list);
}

/* An expression of a rule; what it gives is for end_expression(). */
struct expression {
	size_t element, data;
};

static struct expression begin_expression(struct batch *b, const char *name)
{
	struct expression x = {.element = begin(b, NFTA_LIST_ELEM)};

	put_text(b, NFTA_EXPR_NAME, name);
	x.data = begin(b, NFTA_EXPR_DATA);
	return x;
}

static void end_expression(struct batch *b, struct expression x)
{
	end(b, x.data);
	end(b, x.element);
}

/* Goes on with the rule if what the kernel knows of the packet is (not) this. */
static void put_condition(struct batch *b, uint32_t key, uint32_t op, const void *value, size_t len)
{
	struct expression x = begin_expression(b, "meta");
	size_t data;

	put_number(b, NFTA_META_DREG, NFT_REG32_00);
	put_number(b, NFTA_META_KEY, key);
	end_expression(b, x);
	x = begin_expression(b, "cmp");
	put_number(b, NFTA_CMP_SREG, NFT_REG32_00);
	put_number(b, NFTA_CMP_OP, op);
	data = begin(b, NFTA_CMP_DATA);
	put(b, NFTA_DATA_VALUE, value, len);
	end(b, data);
	end_expression(b, x);
}

static void put_load(struct batch *b, uint32_t reg, uint32_t base, uint32_t offset, uint32_t len)
{
	struct expression x = begin_expression(b, "payload");

	put_number(b, NFTA_PAYLOAD_DREG, reg);
	put_number(b, NFTA_PAYLOAD_BASE, base);
	put_number(b, NFTA_PAYLOAD_OFFSET, offset);
	put_number(b, NFTA_PAYLOAD_LEN, len);
	end_expression(b, x);
}

static void put_drop(struct batch *b)
{
	struct expression x = begin_expression(b, "immediate");
	size_t data, verdict;

	put_number(b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = begin(b, NFTA_IMMEDIATE_DATA);
	verdict = begin(b, NFTA_DATA_VERDICT);
	put_number(b, NFTA_VERDICT_CODE, NF_DROP);
	end(b, verdict);
	end(b, data);
	end_expression(b, x);
}

static void put_rule(struct batch *b, const char *table, const struct family *f)
{
	uint32_t mark = NFLOCK_MARK;
	uint8_t tcp = IPPROTO_TCP;
	struct expression x;
	size_t list;

	table_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	put_text(b, NFTA_RULE_TABLE, table);
	put_text(b, NFTA_RULE_CHAIN, "in");
	list = begin(b, NFTA_RULE_EXPRESSIONS);
	put_condition(b, NFT_META_NFPROTO, NFT_CMP_EQ, &f->nfproto, sizeof(f->nfproto));
	put_condition(b, NFT_META_L4PROTO, NFT_CMP_EQ, &tcp, sizeof(tcp));
	put_condition(b, NFT_META_MARK, NFT_CMP_NEQ, &mark, sizeof(mark));
	put_load(b, NFT_REG32_00, NFT_PAYLOAD_NETWORK_HEADER, f->address_offset, 2 * f->address_size);
	put_load(b, NFT_REG32_00 + 2 * f->address_size / 4, NFT_PAYLOAD_TRANSPORT_HEADER, 0, PORTS_SIZE);
	x = begin_expression(b, "lookup");
	put_text(b, NFTA_LOOKUP_SET, f->set);
	put_number(b, NFTA_LOOKUP_SREG, NFT_REG32_00);
	put_number(b, NFTA_LOOKUP_SET_ID, f->set_id);
	end_expression(b, x);
	put_drop(b);
	end(b, list);
}

static void put_table(struct batch *b, int type, int flags, const char *table)
{
	table_message(b, type, flags);
	put_text(b, NFTA_TABLE_NAME, table);
}

/* The first error of the answers up to that of message "last". */
static int take_answers(int fd, uint32_t last)
{
	_cleanup_free_ char *buf = malloc(ANSWER_SIZE);
	int result = 0;

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
			if (result == 0)
				result = err->error;
			if (result < 0 || h->nlmsg_seq >= last)
				return result;
		}
	}
	return -ENOMEM;
}

/* Sends the batch, whose last message but one (the last is the end of the batch) asks for an answer. */
static int commit(int netns_fd, struct batch *b)
{
	_cleanup_close_ int fd = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct timeval limit = {.tv_sec = 5};
	int room = 16 << 20;

	if (fd < 0)
		return fd;
	if (!b->failed)
		((struct nlmsghdr *)(b->data + b->message))->nlmsg_flags |= NLM_F_ACK;
	message(b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	finish_message(b);
	if (b->failed)
		return -ENOMEM;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (sendto(fd, b->data, b->len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	return take_answers(fd, b->seq - 1);
}

static void name_of(uint64_t id, char name[48])
{
	snprintf(name, 48, "stasis-lock-%016llx", (unsigned long long)id);
}

bool nflock_available(int netns_fd)
{
	struct batch b = {};
	int r;

	/* A table that is made and deleted in the same batch. */
	message(&b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, "stasis-probe");
	put_table(&b, NFT_MSG_DELTABLE, 0, "stasis-probe");
	r = commit(netns_fd, &b);
	free(b.data);
	return r == 0;
}

int nflock_set(int netns_fd, uint64_t id, const struct nflock_flow *flows, size_t n)
{
	struct batch b = {};
	char name[48];
	int r;

	name_of(id, name);
	message(&b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
	put_table(&b, NFT_MSG_DELTABLE, 0, name);
	put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
	put_chain(&b, name);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		put_set(&b, name, &families[i]);
		put_flows(&b, name, &families[i], flows, n);
		put_rule(&b, name, &families[i]);
	}
	r = commit(netns_fd, &b);
	free(b.data);
	return r;
}

int nflock_clear(int netns_fd, uint64_t id)
{
	struct batch b = {};
	char name[48];
	int r;

	name_of(id, name);
	message(&b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	put_table(&b, NFT_MSG_DELTABLE, 0, name);
	r = commit(netns_fd, &b);
	free(b.data);
	return r;
}
