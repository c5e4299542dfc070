// SPDX-License-Identifier: Apache-2.0
/*
 * work tick | mem MIB | memhuge MIB | memwrite MIB | membusy MIB | procs N | threads N | fds N | redis KEYS: the programs that are checkpointed.
 *
 * Each writes a growing counter into /tmp/n every millisecond (progress, seen from outside) and checks a part
 * of its state at every tick. SIGUSR1 makes it check all of it and leave "ok" or "bad" in /tmp/v: so a
 * runtime that is fast because it loses something is found out. Memory is filled with pseudo-random words
 * that no compression shortens.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	WORDS = PAGE / 8,
	KID_PAGES = 64, /* memory of each process of `procs` */
	THREAD_STACK = 64 << 10,
};

struct workload {
	const char *name;
	void (*setup)(long n);
	bool (*tick)(uint64_t counter); /* a small part of the check, every millisecond; may be NULL */
	bool (*verify)(void);		/* all of it; may be NULL */
};

static volatile sig_atomic_t wanted;

static void on_usr1(int sig)
{
	(void)sig;
	wanted = 1;
}

static _Noreturn void die(const char *what)
{
	perror(what);
	_exit(9);
}

/* pages of pseudo-random words, told apart by a seed */

static uint64_t next(uint64_t x)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

static uint64_t first(uint64_t seed)
{
	return seed * 0x9E3779B97F4A7C15ull + 0x1234567;
}

static void page_fill(uint64_t *p, uint64_t seed)
{
	uint64_t x = first(seed);

	for (int i = 0; i < WORDS; i++)
		p[i] = x = next(x);
}

static bool page_ok(const uint64_t *p, uint64_t seed)
{
	uint64_t x = first(seed), diff = 0;

	for (int i = 0; i < WORDS; i++) {
		x = next(x);
		diff |= p[i] ^ x;
	}
	return diff == 0;
}

static void *map(size_t size, int flags)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* mem: private anonymous memory */

static uint64_t *mem;
static uint64_t mem_pages;

static void mem_setup(long mib)
{
	mem_pages = (uint64_t)mib << 8;
	mem = map(mem_pages * PAGE, MAP_PRIVATE);
	for (uint64_t i = 0; i < mem_pages; i++)
		page_fill(mem + WORDS * i, i);
}

/* in huge pages */
static void memhuge_setup(long mib)
{
	enum { HUGE = 2 << 20 };
	char *p = map(((size_t)mib << 20) + HUGE, MAP_PRIVATE);

	mem_pages = (uint64_t)mib << 8;
	mem = (uint64_t *)(p + (-(uintptr_t)p & (HUGE - 1)));
	if (madvise(mem, mem_pages * PAGE, MADV_HUGEPAGE) < 0)
		die("madvise");
	for (uint64_t i = 0; i < mem_pages; i++)
		page_fill(mem + WORDS * i, i);
}

static bool mem_tick(uint64_t counter)
{
	uint64_t i = next(first(counter)) % mem_pages;

	return page_ok(mem + WORDS * i, i);
}

static bool mem_verify(void)
{
	for (uint64_t i = 0; i < mem_pages; i++)
		if (!page_ok(mem + WORDS * i, i))
			return false;
	return true;
}

/* memwrite: the same, and 50 MB/s are written to it, one page after the other; each knows how often it was */

enum { WRITTEN_PAGES = 13 /* a millisecond */ };

static uint32_t *versions;
static uint64_t next_written;

static uint64_t version_seed(uint64_t i)
{
	return i | (uint64_t)versions[i] << 32;
}

static void memwrite_setup(long mib)
{
	mem_setup(mib);
	versions = map(mem_pages * sizeof(*versions), MAP_PRIVATE);
}

static bool memwrite_tick(uint64_t counter)
{
	uint64_t i = next(first(counter)) % mem_pages;

	for (int k = 0; k < WRITTEN_PAGES; k++, next_written++) {
		uint64_t p = next_written % mem_pages;

		versions[p]++;
		page_fill(mem + WORDS * p, version_seed(p));
	}
	return page_ok(mem + WORDS * i, version_seed(i));
}

static bool memwrite_verify(void)
{
	for (uint64_t i = 0; i < mem_pages; i++)
		if (!page_ok(mem + WORDS * i, version_seed(i)))
			return false;
	return true;
}

/* membusy: the same, written as fast as one CPU can by a thread; how many pages, and in what CPU time, is in /tmp/w */

static void *busy_thread(void *arg)
{
	int fd = open("/tmp/w", O_WRONLY | O_CREAT | O_TRUNC, 0644);

	(void)arg;
	for (uint64_t i = 0;; i++) {
		uint64_t p = i % mem_pages;
		struct timespec t;
		char text[128];
		int len;

		page_fill(mem + WORDS * p, p);
		if (i % 1024)
			continue;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
		len = snprintf(text, sizeof(text), "%020llu %020llu %020llu.", (unsigned long long)i,
			(unsigned long long)t.tv_sec * 1000000000 + t.tv_nsec, (unsigned long long)i);
		if (fd < 0 || pwrite(fd, text, len, 0) != len)
			die("/tmp/w");
	}
	return NULL;
}

