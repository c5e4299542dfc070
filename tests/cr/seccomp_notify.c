/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters with a listener (seccomp_unotify): one supervisor for a process, its thread and its child, which all have the same filter,
 * and which notifies of calls that a checkpoint and a restore make themselves; for two orphans whose parent had loaded theirs;
 * for calls that wait to be received, or for an answer that then comes too late. A listener that has been closed, and one of who is dead.
 *
 * cr: modes=once,cycles,running,again,lazy,userns
 */
#include "notify.h"

#include <pthread.h>
#include <sys/epoll.h>

static volatile int round_, done;

static void *thread_main(void *arg CR_UNUSED)
{
	load_error(SYS_getpriority, 75);
	for (int seen = 0;; seen = round_) {
		done = seen + 1;
		while (round_ == seen)
			cr_msleep(1);
		ask("thread", 300 + round_);
		check(syscall(SYS_getpriority, 0, 0) == -1 && errno == 75, "the thread's own filter: %m");
	}
	return NULL;
}

/* A process, its thread and its child: one filter, between two others. */
static void asks_by_three(int socket)
{
	pthread_t thread;

	load_error(SYS_getpriority, 71);
	give(socket, load_notify(0));
	load_error(SYS_getpriority, 73);
	check(pthread_create(&thread, NULL, thread_main, NULL) == 0, "pthread_create");
	while (!done)
		cr_msleep(1);
	if (cr_fork("child") == 0) {
		while (cr_wait()) {
			ask("child", 200 + cr_n);
			check(syscall(SYS_getpriority, 0, 0) == -1 && errno == 73, "the child's filters: %m");
		}
		_exit(0);
	}
	for (int round = 1; cr_wait(); round++) {
		ask("process", 100 + cr_n);
		round_ = round;
		while (done != round + 1)
			cr_msleep(1);
	}
	_exit(0);
}

static void asks_always(void)
{
	for (;;)
		ask("one who always asks", 5000);
}

/* Two who always ask. */
static pid_t ask_always(int socket, pid_t *ret_other)
{
	int tell[2];
	pid_t pid;

	must(pipe(tell));
	pid = must(fork());
	if (pid == 0) {
		int listener = load_notify(0);
		pid_t other = must(fork());

		must(prctl(PR_SET_PDEATHSIG, SIGKILL));
		if (other == 0) {
			close(listener);
			asks_always();
		}
		must(write(tell[1], &other, sizeof(other)));
		give(socket, listener);
		asks_always();
	}
	check(read(tell[0], ret_other, sizeof(*ret_other)) == sizeof(*ret_other), "read: %m");
	close(tell[0]);
	close(tell[1]);
	return pid;
}

/* Their parent, who has loaded the filter, is dead. */
static void make_orphans(int socket)
{
	pid_t parent;
	int status;

	cr_expect(".orphan1");
	cr_expect(".orphan2");
	parent = must(fork());
	if (parent > 0) {
		must(waitpid(parent, &status, 0));
		check(status == 0, "status %#x", status);
		return;
	}
	give(socket, load_notify(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV));
	for (int i = 1; i <= 2; i++) {
		if (must(fork()) > 0)
			continue;
		snprintf(cr_tag, sizeof(cr_tag), ".orphan%d", i);
		cr_n_tags = 0;
		while (cr_wait())
			ask("orphan", 400 + 100 * i + cr_n);
		_exit(0);
	}
	_exit(0);
}

static int ended_listener(int pair[2])
{
	pid_t pid = must(fork());
	int fd;

	if (pid == 0) {
		give(pair[1], load_notify(0));
		_exit(0);
	}
	fd = take(pair[0], 44);
	close(pair[1]);
	must(waitpid(pid, NULL, 0));
	return fd;
}

static void closed_listener(void)
{
	close(load_notify(0));
	while (cr_wait())
		check(syscall(SYS_getpgid, 0) == -1 && errno == ENOSYS, "the listener is closed: %m");
	_exit(0);
}

/* One has been received and one not, when they were stopped. */
static void expect_again(int listener, struct seccomp_notif *late, pid_t a, pid_t b)
{
	struct seccomp_notif n[2];

	check(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &late->id) == -1 && errno == ENOENT,
		"the old id is valid: %m");
	check(answer(listener, late) == -1 && errno == ENOENT, "a late answer: %m");
	for (int i = 0; i < 2; i++) {
		check(events_of(listener, 10000) == POLLIN, "they do not ask again");
		n[i] = receive(listener);
	}
	check(((pid_t)n[0].pid == a && (pid_t)n[1].pid == b) ||
			((pid_t)n[0].pid == b && (pid_t)n[1].pid == a),
		"%d and %d ask, not %d and %d", n[0].pid, n[1].pid, a, b);
	for (int i = 0; i < 2; i++)
		check(answer(listener, &n[i]) == 0, "answer: %m");
	check(events_of(listener, 10000) == POLLIN, "they do not ask any more");
	*late = receive(listener);
	check(events_of(listener, 10000) == POLLIN, "one of them does not ask any more");
}

int main(void)
{
	int three[2], always[2], orphans[2], dead[2], set, many, waiting, ended;
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 77};
	struct seccomp_notif late;
	pid_t a, b;

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	make_pair(three);
	if (cr_fork("three") == 0)
		asks_by_three(three[1]);
	many = take(three[0], 40);
	close(three[1]);
	if (cr_fork("closed") == 0)
		closed_listener();
	must(fcntl(many, F_SETFL, O_NONBLOCK));
	must(fcntl(many, F_SETFD, FD_CLOEXEC));
	(void)!ioctl(many, SECCOMP_IOW(4, uint64_t), 1ul); /* SECCOMP_IOCTL_NOTIF_SET_FLAGS of Linux 6.6 */
	set = must(epoll_create1(0));
	must(epoll_ctl(set, EPOLL_CTL_ADD, many, &ev));
	make_pair(always);
	a = ask_always(always[1], &b);
	waiting = take(always[0], 41);
	close(always[1]);
	make_pair(orphans);
	make_orphans(orphans[1]);
	take(orphans[0], 42);
	close(orphans[1]);
	make_pair(dead);
	ended = ended_listener(dead);
	if (cr_fork("holder") == 0) {
		while (cr_wait())
			check(ioctl(many, SECCOMP_IOCTL_NOTIF_ID_VALID, &(uint64_t){0}) == -1 &&
					errno == ENOENT,
				"no listener: %m");
		_exit(0);
	}
	late = receive(waiting);
	while (cr_wait()) {
		check(events_of(ended, 0) == POLLHUP, "of nobody: %#x", events_of(ended, 0));
		check(must(epoll_wait(set, &ev, 1, 10000)) == 1 && ev.data.u64 == 77, "epoll says nothing");
		check(fcntl(many, F_GETFL) & O_NONBLOCK, "O_NONBLOCK is lost");
		serve(many, 3);
		serve(42, 2);
		expect_again(waiting, &late, a, b);
	}
	kill(a, SIGKILL);
	return 0;
}
