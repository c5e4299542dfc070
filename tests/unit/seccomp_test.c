/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled seccomp filters, run by our interpreter for every call number of each ABI and many arguments, against what the
 * profile says when it is read rule by rule. libseccomp's binary tree and our instructions before it are both in that.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "container/container-priv.h"
#include "linux/seccomp-run.h"
#include "tap.h"

#define X32_BIT 0x40000000U
#define ENOSYS_RESULT (SECCOMP_RET_ERRNO | ENOSYS)

/* ABIs that a profile may list, and one that it never does here. */
static const struct {
	const char *name;
	uint32_t token, audit;
	int bit;
} abis[] = {
	{"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64, 0},
	{"SCMP_ARCH_X86", SCMP_ARCH_X86, AUDIT_ARCH_I386, 0},
	{"SCMP_ARCH_X32", SCMP_ARCH_X32, AUDIT_ARCH_X86_64, X32_BIT},
	{"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64, 0},
};

static const uint64_t values[] = {0, 1, 2, 7, 8, 9, 131072, UINT32_MAX, 1ULL << 32, UINT64_MAX};

/* The arguments of a 32-bit ABI have 32 bits, and so has all that they are compared with. */
static bool condition_holds(const struct spec_seccomp_arg *condition, uint64_t v, bool narrow)
{
	struct spec_seccomp_arg narrowed = *condition, *c = &narrowed;

	if (narrow) {
		c->value = (uint32_t)c->value;
		c->value_two = (uint32_t)c->value_two;
		v = (uint32_t)v;
	}
	switch (c->op) {
	case SCMP_CMP_NE:
		return v != c->value;
	case SCMP_CMP_LT:
		return v < c->value;
	case SCMP_CMP_LE:
		return v <= c->value;
	case SCMP_CMP_EQ:
		return v == c->value;
	case SCMP_CMP_GE:
		return v >= c->value;
	case SCMP_CMP_GT:
		return v > c->value;
	default: /* masked */
		return (v & c->value) == c->value_two;
	}
}

static bool rule_holds(const struct spec_seccomp_rule *r, uint32_t token, const struct seccomp_data *d)
{
	bool named = false;

	for (char **name = r->names; *name && !named; name++)
		named = seccomp_syscall_resolve_name_arch(token, *name) == d->nr;
	for (size_t i = 0; named && i < r->n_args; i++)
		if (!condition_holds(&r->args[i], d->args[r->args[i].index],
			    token == SCMP_ARCH_X86 || token == SCMP_ARCH_X32))
			return false;
	return named;
}

static int last_named(const struct spec_seccomp *s, uint32_t token)
{
	int last = -1;

	for (size_t i = 0; i < s->n_rules; i++)
		for (char **name = s->rules[i].names; *name; name++)
			last = MAX(last, seccomp_syscall_resolve_name_arch(token, *name));
	return last;
}

/* What the profile says, read as a person would. */
static uint32_t expected(const struct spec_seccomp *s, size_t abi, bool newer, const struct seccomp_data *d)
{
	bool listed = abi == 0;

	for (char **name = s->architectures; *name; name++)
		listed |= !strcmp(*name, abis[abi].name);
	if (!listed)
		return SECCOMP_RET_KILL_THREAD; /* libseccomp's answer to foreign ABIs */
	if (newer && d->nr > last_named(s, abis[abi].token))
		return ENOSYS_RESULT;
	for (size_t i = 0; i < s->n_rules; i++)
		if (rule_holds(&s->rules[i], abis[abi].token, d))
			return s->rules[i].action;
	return s->default_action;
}

static void compare_abi(const struct spec_seccomp *s, const struct sock_fprog *p, size_t abi, bool newer)
{
	for (int nr = 0; nr < 700; nr++)
		for (size_t i = 0; i < ARRAY_SIZE(values); i++)
			for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
				struct seccomp_data d = {.nr = nr | abis[abi].bit,
					.arch = abis[abi].audit,
					.args = {values[i], values[k], values[k]}};
				uint32_t is = seccomp_run(p, &d), should = expected(s, abi, newer, &d);

				if (!CHECK(is == should, "%s %d (%#llx, %#llx): %#x, not %#x", abis[abi].name,
					    nr, (long long)values[i], (long long)values[k], is, should))
					return;
			}
}

static void compare(const struct spec_seccomp *s, bool newer)
{
	struct sock_fprog p = {0};
	struct error e = {0};

	if (!CHECK(seccomp_compile(s, &p, &e) == 0, "%s", e.message))
		return;
	for (size_t abi = 0; abi < ARRAY_SIZE(abis); abi++)
		compare_abi(s, &p, abi, newer);
	free(p.filter);
}

/* Like the profiles of podman and docker, in small: many names, one with alternatives, one with conditions. */
static char *allowed[] = {"read", "write", "open", "openat", "close", "fstat", "execve", "exit", "exit_group",
	"brk", "mmap", "munmap", "socketcall", "futex", "clock_gettime64", "no_such_call", "statx",
	"faccessat2", NULL};
static char *persona[] = {"personality", NULL};
static char *seek[] = {"lseek", "_llseek", NULL};
static char *mask[] = {"umask", NULL};
static char *refused[] = {"ptrace", "kexec_load", NULL};
static char *all_abis[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", NULL};
static char *two_abis[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", NULL};
static char *no_abis[] = {NULL};
static struct spec_seccomp_arg is_0[] = {{.index = 0, .value = 0, .op = SCMP_CMP_EQ}};
static struct spec_seccomp_arg is_8[] = {{.index = 0, .value = 8, .op = SCMP_CMP_EQ}};
static struct spec_seccomp_arg both[] = {
	{.index = 0, .value = 2, .op = SCMP_CMP_GE}, {.index = 1, .value = 1ULL << 32, .op = SCMP_CMP_LT}};
static struct spec_seccomp_arg masked[] = {
	{.index = 0, .value = 1ULL << 32 | 2, .value_two = 2, .op = SCMP_CMP_MASKED_EQ}};

static struct spec_seccomp_rule rules[] = {
	{allowed, SECCOMP_RET_ALLOW, NULL, 0},
	{persona, SECCOMP_RET_ALLOW, is_0, 1},
	{persona, SECCOMP_RET_ALLOW, is_8, 1},
	{seek, SECCOMP_RET_LOG, both, 2},
	{mask, SECCOMP_RET_TRAP, masked, 1},
	{refused, SECCOMP_RET_ERRNO | EPERM, NULL, 0},
};

static struct spec_seccomp profile(uint32_t default_action, char **architectures)
{
	return (struct spec_seccomp){.default_action = default_action,
		.architectures = architectures,
		.rules = rules,
		.n_rules = ARRAY_SIZE(rules)};
}

static void test_all_abis(void)
{
	struct spec_seccomp s = profile(SECCOMP_RET_ERRNO | EACCES, all_abis);

	compare(&s, true);
}

static void test_two_abis(void)
{
	struct spec_seccomp s = profile(SECCOMP_RET_KILL_PROCESS, two_abis);

	compare(&s, true);
}

static void test_native_only(void)
{
	struct spec_seccomp s = profile(SECCOMP_RET_TRAP, no_abis);

	compare(&s, true);
}

/* No ENOSYS of ours: what is newer gets the default, which lets it through or is ENOSYS itself. */
static void test_defaults_without_a_stub(void)
{
	static const uint32_t defaults[] = {SECCOMP_RET_LOG, SECCOMP_RET_TRACE | 5, ENOSYS_RESULT};

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		struct spec_seccomp s = profile(defaults[i], all_abis);

		compare(&s, false);
	}
}

/* A profile that names nothing has no date. */
static void test_no_rules(void)
{
	struct spec_seccomp s = {.default_action = SECCOMP_RET_ERRNO | EPERM, .architectures = all_abis};

	compare(&s, false);
}

/* Of calls whose arguments decide only those that some rule lets through may be. */
static void test_any_arguments(void)
{
	static const struct {
		const char *name;
		bool may;
	} calls[] = {{"read", true}, {"personality", true}, {"lseek", true}, {"umask", false},
		{"ptrace", false}, {"keyctl", false}};
	struct spec_seccomp s = profile(SECCOMP_RET_ERRNO | EACCES, all_abis);
	struct sock_fprog p = {};
	struct error e;

	if (!CHECK(seccomp_compile(&s, &p, &e) == 0, "%s", e.message))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int nr = seccomp_syscall_resolve_name(calls[i].name);

		CHECK(seccomp_may_let_through(&p, 1, nr) == calls[i].may, "%s", calls[i].name);
	}
	for (int nr = 0; nr < 700; nr++)
		for (size_t i = 0; i < ARRAY_SIZE(values); i++)
			CHECK(!seccomp_lets_through(&p, 1, nr, (uint64_t[6]){values[i], values[i]}) ||
					seccomp_may_let_through(&p, 1, nr),
				"call %d", nr);
	free(p.filter);
}

/* Programs as an image may have them: they come to an end, and read nothing but the call. */
static void test_hostile_programs(void)
{
	static const struct sock_filter programs[][3] = {
		{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof(struct seccomp_data)),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
		{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, UINT32_MAX),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
		{BPF_STMT(BPF_LDX | BPF_MEM, BPF_MEMWORDS), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
		{BPF_STMT(BPF_STX, UINT32_MAX), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
		{BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
		{BPF_STMT(BPF_JMP | BPF_JA, UINT32_MAX), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
		{BPF_STMT(BPF_LD | BPF_IMM, 1), BPF_STMT(BPF_LD | BPF_IMM, 2), BPF_STMT(BPF_LD | BPF_IMM, 3)},
	};
	struct seccomp_data d = {};

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		struct sock_fprog p = {ARRAY_SIZE(programs[i]), (struct sock_filter *)programs[i]};

		CHECK(seccomp_run(&p, &d) == SECCOMP_RET_KILL_PROCESS, "program %zu", i);
	}
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"x86_64, i386 and x32", test_all_abis},
		{"x86_64 and i386", test_two_abis},
		{"the native one only", test_native_only},
		{"defaults that need no ENOSYS", test_defaults_without_a_stub},
		{"no rules", test_no_rules},
		{"calls with any arguments", test_any_arguments},
		{"programs of an image", test_hostile_programs},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
