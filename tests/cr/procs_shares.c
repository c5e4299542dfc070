/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share a descriptor table, or working directory, root and umask (clone(2) with CLONE_FILES, CLONE_FS): with a
 * child, a grandchild, a sibling whose parent has them for itself again. And children that end with another signal than SIGCHLD.
 */
#include "cr.h"

enum { WITH_MAIN, GRANDCHILD, BESIDE, BESIDE_TOO, PARENT, FS_ONLY, BOTH, BOTH_CHILD, ALONE, PROCESSES };
enum { NOTHING, OPEN, CLOSE, LOOK, CHDIR };
enum { MAIN = -1, SPARES = 6 };
static struct shared {
	volatile pid_t pid;
	volatile int order, fd, result;
	volatile mode_t mask;
	char directory[64];
} * shared; /* of each process */
static pid_t spares[SPARES], dead;

static pid_t clone_as_fork(unsigned flags)
{
	pid_t pid = syscall(SYS_clone, flags, 0, 0, 0, 0);

	check(pid >= 0, "clone %x: %m", flags);
	return pid;
}

static void obey(struct shared *s)
{
	if (s->order == OPEN)
		s->result = s->fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	else if (s->order == CLOSE)
		s->result = close(s->fd);
	else if (s->order == CHDIR)
		s->result = umask(s->mask) == (mode_t)-1 ? -1 : chdir(s->directory);
	else if (s->order == LOOK) {
		check(getcwd(s->directory, sizeof(s->directory)), "getcwd: %m");
		s->mask = umask(0);
		umask(s->mask);
		s->result = fcntl(s->fd, F_GETFD);
	}
	__sync_synchronize();
	s->order = NOTHING;
}

static void serve(int n)
{
	shared[n].pid = getpid();
	for (;; cr_msleep(1))
		if (shared[n].order)
			obey(&shared[n]);
}

static int order(int n, int what)
{
	struct shared own, *s = n == MAIN ? &own : &shared[n];

	s->order = what;
	if (n == MAIN)
		obey(s);
	for (int ms = 0; s->order; ms++) {
		check(ms < 10000, "process %d stands still", n);
		cr_msleep(1);
	}
	return s->result;
}

static void wait_until_there(int n)
{
	while (!shared[n].pid)
		cr_msleep(1);
}

/* A process with a child; both flags may be 0. */
static void family(unsigned flags, int n, unsigned child_flags, int child, unsigned unshared)
{
	if (clone_as_fork(flags | SIGCHLD) == 0) {
		if (clone_as_fork(child_flags | SIGCHLD) == 0)
			serve(child);
		if (unshared == CLONE_VFORK) /* two children, then for itself */
			if (clone_as_fork(child_flags | SIGCHLD) == 0)
				serve(child + 1);
		if (unshared)
			must(unshare(CLONE_FILES | CLONE_FS));
		serve(n);
	}
	wait_until_there(n);
	wait_until_there(child);
}

/* What n opens those of the list see, and nobody else. */
static void check_files(int n, const int *with, size_t n_with)
{
	int fd;

	if (n == MAIN)
		fd = must(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	else
		fd = order(n, OPEN), fd = shared[n].fd;
	check(fd >= 0, "open: %m");
	for (int i = 0; i < PROCESSES; i++) {
		bool shares = i == n;

		for (size_t k = 0; k < n_with; k++)
			shares |= with[k] == i;
		shared[i].fd = fd;
		check((order(i, LOOK) >= 0) == shares, "what %d opens, %d %s", n, i,
			shares ? "has not" : "has");
	}
	if (n == MAIN)
		close(fd);
	else
		must(order(n, CLOSE));
}

static void check_fs(int n, const char *directory, mode_t mask, const int *with, size_t n_with)
{
	char b[256];

	snprintf(shared[n].directory, sizeof(shared[n].directory), "%s", directory);
	shared[n].mask = mask;
	must(order(n, CHDIR));
	for (int i = 0; i < PROCESSES; i++) {
		bool shares = i == n;

		for (size_t k = 0; k < n_with; k++)
			shares |= with[k] == i;
		order(i, LOOK);
		check((!strcmp(shared[i].directory, directory)) == shares &&
				(shared[i].mask == mask) == shares,
			"where %d goes (%s, %o), %d %s: %s, %o", n, directory, mask, i,
			shares ? "is not" : "is", shared[i].directory, shared[i].mask);
	}
	for (size_t k = 0; k < n_with; k++)
		if (with[k] == MAIN)
			check(getcwd(b, sizeof(b)) && !strcmp(b, directory), "main is in %s", b);
}

static void check_exit_signals(int round)
{
	struct timespec none = {}, second = {5};
	siginfo_t info;
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	check(sigtimedwait(&set, NULL, &none) < 0, "the dead child has said so once more");
	must(kill(spares[round], SIGKILL));
	check(sigtimedwait(&set, &info, &second) == SIGUSR1 && info.si_pid == spares[round],
		"no SIGUSR1: %m");
	check(waitpid(spares[round], &status, 0) < 0 && errno == ECHILD, "it is one for everybody");
	check(waitpid(spares[round], &status, __WALL) == spares[round], "wait: %m");
}

static void make_spares(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < SPARES; i++) {
		spares[i] = clone_as_fork(SIGUSR1);
		if (spares[i] == 0)
			for (;;)
				pause();
	}
	dead = clone_as_fork(SIGUSR1);
	if (dead == 0)
		_exit(3);
	check(sigwaitinfo(&set, NULL) == SIGUSR1, "sigwaitinfo: %m");
	if (clone_as_fork(0) == 0) /* tells nobody when it ends */
		for (;;)
			pause();
}

int main(void)
{
	enum { FILES = CLONE_FILES, FS = CLONE_FS };
	char b[32];

	shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	must(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	family(FILES, WITH_MAIN, FILES, GRANDCHILD, 0);
	family(0, PARENT, FILES | FS, BESIDE, CLONE_VFORK);
	wait_until_there(BESIDE_TOO);
	family(FS, FS_ONLY, 0, ALONE, 0);
	family(0, BOTH, FILES | FS, BOTH_CHILD, 0);
	make_spares();
	for (int round = 0; cr_wait(); round++) {
		check_files(MAIN, (int[]){WITH_MAIN, GRANDCHILD}, 2);
		check_files(GRANDCHILD, (int[]){WITH_MAIN}, 1);
		check_files(BESIDE, (int[]){BESIDE_TOO}, 1);
		check_files(PARENT, NULL, 0);
		check_files(BOTH, (int[]){BOTH_CHILD}, 1);
		check_files(ALONE, NULL, 0);
		snprintf(b, sizeof(b), "/tmp/%d", round);
		must(mkdir(b, 0700));
		check_fs(FS_ONLY, b, 011, (int[]){MAIN}, 1);
		must(chdir("/"));
		check_fs(BESIDE_TOO, b, 013, (int[]){BESIDE}, 1);
		check_fs(BOTH_CHILD, "/proc", 012, (int[]){BOTH}, 1);
		check_fs(BESIDE, "/tmp", 010, (int[]){BESIDE_TOO}, 1);
		check_fs(BOTH, "/dev", 014, (int[]){BOTH_CHILD}, 1);
		check_exit_signals(round);
	}
	return 0;
}
