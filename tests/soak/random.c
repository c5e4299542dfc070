/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container made at random from a seed: a tree of processes, each with things of its own (memory, files, pipes,
 * sockets, timers, threads, signals ...) and a model of what they must be. Again and again each process verifies
 * all of its things against the model and changes some of them. A process never waits for another, so that a checkpoint
 * may come at any instruction; whoever finds a difference says so in /cr/result.
 *
 *	random SEED PROCESSES THINGS
 *
 * /cr/count.PID is the number of turns of a process; /cr/stop ends all of them, after a last turn.
 */
#include "../cr/cr.h"

#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <termios.h>

enum { PAGE = 4096, MAX_PAGES = 48, MAX_THINGS = 200, QUEUE = 6000, SLACK = 5000000 };

#define MIN(a, b) ((a) < (b) ? (a) : (b))

static uint64_t random_state;
static int turn, n_processes_left, n_things_wanted;

static uint64_t draw(uint64_t below)
{
	random_state = cr_mix(random_state);
	return random_state % below;
}

struct thing;
/* What one kind of thing can do; verify must not change it, as the processes that inherited it do the same. */
struct kind {
	const char *name;
	void (*make)(struct thing *t);
	void (*verify)(struct thing *t);
	void (*change)(struct thing *t); /* NULL: never */
	void (*end)(struct thing *t);
	bool is_private; /* a fork gives the child one of its own */
};

struct thing {
	const struct kind *kind;
	bool inherited; /* or given to a child: others have it, too */
	int fd, other;
	char *address;
	size_t pages, size;
	uint64_t seeds[MAX_PAGES]; /* of each page: 0 zeros */
	uint64_t seed, count;
	bool no_access, read_only;
	char path[64];
	int64_t deadline;
};

static struct thing things[MAX_THINGS];
static size_t n_things;

#define expect(t, condition, format, ...)                                                                    \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			fail("process %d, turn %d, %s %td%s: " format, getpid(), turn, (t)->kind->name,      \
				(t)-things, (t)->inherited ? " (inherited)" : "", ##__VA_ARGS__);            \
	} while (0)

/* Memory ------------------------------------------------------------------------------------------------------------ */

static void fill_page(struct thing *t, size_t page)
{
	t->seeds[page] = draw(4) ? cr_mix(random_state) : 0;
	if (t->seeds[page])
		cr_fill(t->address + page * PAGE, PAGE, t->seeds[page]);
	else
		memset(t->address + page * PAGE, 0, PAGE);
}

static void make_memory(struct thing *t, int flags, int fd)
{
	t->pages = 1 + draw(MAX_PAGES);
	t->address = must(mmap(NULL, t->pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0));
	for (size_t i = 0; i < t->pages; i++)
		if (draw(3))
			fill_page(t, i);
}

static void make_private(struct thing *t)
{
	make_memory(t, MAP_PRIVATE | MAP_ANONYMOUS | (draw(4) ? 0 : MAP_NORESERVE), -1);
	if (!draw(4))
		must(madvise(t->address, t->pages * PAGE, draw(2) ? MADV_DONTDUMP : MADV_HUGEPAGE));
}

