/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes tables of nftables again (nftables.h). Within a table in the order of handles, which is the order in which things
 * were made: so what a thing refers to is there. Not so elements, which have no handles: those of sets that cannot get
 * any once a rule uses them come right before the first rule that does, all others at the end.
 *
 * Handles that nothing has any more are used up by a chain of ours, "stasis-unused", and its empty rules.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "base/log.h"
#include "checkpoint/native/nftables.h"
#include "linux/nlmsg.h"

#define UNUSED_CHAIN "stasis-unused"

/* What an ordinary user's socket takes in one piece. */
enum { BATCH_SIZE = 128 * 1024 };

enum { BOUND_CHAIN = 1 << 2 }; /* NFT_CHAIN_BINDING: it belongs to one rule */

struct item {
	const St__PacketItem *msg;
	uint32_t seq;	       /* of its message; 0: not sent */
	uint64_t behind;       /* a rule: handle of that of its chain which it comes behind; 0: of none */
	bool last;	       /* a rule: behind all that are there */
	struct item *elements; /* of a set; their next */
};

struct making {
	struct arena arena;
	const St__PacketTable *table;
	struct item *items, **ordered; /* as recorded; those with handles, in their order */
	size_t n_ordered;
	uint64_t next; /* handle that the next thing gets */
	bool unused_chain;
	struct item **
		waiting; /* for the rule that uses them: sets that get no elements then, and what is bound to a rule */
	size_t n_waiting, n_bound;
	struct nf_batch batch;
};

static uint32_t number_of(const St__PacketItem *i, int type)
{
	return ntohl(netlink_u32((const struct rtattr *)nft_attribute(&i->attributes, type), 0));
}

static const char *name_of(const St__PacketItem *i)
{
	switch (i->type) {
	case NFT_MSG_NEWCHAIN:
		return nft_name(&i->attributes, NFTA_CHAIN_NAME);
	case NFT_MSG_NEWRULE:
		return nft_name(&i->attributes, NFTA_RULE_CHAIN);
	default:
		return nft_name(
			&i->attributes, NFTA_SET_NAME); /* 2, as those of objects, flow tables and elements */
	}
}

static bool is_set(const St__PacketItem *i, uint32_t flags)
{
	return i->type == NFT_MSG_NEWSET && (number_of(i, NFTA_SET_FLAGS) & flags);
}

/* Is there only as part of a rule: both have to be in the same batch. */
static bool is_bound(const St__PacketItem *i)
{
	return is_set(i, NFT_SET_ANONYMOUS) ||
	       (i->type == NFT_MSG_NEWCHAIN && (number_of(i, NFTA_CHAIN_FLAGS) & BOUND_CHAIN));
}

static bool names(const St__PacketItem *rule, const char *name)
{
	return memmem(rule->attributes.data, rule->attributes.len, name, strlen(name) + 1);
}

/* Messages ---------------------------------------------------------------------------------------------------------- */

static int commit(struct making *m, struct error *e)
{
	uint32_t failed = 0;
	int r = nf_batch_commit(&m->batch, -EBADF, &failed);

	for (size_t i = 0; i < m->table->n_items && r < 0; i++) {
		const St__PacketItem *msg = m->items[i].msg;

		if (failed && m->items[i].seq == failed)
			return error_errno(e, r, "restore the %s %s (handle %llu) of the packet filter %s",
				nft_kind_of(msg->type)->text, name_of(msg), (unsigned long long)msg->handle,
				m->table->name);
	}
	return r < 0 ? error_errno(e, r, "restore the packet filter %s", m->table->name) : 0;
}

static int commit_some(struct making *m, struct error *e)
{
	return m->batch.len < BATCH_SIZE || m->n_bound > 0 ? 0 : commit(m, e);
}

static void begin_message(struct making *m, int type, int flags)
{
	nf_batch_message(&m->batch, type, flags, m->table->family);
	nf_batch_put_text(&m->batch, 1, m->table->name);
}

