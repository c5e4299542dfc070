/* SPDX-License-Identifier: Apache-2.0 */
/* "hooks" of config.json: programs that are run at fixed points of a container's life. */
#include "oci/spec-priv.h"

static const struct json_field hook_fields[] = {
	{"path", JSON_PATH, .required = true, .offset = offsetof(struct spec_hook, path)},
	{"args", JSON_STRV, .offset = offsetof(struct spec_hook, args)},
	{"env", JSON_CUSTOM, .offset = offsetof(struct spec_hook, env), .parse = spec_env_parse},
	{"timeout", JSON_INT, .offset = offsetof(struct spec_hook, timeout), .min = 1, .max = INT32_MAX},
	{NULL},
};

static int parse_hook(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_hook *hook = dest;
	int r = jv_fields(p, v, hook_fields, hook);

	if (r < 0 || (hook->args && hook->args[0]))
		return r;
	hook->args = arena_array(p->arena, 2, sizeof(*hook->args));
	if (!hook->args)
		return jv_no_memory(p);
	hook->args[0] = (char *)hook->path;
	return 0;
}

static int parse_hook_list(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_hook_list *list = dest;

	return jv_array(p, v, sizeof(*list->hooks), parse_hook, &list->hooks, &list->n);
}

#define HOOKS(key, type)                                                                                     \
	{                                                                                                    \
		key, JSON_CUSTOM, .offset = (type) * sizeof(struct spec_hook_list), .parse = parse_hook_list \
	}
static const struct json_field hooks_fields[] = {
	HOOKS("prestart", HOOK_PRESTART),
	HOOKS("createRuntime", HOOK_CREATE_RUNTIME),
	HOOKS("createContainer", HOOK_CREATE_CONTAINER),
	HOOKS("startContainer", HOOK_START_CONTAINER),
	HOOKS("poststart", HOOK_POSTSTART),
	HOOKS("poststop", HOOK_POSTSTOP),
	{NULL},
};

int spec_hooks_parse(struct parser *p, const struct jv *v, void *dest)
{
	return jv_fields(p, v, hooks_fields, dest);
}