static void membusy_setup(long mib)
{
	pthread_t t;

	mem_setup(mib);
	errno = pthread_create(&t, NULL, busy_thread, NULL);
	if (errno)
		die("pthread_create");
}

/* procs, threads: each beats ten times a second in shared memory and checks what is its own */

struct beat {
	volatile uint64_t beats;
	volatile uint64_t faults;
};

static struct beat *kids;
static long n_kids;

static _Noreturn void kid_process(long i)
{
	uint64_t *m = map(KID_PAGES * PAGE, MAP_PRIVATE);

	for (int k = 0; k < KID_PAGES; k++)
		page_fill(m + WORDS * k, i * KID_PAGES + k);
	for (int k = 0;; k = (k + 1) % KID_PAGES) {
		kids[i].beats++;
		usleep(100000);
		if (!page_ok(m + WORDS * k, i * KID_PAGES + k))
			kids[i].faults++;
	}
}

static void *kid_thread(void *arg)
{
	long i = (long)arg;
	volatile uint64_t own[64];

	for (int k = 0; k < 64; k++)
		own[k] = i * 64 + k;
	for (;;) {
		kids[i].beats++;
		usleep(100000);
		for (int k = 0; k < 64; k++)
			if (own[k] != (uint64_t)(i * 64 + k))
				kids[i].faults++;
	}
	return NULL;
}

static void kids_map(long n)
{
	n_kids = n - 1; /* the main process or thread is one of the n */
	kids = map((n * sizeof(*kids) + PAGE - 1) & -PAGE, MAP_SHARED);
}

static void kids_wait(void)
{
	for (long i = 0; i < n_kids; i++)
		while (!kids[i].beats)
			usleep(1000);
}

static void procs_setup(long n)
{
	kids_map(n);
	for (long i = 0; i < n_kids; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			kid_process(i);
	}
	kids_wait();
}

static void threads_setup(long n)
{
	pthread_attr_t attr;

	kids_map(n);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	for (long i = 0; i < n_kids; i++) {
		pthread_t t;

		errno = pthread_create(&t, &attr, kid_thread, (void *)i);
		if (errno)
			die("pthread_create");
	}
	kids_wait();
}

/* all beat on, none has found a fault */
static bool kids_verify(void)
{
	uint64_t *seen = calloc(n_kids + 1, sizeof(*seen));
	bool ok = seen;

	for (long i = 0; ok && i < n_kids; i++)
		seen[i] = kids[i].beats;
	usleep(600000);
	for (long i = 0; ok && i < n_kids; i++)
		ok = kids[i].beats != seen[i] && !kids[i].faults;
	free(seen);
	return ok;
}

/* fds: in groups of two, a quarter each of pipes, eventfds, unix stream pairs, and files; all with contents
 */

enum fd_kind { FD_PIPE, FD_EVENT, FD_SOCKETPAIR, FD_FILE, FD_KINDS };

static int *fds;
static long n_fds;

static enum fd_kind fd_kind(long i)
{
	return i / 2 % FD_KINDS;
}

static bool put8(int fd, uint64_t v)
{
	return write(fd, &v, sizeof(v)) == sizeof(v);
}

static int file_new(long i)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/f/%ld", i);
	fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0644);
	if (fd < 0 || !put8(fd, i))
		die(path);
	return fd;
}

static void fds_setup(long n)
{
	n_fds = n & ~1L;
	fds = calloc(n_fds, sizeof(*fds));
	if (!fds || (mkdir("/tmp/f", 0755) < 0 && errno != EEXIST))
		die("/tmp/f");
	for (long i = 0; i < n_fds; i += 2) {
		char c = i & 0x7f;

		switch (fd_kind(i)) {
		case FD_PIPE:
		case FD_SOCKETPAIR:
			if (fd_kind(i) == FD_PIPE ? pipe(fds + i)
						  : socketpair(AF_UNIX, SOCK_STREAM, 0, fds + i))
				die("pair");
			if (write(fds[i + 1], &c, 1) != 1)
				die("write");
			break;
		case FD_EVENT:
			for (long k = i; k < i + 2; k++) {
				fds[k] = eventfd(0, EFD_NONBLOCK);
				if (fds[k] < 0 || !put8(fds[k], k + 1))
					die("eventfd");
			}
			break;
		default:
			fds[i] = file_new(i);
			fds[i + 1] = file_new(i + 1);
		}
	}
}

static bool pair_ok(long i)
{
	char want = i & 0x7f, c = 0;

	return read(fds[i], &c, 1) == 1 && c == want && write(fds[i + 1], &want, 1) == 1;
}

