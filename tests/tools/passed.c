/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passed give|take KIND: two containers with one volume, /vol, of which one passes a descriptor to the other. When both have it
 * they say so by /vol/ready.*; then /vol/go makes "give" use it, and "take" looks whether that can be seen. The verdict of
 * each is in /vol/result.*: "PASS", or what is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *role;
static int connection; /* between the two, as long as it is open */
static char *memory;
static int ends[2];
static struct ucred seen; /* of the other end, at the beginning */

static void say(const char *what, const char *format, ...)
{
	char path[64], to[64];
	va_list ap;
	FILE *f;

	snprintf(path, sizeof(path), "/vol/.%s.%s", what, role);
	snprintf(to, sizeof(to), "/vol/%s.%s", what, role);
	f = fopen(path, "we");
	if (!f)
		exit(1);
	va_start(ap, format);
	vfprintf(f, format, ap);
	va_end(ap);
	fclose(f);
	rename(path, to);
}

static void fail(const char *what)
{
	say("result", "%s: %s: %s\n", role, what, strerror(errno));
	for (;;)
		pause();
}

static void check(bool good, const char *what)
{
	if (!good)
		fail(what);
}

static void wait_for(const char *path)
{
	while (access(path, F_OK) < 0)
		usleep(2000);
}

static bool gives(void)
{
	return !strcmp(role, "give");
}

static void address(struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/vol/socket");
}

static void join(bool as_user)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address(&a);
	if (gives()) {
		unlink(a.sun_path);
		check(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && chmod(a.sun_path, 0666) == 0 &&
				listen(fd, 5) == 0,
			"listen");
		connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		check(connection >= 0, "accept");
		close(fd); /* it has no listener any more, and its name is gone */
		unlink(a.sun_path);
		return;
	}
	if (as_user)
		check(setgroups(0, NULL) == 0 && setresgid(55, 55, 55) == 0 && setresuid(0, 44, 0) == 0,
			"become a user");
	while (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		usleep(2000);
	if (as_user)
		check(setresuid(0, 0, 0) == 0 && setresgid(0, 0, 0) == 0, "become root");
	connection = fd;
}

static void send_fd(int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec data = {(char[]){"x"}, 1};
	struct msghdr m = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
	check(sendmsg(connection, &m, 0) == 1, "send a descriptor");
}

static int take_fd(void)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec data = {&byte, 1};
	struct msghdr m = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	int fd;

	check(recvmsg(connection, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m), "take a descriptor");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* The other one has it, too. */
static int both(int made)
{
	int fd = made;

	if (gives())
		send_fd(made);
	else
		fd = take_fd();
	return fd;
}

static void map(int fd)
{
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(memory != MAP_FAILED, "mmap");
}

static int open_file(const char *path)
{
	int fd = gives() ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

	check(!gives() || (fd >= 0 && ftruncate(fd, 4096) == 0), path);
	return fd;
}

static pid_t child;

/* A process that does it, and says so by ends[0]: then it sleeps. */
static void by_child(void (*deed)(int), int arg)
{
	check(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0, "pipe");
	child = fork();
	if (child == 0) {
		deed(arg);
		check(write(ends[1], "x", 1) == 1, "say that it is done");
		for (;;)
			pause();
	}
}

static void take_lock(int fd)
{
	check(flock(fd, LOCK_EX) == 0, "flock");
}

static void take_semaphore(int set)
{
	struct sembuf two = {0, -2, SEM_UNDO};

	check(semop(set, &two, 1) == 0, "semop");
}

static bool is_done(void)
{
	char byte;

	return read(ends[0], &byte, 1) == 1;
}

static int semaphores(void)
{
	int set = semget(0x5a5a, 1, IPC_CREAT | 0600);

	check(set >= 0 && (!gives() || semctl(set, 0, SETVAL, 5) == 0), "semaphores");
	return set;
}

/* ---- queues of clients that nobody has accepted: the other one's, our own, the other one's ---- */

static int listener, dialled[3];
static struct ucred listeners[3]; /* as the clients see them */

/* The other one has come here, too. */
static void barrier(void)
{
	char byte = 'b';

	check(write(connection, &byte, 1) == 1 && read(connection, &byte, 1) == 1, "barrier");
}

static socklen_t queue_address(struct sockaddr_un *a, const char *kind, const char *whose)
{
	size_t from = strstr(kind, "abstract") ? 1 : 0;

	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path + from, sizeof(a->sun_path) - from, "%sl.%s", from ? "" : "/vol/", whose);
	return offsetof(struct sockaddr_un, sun_path) + strlen(a->sun_path + from) + 1;
}