static void make_shared(struct thing *t)
{
	make_memory(t, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static void make_memfd(struct thing *t)
{
	t->fd = must(memfd_create("random", MFD_ALLOW_SEALING));
	must(ftruncate(t->fd, MAX_PAGES * PAGE));
	make_memory(t, MAP_SHARED, t->fd);
	if (!draw(2))
		must(fcntl(t->fd, F_ADD_SEALS, F_SEAL_SHRINK));
}

static void verify_memory(struct thing *t)
{
	static const char zeros[PAGE];

	if (t->no_access)
		return;
	for (size_t i = 0; i < t->pages; i++) {
		char *page = t->address + i * PAGE;

		if (t->seeds[i])
			expect(t, cr_differs(page, PAGE, t->seeds[i]) < 0, "page %zu at %p differs", i, page);
		else
			expect(t, memcmp(page, zeros, PAGE) == 0, "page %zu at %p is not zero", i, page);
	}
}

static void protect(struct thing *t, int prot)
{
	must(mprotect(t->address, t->pages * PAGE, prot));
	t->no_access = prot == PROT_NONE;
	t->read_only = prot == PROT_READ;
}

static void change_memory(struct thing *t)
{
	size_t page = draw(t->pages), more;
	void *p;

	if (t->no_access || t->read_only || !draw(8)) {
		static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};

		protect(t, prots[t->no_access || t->read_only ? 2 : draw(3)]);
	} else if (!draw(6) && t->kind->is_private) {
		must(madvise(t->address + page * PAGE, PAGE, MADV_DONTNEED));
		t->seeds[page] = 0;
	} else if (!draw(6) && t->kind->is_private && t->pages < MAX_PAGES) {
		more = t->pages + 1 + draw(MAX_PAGES - t->pages);
		p = must(mremap(t->address, t->pages * PAGE, more * PAGE, MREMAP_MAYMOVE));
		memset(t->seeds + t->pages, 0, (more - t->pages) * sizeof(*t->seeds));
		t->address = p;
		t->pages = more;
	} else {
		fill_page(t, page);
	}
}

static void end_memory(struct thing *t)
{
	must(munmap(t->address, t->pages * PAGE));
	if (t->fd >= 0)
		close(t->fd);
}

/* Files --------------------------------------------------------------------------------------------------------------- */

static void name_file(struct thing *t, const char *folder)
{
	snprintf(t->path, sizeof(t->path), "%s/random.%d.%lx", folder, getpid(), (long)draw(1l << 40));
}

static void make_file(struct thing *t)
{
	static const char *const folders[] = {"/tmp", "/cr", "/dev/shm"};

	name_file(t, folders[draw(3)]);
	t->fd = must(open(t->path,
		O_RDWR | O_CREAT | O_EXCL | (draw(2) ? O_APPEND : 0) | (draw(2) ? O_CLOEXEC : 0), 0600));
	for (t->size = 0; t->size < 8 + draw(100000);) {
		uint64_t word = cr_mix(t->seed + t->size / 8);

		must(write(t->fd, &word, 8));
		t->size += 8;
	}
	t->count = draw(t->size);
	must(lseek(t->fd, t->count, SEEK_SET));
	if (!draw(2)) {
		must(unlink(t->path));
		t->path[0] = 0;
	}
}

static void verify_file(struct thing *t)
{
	struct stat st;

	must(fstat(t->fd, &st));
	expect(t, (size_t)st.st_size == t->size, "size %ld, not %zu", (long)st.st_size, t->size);
	expect(t, lseek(t->fd, 0, SEEK_CUR) == (off_t)t->count, "offset %ld, not %lu",
		(long)lseek(t->fd, 0, SEEK_CUR), t->count);
	expect(t, !!t->path[0] == !!st.st_nlink, "%ju names", (uintmax_t)st.st_nlink);
	for (int i = 0; i < 5; i++) {
		uint64_t at = draw(t->size / 8) * 8, word = 0;

		expect(t, pread(t->fd, &word, 8, at) == 8 && word == cr_mix(t->seed + at / 8),
			"contents at %lu", at);
	}
}

static void change_file(struct thing *t)
{
	if (draw(2)) {
		t->count = draw(t->size);
		must(lseek(t->fd, t->count, SEEK_SET));
	} else {
		t->size = t->size / 2 / 8 * 8 + 8;
		must(ftruncate(t->fd, t->size));
	}
}

static void end_fd(struct thing *t)
{
	close(t->fd);
	if (t->other >= 0)
		close(t->other);
	if (t->path[0] && !t->inherited)
		unlink(t->path);
}

static void make_directory(struct thing *t)
{
	name_file(t, "/tmp");
	must(mkdir(t->path, 0700));
	t->fd = must(open(t->path, O_RDONLY | O_DIRECTORY | (draw(2) ? O_PATH : 0)));
}

static void verify_directory(struct thing *t)
{
	struct stat a, b;

	must(fstat(t->fd, &a));
	must(stat(t->path, &b));
	expect(t, a.st_ino == b.st_ino && a.st_dev == b.st_dev, "another directory");
}

static void end_directory(struct thing *t)
{
	close(t->fd);
	if (!t->inherited)
		rmdir(t->path);
}

/* Queues of bytes: written at one end, looked at by taking all out and putting it back, unless others have it. */

static void push(struct thing *t, size_t n)
{
	char bytes[QUEUE];

	n = n / 8 * 8;
	cr_fill(bytes, n, t->seed + t->size / 8);
	expect(t, write(t->other, bytes, n) == (ssize_t)n, "write %zu bytes: %m", n);
	t->size += n;
}

static void make_pipe(struct thing *t)
{
	int p[2];

	must(pipe2(p, draw(2) ? O_NONBLOCK : 0));
	t->fd = p[0];
	t->other = p[1];
	push(t, draw(QUEUE));
}

static void make_pair(struct thing *t)
{
	int p[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | (draw(2) ? SOCK_NONBLOCK : 0), 0, p));
	t->fd = p[0];
	t->other = p[1];
	push(t, draw(QUEUE));
}

