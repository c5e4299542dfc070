/* SPDX-License-Identifier: Apache-2.0 */
/* Reading traffic control (traffic.h). Source: linux/{pkt_sched,pkt_cls}.h, tc(8). */
#include "checkpoint/native/traffic.h"

#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>

#define BIT(n) (1ull << (n))

enum {
	TRIES = 10,
	TICK_NS = 64,	      /* what the kernel shows times in */
	NETEM_PRNG_SEED = 14, /* newer headers have it */
	RATE_TABLE = 1024,
	CELL_LOG = 3,
	U32_ROOT = 0x800, /* the first table of a filter with such */
};

struct reader {
	int socket;
	struct arena *a;
	St__Network *n;
	size_t max;
	traffic_refuse_fn refuse;
	void *arg;
	uint32_t *ranks; /* by item: those with a lower one are made first */
	size_t max_ranks;
	/* of the filters of one discipline, its classes with it: */
	size_t first;	 /* item */
	uint32_t parent; /* where those are that are read */
	struct root {
		uint32_t parent, priority, chain,
			table; /* with which a set of filters with numbered tables began */
		size_t items;
	} roots[64];
	size_t n_roots;
	bool odd_tables;
};

static const struct rtattr *within(const struct rtattr *nested, int type)
{
	return nested ? netlink_find(RTA_DATA(nested), RTA_PAYLOAD(nested), type) : NULL;
}

static const char *text_in(const struct rtattr *a)
{
	return a && RTA_PAYLOAD(a) > 0 && ((const char *)RTA_DATA(a))[RTA_PAYLOAD(a) - 1] == '\0'
		       ? RTA_DATA(a)
		       : "";
}

static void put_raw(struct netlink_message *m, const void *data, size_t len)
{
	size_t at = NLMSG_ALIGN((size_t)m->h.nlmsg_len);

	if (at + NLMSG_ALIGN(len) > sizeof(*m)) {
		m->h.nlmsg_len = UINT32_MAX; /* as netlink_put() */
		return;
	}
	memset((char *)m + at, 0, NLMSG_ALIGN(len));
	memcpy((char *)m + at, data, len);
	m->h.nlmsg_len = at + NLMSG_ALIGN(len);
}

/* Options of disciplines and classes ------------------------------------------------------------------------------- */

/* What a kind's options are, and what becomes of them in the request; the text: why it cannot be recorded. */
typedef const char *(*options_fn)(struct netlink_message *m, const struct rtattr *options);

static const char *no_options(struct netlink_message *m _unused_, const struct rtattr *options _unused_)
{
	return NULL;
}

static const char *plain_options(struct netlink_message *m, const struct rtattr *options)
{
	if (options)
		netlink_put(m, TCA_OPTIONS, RTA_DATA(options), RTA_PAYLOAD(options));
	return NULL;
}

/* Where the kernel keeps units of 1024 ns, and shows and takes microseconds: those that it shows would be one unit less. */
static uint32_t codel_time(uint32_t shown)
{
	uint64_t units = ((uint64_t)shown * 1000 + 1023) / 1024;

	return (uint32_t)((units * 1024 + 999) / 1000);
}

static void put_attributes(
	struct netlink_message *m, const struct rtattr *options, uint64_t kept, uint64_t codel_times)
{
	const struct rtattr *i = options ? RTA_DATA(options) : NULL;
	int len = options ? RTA_PAYLOAD(options) : 0;
	size_t nest = netlink_nest(m, TCA_OPTIONS);

	netlink_for(i, len)
	{
		unsigned type = i->rta_type & NLA_TYPE_MASK;

		if (type >= 64 || !(kept & BIT(type)))
			continue;
		if (codel_times & BIT(type))
			netlink_put_u32(m, type, codel_time(netlink_u32(i, 0)));
		else
			netlink_put(m, type, RTA_DATA(i), RTA_PAYLOAD(i));
	}
	netlink_end_nest(m, nest);
}

static const char *fq_codel_options(struct netlink_message *m, const struct rtattr *options)
{
	const uint64_t times =
		BIT(TCA_FQ_CODEL_TARGET) | BIT(TCA_FQ_CODEL_INTERVAL) | BIT(TCA_FQ_CODEL_CE_THRESHOLD);

	put_attributes(m, options,
		times | BIT(TCA_FQ_CODEL_LIMIT) | BIT(TCA_FQ_CODEL_ECN) | BIT(TCA_FQ_CODEL_FLOWS) |
			BIT(TCA_FQ_CODEL_QUANTUM) | BIT(TCA_FQ_CODEL_DROP_BATCH_SIZE) |
			BIT(TCA_FQ_CODEL_MEMORY_LIMIT) | BIT(TCA_FQ_CODEL_CE_THRESHOLD_SELECTOR) |
			BIT(TCA_FQ_CODEL_CE_THRESHOLD_MASK),
		times);
	return NULL;
}

