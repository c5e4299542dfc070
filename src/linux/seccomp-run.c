/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interpreter of classic BPF, as seccomp(2) has it. A program comes from an image, too: whatever it holds, each step
 * goes forward, and nothing but its own instructions and the call's data is read.
 */
#include "linux/seccomp-run.h"

#include <linux/audit.h>
#include <stddef.h>
#include <string.h>

enum { BUDGET = 1 << 16 };

struct machine {
	uint32_t a, x, scratch[BPF_MEMWORDS];
	bool a_known, x_known, scratch_known[BPF_MEMWORDS];
};

struct run {
	const struct sock_fprog *p;
	const struct seccomp_data *d;
	bool any_arguments; /* they are not known: where they decide, both ways are gone */
	unsigned budget;
};

static bool passes(uint32_t action)
{
	action &= SECCOMP_RET_ACTION_FULL;
	return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
}

static bool load(const struct run *r, uint32_t at, struct machine *m)
{
	if (at > sizeof(*r->d) - sizeof(m->a) || at % sizeof(m->a) != 0)
		return false;
	memcpy(&m->a, (const char *)r->d + at, sizeof(m->a));
	m->a_known = !r->any_arguments || at < offsetof(struct seccomp_data, instruction_pointer);
	return true;
}

static bool calculate(const struct sock_filter *f, struct machine *m)
{
	bool by_x = BPF_SRC(f->code) == BPF_X;
	uint32_t v = by_x ? m->x : f->k;

	m->a_known = m->a_known && (!by_x || m->x_known);
	switch (BPF_OP(f->code)) {
	case BPF_ADD:
		m->a += v;
		return true;
	case BPF_SUB:
		m->a -= v;
		return true;
	case BPF_MUL:
		m->a *= v;
		return true;
	case BPF_DIV:
		m->a = v ? m->a / v : 0;
		return v != 0 || by_x;
	case BPF_AND:
		m->a &= v;
		return true;
	case BPF_OR:
		m->a |= v;
		return true;
	case BPF_XOR:
		m->a ^= v;
		return true;
	case BPF_LSH:
		m->a = v < 32 ? m->a << v : 0;
		return true;
	case BPF_RSH:
		m->a = v < 32 ? m->a >> v : 0;
		return true;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	}
	return false;
}

/* Neither jumps nor returns. False: no such instruction. */
static bool step(const struct run *r, const struct sock_filter *f, struct machine *m)
{
	bool in_scratch = f->k < BPF_MEMWORDS;

	switch (f->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return load(r, f->k, m);
	case BPF_LD | BPF_W | BPF_LEN:
	case BPF_LD | BPF_IMM:
		m->a = f->code == (BPF_LD | BPF_IMM) ? f->k : sizeof(*r->d);
		m->a_known = true;
		return true;
	case BPF_LDX | BPF_W | BPF_LEN:
	case BPF_LDX | BPF_IMM:
		m->x = f->code == (BPF_LDX | BPF_IMM) ? f->k : sizeof(*r->d);
		m->x_known = true;
		return true;
	case BPF_LD | BPF_MEM:
		m->a = in_scratch ? m->scratch[f->k] : 0;
		m->a_known = in_scratch && m->scratch_known[f->k];
		return in_scratch;
	case BPF_LDX | BPF_MEM:
		m->x = in_scratch ? m->scratch[f->k] : 0;
		m->x_known = in_scratch && m->scratch_known[f->k];
		return in_scratch;
	case BPF_ST:
	case BPF_STX:
		if (!in_scratch)
			return false;
		m->scratch[f->k] = f->code == BPF_ST ? m->a : m->x;
		m->scratch_known[f->k] = f->code == BPF_ST ? m->a_known : m->x_known;
		return true;
	case BPF_MISC | BPF_TAX:
		m->x = m->a;
		m->x_known = m->a_known;
		return true;
	case BPF_MISC | BPF_TXA:
		m->a = m->x;
		m->a_known = m->x_known;
		return true;
	}
	return BPF_CLASS(f->code) == BPF_ALU && calculate(f, m);
}

static bool condition(const struct sock_filter *f, const struct machine *m, bool *ret)
{
	uint32_t v = BPF_SRC(f->code) == BPF_X ? m->x : f->k;

	switch (BPF_OP(f->code)) {
	case BPF_JEQ:
		*ret = m->a == v;
		return true;
	case BPF_JGT:
		*ret = m->a > v;
		return true;
	case BPF_JGE:
		*ret = m->a >= v;
		return true;
	case BPF_JSET:
		*ret = m->a & v;
		return true;
	}
	return false;
}

static uint32_t run(struct run *r, size_t at, struct machine m)
{
	for (; at < r->p->len && r->budget > 0; at++) {
		struct sock_filter f;
		bool yes;

		r->budget--;
		memcpy(&f, r->p->filter + at, sizeof(f)); /* of an image it may lie anywhere */
		if (f.code == (BPF_RET | BPF_K))
			return f.k;
		if (f.code == (BPF_RET | BPF_A))
			return m.a_known ? m.a : SECCOMP_RET_ALLOW;
		if (f.code == (BPF_JMP | BPF_JA)) {
			at += f.k;
		} else if (BPF_CLASS(f.code) == BPF_JMP) {
			if (!condition(&f, &m, &yes))
				break;
			if (!m.a_known || (BPF_SRC(f.code) == BPF_X && !m.x_known)) {
				uint32_t action = run(r, at + 1 + f.jt, m);

				if (passes(action))
					return action;
				yes = false;
			}
			at += yes ? f.jt : f.jf;
		} else if (!step(r, &f, &m)) {
			break;
		}
	}
	return r->any_arguments && r->budget == 0 ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS;
}

static uint32_t run_program(const struct sock_fprog *p, const struct seccomp_data *d, bool any_arguments)
{
	struct machine m = {.a_known = true, .x_known = true};
	struct run r = {p, d, any_arguments, BUDGET};

	for (size_t i = 0; i < BPF_MEMWORDS; i++)
		m.scratch_known[i] = true;
	return run(&r, 0, m);
}

uint32_t seccomp_run(const struct sock_fprog *p, const struct seccomp_data *d)
{
	return run_program(p, d, false);
}

bool seccomp_lets_through(const struct sock_fprog *filters, size_t n, long nr, const uint64_t args[6])
{
	struct seccomp_data d = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64};

	memcpy(d.args, args, sizeof(d.args));
	for (size_t i = 0; i < n; i++)
		if (!passes(seccomp_run(&filters[i], &d)))
			return false;
	return true;
}

bool seccomp_may_let_through(const struct sock_fprog *filters, size_t n, long nr)
{
	struct seccomp_data d = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64};

	for (size_t i = 0; i < n; i++)
		if (!passes(run_program(&filters[i], &d, true)))
			return false;
	return true;
}