static void verify_queue(struct thing *t)
{
	char bytes[QUEUE];
	int n = -1;

	must(ioctl(t->fd, FIONREAD, &n));
	expect(t, n == (int)t->size, "%d bytes wait, not %zu", n, t->size);
	if (t->inherited || t->size == 0)
		return;
	expect(t, read(t->fd, bytes, sizeof(bytes)) == n, "read: %m");
	expect(t, cr_differs(bytes, n, t->seed) < 0, "contents");
	t->size = 0;
	push(t, n);
}

static void change_queue(struct thing *t)
{
	char bytes[QUEUE];

	if (t->size > 0)
		must(read(t->fd, bytes, sizeof(bytes)));
	t->size = 0;
	t->seed = cr_mix(t->seed);
	push(t, draw(QUEUE));
}

static void make_messages(struct thing *t)
{
	int p[2];

	must(socketpair(AF_UNIX, draw(2) ? SOCK_DGRAM : SOCK_SEQPACKET, 0, p));
	t->fd = p[0];
	t->other = p[1];
	for (t->count = 0; t->count < draw(8); t->count++) {
		uint64_t message[2] = {t->seed, t->count};

		must(send(t->other, message, 1 + draw(16), 0) < 0 ? -1 : 0);
	}
}

static void verify_messages(struct thing *t)
{
	uint64_t message[2];

	expect(t,
		recv(t->fd, message, sizeof(message), MSG_PEEK | MSG_DONTWAIT) >= 0 ? t->count > 0
										    : t->count == 0,
		"messages: %m, should be %lu", t->count);
}

static void change_messages(struct thing *t)
{
	uint64_t message[2] = {t->seed, t->count};

	if (t->count > 0 && draw(2)) {
		must(recv(t->fd, message, sizeof(message), 0));
		t->count--;
	} else if (t->count < 8) {
		must(send(t->other, message, sizeof(message), 0));
		t->count++;
	}
}

static void make_udp(struct thing *t)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);

	t->fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(bind(t->fd, (struct sockaddr *)&a, sizeof(a)));
	must(getsockname(t->fd, (struct sockaddr *)&a, &len));
	t->other = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(connect(t->other, (struct sockaddr *)&a, sizeof(a)));
}

static void make_listener(struct thing *t)
{
	int one = 1;
	socklen_t len;
	struct sockaddr_in6 a = {.sin6_family = AF_INET6};

	t->fd = must(socket(AF_INET6, SOCK_STREAM, 0));
	must(setsockopt(t->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	must(bind(t->fd, (struct sockaddr *)&a, sizeof(a)));
	must(listen(t->fd, 1 + draw(20)));
	len = sizeof(a);
	must(getsockname(t->fd, (struct sockaddr *)&a, &len));
	t->count = a.sin6_port;
}

static void verify_listener(struct thing *t)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);
	int listening = 0;

	must(getsockname(t->fd, (struct sockaddr *)&a, &len));
	expect(t, a.sin6_port == t->count, "port %d, not %d", ntohs(a.sin6_port), ntohs(t->count));
	len = sizeof(listening);
	must(getsockopt(t->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len));
	expect(t, listening, "does not listen");
}

/* Small descriptors --------------------------------------------------------------------------------------------------- */

static void make_eventfd(struct thing *t)
{
	t->count = draw(3) ? draw(1000) : draw(1ull << 60);
	t->fd = must(eventfd(0, EFD_NONBLOCK));
	if (t->count > 0)
		must(write(t->fd, &t->count, 8));
}

static void verify_eventfd(struct thing *t)
{
	uint64_t v = 0;

	if (t->inherited)
		return;
	expect(t, (read(t->fd, &v, 8) == 8) == (t->count > 0) && v == t->count, "%lu, not %lu", v, t->count);
	if (v > 0)
		must(write(t->fd, &v, 8));
}

static void change_eventfd(struct thing *t)
{
	uint64_t v = 1 + draw(100);

	must(write(t->fd, &v, 8));
	t->count += v;
}

static void make_timerfd(struct thing *t)
{
	struct itimerspec s = {.it_value = {1000 + draw(100000), 0}, .it_interval = {draw(2) ? 7 : 0, 0}};
	static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
	clockid_t clock = clocks[draw(3)];
	int64_t before;

	t->count = clock;
	t->fd = must(timerfd_create(clock, TFD_NONBLOCK));
	do {
		before = cr_now_ns(clock);
		must(timerfd_settime(t->fd, 0, &s, NULL));
		t->deadline = cr_now_ns(clock) + s.it_value.tv_sec * 1000000000ll;
	} while (cr_now_ns(clock) - before > 1000000); /* something came between */
}

