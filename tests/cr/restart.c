/* SPDX-License-Identifier: Apache-2.0 */
/* cr: also=filtered ignore=memory,Threads,thread */
/* The kernel writes into its memory how much time a select() has left, and calls come to their end. */
/*
 * System calls that block while the checkpoint is made: none comes back before its time, and none with EINTR. Each is
 * in a thread of its own; the main thread makes it return and looks at what it returned.
 */
#include "cr.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>

static int p_read[2], p_poll[2], p_ppoll[2], p_select[2], p_epoll[2], p_full[2], p_fifo;
static int listener, pair[2], event, ep;
static uint32_t word, word2;
static volatile pid_t child;
static sem_t semaphore;

static struct call {
	const char *name;
	long (*f)(void);
	long expected;
	int at_least_ms,
		at_most_ms; /* of the time until it returns by itself; 0: it has to be made to return */
	pthread_t thread;
	volatile pid_t tid;
	volatile int done;
	long result;
	int error;
	int64_t took_ms;
} calls[];

static long f_read(void)
{
	char c;

	return read(p_read[0], &c, 1);
}

static long f_write(void)
{
	static char b[65536];

	return write(p_full[1], b, sizeof(b));
}

static long f_poll(void)
{
	struct pollfd p = {p_poll[0], POLLIN, 0};

	return poll(&p, 1, -1);
}

static long f_poll_timeout(void)
{
	return poll(NULL, 0, 700);
}

static long f_ppoll(void)
{
	struct pollfd p = {p_ppoll[0], POLLIN, 0};
	struct timespec t = {1000, 0};

	return ppoll(&p, 1, &t, NULL);
}

static long f_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(p_select[0], &set);
	return select(p_select[0] + 1, &set, NULL, NULL, NULL);
}

static long f_nanosleep(void)
{
	struct timespec t = {0, 700000000}, rest = {0, 0};

	return nanosleep(&t, &rest);
}

