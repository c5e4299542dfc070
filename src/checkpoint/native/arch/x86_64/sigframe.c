/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rt_sigframe of x86-64 (arch/x86/include/asm/sigframe.h and uapi sigcontext.h): return address, ucontext; the
 * extended state lies where uc_mcontext.fpstate points, in the standard xsave layout, with the software bytes that the
 * kernel checks.
 */
#include <asm/sigcontext.h>
#include <string.h>
#include <sys/syscall.h>

#include "checkpoint/native/ia32.h"
#include "checkpoint/native/task.h"

struct kernel_ucontext {
	unsigned long uc_flags;
	uint64_t uc_link;
	struct {
		uint64_t sp;
		int flags;
		uint64_t size;
	} uc_stack;
	struct sigcontext_64 mc;
	uint64_t uc_sigmask;
};

enum {
	UC_FP_XSTATE_FLAG = 1,
	UC_SIGCONTEXT_SS_FLAG = 2,
	UC_STRICT_RESTORE_SS_FLAG = 4,
	NO_ALTSTACK_CHANGE =
		0x7fffffff, /* an invalid flag: rt_sigreturn then leaves the alternate stack as it is */
};

/* A system call that the stop interrupted is restarted, as the kernel itself would have done. */
static void fix_restart(struct sigcontext_64 *mc, const struct user_regs_struct *regs)
{
	enum { ERESTARTSYS = 512, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 516 };

	if ((long)regs->orig_rax < 0)
		return;
	switch (-(long)regs->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
		mc->ax = regs->orig_rax;
		mc->ip -= 2;
		break;
	case ERESTART_RESTARTBLOCK:
		mc->ax = ia32_runs(regs) ? IA32_restart_syscall : SYS_restart_syscall;
		mc->ip -= 2;
		break;
	}
}

size_t task_sigframe(const struct task *t, void *buf, size_t size, uint64_t address, uint64_t *ret_sp)
{
	size_t fp_at = ALIGN_UP(8 + sizeof(struct kernel_ucontext), (size_t)64);
	size_t total = fp_at + t->xstate_len + FP_XSTATE_MAGIC2_SIZE;
	const struct user_regs_struct *r = &t->regs;
	uint32_t magic2 = FP_XSTATE_MAGIC2;
	struct kernel_ucontext uc = {
		.uc_flags = UC_FP_XSTATE_FLAG | UC_SIGCONTEXT_SS_FLAG | UC_STRICT_RESTORE_SS_FLAG,
		.uc_stack.flags = NO_ALTSTACK_CHANGE,
		.uc_sigmask = t->sigmask,
		.mc =
			{
				.r8 = r->r8,
				.r9 = r->r9,
				.r10 = r->r10,
				.r11 = r->r11,
				.r12 = r->r12,
				.r13 = r->r13,
				.r14 = r->r14,
				.r15 = r->r15,
				.di = r->rdi,
				.si = r->rsi,
				.bp = r->rbp,
				.bx = r->rbx,
				.dx = r->rdx,
				.ax = r->rax,
				.cx = r->rcx,
				.sp = r->rsp,
				.ip = r->rip,
				.flags = r->eflags,
				.cs = r->cs,
				.ss = r->ss,
				.fpstate = address + fp_at,
			},
	};
	struct _fpx_sw_bytes sw = {.magic1 = FP_XSTATE_MAGIC1,
		.extended_size = t->xstate_len + FP_XSTATE_MAGIC2_SIZE,
		.xstate_size = t->xstate_len};

	if (!buf || size < total)
		return total;
	fix_restart(&uc.mc, r);
	memcpy((char *)buf + 8, &uc, sizeof(uc));
	memcpy((char *)buf + fp_at, t->xstate, t->xstate_len);
	memcpy(&sw.xfeatures, (char *)t->xstate + 464, sizeof(sw.xfeatures)); /* the regset has XCR0 there */
	memcpy((char *)buf + fp_at + 464, &sw, sizeof(sw));
	memcpy((char *)buf + fp_at + t->xstate_len, &magic2, sizeof(magic2));
	*ret_sp = address + 8;
	return total;
}
