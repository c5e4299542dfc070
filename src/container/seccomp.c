/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.seccomp to BPF, by libseccomp. A system call name that this libseccomp does not know is skipped: profiles are
 * written for the union of kernels, and an unknown call gets the default action anyway.
 */
#include <ctype.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"

static void release_p(scmp_filter_ctx *ctx)
{
	if (*ctx)
		seccomp_release(*ctx);
}

/* "SCMP_ARCH_X86_64": libseccomp's name is "x86_64". */
uint32_t seccomp_architecture(const char *oci_name)
{
	char name[32] = "";

	if (strncmp(oci_name, "SCMP_ARCH_", 10) != 0)
		return 0;
	for (size_t i = 0; i + 1 < sizeof(name) && oci_name[i + 10]; i++)
		name[i] = tolower(oci_name[i + 10]);
	return seccomp_arch_resolve_name(name);
}

static int add_architectures(scmp_filter_ctx ctx, char **names, struct error *e)
{
	for (; names && *names; names++) {
		uint32_t arch = seccomp_architecture(*names);
		int r;

		if (!arch)
			return error_set(e, -EINVAL, ERROR_CONFIG,
				"seccomp: architecture %s is not known to this libseccomp", *names);
		r = seccomp_arch_add(ctx, arch);
		if (r < 0 && r != -EEXIST)
			return error_errno(e, r, "seccomp: add architecture %s", *names);
	}
	return 0;
}

/*
 * Conditions of one rule are and-ed, but libseccomp allows one condition per argument. Where an argument is named twice,
 * each condition becomes a rule of its own (any of them matches): the reading that runc and crun give it.
 */
static bool argument_repeats(const struct spec_seccomp_rule *rule)
{
	unsigned seen = 0;

	for (size_t i = 0; i < rule->n_args; i++) {
		if (rule->args[i].index > 5 || seen & 1U << rule->args[i].index)
			return true;
		seen |= 1U << rule->args[i].index;
	}
	return false;
}

static int add_call(scmp_filter_ctx ctx, const struct spec_seccomp_rule *rule, int nr)
{
	struct scmp_arg_cmp cmp[6];
	size_t n = 0;
	int r = 0;

	if (!argument_repeats(rule)) {
		for (size_t i = 0; i < rule->n_args; i++)
			cmp[n++] = (struct scmp_arg_cmp){rule->args[i].index, rule->args[i].op,
				rule->args[i].value, rule->args[i].value_two};
		return seccomp_rule_add_array(ctx, rule->action, nr, n, cmp);
	}
	for (size_t i = 0; i < rule->n_args && r == 0; i++) {
		cmp[0] = (struct scmp_arg_cmp){
			rule->args[i].index, rule->args[i].op, rule->args[i].value, rule->args[i].value_two};
		if (rule->args[i].index > 5)
			return -EINVAL;
		r = seccomp_rule_add_array(ctx, rule->action, nr, 1, cmp);
	}
	return r;
}

static int add_rules(scmp_filter_ctx ctx, const struct spec_seccomp *s, struct error *e)
{
	for (size_t i = 0; i < s->n_rules; i++) {
		const struct spec_seccomp_rule *rule = &s->rules[i];

		if (rule->action == s->default_action)
			continue;
		for (char **name = rule->names; name && *name; name++) {
			int nr = seccomp_syscall_resolve_name(*name), r;

			if (nr == __NR_SCMP_ERROR) {
				log_debug("seccomp: unknown system call %s", *name);
				continue;
			}
			r = add_call(ctx, rule, nr);
			/* EEXIST: said before; EDOM: not there on this architecture */
			if (r < 0 && r != -EEXIST && r != -EDOM)
				return error_errno(e, r, "seccomp: rule for %s", *name);
		}
	}
	return 0;
}

static int export(scmp_filter_ctx ctx, struct sock_fprog *program, struct error *e)
{
	_cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	int r;

	if (fd < 0)
		return error_errno(e, -errno, "seccomp: memfd");
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return error_errno(e, r, "seccomp: compile the filter");
	if (fstat(fd, &st) < 0 || st.st_size <= 0 ||
		(size_t)st.st_size > SECCOMP_INSTRUCTIONS_MAX * sizeof(struct sock_filter))
		return error_set(e, -E2BIG, ERROR_CONFIG, "seccomp: the filter is too long for the kernel");
	text = malloc(st.st_size);
	if (!text)
		return error_errno(e, -ENOMEM, "seccomp");
	r = pread_exact(fd, text, st.st_size, 0);
	if (r < 0)
		return error_errno(e, r, "seccomp");
	program->len = st.st_size / sizeof(struct sock_filter);
	program->filter = (struct sock_filter *)take_ptr(text);
	return 0;
}

int seccomp_compile(const struct spec_seccomp *s, struct sock_fprog *program, struct error *e)
{
	_cleanup_(release_p) scmp_filter_ctx ctx = seccomp_init(s->default_action);
	int r;

	if (!ctx)
		return error_set(e, -EINVAL, ERROR_CONFIG, "seccomp: default action %#x is not supported",
			s->default_action);
	/* our own loader sets no_new_privs as config.json says, not as libseccomp does by itself */
	(void)!seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	/* a binary tree: the kernel, which tries every call at load time, and each call thereafter take fewer steps */
	(void)!seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	r = add_architectures(ctx, s->architectures, e);
	if (r == 0)
		r = add_rules(ctx, s, e);
	if (r == 0)
		r = export(ctx, program, e);
	if (r < 0)
		return r;
	r = seccomp_add_enosys(s, program);
	return r < 0 ? error_errno(e, r, "seccomp") : 0;
}