static const char *codel_options(struct netlink_message *m, const struct rtattr *options)
{
	const uint64_t times = BIT(TCA_CODEL_TARGET) | BIT(TCA_CODEL_INTERVAL) | BIT(TCA_CODEL_CE_THRESHOLD);

	put_attributes(m, options, times | BIT(TCA_CODEL_LIMIT) | BIT(TCA_CODEL_ECN), times);
	return NULL;
}

static const char *fq_options(struct netlink_message *m, const struct rtattr *options)
{
	enum { LAST = 18 }; /* of newer kernels: how bands share, and when they do */

	put_attributes(m, options, (BIT(LAST + 1) - 2) & ~BIT(TCA_FQ_FLOW_DEFAULT_RATE), 0);
	return NULL;
}

/* How long that many bytes take, as the kernel counts it. */
static uint64_t nanoseconds_of(uint64_t rate, uint64_t bytes)
{
	uint64_t factor = 1000000000;
	uint32_t mult = 1;
	int shift = 0;

	for (;; factor <<= 1, shift++) {
		mult = (uint32_t)(factor / rate);
		if ((mult & 1u << 31) || (factor & 1ull << 63))
			break;
	}
	return (uint64_t)(((unsigned __int128)bytes * mult) >> shift);
}

/* A bucket was mostly given in bytes, and is shown as the time that they take: the most bytes that take as long. */
static uint32_t burst_of(const struct tc_ratespec *spec, uint64_t rate, uint32_t ticks)
{
	uint64_t bytes;

	if (rate == 0 || (spec->linklayer & TC_LINKLAYER_MASK) != TC_LINKLAYER_ETHERNET || spec->overhead ||
		spec->mpu)
		return 0;
	bytes = (uint64_t)(((unsigned __int128)ticks + 1) * TICK_NS * rate / 1000000000) + 2;
	while (bytes > 0 && nanoseconds_of(rate, bytes) / TICK_NS > ticks)
		bytes--;
	return bytes <= UINT32_MAX && nanoseconds_of(rate, bytes) / TICK_NS == ticks ? (uint32_t)bytes : 0;
}

static uint64_t rate_of(const struct tc_ratespec *spec, const struct rtattr *wide)
{
	uint64_t rate = spec->rate;

	if (wide && RTA_PAYLOAD(wide) >= sizeof(rate))
		memcpy(&rate, RTA_DATA(wide), sizeof(rate));
	return rate;
}

static const char *tbf_options(struct netlink_message *m, const struct rtattr *options)
{
	const struct rtattr *params = within(options, TCA_TBF_PARMS), *rate = within(options, TCA_TBF_RATE64),
			    *peak = within(options, TCA_TBF_PRATE64);
	struct tc_tbf_qopt q;
	uint32_t burst;
	size_t nest;

	if (!params || RTA_PAYLOAD(params) < sizeof(q))
		return "it says nothing of itself";
	memcpy(&q, RTA_DATA(params), sizeof(q));
	nest = netlink_nest(m, TCA_OPTIONS);
	netlink_put(m, TCA_TBF_PARMS, &q, sizeof(q));
	if (rate)
		netlink_put(m, TCA_TBF_RATE64, RTA_DATA(rate), RTA_PAYLOAD(rate));
	if (peak)
		netlink_put(m, TCA_TBF_PRATE64, RTA_DATA(peak), RTA_PAYLOAD(peak));
	burst = burst_of(&q.rate, rate_of(&q.rate, rate), q.buffer);
	if (burst)
		netlink_put_u32(m, TCA_TBF_BURST, burst);
	burst = burst_of(&q.peakrate, rate_of(&q.peakrate, peak), q.mtu);
	if (burst)
		netlink_put_u32(m, TCA_TBF_PBURST, burst);
	netlink_end_nest(m, nest);
	return NULL;
}

static const char *htb_options(struct netlink_message *m, const struct rtattr *options)
{
	const struct rtattr *init = within(options, TCA_HTB_INIT),
			    *len = within(options, TCA_HTB_DIRECT_QLEN);
	struct tc_htb_glob g;
	size_t nest;

	if (!init || RTA_PAYLOAD(init) < sizeof(g))
		return "it says nothing of itself";
	if (within(options, TCA_HTB_OFFLOAD))
		return "the device does its work";
	memcpy(&g, RTA_DATA(init), sizeof(g));
	g.direct_pkts = 0;
	g.version >>= 16; /* a request has the major one */
	nest = netlink_nest(m, TCA_OPTIONS);
	netlink_put(m, TCA_HTB_INIT, &g, sizeof(g));
	if (len)
		netlink_put(m, TCA_HTB_DIRECT_QLEN, RTA_DATA(len), RTA_PAYLOAD(len));
	netlink_end_nest(m, nest);
	return NULL;
}

static const char *htb_class_options(struct netlink_message *m, const struct rtattr *options)
{
	const struct rtattr *params = within(options, TCA_HTB_PARMS), *wide;
	struct tc_htb_opt o;
	size_t nest;

	if (!params || RTA_PAYLOAD(params) < sizeof(o))
		return "it says nothing of itself";
	memcpy(&o, RTA_DATA(params), sizeof(o));
	o.level = 0; /* where it is */
	nest = netlink_nest(m, TCA_OPTIONS);
	netlink_put(m, TCA_HTB_PARMS, &o, sizeof(o));
	for (int type = TCA_HTB_RATE64; type <= TCA_HTB_CEIL64; type++)
		if ((wide = within(options, type)))
			netlink_put(m, type, RTA_DATA(wide), RTA_PAYLOAD(wide));
	netlink_end_nest(m, nest);
	return NULL;
}