static void verify_timerfd(struct thing *t)
{
	int64_t before = cr_now_ns(t->count), after, left;
	struct itimerspec s;

	must(timerfd_gettime(t->fd, &s));
	after = cr_now_ns(t->count);
	left = s.it_value.tv_sec * 1000000000ll + s.it_value.tv_nsec;
	/* The wall clock has gone on meanwhile, and the timer with the others. */
	expect(t,
		t->count == CLOCK_REALTIME ||
			(left > t->deadline - after - SLACK && left < t->deadline - before + SLACK),
		"%ld ns left, not %ld to %ld", (long)left, (long)(t->deadline - after),
		(long)(t->deadline - before));
}

static void make_signalfd(struct thing *t)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	t->fd = must(signalfd(-1, &set, SFD_NONBLOCK));
}

static void verify_signalfd(struct thing *t)
{
	struct signalfd_siginfo info;

	expect(t, read(t->fd, &info, sizeof(info)) < 0 && errno == EAGAIN, "a signal: %m");
}

static void make_epoll(struct thing *t)
{
	struct epoll_event event = {.events = EPOLLIN | (draw(2) ? EPOLLET : 0), .data = {.u64 = t->seed}};

	t->fd = must(epoll_create1(EPOLL_CLOEXEC));
	t->other = must(eventfd(0, 0));
	must(epoll_ctl(t->fd, EPOLL_CTL_ADD, t->other, &event));
}

static void verify_epoll(struct thing *t)
{
	struct epoll_event event;
	uint64_t v = 1;

	if (t->inherited)
		return;
	expect(t, epoll_wait(t->fd, &event, 1, 0) == 0, "an event at rest");
	must(write(t->other, &v, 8));
	expect(t, epoll_wait(t->fd, &event, 1, 0) == 1 && event.data.u64 == t->seed, "no event");
	must(read(t->other, &v, 8));
}

/* What else a process has ---------------------------------------------------------------------------------------------- */

static void *count_up(void *arg)
{
	volatile uint64_t *counter = arg;
	char name[16];

	snprintf(name, sizeof(name), "counter%d", (int)draw(100));
	prctl(PR_SET_NAME, name);
	for (;;) {
		++*counter;
		cr_msleep(3);
	}
	return NULL;
}

static uint64_t counters[MAX_THINGS];
static bool has_threads, in_time_namespace;

static void make_thread(struct thing *t)
{
	pthread_t thread;

	t->address = (char *)&counters[t - things];
	has_threads = true;
	expect(t, pthread_create(&thread, NULL, count_up, t->address) == 0, "pthread_create");
}

static void verify_thread(struct thing *t)
{
	volatile uint64_t *counter = (uint64_t *)t->address;
	uint64_t before = *counter;

	for (int ms = 0; *counter == before && !t->inherited; ms++) {
		expect(t, ms < 20000, "stands still at %lu", before);
		cr_msleep(1);
	}
}

/* No sleep is over early, or with another result, whenever a checkpoint comes. */
static void *sleep_long(void *arg)
{
	static uint32_t word;
	volatile uint64_t *counter = arg;

	for (uint64_t i = (uint64_t)arg;; i++) {
		int64_t ms = 110 + cr_mix(i) % 300, start = cr_now_ns(CLOCK_MONOTONIC), took;
		struct timespec time = {0, ms * 1000000};
		long r = 0;

		if (i % 4 == 0)
			r = poll(NULL, 0, (int)ms);
		else if (i % 4 == 1)
			r = nanosleep(&time, NULL);
		else if (i % 4 == 2)
			r = clock_nanosleep(CLOCK_BOOTTIME, 0, &time, NULL);
		else
			r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0) == -1 &&
					    errno == ETIMEDOUT
				    ? 0
				    : -1;
		took = cr_now_ns(CLOCK_MONOTONIC) - start;
		if (r != 0 || took < ms * 1000000)
			fail("process %d, turn %d: sleep %d of %ld ms: %ld after %ld us", getpid(), turn,
				(int)(i % 4), (long)ms, r, (long)(took / 1000));
		++*counter;
	}
	return NULL;
}

static void make_sleeper(struct thing *t)
{
	pthread_t thread;

	t->address = (char *)&counters[t - things];
	has_threads = true;
	expect(t, pthread_create(&thread, NULL, sleep_long, t->address) == 0, "pthread_create");
}

/* A process that shares this one's memory, and other things or not. It has no thread-local storage: system calls alone. */
static volatile int at_the_end;

