/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=memory */
/*
 * A 32-bit program (of i386), beside a 64-bit one: registers, a thread-local segment, handlers with frames of 32 bits, a robust
 * list, sleeps, calls by the vdso, memory below 4 GiB. It is made here, byte by byte, as no compiler for it may be there.
 */
#include "cr.h"

#include <elf.h>

enum { SHARED_FD = 100, BASE = 0x08048000, CODE = 0x80 };
#define SHARED 0x20000000u
#define MAGIC 0x12345678u

/* What both see; offsets are in the code below. */
struct shared {
	volatile uint32_t ticks, request, value, handled; /* 0 4 8 12 */
	volatile uint32_t tls, wrong, robust[2];	  /* 16 20 24 28 */
	volatile uint32_t mapped, pid, slept, sysinfo;	  /* 32 36 40 44 */
	uint32_t room[52];
	uint32_t desc[4]; /* 0x100 */
	uint32_t room2[12];
	uint32_t action[5]; /* 0x140 */
	uint32_t room3[11];
	uint32_t nap[2], room4[2], sleep[2], room5[10]; /* 0x180, 0x190 */
	uint32_t vector[4], seen[4];			/* 0x1c0, 0x1d0 */
	uint32_t room6[8];
	uint32_t segment[64]; /* 0x200 */
	uint32_t list[64];    /* 0x300 */
};
_Static_assert(offsetof(struct shared, sysinfo) == 44 && offsetof(struct shared, desc) == 0x100 &&
		       offsetof(struct shared, action) == 0x140 && offsetof(struct shared, nap) == 0x180 &&
		       offsetof(struct shared, sleep) == 0x190 && offsetof(struct shared, vector) == 0x1c0 &&
		       offsetof(struct shared, segment) == 0x200 && offsetof(struct shared, list) == 0x300,
	"the code knows them");

extern const char code_begin[], code_handler[], code_restorer[], code_end[];

__asm__(".pushsection .rodata\n"
	".code32\n"
	"code_begin:\n"
	/* mmap2(SHARED, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, SHARED_FD, 0) */
	"	movl $192, %eax; movl $0x20000000, %ebx; movl $4096, %ecx; movl $3, %edx; movl $0x11, %esi\n"
	"	movl $100, %edi; xorl %ebp, %ebp; int $0x80\n"
	/* AT_SYSINFO: behind the arguments and the environment */
	"	movl %esp, %edi; movl (%edi), %eax; leal 8(%edi,%eax,4), %edi\n"
	"1:	movl (%edi), %eax; addl $4, %edi; testl %eax, %eax; jnz 1b\n"
	"2:	movl (%edi), %eax; testl %eax, %eax; jz 3f; cmpl $32, %eax; je 4f; addl $8, %edi; jmp 2b\n"
	"4:	movl 4(%edi), %eax; movl %eax, 0x2000002c\n"
	/* set_thread_area, and %gs; set_robust_list; rt_sigaction(SIGUSR1) */
	"3:	movl $243, %eax; movl $0x20000100, %ebx; int $0x80\n"
	"	movl 0x20000100, %eax; leal 3(,%eax,8), %eax; movw %ax, %gs\n"
	"	movl $311, %eax; movl $0x20000300, %ebx; movl $12, %ecx; int $0x80\n"
	"	movl $174, %eax; movl $10, %ebx; movl $0x20000140, %ecx; xorl %edx, %edx; movl $8, %esi; int "
	"$0x80\n"
	"	movups 0x200001c0, %xmm7\n"
	"	movl $0x11223344, %ebp; movl $0x55667788, %edi; movl $0x99aabbcc, %esi\n"
	"code_loop:\n"
	"	incl 0x20000000\n"
	"	movl %gs:0, %eax; movl %eax, 0x20000010\n"
	"	movups %xmm7, 0x200001d0\n"
	"	cmpl $0x11223344, %ebp; jne 9f; cmpl $0x55667788, %edi; jne 9f; cmpl $0x99aabbcc, %esi; je "
	"5f\n"
	"9:	incl 0x20000014\n"
	/* getpid, by the vdso */
	"5:	movl $20, %eax; cmpl $0, 0x2000002c; je 6f; call *0x2000002c; movl %eax, 0x20000024\n"
	"6:	movl 0x20000004, %eax\n"
	"	cmpl $1, %eax; je 10f; cmpl $2, %eax; je 11f; cmpl $3, %eax; je 12f\n"
	/* nanosleep(nap) */
	"7:	movl $162, %eax; movl $0x20000180, %ebx; xorl %ecx, %ecx; int $0x80\n"
	"	jmp code_loop\n"
	"8:	movl $0, 0x20000004; jmp 7b\n"
	/* get_robust_list */
	"10:	movl $312, %eax; xorl %ebx, %ebx; movl $0x20000018, %ecx; movl $0x2000001c, %edx; int $0x80\n"
	"	movl %eax, 0x20000008; jmp 8b\n"
	/* nanosleep(sleep) */
	"11:	movl $162, %eax; movl $0x20000190, %ebx; xorl %ecx, %ecx; int $0x80\n"
	"	movl %eax, 0x20000008; incl 0x20000028; jmp 8b\n"
	/* mmap2(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), and its use */
	"12:	pushl %ebp; pushl %edi; pushl %esi\n"
	"	movl $192, %eax; xorl %ebx, %ebx; movl $4096, %ecx; movl $3, %edx; movl $0x22, %esi; movl "
	"$-1, %edi\n"
	"	xorl %ebp, %ebp; int $0x80; movl %eax, 0x20000020; movl %eax, (%eax)\n"
	"	popl %esi; popl %edi; popl %ebp; jmp 8b\n"
	"code_handler:\n"
	"	incl 0x2000000c; ret\n"
	"code_restorer:\n"
	"	movl $173, %eax; int $0x80\n"
	"code_end:\n"
	".code64\n"
	".popsection\n");