static const char *sfq_options(struct netlink_message *m, const struct rtattr *options)
{
	struct tc_sfq_qopt_v1 o = {};

	if (!options || RTA_PAYLOAD(options) < sizeof(o))
		return "it says nothing of itself";
	memcpy(&o, RTA_DATA(options), sizeof(o));
	memset(&o.stats, 0, sizeof(o.stats));
	netlink_put(m, TCA_OPTIONS, &o, sizeof(o));
	return NULL;
}

static const char *netem_options(struct netlink_message *m, const struct rtattr *options)
{
	const uint64_t kept = BIT(TCA_NETEM_CORR) | BIT(TCA_NETEM_REORDER) | BIT(TCA_NETEM_CORRUPT) |
			      BIT(TCA_NETEM_LOSS) | BIT(TCA_NETEM_RATE) | BIT(TCA_NETEM_ECN) |
			      BIT(TCA_NETEM_RATE64) | BIT(TCA_NETEM_LATENCY64) | BIT(TCA_NETEM_JITTER64) |
			      BIT(NETEM_PRNG_SEED);
	struct tc_netem_qopt o;
	const struct rtattr *a;
	size_t nest;
	int len;

	if (!options || RTA_PAYLOAD(options) < sizeof(o))
		return "it says nothing of itself";
	memcpy(&o, RTA_DATA(options), sizeof(o));
	a = (const struct rtattr *)((const char *)RTA_DATA(options) + NLA_ALIGN(sizeof(o)));
	len = (int)RTA_PAYLOAD(options) - NLA_ALIGN(sizeof(o));
	if (o.jitter || netlink_find(a, len, TCA_NETEM_SLOT))
		return "the kernel does not show by which table its delays vary";
	nest = netlink_nest(m, TCA_OPTIONS);
	put_raw(m, &o, sizeof(o));
	netlink_for(a, len)
	{
		unsigned type = a->rta_type & NLA_TYPE_MASK;

		if (type < 64 && (kept & BIT(type)))
			netlink_put(m, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
	}
	netlink_end_nest(m, nest);
	return NULL;
}

static const struct kind {
	const char *name;
	options_fn options;
} qdiscs[] = {
	{"pfifo", plain_options},
	{"bfifo", plain_options},
	{"pfifo_head_drop", plain_options},
	{"prio", plain_options},
	{"pfifo_fast", no_options},
	{"noqueue", no_options},
	{"mq", no_options},
	{"ingress", no_options},
	{"clsact", no_options},
	{"tbf", tbf_options},
	{"htb", htb_options},
	{"sfq", sfq_options},
	{"fq_codel", fq_codel_options},
	{"codel", codel_options},
	{"fq", fq_options},
	{"netem", netem_options},
};
static const struct kind class_kinds[] = {{"htb", htb_class_options}};

static const struct kind *find_kind(const struct kind *kinds, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

/* Actions --------------------------------------------------------------------------------------------------------------- */

static const struct action_kind {
	const char *name;
	int params, times;
} action_kinds[] = {
	{"gact", 2, 1},
	{"mirred", TCA_MIRRED_PARMS, TCA_MIRRED_TM},
	{"skbedit", 2, 1},
	{"vlan", 2, 1},
	{"police", TCA_POLICE_TBF, TCA_POLICE_TM},
};

static const struct action_kind *find_action(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(action_kinds); i++)
		if (strcmp(action_kinds[i].name, name) == 0)
			return &action_kinds[i];
	return NULL;
}

/* Its rates want a table each, which is looked at only to be thrown away. */
static void put_police(struct netlink_message *m, struct rtattr *params)
{
	static const uint8_t table[RATE_TABLE];
	struct tc_police p;

	if (RTA_PAYLOAD(params) < sizeof(p))
		return;
	memcpy(&p, RTA_DATA(params), sizeof(p));
	p.refcnt = p.bindcnt = 0;
	p.rate.cell_log = p.rate.rate ? CELL_LOG : 0;
	p.peakrate.cell_log = p.peakrate.rate ? CELL_LOG : 0;
	memcpy(RTA_DATA(params), &p, sizeof(p));
	if (p.rate.rate)
		netlink_put(m, TCA_POLICE_RATE, table, sizeof(table));
	if (p.peakrate.rate)
		netlink_put(m, TCA_POLICE_PEAKRATE, table, sizeof(table));
}

/* Who has it is no part of it. */
static void put_params(struct netlink_message *m, const struct action_kind *k, const struct rtattr *a)
{
	size_t at = m->h.nlmsg_len;
	struct rtattr *params;

	netlink_put(m, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
	if (m->h.nlmsg_len > sizeof(*m))
		return;
	params = (struct rtattr *)((char *)m + at);
	if (strcmp(k->name, "police") == 0)
		put_police(m, params);
	else if (RTA_PAYLOAD(params) >= 5 * sizeof(uint32_t)) /* tc_gen: refcnt, bindcnt */
		memset((char *)RTA_DATA(params) + 3 * sizeof(uint32_t), 0, 2 * sizeof(uint32_t));
}

static const char *put_action(struct netlink_message *m, const struct rtattr *action)
{
	const struct rtattr *kind = within(action, TCA_ACT_KIND), *options = within(action, TCA_ACT_OPTIONS);
	const struct action_kind *k = find_action(text_in(kind));
	const struct rtattr *a = options ? RTA_DATA(options) : NULL;
	int len = options ? RTA_PAYLOAD(options) : 0;
	size_t nest, inner;

	if (!k || !options)
		return "it has an action of a kind that is not recorded";
	nest = netlink_nest(m, action->rta_type & NLA_TYPE_MASK);
	netlink_put(m, TCA_ACT_KIND, RTA_DATA(kind), RTA_PAYLOAD(kind));
	for (int type = TCA_ACT_COOKIE; type <= TCA_ACT_HW_STATS; type++) {
		const struct rtattr *other = within(action, type);

		if (other)
			netlink_put(m, type, RTA_DATA(other), RTA_PAYLOAD(other));
	}
	inner = netlink_nest(m, TCA_ACT_OPTIONS);
	netlink_for(a, len)
	{
		int type = a->rta_type & NLA_TYPE_MASK;

		if (type == k->params)
			put_params(m, k, a);
		else if (type != k->times && !(strcmp(k->name, "police") == 0 && type == TCA_POLICE_RESULT &&
						     RTA_PAYLOAD(a) == 0))
			netlink_put(m, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
	}
	netlink_end_nest(m, inner);
	netlink_end_nest(m, nest);
	return NULL;
}

static const char *put_actions(struct netlink_message *m, const struct rtattr *list)
{
	const struct rtattr *a = RTA_DATA(list);
	int len = RTA_PAYLOAD(list);
	size_t nest = netlink_nest(m, list->rta_type & NLA_TYPE_MASK);
	const char *why = NULL;

	netlink_for(a, len)
	{
		why = put_action(m, a);
		if (why)
			return why;
	}
	netlink_end_nest(m, nest);
	return NULL;
}

/* Filters --------------------------------------------------------------------------------------------------------------- */

enum { ANY_FLAGS = TCA_CLS_FLAGS_SKIP_HW | TCA_CLS_FLAGS_SKIP_SW };

static const struct filter_kind {
	const char *name;
	int last, actions, flags; /* attributes up to this are kept, but ... */
	uint64_t counts;	  /* ... these */
} filter_kinds[] = {
	{"u32", TCA_U32_FLAGS, TCA_U32_ACT, TCA_U32_FLAGS, BIT(TCA_U32_PCNT)},
	{"matchall", TCA_MATCHALL_FLAGS, TCA_MATCHALL_ACT, TCA_MATCHALL_FLAGS, 0},
	{"flower", TCA_FLOWER_KEY_L2TPV3_SID, TCA_FLOWER_ACT, TCA_FLOWER_FLAGS, 0},
	{"fw", TCA_FW_MASK, TCA_FW_ACT, 0, 0},
};

static const struct filter_kind *find_filter(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(filter_kinds); i++)
		if (strcmp(filter_kinds[i].name, name) == 0)
			return &filter_kinds[i];
	return NULL;
}

static void put_mark(struct netlink_message *m, const struct rtattr *a)
{
	struct tc_u32_mark mark;

	if (RTA_PAYLOAD(a) < sizeof(mark))
		return;
	memcpy(&mark, RTA_DATA(a), sizeof(mark));
	mark.success = 0;
	netlink_put(m, TCA_U32_MARK, &mark, sizeof(mark));
}

/* The kernel shows the protocol behind the tag as if there was none. */
static bool asks_for_vlans(const struct filter_kind *k, const struct rtattr *options)
{
	static const int types[] = {TCA_FLOWER_KEY_VLAN_ID, TCA_FLOWER_KEY_VLAN_PRIO,
		TCA_FLOWER_KEY_VLAN_ETH_TYPE, TCA_FLOWER_KEY_CVLAN_ID, TCA_FLOWER_KEY_CVLAN_PRIO,
		TCA_FLOWER_KEY_CVLAN_ETH_TYPE, TCA_FLOWER_KEY_NUM_OF_VLANS};

	for (size_t i = 0; i < ARRAY_SIZE(types) && strcmp(k->name, "flower") == 0; i++)
		if (within(options, types[i]))
			return true;
	return false;
}

static const char *put_filter_options(
	struct netlink_message *m, const struct filter_kind *k, const struct rtattr *options)
{
	const struct rtattr *a = RTA_DATA(options);
	int len = RTA_PAYLOAD(options);
	size_t nest = netlink_nest(m, TCA_OPTIONS);

	if (asks_for_vlans(k, options))
		return "what it asks of VLANs is shown in another way than it is asked for";
	netlink_for(a, len)
	{
		int type = a->rta_type & NLA_TYPE_MASK;
		const char *why = NULL;

		if (type == k->actions)
			why = put_actions(m, a);
		else if (k->flags && type == k->flags) {
			if (netlink_u32(a, 0) & ANY_FLAGS)
				netlink_put_u32(m, type, netlink_u32(a, 0) & ANY_FLAGS);
		} else if (k->last == TCA_U32_FLAGS && type == TCA_U32_MARK)
			put_mark(m, a);
		else if (type <= k->last && !(type < 64 && (k->counts & BIT(type))) &&
			 !(k->actions == TCA_FLOWER_ACT && type == TCA_FLOWER_IN_HW_COUNT))
			netlink_put(m, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
		else if (type > k->last && k->actions == TCA_FLOWER_ACT && type != TCA_FLOWER_IN_HW_COUNT)
			why = "it asks for something that this version does not know";
		if (why)
			return why;
	}
	netlink_end_nest(m, nest);
	return NULL;
}

/* Messages -------------------------------------------------------------------------------------------------------------- */

static int add(struct reader *r, const struct netlink_message *m)
{
	ProtobufCBinaryData *b;

	if (m->h.nlmsg_len > sizeof(*m))
		return -EMSGSIZE;
	r->n->traffic = arena_grow(r->a, r->n->traffic, r->n->n_traffic, &r->max, sizeof(*r->n->traffic));
	r->ranks = arena_grow(r->a, r->ranks, r->n->n_traffic, &r->max_ranks, sizeof(*r->ranks));
	if (!r->n->traffic || !r->ranks)
		return -ENOMEM;
	r->ranks[r->n->n_traffic] = 0;
	b = &r->n->traffic[r->n->n_traffic++];
	b->len = m->h.nlmsg_len;
	b->data = arena_memdup(r->a, m, b->len);
	return b->data ? 0 : -ENOMEM;
}

static struct tcmsg *begin(struct netlink_message *m, int type, const struct tcmsg *from, const char *kind)
{
	struct tcmsg *t = netlink_begin(m, type, 0, sizeof(*t));

	m->h.nlmsg_flags = 0;
	t->tcm_ifindex = from->tcm_ifindex;
	t->tcm_handle = from->tcm_handle;
	t->tcm_parent = from->tcm_parent;
	netlink_put(m, TCA_KIND, kind, strlen(kind) + 1);
	return t;
}

static int take_qdisc(const struct nlmsghdr *h, void *arg)
{
	struct reader *r = arg;
	const struct tcmsg *t = NLMSG_DATA(h);
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*t), &len);
	const char *name = a ? text_in(netlink_find(a, len, TCA_KIND)) : "", *why = NULL;
	const struct kind *k = find_kind(qdiscs, ARRAY_SIZE(qdiscs), name);
	struct netlink_message m;

	if (!a)
		return -EBADMSG;
	if (t->tcm_handle == 0)
		return 0;
	if (k) {
		begin(&m, RTM_NEWQDISC, t, name);
		why = k->options(&m, netlink_find(a, len, TCA_OPTIONS));
	}
	if (!k)
		why = "this kind is not recorded";
	else if (netlink_find(a, len, TCA_STAB))
		why = "its table of sizes is not recorded";
	else if (netlink_find(a, len, TCA_INGRESS_BLOCK) || netlink_find(a, len, TCA_EGRESS_BLOCK))
		why = "it shares its filters with others, which is not recorded";
	else if (within(netlink_find(a, len, TCA_STATS2), TCA_STATS_RATE_EST))
		why = "its estimator is not recorded";
	if (why) {
		r->refuse(
			t->tcm_ifindex, "queueing discipline", name, why, "remove it (tc qdisc del)", r->arg);
		return 0;
	}
	return add(r, &m);
}

static int take_class(const struct nlmsghdr *h, void *arg)
{
	struct reader *r = arg;
	const struct tcmsg *t = NLMSG_DATA(h);
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*t), &len);
	const char *name = a ? text_in(netlink_find(a, len, TCA_KIND)) : "", *why;
	const struct kind *k = find_kind(class_kinds, ARRAY_SIZE(class_kinds), name);
	struct netlink_message m;

	if (!a)
		return -EBADMSG;
	/* Those of other kinds are there with the discipline. */
	if (!k)
		return 0;
	begin(&m, RTM_NEWTCLASS, t, name);
	why = k->options(&m, netlink_find(a, len, TCA_OPTIONS));
	if (!why && within(netlink_find(a, len, TCA_STATS2), TCA_STATS_RATE_EST))
		why = "its estimator is not recorded";
	if (!why)
		return add(r, &m);
	r->refuse(t->tcm_ifindex, "class", name, why, "remove it (tc class del)", r->arg);
	return 0;
}

