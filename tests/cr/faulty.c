/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cr: ignore=memory
 * For tests/faults: a bit of everything in three processes. What each checks is that nothing was lost or done twice: counters
 * go on, registers of a thread in a loop are its own, a sleep is not cut short, signals stay blocked and pending.
 */
#include "cr.h"

#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sys/eventfd.h>

enum { PAGES = 64, MUCH = 3000 };

static volatile uint64_t loops;
static volatile int stop, started;

static uint64_t sum(uint64_t seed)
{
	for (int i = 0; i < 5000; i++)
		seed = cr_mix(seed);
	return seed;
}

static volatile pid_t spinner;

/* Nanoseconds of CPU time. */
static uint64_t spinner_ran(void)
{
	char path[64], text[128] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", spinner);
	fd = must(open(path, O_RDONLY));
	must(read(fd, text, sizeof(text) - 1));
	close(fd);
	return strtoull(text, NULL, 10);
}

/* Where the thread in the loop is when it should be looping. */
static void show_spinner(void)
{
	static const char *const files[] = {"stat", "syscall", "wchan", "status", "schedstat"};

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char path[64], text[2048];
		int fd;
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/task/%d/%s", spinner, files[i]);
		fd = open(path, O_RDONLY);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		fprintf(stderr, "%s: %.*s\n", path, (int)(n < 0 ? 0 : n), text);
		if (fd >= 0)
			close(fd);
	}
}

/* With pauses: Linux 6.18 lets a thread that never sleeps, in a group of groups that is stopped and let go again and again, keep
 * all others from its CPU for a minute, the kernel's own among them. The first process has the longest turns. */
static void *spin(void *arg CR_UNUSED)
{
	uint64_t expected = sum(1);

	spinner = syscall(SYS_gettid);

	for (; !stop; loops++) {
		check(sum(1) == expected, "a computation went wrong");
		if (loops % (cr_tag[0] == 0 ? 256 : 16) == 0)
			cr_msleep(1);
	}
	return NULL;
}

/* By its own CPU time: the kernel lets one of many threads in groups of groups wait for seconds. */
static void check_spinner(uint64_t n)
{
	enum { PATIENCE_MS = 20000, RAN_MS = 100 };
	uint64_t ran = spinner_ran();

	for (int ms = 0; loops == n; ms++) {
		bool enough = ms == PATIENCE_MS || spinner_ran() > ran + RAN_MS * 1000000ull;

		if (enough && loops == n) {
			show_spinner();
			check(false, "the thread does not go on");
		}
		cr_msleep(1);
	}
}

static void *sleep_long(void *arg CR_UNUSED)
{
	struct timespec t = {1000, 0};

	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	check(nanosleep(&t, NULL) == 0 && false, "a sleep of 1000 s is over: %m");
	return NULL;
}

static void *blocked_read(void *arg)
{
	char c;

	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	check(read(*(int *)arg, &c, 1) == 1 && false, "a read of an empty pipe is over: %m");
	return NULL;
}

static int master, slave;

/* What waits in a terminal is taken out and put back: a line, half a line, and output with an echo. */
static void fill_terminal(void)
{
	check(write(slave, "output\n", 7) == 7 && write(master, "line\nhalf", 9) == 9,
		"write to a terminal: %m");
	cr_msleep(20);
}

static void check_terminal(void)
{
	struct pollfd p = {.fd = slave, .events = POLLIN};
	static const char want[] = "output\r\nline\r\nhalf\r\n";
	char text[100];

	check(poll(&p, 1, 0) == 1 && read(slave, text, sizeof(text)) == 5 && !memcmp(text, "line\n", 5),
		"the line that was typed");
	check(poll(&p, 1, 0) == 0, "half a line is none");
	check(write(master, "\n", 1) == 1 && poll(&p, 1, 1000) == 1 && read(slave, text, sizeof(text)) == 5 &&
			!memcmp(text, "half\n", 5),
		"half a line that was typed");
	cr_msleep(10);
	check(read(master, text, sizeof(text)) == sizeof(want) - 1 && !memcmp(text, want, sizeof(want) - 1),
		"output that waits");
	fill_terminal();
}

