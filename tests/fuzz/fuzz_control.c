/* SPDX-License-Identifier: Apache-2.0 */
/* Messages from a client of the control socket: taken or refused, and what is taken is what the methods rely on. */
#include <string.h>

#include "sandbox/call.h"
#include "sandbox/idl.h"
#include "sandbox/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* What comes so far as to be sent to the kernel is within its bounds. */
static void check_network(struct json_object *parameters)
{
	struct idl_fault fault;
	struct arena a = {};
	struct net_plan p;

	if (idl_check(interface_text("io.stasis.Network"), "CreateLinksAndRoutes", parameters, &fault) < 0)
		return;
	if (net_plan_parse(parameters, &a, &p, &fault) < 0) {
		must(fault.path[0] && fault.message[0]);
	} else {
		for (size_t i = 0; i < p.n_links; i++) {
			must(*p.links[i].name && strlen(p.links[i].name) < IFNAMSIZ);
			must((p.links[i].kind == NET_VETH) == (p.links[i].peer != NULL));
			for (size_t k = 0; k < p.links[i].n_addresses; k++)
				must(p.links[i].addresses[k].family &&
					p.links[i].addresses[k].prefix_len > 0);
		}
		for (size_t i = 0; i < p.n_routes; i++)
			must(p.routes[i].destination.family &&
				(p.routes[i].device || p.routes[i].gateway.family));
		for (size_t i = 0; i < p.n_neighbors; i++)
			must(p.neighbors[i].address.family && *p.neighbors[i].device);
	}
	arena_done(&a);
}

static void check_call(const struct varlink_call *c)
{
	struct idl_fault fault;
	const char *text;
	size_t len;
	char *again;

	must(c->interface[0] && c->method[0] && !strchr(c->method, '.'));
	must(json_object_is_type(c->parameters, json_type_object));
	for (const struct interface *i = interfaces; i->name; i++) {
		int r = idl_check(i->text, c->method, c->parameters, &fault);

		must(r == 0 || r == -ENOENT || (r == -EINVAL && fault.message[0]));
	}
	check_network(c->parameters);
	text = interface_text(c->interface);
	must(!method_find(c->interface, c->method) ||
		(text && idl_check(text, c->method, c->parameters, &fault) != -ENOENT));
	/* An answer with all of it is a message. */
	again = varlink_make_reply(c->parameters, "a.b", c->more, &len);
	must(again && len == strlen(again) + 1);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct varlink_reply reply;
	struct varlink_call call;
	struct error e = {0};

	if (varlink_parse_call(text, size, &call, &e) == 0)
		check_call(&call);
	else
		must(e.code < 0 && e.message[0] && !call.parameters);
	varlink_call_done(&call);
	if (varlink_parse_reply(text, size, &reply, &e) == 0)
		must(json_object_is_type(reply.parameters, json_type_object));
	varlink_reply_done(&reply);
	return 0;
}