/* Filters of the kind u32 lie in numbered tables. The first one of each place, priority and chain gets its number when the first filter
 * comes, counted from U32_ROOT for all of a discipline; others have the number that was asked for. */
static bool is_root_of(const struct root *root, uint32_t parent, uint32_t priority, uint32_t chain)
{
	return root->parent == parent && root->priority == priority && root->chain == chain;
}

static bool note_table(struct reader *r, const struct tcmsg *t, uint32_t chain)
{
	uint32_t table = TC_U32_HTID(t->tcm_handle) >> 20;

	if (table < U32_ROOT)
		return false;
	for (size_t i = 0; i < r->n_roots; i++)
		r->odd_tables |= is_root_of(&r->roots[i], r->parent, t->tcm_info >> 16, chain);
	r->odd_tables |= r->n_roots == ARRAY_SIZE(r->roots);
	if (!r->odd_tables)
		r->roots[r->n_roots++] = (struct root){r->parent, t->tcm_info >> 16, chain, table, 0};
	return true;
}

static uint32_t chain_of(const struct rtattr *a, int len)
{
	return netlink_u32(netlink_find(a, len, TCA_CHAIN), 0);
}

/* By the table with which it began, and tables before what lies in them. */
static uint32_t rank_of(struct reader *r, const ProtobufCBinaryData *d)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)d->data;
	const struct tcmsg *t = NLMSG_DATA(h);
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*t), &len);

	if (strcmp(text_in(netlink_find(a, len, TCA_KIND)), "u32") != 0)
		return 0;
	for (size_t i = 0; i < r->n_roots; i++)
		if (is_root_of(&r->roots[i], t->tcm_parent, t->tcm_info >> 16, chain_of(a, len))) {
			r->roots[i].items++;
			return r->roots[i].table << 1 |
			       (within(netlink_find(a, len, TCA_OPTIONS), TCA_U32_SEL) != NULL);
		}
	r->odd_tables = true;
	return 0;
}

