/* SPDX-License-Identifier: Apache-2.0 */
/* features: what this program can do, in the JSON of the runtime-spec (features.md). Only what is true. */
#include <json-c/json.h>
#include <stdio.h>
#include <sys/capability.h>

#include "base/fault.h"
#include "checkpoint/engine.h"
#include "cli/commands.h"
#include "linux/caps.h"

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
static const char *const mount_options[] = {"async", "atime", "bind", "defaults", "dev", "diratime",
	"dirsync", "exec", "lazytime", "noatime", "nodev", "nodiratime", "noexec", "norelatime",
	"nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime",
	"relatime", "rexec", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime",
	"rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave",
	"rstrictatime", "rsuid", "runbindable", "rw", "shared", "slave", "strictatime", "suid", "sync",
	"tmpcopyup", "unbindable", NULL};
static const char *const actions[] = {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",
	"SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
	"SCMP_ACT_TRAP", NULL};
static const char *const operators[] = {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE",
	"SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", NULL};
static const char *const architectures[] = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPS",
	"SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64",
	"SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64",
	"SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", NULL};
static const char *const seccomp_flags[] = {
	"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG", NULL};
static const char *const namespaces[] = {"cgroup", "ipc", "mount", "network", "pid", "time", "uts", NULL};

static void add_list(struct json_object *o, const char *key, const char *const *list)
{
	struct json_object *array = json_object_new_array();

	for (; *list; list++)
		json_object_array_add(array, json_object_new_string(*list));
	json_object_object_add(o, key, array);
}

static struct json_object *enabled(bool yes)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "enabled", json_object_new_boolean(yes));
	return o;
}

static struct json_object *capabilities(void)
{
	struct json_object *array = json_object_new_array();
	int last = caps_last();

	for (int i = 0; i <= last; i++) {
		char *name = cap_to_name(i);

		for (char *p = name; p && *p; p++)
			if (*p >= 'a' && *p <= 'z')
				*p -= 'a' - 'A';
		if (name)
			json_object_array_add(array, json_object_new_string(name));
		cap_free(name);
	}
	return array;
}

static struct json_object *linux_features(void)
{
	struct json_object *o = json_object_new_object(), *cgroup = json_object_new_object(),
			   *seccomp = enabled(true);

	add_list(o, "namespaces", namespaces);
	json_object_object_add(o, "capabilities", capabilities());
	json_object_object_add(cgroup, "v1", json_object_new_boolean(true));
	json_object_object_add(cgroup, "v2", json_object_new_boolean(true));
	json_object_object_add(cgroup, "systemd", json_object_new_boolean(false));
	json_object_object_add(cgroup, "systemdUser", json_object_new_boolean(false));
	json_object_object_add(cgroup, "rdma", json_object_new_boolean(false));
	json_object_object_add(o, "cgroup", cgroup);
	add_list(seccomp, "actions", actions);
	add_list(seccomp, "operators", operators);
	add_list(seccomp, "archs", architectures);
	add_list(seccomp, "knownFlags", seccomp_flags);
	add_list(seccomp, "supportedFlags", seccomp_flags);
	json_object_object_add(o, "seccomp", seccomp);
	json_object_object_add(o, "apparmor", enabled(true));
	json_object_object_add(o, "selinux", enabled(true));
	json_object_object_add(o, "intelRdt", enabled(false));
	return o;
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *opt = options;
	struct json_object *o, *annotations;

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
	annotations = json_object_new_object();
	json_object_object_add(o, "ociVersionMin", json_object_new_string("1.0.0"));
	json_object_object_add(o, "ociVersionMax", json_object_new_string(OCI_VERSION));
	add_list(o, "hooks", hooks);
	add_list(o, "mountOptions", mount_options);
	json_object_object_add(o, "linux", linux_features());
	json_object_object_add(
		annotations, "io.github.seccomp.libseccomp.version", json_object_new_string("2.5.4"));
	json_object_object_add(
		annotations, "org.opencontainers.runc.checkpoint.enabled", json_object_new_string("true"));
	json_object_object_add(annotations, "org.stasis.version", json_object_new_string(STASIS_VERSION));
	json_object_object_add(o, "annotations", annotations);
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
