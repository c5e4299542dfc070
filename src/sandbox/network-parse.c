/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sandbox/network.h"

enum { MTU_MIN = 68, IPV6_MTU_MIN = 1280, MTU_MAX = 65535, VLAN_MAX = 4094 };

/* Where we are: "links", 1. */
struct reader {
	const char *list;
	size_t index;
	struct arena *arena;
	struct idl_fault *fault;
};

static int fail(const struct reader *r, const char *member, const char *format, ...) _printf_(3, 4);
static int fail(const struct reader *r, const char *member, const char *format, ...)
{
	struct idl_fault *f = r->fault;
	va_list ap;

	snprintf(f->path, sizeof(f->path), "%s[%zu].%s", r->list, r->index, member);
	va_start(ap, format);
	vsnprintf(f->message, sizeof(f->message), format, ap);
	va_end(ap);
	return -EINVAL;
}

static const char *get_string(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : NULL;
}

static bool get_bool(struct json_object *o, const char *key, bool otherwise)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v ? json_object_get_boolean(v) : otherwise;
}

/* 1: it is not there. */
static int get_number(const struct reader *r, struct json_object *o, const char *key, int64_t min,
	int64_t max, uint32_t *ret)
{
	struct json_object *v;
	int64_t n;

	if (!json_object_object_get_ex(o, key, &v) || !v)
		return 1;
	n = json_object_get_int64(v);
	if (n < min || n > max)
		return fail(r, key, "%s is not from %lld to %lld", json_object_get_string(v), (long long)min,
			(long long)max);
	*ret = (uint32_t)n;
	return 0;
}

/* As the kernel's dev_valid_name(), and no "%", by which it would choose a name itself. */
static int get_device(const struct reader *r, struct json_object *o, const char *key, const char **ret)
{
	const char *s = get_string(o, key);

	if (s && (!*s || strlen(s) >= IFNAMSIZ || !strcmp(s, ".") || !strcmp(s, "..") ||
			 strpbrk(s, "/:% \t\r\n\v\f")))
		return fail(r, key, "\"%.40s\" is no name of an interface (1 to 15 characters)", s);
	*ret = s;
	return 0;
}

static int get_mac(const struct reader *r, struct json_object *o, unsigned char mac[6], bool *ret_has)
{
	const char *s = get_string(o, "mac");
	unsigned int b[6];
	char end;

	*ret_has = s != NULL;
	if (!s)
		return 0;
	if (strlen(s) != 17 || strspn(s, "0123456789abcdefABCDEF:") != 17 ||
		sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6)
		return fail(r, "mac", "\"%.40s\" is no hardware address like 02:00:00:00:00:01", s);
	for (int i = 0; i < 6; i++)
		mac[i] = (unsigned char)b[i];
	if (mac[0] & 1 || !memcmp(mac, (unsigned char[6]){0}, 6))
		return fail(r, "mac", "%s is not the address of one interface", s);
	return 0;
}

/* "10.0.0.2" or, with a prefix, "10.0.0.2/24"; without one it is that of one host unless it must be given. */
static int parse_address(const char *s, bool must_have_prefix, struct net_address *ret)
{
	const char *slash = strchr(s, '/');
	size_t len = slash ? (size_t)(slash - s) : strlen(s);
	char host[INET6_ADDRSTRLEN], *end;
	unsigned long prefix;
	int bits;

	if (len >= sizeof(host) || (must_have_prefix && !slash))
		return -EINVAL;
	memcpy(host, s, len);
	host[len] = '\0';
	*ret = (struct net_address){.family = strchr(host, ':') ? AF_INET6 : AF_INET};
	bits = ret->family == AF_INET6 ? 128 : 32;
	if (inet_pton(ret->family, host, ret->bytes) != 1)
		return -EINVAL;
	ret->prefix_len = (unsigned char)bits;
	if (!slash)
		return 0;
	if (slash[1] < '0' || slash[1] > '9')
		return -EINVAL;
	prefix = strtoul(slash + 1, &end, 10);
	if (*end || prefix > (unsigned long)bits)
		return -EINVAL;
	ret->prefix_len = (unsigned char)prefix;
	return 0;
}

static int get_host(const struct reader *r, struct json_object *o, const char *key, struct net_address *ret)
{
	const char *s = get_string(o, key);

	if (s && (strchr(s, '/') || parse_address(s, false, ret) < 0))
		return fail(r, key, "\"%.60s\" is no address like 10.0.0.1 or fd00::1", s);
	return 0;
}

