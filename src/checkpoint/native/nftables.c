/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the tables of nftables. Source: linux/netfilter/nf_tables.h; libnftnl's order of things. */
#include "checkpoint/native/nftables.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "linux/nlmsg.h"

#define BIT(n) (1u << (n))

enum { TRIES = 10, ELEMENTS_SIZE = 16384 };

/* In each of them attribute 1 is the name of the table. */
const struct nft_kind nft_kinds[NFT_KINDS] = {
	[NFT_CHAIN] = {"chain", NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN,
		BIT(NFTA_CHAIN_NAME) | BIT(NFTA_CHAIN_HOOK) | BIT(NFTA_CHAIN_POLICY) | BIT(NFTA_CHAIN_TYPE) |
			BIT(NFTA_CHAIN_COUNTERS) | BIT(NFTA_CHAIN_FLAGS) | BIT(NFTA_CHAIN_USERDATA),
		NFTA_CHAIN_HANDLE},
	[NFT_OBJECT] = {"object", NFT_MSG_GETOBJ, NFT_MSG_NEWOBJ,
		BIT(NFTA_OBJ_NAME) | BIT(NFTA_OBJ_TYPE) | BIT(NFTA_OBJ_DATA) | BIT(NFTA_OBJ_USERDATA),
		NFTA_OBJ_HANDLE},
	[NFT_FLOWTABLE] = {"flow table", NFT_MSG_GETFLOWTABLE, NFT_MSG_NEWFLOWTABLE,
		BIT(NFTA_FLOWTABLE_NAME) | BIT(NFTA_FLOWTABLE_HOOK) | BIT(NFTA_FLOWTABLE_FLAGS),
		NFTA_FLOWTABLE_HANDLE},
	[NFT_SET] = {"set", NFT_MSG_GETSET, NFT_MSG_NEWSET,
		BIT(NFTA_SET_NAME) | BIT(NFTA_SET_FLAGS) | BIT(NFTA_SET_KEY_TYPE) | BIT(NFTA_SET_KEY_LEN) |
			BIT(NFTA_SET_DATA_TYPE) | BIT(NFTA_SET_DATA_LEN) | BIT(NFTA_SET_POLICY) |
			BIT(NFTA_SET_DESC) | BIT(NFTA_SET_TIMEOUT) | BIT(NFTA_SET_GC_INTERVAL) |
			BIT(NFTA_SET_USERDATA) | BIT(NFTA_SET_OBJ_TYPE) | BIT(NFTA_SET_EXPR) |
			BIT(NFTA_SET_EXPRESSIONS),
		NFTA_SET_HANDLE},
	[NFT_RULE] = {"rule", NFT_MSG_GETRULE, NFT_MSG_NEWRULE,
		BIT(NFTA_RULE_CHAIN) | BIT(NFTA_RULE_EXPRESSIONS) | BIT(NFTA_RULE_COMPAT) |
			BIT(NFTA_RULE_USERDATA),
		NFTA_RULE_HANDLE},
	[NFT_ELEMENTS] = {"elements of a set", NFT_MSG_GETSETELEM, NFT_MSG_NEWSETELEM,
		BIT(NFTA_SET_ELEM_LIST_SET) | BIT(NFTA_SET_ELEM_LIST_ELEMENTS), 0},
};

const struct nft_kind *nft_kind_of(uint32_t type)
{
	for (size_t i = 0; i < NFT_KINDS; i++)
		if ((uint32_t)nft_kinds[i].new == type)
			return &nft_kinds[i];
	return NULL;
}

const struct nlattr *nft_attribute(const ProtobufCBinaryData *attributes, int type)
{
	return (const struct nlattr *)netlink_find(
		(const struct rtattr *)attributes->data, attributes->len, type);
}

static const char *text_in(const struct rtattr *a)
{
	return a && RTA_PAYLOAD(a) > 0 && ((const char *)RTA_DATA(a))[RTA_PAYLOAD(a) - 1] == '\0'
		       ? RTA_DATA(a)
		       : NULL;
}

const char *nft_name(const ProtobufCBinaryData *attributes, int type)
{
	return text_in((const struct rtattr *)nft_attribute(attributes, type));
}

static const struct rtattr *within(const struct rtattr *nested, int type)
{
	return nested ? netlink_find(RTA_DATA(nested), RTA_PAYLOAD(nested), type) : NULL;
}

static uint32_t number_in(const struct rtattr *a)
{
	return ntohl(netlink_u32(a, 0));
}

