/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's init has a filter with a listener, which a child of it holds that it had before. So has whoever came later: in sessions
 * and groups of their own, a member of a group whose leader is dead, one that shares its parent's memory, a zombie; and who came before has
 * not, in the same session or in another one. One of those below loads another one, instead of that of init in a tree of its own.
 *
 * cr: modes=once,cycles,running,again,lazy,userns
 */
#include "notify.h"

enum { WHO_ASK = 6, OTHERS = 2 };

static volatile int round_, done;
static char stack[65536];

static void asks(const char *who, int from)
{
	while (cr_wait()) {
		ask(who, from + cr_n);
		check(syscall(SYS_getpriority, 0, 0) == -1 && errno == 71, "%s: the filter below: %m", who);
	}
	_exit(0);
}

static int shares_memory(void *arg CR_UNUSED)
{
	for (int seen = 0; seen >= 0; seen = round_) {
		done = seen + 1;
		while (round_ == seen)
			cr_msleep(1);
		ask("who shares memory", 600 + round_);
	}
	return 0;
}

/* Calls that the filter notifies of, before the first round. */
static void let_go_on(int listener, int nr)
{
	struct seccomp_notif n = {};
	struct seccomp_notif_resp r = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	must(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n));
	check(n.data.nr == nr, "notified of call %d, not %d", n.data.nr, nr);
	r.id = n.id;
	must(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r));
}

/* Serves init's, and another one that the one below has given it. */
static void supervise(int init, int other)
{
	int mine = take(init, 50), its = take(other, 51);

	let_go_on(mine, SYS_setsid);
	let_go_on(mine, SYS_setpgid);
	while (cr_wait()) {
		serve(mine, WHO_ASK);
		serve(its, OTHERS);
	}
	_exit(0);
}

static void without(const char *who)
{
	while (cr_wait()) {
		check(syscall(SYS_getpgid, 0) >= 0, "%s: it has a filter: %m", who);
		check(prctl(PR_GET_SECCOMP) == 0, "%s: a filter", who);
	}
	_exit(0);
}

/* It has none of init's, as it came before. */
static void another(int socket)
{
	must(setsid());
	give(socket, load_notify(0));
	if (cr_fork("below") == 0) {
		while (cr_wait())
			ask("below another", 800 + cr_n);
		_exit(0);
	}
	while (cr_wait())
		ask("another", 700 + cr_n);
	_exit(0);
}

int main(void)
{
	int init[2], other[2];
	pid_t pid;

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	make_pair(init);
	make_pair(other);
	if (cr_fork("supervisor") == 0) {
		close(init[1]);
		close(other[1]);
		supervise(init[0], other[0]);
	}
	close(init[0]);
	close(other[0]);
	if (cr_fork("another") == 0) {
		close(init[1]);
		another(other[1]);
	}
	close(other[1]);
	if (cr_fork("without") == 0) {
		close(init[1]);
		without("a child");
	}
	if (cr_fork("elsewhere") == 0) {
		close(init[1]);
		must(setsid());
		without("in a session of its own");
	}
	load_error(SYS_getpriority, 71);
	give(init[1], load_notify(0));
	if (cr_fork("child") == 0)
		asks("child", 100);
	if (cr_fork("session") == 0) {
		must(setsid());
		if (cr_fork("grandchild") == 0) {
			must(setpgid(0, 0));
			asks("grandchild", 300);
		}
		asks("session", 200);
	}
	pid = must(fork());
	if (pid == 0)
		_exit(7);
	must(clone(shares_memory, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL));
	while (!done)
		cr_msleep(1);
	/* Its parent ends: init adopts it. */
	cr_expect(".orphan");
	pid = must(fork());
	if (pid == 0) {
		if (must(fork()) > 0)
			_exit(0);
		strcpy(cr_tag, ".orphan");
		cr_n_tags = 0;
		asks("orphan", 400);
	}
	must(waitpid(pid, NULL, 0));
	for (int round = 1; cr_wait(); round++) {
		ask("init", 500 + cr_n);
		round_ = round;
		while (done != round + 1)
			cr_msleep(1);
	}
	return 0;
}
