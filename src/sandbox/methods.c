/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all methods, and org.varlink.service, by which a client learns of them. */
#include <string.h>

#include "sandbox/call.h"
#include "sandbox/methods.h"
#include "sandbox/supervisor.h"

static int get_info(struct call *c, struct error *e)
{
	struct json_object *o = json_object_new_object(), *names = json_object_new_array();

	json_add_string(o, "vendor", "Stasis");
	json_add_string(o, "product", "stasis sandbox");
	json_add_string(o, "version", STASIS_VERSION);
	json_add_string(o, "url", "https://github.com/stasis-runtime/stasis");
	for (size_t i = 0; interfaces[i].name; i++)
		json_object_array_add(names, json_object_new_string(interfaces[i].name));
	json_object_object_add(o, "interfaces", names);
	return call_reply(c, o, false);
}

static int get_interface_description(struct call *c, struct error *e)
{
	const char *name = call_string(c, "interface"), *text = interface_text(name);
	struct json_object *o = json_object_new_object();

	if (!text) {
		json_add_string(o, "interface", name);
		return call_error(c, "org.varlink.service.InterfaceNotFound", o);
	}
	json_add_string(o, "description", text);
	return call_reply(c, o, false);
}

static const struct method service_methods[] = {
	{"org.varlink.service", "GetInfo", get_info},
	{"org.varlink.service", "GetInterfaceDescription", get_interface_description},
	{},
};

/* One table a file; the order does not matter. */
static const struct method *const tables[] = {
	service_methods,
	application_methods,
	restore_container_methods,
	checkpoint_methods,
	restore_methods,
	state_methods,
	container_methods,
	process_methods,
	exec_methods,
	pause_methods,
	event_methods,
	network_methods,
	debug_methods,
	self_methods,
};

const struct method *method_find(const char *interface, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (const struct method *m = tables[i]; m->name; m++)
			if (!strcmp(m->name, name) && !strcmp(m->interface, interface))
				return m;
	return NULL;
}

const char *interface_text(const char *interface)
{
	for (size_t i = 0; interfaces[i].name; i++)
		if (!strcmp(interfaces[i].name, interface))
			return interfaces[i].text;
	return NULL;
}