/* Expressions ------------------------------------------------------------------------------------------------------- */

/* What is learned of a rule, or of what a set or object counts by. */
struct look {
	struct nft_table *t;
	bool is_compat;		     /* it has parts of iptables */
	int reg;		     /* that has the protocol of the packet's contents; -1: none */
	uint32_t protocol, inverted; /* that it asks for: which may only be there together with such parts */
};

static void refuse(struct look *l, const char *why, const char *remedy)
{
	l->t->refused = why;
	l->t->remedy = remedy;
}

/* Which interface, by its number: meta iif, fib oif, and who sends packets to such a one. */
static bool is_by_index(const char *name, const struct rtattr *data)
{
	uint32_t key = number_in(within(data, NFTA_META_KEY));

	if (strcmp(name, "meta") == 0)
		return key == NFT_META_IIF || key == NFT_META_OIF || key == NFT_META_SDIF;
	return (strcmp(name, "fib") == 0 && number_in(within(data, NFTA_FIB_RESULT)) == NFT_FIB_RESULT_OIF) ||
	       strcmp(name, "fwd") == 0 || strcmp(name, "dup") == 0;
}

/* "tcp" of iptables asks whether its rule is about TCP; that is said by what comes before it. */
static void follow_protocol(struct look *l, const char *name, const struct rtattr *data)
{
	const struct rtattr *value;
	uint32_t base, offset;

	if (strcmp(name, "meta") == 0) {
		if (number_in(within(data, NFTA_META_KEY)) == NFT_META_L4PROTO)
			l->reg = number_in(within(data, NFTA_META_DREG));
	} else if (strcmp(name, "payload") == 0) {
		base = number_in(within(data, NFTA_PAYLOAD_BASE));
		offset = number_in(within(data, NFTA_PAYLOAD_OFFSET));
		if (base == NFT_PAYLOAD_NETWORK_HEADER && number_in(within(data, NFTA_PAYLOAD_LEN)) == 1 &&
			offset == (l->t->msg->family == NFPROTO_IPV6 ? 6 : 9))
			l->reg = number_in(within(data, NFTA_PAYLOAD_DREG));
	} else if (strcmp(name, "cmp") == 0 && l->reg >= 0 &&
		   (int)number_in(within(data, NFTA_CMP_SREG)) == l->reg) {
		value = within(within(data, NFTA_CMP_DATA), NFTA_DATA_VALUE);
		if (value && RTA_PAYLOAD(value) >= 1)
			l->protocol = *(const uint8_t *)RTA_DATA(value);
		l->inverted = number_in(within(data, NFTA_CMP_OP)) == NFT_CMP_NEQ;
		l->reg = -1;
	}
}

/* The kernel gives some things that it does not take: that a quota has been used up, ... */
static void clean_quota(const struct rtattr *data)
{
	struct rtattr *flags = (struct rtattr *)within(data, NFTA_QUOTA_FLAGS);
	uint32_t value = htonl(number_in(flags) & ~NFT_QUOTA_F_DEPLETED);

	if (flags && RTA_PAYLOAD(flags) >= sizeof(value))
		memcpy(RTA_DATA(flags), &value, sizeof(value));
}

/* ... and flags for reading of an option that is written. Attributes of type 0 are ignored. */
static void clean_option(const struct rtattr *data)
{
	struct rtattr *flags = (struct rtattr *)within(data, NFTA_EXTHDR_FLAGS);

	if (flags && within(data, NFTA_EXTHDR_SREG))
		flags->rta_type = 0;
}

static void look_at_expression(struct look *l, const struct rtattr *x)
{
	const struct rtattr *data = within(x, NFTA_EXPR_DATA);
	const char *name = text_in(within(x, NFTA_EXPR_NAME)), *match;

	if (!name)
		return;
	l->t->msg->by_index |= is_by_index(name, data);
	follow_protocol(l, name, data);
	if (strcmp(name, "quota") == 0)
		clean_quota(data);
	if (strcmp(name, "exthdr") == 0)
		clean_option(data);
	if (strcmp(name, "socket") == 0 && number_in(within(data, NFTA_SOCKET_KEY)) == NFT_SOCKET_CGROUPV2)
		refuse(l, "a rule names a cgroup by the number that it has now", "take that rule away");
	l->is_compat |= strcmp(name, "match") == 0 || strcmp(name, "target") == 0;
	match = strcmp(name, "match") == 0 ? text_in(within(data, NFTA_MATCH_NAME)) : NULL;
	if (match && strcmp(match, "recent") == 0)
		refuse(l, "lists of the match \"recent\" are not recorded",
			"take that rule away, or use a set with a timeout");
}