static int read_addresses(const struct reader *r, struct json_object *o, struct net_link *l)
{
	struct json_object *list = NULL;
	char member[40];

	json_object_object_get_ex(o, "addresses", &list);
	l->n_addresses = list ? json_object_array_length(list) : 0;
	if (!l->n_addresses)
		return 0;
	l->addresses = arena_array(r->arena, l->n_addresses, sizeof(*l->addresses));
	if (!l->addresses)
		return -ENOMEM;
	for (size_t i = 0; i < l->n_addresses; i++) {
		const char *s = json_object_get_string(json_object_array_get_idx(list, i));

		snprintf(member, sizeof(member), "addresses[%zu]", i);
		if (parse_address(s, true, &l->addresses[i]) < 0 || l->addresses[i].prefix_len == 0)
			return fail(r, member,
				"\"%.60s\" is no address with its prefix, like 10.0.0.2/24 or fd00::2/64", s);
	}
	return 0;
}

/* What each kind needs, and what only some have. */
static int check_kind(const struct reader *r, struct json_object *o, const struct net_link *l)
{
	bool has_parent = l->kind == NET_VLAN || l->kind == NET_MACVLAN || l->kind == NET_IPVLAN;

	if (has_parent && !l->parent)
		return fail(r, "parent", "is missing: the interface on which it lies");
	if (!has_parent && l->parent)
		return fail(r, "parent", "only a vlan, macvlan or ipvlan lies on an interface");
	if (!l->parent && l->parent_inside)
		return fail(r, "parentInside", "there is no parent");
	if (l->kind == NET_VETH && !l->peer)
		return fail(r, "peer", "is missing: the name of its other end, which is on the host");
	if (l->kind != NET_VETH && l->peer)
		return fail(r, "peer", "only a veth has another end");
	if (l->kind == NET_VLAN && !l->vlan)
		return fail(r, "vlan", "is missing: the number of the VLAN");
	if (l->kind != NET_VLAN && l->vlan)
		return fail(r, "vlan", "only a vlan has a number");
	if (l->kind == NET_IPVLAN && l->has_mac)
		return fail(r, "mac", "an ipvlan has that of its parent");
	/* the kernel would forget its neighbours, or its addresses of IPv6 */
	if (l->kind == NET_EXISTING && l->has_mac)
		return fail(r, "mac", "only an interface that is made gets one");
	if (l->kind == NET_EXISTING && l->mtu && l->mtu < IPV6_MTU_MIN)
		return fail(r, "mtu", "less than %d takes IPv6 away from an interface: make it with that",
			IPV6_MTU_MIN);
	if (!strcmp(l->name, "lo") && (l->has_mac || l->bridge || l->kind != NET_EXISTING))
		return fail(r, "name", "lo has only addresses, an MTU, and can be brought up");
	(void)o;
	return 0;
}

static enum net_link_kind kind_of(const char *s)
{
	static const char *const names[] = {[NET_EXISTING] = "existing",
		[NET_DUMMY] = "dummy",
		[NET_BRIDGE] = "bridge",
		[NET_VETH] = "veth",
		[NET_VLAN] = "vlan",
		[NET_MACVLAN] = "macvlan",
		[NET_IPVLAN] = "ipvlan"};
	size_t i = 0;

	while (s && i + 1 < ARRAY_SIZE(names) && strcmp(names[i], s) != 0)
		i++;
	return (enum net_link_kind)i;
}

static int read_link(const struct reader *r, struct json_object *o, void *item)
{
	struct net_link *l = item;
	uint32_t vlan = 0;
	int result;

	l->kind = kind_of(get_string(o, "kind"));
	l->parent_inside = get_bool(o, "parentInside", false);
	l->leave_down = !get_bool(o, "up", true);
	result = get_device(r, o, "name", &l->name);
	if (result == 0)
		result = get_device(r, o, "peer", &l->peer);
	if (result == 0)
		result = get_device(r, o, "parent", &l->parent);
	if (result == 0)
		result = get_device(r, o, "bridge", &l->bridge);
	if (result == 0)
		result = get_number(r, o, "vlan", 1, VLAN_MAX, &vlan);
	if (result >= 0)
		result = get_number(r, o, "mtu", MTU_MIN, MTU_MAX, &l->mtu);
	if (result >= 0)
		result = get_mac(r, o, l->mac, &l->has_mac);
	l->vlan = (uint16_t)vlan;
	if (result == 0)
		result = check_kind(r, o, l);
	return result == 0 ? read_addresses(r, o, l) : result;
}

