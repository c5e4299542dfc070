/* SPDX-License-Identifier: Apache-2.0 */
/*
 * neighbour NAME PEER: one of two containers that share a pid namespace, whose first process is in a third one. It has orphans
 * of every kind, whom that one has adopted, knows its peer by its pid, and says when asked (/vol/go.N) whether all is as it was:
 * /vol/result.NAME.N. "a" listens at /vol/socket, "b" connects to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LEADER, OF_LEADER, OF_DEAD_LEADER, DAEMON, OF_DEAD_GROUP, N };
struct person {
	pid_t pid, ppid, sid, pgid;
};
static struct person *all; /* shared */
static const char *own, *peer;
static volatile sig_atomic_t sender;

static void sleep_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&t, NULL);
}

static void say(const char *what, int n, const char *format, ...)
{
	char path[128], hidden[128], text[256];
	va_list args;
	int fd;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), "/vol/%s.%s.%d", what, own, n);
	snprintf(hidden, sizeof(hidden), "/vol/.%s.%s.%d", what, own, n);
	fd = open(hidden, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0 || rename(hidden, path) < 0)
		_exit(3);
	close(fd);
}

#define check(c, n, ...)                                                                                     \
	do {                                                                                                 \
		if (!(c)) {                                                                                  \
			say("result", n, "FAIL: " __VA_ARGS__);                                              \
			_exit(1);                                                                            \
		}                                                                                            \
	} while (0)

/* A number that the peer has said; waits for it. */
static int heard(const char *who, const char *what, int n)
{
	char path[128], text[32] = "";

	snprintf(path, sizeof(path), "/vol/%s.%s.%d", what, who, n);
	for (int i = 0; i < 2000; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd >= 0) {
			ssize_t r = read(fd, text, sizeof(text) - 1);

			close(fd);
			return r > 0 ? atoi(text) : -1;
		}
		sleep_ms(10);
	}
	return -1;
}

static struct person look(pid_t pid)
{
	struct person p = {.pid = pid};
	char path[64], text[1024] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strrchr(text, ')'))
		sscanf(strrchr(text, ')') + 1, " %*c %d %d %d", &p.ppid, &p.pgid, &p.sid);
	close(fd);
	return p;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	sender = info->si_pid;
}

/* Tells who has signalled it. */
static _Noreturn void live(int slot)
{
	struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	int n = 0;

	sigaction(SIGUSR1, &act, NULL);
	while (slot != LEADER && getppid() != 1)
		sleep_ms(1);
	all[slot] = look(getpid());
	for (;;) {
		sleep_ms(20);
		if (!sender)
			continue;
		say(slot == OF_LEADER ? "signalled" : "other", ++n, "%d", (int)sender);
		sender = 0;
	}
}

/* Forks one whose parent ends. */
static void begin_orphan(int slot, int session, int group)
{
	pid_t middle = fork();

	if (middle > 0) {
		waitpid(middle, NULL, 0);
		return;
	}
	if (session)
		setsid();
	if (group)
		setpgid(0, 0);
	if (fork() == 0) {
		if (slot == DAEMON)
			setsid();
		live(slot);
	}
	_exit(0);
}

static void begin_all(void)
{
	if (fork() == 0) {
		setsid();
		begin_orphan(OF_LEADER, 0, 0);
		live(LEADER);
	}
	begin_orphan(OF_DEAD_LEADER, 1, 0);
	begin_orphan(DAEMON, 1, 0);
	begin_orphan(OF_DEAD_GROUP, 0, 1);
	for (int i = 0; i < N; i++)
		while (!all[i].pid)
			sleep_ms(1);
}

static int connection(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/vol/socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), other;

	if (!strcmp(own, "b")) {
		for (int i = 0; i < 500 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0; i++)
			sleep_ms(10);
		return fd;
	}
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0)
		_exit(4);
	other = accept(fd, NULL, NULL);
	return other;
}

static void check_socket(int fd, pid_t other, int n)
{
	struct ucred c = {};
	char byte = 'x';

	check(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &(socklen_t){sizeof(c)}) == 0, n,
		"SO_PEERCRED: %m");
	check(c.pid == other, n, "SO_PEERCRED says %d, the peer is %d", c.pid, other);
	check(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1, n, "the socket: %m");
}

static void check_people(const struct person *before, pid_t pid, int n)
{
	check(getpid() == pid, n, "pid %d was %d", getpid(), pid);
	for (int i = 0; i < N; i++) {
		struct person now = look(before[i].pid);

		check(now.ppid == before[i].ppid && now.sid == before[i].sid && now.pgid == before[i].pgid, n,
			"process %d of kind %d: parent %d, was %d; session %d, was %d; group %d, was %d",
			now.pid, i, now.ppid, before[i].ppid, now.sid, before[i].sid, now.pgid,
			before[i].pgid);
	}
}

/* What the other one had sent before, and nobody has taken. */
static void check_waiting(pid_t from, int n)
{
	struct timespec none = {};
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	check(sigtimedwait(&set, &info, &none) == SIGUSR2, n, "no signal waits: %m");
	check(info.si_pid == from, n, "the signal is of %d, not of %d", info.si_pid, from);
}

int main(int argc, char **argv)
{
	pid_t pid = getpid(), other, others_orphan;
	struct person before[N];
	struct stat st;
	sigset_t set;
	int fd;

	own = argv[1];
	peer = argv[2];
	all = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	begin_all();
	memcpy(before, all, sizeof(before));
	fd = connection();
	say("orphan", 0, "%d", before[OF_LEADER].pid);
	say("pid", 0, "%d", pid);
	other = heard(peer, "pid", 0);
	others_orphan = heard(peer, "orphan", 0);
	for (int n = 1;; n++) {
		char go[32];

		check(kill(other, SIGUSR2) == 0, n, "signal %d: %m", other);
		say("ready", n, "%d", pid);
		snprintf(go, sizeof(go), "/vol/go.%d", n);
		while (stat(go, &st) < 0)
			sleep_ms(10);
		check_people(before, pid, n);
		check_waiting(other, n);
		check_socket(fd, other, n);
		check(kill(others_orphan, SIGUSR1) == 0, n, "signal %d: %m", others_orphan);
		check(heard(peer, "signalled", n) == pid, n, "%d was signalled by another one than %d",
			others_orphan, pid);
		say("result", n, "PASS");
	}
}