static void look_at_list(struct look *l, const struct rtattr *list)
{
	const struct rtattr *x = list ? RTA_DATA(list) : NULL;
	int len = list ? RTA_PAYLOAD(list) : 0;

	netlink_for(x, len) look_at_expression(l, x);
}

/* A part of iptables checks the protocol against this, which the kernel does not give back. */
static void put_compat(struct nf_batch *b, const struct look *l)
{
	size_t nest;

	if (!l->is_compat)
		return;
	nest = nf_batch_nest(b, NFTA_RULE_COMPAT);
	nf_batch_put_number(b, NFTA_RULE_COMPAT_PROTO, l->protocol);
	nf_batch_put_number(b, NFTA_RULE_COMPAT_FLAGS, l->inverted ? NFT_RULE_COMPAT_F_INV : 0);
	nf_batch_end_nest(b, nest);
}

/* Items ------------------------------------------------------------------------------------------------------------- */

struct reading {
	struct arena *a;
	struct nft_tables *tables;
	const struct nft_kind *kind;
	/* of one set: */
	struct nft_table *table;
	struct {
		const struct rtattr **items;
		size_t n, max;
	} elements;
};

static int take_table(const struct nlmsghdr *h, void *arg)
{
	struct reading *r = arg;
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct nfgenmsg), &len), *data;
	const char *name = a ? text_in(netlink_find(a, len, NFTA_TABLE_NAME)) : NULL;
	struct nft_tables *all = r->tables;
	struct nft_table t = {.msg = arena_new(r->a, St__PacketTable)};

	if (!name)
		return -EBADMSG;
	all->tables = arena_grow(r->a, all->tables, all->n, &all->max, sizeof(*all->tables));
	if (!all->tables || !t.msg)
		return -ENOMEM;
	st__packet_table__init(t.msg);
	t.msg->family = ((const struct nfgenmsg *)NLMSG_DATA(h))->nfgen_family;
	t.msg->name = arena_strdup(r->a, name);
	t.msg->flags = number_in(netlink_find(a, len, NFTA_TABLE_FLAGS));
	data = netlink_find(a, len, NFTA_TABLE_USERDATA);
	if (data) {
		t.msg->userdata.data = arena_memdup(r->a, RTA_DATA(data), RTA_PAYLOAD(data));
		t.msg->userdata.len = t.msg->userdata.data ? RTA_PAYLOAD(data) : 0;
	}
	if (t.msg->flags & ~NFT_TABLE_F_DORMANT) {
		t.refused = "it belongs to a process's netlink socket";
		t.remedy = "make it without the flag \"owner\"";
	}
	all->tables[all->n++] = t;
	return t.msg->name ? 0 : -ENOMEM;
}

static struct nft_table *find_table(const struct nft_tables *all, uint8_t family, const char *name)
{
	for (size_t i = 0; name && i < all->n; i++)
		if (all->tables[i].msg->family == family && strcmp(all->tables[i].msg->name, name) == 0)
			return &all->tables[i];
	return NULL;
}

/* Takes what was laid out. */
static int add_item(
	struct arena *a, struct nft_table *t, const struct nft_kind *k, uint64_t handle, struct nf_batch *b)
{
	St__PacketItem *item = arena_new(a, St__PacketItem);
	int r = b->failed || !item ? -ENOMEM : 0;

	if (r == 0) {
		st__packet_item__init(item);
		item->type = k->new;
		item->handle = handle;
		item->attributes.len = b->len;
		item->attributes.data = arena_memdup(a, b->data, b->len);
		t->msg->items = arena_grow(a, t->msg->items, t->msg->n_items, &t->max, sizeof(item));
		if (!item->attributes.data || !t->msg->items)
			r = -ENOMEM;
		else
			t->msg->items[t->msg->n_items++] = item;
	}
	nf_batch_done(b);
	return r;
}

