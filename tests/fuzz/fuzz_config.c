/* SPDX-License-Identifier: Apache-2.0 */
/* config.json, process.json and update's resources from a stranger: parsed without harm, and what is accepted keeps the
 * promises that spec.h makes to the privileged code. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_absolute(const char *path)
{
	must(!path || path[0] == '/');
}

static void check_process(const struct spec_process *p)
{
	must(p->args && p->args[0] && p->args[0][0] && p->env && p->cwd && p->cwd[0] == '/');
	must(p->uid != (uid_t)-1 && p->gid != (gid_t)-1 && p->umask <= 0777);
	must((p->capabilities.effective & ~p->capabilities.permitted) == 0);
	for (char **env = p->env; *env; env++)
		must(strchr(*env, '=') > *env);
	for (size_t i = 0; i < p->n_rlimits; i++)
		must(p->rlimits[i].soft <= p->rlimits[i].hard && p->rlimits[i].resource >= 0 &&
			p->rlimits[i].resource < 16);
}

static void check_spec(const struct spec *s)
{
	must(s->rootfs && s->oci_version && s->masked_paths && s->readonly_paths);
	check_absolute(s->rootfs);
	if (s->process)
		check_process(s->process);
	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct spec_mount *m = &s->mounts[i];

		must(m->destination && (m->is_bind ? m->source && !m->type : m->type && m->type[0]));
		check_absolute(m->destination);
		if (m->is_bind)
			check_absolute(m->source);
		must((m->flags & m->clear_flags) == 0 && (!m->data || m->data[0]));
	}
	for (int t = 0; t < NS_COUNT; t++)
		check_absolute(s->namespaces[t].path);
	for (int t = 0; t < HOOK_COUNT; t++)
		for (size_t i = 0; i < s->hooks[t].n; i++)
			must(s->hooks[t].hooks[i].path[0] == '/' && s->hooks[t].hooks[i].args[0]);
	for (size_t i = 0; i < s->n_sysctl; i++)
		must(s->sysctl[i].name[0] && !strstr(s->sysctl[i].name, "/../") &&
			strncmp(s->sysctl[i].name, "../", 3) != 0);
	for (size_t i = 0; i < s->n_net_devices; i++)
		must(strlen(s->net_devices[i].host_name) < 16 && strlen(s->net_devices[i].name) < 16 &&
			s->net_devices[i].name[0]);
	for (size_t i = 0; i < s->n_devices; i++) {
		check_absolute(s->devices[i].path);
		must(s->devices[i].major >= 0 && s->devices[i].major < 1 << 12 && s->devices[i].minor >= 0 &&
			s->devices[i].minor < 1 << 20);
	}
	for (char **path = s->masked_paths; *path; path++)
		check_absolute(*path);
	for (char **path = s->readonly_paths; *path; path++)
		check_absolute(*path);
	for (size_t i = 0; i < s->resources.n_unified; i++)
		must(!strchr(s->resources.unified[i].name, '/') && s->resources.unified[i].name[0] != '.');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct error e = {0};
	struct spec *s = NULL;

	/* Unknown capabilities are warned of. */
	log_setup(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	if (spec_parse("/bundle", text, size, &s, &e) == 0)
		check_spec(s);
	else
		must(e.code < 0 && e.message[0] && !strchr(e.message, '\n'));
	spec_free(take_ptr(s));
	if (spec_parse_process(text, size, &s, &e) == 0)
		check_process(s->process);
	spec_free(take_ptr(s));
	(void)!spec_parse_resources(text, size, &s, &e);
	spec_free(take_ptr(s));
	(void)!spec_parse_mounts("/bundle", text, size, &s, &e);
	spec_free(take_ptr(s));
	return 0;
}
