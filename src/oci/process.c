/* SPDX-License-Identifier: Apache-2.0 */
/* "process" of config.json, and the process.json of exec: who runs what, with which rights. */
#include <limits.h>
#include <linux/ioprio.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "oci/spec-priv.h"

/* By number, linux/capability.h. */
static const char *const capability_names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

const char *capability_name(size_t i)
{
	return i < ARRAY_SIZE(capability_names) ? capability_names[i] : NULL;
}

static const struct name_number rlimit_names[] = {
	{"RLIMIT_AS", RLIMIT_AS},
	{"RLIMIT_CORE", RLIMIT_CORE},
	{"RLIMIT_CPU", RLIMIT_CPU},
	{"RLIMIT_DATA", RLIMIT_DATA},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE},
	{"RLIMIT_LOCKS", RLIMIT_LOCKS},
	{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
	{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
	{"RLIMIT_NICE", RLIMIT_NICE},
	{"RLIMIT_NOFILE", RLIMIT_NOFILE},
	{"RLIMIT_NPROC", RLIMIT_NPROC},
	{"RLIMIT_RSS", RLIMIT_RSS},
	{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
	{"RLIMIT_RTTIME", RLIMIT_RTTIME},
	{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
	{"RLIMIT_STACK", RLIMIT_STACK},
	{NULL},
};

const char *spec_rlimit_name(int resource)
{
	for (size_t i = 0; rlimit_names[i].name; i++)
		if ((int)rlimit_names[i].number == resource)
			return rlimit_names[i].name;
	return "of an unknown kind";
}

/* The runtime-spec wants a warning, not an error, for a capability that can't be mapped: configs made for newer
 * kernels name capabilities that this program does not know yet. */
static int parse_capability_set(struct parser *p, const struct jv *v, void *dest)
{
	uint64_t *set = dest;
	int r = jv_expect(p, v, json_type_array);

	for (size_t i = 0; r == 0 && i < json_object_array_length(v->o); i++) {
		struct jv item = jv_element(v, i);
		char quoted[80];
		const char *name;
		size_t n = 0;

		r = jv_borrow(p, &item, &name);
		if (r < 0)
			return r;
		while (n < ARRAY_SIZE(capability_names) && strcmp(capability_names[n], name) != 0)
			n++;
		if (n < ARRAY_SIZE(capability_names))
			*set |= 1ULL << n;
		else
			log_warning("process.capabilities: unknown capability %s is ignored",
				jv_quote(name, quoted, sizeof(quoted)));
	}
	return r;
}

#define CAPS(key, member)                                                                                    \
	{                                                                                                    \
		key, JSON_CUSTOM, .offset = offsetof(struct spec_capabilities, member),                      \
				  .parse = parse_capability_set                                              \
	}
static const struct json_field capability_fields[] = {
	CAPS("bounding", bounding),
	CAPS("effective", effective),
	CAPS("inheritable", inheritable),
	CAPS("permitted", permitted),
	CAPS("ambient", ambient),
	{NULL},
};

/* What capset(2) would refuse without saying which. */
static int check_capability_sets(struct parser *p, const struct jv *v, const struct spec_capabilities *c)
{
	struct jv effective = {.up = v, .key = "effective"};
	uint64_t more = c->effective & ~c->permitted;

	if (!more)
		return 0;
	return jv_fail(
		p, &effective, "%s must be in permitted, too", capability_names[__builtin_ctzll(more)]);
}

static int parse_capabilities(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_capabilities *c = dest;
	uint64_t lost;
	int r = jv_fields(p, v, capability_fields, c);

	if (r < 0)
		return r;
	lost = c->ambient & ~(c->permitted & c->inheritable); /* the kernel has no such ones */
	for (size_t i = 0; i < ARRAY_SIZE(capability_names); i++)
		if (lost >> i & 1)
			log_warning(
				"process.capabilities.ambient: %s is ignored: it has to be in permitted and "
				"inheritable, too",
				capability_names[i]);
	c->ambient &= ~lost;
	return check_capability_sets(p, v, c);
}

static const struct json_field rlimit_fields[] = {
	{"type", JSON_STRING, .required = true, .offset = offsetof(struct spec_rlimit, name)},
	{"soft", JSON_U64, .required = true, .offset = offsetof(struct spec_rlimit, soft)},
	{"hard", JSON_U64, .required = true, .offset = offsetof(struct spec_rlimit, hard)},
	{NULL},
};

static int parse_rlimit(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_rlimit *limit = dest;
	uint64_t resource;
	struct jv type;
	int r = jv_fields(p, v, rlimit_fields, limit);

	if (r < 0)
		return r;
	if (!jv_member(v, "type", &type))
		return jv_fail(p, v, "missing type");
	r = spec_lookup(p, &type, rlimit_names, "resource limit", &resource);
	if (r < 0)
		return r;
	limit->resource = (int)resource;
	if (limit->soft > limit->hard)
		return jv_fail(p, v, "the soft limit is above the hard one");
	return 0;
}

static int parse_rlimits(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_process *process = dest;
	uint64_t seen = 0;
	int r = jv_array(
		p, v, sizeof(*process->rlimits), parse_rlimit, &process->rlimits, &process->n_rlimits);

	for (size_t i = 0; r == 0 && i < process->n_rlimits; i++) {
		struct jv item = jv_element(v, i);

		if (seen & 1ULL << process->rlimits[i].resource)
			return jv_fail(p, &item, "%s is listed twice", process->rlimits[i].name);
		seen |= 1ULL << process->rlimits[i].resource;
	}
	return r;
}

static int parse_gid(struct parser *p, const struct jv *v, void *dest)
{
	uint64_t n;
	int r = jv_u64(p, v, 0, UINT32_MAX - 1, &n);

	if (r == 0)
		*(gid_t *)dest = (gid_t)n;
	return r;
}

static int parse_additional_gids(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_process *process = dest;

	return jv_array(
		p, v, sizeof(gid_t), parse_gid, &process->additional_gids, &process->n_additional_gids);
}

/* uid_t -1 means "leave it" to the kernel, so it is no valid id. */
static const struct json_field user_fields[] = {
	{"uid", JSON_U32, .offset = offsetof(struct spec_process, uid), .max = UINT32_MAX - 1},
	{"gid", JSON_U32, .offset = offsetof(struct spec_process, gid), .max = UINT32_MAX - 1},
	{"umask", JSON_U32, .offset = offsetof(struct spec_process, umask),
		.has_offset = offsetof(struct spec_process, has_umask), .max = 0777},
	{"additionalGids", JSON_CUSTOM, .parse = parse_additional_gids},
	{NULL},
};

int spec_env_parse(struct parser *p, const struct jv *v, void *dest)
{
	char ***env = dest, quoted[80];
	int r = jv_strv(p, v, env);

	for (size_t i = 0; r == 0 && (*env)[i]; i++) {
		const char *equals = strchr((*env)[i], '=');
		struct jv item = jv_element(v, i);

		if (!equals || equals == (*env)[i])
			return jv_fail(p, &item, "must be NAME=value, not %s",
				jv_quote((*env)[i], quoted, sizeof(quoted)));
	}
	return r;
}

static const struct name_number sched_policies[] = {
	{"SCHED_OTHER", SCHED_NORMAL},
	{"SCHED_FIFO", SCHED_FIFO},
	{"SCHED_RR", SCHED_RR},
	{"SCHED_BATCH", SCHED_BATCH},
	{"SCHED_ISO", 4},
	{"SCHED_IDLE", SCHED_IDLE},
	{"SCHED_DEADLINE", SCHED_DEADLINE},
	{NULL},
};

static const struct name_number sched_flags[] = {
	{"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
	{"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
	{"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
	{"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
	{"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
	{"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
	{"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
	{NULL},
};

static int parse_sched_policy(struct parser *p, const struct jv *v, void *dest)
{
	uint64_t n = 0;
	int r = spec_lookup(p, v, sched_policies, "scheduling policy", &n);

	*(uint32_t *)dest = (uint32_t)n;
	return r;
}

static int parse_sched_flags(struct parser *p, const struct jv *v, void *dest)
{
	int r = jv_expect(p, v, json_type_array);

	for (size_t i = 0; r == 0 && i < json_object_array_length(v->o); i++) {
		struct jv item = jv_element(v, i);
		uint64_t flag = 0;

		r = spec_lookup(p, &item, sched_flags, "scheduling flag", &flag);
		*(uint64_t *)dest |= flag;
	}
	return r;
}

static const struct json_field scheduler_fields[] = {
	{"policy", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec_scheduler, policy),
		.parse = parse_sched_policy},
	{"nice", JSON_INT, .offset = offsetof(struct spec_scheduler, nice), .min = -20, .max = 19},
	{"priority", JSON_U32, .offset = offsetof(struct spec_scheduler, priority), .max = 99},
	{"flags", JSON_CUSTOM, .offset = offsetof(struct spec_scheduler, flags), .parse = parse_sched_flags},
	{"runtime", JSON_U64, .offset = offsetof(struct spec_scheduler, runtime)},
	{"deadline", JSON_U64, .offset = offsetof(struct spec_scheduler, deadline)},
	{"period", JSON_U64, .offset = offsetof(struct spec_scheduler, period)},
	{NULL},
};

static int parse_scheduler(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_scheduler *s = arena_new(p->arena, struct spec_scheduler);

	if (!s)
		return jv_no_memory(p);
	*(struct spec_scheduler **)dest = s;
	return jv_fields(p, v, scheduler_fields, s);
}

static const struct name_number io_classes[] = {
	{"IOPRIO_CLASS_RT", IOPRIO_CLASS_RT},
	{"IOPRIO_CLASS_BE", IOPRIO_CLASS_BE},
	{"IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE},
	{NULL},
};

static int parse_io_priority(struct parser *p, const struct jv *v, void *dest)
{
	uint64_t class;
	int64_t level = 0;
	struct jv member;
	int r = jv_expect(p, v, json_type_object);

	if (r < 0)
		return r;
	if (jv_member(v, "priority", &member)) {
		r = jv_i64(p, &member, 0, 7, &level);
		if (r < 0)
			return r;
	}
	if (!jv_member(v, "class", &member)) {
		member = (struct jv){.up = v, .key = "class"};
		return jv_fail(p, &member, "missing");
	}
	r = spec_lookup(p, &member, io_classes, "i/o priority class", &class);
	if (r == 0)
		*(int *)dest = (int)(class << IOPRIO_CLASS_SHIFT) | (int)level;
	return r;
}

static const struct json_field console_fields[] = {
	{"height", JSON_U16, .offset = offsetof(struct spec_process, console_height)},
	{"width", JSON_U16, .offset = offsetof(struct spec_process, console_width)},
	{NULL},
};

static const struct json_field process_fields[] = {
	{"terminal", JSON_BOOL, .offset = offsetof(struct spec_process, terminal)},
	{"consoleSize", JSON_SUB, .sub = console_fields},
	{"user", JSON_SUB, .sub = user_fields},
	{"args", JSON_STRV, .required = true, .offset = offsetof(struct spec_process, args)},
	{"env", JSON_CUSTOM, .offset = offsetof(struct spec_process, env), .parse = spec_env_parse},
	{"cwd", JSON_PATH, .required = true, .offset = offsetof(struct spec_process, cwd)},
	{"capabilities", JSON_CUSTOM, .offset = offsetof(struct spec_process, capabilities),
		.has_offset = offsetof(struct spec_process, has_capabilities), .parse = parse_capabilities},
	{"rlimits", JSON_CUSTOM, .parse = parse_rlimits},
	{"noNewPrivileges", JSON_BOOL, .offset = offsetof(struct spec_process, no_new_privileges)},
	{"apparmorProfile", JSON_STRING, .offset = offsetof(struct spec_process, apparmor_profile)},
	{"selinuxLabel", JSON_STRING, .offset = offsetof(struct spec_process, selinux_label)},
	{"oomScoreAdj", JSON_INT, .offset = offsetof(struct spec_process, oom_score_adj),
		.has_offset = offsetof(struct spec_process, has_oom_score_adj), .min = -1000, .max = 1000},
	{"scheduler", JSON_CUSTOM, .offset = offsetof(struct spec_process, scheduler),
		.parse = parse_scheduler},
	{"ioPriority", JSON_CUSTOM, .offset = offsetof(struct spec_process, io_priority),
		.has_offset = offsetof(struct spec_process, has_io_priority), .parse = parse_io_priority},
	{"execCPUAffinity", JSON_CUSTOM, .parse = spec_affinity_parse},
	{NULL},
};

int spec_process_parse(struct parser *p, const struct jv *v, void *dest)
{
	static char *const no_env[] = {NULL};
	struct spec_process *process = arena_new(p->arena, struct spec_process);
	int r;

	if (!process)
		return jv_no_memory(p);
	process->env = (char **)no_env;
	r = jv_fields(p, v, process_fields, process);
	if (r < 0)
		return r;
	if (!process->args[0] || !process->args[0][0]) {
		struct jv args = {.up = v, .key = "args"};

		return jv_fail(p, &args, "must name a program to run");
	}
	/* callers write "" for "none" */
	if (process->apparmor_profile && !process->apparmor_profile[0])
		process->apparmor_profile = NULL;
	if (process->selinux_label && !process->selinux_label[0])
		process->selinux_label = NULL;
	*(struct spec_process **)dest = process;
	return 0;
}
