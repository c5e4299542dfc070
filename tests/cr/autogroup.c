/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,userns */
/* The nice value of a session's autogroup, which all in it have in common; another session has another one. */
#include "cr.h"

static void expect(const char *what, int nice)
{
	char text[64] = "";
	int found = -100;

	if (access("/proc/self/autogroup", F_OK) < 0)
		return; /* a kernel without them */
	must(cr_read("/proc/self/autogroup", text, sizeof(text)));
	check(sscanf(text, "/autogroup-%*u nice %d", &found) == 1 && found == nice, "%s: %s", what, text);
}

static void set(int nice)
{
	char text[16];
	int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC), n = -1;

	if (fd < 0)
		return;
	snprintf(text, sizeof(text), "%d", nice);
	/* so often only, for who is not root of the machine */
	for (int i = 0; i < 100 && (n = write(fd, text, strlen(text))) < 0 && errno == EAGAIN; i++)
		cr_msleep(50);
	check(n > 0, "set: %m");
	close(fd);
}

int main(void)
{
	if (cr_fork("leader") == 0) {
		must(setsid());
		set(7);
		if (cr_fork("member") == 0) {
			while (cr_wait())
				expect("of a member", 7);
			_exit(0);
		}
		while (cr_wait())
			expect("of the leader", 7);
		_exit(0);
	}
	if (cr_fork("other") == 0) {
		must(setsid());
		while (cr_wait())
			expect("of another session", 0);
		_exit(0);
	}
	while (cr_wait())
		;
	return 0;
}
