/* SPDX-License-Identifier: Apache-2.0 */
/*
 * old_kernel COMMAND...: runs it as on Linux 6.1: what came later answers as it does there, by a seccomp filter. So the
 * fallbacks of the dumper are tested on a new kernel too. PAGEMAP_SCAN (6.7): ENOTTY.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGEMAP_SCAN 0xc0606610u

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PAGEMAP_SCAN, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
	int fd;

	if (argc < 2 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
		perror("old_kernel");
		return 96;
	}
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (ioctl(fd, PAGEMAP_SCAN, NULL) != -1 || errno != ENOTTY) {
		perror("old_kernel: the filter is not in force");
		return 97;
	}
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 98;
}