static int program(void)
{
	size_t len = CODE + (size_t)(code_end - code_begin);
	Elf32_Ehdr head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_386,
		.e_version = EV_CURRENT,
		.e_entry = BASE + CODE,
		.e_phoff = sizeof(head),
		.e_ehsize = sizeof(head),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 1};
	Elf32_Phdr load = {.p_type = PT_LOAD,
		.p_vaddr = BASE,
		.p_paddr = BASE,
		.p_filesz = len,
		.p_memsz = len,
		.p_flags = PF_R | PF_X,
		.p_align = 4096};
	int fd = must(memfd_create("ia32", MFD_CLOEXEC)), read_only;
	char path[32];

	must(pwrite(fd, &head, sizeof(head), 0));
	must(pwrite(fd, &load, sizeof(load), sizeof(head)));
	must(pwrite(fd, code_begin, code_end - code_begin, CODE));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = must(open(path, O_RDONLY | O_CLOEXEC));
	close(fd);
	return read_only;
}

static struct shared *begin(pid_t *ret)
{
	int fd = must(memfd_create("shared", 0)), exe = program();
	struct shared *s;
	char *const arguments[] = {"ia32", NULL}, *const none[] = {NULL};

	must(ftruncate(fd, 4096));
	s = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	s->desc[0] = ~0u;
	s->desc[1] = SHARED + 0x200;
	s->desc[2] = 0xfffff;
	s->desc[3] = 0x51; /* 32-bit, in pages, useable */
	s->action[0] = BASE + CODE + (uint32_t)(code_handler - code_begin);
	s->action[1] = 0x04000000 | SA_SIGINFO; /* SA_RESTORER */
	s->action[2] = BASE + CODE + (uint32_t)(code_restorer - code_begin);
	s->nap[1] = 1000000;
	s->sleep[1] = 700000000;
	s->segment[0] = MAGIC;
	for (int i = 0; i < 4; i++)
		s->vector[i] = MAGIC * (i + 1);
	*ret = must(fork());
	if (*ret == 0) {
		must(dup2(fd, SHARED_FD));
		fexecve(exe, arguments, none);
		_exit(errno == ENOEXEC || errno == ENOENT ? 77 : 78);
	}
	return s; /* open: else an ordinary user could not reach them any more */
}

static void ask(struct shared *s, uint32_t request)
{
	s->request = request;
	while (s->request)
		cr_msleep(1);
}

/* Again and again, so that what is seen is of after the last checkpoint. */
static void progress(struct shared *s)
{
	uint32_t before = s->ticks;

	while (s->ticks < before + 3)
		cr_msleep(1);
}

int main(void)
{
	int64_t start;
	struct shared *s;
	uint32_t slept;
	int status;
	pid_t pid;

	s = begin(&pid);
	while (s->ticks < 2) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			cr_say("unavailable", 1, "", "32-bit programs");
			fail("the 32-bit program has ended: %x", status);
		}
		cr_msleep(1);
	}
	do {
		uint32_t handled = s->handled;

		progress(s);
		s->segment[0]++;
		progress(s);
		check(s->wrong == 0, "registers have changed");
		check(s->tls == s->segment[0], "its segment shows %x, not %x", s->tls, s->segment[0]);
		check(!memcmp(s->vector, s->seen, sizeof(s->seen)), "xmm7 has changed");
		check(s->pid == (uint32_t)pid, "the vdso says pid %u, not %d", s->pid, pid);
		must(kill(pid, SIGUSR1));
		while (s->handled == handled)
			cr_msleep(1);
		progress(s);
		ask(s, 1);
		check(s->value == 0 && s->robust[0] == SHARED + 0x300 && s->robust[1] == 12,
			"robust list %x %u", s->robust[0], s->robust[1]);
		ask(s, 3);
		check(s->mapped && s->mapped < 0xfffff000, "mmap gives %x", s->mapped);
		slept = s->slept;
		start = cr_now_ns(CLOCK_MONOTONIC);
		s->request = 2;
		cr_msleep(20);
		if (!cr_wait())
			break;
		while (s->slept == slept)
			cr_msleep(1);
		check(s->value == 0 && cr_now_ns(CLOCK_MONOTONIC) - start >= 700000000,
			"its sleep gave %d, after %ld us", (int)s->value,
			(long)((cr_now_ns(CLOCK_MONOTONIC) - start) / 1000));
	} while (true);
	kill(pid, SIGKILL);
	must(waitpid(pid, NULL, 0));
	return 0;
}
