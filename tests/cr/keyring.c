/* SPDX-License-Identifier: Apache-2.0 */
/* cr: container=1 */
/* The session keyring is the container's own, empty, and the same one for all, whoever restores it with whatever keys. */
#include "cr.h"

#include <linux/keyctl.h>

static long session(char *name, size_t size)
{
	long n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, name, size - 1);

	name[n > 0 && n < (long)size ? n : 0] = 0;
	return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
}

static void check_session(void)
{
	char name[400];

	check(session(name, sizeof(name)) > 0, "no session keyring: %m");
	check(strstr(name, ";_ses."), "the session keyring is %s", name);
	check(syscall(SYS_keyctl, KEYCTL_READ, KEY_SPEC_SESSION_KEYRING, 0, 0) == 0, "there are keys in it");
}

int main(void)
{
	char name[400];
	volatile long *serial =
		must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

	if (session(name, sizeof(name)) < 0 && errno == ENOSYS) {
		cr_say("unavailable", 1, "", "kernel keys");
		pause();
	}
	check_session();
	if (cr_fork("child") == 0) {
		while (cr_wait()) {
			check_session();
			*serial = session(name, sizeof(name));
			cr_say("seen", cr_n, "", "seen");
		}
		_exit(0);
	}
	while (cr_wait()) {
		check_session();
		cr_await("seen", cr_n, "");
		check(*serial == session(name, sizeof(name)), "the child has another session keyring");
	}
	return 0;
}