/* Those of one discipline, in the order in which they can be made. */
static void order_filters(struct reader *r, int index)
{
	ProtobufCBinaryData *items = r->n->traffic;

	for (size_t i = r->first; i < r->n->n_traffic; i++)
		r->ranks[i] = rank_of(r, &items[i]);
	for (size_t i = r->first + 1; i < r->n->n_traffic; i++)
		for (size_t k = i; k > r->first && r->ranks[k - 1] > r->ranks[k]; k--) {
			ProtobufCBinaryData d = items[k];
			uint32_t rank = r->ranks[k];

			items[k] = items[k - 1];
			r->ranks[k] = r->ranks[k - 1];
			items[k - 1] = d;
			r->ranks[k - 1] = rank;
		}
	for (size_t i = 0; i < r->n_roots; i++) {
		bool there = false;

		for (size_t k = 0; k < r->n_roots; k++)
			there |= r->roots[k].table == U32_ROOT + i && r->roots[k].items > 0;
		r->odd_tables |= !there;
	}
	if (r->odd_tables)
		r->refuse(index, "filter", "u32", "the kernel would give its tables other numbers",
			"remove it (tc filter del) and make all filters of this kind anew", r->arg);
}

static int take_filter(const struct nlmsghdr *h, void *arg)
{
	struct reader *r = arg;
	const struct tcmsg *t = NLMSG_DATA(h);
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*t), &len),
			    *options = a ? netlink_find(a, len, TCA_OPTIONS) : NULL,
			    *chain = a ? netlink_find(a, len, TCA_CHAIN) : NULL;
	const char *name = a ? text_in(netlink_find(a, len, TCA_KIND)) : "", *why = NULL;
	const struct filter_kind *k = find_filter(name);
	struct netlink_message m;
	struct tcmsg *header;

	if (!a)
		return -EBADMSG;
	if (k && (!options || t->tcm_handle == 0))
		return 0; /* that there are some */
	if (k && strcmp(name, "u32") == 0 && within(options, TCA_U32_DIVISOR) &&
		note_table(r, t, chain_of(a, len)))
		return 0;
	if (k) {
		header = begin(&m, RTM_NEWTFILTER, t, name);
		header->tcm_parent = r->parent;
		header->tcm_info = t->tcm_info;
		if (chain && netlink_u32(chain, 0))
			netlink_put_u32(&m, TCA_CHAIN, netlink_u32(chain, 0));
		why = put_filter_options(&m, k, options);
	} else {
		why = "this kind is not recorded";
	}
	if (!why)
		return add(r, &m);
	r->refuse(t->tcm_ifindex, "filter", name, why, "remove it (tc filter del)", r->arg);
	return 0;
}