static long call(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}

static int count_up_alone(void *arg)
{
	struct timespec t = {0, 3000000};
	struct thing *of = arg;

	/* What the others close it would keep open. */
	if (!(of->seed & CLONE_FILES))
		call(SYS_close_range, 0, ~0u, 0);
	while (!at_the_end) {
		++*(volatile uint64_t *)of->address;
		call(SYS_nanosleep, (long)&t, 0, 0);
	}
	return 0;
}

static void make_sharer(struct thing *t)
{
	enum { STACK = 16384 };
	char *stack = malloc(STACK);

	if (in_time_namespace) /* refused: it would have namespaces of its own */
		return make_thread(t);
	has_threads = true;
	t->address = (char *)&counters[t - things];
	t->seed = CLONE_VM | (draw(2) ? CLONE_FILES : 0) | (draw(2) ? CLONE_FS : 0) |
		  (draw(2) ? CLONE_SIGHAND : 0);
	expect(t, stack && clone(count_up_alone, stack + STACK, (int)t->seed | SIGCHLD, t) > 0, "clone: %m");
}

/* The namespace of its children, which it makes once: clocks never go back in any. */
static void make_time_namespace(struct thing *t)
{
	static pid_t made_by;

	/* Threads and sharers would stay in the old one, which is refused. */
	if (!has_threads && made_by != getpid()) {
		expect(t, unshare(CLONE_NEWTIME) == 0, "unshare: %m");
		made_by = getpid();
		in_time_namespace = true;
	}
	t->fd = must(open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC));
	t->count = cr_now_ns(CLOCK_MONOTONIC);
}

static void verify_time_namespace(struct thing *t)
{
	struct stat held, next;
	uint64_t now = cr_now_ns(CLOCK_MONOTONIC);

	if (t->inherited)
		return;
	must(fstat(t->fd, &held));
	must(stat("/proc/self/ns/time_for_children", &next));
	expect(t, now >= t->count, "the clock went back from %lu to %lu", t->count, now);
	expect(t, held.st_ino == next.st_ino, "it holds another namespace");
	t->count = now;
}

static void make_pending(struct thing *t)
{
	union sigval v = {.sival_int = (int)t->seed};

	must(sigqueue(getpid(), SIGRTMIN + 6, v));
}

/* Taken in order, and queued again. */
static void verify_pending(struct thing *t)
{
	struct timespec now = {0, 0};
	union sigval v;
	siginfo_t info;
	sigset_t set;

	if (t->inherited)
		return; /* a child has no pending signals */
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 6);
	expect(t, sigtimedwait(&set, &info, &now) == SIGRTMIN + 6, "no signal: %m");
	v.sival_int = info.si_value.sival_int;
	for (size_t i = 0; i < n_things; i++)
		if (things[i].kind == t->kind && (int)things[i].seed == v.sival_int)
			v.sival_int = 0;
	expect(t, v.sival_int == 0, "a signal that nobody sent");
	must(sigqueue(getpid(), SIGRTMIN + 6, info.si_value));
}

static void make_flock(struct thing *t)
{
	make_file(t);
	must(flock(t->fd, draw(2) ? LOCK_SH : LOCK_EX));
}

/* System V IPC ------------------------------------------------------------------------------------------------------ */

enum { SEMAPHORES = 10, MESSAGE = 700 };

/* Removed ones stay as long as they are attached. */
static void make_segment(struct thing *t)
{
	t->pages = 1 + draw(MAX_PAGES);
	t->other = must(shmget(IPC_PRIVATE, t->pages * PAGE, 0600));
	t->address = must(shmat(t->other, NULL, 0));
	for (size_t i = 0; i < t->pages; i++)
		if (draw(3))
			fill_page(t, i);
	if (draw(2))
		must(shmctl(t->other, IPC_RMID, NULL));
}

static void end_segment(struct thing *t)
{
	must(munmap(t->address, t->pages * PAGE));
	if (shmctl(t->other, IPC_RMID, NULL) < 0) /* it may be gone */
		expect(t, errno == EINVAL || errno == EIDRM, "remove: %m");
}

static void make_semaphores(struct thing *t)
{
	t->other = must(semget(IPC_PRIVATE, SEMAPHORES, 0600));
	for (int i = 0; i < SEMAPHORES; i++) {
		t->seeds[i] = draw(32768);
		must(semctl(t->other, i, SETVAL, (int)t->seeds[i]));
	}
}