static void make_table(struct making *m)
{
	begin_message(m, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
	nf_batch_put_number(&m->batch, NFTA_TABLE_FLAGS, m->table->flags);
	if (m->table->userdata.len > 0)
		nf_batch_put(&m->batch, NFTA_TABLE_USERDATA, m->table->userdata.data, m->table->userdata.len);
}

static int use_handles_up(struct making *m, uint64_t until, struct error *e)
{
	int r = 0;

	for (; m->next < until && r == 0; m->next++) {
		if (m->unused_chain) {
			begin_message(m, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
			nf_batch_put_text(&m->batch, NFTA_RULE_CHAIN, UNUSED_CHAIN);
		} else {
			begin_message(m, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL);
			nf_batch_put_text(&m->batch, NFTA_CHAIN_NAME, UNUSED_CHAIN);
			m->unused_chain = true;
		}
		r = commit_some(m, e);
	}
	return r;
}

static void send_item(struct making *m, struct item *i, int flags)
{
	begin_message(m, i->msg->type, NLM_F_CREATE | flags);
	nf_batch_put_all(&m->batch, i->msg->attributes.data, i->msg->attributes.len);
	i->seq = m->batch.seq;
}

static int send_elements(struct making *m, struct item *set, struct error *e)
{
	int r = 0;

	for (struct item *i = set->elements; i && !i->seq && r == 0; i = i->elements) {
		send_item(m, i, 0);
		r = commit_some(m, e);
	}
	return r;
}

/* What the rule uses is complete then. */
static int send_those_of(struct making *m, const St__PacketItem *rule, struct error *e)
{
	size_t left = 0;
	int r = 0;

	for (size_t i = 0; i < m->n_waiting; i++) {
		struct item *x = m->waiting[i];

		if (r < 0 || !names(rule, name_of(x->msg))) {
			m->waiting[left++] = x;
			continue;
		}
		r = send_elements(m, x, e);
		m->n_bound -= is_bound(x->msg);
	}
	m->n_waiting = left;
	return r;
}

static int send_rule(struct making *m, struct item *i, struct error *e)
{
	uint64_t behind = htobe64(i->behind);
	int r = send_those_of(m, i->msg, e);

	if (r < 0)
		return r;
	send_item(m, i, i->last || i->behind ? NLM_F_APPEND : 0);
	if (!i->last && i->behind)
		nf_batch_put(&m->batch, NFTA_RULE_POSITION, &behind, sizeof(behind));
	return 0;
}

static int make_items(struct making *m, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < m->n_ordered && r == 0; i++) {
		struct item *x = m->ordered[i];

		r = use_handles_up(m, x->msg->handle, e);
		if (r < 0)
			return r;
		m->next++;
		if (x->msg->type == NFT_MSG_NEWRULE) {
			r = send_rule(m, x, e);
		} else {
			send_item(m, x, NLM_F_EXCL);
			if (x->msg->type == NFT_MSG_NEWSET)
				nf_batch_put_number(&m->batch, NFTA_SET_ID, i + 1);
			if (is_bound(x->msg) || is_set(x->msg, NFT_SET_CONSTANT))
				m->waiting[m->n_waiting++] = x;
			m->n_bound += is_bound(x->msg);
		}
		if (r == 0)
			r = commit_some(m, e);
	}
	for (size_t i = 0; i < m->n_ordered && r == 0; i++)
		if (m->ordered[i]->msg->type == NFT_MSG_NEWSET)
			r = send_elements(m, m->ordered[i], e);
	return r;
}

/* Plan -------------------------------------------------------------------------------------------------------------- */

static int by_handle(const void *a, const void *b)
{
	uint64_t x = (*(struct item *const *)a)->msg->handle, y = (*(struct item *const *)b)->msg->handle;

	return (x > y) - (x < y);
}

/* The rules of a chain from "first" to before "end" as recorded: when one is made, those with lower handles are there. */
static int place_rules(struct making *m, size_t first, size_t end)
{
	uint64_t *lower = arena_array(&m->arena, end - first, sizeof(*lower)), lowest = UINT64_MAX;
	size_t n = 0;

	if (!lower)
		return -ENOMEM;
	for (size_t i = first; i < end; i++) {
		uint64_t handle = m->items[i].msg->handle;

		while (n > 0 && lower[n - 1] > handle)
			n--;
		m->items[i].behind = n > 0 ? lower[n - 1] : 0;
		lower[n++] = handle;
	}
	for (size_t i = end; i > first; i--) {
		uint64_t handle = m->items[i - 1].msg->handle;

		m->items[i - 1].last = lowest > handle;
		lowest = MIN(lowest, handle);
	}
	return 0;
}

static struct item *find_set(struct making *m, const char *name)
{
	for (size_t i = 0; i < m->table->n_items; i++)
		if (m->table->items[i]->type == NFT_MSG_NEWSET &&
			strcmp(name_of(m->table->items[i]), name) == 0)
			return &m->items[i];
	return NULL;
}

/* Elements come in several messages, one behind the other. */
static int gather_elements(struct making *m, struct error *e)
{
	struct item *before = NULL;

	for (size_t i = 0; i < m->table->n_items; i++) {
		struct item *x = &m->items[i];

		if (x->msg->type != NFT_MSG_NEWSETELEM)
			continue;
		if (!before || strcmp(name_of(before->msg), name_of(x->msg)) != 0)
			before = find_set(m, name_of(x->msg));
		if (!before || before->elements)
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"the packet filter %s has elements of no set", m->table->name);
		before->elements = x;
		before = x;
	}
	return 0;
}

