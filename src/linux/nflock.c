/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One batch of netlink messages makes the whole table, or nothing: a chain at the hook of local input, and for each
 * family of addresses a set of flows and a rule: "meta mark != ours, addresses and ports in the set: drop".
 */
#include "linux/nflock.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "linux/nfbatch.h"

enum { FLOWS_A_MESSAGE = 256, PORTS_SIZE = 4 };

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

static void put_chain(struct nf_batch *b, const char *table)
{
	size_t hook;

	nf_batch_message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE, NFPROTO_INET);
	nf_batch_put_text(b, NFTA_CHAIN_TABLE, table);
	nf_batch_put_text(b, NFTA_CHAIN_NAME, "in");
	hook = nf_batch_nest(b, NFTA_CHAIN_HOOK);
	nf_batch_put_number(b, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN);
	nf_batch_put_number(b, NFTA_HOOK_PRIORITY, (uint32_t)-400);
	nf_batch_end_nest(b, hook);
	nf_batch_put_text(b, NFTA_CHAIN_TYPE, "filter");
}

static void put_set(struct nf_batch *b, const char *table, const struct family *f)
{
	nf_batch_message(b, NFT_MSG_NEWSET, NLM_F_CREATE, NFPROTO_INET);
	nf_batch_put_text(b, NFTA_SET_TABLE, table);
	nf_batch_put_text(b, NFTA_SET_NAME, f->set);
	nf_batch_put_number(b, NFTA_SET_FLAGS, 0);
	nf_batch_put_number(b, NFTA_SET_KEY_TYPE, 0);
	nf_batch_put_number(b, NFTA_SET_KEY_LEN, 2 * f->address_size + PORTS_SIZE);
	nf_batch_put_number(b, NFTA_SET_ID, f->set_id);
}

static void put_flow(struct nf_batch *b, const struct family *f, const struct nflock_flow *flow)
{
	size_t element = nf_batch_nest(b, NFTA_LIST_ELEM), key = nf_batch_nest(b, NFTA_SET_ELEM_KEY),
	       n = f->address_size;
	unsigned char value[2 * 16 + PORTS_SIZE];

	memcpy(value, flow->remote, n);
	memcpy(value + n, flow->local, n);
	memcpy(value + 2 * n, &flow->remote_port, 2);
	memcpy(value + 2 * n + 2, &flow->local_port, 2);
	nf_batch_put(b, NFTA_DATA_VALUE, value, 2 * n + PORTS_SIZE);
	nf_batch_end_nest(b, key);
	nf_batch_end_nest(b, element);
}

static void put_flows(struct nf_batch *b, const char *table, const struct family *f,
	const struct nflock_flow *flows, size_t n)
{
	size_t list = 0, in_list = 0;

	for (size_t i = 0; i < n; i++) {
		if (flows[i].family != f->family)
			continue;
		if (in_list == 0) {
			nf_batch_message(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, NFPROTO_INET);
			nf_batch_put_text(b, NFTA_SET_ELEM_LIST_TABLE, table);
			nf_batch_put_text(b, NFTA_SET_ELEM_LIST_SET, f->set);
			nf_batch_put_number(b, NFTA_SET_ELEM_LIST_SET_ID, f->set_id);
			list = nf_batch_nest(b, NFTA_SET_ELEM_LIST_ELEMENTS);
		}
		put_flow(b, f, &flows[i]);
		if (++in_list == FLOWS_A_MESSAGE) {
			nf_batch_end_nest(b, list);
			in_list = 0;
		}
	}
	if (in_list)
		nf_batch_end_nest(b, list);
}

/* An expression of a rule; what it gives is for end_expression(). */
struct expression {
	size_t element, data;
};

static struct expression begin_expression(struct nf_batch *b, const char *name)
{
	struct expression x = {.element = nf_batch_nest(b, NFTA_LIST_ELEM)};

	nf_batch_put_text(b, NFTA_EXPR_NAME, name);
	x.data = nf_batch_nest(b, NFTA_EXPR_DATA);
	return x;
}

static void end_expression(struct nf_batch *b, struct expression x)
{
	nf_batch_end_nest(b, x.data);
	nf_batch_end_nest(b, x.element);
}

/* Goes on with the rule if what the kernel knows of the packet is (not) this. */
static void put_condition(struct nf_batch *b, uint32_t key, uint32_t op, const void *value, size_t len)
{
	struct expression x = begin_expression(b, "meta");
	size_t data;

	nf_batch_put_number(b, NFTA_META_DREG, NFT_REG32_00);
	nf_batch_put_number(b, NFTA_META_KEY, key);
	end_expression(b, x);
	x = begin_expression(b, "cmp");
	nf_batch_put_number(b, NFTA_CMP_SREG, NFT_REG32_00);
	nf_batch_put_number(b, NFTA_CMP_OP, op);
	data = nf_batch_nest(b, NFTA_CMP_DATA);
	nf_batch_put(b, NFTA_DATA_VALUE, value, len);
	nf_batch_end_nest(b, data);
	end_expression(b, x);
}