/* What nobody uses has no place, and is nowhere else. */
static int take_unused_actions(const struct nlmsghdr *h, void *arg)
{
	struct reader *r = arg;
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct tcamsg), &len);

	if (!a)
		return -EBADMSG;
	a = netlink_find(a, len, TCA_ACT_TAB);
	len = a ? (int)RTA_PAYLOAD(a) : 0;
	a = a ? RTA_DATA(a) : NULL;
	netlink_for(a, len)
	{
		const char *name = text_in(within(a, TCA_ACT_KIND));
		const struct action_kind *k = find_action(name);
		const struct rtattr *params = k ? within(within(a, TCA_ACT_OPTIONS), k->params) : NULL;
		struct tc_police police = {};
		uint32_t gen[5] = {};
		uint32_t bound = 1;

		if (params && strcmp(name, "police") == 0 && RTA_PAYLOAD(params) >= sizeof(police)) {
			memcpy(&police, RTA_DATA(params), sizeof(police));
			bound = (uint32_t)police.bindcnt;
		} else if (params && RTA_PAYLOAD(params) >= sizeof(gen)) {
			memcpy(gen, RTA_DATA(params), sizeof(gen));
			bound = gen[4];
		}
		if (bound == 0)
			r->refuse(0, "action", name, "no filter has it", "remove it (tc actions flush)",
				r->arg);
	}
	return 0;
}

