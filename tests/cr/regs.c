/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every general register, flags, x87, mxcsr and the vector and mask registers (as wide as the CPU has them) keep their
 * values in a thread that spins in user mode and never enters the kernel by itself, so it is stopped anywhere.
 */
#include "cr.h"

#include <pthread.h>

struct state {
	uint64_t gpr[16];	/* 0: rax rbx rcx rdx rsi rdi r8-r14 rbp */
	uint64_t mode;		/* 128: 0 sse, 1 avx, 2 avx512 */
	volatile uint64_t stop; /* 136 */
	uint64_t flags;		/* 144 */
	uint64_t pad[5];
	uint64_t masks[8];	 /* 192 */
	uint8_t fx[512];	 /* 256: as fxsave64 has it */
	uint8_t vectors[32][64]; /* 768 */
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct state, masks) == 192 && offsetof(struct state, fx) == 256 &&
		       offsetof(struct state, vectors) == 768,
	"the offsets in spin()");

#define N16 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define N32 N16 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

/* Loads all of *in, spins until in->stop, stores all to *out. */
void spin(struct state *in, struct state *out);
__asm__(".text\n"
	".globl spin\n"
	"spin:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rdi, %r15; push %rsi\n"
	"	fxrstor64 256(%r15)\n"
	"	mov 128(%r15), %rax; cmp $1, %rax; jb 3f; ja 2f\n"
	"	.irp n, " N16 "\n	vmovdqu 768+\\n*64(%r15), %ymm\\n\n	.endr\n"
	"	jmp 3f\n"
	"2:	.irp n, " N32 "\n	vmovdqu64 768+\\n*64(%r15), %zmm\\n\n	.endr\n"
	"	.irp n, 0,1,2,3,4,5,6,7\n	kmovq 192+\\n*8(%r15), %k\\n\n	.endr\n"
	"3:	mov 0(%r15), %rax; mov 8(%r15), %rbx; mov 16(%r15), %rcx; mov 24(%r15), %rdx; mov 32(%r15), "
	"%rsi\n"
	"	mov 40(%r15), %rdi; mov 48(%r15), %r8; mov 56(%r15), %r9; mov 64(%r15), %r10; mov 72(%r15), "
	"%r11\n"
	"	mov 80(%r15), %r12; mov 88(%r15), %r13; mov 96(%r15), %r14; mov 104(%r15), %rbp\n"
	"	std\n"
	"4:	testq $-1, 136(%r15); jz 4b\n"
	"	xchg %r15, (%rsp)\n" /* r15: out; on the stack: in */
	"	mov %rax, 0(%r15); mov %rbx, 8(%r15); mov %rcx, 16(%r15); mov %rdx, 24(%r15); mov %rsi, "
	"32(%r15)\n"
	"	mov %rdi, 40(%r15); mov %r8, 48(%r15); mov %r9, 56(%r15); mov %r10, 64(%r15); mov %r11, "
	"72(%r15)\n"
	"	mov %r12, 80(%r15); mov %r13, 88(%r15); mov %r14, 96(%r15); mov %rbp, 104(%r15)\n"
	"	pushfq; pop %rax; mov %rax, 144(%r15); cld\n"
	"	fxsave64 256(%r15)\n"
	"	mov (%rsp), %rbx\n"
	"	mov 128(%rbx), %rax; cmp $1, %rax; jb 7f; ja 6f\n"
	"	.irp n, " N16 "\n	vmovdqu %ymm\\n, 768+\\n*64(%r15)\n	.endr\n"
	"	vzeroupper; jmp 7f\n"
	"6:	.irp n, " N32 "\n	vmovdqu64 %zmm\\n, 768+\\n*64(%r15)\n	.endr\n"
	"	.irp n, 0,1,2,3,4,5,6,7\n	kmovq %k\\n, 192+\\n*8(%r15)\n	.endr\n"
	"	vzeroupper\n"
	"7:	fninit; pushq $0x1f80; ldmxcsr (%rsp); pop %rax\n"
	"	pop %rax; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

static struct state in, out;
static volatile int started, finished;

static void *spinner(void *arg CR_UNUSED)
{
	started = 1;
	spin(&in, &out);
	finished = 1;
	return NULL;
}

static void prepare(uint64_t seed)
{
	double numbers[3] = {1.0 / 3, -2.5e300, 4.9e-324};
	uint32_t mxcsr = 0x1f80 | 0x6000 | 0x8000; /* round to zero, flush to zero */
	uint16_t control = 0x0f7f;		   /* double precision, truncate */

	memset(&in, 0, sizeof(in));
	cr_fill(in.gpr, sizeof(in.gpr), seed);
	cr_fill(in.masks, sizeof(in.masks), seed + 100);
	cr_fill(in.vectors, sizeof(in.vectors), seed + 200);
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx"))
		in.mode = 1;
	if (__builtin_cpu_supports("avx512bw"))
		in.mode = 2;
	__asm__ volatile("fninit; fldl 0(%1); fldl 8(%1); fldl 16(%1); fldpi; fldcw %2; fxsave64 %0; fninit"
			 : "=m"(in.fx)
			 : "r"(numbers), "m"(control), "m"(numbers));
	memcpy(in.fx + 24, &mxcsr, 4);
	if (in.mode == 0)
		for (int i = 0; i < 16; i++)
			memcpy(in.fx + 160 + i * 16, in.vectors[i], 16);
}

static void compare(void)
{
	static const char *const names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
		"r11", "r12", "r13", "r14", "rbp"};
	int width = in.mode == 2 ? 64 : in.mode == 1 ? 32 : 0;

	for (int i = 0; i < 14; i++)
		check(in.gpr[i] == out.gpr[i], "%s was %lx, is %lx", names[i], in.gpr[i], out.gpr[i]);
	check(out.flags & 0x400, "the direction flag is gone: flags %lx", out.flags);
	for (int i = 0; i < (in.mode == 2 ? 32 : 16); i++)
		check(!memcmp(in.vectors[i], out.vectors[i], width), "vector register %d differs", i);
	for (int i = 0; in.mode == 2 && i < 8; i++)
		check(in.masks[i] == out.masks[i], "mask register %d was %lx, is %lx", i, in.masks[i],
			out.masks[i]);
	check(!memcmp(in.fx, out.fx, 5), "the x87 control, status or tag word differs");
	check(!memcmp(in.fx + 24, out.fx + 24, 4), "mxcsr differs");
	for (int i = 0; i < 8; i++)
		check(!memcmp(in.fx + 32 + i * 16, out.fx + 32 + i * 16, 10), "st(%d) differs", i);
	for (int i = 0; in.mode == 0 && i < 16; i++)
		check(!memcmp(in.fx + 160 + i * 16, out.fx + 160 + i * 16, 16), "xmm%d differs", i);
}

int main(void)
{
	for (uint64_t round = 0;; round++) {
		pthread_t thread;

		prepare(round * 1000);
		started = finished = 0;
		check(pthread_create(&thread, NULL, spinner, NULL) == 0, "pthread_create");
		while (!started)
			cr_msleep(1);
		if (!cr_wait())
			break;
		check(!finished, "the spinning ended by itself");
		in.stop = 1;
		pthread_join(thread, NULL);
		compare();
	}
	return 0;
}
