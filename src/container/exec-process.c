/* SPDX-License-Identifier: Apache-2.0 */
/* The process of an exec when it is the container's own with another command and some changes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>

#include "base/log.h"
#include "container/container.h"

/* A user or group id: decimal, without a sign. */
static int parse_id(const char *s, size_t len, uint32_t *ret)
{
	uint64_t n = 0;

	if (len == 0 || len > 10)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		n = n * 10 + (uint64_t)(s[i] - '0');
	}
	if (n >= UINT32_MAX)
		return -ERANGE;
	*ret = (uint32_t)n;
	return 0;
}

static int set_user(const char *s, struct spec_process *p, struct error *e)
{
	size_t len = strcspn(s, ":");
	uint32_t uid, gid = p->gid;

	if (parse_id(s, len, &uid) < 0 || (s[len] && parse_id(s + len + 1, strlen(s + len + 1), &gid) < 0))
		return error_set(
			e, -EINVAL, ERROR_USAGE, "invalid user \"%s\": UID[:GID] in numbers is needed", s);
	p->uid = uid;
	p->gid = gid;
	return 0;
}

static int add_groups(const struct exec_change *x, struct spec_process *p, struct arena *a, struct error *e)
{
	gid_t *all;

	if (x->n_groups == 0)
		return 0;
	all = arena_array(a, p->n_additional_gids + x->n_groups, sizeof(*all));
	if (!all)
		return error_errno(e, -ENOMEM, "groups");
	for (size_t i = 0; i < p->n_additional_gids; i++)
		all[i] = p->additional_gids[i];
	for (size_t i = 0; i < x->n_groups; i++)
		all[p->n_additional_gids++] = x->groups[i];
	p->additional_gids = all;
	return 0;
}

static int add_env(const struct exec_change *x, struct spec_process *p, struct arena *a, struct error *e)
{
	size_t n = 0;
	char **all;

	while (p->env && p->env[n])
		n++;
	all = arena_array(a, n + x->n_env + 1, sizeof(*all));
	if (!all)
		return error_errno(e, -ENOMEM, "environment");
	for (size_t i = 0; i < n; i++)
		all[i] = p->env[i];
	for (size_t i = 0; i < x->n_env; i++)
		all[n + i] = (char *)x->env[i];
	for (size_t i = 0; i < x->n_env; i++)
		if (x->env[i][0] == '=' || !strchr(x->env[i], '='))
			return error_set(e, -EINVAL, ERROR_USAGE,
				"invalid environment variable \"%s\": NAME=VALUE is needed", x->env[i]);
	p->env = all;
	return 0;
}

static void add_capabilities(const struct exec_change *x, struct spec_process *p)
{
	for (size_t i = 0; i < x->n_capabilities; i++) {
		cap_value_t cap;

		if (strncasecmp(x->capabilities[i], "CAP_", 4) != 0 ||
			cap_from_name(x->capabilities[i], &cap) < 0) {
			log_warning("ignoring unknown or unavailable capabilities: [%s]", x->capabilities[i]);
			continue;
		}
		p->has_capabilities = true;
		p->capabilities.bounding |= 1ULL << cap;
		p->capabilities.effective |= 1ULL << cap;
		p->capabilities.permitted |= 1ULL << cap;
	}
}

int container_exec_process(
	struct container *c, const struct exec_change *x, struct spec_process **ret, struct error *e)
{
	struct spec_process *p;
	int r = container_load_spec(c, e);

	if (r < 0)
		return r;
	if (!x->args || !x->args[0])
		return error_set(e, -EINVAL, ERROR_USAGE, "process args cannot be empty");
	p = arena_memdup(&c->spec->arena, c->spec->process, sizeof(*p));
	if (!p)
		return error_errno(e, -ENOMEM, "process");
	p->args = x->args;
	p->terminal = x->terminal;
	if (x->cwd)
		p->cwd = x->cwd;
	if (x->apparmor)
		p->apparmor_profile = x->apparmor;
	if (x->process_label)
		p->selinux_label = x->process_label;
	if (x->no_new_privileges)
		p->no_new_privileges = true;
	if (p->cwd[0] != '/')
		return error_set(e, -EINVAL, ERROR_USAGE, "Cwd must be an absolute path: %s", p->cwd);
	r = x->user ? set_user(x->user, p, e) : 0;
	if (r == 0)
		r = add_groups(x, p, &c->spec->arena, e);
	if (r == 0)
		r = add_env(x, p, &c->spec->arena, e);
	add_capabilities(x, p);
	*ret = p;
	return r;
}
