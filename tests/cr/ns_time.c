/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN,SYS_TIME ids=1 */
/*
 * Time namespaces that processes have made: who made one stays outside of it, and its children do not. Their clocks are as far ahead of the
 * container's as they were, and what goes by them (timers, sleeps) ends at the same time of theirs. One that nobody has been in can
 * still be set, others cannot.
 */
#include "cr.h"

#include <pthread.h>
#include <sys/timerfd.h>

#define NS 1000000000ll
enum { MONOTONIC_AHEAD = 1000, BOOTTIME_AHEAD = 70000, INNER_AHEAD = 500, OWN_AHEAD = 333 };

struct shared {
	volatile int64_t monotonic, boottime; /* what the container's clocks show, again and again */
	volatile int orphan, own;
};
static struct shared *shared;

static void set_ahead(int monotonic, int boottime)
{
	char text[128];
	int fd = must(open("/proc/self/timens_offsets", O_RDWR)), n;
	long long m = 0, b = 0;

	must(read(fd, text, sizeof(text) - 1));
	check(sscanf(text, "monotonic %lld %*d boottime %lld", &m, &b) == 2, "offsets \"%s\"", text);
	close(fd);
	fd = must(open("/proc/self/timens_offsets", O_WRONLY));
	n = snprintf(text, sizeof(text), "monotonic %lld 0\nboottime %lld 0\n", m + monotonic, b + boottime);
	check(write(fd, text, n) == n, "set the clocks: %m");
	close(fd);
}

/* 0, or the errno. Sets them to what they are. */
static int try_to_set(void)
{
	char text[256];
	int fd, r;

	must(cr_read("/proc/self/timens_offsets", text, sizeof(text)));
	fd = must(open("/proc/self/timens_offsets", O_WRONLY));
	r = write(fd, text, strlen(text)) < 0 ? errno : 0;
	close(fd);
	return r;
}

static ino_t inode(const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	must(stat(path, &st));
	return st.st_ino;
}

static int64_t by_system_call(clockid_t clock)
{
	struct timespec t;

	must(syscall(SYS_clock_gettime, clock, &t));
	return t.tv_sec * NS + t.tv_nsec;
}

/* Offsets are whole seconds to us, and to the kernel they are not: by less than one. */
static void one_clock(const char *who, clockid_t clock, volatile int64_t *containers, int ahead)
{
	int64_t before = *containers, now = cr_now_ns(clock), then = by_system_call(clock), after;

	while ((after = *containers) < before + 2000000)
		cr_msleep(1);
	while (*containers < after + 2000000)
		cr_msleep(1);
	check(now >= before + (ahead - 1) * NS && then >= now && then <= *containers + (ahead + 1) * NS,
		"%s: clock %d shows %lld and %lld, the container's %lld to %lld", who, (int)clock,
		(long long)now, (long long)then, (long long)before, (long long)*containers);
}

static void clocks(const char *who, int monotonic, int boottime)
{
	one_clock(who, CLOCK_MONOTONIC, &shared->monotonic, monotonic);
	one_clock(who, CLOCK_BOOTTIME, &shared->boottime, boottime);
}

/* When it expires, by its clock: of some tries the one that nothing came between. */
static int64_t end_of(clockid_t clock, int timer, int fd)
{
	int64_t least = INT64_MAX;

	for (int i = 0; i < 20; i++) {
		struct itimerspec t;
		int64_t now;

		if (fd >= 0)
			must(timerfd_gettime(fd, &t));
		else
			must(syscall(SYS_timer_gettime, timer, &t));
		now = cr_now_ns(clock) + t.it_value.tv_sec * NS + t.it_value.tv_nsec;
		least = now < least ? now : least;
	}
	return least;
}

static volatile int64_t woken;

/* An absolute time of its own clock: it must have come when it wakes up, and not be long gone. */
static void *sleeper(void *arg CR_UNUSED)
{
	for (;;) {
		int64_t end = cr_now_ns(CLOCK_MONOTONIC) + 50000000, now;
		struct timespec t = {end / NS, end % NS};

		check(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0, "clock_nanosleep");
		now = cr_now_ns(CLOCK_MONOTONIC);
		check(now >= end && now < end + 300 * NS, "woken at %lld, not at %lld", (long long)now,
			(long long)end);
		woken++;
	}
	return NULL;
}

static int timer_at(clockid_t clock)
{
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	struct itimerspec at = {.it_value.tv_sec = cr_now_ns(clock) / NS + 5000};
	int id;

	must(syscall(SYS_timer_create, clock, &none, &id));
	must(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &at, NULL));
	return id;
}

static int timerfd_at(clockid_t clock, int flags)
{
	int fd = must(timerfd_create(clock, TFD_CLOEXEC));
	struct itimerspec at = {.it_value.tv_sec = (flags ? cr_now_ns(clock) / NS : 0) + 4000};

	must(timerfd_settime(fd, flags, &at, NULL));
	return fd;
}

