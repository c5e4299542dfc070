/* SPDX-License-Identifier: Apache-2.0 */
/* What prctl sets: name, parent-death signal, child subreaper, timer slack, THP, dumpable; the first two in force. */
/* cr: hidden=1 */
#include "cr.h"

static void get_name(const char *expected)
{
	char name[17] = "";

	must(prctl(PR_GET_NAME, name));
	check(!strcmp(name, expected), "name is '%s'", name);
}

int main(void)
{
	pid_t middle = 0;
	int sig, flag, death;

	must(prctl(PR_GET_PDEATHSIG, &death));
	must(prctl(PR_SET_NAME, "a name (with) b"));
	must(prctl(PR_SET_CHILD_SUBREAPER, 1));
	must(prctl(PR_SET_TIMERSLACK, 123456));
	if (cr_fork("reaper") == 0) {
		must(prctl(PR_SET_CHILD_SUBREAPER, 1));
		must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
		must(prctl(PR_SET_DUMPABLE, 0));
		must(prctl(PR_SET_TIMERSLACK, 777777));
		for (;;) {
			volatile pid_t *grandchild = must(
				mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

			middle = must(fork());
			if (middle == 0) {
				must(prctl(PR_SET_NAME, "middle"));
				if (must(fork()) == 0) {
					must(prctl(PR_SET_NAME, "death"));
					must(prctl(PR_SET_PDEATHSIG, SIGUSR1)); /* ends it by default */
					*grandchild = getpid();
					for (;;)
						pause();
				}
				for (;;)
					pause();
			}
			while (!*grandchild)
				cr_msleep(1);
			if (!cr_wait())
				_exit(0);
			must(prctl(PR_GET_CHILD_SUBREAPER, &flag));
			check(flag == 1, "the child is no subreaper any more");
			check(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1, "THP_DISABLE");
			check(prctl(PR_GET_DUMPABLE) == 0, "dumpable");
			check(prctl(PR_GET_TIMERSLACK) == 777777, "timer slack %d", prctl(PR_GET_TIMERSLACK));
			get_name("a name (with) b");
			must(kill(middle, SIGKILL));
			must(waitpid(middle, NULL, 0));
			/* It is ours now, and dies of its parent-death signal. */
			check(waitpid(*grandchild, &sig, 0) == *grandchild,
				"the grandchild did not come to the subreaper: %m");
			check(WIFSIGNALED(sig) && WTERMSIG(sig) == SIGUSR1, "parent-death signal: status %x",
				sig);
		}
	}
	while (cr_wait()) {
		get_name("a name (with) b");
		must(prctl(PR_GET_CHILD_SUBREAPER, &flag));
		check(flag == 1, "no subreaper any more");
		check(prctl(PR_GET_TIMERSLACK) == 123456, "timer slack %d", prctl(PR_GET_TIMERSLACK));
		check(prctl(PR_GET_DUMPABLE) == 1, "dumpable");
		must(prctl(PR_GET_PDEATHSIG, &sig));
		check(sig == death, "the parent-death signal was %d, is %d", death, sig);
	}
	return 0;
}