static int ask(struct reader *r, int type, int index, uint32_t parent, netlink_answer_fn take)
{
	struct netlink_message q;
	size_t before = r->n->n_traffic, roots = r->n_roots;
	int result = -EAGAIN;

	for (int i = 0; i < TRIES && result == -EAGAIN; i++) {
		struct tcmsg *t = netlink_begin(&q, type, NLM_F_DUMP, sizeof(*t));

		t->tcm_ifindex = index;
		t->tcm_parent = parent;
		r->n->n_traffic = before;
		r->n_roots = roots;
		result = netlink_ask(r->socket, &q, take, r);
	}
	/* A kernel without any of these; or it has gone. */
	return result == -EOPNOTSUPP || result == -EINVAL || result == -ENODEV ? 0 : result;
}

static int ask_filters(struct reader *r, int index, uint32_t parent)
{
	r->parent = parent;
	return ask(r, RTM_GETTFILTER, index, parent, take_filter);
}

static int ask_unused_actions(struct reader *r)
{
	int result = 0;

	for (size_t i = 0; i < ARRAY_SIZE(action_kinds) && result == 0; i++) {
		struct netlink_message q;
		size_t tab, one;

		(void)netlink_begin(&q, RTM_GETACTION, NLM_F_DUMP, sizeof(struct tcamsg));
		tab = netlink_nest(&q, TCA_ACT_TAB);
		one = netlink_nest(&q, 1);
		netlink_put(&q, TCA_ACT_KIND, action_kinds[i].name, strlen(action_kinds[i].name) + 1);
		netlink_end_nest(&q, one);
		netlink_end_nest(&q, tab);
		result = netlink_ask(r->socket, &q, take_unused_actions, r);
		if (result == -EAGAIN || result == -ENOENT || result == -EINVAL || result == -EOPNOTSUPP)
			result = 0;
	}
	return result;
}

static bool is_class_of(const ProtobufCBinaryData *d, const struct tcmsg *qdisc)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)d->data;
	const struct tcmsg *t = NLMSG_DATA(h);

	return h->nlmsg_type == RTM_NEWTCLASS && t->tcm_ifindex == qdisc->tcm_ifindex &&
	       TC_H_MAJ(t->tcm_handle) == qdisc->tcm_handle;
}

/* Of a discipline and its classes, which are among the first "n". */
static int ask_filters_of(struct reader *r, const ProtobufCBinaryData *d, size_t n)
{
	const struct tcmsg *t = NLMSG_DATA((const struct nlmsghdr *)d->data);
	const uint32_t clsact = TC_H_MAKE(TC_H_CLSACT, 0);
	bool ends = t->tcm_handle == clsact;
	int result;

	r->first = r->n->n_traffic;
	r->n_roots = 0;
	r->odd_tables = false;
	result = ask_filters(r, t->tcm_ifindex, ends ? clsact | TC_H_MIN_INGRESS : t->tcm_handle);
	if (ends && result == 0)
		result = ask_filters(r, t->tcm_ifindex, clsact | TC_H_MIN_EGRESS);
	for (size_t i = 0; i < n && result == 0; i++)
		if (is_class_of(&r->n->traffic[i], t))
			result = ask_filters(r, t->tcm_ifindex,
				((const struct tcmsg *)NLMSG_DATA(
					 (const struct nlmsghdr *)r->n->traffic[i].data))
					->tcm_handle);
	if (result == 0)
		order_filters(r, t->tcm_ifindex);
	return result;
}

/* Is the parent of that class none of those from i on? */
static bool comes_first(const ProtobufCBinaryData *items, size_t i, size_t which, size_t n)
{
	uint32_t parent =
		((const struct tcmsg *)NLMSG_DATA((const struct nlmsghdr *)items[which].data))->tcm_parent;

	for (size_t k = i; k < n; k++)
		if (((const struct tcmsg *)NLMSG_DATA((const struct nlmsghdr *)items[k].data))->tcm_handle ==
			parent)
			return false;
	return true;
}

