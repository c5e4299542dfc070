/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions and process groups: leaders alive and dead, a group in a session that its leader left, a daemon by the double
 * fork, whose session has no leader any more; and a group is still one when it is signalled.
 */
#include "cr.h"

static volatile int signalled;

static void on_signal(int sig CR_UNUSED)
{
	signalled++;
}

static void watch(void)
{
	pid_t sid = getsid(0), pgid = getpgid(0), pid = getpid(), parent = getppid();

	while (cr_wait()) {
		check(getpid() == pid && getppid() == parent, "%s: pid %d parent %d are %d %d", cr_tag, pid,
			parent, getpid(), getppid());
		check(getsid(0) == sid, "%s: session was %d, is %d", cr_tag, sid, getsid(0));
		check(getpgid(0) == pgid, "%s: group was %d, is %d", cr_tag, pgid, getpgid(0));
	}
	_exit(0);
}

static void await_parent(pid_t pid)
{
	while (getppid() != pid)
		cr_msleep(1);
}

int main(void)
{
	pid_t me = getpid(), leader, group, dead_group, middle, members[2];

	signal(SIGUSR1, on_signal);
	leader = cr_fork("session");
	if (leader == 0) {
		must(setsid());
		if (cr_fork("member") == 0)
			watch();
		if (cr_fork("othergroup") == 0) {
			must(setpgid(0, 0));
			watch();
		}
		watch();
	}
	group = cr_fork("group");
	if (group == 0) {
		must(setpgid(0, 0));
		watch();
	}
	while (getpgid(group) != group)
		cr_msleep(1);
	if (cr_fork("joined") == 0) {
		must(setpgid(0, group));
		watch();
	}
	/* A group of two whose leader is dead and collected. */
	dead_group = must(fork());
	if (dead_group == 0) {
		must(setpgid(0, 0));
		while (1)
			pause();
	}
	while (getpgid(dead_group) != dead_group)
		cr_msleep(1);
	for (int i = 0; i < 2; i++) {
		members[i] = cr_fork(i ? "m1" : "m0");
		if (members[i] == 0) {
			must(setpgid(0, dead_group));
			for (int round = 1; cr_wait(); round++) {
				check(getpgid(0) == dead_group, "%s: group was %d, is %d", cr_tag, dead_group,
					getpgid(0));
				while (signalled < round)
					cr_msleep(1);
				check(signalled == round, "%d signals to the group", signalled);
			}
			_exit(0);
		}
		while (getpgid(members[i]) != dead_group)
			cr_msleep(1);
	}
	must(kill(dead_group, SIGKILL));
	must(waitpid(dead_group, NULL, 0));
	/* The daemon: the session's leader is dead, its parent is pid 1. */
	middle = must(fork());
	if (middle == 0) {
		snprintf(cr_tag, sizeof(cr_tag), ".daemon");
		must(setsid());
		if (must(fork()) > 0)
			_exit(0);
		cr_n_tags = 0;
		await_parent(me);
		watch();
	}
	must(waitpid(middle, NULL, 0));
	cr_expect(".daemon");
	while (cr_wait()) {
		check(getsid(leader) == leader && getpgid(leader) == leader, "the session leader");
		check(getpgid(members[0]) == dead_group && getsid(members[0]) == getsid(0),
			"the group without its leader");
		must(kill(-dead_group, SIGUSR1));
		check(getsid(0) == me && getpgid(0) == me, "mine: session %d group %d", getsid(0),
			getpgid(0));
	}
	return 0;
}