static int read_destination(const struct reader *r, struct json_object *o, struct net_route *t)
{
	const char *s = get_string(o, "destination");

	if (s && strcmp(s, "default") != 0) {
		if (parse_address(s, false, &t->destination) < 0)
			return fail(r, "destination",
				"\"%.60s\" is no network like 10.1.0.0/16, nor \"default\"", s);
		return 0;
	}
	if (!t->gateway.family)
		return fail(r, "gateway",
			"is missing: a default route needs one (or a destination of 0.0.0.0/0 or ::/0)");
	t->destination.family = t->gateway.family;
	return 0;
}

static int read_scope(const struct reader *r, struct json_object *o, struct net_route *t)
{
	const char *s = get_string(o, "scope");

	if (!s)
		t->scope = t->gateway.family ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	else
		t->scope = !strcmp(s, "global") ? RT_SCOPE_UNIVERSE
						: (!strcmp(s, "link") ? RT_SCOPE_LINK : RT_SCOPE_HOST);
	if (t->scope != RT_SCOPE_UNIVERSE && t->gateway.family)
		return fail(r, "scope", "a route through a gateway is global");
	return 0;
}

static int read_route(const struct reader *r, struct json_object *o, void *item)
{
	struct net_route *t = item;
	int result = get_host(r, o, "gateway", &t->gateway);

	if (result == 0)
		result = read_destination(r, o, t);
	if (result == 0)
		result = get_host(r, o, "source", &t->source);
	if (result == 0)
		result = get_device(r, o, "device", &t->device);
	if (result < 0)
		return result;
	if (t->gateway.family && t->gateway.family != t->destination.family)
		return fail(r, "gateway", "is of another family than the destination");
	if (t->source.family && t->source.family != t->destination.family)
		return fail(r, "source", "is of another family than the destination");
	if (!t->device && !t->gateway.family)
		return fail(
			r, "device", "is missing: without a gateway nothing says through which interface");
	result = get_number(r, o, "metric", 0, UINT32_MAX, &t->metric);
	t->has_metric = result == 0;
	t->table = RT_TABLE_MAIN;
	if (result >= 0)
		result = get_number(r, o, "table", 1, UINT32_MAX, &t->table);
	return result < 0 ? result : read_scope(r, o, t);
}

static int read_neighbor(const struct reader *r, struct json_object *o, void *item)
{
	struct net_neighbor *n = item;
	bool has_mac;
	int result = get_device(r, o, "device", &n->device);

	if (result == 0)
		result = get_host(r, o, "address", &n->address);
	return result == 0 ? get_mac(r, o, n->mac, &has_mac) : result;
}

static int read_list(struct json_object *parameters, struct reader *r, size_t size,
	int (*read)(const struct reader *r, struct json_object *o, void *item), void *ret, size_t *ret_n)
{
	struct json_object *list = NULL;
	char *items;

	json_object_object_get_ex(parameters, r->list, &list);
	*ret_n = list ? json_object_array_length(list) : 0;
	if (!*ret_n)
		return 0;
	items = arena_array(r->arena, *ret_n, size);
	if (!items)
		return -ENOMEM;
	*(void **)ret = items;
	for (r->index = 0; r->index < *ret_n; r->index++) {
		int result = read(r, json_object_array_get_idx(list, r->index), items + r->index * size);

		if (result < 0)
			return result;
	}
	return 0;
}

int net_plan_parse(
	struct json_object *parameters, struct arena *a, struct net_plan *ret, struct idl_fault *fault)
{
	struct reader r = {.list = "links", .arena = a, .fault = fault};
	int result;

	*ret = (struct net_plan){0};
	*fault = (struct idl_fault){0};
	result = read_list(parameters, &r, sizeof(*ret->links), read_link, &ret->links, &ret->n_links);
	r.list = "routes";
	if (result == 0)
		result = read_list(
			parameters, &r, sizeof(*ret->routes), read_route, &ret->routes, &ret->n_routes);
	r.list = "neighbors";
	if (result == 0)
		result = read_list(parameters, &r, sizeof(*ret->neighbors), read_neighbor, &ret->neighbors,
			&ret->n_neighbors);
	return result;
}