static void verify_semaphores(struct thing *t)
{
	for (int i = 0; i < SEMAPHORES; i++)
		expect(t, semctl(t->other, i, GETVAL) == (int)t->seeds[i], "semaphore %d is %d, not %d", i,
			semctl(t->other, i, GETVAL), (int)t->seeds[i]);
}

static void change_semaphores(struct thing *t)
{
	struct sembuf op = {draw(SEMAPHORES), 0, 0};

	op.sem_op = t->seeds[op.sem_num] > 16000 ? -(int)draw(300) : (int)draw(300);
	if (op.sem_op == 0)
		return;
	must(semop(t->other, &op, 1));
	t->seeds[op.sem_num] += op.sem_op;
}

static void end_semaphores(struct thing *t)
{
	must(semctl(t->other, 0, IPC_RMID));
}

struct ipc_message {
	long type;
	uint64_t data[MESSAGE / 8];
};

static void send_ipc_message(struct thing *t)
{
	struct ipc_message m = {.type = 1 + t->size % 5};
	size_t size = (t->size * 97 + t->seed % 8) % (MESSAGE / 8) * 8;

	cr_fill(m.data, size, t->seed + t->size);
	must(msgsnd(t->other, &m, size, IPC_NOWAIT));
	t->size++;
}

static void make_ipc_queue(struct thing *t)
{
	t->other = must(msgget(IPC_PRIVATE, 0600));
	for (int n = draw(12); n > 0; n--)
		send_ipc_message(t);
}

/* Messages count to size have been sent and are there. */
static void verify_ipc_queue(struct thing *t)
{
	struct msqid_ds ds;

	must(msgctl(t->other, IPC_STAT, &ds));
	expect(t, ds.msg_qnum == t->size - t->count, "%lu messages, not %lu", ds.msg_qnum,
		(unsigned long)(t->size - t->count));
	for (size_t i = t->count; i < t->size; i++) {
		struct ipc_message m;
		ssize_t n = msgrcv(t->other, &m, sizeof(m.data), i - t->count, MSG_COPY | IPC_NOWAIT);

		expect(t,
			n == (ssize_t)((i * 97 + t->seed % 8) % (MESSAGE / 8) * 8) &&
				m.type == 1 + (long)i % 5,
			"message %zu: %zd bytes, type %ld", i, n, m.type);
		expect(t, cr_differs(m.data, n, t->seed + i) < 0, "message %zu differs", i);
	}
}

static void change_ipc_queue(struct thing *t)
{
	struct ipc_message m;

	if (t->size - t->count < 12 && draw(2))
		return send_ipc_message(t);
	if (t->count == t->size)
		return;
	must(msgrcv(t->other, &m, sizeof(m.data), 0, IPC_NOWAIT));
	t->count++;
}

static void end_ipc_queue(struct thing *t)
{
	must(msgctl(t->other, IPC_RMID, NULL));
}

static void make_tcp(struct thing *t)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);
	int listener = must(socket(AF_INET, SOCK_STREAM, 0));

	must(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	must(listen(listener, 1));
	must(getsockname(listener, (struct sockaddr *)&a, &len));
	t->other = must(socket(AF_INET, SOCK_STREAM, 0));
	must(connect(t->other, (struct sockaddr *)&a, sizeof(a)));
	t->fd = must(accept(listener, NULL, NULL));
	close(listener);
	push(t, draw(QUEUE));
}

/* What was written comes in its own time, after a restore most of all. */
static void verify_tcp(struct thing *t)
{
	char bytes[QUEUE];
	int n = -1;

	for (int ms = 0; n != (int)t->size; ms++) {
		must(ioctl(t->fd, FIONREAD, &n));
		expect(t, ms < 20000 && n <= (int)t->size, "%d bytes wait, not %zu", n, t->size);
		if (n != (int)t->size)
			cr_msleep(1);
	}
	if (t->size > 0 && !t->inherited) {
		expect(t, recv(t->fd, bytes, sizeof(bytes), MSG_PEEK) == n, "recv: %m");
		expect(t, cr_differs(bytes, n, t->seed) < 0, "contents");
	}
}

static void make_fifo(struct thing *t)
{
	name_file(t, "/tmp");
	must(mkfifo(t->path, 0600));
	t->fd = must(open(t->path, O_RDWR));
	t->other = must(open(t->path, O_WRONLY));
	push(t, draw(QUEUE));
}

static void make_pty(struct thing *t)
{
	struct termios tio;

	t->other = must(posix_openpt(O_RDWR | O_NOCTTY));
	must(grantpt(t->other));
	must(unlockpt(t->other));
	t->fd = must(open(ptsname(t->other), O_RDWR | O_NOCTTY));
	must(tcgetattr(t->fd, &tio));
	cfmakeraw(&tio);
	must(tcsetattr(t->fd, TCSANOW, &tio));
	push(t, draw(1000));
}

