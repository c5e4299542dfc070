/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device nodes the tasks of a cgroup may make, read and write. The rules are an ordered list, the last one that
 * says something about a kind of access wins: nothing is allowed; then config's rules; then the devices that every
 * container has (as runc adds them). v1: devices.deny and devices.allow. v2: a BPF program that walks the list from
 * its end.
 */
#include <inttypes.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "cgroup/cgroup-priv.h"

enum { INSNS_PER_RULE = 8, RULES_MAX = 4096, PROGRAMS_MAX = 64 };

/* mknod of anything (the node can't be opened without a rule of its own), and the nodes of a plain /dev. */
static const struct spec_device_rule default_rules[] = {
	{true, 'c', -1, -1, "m"}, {true, 'b', -1, -1, "m"}, {true, 'c', 1, 3, "rwm"}, /* null */
	{true, 'c', 1, 5, "rwm"},						      /* zero */
	{true, 'c', 1, 7, "rwm"},						      /* full */
	{true, 'c', 1, 8, "rwm"},						      /* random */
	{true, 'c', 1, 9, "rwm"},						      /* urandom */
	{true, 'c', 5, 0, "rwm"},						      /* tty */
	{true, 'c', 5, 1, "rwm"},						      /* console */
	{true, 'c', 5, 2, "rwm"},						      /* ptmx */
	{true, 'c', 136, -1, "rwm"},						      /* pts */
};

static bool full_access(const struct spec_device_rule *rule)
{
	return strchr(rule->access, 'r') && strchr(rule->access, 'w') && strchr(rule->access, 'm');
}

static bool is_everything(const struct spec_device_rule *rule)
{
	return rule->type == 'a' && rule->major < 0 && rule->minor < 0 && full_access(rule);
}

static const char *number_or_star(int64_t n, char buf[24])
{
	if (n < 0)
		return "*";
	snprintf(buf, 24, "%" PRId64, n);
	return buf;
}

/* v1 reads "a" as everything, whatever follows it: a narrower rule for both types is written as two. */
static int write_rule_v1(struct limits *l, int dir, const struct spec_device_rule *rule)
{
	const char *file = rule->allow ? "devices.allow" : "devices.deny";
	char major[24], minor[24];
	int r = 0;

	if (is_everything(rule))
		return limits_write(l, dir, file, "a");
	for (const char *type = "bc"; r == 0 && *type; type++)
		if (rule->type == 'a' || rule->type == *type)
			r = limits_write(l, dir, file, "%c %s:%s %s", *type,
				number_or_star(rule->major, major), number_or_star(rule->minor, minor),
				rule->access);
	return r;
}

int devices_apply_v1(struct limits *l, int dir, const struct spec_resources *res)
{
	int r = limits_write(l, dir, "devices.deny", "a");

	for (size_t i = 0; r == 0 && i < res->n_devices; i++)
		r = write_rule_v1(l, dir, &res->devices[i]);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(default_rules); i++)
		r = write_rule_v1(l, dir, &default_rules[i]);
	return r;
}

/* The program keeps in registers: what is asked for. Whoever allows a kind of access takes its bit out of ACCESS;
 * nothing left: allowed. Whoever denies a kind that is still in it: denied. */
enum { TYPE = BPF_REG_2, ACCESS = BPF_REG_3, MAJOR = BPF_REG_4, MINOR = BPF_REG_5 };

struct program {
	struct bpf_insn *insns;
	size_t n;
};

static void emit(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	p->insns[p->n++] = (struct bpf_insn){
		.code = code, .dst_reg = dst & 15, .src_reg = src & 15, .off = off, .imm = imm};
}

