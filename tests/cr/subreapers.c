/* SPDX-License-Identifier: Apache-2.0 */
/* Orphans that others than init have adopted (PR_SET_CHILD_SUBREAPER), out of sessions whose leaders live or are dead. */
#include "cr.h"

enum { IN_DEAD, IN_DEAD_TOO, IN_LIVING, OF_FORMER, NEW, PIDS };
static volatile pid_t *pids, *session; /* shared */

static int field_of(pid_t pid, const char *format)
{
	char path[64], text[1024];
	int value = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	check(cr_read(path, text, sizeof(text)) > 0, "%s: %m", path);
	sscanf(strrchr(text, ')') + 1, format, &value);
	return value;
}

static void check_orphan(int slot, pid_t parent)
{
	int ppid = field_of(pids[slot], " %*c %d"), sid = field_of(pids[slot], " %*c %*d %*d %d");

	check(ppid == parent, "parent of orphan %d was %d, is %d", slot, parent, ppid);
	check(sid == session[slot], "session of orphan %d was %d, is %d", slot, session[slot], sid);
}

/* The caller goes on when its grandchild has been adopted by "parent". */
static void make_orphan(int slot, pid_t parent)
{
	pid_t middle = must(fork());

	if (middle == 0) {
		if (must(fork()) == 0) {
			while (getppid() != parent)
				cr_msleep(1);
			session[slot] = getsid(0);
			pids[slot] = getpid();
			for (;;)
				pause();
		}
		_exit(0);
	}
	must(waitpid(middle, NULL, 0));
	while (!pids[slot])
		cr_msleep(1);
}

/* Two orphans of one session, whose leader ends. */
static void from_dead_session(int first, int n, pid_t parent)
{
	pid_t leader = must(fork());

	if (leader == 0) {
		must(setsid());
		for (int i = 0; i < n; i++)
			make_orphan(first + i, parent);
		_exit(0);
	}
	must(waitpid(leader, NULL, 0));
}

static void reaper(void)
{
	pid_t me = getpid();
	int status;

	must(setsid());
	must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	from_dead_session(IN_DEAD, 2, me);
	if (cr_fork("leader") == 0) {
		must(setsid());
		make_orphan(IN_LIVING, me);
		cr_idle();
	}
	while (cr_wait()) {
		int is = 0;

		must(prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0));
		check(is == 1, "it does not adopt any more");
		for (int i = IN_DEAD; i <= IN_LIVING; i++)
			check_orphan(i, me);
		pids[NEW] = 0;
		make_orphan(NEW, me);
		must(kill(pids[NEW], SIGKILL));
		check(waitpid(pids[NEW], &status, 0) == pids[NEW], "the new orphan is no child: %m");
	}
	_exit(0);
}

/* Has adopted one, and would not do it again. */
static void former_reaper(void)
{
	pid_t me = getpid();

	must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
	from_dead_session(OF_FORMER, 1, me);
	must(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0));
	while (cr_wait()) {
		int is = 1;

		must(prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0));
		check(is == 0, "it adopts again");
		check_orphan(OF_FORMER, me);
	}
	_exit(0);
}

int main(void)
{
	pids = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	session = pids + PIDS;
	if (cr_fork("reaper") == 0)
		reaper();
	if (cr_fork("former") == 0)
		former_reaper();
	while (cr_wait())
		;
	return 0;
}