/* What is written to the master comes to the slave by a worker of the kernel. */
static void verify_pty(struct thing *t)
{
	int n = -1;

	for (int ms = 0; n != (int)t->size; ms++) {
		must(ioctl(t->fd, FIONREAD, &n));
		expect(t, ms < 20000 && n <= (int)t->size, "%d bytes wait, not %zu", n, t->size);
		if (n != (int)t->size)
			cr_msleep(1);
	}
}

static void change_pty(struct thing *t)
{
	char bytes[QUEUE];
	size_t n = 0;

	verify_pty(t);
	while (n < t->size)
		n += must(read(t->fd, bytes + n, sizeof(bytes) - n));
	expect(t, cr_differs(bytes, n, t->seed) < 0, "contents");
	t->size = 0;
	t->seed = cr_mix(t->seed);
	push(t, draw(1000));
}

static void make_inotify(struct thing *t)
{
	name_file(t, "/tmp");
	must(mkdir(t->path, 0700));
	t->fd = must(inotify_init1(IN_NONBLOCK));
	t->count = must(inotify_add_watch(t->fd, t->path, IN_CREATE));
}

static void verify_inotify(struct thing *t)
{
	char buf[4096], name[100];
	struct inotify_event event;

	if (t->inherited)
		return;
	expect(t, read(t->fd, buf, sizeof(buf)) < 0 && errno == EAGAIN, "an event: %m");
	snprintf(name, sizeof(name), "%s/file", t->path);
	close(must(open(name, O_CREAT | O_WRONLY, 0600)));
	expect(t, read(t->fd, buf, sizeof(buf)) > 0, "no event: %m");
	memcpy(&event, buf, sizeof(event));
	expect(t, event.wd == (int)t->count && event.mask == IN_CREATE, "watch %d, not %lu", event.wd,
		t->count);
	must(unlink(name));
}

static void make_pidfd(struct thing *t)
{
	t->fd = must((int)syscall(SYS_pidfd_open, getpid(), 0));
	t->count = getpid();
}

static void verify_pidfd(struct thing *t)
{
	expect(t, t->count != (uint64_t)getpid() || syscall(SYS_pidfd_send_signal, t->fd, 0, NULL, 0) == 0,
		"%m");
}

static const struct kind kinds[] = {
	{"private memory", make_private, verify_memory, change_memory, end_memory, true},
	{"private memory", make_private, verify_memory, change_memory, end_memory, true},
	{"shared memory", make_shared, verify_memory, change_memory, end_memory, false},
	{"segment", make_segment, verify_memory, change_memory, end_segment, false},
	{"semaphores", make_semaphores, verify_semaphores, change_semaphores, end_semaphores, false},
	{"IPC messages", make_ipc_queue, verify_ipc_queue, change_ipc_queue, end_ipc_queue, false},
	{"memfd", make_memfd, verify_memory, change_memory, end_memory, false},
	{"file", make_file, verify_file, change_file, end_fd, false},
	{"locked file", make_flock, verify_file, change_file, end_fd, false},
	{"directory", make_directory, verify_directory, NULL, end_directory, false},
	{"pipe", make_pipe, verify_queue, change_queue, end_fd, false},
	{"socket pair", make_pair, verify_queue, change_queue, end_fd, false},
	{"messages", make_messages, verify_messages, change_messages, end_fd, false},
	{"UDP socket", make_udp, verify_messages, change_messages, end_fd, false},
	{"TCP listener", make_listener, verify_listener, NULL, end_fd, false},
	{"eventfd", make_eventfd, verify_eventfd, change_eventfd, end_fd, false},
	{"timerfd", make_timerfd, verify_timerfd, NULL, end_fd, false},
	{"signalfd", make_signalfd, verify_signalfd, NULL, end_fd, false},
	{"epoll", make_epoll, verify_epoll, NULL, end_fd, false},
	{"TCP connection", make_tcp, verify_tcp, NULL, end_fd, false},
	{"FIFO", make_fifo, verify_queue, change_queue, end_fd, false},
	{"pseudo terminal", make_pty, verify_pty, change_pty, end_fd, false},
	{"inotify", make_inotify, verify_inotify, NULL, end_directory, false},
	{"pidfd", make_pidfd, verify_pidfd, NULL, end_fd, false},
	{"thread", make_thread, verify_thread, NULL, NULL, false},
	{"sleeper", make_sleeper, verify_thread, NULL, NULL, false},
	{"memory sharer", make_sharer, verify_thread, NULL, NULL, false},
	{"time namespace", make_time_namespace, verify_time_namespace, NULL, NULL, false},
	{"pending signal", make_pending, verify_pending, NULL, NULL, false},
};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void make_thing(struct thing *t)
{
	memset(t, 0, sizeof(*t));
	t->kind = &kinds[draw(N_KINDS)];
	t->fd = t->other = -1;
	t->seed = cr_mix(random_state) | 1;
	t->kind->make(t);
}

