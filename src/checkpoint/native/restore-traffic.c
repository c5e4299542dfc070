/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes queueing disciplines, classes and filters again (traffic.h). One may need another one that comes behind it: as long as any
 * succeeds. Then all is read once more: a kernel that has made something else of a request is noticed.
 */
#include <errno.h>
#include <string.h>

#include "checkpoint/native/traffic.h"

static const struct tcmsg *head_of(const ProtobufCBinaryData *d)
{
	return NLMSG_DATA((const struct nlmsghdr *)d->data);
}

static const char *kind_of(const ProtobufCBinaryData *d)
{
	int len;
	const struct rtattr *a =
		netlink_attributes((const struct nlmsghdr *)d->data, sizeof(struct tcmsg), &len);

	a = netlink_find(a, len, TCA_KIND);
	return a ? RTA_DATA(a) : "";
}

static const char *what_is(const ProtobufCBinaryData *d)
{
	switch (((const struct nlmsghdr *)d->data)->nlmsg_type) {
	case RTM_NEWQDISC:
		return "queueing discipline";
	case RTM_NEWTCLASS:
		return "class";
	default:
		return "filter";
	}
}

static int failed(const ProtobufCBinaryData *d, int code, const char *how, struct error *e)
{
	const struct tcmsg *t = head_of(d);

	return error_errno(e, code, "%s the %s %s (%x:%x, of interface number %d)", how, what_is(d),
		kind_of(d), t->tcm_handle >> 16, t->tcm_handle & 0xffff, t->tcm_ifindex);
}

static void note_refused(int index _unused_, const char *what _unused_, const char *kind _unused_,
	const char *why _unused_, const char *remedy _unused_, void *arg)
{
	*(bool *)arg = true;
}

static int read_all(const struct traffic_restore *t, St__Network **ret, bool *ret_others, struct error *e)
{
	int r;

	*ret_others = false;
	*ret = arena_new(t->arena, St__Network);
	if (!*ret)
		return error_errno(e, -ENOMEM, "traffic control");
	st__network__init(*ret);
	r = traffic_read(t->socket, t->arena, *ret, note_refused, ret_others);
	return r < 0 ? error_errno(e, r, "read what traffic control has") : 0;
}

static bool has_any(const St__Network *n, int index)
{
	for (size_t i = 0; i < n->n_traffic; i++)
		if (head_of(&n->traffic[i])->tcm_ifindex == index)
			return true;
	return false;
}

static bool is_in(const ProtobufCBinaryData *d, const ProtobufCBinaryData *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].len == d->len && memcmp(list[i].data, d->data, d->len) == 0)
			return true;
	return false;
}

static int send_request(const struct traffic_restore *t, const ProtobufCBinaryData *d)
{
	struct netlink_message m;

	memcpy(&m, d->data, d->len);
	m.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	m.h.nlmsg_seq = m.h.nlmsg_pid = 0;
	return netlink_ask(t->socket, &m, NULL, NULL);
}

static int make_all(const struct traffic_restore *t, ProtobufCBinaryData *list, size_t n, struct error *e)
{
	bool *done = arena_array(t->arena, n + 1, sizeof(*done)), progress = true;
	size_t stuck = n;
	int code = 0;

	if (!done)
		return error_errno(e, -ENOMEM, "traffic control");
	while (progress) {
		progress = false;
		stuck = n;
		for (size_t i = 0; i < n; i++) {
			int r = done[i] ? 0 : send_request(t, &list[i]);

			if (!done[i] && r == 0) {
				done[i] = progress = true;
			} else if (r < 0 && stuck == n) {
				stuck = i;
				code = r;
			}
		}
	}
	return stuck < n ? failed(&list[stuck], code, "restore", e) : 0;
}

/* Both ways: what is too much was not in the image. */
static int compare(
	const struct traffic_restore *t, const ProtobufCBinaryData *list, size_t n, struct error *e)
{
	St__Network *now;
	bool others;
	int r = read_all(t, &now, &others, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (!is_in(&list[i], now->traffic, now->n_traffic))
			return failed(&list[i], -ENOTSUP, "this kernel makes something else of", e);
	for (size_t i = 0; i < now->n_traffic; i++)
		for (size_t k = 0; k < n; k++)
			if (head_of(&list[k])->tcm_ifindex == head_of(&now->traffic[i])->tcm_ifindex &&
				!is_in(&now->traffic[i], list, n))
				return failed(&now->traffic[i], -ENOTSUP, "this kernel makes besides", e);
	return 0;
}

/* What the container did to an interface of others it does again; what they did is theirs. */
static int choose(
	const struct traffic_restore *t, const St__Network *found, ProtobufCBinaryData **ret, size_t *ret_n)
{
	*ret = arena_array(t->arena, t->want->n_traffic + 1, sizeof(**ret));
	*ret_n = 0;
	for (size_t i = 0; i < t->want->n_traffic && *ret; i++) {
		const ProtobufCBinaryData *d = &t->want->traffic[i];
		int index = head_of(d)->tcm_ifindex;
		ProtobufCBinaryData *mine = &(*ret)[*ret_n];

		if (t->is_theirs(index, t->arg) && has_any(found, t->current(index, t->arg)))
			continue;
		*mine = (ProtobufCBinaryData){d->len, arena_memdup(t->arena, d->data, d->len)};
		if (!mine->data)
			return -ENOMEM;
		traffic_renumber(mine, t->current, t->arg);
		++*ret_n;
	}
	return *ret ? 0 : -ENOMEM;
}

int restore_traffic(const struct traffic_restore *t, struct error *e)
{
	ProtobufCBinaryData *list;
	St__Network *found;
	bool others;
	size_t n;
	int r;

	if (t->want->n_traffic == 0)
		return 0;
	r = read_all(t, &found, &others, e);
	if (r < 0)
		return r;
	r = choose(t, found, &list, &n);
	if (r < 0)
		return error_errno(e, r, "traffic control");
	if (n > 0 && !t->may_make)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image has traffic control (a %s %s), which no hook has made, and the bundle's "
			"config.json does not allow the container to make any: add CAP_NET_ADMIN to "
			"process.capabilities.bounding, if it is wanted, or use --empty-ns network",
			what_is(&list[0]), kind_of(&list[0]));
	r = make_all(t, list, n, e);
	return r < 0 ? r : compare(t, list, n, e);
}