static mqd_t queue;

/* What waits in a queue is taken out, too. */
static void fill_messages(void)
{
	check(mq_send(queue, "low", 4, 1) == 0 && mq_send(queue, "high", 5, 9) == 0 &&
			mq_send(queue, "low too", 8, 1) == 0,
		"fill a message queue: %m");
}

static void check_messages(void)
{
	static const char *const want[] = {"high", "low", "low too"};
	char text[100];

	for (int i = 0; i < 3; i++)
		check(mq_receive(queue, text, sizeof(text), NULL) > 0 && !strcmp(text, want[i]),
			"message %d of a queue: %m", i);
	check(mq_receive(queue, text, sizeof(text), NULL) < 0 && errno == EAGAIN, "one message more");
	fill_messages();
}

/* Calls become signals when the selector says so: PR_SET_SYSCALL_USER_DISPATCH, which is off while a checkpoint is made. */
static volatile char selector;
static volatile int dispatched;

static void on_sigsys(int sig CR_UNUSED)
{
	selector = 0;
	dispatched = 1;
}

static void check_dispatch(void)
{
	dispatched = 0;
	selector = 1;
	(void)syscall(SYS_getppid);
	selector = 0;
	check(dispatched, "a call was not dispatched to the program");
}

/* Enough for a snapshot, of the first process only; it can be compressed. */
static uint64_t *much;

static void rounds(char *private, char *shared, int event)
{
	sigset_t set;

	while (cr_wait()) {
		uint64_t n = loops, v;

		check(cr_differs(private, PAGES * 4096UL, 1) < 0, "private memory");
		check(cr_differs(shared, PAGES * 4096UL, 2) < 0, "shared memory");
		must(sigpending(&set));
		check(sigismember(&set, SIGUSR1), "the pending signal is gone");
		sigprocmask(SIG_SETMASK, NULL, &set);
		for (int s = 1; s < 64; s++)
			check(sigismember(&set, s) == (s == SIGUSR1 || s == SIGTRAP), "mask: signal %d", s);
		if (cr_tag[0] == 0) {
			check(read(event, &v, 8) == 8 && v == 3, "the eventfd's count");
			check(write(event, &v, 8) == 8, "write");
			check_terminal();
			check_messages();
			check_dispatch();
			for (size_t i = 0; i < MUCH * 512UL; i++)
				check(much[i] == cr_mix(i / 16), "much memory");
		}
		check_spinner(n);
	}
	_exit(0);
}

int main(void)
{
	char *private =
		must(mmap(NULL, PAGES * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	char *shared =
		must(mmap(NULL, PAGES * 4096UL, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	int event = must(eventfd(3, 0)), p[2];
	pthread_t thread;
	sigset_t set;

	cr_fill(private, PAGES * 4096UL, 1);
	cr_fill(shared, PAGES * 4096UL, 2);
	must(pipe(p));
	must(openpty(&master, &slave, NULL, NULL, NULL));
	fill_terminal();
	queue = must(mq_open("/queue", O_RDWR | O_CREAT | O_NONBLOCK, 0600,
		&(struct mq_attr){.mq_maxmsg = 5, .mq_msgsize = 100}));
	fill_messages();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTRAP);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	if (cr_fork("child") == 0)
		cr_fork("grandchild");
	must(kill(getpid(), SIGUSR1));
	if (cr_tag[0] == 0) {
		much = must(mmap(
			NULL, MUCH * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		for (size_t i = 0; i < MUCH * 512UL; i++)
			much[i] = cr_mix(i / 16);
	}
	check(pthread_create(&thread, NULL, spin, NULL) == 0, "pthread_create");
	check(pthread_create(&thread, NULL, sleep_long, NULL) == 0, "pthread_create");
	check(pthread_create(&thread, NULL, blocked_read, &p[0]) == 0, "pthread_create");
	while (!loops || started < 2)
		cr_msleep(1);
	cr_msleep(20); /* the others sleep by now */
	signal(SIGSYS, on_sigsys);
	must(prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, &selector));
	rounds(private, shared, event);
}