/* Something is always in the middle of being changed when a checkpoint comes. */
static void take_a_turn(void)
{
	char name[32], text[32];

	turn++;
	for (size_t i = 0; i < n_things; i++)
		things[i].kind->verify(&things[i]);
	for (int i = 0; i < 8; i++) {
		struct thing *t = &things[draw(n_things)];

		if (t->inherited && !t->kind->is_private)
			continue;
		if (t->kind->end && !draw(6)) {
			t->kind->end(t);
			make_thing(t);
		} else if (t->kind->change) {
			t->kind->change(t);
		}
	}
	snprintf(name, sizeof(name), "/cr/count.%d", getpid());
	snprintf(text, sizeof(text), "%d", turn);
	if (turn % 4 == 0) {
		int fd = must(open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));

		must(pwrite(fd, text, strlen(text), 0));
		close(fd);
	}
}

static void set_attributes(void)
{
	struct rlimit limit;

	if (!draw(3))
		setsid();
	else if (!draw(3))
		setpgid(0, 0);
	umask(draw(0777));
	must(getrlimit(RLIMIT_CORE, &limit));
	limit.rlim_cur = draw(1000000);
	if (limit.rlim_cur <= limit.rlim_max)
		must(setrlimit(RLIMIT_CORE, &limit));
	if (!draw(3))
		must(setpriority(PRIO_PROCESS, 0, MIN(19, getpriority(PRIO_PROCESS, 0) + (int)draw(3))));
}

/* Nothing of it is inherited. */
static bool stays_behind(const struct kind *k)
{
	return k->make == make_thread || k->make == make_pending || k->make == make_sharer;
}

/* What the parent has now both have; only the descendants' own is changed from here. */
static void inherit(bool is_child)
{
	for (size_t i = 0; i < n_things; i++) {
		struct thing *t = &things[i];

		if (!t->kind->is_private && (is_child || !stays_behind(t->kind)))
			t->inherited = true;
	}
	if (is_child) {
		size_t kept = 0;

		/* Threads and pending signals are not inherited at all. */
		for (size_t i = 0; i < n_things; i++)
			if (!stays_behind(things[i].kind))
				things[kept++] = things[i];
		n_things = kept;
	}
}

static void live(int depth);

static void fork_children(int depth)
{
	int n = depth < 4 ? draw(4) : 0;

	for (int i = 0; i < n && n_processes_left > 0; i++) {
		int mine = 1 + draw(n_processes_left);
		pid_t pid = must(fork());

		if (pid == 0) {
			random_state = cr_mix(random_state + i + 1);
			n_processes_left = mine - 1;
			turn = 0;
			has_threads = false;
			inherit(true);
			live(depth + 1);
		}
		n_processes_left -= mine;
		inherit(false);
	}
	if (!draw(3)) {
		pid_t zombie = must(fork());

		if (zombie == 0)
			_exit(draw(100));
	}
}

static void live(int depth)
{
	size_t want = 1 + draw(n_things_wanted);

	set_attributes();
	for (size_t i = 0; i < want && n_things < MAX_THINGS; i++)
		make_thing(&things[n_things++]);
	fork_children(depth);
	for (size_t i = 0; i < want / 2 && n_things < MAX_THINGS; i++)
		make_thing(&things[n_things++]);
	do {
		take_a_turn();
		if (!draw(4))
			cr_msleep(draw(5));
	} while (access("/cr/stop", F_OK) != 0);
	take_a_turn();
	at_the_end = 1;
	/* Children that are still at work have their own end; init stays for all of them. */
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	if (depth == 0 && !cr_exists("result", 0, ""))
		cr_say("result", 0, "", "PASS");
	_exit(0);
}

int main(int argc, char **argv)
{
	sigset_t set;

	check(argc == 4, "random SEED PROCESSES THINGS");
	random_state = cr_mix(strtoull(argv[1], NULL, 0));
	n_processes_left = atoi(argv[2]) - 1;
	n_things_wanted = atoi(argv[3]);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 6);
	sigaddset(&set, SIGRTMIN + 5);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	live(0);
}
