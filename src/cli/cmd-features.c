/* SPDX-License-Identifier: Apache-2.0 */
/* features: what this program can do, in the JSON of the runtime-spec (features.md). Only what is true. */
#include <json-c/json.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "checkpoint/engine.h"
#include "cli/commands.h"
#include "cli/commit.h"

struct options {
	bool fault_points, support;
};

static const struct cli_option table[] = {
	{"fault-points", 0, CLI_FLAG, offsetof(struct options, fault_points), NULL,
		"list the fault points for FAULT="},
	{"support", 0, CLI_FLAG, offsetof(struct options, support), NULL,
		"list the kinds of kernel objects and what a checkpoint does with them"},
	{NULL},
};

static const char *const hooks[] = {
	"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop", NULL};
/* What an image must not bring along: it changes what the container may do. Ends with a point: all that begin so. */
static const char *const unsafe_annotations[] = {"org.systemd.property.", NULL};

static void add_list(struct json_object *o, const char *key, const char *const *list)
{
	struct json_object *array = json_object_new_array();

	for (; *list; list++)
		json_object_array_add(array, json_object_new_string(*list));
	json_object_object_add(o, key, array);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, but for the capabilities, which have an order of their own. */
static void add_names(struct json_object *o, const char *key, enum spec_names what)
{
	const char *list[128] = {NULL};
	size_t n = 0;

	while (n + 1 < ARRAY_SIZE(list) && (list[n] = spec_name(what, n)))
		n++;
	if (what != SPEC_CAPABILITIES)
		qsort(list, n, sizeof(*list), by_name);
	add_list(o, key, list);
}

static struct json_object *add_object(struct json_object *o, const char *key)
{
	struct json_object *new = json_object_new_object();

	json_object_object_add(o, key, new);
	return new;
}

static void add_bool(struct json_object *o, const char *key, bool yes)
{
	json_object_object_add(o, key, json_object_new_boolean(yes));
}

static void add_linux(struct json_object *o)
{
	struct json_object *cgroup, *seccomp, *memory_policy, *rdt;

	add_names(o, "namespaces", SPEC_NAMESPACES);
	add_names(o, "capabilities", SPEC_CAPABILITIES);
	cgroup = add_object(o, "cgroup");
	add_bool(cgroup, "v1", true);
	add_bool(cgroup, "v2", true);
	add_bool(cgroup, "systemd", true);
	add_bool(cgroup, "systemdUser", true);
	add_bool(cgroup, "rdma", true);
	seccomp = add_object(o, "seccomp");
	add_bool(seccomp, "enabled", true);
	add_names(seccomp, "actions", SPEC_SECCOMP_ACTIONS);
	add_names(seccomp, "operators", SPEC_SECCOMP_OPERATORS);
	add_names(seccomp, "archs", SPEC_SECCOMP_ARCHITECTURES);
	add_names(seccomp, "knownFlags", SPEC_SECCOMP_FLAGS);
	add_names(seccomp, "supportedFlags", SPEC_SECCOMP_FLAGS);
	add_bool(add_object(o, "apparmor"), "enabled", true);
	add_bool(add_object(o, "selinux"), "enabled", true);
	rdt = add_object(o, "intelRdt");
	add_bool(rdt, "enabled", true);
	add_bool(rdt, "schemata", true);
	add_bool(rdt, "monitoring", true);
	add_bool(add_object(o, "netDevices"), "enabled", true);
	memory_policy = add_object(o, "memoryPolicy");
	add_names(memory_policy, "modes", SPEC_MEMORY_POLICY_MODES);
	add_names(memory_policy, "flags", SPEC_MEMORY_POLICY_FLAGS);
	add_bool(add_object(add_object(o, "mountExtensions"), "idmap"), "enabled", true);
}

static void add_annotations(struct json_object *o)
{
	const struct scmp_version *v = seccomp_version();
	char text[48];

	if (v) {
		snprintf(text, sizeof(text), "%u.%u.%u", v->major, v->minor, v->micro);
		json_object_object_add(
			o, "io.github.seccomp.libseccomp.version", json_object_new_string(text));
	}
	/* docker and CRI-O ask by this name whether there is checkpoint */
	json_object_object_add(
		o, "org.opencontainers.runc.checkpoint.enabled", json_object_new_string("true"));
	json_object_object_add(o, "org.stasis.version", json_object_new_string(STASIS_VERSION));
	json_object_object_add(o, "org.stasis.commit", json_object_new_string(STASIS_COMMIT));
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *opt = options;
	struct json_object *o;

	if (opt->fault_points) {
		for (size_t i = 0; fault_names[i]; i++)
			puts(fault_names[i]);
		return 0;
	}
	if (opt->support) {
		support_print(stdout);
		return 0;
	}
	o = json_object_new_object();
	json_object_object_add(o, "ociVersionMin", json_object_new_string("1.0.0"));
	json_object_object_add(o, "ociVersionMax", json_object_new_string(OCI_VERSION));
	add_list(o, "hooks", hooks);
	add_names(o, "mountOptions", SPEC_MOUNT_OPTIONS);
	add_linux(add_object(o, "linux"));
	add_annotations(add_object(o, "annotations"));
	add_list(o, "potentiallyUnsafeConfigAnnotations", unsafe_annotations);
	puts(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return 0;
}

const struct cli_command cmd_features = {
	.name = "features",
	.arguments = "",
	.summary = "print what this program supports as JSON",
	.options = table,
	.max_args = 0,
	.run = run,
};
