/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that are newer than the profile. Programs try a new call and fall back when the kernel says ENOSYS; a
 * profile written before the call existed would answer with its default action instead, EPERM say, and break them. So, as
 * runc does, what comes after the last call that a profile names (which dates it) is answered with ENOSYS, by
 * instructions put before libseccomp's. Not where the default lets calls through (allow, log, trace, notify), nor where
 * it is ENOSYS already.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>

#include "container/container-priv.h"

enum { ARCHITECTURES_MAX = 32, INSTRUCTIONS_PER_ARCHITECTURE = 7 };
#define X32_BIT 0x40000000U

/* A kernel ABI as seccomp sees it; x32 is x86_64 with a bit in the number. */
struct abi {
	uint32_t audit_arch;
	uint32_t last, last_x32; /* the largest number named */
	bool named, x32;
};

static uint32_t last_call(const struct spec_seccomp *s, uint32_t arch, bool *named)
{
	uint32_t last = 0;

	*named = false;
	for (size_t i = 0; i < s->n_rules; i++)
		for (char **name = s->rules[i].names; name && *name; name++) {
			int nr = seccomp_syscall_resolve_name_arch(arch, *name);

			/* negative: not on this architecture */
			if (nr < 0)
				continue;
			last = MAX(last, (uint32_t)nr);
			*named = true;
		}
	return last;
}

/* The native architecture is in every filter, named or not. */
static size_t collect(const struct spec_seccomp *s, struct abi abi[ARCHITECTURES_MAX])
{
	uint32_t tokens[ARCHITECTURES_MAX] = {seccomp_arch_native()};
	size_t n_tokens = 1, n = 0;

	for (char **name = s->architectures; name && *name && n_tokens < ARRAY_SIZE(tokens); name++) {
		tokens[n_tokens] = seccomp_architecture(*name);
		if (tokens[n_tokens] && tokens[n_tokens] != tokens[0])
			n_tokens++;
	}
	for (size_t i = 0; i < n_tokens; i++) {
		bool x32 = tokens[i] == SCMP_ARCH_X32, named;
		uint32_t arch = x32 ? SCMP_ARCH_X86_64 : tokens[i], last = last_call(s, tokens[i], &named);
		size_t k = 0;

		while (k < n && abi[k].audit_arch != arch)
			k++;
		if (k == n)
			abi[n++] = (struct abi){.audit_arch = arch};
		if (x32 && named) {
			abi[k].x32 = true;
			abi[k].last_x32 = last;
		} else if (!x32) {
			abi[k].named = named;
			abi[k].last = last;
		}
	}
	return n;
}

static bool wanted(uint32_t default_action)
{
	switch (default_action & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_TRACE:
	case SECCOMP_RET_USER_NOTIF:
		return false;
	case SECCOMP_RET_ERRNO:
		return (default_action & SECCOMP_RET_DATA) != ENOSYS;
	default:
		return true;
	}
}

/*
 * One architecture's block: "not mine: over it; number beyond the last: ENOSYS; else to the filter". The distance to the
 * filter is filled in afterwards.
 */
static size_t emit(const struct abi *a, struct sock_filter *f)
{
	size_t n = 0;

	f[n++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JEQ | BPF_K, a->audit_arch, 0, INSTRUCTIONS_PER_ARCHITECTURE - 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	f[n++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JGE | BPF_K, a->audit_arch == SCMP_ARCH_X86_64 ? X32_BIT : UINT32_MAX, 0, 1);
	f[n++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JGT | BPF_K, a->x32 ? a->last_x32 : UINT32_MAX, 1, 2);
	f[n++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JGT | BPF_K, a->named ? a->last : UINT32_MAX, 0, 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0);
	return n;
}

int seccomp_add_enosys(const struct spec_seccomp *s, struct sock_fprog *program)
{
	struct abi abi[ARCHITECTURES_MAX];
	struct sock_filter *all;
	size_t n_abi, n = 0, stub;

	if (!wanted(s->default_action))
		return 0;
	n_abi = collect(s, abi);
	stub = 1 + n_abi * INSTRUCTIONS_PER_ARCHITECTURE;
	if (stub + program->len > SECCOMP_INSTRUCTIONS_MAX)
		return 0; /* a filter that long is better whole */
	all = calloc(stub + program->len, sizeof(*all));
	if (!all)
		return -ENOMEM;
	all[n++] =
		(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	for (size_t i = 0; i < n_abi; i++)
		n += emit(&abi[i], all + n);
	for (size_t i = 0; i < n; i++)
		if (all[i].code == (BPF_JMP | BPF_JA))
			all[i].k = stub - i - 1;
	memcpy(all + stub, program->filter, program->len * sizeof(*all));
	free(program->filter);
	program->filter = all;
	program->len += stub;
	return 0;
}
