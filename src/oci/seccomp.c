/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "linux.seccomp" of config.json: actions, comparison operators and flags as the numbers of the kernel and of
 * libseccomp; names of system calls and architectures stay names, since which exist is libseccomp's to say.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>

#include "oci/spec-priv.h"

/* Not in Debian 12's linux/seccomp.h of every flavour. */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

const struct name_number spec_seccomp_actions[] = {
	{"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
	{"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
	{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
	{"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
	{"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
	{"SCMP_ACT_LOG", SECCOMP_RET_LOG},
	{"SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF},
	{"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
	{"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
	{NULL},
};

/* libseccomp's enum scmp_compare. */
const struct name_number spec_seccomp_operators[] = {
	{"SCMP_CMP_NE", 1},
	{"SCMP_CMP_LT", 2},
	{"SCMP_CMP_LE", 3},
	{"SCMP_CMP_EQ", 4},
	{"SCMP_CMP_GE", 5},
	{"SCMP_CMP_GT", 6},
	{"SCMP_CMP_MASKED_EQ", 7},
	{NULL},
};

const struct name_number spec_seccomp_flags[] = {
	{"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
	{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
	{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
	{NULL},
};

const struct name_number spec_seccomp_architectures[] = {
	{"SCMP_ARCH_X86", 0},
	{"SCMP_ARCH_X86_64", 0},
	{"SCMP_ARCH_X32", 0},
	{"SCMP_ARCH_ARM", 0},
	{"SCMP_ARCH_AARCH64", 0},
	{"SCMP_ARCH_MIPS", 0},
	{"SCMP_ARCH_MIPS64", 0},
	{"SCMP_ARCH_MIPS64N32", 0},
	{"SCMP_ARCH_MIPSEL", 0},
	{"SCMP_ARCH_MIPSEL64", 0},
	{"SCMP_ARCH_MIPSEL64N32", 0},
	{"SCMP_ARCH_PPC", 0},
	{"SCMP_ARCH_PPC64", 0},
	{"SCMP_ARCH_PPC64LE", 0},
	{"SCMP_ARCH_S390", 0},
	{"SCMP_ARCH_S390X", 0},
	{"SCMP_ARCH_PARISC", 0},
	{"SCMP_ARCH_PARISC64", 0},
	{"SCMP_ARCH_RISCV64", 0},
	{"SCMP_ARCH_LOONGARCH64", 0},
	{"SCMP_ARCH_M68K", 0},
	{"SCMP_ARCH_SH", 0},
	{"SCMP_ARCH_SHEB", 0},
	{NULL},
};

/* An action with its errno: the low 16 bits of SECCOMP_RET_*. "action" and "errno_key" are members of v. */
static int parse_action(
	struct parser *p, const struct jv *v, const char *key, const char *errno_key, uint32_t *ret)
{
	struct jv action, number;
	uint64_t value = 0, err = EPERM;
	bool given;
	int r;

	if (!jv_member(v, key, &action)) {
		action = (struct jv){.up = v, .key = key};
		return jv_fail(p, &action, "missing");
	}
	r = spec_lookup(p, &action, spec_seccomp_actions, "seccomp action", &value);
	if (r < 0)
		return r;
	given = jv_member(v, errno_key, &number);
	if (given) {
		r = jv_u64(p, &number, 0, SECCOMP_RET_DATA, &err);
		if (r < 0)
			return r;
	}
	if (value == SECCOMP_RET_ERRNO || value == SECCOMP_RET_TRACE)
		value |= err;
	else if (given)
		return jv_fail(p, &number, "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have a number");
	*ret = (uint32_t)value;
	return 0;
}

static int parse_operator(struct parser *p, const struct jv *v, void *dest)
{
	uint64_t op = 0;
	int r = spec_lookup(p, v, spec_seccomp_operators, "comparison operator", &op);

	*(int *)dest = (int)op;
	return r;
}

static const struct json_field arg_fields[] = {
	{"index", JSON_U32, .required = true, .offset = offsetof(struct spec_seccomp_arg, index), .max = 5},
	{"value", JSON_U64, .required = true, .offset = offsetof(struct spec_seccomp_arg, value)},
	{"valueTwo", JSON_U64, .offset = offsetof(struct spec_seccomp_arg, value_two)},
	{"op", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec_seccomp_arg, op),
		.parse = parse_operator},
	{NULL},
};

static int parse_arg(struct parser *p, const struct jv *v, void *dest)
{
	return jv_fields(p, v, arg_fields, dest);
}

static int parse_args(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_seccomp_rule *rule = dest;

	return jv_array(p, v, sizeof(*rule->args), parse_arg, &rule->args, &rule->n_args);
}

static const struct json_field rule_fields[] = {
	{"names", JSON_STRV, .required = true, .offset = offsetof(struct spec_seccomp_rule, names)},
	{"args", JSON_CUSTOM, .parse = parse_args},
	{NULL},
};

static int parse_rule(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_seccomp_rule *rule = dest;
	int r = jv_fields(p, v, rule_fields, rule);

	if (r < 0)
		return r;
	if (!rule->names[0]) {
		struct jv names = {.up = v, .key = "names"};

		return jv_fail(p, &names, "must not be empty");
	}
	return parse_action(p, v, "action", "errnoRet", &rule->action);
}

static int parse_rules(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_seccomp *s = dest;

	return jv_array(p, v, sizeof(*s->rules), parse_rule, &s->rules, &s->n_rules);
}

static int parse_flags(struct parser *p, const struct jv *v, void *dest)
{
	int r = jv_expect(p, v, json_type_array);
	unsigned long flags = 0;

	for (size_t i = 0; r == 0 && i < json_object_array_length(v->o); i++) {
		struct jv item = jv_element(v, i);
		uint64_t flag = 0;

		r = spec_lookup(p, &item, spec_seccomp_flags, "seccomp flag", &flag);
		flags |= flag;
	}
	*(unsigned long *)dest = flags;
	return r;
}

static int parse_architectures(struct parser *p, const struct jv *v, void *dest)
{
	int r = jv_strv(p, v, dest);

	for (size_t i = 0; r == 0 && i < json_object_array_length(v->o); i++) {
		struct jv item = jv_element(v, i);
		uint64_t unused;

		r = spec_lookup(p, &item, spec_seccomp_architectures, "architecture", &unused);
	}
	return r;
}

static const struct json_field seccomp_fields[] = {
	{"architectures", JSON_CUSTOM, .offset = offsetof(struct spec_seccomp, architectures),
		.parse = parse_architectures},
	{"flags", JSON_CUSTOM, .offset = offsetof(struct spec_seccomp, flags), .parse = parse_flags},
	{"listenerPath", JSON_PATH, .offset = offsetof(struct spec_seccomp, listener_path)},
	{"listenerMetadata", JSON_STRING, .offset = offsetof(struct spec_seccomp, listener_metadata)},
	{"syscalls", JSON_CUSTOM, .parse = parse_rules},
	{NULL},
};

/* Without a listener nobody answers; and the descriptor could not even be handed over if write(2) asked for it. */
static int check_notify(struct parser *p, const struct jv *v, struct spec_seccomp *s)
{
	if (s->default_action == SECCOMP_RET_USER_NOTIF)
		return jv_fail(p, v, "SCMP_ACT_NOTIFY cannot be the default action");
	for (size_t i = 0; i < s->n_rules; i++) {
		if (s->rules[i].action != SECCOMP_RET_USER_NOTIF)
			continue;
		s->notifies = true;
		for (char **name = s->rules[i].names; *name; name++)
			if (strcmp(*name, "write") == 0)
				return jv_fail(p, v, "SCMP_ACT_NOTIFY cannot be used for write");
	}
	if (s->notifies && !s->listener_path)
		return jv_fail(p, v, "SCMP_ACT_NOTIFY needs a listenerPath");
	return 0;
}

int spec_seccomp_parse(struct parser *p, const struct jv *v, void *dest)
{
	static char *const none[] = {NULL};
	struct spec_seccomp *s = arena_new(p->arena, struct spec_seccomp);
	int r;

	if (!s)
		return jv_no_memory(p);
	s->architectures = (char **)none;
	/* No "flags" member means this default, as with runc: the mitigation costs speed and protects little. */
	s->flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	r = jv_fields(p, v, seccomp_fields, s);
	if (r == 0)
		r = parse_action(p, v, "defaultAction", "defaultErrnoRet", &s->default_action);
	if (r == 0)
		r = check_notify(p, v, s);
	if (r < 0)
		return r;
	*(struct spec_seccomp **)dest = s;
	return 0;
}