/* From "first" on, parents before their children: the kernel takes one whose parent is not there for one without. */
static void order_classes(struct reader *r, size_t first)
{
	ProtobufCBinaryData *items = r->n->traffic;

	for (size_t i = first; i < r->n->n_traffic; i++) {
		size_t k = i;
		ProtobufCBinaryData d;

		while (k + 1 < r->n->n_traffic && !comes_first(items, i, k, r->n->n_traffic))
			k++;
		d = items[k];
		memmove(&items[i + 1], &items[i], (k - i) * sizeof(*items));
		items[i] = d;
	}
}

int traffic_read(int socket, struct arena *a, St__Network *n, traffic_refuse_fn refuse, void *arg)
{
	struct reader r = {.socket = socket, .a = a, .n = n, .refuse = refuse, .arg = arg};
	size_t n_qdiscs;
	int result = ask(&r, RTM_GETQDISC, 0, 0, take_qdisc);

	n_qdiscs = n->n_traffic;
	for (size_t i = 0, last = 0; i < n_qdiscs && result == 0; i++) {
		const struct tcmsg *t = NLMSG_DATA((const struct nlmsghdr *)n->traffic[i].data);

		/* All of an interface, which are one after another. */
		if ((size_t)t->tcm_ifindex != last) {
			size_t first = n->n_traffic;

			last = t->tcm_ifindex;
			result = ask(&r, RTM_GETTCLASS, t->tcm_ifindex, 0, take_class);
			order_classes(&r, first);
		}
	}
	for (size_t i = 0, n_places = n->n_traffic; i < n_qdiscs && result == 0; i++)
		result = ask_filters_of(&r, &n->traffic[i], n_places);
	return result < 0 || n->n_traffic == 0 ? result : ask_unused_actions(&r);
}

/* What an image may say ------------------------------------------------------------------------------------------------- */

static bool has_other_actions(const struct filter_kind *k, const struct rtattr *options)
{
	const struct rtattr *list = within(options, k->actions), *a = list ? RTA_DATA(list) : NULL;
	int len = list ? RTA_PAYLOAD(list) : 0;

	netlink_for(a, len)
	{
		if (!find_action(text_in(within(a, TCA_ACT_KIND))))
			return true;
	}
	return false;
}

bool traffic_is_request(const ProtobufCBinaryData *d)
{
	const uint64_t known = BIT(TCA_KIND) | BIT(TCA_OPTIONS) | BIT(TCA_CHAIN);
	const struct nlmsghdr *h = (const struct nlmsghdr *)d->data;
	const struct rtattr *all, *a;
	const struct filter_kind *filter;
	const char *kind;
	int len, left;

	if (d->len < NLMSG_LENGTH(sizeof(struct tcmsg)) || d->len > NETLINK_MESSAGE_MAX ||
		(uintptr_t)d->data % sizeof(uint32_t) != 0 || h->nlmsg_len != d->len)
		return false;
	a = all = netlink_attributes(h, sizeof(struct tcmsg), &len);
	left = len;
	netlink_for(a, left)
	{
		unsigned type = a->rta_type & NLA_TYPE_MASK;

		if (type >= 64 || !(known & BIT(type)))
			return false;
	}
	kind = text_in(netlink_find(all, len, TCA_KIND));
	if (h->nlmsg_type == RTM_NEWQDISC)
		return find_kind(qdiscs, ARRAY_SIZE(qdiscs), kind);
	if (h->nlmsg_type == RTM_NEWTCLASS)
		return find_kind(class_kinds, ARRAY_SIZE(class_kinds), kind);
	filter = h->nlmsg_type == RTM_NEWTFILTER ? find_filter(kind) : NULL;
	a = netlink_find(all, len, TCA_OPTIONS);
	return filter && a && !has_other_actions(filter, a);
}

/* Where packets are sent on to. */
static void renumber_actions(const struct rtattr *list, int (*current)(int index, void *arg), void *arg)
{
	const struct rtattr *a = list ? RTA_DATA(list) : NULL;
	int len = list ? RTA_PAYLOAD(list) : 0;

	netlink_for(a, len)
	{
		const struct rtattr *params = within(within(a, TCA_ACT_OPTIONS), TCA_MIRRED_PARMS);
		struct tc_mirred mirred;

		if (strcmp(text_in(within(a, TCA_ACT_KIND)), "mirred") != 0 || !params ||
			RTA_PAYLOAD(params) < sizeof(mirred))
			continue;
		memcpy(&mirred, RTA_DATA(params), sizeof(mirred));
		mirred.ifindex = (uint32_t)current((int)mirred.ifindex, arg);
		memcpy(RTA_DATA(params), &mirred, sizeof(mirred));
	}
}

void traffic_renumber(ProtobufCBinaryData *d, int (*current)(int index, void *arg), void *arg)
{
	struct nlmsghdr *h = (struct nlmsghdr *)d->data;
	struct tcmsg *t = NLMSG_DATA(h);
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*t), &len);
	const struct filter_kind *k = find_filter(text_in(netlink_find(a, len, TCA_KIND)));

	t->tcm_ifindex = current(t->tcm_ifindex, arg);
	if (h->nlmsg_type == RTM_NEWTFILTER && k)
		renumber_actions(within(netlink_find(a, len, TCA_OPTIONS), k->actions), current, arg);
}