static int take_item(const struct nlmsghdr *h, void *arg)
{
	struct reading *r = arg;
	const struct nft_kind *k = r->kind;
	int len, left;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct nfgenmsg), &len), *at;
	struct nft_table *t;
	struct nf_batch b = {};
	struct look l = {.reg = -1};
	uint64_t handle = 0;

	if (!a)
		return -EBADMSG;
	t = find_table(r->tables, ((const struct nfgenmsg *)NLMSG_DATA(h))->nfgen_family,
		text_in(netlink_find(a, len, 1)));
	if (!t)
		return 0;
	l.t = t;
	at = netlink_find(a, len, k->handle);
	if (at && RTA_PAYLOAD(at) >= sizeof(handle))
		memcpy(&handle, RTA_DATA(at), sizeof(handle));
	if (k == &nft_kinds[NFT_RULE])
		look_at_list(&l, netlink_find(a, len, NFTA_RULE_EXPRESSIONS));
	if (k == &nft_kinds[NFT_OBJECT] && number_in(netlink_find(a, len, NFTA_OBJ_TYPE)) == NFT_OBJECT_QUOTA)
		clean_quota(netlink_find(a, len, NFTA_OBJ_DATA));
	at = a;
	left = len;
	netlink_for(at, left)
	{
		unsigned type = at->rta_type & NLA_TYPE_MASK;

		if (type < 32 && (k->kept & BIT(type)))
			nf_batch_put(&b, at->rta_type, RTA_DATA(at), RTA_PAYLOAD(at));
	}
	put_compat(&b, &l);
	return add_item(r->a, t, k, be64toh(handle), &b);
}

/* Elements ---------------------------------------------------------------------------------------------------------- */

static int take_elements(const struct nlmsghdr *h, void *arg)
{
	struct reading *r = arg;
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct nfgenmsg), &len), *x;

	x = a ? netlink_find(a, len, NFTA_SET_ELEM_LIST_ELEMENTS) : NULL;
	if (!x)
		return a ? 0 : -EBADMSG;
	len = RTA_PAYLOAD(x);
	x = RTA_DATA(x);
	netlink_for(x, len)
	{
		r->elements.items = arena_grow(
			r->a, r->elements.items, r->elements.n, &r->elements.max, sizeof(*r->elements.items));
		if (!r->elements.items)
			return -ENOMEM;
		r->elements.items[r->elements.n] = arena_memdup(r->a, x, x->rta_len);
		if (!r->elements.items[r->elements.n++])
			return -ENOMEM;
	}
	return 0;
}

static uint32_t flags_of(const struct rtattr *element)
{
	return number_in(within(element, NFTA_SET_ELEM_FLAGS));
}

