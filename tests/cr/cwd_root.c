/* SPDX-License-Identifier: Apache-2.0 */
/* Working directory, root directory and umask of each process. */
#include "cr.h"

static void at_home(const char *expected, mode_t mask)
{
	char b[256];
	mode_t now;

	while (cr_wait()) {
		check(getcwd(b, sizeof(b)), "getcwd: %m");
		check(!strcmp(b, expected), "working directory is %s", b);
		now = umask(mask);
		check(now == mask, "umask is %o", now);
	}
	_exit(0);
}

int main(void)
{
	must(mkdir("/tmp/deep", 0755));
	must(mkdir("/tmp/deep/er", 0755));
	must(mkdir("/jail", 0755));
	must(mkdir("/jail/inside", 0755));
	umask(0);
	if (cr_fork("deep") == 0) {
		must(chdir("/tmp/deep/er"));
		umask(0137);
		at_home("/tmp/deep/er", 0137);
	}
	if (cr_fork("proc") == 0) {
		must(chdir("/proc"));
		at_home("/proc", 0);
	}
	if (cr_fork("shm") == 0) {
		must(mkdir("/dev/shm/sub", 0777));
		must(chdir("/dev/shm/sub"));
		umask(0777);
		umask(07);
		at_home("/dev/shm/sub", 07);
	}
	if (cr_fork("jail") == 0) {
		/* /cr by a descriptor: the harness is outside of the jail. */
		must(open("/cr", O_RDONLY | O_DIRECTORY));
		must(dup2(3, 200));
		must(chdir("/jail/inside"));
		must(chroot("/jail"));
		must(fchdir(200));
		cr_base = "."; /* the working directory is outside of the root */
		while (cr_wait()) {
			check(access("/inside", F_OK) == 0 && access("/tmp", F_OK) == -1,
				"outside of the jail");
		}
		_exit(0);
	}
	at_home("/", 0);
}