static int queue_type(const char *kind)
{
	return strstr(kind, "seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
}

static struct ucred who(int fd)
{
	struct ucred c = {0};

	check(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &(socklen_t){sizeof(c)}) == 0, "SO_PEERCRED");
	return c;
}

static void dial(const char *kind, const char *whose, int i)
{
	struct sockaddr_un a;
	socklen_t len = queue_address(&a, kind, whose);

	dialled[i] = socket(AF_UNIX, queue_type(kind) | SOCK_CLOEXEC, 0);
	check(connect(dialled[i], (struct sockaddr *)&a, len) == 0, "connect");
	check(!strstr(kind, "data") || write(dialled[i], "early", 5) == 5, "write");
	check(!strstr(kind, "data") || i == 0 || shutdown(dialled[i], SHUT_WR) == 0, "shutdown");
	listeners[i] = who(dialled[i]);
}

static void queue_up(const char *kind)
{
	const char *other = gives() ? "take" : "give";
	struct sockaddr_un a;
	socklen_t len = queue_address(&a, kind, role);

	listener = socket(AF_UNIX, queue_type(kind) | SOCK_CLOEXEC, 0);
	unlink(a.sun_path);
	check(bind(listener, (struct sockaddr *)&a, len) == 0 && listen(listener, 3) == 0, "listen");
	if (a.sun_path[0])
		check(chmod(a.sun_path, 0666) == 0, "chmod");
	barrier();
	dial(kind, other, 0);
	barrier();
	dial(kind, role, 1);
	barrier();
	dial(kind, other, 2);
	barrier();
}

/* Each in its place: our own one has a pid that we see. */
static void accept_queue(const char *kind)
{
	for (int i = 0; i < 3; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		char digit = (char)('0' + i), text[8];

		check(fd >= 0, "accept");
		check((who(fd).pid == getpid()) == (i == 1), "a client in another place");
		check(!strstr(kind, "data") ||
				(read(fd, text, sizeof(text)) == 5 && !memcmp(text, "early", 5)),
			"not what was sent early");
		check(!strstr(kind, "data") || i == 0 || read(fd, text, 1) == 0, "it goes on");
		check(write(fd, &digit, 1) == 1, "answer");
	}
	check(fcntl(listener, F_SETFL, O_NONBLOCK) == 0 && accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0,
		"one more");
}

static void hear_answers(void)
{
	for (int i = 0; i < 3; i++) {
		struct ucred now = who(dialled[i]);
		char digit = 0;

		check(now.pid == listeners[i].pid && now.uid == listeners[i].uid, "another listener");
		check(read(dialled[i], &digit, 1) == 1 && digit == '0' + i, "the answer to another one");
	}
}

/* ---- a pair that "give" has made, or a child of its that is gone, and "take" has ---- */

static pid_t maker; /* as "take" is told */

static void make_pair_for_the_other(bool by_child)
{
	int pair[2];
	pid_t pid = 0;

	/* Its pid is none of those that a namespace begins with. */
	for (int i = 0; i < 40 && by_child && (pid = fork()) > 0 && pid < 30; i++)
		check(waitpid(pid, NULL, 0) == pid, "wait");
	if (pid == 0 && by_child && getpid() < 30)
		_exit(0);

	if (pid == 0) {
		check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
		send_fd(pair[0]);
		send_fd(pair[1]);
		if (by_child)
			_exit(0);
		close(pair[0]);
		close(pair[1]);
		return;
	}
	check(waitpid(pid, NULL, 0) == pid, "wait");
}

static void take_pair(int *fd)
{
	*fd = take_fd();
	ends[0] = take_fd();
	maker = who(*fd).pid;
	say("maker", "%d", maker);
}

static void use_pair(int fd)
{
	char byte = 'x';

	check(who(fd).pid == maker && who(ends[0]).pid == maker, "the pair is of another maker");
	check(write(fd, &byte, 1) == 1 && read(ends[0], &byte, 1) == 1, "the pair");
}

