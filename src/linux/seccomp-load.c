/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/seccomp-load.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

int seccomp_install(const struct sock_fprog *program, unsigned long flags)
{
	int r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);

	return r < 0 ? -errno : r;
}
