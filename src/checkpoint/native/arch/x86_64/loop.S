/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batch loop: runs an array of struct op (batch.h) inside a task. Position independent, uses no stack, and so
 * lives in any executable page.
 *
 * In:  rdi  first op, rsi  number of ops, rdx  struct batch_control, rcx  stack pointer for rt_sigreturn at the end
 * Out: nothing: after the last op it returns to the frame's registers by rt_sigreturn. A task whose tracer has
 *      vanished in the middle of a batch thereby cures itself.
 *
 * struct op: 0 nr (u32), 4 flags (u32), 8..55 args, 56 result.
 */
	.section .rodata.batch_loop, "a", @progbits
	.globl	batch_loop_start, batch_loop_syscall, batch_loop_end
	.hidden	batch_loop_start, batch_loop_syscall, batch_loop_end
	.balign	16
batch_loop_start:
	mov	%rdi, %rbx
	mov	%rsi, %r12
	mov	%rdx, %r13
	mov	%rcx, %r14
.Lnext:
	test	%r12, %r12
	jz	.Lend
.Lagain:
	testl	$16, 4(%rbx)			/* OP_IA32 */
	jnz	.Lia32
	mov	(%rbx), %eax
	mov	8(%rbx), %rdi
	mov	16(%rbx), %rsi
	mov	24(%rbx), %rdx
	mov	32(%rbx), %r10
	mov	40(%rbx), %r8
	mov	48(%rbx), %r9
batch_loop_syscall:
	syscall
.Ldid:
	mov	4(%rbx), %ecx
	test	$4, %ecx			/* OP_CHILD: 0 means that this is the new thread */
	jz	.Lchecks
	test	%rax, %rax
	jnz	.Lchecks
	mov	(%rsp), %rbx			/* its stack holds its own batch */
	mov	8(%rsp), %r12
	jmp	.Lnext
.Lchecks:
	test	$8, %ecx			/* OP_WAIT: until *(u32 *)args[0] is no longer args[2] */
	jz	.Lexpect
	cmp	%edx, (%rdi)
	je	.Lagain
	jmp	.Lstore
.Lexpect:
	test	$2, %ecx			/* OP_EXPECT: the result must be what stands there */
	jz	.Lfailed
	cmp	%rax, 56(%rbx)
	jne	.Lfail
	jmp	.Ldone
.Lfailed:
	test	$1, %ecx			/* OP_MAY_FAIL */
	jnz	.Lstore
	cmp	$-4095, %rax
	jae	.Lfail
.Lstore:
	mov	%rax, 56(%rbx)
.Ldone:
	add	$64, %rbx
	dec	%r12
	jmp	.Lnext
.Lia32:
	mov	%rbx, %r15
	mov	(%r15), %eax
	mov	16(%r15), %ecx
	mov	24(%r15), %edx
	mov	32(%r15), %esi
	mov	40(%r15), %edi
	mov	48(%r15), %ebp
	mov	8(%r15), %ebx
	int	$0x80
	mov	%r15, %rbx
	movslq	%eax, %rax
	jmp	.Ldid
.Lfail:
	mov	%rax, 8(%r13)			/* batch_control: result and op, then the end of the process */
	mov	%rbx, (%r13)
	mov	$1, %edi
	mov	$231, %eax			/* exit_group */
	syscall
	hlt
.Lend:
	mov	%r14, %rsp
	mov	$15, %eax			/* rt_sigreturn */
	syscall
	hlt
batch_loop_end:

	.section .note.GNU-stack, "", @progbits