static void emit_return(struct program *p, int value)
{
	emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value);
	emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void emit_start(struct program *p)
{
	emit(p, BPF_LDX | BPF_W | BPF_MEM, TYPE, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, access_type),
		0);
	emit(p, BPF_LDX | BPF_W | BPF_MEM, MAJOR, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
	emit(p, BPF_LDX | BPF_W | BPF_MEM, MINOR, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
	emit(p, BPF_ALU | BPF_MOV | BPF_X, ACCESS, TYPE, 0, 0);
	emit(p, BPF_ALU | BPF_RSH | BPF_K, ACCESS, 0, 0, 16);
	emit(p, BPF_ALU | BPF_AND | BPF_K, TYPE, 0, 0, 0xffff);
}

static int32_t access_bits(const char *access)
{
	return (strchr(access, 'm') ? BPF_DEVCG_ACC_MKNOD : 0) |
	       (strchr(access, 'r') ? BPF_DEVCG_ACC_READ : 0) |
	       (strchr(access, 'w') ? BPF_DEVCG_ACC_WRITE : 0);
}

/* Each test jumps behind the rule when it does not match. */
static void emit_rule(struct program *p, const struct spec_device_rule *rule)
{
	int32_t bits = access_bits(rule->access);
	size_t start = p->n;

	if (rule->type != 'a')
		emit(p, BPF_JMP32 | BPF_JNE | BPF_K, TYPE, 0, 0,
			rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (rule->major >= 0)
		emit(p, BPF_JMP32 | BPF_JNE | BPF_K, MAJOR, 0, 0, (int32_t)(uint32_t)rule->major);
	if (rule->minor >= 0)
		emit(p, BPF_JMP32 | BPF_JNE | BPF_K, MINOR, 0, 0, (int32_t)(uint32_t)rule->minor);
	if (rule->allow) {
		emit(p, BPF_ALU | BPF_AND | BPF_K, ACCESS, 0, 0, ~bits);
		emit(p, BPF_JMP32 | BPF_JNE | BPF_K, ACCESS, 0, 0, 0);
		emit_return(p, 1);
	} else {
		emit(p, BPF_JMP32 | BPF_JSET | BPF_K, ACCESS, 0, 1, bits);
		emit(p, BPF_JMP | BPF_JA, 0, 0, 0, 0);
		emit_return(p, 0);
	}
	for (size_t i = start; i < p->n; i++) {
		uint8_t op = p->insns[i].code;

		if (op == (BPF_JMP32 | BPF_JNE | BPF_K) || op == (BPF_JMP | BPF_JA))
			p->insns[i].off = (int16_t)(p->n - i - 1);
	}
}

/* True: this rule decided about everything, so those before it (which come after it in the program) never matter. */
static bool emit_last_word(struct program *p, const struct spec_device_rule *rule)
{
	if (is_everything(rule))
		emit_return(p, rule->allow);
	else
		emit_rule(p, rule);
	return is_everything(rule);
}

static void build_program(struct program *p, const struct spec_resources *res)
{
	bool decided = false;

	emit_start(p);
	for (size_t i = ARRAY_SIZE(default_rules); !decided && i-- > 0;)
		decided = emit_last_word(p, &default_rules[i]);
	for (size_t i = res->n_devices; !decided && i-- > 0;)
		decided = emit_last_word(p, &res->devices[i]);
	if (!decided)
		emit_return(p, 0);
}

static int bpf(int command, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

static int load_program(const struct program *p)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uintptr_t)p->insns;
	attr.insn_cnt = (uint32_t)p->n;
	attr.license = (uintptr_t) "Apache-2.0";
	memcpy(attr.prog_name, "stasis_devices", 15);
	return bpf(BPF_PROG_LOAD, &attr);
}

static int attach_program(int dir, int program)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)program;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	return bpf(BPF_PROG_ATTACH, &attr);
}

/* The ids of the programs attached to this very cgroup; returns how many. */
static int query_programs(int dir, uint32_t *ids)
{
	union bpf_attr attr;
	int r;

	memset(&attr, 0, sizeof(attr));
	attr.query.target_fd = (uint32_t)dir;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_ids = (uintptr_t)ids;
	attr.query.prog_cnt = PROGRAMS_MAX;
	r = bpf(BPF_PROG_QUERY, &attr);
	return r < 0 ? r : (int)attr.query.prog_cnt;
}

static int detach_program(int dir, uint32_t id)
{
	_cleanup_close_ int program = -EBADF;
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_id = id;
	program = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
	if (program < 0)
		return program;
	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)program;
	attr.attach_type = BPF_CGROUP_DEVICE;
	return bpf(BPF_PROG_DETACH, &attr);
}

/* All programs of a cgroup must agree, so the new one is attached before the old ones go: never more is allowed than
 * by either. */
int devices_apply_v2(int dir, const struct spec_resources *res, struct error *e)
{
	_cleanup_free_ struct bpf_insn *insns = NULL;
	_cleanup_close_ int program = -EBADF;
	uint32_t old[PROGRAMS_MAX];
	struct program p;
	int n_old, r;

	if (res->n_devices > RULES_MAX)
		return error_set(
			e, -E2BIG, ERROR_CONFIG, "linux.resources.devices: more than %d rules", RULES_MAX);
	insns = reallocarray(
		NULL, (res->n_devices + ARRAY_SIZE(default_rules) + 2) * INSNS_PER_RULE, sizeof(*insns));
	if (!insns)
		return error_set(e, -ENOMEM, ERROR_SYSTEM, "out of memory for the device rules");
	p = (struct program){.insns = insns};
	build_program(&p, res);
	program = load_program(&p);
	/* An ordinary user can't load it, and can't make device nodes either. */
	if (program == -EPERM && geteuid() != 0)
		return 0;
	if (program < 0)
		return error_errno(e, program, "cgroup: load the BPF program of the device rules");
	n_old = query_programs(dir, old);
	r = n_old < 0 ? n_old : attach_program(dir, program);
	for (int i = 0; r == 0 && i < n_old; i++)
		r = detach_program(dir, old[i]);
	return r < 0 ? error_errno(e, r, "cgroup: attach the BPF program of the device rules") : 0;
}
