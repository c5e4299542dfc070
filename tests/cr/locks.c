/* SPDX-License-Identifier: Apache-2.0 */
/* cr: options=--file-locks */
/*
 * File locks on files that others can reach: flock, POSIX, open file description locks. Each has the owner that it
 * had: a process, or an open file description that several share. A task that sleeps for a lock gets it when it is free.
 */
#include "cr.h"

#include <sys/file.h>

static int flock_fd, shared_fd, posix_fd, ofd_fd, blocked_fd, flock_child_fd;
static int blocked_said[2], blocked_go[2];
static pid_t child, sleeper;

static int lock(int fd, int command, int type, long start, long len)
{
	struct flock l = {.l_type = type, .l_start = start, .l_len = len};

	return fcntl(fd, command, &l);
}

/* Whose lock another process would run into: its pid, -1 for an open file description lock, 0 for none. */
static int holder(const char *path, int type, long start, long len, long *ret_start, long *ret_len)
{
	int fd = must(open(path, O_RDWR)), p[2];
	struct flock l = {.l_type = type, .l_start = start, .l_len = len};
	pid_t pid;

	must(pipe(p));
	pid = must(fork());
	if (pid == 0) {
		must(fcntl(fd, F_GETLK, &l));
		must(write(p[1], &l, sizeof(l)));
		_exit(0);
	}
	must(read(p[0], &l, sizeof(l)));
	must(waitpid(pid, NULL, 0));
	close(p[0]);
	close(p[1]);
	/* Closing a descriptor of the file would drop our own POSIX locks on it: the caller knows. */
	*ret_start = l.l_start;
	*ret_len = l.l_len;
	if (strcmp(path, "/tmp/posix"))
		close(fd);
	return l.l_type == F_UNLCK ? 0 : l.l_pid;
}

/* Who has taken a flock, as /proc/locks tells it. */
static int flock_pid(const char *path)
{
	char text[65536], want[64], *line;
	struct stat st;
	int pid = 0;

	must(stat(path, &st));
	snprintf(want, sizeof(want), ":%lu 0 EOF", (unsigned long)st.st_ino);
	must(cr_read("/proc/locks", text, sizeof(text)));
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (strstr(line, want) && strstr(line, "FLOCK"))
			sscanf(line, "%*s %*s %*s %*s %d", &pid);
	return pid;
}

static void sleep_for_lock(void)
{
	int fd = must(open("/tmp/blocked", O_RDWR));
	char c = 0;

	for (;;) {
		must(lock(fd, F_SETLKW, F_WRLCK, 0, 0));
		must(write(blocked_said[1], &c, 1));
		must(read(blocked_go[0], &c, 1));
		must(lock(fd, F_SETLK, F_UNLCK, 0, 0));
		must(write(blocked_said[1], &c, 1));
		must(read(blocked_go[0], &c, 1));
	}
}

static void check_sleeper(void)
{
	char c;

	must(fcntl(blocked_said[0], F_SETFL, O_NONBLOCK));
	check(read(blocked_said[0], &c, 1) == -1 && errno == EAGAIN, "it has got a lock that is ours");
	must(fcntl(blocked_said[0], F_SETFL, 0));
	must(lock(blocked_fd, F_SETLK, F_UNLCK, 0, 0));
	check(read(blocked_said[0], &c, 1) == 1, "it does not get the lock");
	check(lock(blocked_fd, F_SETLK, F_WRLCK, 0, 0) == -1 && errno == EAGAIN, "it has not got the lock");
	must(write(blocked_go[1], &c, 1));
	must(read(blocked_said[0], &c, 1));
	must(lock(blocked_fd, F_SETLK, F_WRLCK, 0, 0));
	must(write(blocked_go[1], &c, 1));
	cr_msleep(30); /* it sleeps again */
}

static void check_posix(void)
{
	long start, len;

	check(holder("/tmp/posix", F_WRLCK, 0, 50, &start, &len) == getpid() && start == 5 && len == 10,
		"bytes 5 to 14: %ld, %ld", start, len);
	check(holder("/tmp/posix", F_RDLCK, 100, 50, &start, &len) == 0, "a read lock keeps readers out");
	check(holder("/tmp/posix", F_WRLCK, 100, 50, &start, &len) == getpid() && start == 100 && len == 0,
		"bytes from 100 on: %ld, %ld", start, len);
	check(holder("/tmp/posix", F_WRLCK, 60, 5, &start, &len) == child && start == 60 && len == 1,
		"the child's byte 60: %ld, %ld", start, len);
	check(holder("/tmp/posix", F_RDLCK, 40, 5, &start, &len) == 0, "byte 40 is free");
}

static void check_flocks(void)
{
	int other = must(open("/tmp/flock", O_RDWR)), another = must(open("/tmp/shared", O_RDWR));

	check(flock(other, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the flock is gone");
	check(flock(flock_fd, LOCK_EX | LOCK_NB) == 0, "the flock is not ours: %m");
	check(flock_pid("/tmp/flock") == getpid(), "the flock was taken by %d", flock_pid("/tmp/flock"));
	check(flock_pid("/tmp/flock-child") == child, "the child's flock was taken by %d",
		flock_pid("/tmp/flock-child"));
	check(flock(another, LOCK_SH | LOCK_NB) == 0, "a shared flock keeps others out: %m");
	check(flock(another, LOCK_EX | LOCK_NB) == -1, "the shared flock is gone");
	close(other);
	close(another);
}

static void check_ofd(void)
{
	int other = must(open("/tmp/ofd", O_RDWR)), same = dup(ofd_fd);

	check(lock(other, F_OFD_SETLK, F_WRLCK, 12, 1) == -1, "the open file description lock is gone");
	check(lock(other, F_OFD_SETLK, F_WRLCK, 15, 1) == 0, "it is longer now");
	check(lock(same, F_OFD_SETLK, F_WRLCK, 12, 1) == 0, "the lock is not of this description: %m");
	close(other);
	close(same);
}

static int open_locked(const char *path, const char *contents)
{
	int fd = must(open(path, O_RDWR | O_CREAT, 0600));

	must(write(fd, contents, strlen(contents)));
	return fd;
}

static void set_up(void)
{
	flock_fd = open_locked("/tmp/flock", "flock");
	must(flock(flock_fd, LOCK_EX));
	shared_fd = open_locked("/tmp/shared", "shared");
	must(flock(shared_fd, LOCK_SH));
	posix_fd = open_locked("/tmp/posix", "posix");
	must(lock(posix_fd, F_SETLK, F_WRLCK, 5, 10));
	must(lock(dup(posix_fd), F_SETLK, F_RDLCK, 100, 0));
	ofd_fd = open_locked("/tmp/ofd", "ofd");
	must(lock(ofd_fd, F_OFD_SETLK, F_WRLCK, 10, 5));
	flock_child_fd = open_locked("/tmp/flock-child", "x");
	blocked_fd = open_locked("/tmp/blocked", "blocked");
	must(lock(blocked_fd, F_SETLK, F_WRLCK, 0, 0));
	must(pipe(blocked_said));
	must(pipe(blocked_go));
}

int main(void)
{
	set_up();
	child = cr_fork("child");
	if (child == 0) {
		must(lock(posix_fd, F_SETLK, F_WRLCK, 60, 1));
		must(flock(flock_child_fd, LOCK_EX));
		cr_idle();
	}
	sleeper = must(fork());
	if (sleeper == 0)
		sleep_for_lock();
	cr_msleep(50);
	while (cr_wait()) {
		check_flocks();
		check_posix();
		check_ofd();
		check_sleeper();
	}
	kill(sleeper, SIGKILL);
	return 0;
}