static void set_up(const char *kind, int *fd)
{
	uint64_t three = 3;

	if (!strcmp(kind, "eventfd")) {
		*fd = both(gives() ? eventfd(0, EFD_CLOEXEC) : -1);
		check(!gives() || write(*fd, &three, 8) == 8, "count");
	} else if (!strcmp(kind, "offset")) {
		*fd = both(open_file("/vol/file"));
		check(!gives() || write(*fd, "abc", 3) == 3, "write");
	} else if (!strcmp(kind, "deleted")) { /* one has it open, the other one has mapped it */
		*fd = both(open_file("/vol/deleted"));
		map(*fd);
		if (gives())
			unlink("/vol/deleted");
		else
			close(*fd);
	} else if (!strcmp(kind, "pipe")) { /* the very end, with data in it */
		check(!gives() || pipe2(ends, O_CLOEXEC) == 0, "pipe");
		*fd = both(ends[0]);
		check(!gives() || write(ends[1], "abc", 3) == 3, "write");
	} else if (!strcmp(kind, "epoll")) {
		*fd = both(gives() ? epoll_create1(EPOLL_CLOEXEC) : -1);
	} else if (!strcmp(kind, "tcp")) {
		*fd = both(gives() ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1);
	} else if (!strcmp(kind, "lock")) {
		*fd = open("/vol/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (gives())
			take_lock(*fd);
		close(both(gives() ? dup(0) : -1));
		if (!gives())
			by_child(take_lock, *fd);
	} else if (!strncmp(kind, "queue", 5)) {
		queue_up(kind);
	} else if (!strncmp(kind, "pair", 4)) {
		if (gives())
			make_pair_for_the_other(!strcmp(kind, "pair-of-gone"));
		else
			take_pair(fd);
	} else if (!strcmp(kind, "undo")) {
		*fd = semaphores();
		close(both(gives() ? dup(0) : -1));
		if (!gives())
			by_child(take_semaphore, *fd);
		while (!gives() && !is_done())
			usleep(1000);
	}
}

static void use(const char *kind, int fd)
{
	uint64_t four = 4, count = 0;
	char buf[8] = "";

	if (!strcmp(kind, "eventfd")) {
		if (gives())
			check(write(fd, &four, 8) == 8, "count on");
		else
			check(read(fd, &count, 8) == 8 && count == 7, "the count is another one");
	} else if (!strcmp(kind, "offset")) {
		if (gives())
			check(write(fd, "de", 2) == 2, "write on");
		else
			check(lseek(fd, 0, SEEK_CUR) == 5, "the offset is another one");
	} else if (!strcmp(kind, "deleted")) {
		if (gives())
			strcpy(memory, "seen");
		else
			check(!strcmp(memory, "seen"), "it is other memory");
	} else if (!strcmp(kind, "lock")) {
		if (gives())
			check(flock(fd, LOCK_UN) == 0, "unlock");
		for (int i = 0; !gives() && !is_done(); i++) {
			check(i < 5000, "the lock is not free");
			usleep(1000);
		}
	} else if (!strcmp(kind, "undo")) {
		check(semctl(fd, 0, GETVAL) == 3, "the semaphore is another one");
		if (!gives()) {
			kill(child, SIGKILL);
			check(waitpid(child, NULL, 0) == child && semctl(fd, 0, GETVAL) == 5,
				"not given back");
		}
	} else if (!strncmp(kind, "pair", 4)) {
		if (!gives())
			use_pair(fd);
	} else if (!strcmp(kind, "pipe")) {
		if (gives())
			check(read(fd, buf, 2) == 2 && !memcmp(buf, "ab", 2) && write(ends[1], "d", 1) == 1,
				"data");
		else
			check(read(fd, buf, 8) == 2 && !memcmp(buf, "cd", 2), "what is left of the data");
	}
}

static void see(struct ucred *c)
{
	check(getsockopt(connection, SOL_SOCKET, SO_PEERCRED, c, &(socklen_t){sizeof(*c)}) == 0,
		"SO_PEERCRED");
}

int main(int argc, char **argv)
{
	struct ucred now;
	int fd = -1;

	if (argc != 3)
		return 1;
	role = argv[1];
	join(!strcmp(argv[2], "credentials"));
	see(&seen);
	set_up(argv[2], &fd);
	say("ready", "yes\n");
	wait_for("/vol/go");
	see(&now);
	if (!strcmp(argv[2], "lock") && !gives())
		check(!is_done(), "the lock has been lost");
	say("looked", "yes\n");
	wait_for(gives() ? "/vol/looked.take" : "/vol/looked.give");
	check(now.pid == seen.pid && now.uid == seen.uid && now.gid == seen.gid,
		"the other end is another one's");
	if (!strncmp(argv[2], "queue", 5)) {
		accept_queue(argv[2]);
		hear_answers();
	} else if (!gives()) {
		wait_for("/vol/result.give");
	}
	use(argv[2], fd);
	say("result", "PASS\n");
	for (;;)
		pause();
}
