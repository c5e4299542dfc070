/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/park.h"

#include <string.h>

#include "checkpoint/native/ia32.h"

/* In place of a result: what no call returns. */
#define NOT_CALLED (1ull << 63)

enum { CARRY = 0x1, PARITY = 0x4, ZERO = 0x40, SIGN = 0x80, OVERFLOW = 0x800, ALWAYS_SET = 0x202 };
enum { JMP = 0xeb, JCC = 0x70, TO_ITSELF = 0xfe };

/* The flags with which the condition of a jump is met: an odd one is the opposite of the one before, and met with none. */
static uint64_t flags_of(uint8_t jump)
{
	static const uint16_t of[] = {OVERFLOW, CARRY, ZERO, CARRY, SIGN, PARITY, SIGN, ZERO};

	return ALWAYS_SET | (jump == JMP || jump & 1 ? 0 : of[(jump - JCC) / 2]);
}

bool park_find(const void *code, size_t len, uint64_t address, struct park *ret)
{
	const uint8_t *begin = code, *at = begin;

	while (len > 1 && (at = memchr(at + 1, TO_ITSELF, begin + len - at - 1))) {
		if (at[-1] != JMP && at[-1] >> 4 != JCC >> 4)
			continue;
		ret->loop = address + (at - 1 - begin);
		ret->flags = flags_of(at[-1]);
		ret->mark = PARK_MARK;
		return true;
	}
	return false;
}

void park_in_loop(const struct park *p, const struct user_regs_struct *own, struct user_regs_struct *ret)
{
	*ret = *own;
	ret->cs = IA32_CODE_64;
	ret->rip = p->loop;
	ret->eflags = p->flags;
	ret->rax = NOT_CALLED;
	ret->orig_rax = -1; /* no restart of the interrupted call */
	ret->rbx = p->mark;
}

void park_in_call(
	const struct park *p, const struct user_regs_struct *own, uint64_t insn, struct user_regs_struct *ret)
{
	park_in_loop(p, own, ret);
	ret->rip = insn;
	ret->rax = p->nr;
	ret->rdi = ret->rsi = ret->rdx = ret->r10 = ret->r8 = ret->r9 = 0;
}

void park_after_call(const struct park *p, const struct user_regs_struct *own, long nr,
	const uint64_t args[6], struct user_regs_struct *ret)
{
	park_in_loop(p, own, ret);
	ret->orig_rax = nr;
	ret->rdi = args[0];
	ret->rsi = args[1];
	ret->rdx = args[2];
	ret->r10 = args[3];
	ret->r8 = args[4];
	ret->r9 = args[5];
}

bool park_has(const struct park *p, uint64_t insn, const struct user_regs_struct *regs)
{
	return regs->rbx == p->mark && (regs->rip == p->loop || regs->rip == insn || regs->rip == insn + 2);
}

bool park_result(const struct park *p, const struct user_regs_struct *regs, int64_t *ret)
{
	if (!p->loop || regs->rip != p->loop || regs->rax == NOT_CALLED)
		return false;
	*ret = regs->rax;
	return true;
}