static void inside(ino_t its)
{
	int monotonic = timer_at(CLOCK_MONOTONIC), boottime = timer_at(CLOCK_BOOTTIME),
	    absolute = timerfd_at(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME),
	    relative = timerfd_at(CLOCK_BOOTTIME, 0);
	int64_t ends[4] = {end_of(CLOCK_MONOTONIC, monotonic, -1), end_of(CLOCK_BOOTTIME, boottime, -1),
		end_of(CLOCK_MONOTONIC, 0, absolute), end_of(CLOCK_BOOTTIME, 0, relative)};
	ino_t outer = inode("time");
	pthread_t thread;
	pid_t inner;

	check(outer == its, "it is in another time namespace than its parent has made");
	must(unshare(CLONE_NEWTIME));
	set_ahead(INNER_AHEAD, 0);
	inner = cr_fork("inner");
	if (inner == 0) {
		while (cr_wait())
			clocks("inner", MONOTONIC_AHEAD + INNER_AHEAD, BOOTTIME_AHEAD);
		_exit(0);
	}
	check(pthread_create(&thread, NULL, sleeper, NULL) == 0, "pthread_create");
	while (cr_wait()) {
		int64_t now[4] = {end_of(CLOCK_MONOTONIC, monotonic, -1),
			end_of(CLOCK_BOOTTIME, boottime, -1), end_of(CLOCK_MONOTONIC, 0, absolute),
			end_of(CLOCK_BOOTTIME, 0, relative)},
			before;

		clocks("inside", MONOTONIC_AHEAD, BOOTTIME_AHEAD);
		for (int i = 0; i < 4; i++)
			check(llabs(now[i] - ends[i]) < 2000000, "timer %d has drifted by %lld ns", i,
				(long long)(now[i] - ends[i]));
		for (before = woken; woken < before + 2;)
			cr_msleep(1);
		check(inode("time") != inode("time_for_children"), "it is in what it made for its children");
	}
	_exit(0);
}

static ino_t inode_of(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_ino;
}

static void maker(void)
{
	pid_t before = cr_fork("before"), middle;
	int held, path, fd;

	if (before == 0) {
		while (cr_wait())
			clocks("before", 0, 0);
		_exit(0);
	}
	must(unshare(CLONE_NEWTIME));
	set_ahead(MONOTONIC_AHEAD, BOOTTIME_AHEAD);
	held = must(open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC));
	path = must(open("/proc/self/ns/time_for_children", O_PATH));
	if (cr_fork("inside") == 0)
		inside(inode_of(held));
	/* Adopted by init: it is in the namespace of one that is not above it. */
	middle = fork();
	if (middle == 0) {
		strcpy(cr_tag, ".orphan");
		if (fork() > 0)
			_exit(0);
		shared->orphan = 1;
		while (cr_wait())
			clocks("orphan", MONOTONIC_AHEAD, BOOTTIME_AHEAD);
		_exit(0);
	}
	must(waitpid(middle, NULL, 0));
	while (cr_wait()) {
		clocks("maker", 0, 0);
		check(inode("time") != inode("time_for_children"), "it is in what it made for its children");
		check(inode_of(held) == inode("time_for_children"), "what it holds open is another one");
		check((fcntl(path, F_GETFL) & O_PATH) && inode_of(path) == inode_of(held), "the path");
		check(try_to_set() == EACCES, "its clocks can be set again: %d", try_to_set());
		fd = must(open("/proc/self/ns/time", O_RDONLY));
		close(fd);
		if (fork() == 0) {
			clocks("a new child", MONOTONIC_AHEAD, BOOTTIME_AHEAD);
			_exit(0);
		}
		must(wait(&fd));
		check(fd == 0, "the new child: %d", fd);
	}
	_exit(0);
}

/* Nobody has been in it yet; and somebody has, but is gone. */
static void unused(bool fixed)
{
	int status;

	must(unshare(CLONE_NEWTIME));
	set_ahead(OWN_AHEAD, 0);
	if (fixed && fork() == 0)
		_exit(0);
	if (fixed)
		must(wait(NULL));
	while (cr_wait()) {
		check(try_to_set() == (fixed ? EACCES : 0), "to set the clocks gives %d", try_to_set());
		clocks("unused", 0, 0);
	}
	if (fork() == 0) {
		clocks("at last", OWN_AHEAD, 0);
		_exit(0);
	}
	must(wait(&status));
	check(status == 0, "the last child: %d", status);
	_exit(0);
}

/* One that belongs to a user namespace; who made both is gone. */
static void owned(void)
{
	pid_t middle = fork();

	if (middle == 0) {
		strcpy(cr_tag, ".owned");
		must(unshare(CLONE_NEWUSER | CLONE_NEWTIME));
		prctl(PR_SET_DUMPABLE, 1);
		set_ahead(OWN_AHEAD, 0);
		if (fork() > 0)
			_exit(0);
		shared->own = 1;
		while (cr_wait())
			clocks("owned", OWN_AHEAD, 0);
		_exit(0);
	}
	must(waitpid(middle, NULL, 0));
	while (!shared->own)
		cr_msleep(1);
}

int main(void)
{
	shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (fork() == 0) {
		for (;; cr_msleep(1)) {
			shared->monotonic = cr_now_ns(CLOCK_MONOTONIC);
			shared->boottime = cr_now_ns(CLOCK_BOOTTIME);
		}
	}
	if (cr_fork("maker") == 0)
		maker();
	if (cr_fork("unused") == 0)
		unused(false);
	if (cr_fork("fixed") == 0)
		unused(true);
	while (!shared->orphan)
		cr_msleep(1);
	cr_expect(".orphan");
	owned();
	cr_expect(".owned");
	/* Init itself, too: its next child is to be in another one. */
	must(unshare(CLONE_NEWTIME));
	set_ahead(-1, 0);
	while (cr_wait()) {
		clocks("init", 0, 0);
		check(try_to_set() == 0, "init cannot set the clocks of its children: %d", try_to_set());
	}
	return 0;
}