/* Ascending, and what begins at a value before what ends there: the kernel takes the ends of intervals in no other order. */
static int by_key(const void *a, const void *b)
{
	const struct rtattr *x = *(const struct rtattr *const *)a, *y = *(const struct rtattr *const *)b;
	const struct rtattr *p = within(within(x, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE);
	const struct rtattr *q = within(within(y, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE);
	int order;

	if (!p || !q)
		return (p != NULL) - (q != NULL);
	order = memcmp(RTA_DATA(p), RTA_DATA(q), MIN(RTA_PAYLOAD(p), RTA_PAYLOAD(q)));
	return order ? order
		     : (int)(flags_of(y) & NFT_SET_ELEM_INTERVAL_END) -
			       (int)(flags_of(x) & NFT_SET_ELEM_INTERVAL_END);
}

static void look_at_element(struct look *l, const struct rtattr *x)
{
	const struct rtattr *one = within(x, NFTA_SET_ELEM_EXPR);

	if (one)
		look_at_expression(l, one);
	look_at_list(l, within(x, NFTA_SET_ELEM_EXPRESSIONS));
}

/* In messages of moderate size. */
static int add_elements(struct reading *r, const char *set)
{
	struct look l = {.t = r->table, .reg = -1};
	int result = 0;

	for (size_t i = 0; i < r->elements.n && result == 0;) {
		struct nf_batch b = {};
		size_t list;

		nf_batch_put_text(&b, NFTA_SET_ELEM_LIST_SET, set);
		list = nf_batch_nest(&b, NFTA_SET_ELEM_LIST_ELEMENTS);
		for (; i < r->elements.n && b.len < ELEMENTS_SIZE && !b.failed; i++) {
			const struct rtattr *x = r->elements.items[i];

			look_at_element(&l, x);
			nf_batch_put(&b, x->rta_type, RTA_DATA(x), RTA_PAYLOAD(x));
		}
		nf_batch_end_nest(&b, list);
		result = add_item(r->a, r->table, &nft_kinds[NFT_ELEMENTS], 0, &b);
	}
	return result;
}

static void begin_request(struct netlink_message *q, int get, int flags, uint8_t family)
{
	struct nfgenmsg *g = netlink_begin(q, NFNL_SUBSYS_NFTABLES << 8 | get, flags, sizeof(*g));

	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
}

static int read_elements(int socket, struct reading *r, const St__PacketItem *set)
{
	const char *name = nft_name(&set->attributes, NFTA_SET_NAME);
	const struct rtattr *desc = (const struct rtattr *)nft_attribute(&set->attributes, NFTA_SET_DESC);
	uint32_t flags = number_in((const struct rtattr *)nft_attribute(&set->attributes, NFTA_SET_FLAGS));
	const St__PacketTable *t = r->table->msg;
	struct netlink_message q;
	int result;

	if (!name)
		return -EBADMSG;
	begin_request(&q, NFT_MSG_GETSETELEM, NLM_F_DUMP, t->family);
	netlink_put(&q, NFTA_SET_ELEM_LIST_TABLE, t->name, strlen(t->name) + 1);
	netlink_put(&q, NFTA_SET_ELEM_LIST_SET, name, strlen(name) + 1);
	r->elements.n = 0;
	result = netlink_ask(socket, &q, take_elements, r);
	if (result == -ENOENT)
		return -EAGAIN; /* it went meanwhile */
	if ((flags & NFT_SET_INTERVAL) && !within(desc, NFTA_SET_DESC_CONCAT) && r->elements.n > 1)
		qsort(r->elements.items, r->elements.n, sizeof(*r->elements.items), by_key);
	return result < 0 ? result : add_elements(r, name);
}

static int read_all_elements(int socket, struct reading *r)
{
	int result = 0;

	for (size_t i = 0; i < r->tables->n && result == 0; i++) {
		r->table = &r->tables->tables[i];
		/* Those of elements come behind these. */
		for (size_t k = 0, n = r->table->msg->n_items; k < n && result == 0; k++)
			if (r->table->msg->items[k]->type == NFT_MSG_NEWSET)
				result = read_elements(socket, r, r->table->msg->items[k]);
	}
	return result;
}

static int take_generation(const struct nlmsghdr *h, void *arg)
{
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct nfgenmsg), &len);

	if (!a)
		return -EBADMSG;
	*(uint32_t *)arg = netlink_u32(netlink_find(a, len, NFTA_GEN_ID), 0);
	return 0;
}

/* Of all tables of the namespace: it changes with every change. */
static int generation(int socket, uint32_t *ret)
{
	struct netlink_message q;

	begin_request(&q, NFT_MSG_GETGEN, 0, AF_UNSPEC);
	return netlink_ask(socket, &q, take_generation, ret);
}

static int read_once(int socket, struct reading *r, bool only_tables)
{
	uint32_t before = 0, after = 0;
	struct netlink_message q;
	int result;

	r->tables->n = 0;
	begin_request(&q, NFT_MSG_GETTABLE, NLM_F_DUMP, AF_UNSPEC);
	result = netlink_ask(socket, &q, take_table, r);
	if (result < 0 || r->tables->n == 0 || only_tables)
		return result;
	result = generation(socket, &before);
	for (size_t i = 0; i < NFT_ELEMENTS && result == 0; i++) {
		r->kind = &nft_kinds[i];
		begin_request(&q, r->kind->get, NLM_F_DUMP, AF_UNSPEC);
		result = netlink_ask(socket, &q, take_item, r);
	}
	if (result == 0)
		result = read_all_elements(socket, r);
	if (result == 0)
		result = generation(socket, &after);
	return result == 0 && before != after ? -EAGAIN : result;
}

static int read_tables(int netns_fd, struct reading *r, bool only_tables)
{
	_cleanup_close_ int socket = nf_socket(netns_fd);
	int result = -EAGAIN;

	if (socket < 0)
		return socket == -EPROTONOSUPPORT ? 0 : socket;
	for (int i = 0; i < TRIES && result == -EAGAIN; i++)
		result = read_once(socket, r, only_tables);
	/* A kernel without it. */
	return result == -EINVAL || result == -EOPNOTSUPP ? 0 : result;
}

int nftables_read(int netns_fd, struct arena *a, struct nft_tables *ret)
{
	struct reading r = {.a = a, .tables = ret};

	return read_tables(netns_fd, &r, false);
}

int nftables_list(int netns_fd, struct arena *a, struct nft_tables *ret)
{
	struct reading r = {.a = a, .tables = ret};

	return read_tables(netns_fd, &r, true);
}