static void put_load(struct nf_batch *b, uint32_t reg, uint32_t base, uint32_t offset, uint32_t len)
{
	struct expression x = begin_expression(b, "payload");

	nf_batch_put_number(b, NFTA_PAYLOAD_DREG, reg);
	nf_batch_put_number(b, NFTA_PAYLOAD_BASE, base);
	nf_batch_put_number(b, NFTA_PAYLOAD_OFFSET, offset);
	nf_batch_put_number(b, NFTA_PAYLOAD_LEN, len);
	end_expression(b, x);
}

static void put_drop(struct nf_batch *b)
{
	struct expression x = begin_expression(b, "immediate");
	size_t data, verdict;

	nf_batch_put_number(b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = nf_batch_nest(b, NFTA_IMMEDIATE_DATA);
	verdict = nf_batch_nest(b, NFTA_DATA_VERDICT);
	nf_batch_put_number(b, NFTA_VERDICT_CODE, NF_DROP);
	nf_batch_end_nest(b, verdict);
	nf_batch_end_nest(b, data);
	end_expression(b, x);
}

static void put_rule(struct nf_batch *b, const char *table, const struct family *f)
{
	uint32_t mark = NFLOCK_MARK;
	uint8_t tcp = IPPROTO_TCP;
	struct expression x;
	size_t list;

	nf_batch_message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, NFPROTO_INET);
	nf_batch_put_text(b, NFTA_RULE_TABLE, table);
	nf_batch_put_text(b, NFTA_RULE_CHAIN, "in");
	list = nf_batch_nest(b, NFTA_RULE_EXPRESSIONS);
	put_condition(b, NFT_META_NFPROTO, NFT_CMP_EQ, &f->nfproto, sizeof(f->nfproto));
	put_condition(b, NFT_META_L4PROTO, NFT_CMP_EQ, &tcp, sizeof(tcp));
	put_condition(b, NFT_META_MARK, NFT_CMP_NEQ, &mark, sizeof(mark));
	put_load(b, NFT_REG32_00, NFT_PAYLOAD_NETWORK_HEADER, f->address_offset, 2 * f->address_size);
	put_load(b, NFT_REG32_00 + 2 * f->address_size / 4, NFT_PAYLOAD_TRANSPORT_HEADER, 0, PORTS_SIZE);
	x = begin_expression(b, "lookup");
	nf_batch_put_text(b, NFTA_LOOKUP_SET, f->set);
	nf_batch_put_number(b, NFTA_LOOKUP_SREG, NFT_REG32_00);
	nf_batch_put_number(b, NFTA_LOOKUP_SET_ID, f->set_id);
	end_expression(b, x);
	put_drop(b);
	nf_batch_end_nest(b, list);
}

static void put_table(struct nf_batch *b, int type, int flags, const char *table)
{
	nf_batch_message(b, type, flags, NFPROTO_INET);
	nf_batch_put_text(b, NFTA_TABLE_NAME, table);
}

static void name_of(uint64_t id, char name[48])
{
	snprintf(name, 48, "stasis-lock-%016llx", (unsigned long long)id);
}

bool nflock_available(int netns_fd)
{
	struct nf_batch b = {};

	/* A table that is made and deleted in the same batch. */
	put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, "stasis-probe");
	put_table(&b, NFT_MSG_DELTABLE, 0, "stasis-probe");
	return nf_batch_commit(&b, netns_fd, NULL) == 0;
}

int nflock_set(int netns_fd, uint64_t id, const struct nflock_flow *flows, size_t n)
{
	struct nf_batch b = {};
	char name[48];

	name_of(id, name);
	put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
	put_table(&b, NFT_MSG_DELTABLE, 0, name);
	put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, name);
	put_chain(&b, name);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		put_set(&b, name, &families[i]);
		put_flows(&b, name, &families[i], flows, n);
		put_rule(&b, name, &families[i]);
	}
	return nf_batch_commit(&b, netns_fd, NULL);
}

int nflock_clear(int netns_fd, uint64_t id)
{
	struct nf_batch b = {};
	char name[48];

	name_of(id, name);
	put_table(&b, NFT_MSG_DELTABLE, 0, name);
	return nf_batch_commit(&b, netns_fd, NULL);
}
