/* SPDX-License-Identifier: Apache-2.0 */
/* "linux.netDevices": which devices of the host move into the container, and as what. */
#include <ctype.h>
#include <net/if.h>
#include <string.h>

#include "oci/spec-priv.h"

/* What the kernel takes for a device's name. */
static bool name_valid(const char *name)
{
	if (!name[0] || strlen(name) >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (; *name; name++)
		if (*name == '/' || *name == ':' || isspace((unsigned char)*name))
			return false;
	return true;
}

static int parse_name(struct parser *p, const struct jv *v, void *dest)
{
	const char **name = dest, *percent;
	char quoted[40];
	int r = jv_string(p, v, name);

	if (r < 0)
		return r;
	percent = strchr(*name, '%');
	if (**name && (!name_valid(*name) || (percent && strcmp(percent, "%d") != 0)))
		return jv_fail(p, v,
			"must be a network device's name (1 to %d characters, no '/', ':' or space; \"%%d\" "
			"only at its end), not %s",
			IFNAMSIZ - 1, jv_quote(*name, quoted, sizeof(quoted)));
	return 0;
}

static const struct json_field fields[] = {
	{"name", JSON_CUSTOM, .offset = offsetof(struct spec_net_device, name), .parse = parse_name},
	{NULL},
};

static int parse_device(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_net_device *d = dest;
	int r;

	if (!name_valid(v->key) || strchr(v->key, '%'))
		return jv_fail(p, v, "not the name of a network device");
	d->host_name = arena_strdup(p->arena, v->key);
	if (!d->host_name)
		return jv_no_memory(p);
	r = jv_fields(p, v, fields, d);
	if (r == 0 && (!d->name || !d->name[0]))
		d->name = d->host_name;
	return r;
}

int spec_net_devices_parse(struct parser *p, const struct jv *v, void *dest)
{
	struct spec *s = dest;
	int r = jv_map(p, v, sizeof(*s->net_devices), parse_device, &s->net_devices, &s->n_net_devices);

	for (size_t i = 0; r == 0 && i < s->n_net_devices; i++)
		for (size_t k = 0; k < i; k++)
			if (!strcmp(s->net_devices[i].name, s->net_devices[k].name) &&
				!strchr(s->net_devices[i].name, '%'))
				return jv_fail(p, v, "%s and %s would both be called %s",
					s->net_devices[k].host_name, s->net_devices[i].host_name,
					s->net_devices[i].name);
	return r;
}