static int plan(struct making *m, struct error *e)
{
	size_t n = m->table->n_items;
	int r = 0;

	m->items = arena_array(&m->arena, n + 1, sizeof(*m->items));
	m->ordered = arena_array(&m->arena, n + 1, sizeof(*m->ordered));
	m->waiting = arena_array(&m->arena, n + 1, sizeof(*m->waiting));
	if (!m->items || !m->ordered || !m->waiting)
		return error_errno(e, -ENOMEM, "packet filter");
	for (size_t i = 0; i < n; i++) {
		m->items[i].msg = m->table->items[i];
		if (m->items[i].msg->type != NFT_MSG_NEWSETELEM)
			m->ordered[m->n_ordered++] = &m->items[i];
	}
	for (size_t i = 0, end; i < n && r == 0; i = end) {
		end = i + 1;
		if (m->items[i].msg->type != NFT_MSG_NEWRULE)
			continue;
		while (end < n && m->items[end].msg->type == NFT_MSG_NEWRULE &&
			strcmp(name_of(m->items[end].msg), name_of(m->items[i].msg)) == 0)
			end++;
		r = place_rules(m, i, end);
	}
	qsort(m->ordered, m->n_ordered, sizeof(*m->ordered), by_handle);
	return r < 0 ? error_errno(e, r, "packet filter") : gather_elements(m, e);
}

static int make(const St__PacketTable *t, struct error *e)
{
	struct making m = {.table = t, .next = 1};
	int r = plan(&m, e);

	if (r == 0) {
		make_table(&m);
		r = make_items(&m, e);
	}
	if (r == 0 && m.unused_chain) {
		begin_message(&m, NFT_MSG_DELCHAIN, 0);
		nf_batch_put_text(&m.batch, NFTA_CHAIN_NAME, UNUSED_CHAIN);
	}
	if (r == 0)
		r = commit(&m, e);
	nf_batch_done(&m.batch);
	arena_done(&m.arena);
	return r;
}

static bool is_there(const struct nft_tables *all, const St__PacketTable *t)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->tables[i].msg->family == t->family && strcmp(all->tables[i].msg->name, t->name) == 0)
			return true;
	return false;
}

int restore_nftables(
	const St__PacketTable *const *tables, size_t n, bool may_make, bool indexes_differ, struct error *e)
{
	struct nft_tables there = {};
	struct arena a = {};
	int r = n > 0 ? nftables_list(-EBADF, &a, &there) : 0;

	if (r < 0)
		error_errno(e, r, "list packet filters");
	for (size_t i = 0; i < n && r == 0; i++) {
		if (is_there(&there, tables[i]))
			log_debug("packet filter %s is there already", tables[i]->name);
		else if (!may_make)
			r = error_set(e, -EPERM, ERROR_REFUSED,
				"the image has a packet filter %s, which no hook has made, and the bundle's "
				"config.json "
				"does not allow the container to make one: add CAP_NET_ADMIN to "
				"process.capabilities.bounding, if it is wanted, or use --empty-ns network",
				tables[i]->name);
		else if (tables[i]->by_index && indexes_differ)
			r = error_set(e, -ENODEV, ERROR_STATE,
				"the packet filter %s asks for interfaces by their numbers (iif, oif), and "
				"those that "
				"came from outside have others now: let it ask for names (iifname, oifname)",
				tables[i]->name);
		else
			r = make(tables[i], e);
	}
	arena_done(&a);
	return r;
}

/* Well-formed? ------------------------------------------------------------------------------------------------------ */

static bool is_item(const St__PacketItem *i)
{
	const struct nft_kind *k = nft_kind_of(i->type);
	const struct rtattr *a = (const struct rtattr *)i->attributes.data;
	int len = i->attributes.len;

	if (!k || i->attributes.len > UINT16_MAX * 4 || (uintptr_t)a % sizeof(uint32_t) != 0)
		return false;
	netlink_for(a, len)
	{
		unsigned type = a->rta_type & NLA_TYPE_MASK;

		if (type >= 32 || !(k->kept & 1u << type))
			return false;
	}
	return len == 0 && name_of(i) && (k->handle != 0) == (i->handle != 0);
}

const char *nftables_wrong(const St__PacketTable *t)
{
	uint64_t highest = 0;

	if (!*t->name || strlen(t->name) >= NFT_NAME_MAXLEN || t->family > UINT8_MAX ||
		t->userdata.len > NFT_USERDATA_MAXLEN || (t->flags & ~NFT_TABLE_F_DORMANT))
		return "a packet filter is malformed";
	for (size_t i = 0; i < t->n_items; i++) {
		if (!is_item(t->items[i]))
			return "a part of a packet filter is malformed";
		highest = MAX(highest, t->items[i]->handle);
	}
	if (highest > t->n_items + NFT_HANDLES_UNUSED_MAX)
		return "a packet filter has handles that are too high";
	return NULL;
}