static long f_sleep_absolute(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += 700000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static long f_futex(void)
{
	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static long f_futex_timeout(void)
{
	struct timespec t = {0, 700000000};

	return syscall(SYS_futex, &word2, FUTEX_WAIT, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static long f_semaphore(void)
{
	return sem_wait(&semaphore);
}

static long f_accept(void)
{
	return accept(listener, NULL, NULL) >= 0;
}

static long f_recv(void)
{
	char c[10];

	return recv(pair[0], c, sizeof(c), 0);
}

static long f_wait(void)
{
	int status;

	return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 9;
}

static long f_epoll(void)
{
	struct epoll_event e;

	return epoll_wait(ep, &e, 1, -1);
}

static long f_eventfd(void)
{
	uint64_t v;

	return read(event, &v, 8);
}

static long f_open_fifo(void)
{
	return open("/tmp/fifo", O_RDONLY) >= 0;
}

static struct call calls[] = {
	{"read", f_read, 1},
	{"write", f_write, 65536},
	{"poll", f_poll, 1},
	{"poll with timeout", f_poll_timeout, 0, 690, 1500},
	{"ppoll", f_ppoll, 1},
	{"select", f_select, 1},
	{"nanosleep", f_nanosleep, 0, 699, 1200},
	{"clock_nanosleep", f_sleep_absolute, 0, 699, 1200},
	{"futex", f_futex, 0},
	{"futex with timeout", f_futex_timeout, 0, 690, 1500},
	{"sem_wait", f_semaphore, 0},
	{"accept", f_accept, 1},
	{"recv", f_recv, 4},
	{"waitpid", f_wait, 1},
	{"epoll_wait", f_epoll, 1},
	{"eventfd", f_eventfd, 8},
	{"open of a FIFO", f_open_fifo, 1},
};

enum { N = sizeof(calls) / sizeof(calls[0]) };

static void *run(void *arg)
{
	struct call *c = arg;
	int64_t start = cr_now_ns(CLOCK_MONOTONIC);

	c->tid = gettid();
	errno = 0;
	c->result = c->f();
	c->error = errno;
	c->took_ms = (cr_now_ns(CLOCK_MONOTONIC) - start) / 1000000;
	c->done = 1;
	return NULL;
}

static void wake(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/tmp/listener"};
	uint64_t one = 1;
	char b[65536];
	int client = must(socket(AF_UNIX, SOCK_STREAM, 0));

	must(write(p_read[1], "x", 1));
	must(write(p_poll[1], "x", 1));
	must(write(p_ppoll[1], "x", 1));
	must(write(p_select[1], "x", 1));
	must(write(p_epoll[1], "x", 1));
	for (ssize_t left = 65536; left > 0;)
		left -= must(read(p_full[0], b, left));
	__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
	check(syscall(SYS_futex, &word, FUTEX_WAKE, 10, NULL, NULL, 0) == 1, "nobody waits at the futex");
	sem_post(&semaphore);
	must(connect(client, (struct sockaddr *)&a, sizeof(a)));
	must(send(pair[1], "data", 4, 0));
	must(kill(child, SIGUSR1));
	must(write(event, &one, 8));
	p_fifo = must(open("/tmp/fifo", O_WRONLY));
	close(client);
}

static void set_up(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/tmp/listener"};
	struct epoll_event e = {.events = EPOLLIN};
	static char b[65536];

	must(pipe(p_read));
	must(pipe(p_poll));
	must(pipe(p_ppoll));
	must(pipe(p_select));
	must(pipe(p_epoll));
	must(pipe(p_full));
	must(write(p_full[1], b, sizeof(b)));
	listener = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	must(listen(listener, 5));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	event = must(eventfd(0, 0));
	ep = must(epoll_create1(0));
	must(epoll_ctl(ep, EPOLL_CTL_ADD, p_epoll[0], &e));
	must(mkfifo("/tmp/fifo", 0600));
	word = word2 = 0;
	sem_init(&semaphore, 0, 0);
	child = must(fork());
	if (child == 0) {
		sigset_t set;
		int sig;

		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		do /* also what sigwait() does with EINTR */
			sigwait(&set, &sig);
		while (sig != SIGUSR1);
		_exit(9);
	}
}

static void tear_down(void)
{
	int fds[] = {p_read[0], p_read[1], p_poll[0], p_poll[1], p_ppoll[0], p_ppoll[1], p_select[0],
		p_select[1], p_epoll[0], p_epoll[1], p_full[0], p_full[1], listener, pair[0], pair[1], event,
		ep, p_fifo};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		close(fds[i]);
	unlink("/tmp/listener");
	unlink("/tmp/fifo");
}

/* The thread sleeps in the kernel (and is not on its way to). */
static void await_blocked(struct call *c)
{
	char path[64], text[512];

	for (;;) {
		if (c->tid) {
			snprintf(path, sizeof(path), "/proc/self/task/%d/stat", c->tid);
			if (c->done ||
				(cr_read(path, text, sizeof(text)) > 0 && strrchr(text, ')')[2] == 'S'))
				return;
		}
		cr_msleep(1);
	}
}

int main(void)
{
	for (;;) {
		set_up();
		for (int i = 0; i < N; i++) {
			calls[i].done = calls[i].tid = 0;
			check(pthread_create(&calls[i].thread, NULL, run, &calls[i]) == 0, "pthread_create");
		}
		for (int i = 0; i < N; i++)
			await_blocked(&calls[i]);
		cr_msleep(5);
		if (!cr_wait())
			break;
		for (int i = 0; i < N; i++)
			check(!calls[i].done || calls[i].at_most_ms,
				"%s came back by itself: %ld, errno %d (%s)", calls[i].name, calls[i].result,
				calls[i].error, strerror(calls[i].error));
		wake();
		for (int i = 0; i < N; i++) {
			struct call *c = &calls[i];

			for (int ms = 0; !c->done; ms++) {
				check(ms < 4000, "%s never comes back", c->name);
				cr_msleep(1);
			}
			pthread_join(c->thread, NULL);
			check(c->result == c->expected, "%s: %ld, errno %d (%s)", c->name, c->result,
				c->error, strerror(c->error));
			check(!c->at_most_ms || (c->took_ms >= c->at_least_ms && c->took_ms <= c->at_most_ms),
				"%s took %ld ms", c->name, (long)c->took_ms);
		}
		tear_down();
	}
	_exit(0);
}