static bool eventfd_ok(long i)
{
	uint64_t v = 0;

	return read(fds[i], &v, sizeof(v)) == sizeof(v) && v == (uint64_t)i + 1 && put8(fds[i], v);
}

static bool file_ok(long i)
{
	uint64_t v = 0;

	return pread(fds[i], &v, sizeof(v), 0) == sizeof(v) && v == (uint64_t)i &&
	       lseek(fds[i], 0, SEEK_CUR) == sizeof(v);
}

/* what is read is written back, so that it can be checked again */
static bool fds_verify(void)
{
	for (long i = 0; i < n_fds; i += 2) {
		bool ok;

		if (fd_kind(i) == FD_PIPE || fd_kind(i) == FD_SOCKETPAIR)
			ok = pair_ok(i);
		else if (fd_kind(i) == FD_EVENT)
			ok = eventfd_ok(i) && eventfd_ok(i + 1);
		else
			ok = file_ok(i) && file_ok(i + 1);
		if (!ok)
			return false;
	}
	return true;
}

/* redis: a server filled with keys, and this process as its client over a unix socket */

static int redis_fd = -1;
static long redis_keys;

static bool redis_command(const char *cmd, char *answer, size_t size)
{
	size_t len = strlen(cmd), got = 0;

	if (write(redis_fd, cmd, len) != (ssize_t)len)
		return false;
	do {
		ssize_t r = read(redis_fd, answer + got, size - 1 - got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		got += r;
		answer[got] = 0;
	} while (!memchr(answer, '\n', got));
	return true;
}

static void redis_setup(long keys)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/data/r.sock"};
	char cmd[64], answer[256];

	redis_keys = keys;
	if (fork() == 0) {
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", a.sun_path, "--save",
			"", "--appendonly", "no", "--enable-debug-command", "yes", "--dir", "/data",
			"--daemonize", "no", (char *)NULL);
		die("redis-server");
	}
	redis_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	for (int i = 0; connect(redis_fd, (struct sockaddr *)&a, sizeof(a)); i++) {
		if (i > 2000)
			die(a.sun_path);
		usleep(5000);
	}
	snprintf(cmd, sizeof(cmd), "DEBUG POPULATE %ld key 100\r\n", keys);
	if (!redis_command(cmd, answer, sizeof(answer)) || answer[0] != '+')
		die("DEBUG POPULATE");
}

/* the server's counter must be the client's: no write is lost and none is done twice */
static bool redis_tick(uint64_t counter)
{
	char answer[256];

	return redis_command("INCR n\r\n", answer, sizeof(answer)) && answer[0] == ':' &&
	       strtoull(answer + 1, NULL, 10) == counter;
}

static bool redis_verify(void)
{
	char answer[256];

	return redis_command("DBSIZE\r\n", answer, sizeof(answer)) &&
	       strtol(answer + 1, NULL, 10) == redis_keys + 1;
}

static const struct workload workloads[] = {
	{"tick", NULL, NULL, NULL},
	{"mem", mem_setup, mem_tick, mem_verify},
	{"memhuge", memhuge_setup, mem_tick, mem_verify},
	{"memwrite", memwrite_setup, memwrite_tick, memwrite_verify},
	{"membusy", membusy_setup, NULL, mem_verify},
	{"procs", procs_setup, NULL, kids_verify},
	{"threads", threads_setup, NULL, kids_verify},
	{"fds", fds_setup, NULL, fds_verify},
	{"redis", redis_setup, redis_tick, redis_verify},
};

static void verdict(bool ok)
{
	FILE *f = fopen("/tmp/v.t", "w");

	if (!f || fputs(ok ? "ok\n" : "bad\n", f) < 0 || fclose(f) || rename("/tmp/v.t", "/tmp/v"))
		die("/tmp/v");
}

static _Noreturn void tick(const struct workload *w)
{
	int fd = open("/tmp/n", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	bool ok = fd >= 0;

	for (uint64_t counter = 1;; counter++) {
		char buf[32];
		int len = snprintf(buf, sizeof(buf), "%llu\n", (unsigned long long)counter);

		if (w->tick && !w->tick(counter))
			ok = false;
		if (pwrite(fd, buf, len, 0) != len)
			ok = false;
		if (wanted) {
			wanted = 0;
			verdict(ok && (!w->verify || w->verify()));
		}
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "tick";
	long n = argc > 2 ? strtol(argv[2], NULL, 10) : 0;

	signal(SIGUSR1, on_usr1);
	for (size_t i = 0; i < sizeof(workloads) / sizeof(*workloads); i++) {
		const struct workload *w = &workloads[i];

		if (strcmp(w->name, name))
			continue;
		if (w->setup)
			w->setup(n);
		tick(w);
	}
	fprintf(stderr, "work: unknown workload '%s'\n", name);
	return 2;
}
