/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_PTRACE,SYS_CHROOT ids=1 */
/*
 * Processes that share the memory of another one (clone(CLONE_VM)), with and without its handlers, descriptors and
 * directory: children, siblings (CLONE_PARENT), children of such ones, with threads, credentials, sessions, timers and waiting
 * signals of their own.
 */
#include "cr.h"

#include <linux/kcmp.h>
#include <sys/timerfd.h>

enum { STACK = 64 * 1024, MAX = 8 };
enum request {
	NOTHING,
	GET_UID,
	GET_FLAGS,
	GET_HANDLER,
	GET_PENDING,
	GET_SID,
	GET_PPID,
	GET_CWD,
	SET_HANDLER,
	GET_TIMER
};

/* One of them. It has no thread-local storage of its own: system calls only, without errno. */
struct member {
	volatile int ticks, thread_ticks, request, ready;
	volatile long argument, value;
	const char *name;
	int flags, alone; /* alone: with things of its own */
	struct member *child;
	pid_t pid;
	volatile int tid;
	int timer;
	char stack[STACK], thread_stack[STACK];
} __attribute__((aligned(16)));

static struct member members[MAX];
static char private_memory[4 << 20] __attribute__((aligned(4096)));

static long call(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = 0;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

static void rest(void)
{
	struct timespec t = {0, 1000000};

	call(SYS_nanosleep, (long)&t, 0, 0, 0);
}

struct action {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

static void one(int sig CR_UNUSED)
{
}

static void other(int sig CR_UNUSED)
{
}

static long answer(struct member *m)
{
	struct action a = {};
	struct itimerspec its;
	uint64_t set = 0;
	struct stat st;

	switch (m->request) {
	case GET_UID:
		return call(SYS_getuid, 0, 0, 0, 0);
	case GET_FLAGS:
		return call(SYS_fcntl, m->argument, F_GETFD, 0, 0);
	case GET_HANDLER:
		call(SYS_rt_sigaction, m->argument, 0, (long)&a, 8);
		return (long)a.handler;
	case SET_HANDLER:
		a.handler = (void (*)(int))m->argument;
		return call(SYS_rt_sigaction, SIGUSR1, (long)&a, 0, 8);
	case GET_PENDING:
		call(SYS_rt_sigpending, (long)&set, 8, 0, 0);
		return (long)set;
	case GET_SID:
		return call(SYS_getsid, 0, 0, 0, 0);
	case GET_PPID:
		return call(SYS_getppid, 0, 0, 0, 0);
	case GET_CWD:
		call(SYS_stat, (long)".", (long)&st, 0, 0);
		return (long)st.st_ino;
	case GET_TIMER:
		call(SYS_timer_gettime, m->timer, (long)&its, 0, 0);
		return its.it_value.tv_sec;
	default:
		return 0;
	}
}

static int run_thread(void *arg)
{
	struct member *m = arg;

	m->tid = (int)call(SYS_gettid, 0, 0, 0, 0);
	for (;;) {
		m->thread_ticks++;
		rest();
	}
	return 0;
}

static int run(void *arg);

static pid_t make(struct member *m)
{
	return m->pid = clone(run, m->stack + STACK, m->flags, m);
}

/* Things of its own: name, ids, directory, umask, session, blocked and waiting signals, a timer. */
static void be_alone(struct member *m)
{
	uint64_t blocked = 1ull << (SIGUSR2 - 1);
	struct itimerspec its = {.it_value.tv_sec = 5000};
	struct sigevent none = {.sigev_notify = SIGEV_NONE};

	call(SYS_prctl, PR_SET_NAME, (long)m->name, 0, 0);
	call(SYS_chdir, (long)"/tmp", 0, 0, 0);
	call(SYS_umask, 031, 0, 0, 0);
	call(SYS_setsid, 0, 0, 0, 0);
	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&blocked, 0, 8);
	call(SYS_kill, call(SYS_getpid, 0, 0, 0, 0), SIGUSR2, 0, 0);
	call(SYS_timer_create, CLOCK_MONOTONIC, (long)&none, (long)&m->timer, 0);
	call(SYS_timer_settime, m->timer, 0, (long)&its, 0);
	call(SYS_setresuid, 7, 7, 7, 0);
	call(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0); /* which is the memory's */
}

static int run(void *arg)
{
	struct member *m = arg;

	if (m->alone)
		be_alone(m);
	if (m->alone)
		clone(run_thread, m->thread_stack + STACK,
			CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, m);
	if (m->child)
		make(m->child);
	m->ready = 1;
	for (;;) {
		m->ticks++;
		if (m->request) {
			m->value = answer(m);
			m->request = NOTHING;
		}
		rest();
	}
	return 0;
}

static long ask(struct member *m, int request, long argument)
{
	m->argument = argument;
	m->request = request;
	while (m->request)
		cr_msleep(1);
	return m->value;
}

static bool same(pid_t a, pid_t b, int type)
{
	return must(syscall(SYS_kcmp, a, b, type, 0, 0)) == 0;
}

static void progress(struct member *m)
{
	int ticks = m->ticks, thread = m->thread_ticks;

	while (m->ticks == ticks || (m->alone && m->thread_ticks == thread))
		cr_msleep(1);
}

static void sharing(struct member *m, pid_t with)
{
	int fd = must(open("/dev/null", O_RDONLY | O_CLOEXEC));

	check(same(m->pid, with, KCMP_VM), "%s: memory", m->name);
	check(same(m->pid, with, KCMP_FILES) == !!(m->flags & CLONE_FILES), "%s: descriptors", m->name);
	check(same(m->pid, with, KCMP_FS) == !!(m->flags & CLONE_FS), "%s: directory", m->name);
	check(same(m->pid, with, KCMP_SIGHAND) == !!(m->flags & CLONE_SIGHAND), "%s: handlers", m->name);
	if (with == getpid())
		check((ask(m, GET_FLAGS, fd) == FD_CLOEXEC) == !!(m->flags & CLONE_FILES),
			"%s: a new descriptor", m->name);
	close(fd);
}

static void expect(struct member *m, const char *what, int request, long argument, long value)
{
	long got = ask(m, request, argument);

	check(got == value, "%s: %s is %ld, not %ld", m->name, what, got, value);
}

static void what_is_its_own(struct member *m, pid_t parent, int held)
{
	char path[64], text[4096];
	struct stat tmp;

	must(stat("/tmp", &tmp));
	expect(m, "uid", GET_UID, 0, 7);
	expect(m, "session", GET_SID, 0, m->pid);
	expect(m, "parent", GET_PPID, 0, parent);
	expect(m, "directory", GET_CWD, 0, (long)tmp.st_ino);
	expect(m, "what it holds", GET_FLAGS, held, 0);
	expect(m, "what waits", GET_PENDING, 0, 1l << (SIGUSR2 - 1));
	check(ask(m, GET_TIMER, 0) > 4000 && m->value < 5000, "%s: its timer has %ld s", m->name, m->value);
	snprintf(path, sizeof(path), "/proc/%d/status", m->pid);
	must(cr_read(path, text, sizeof(text)));
	check(strstr(text, m->name) && strstr(text, "Umask:\t0031"), "%s: its name or umask: %s", m->name,
		text);
	snprintf(path, sizeof(path), "/proc/%d/task/%d", m->pid, m->tid);
	check(access(path, F_OK) == 0, "%s: its thread %d", m->name, m->tid);
}

static void one_round(int held, int n)
{
	struct member *alone = &members[0], *all = &members[1], *sibling = &members[2],
		      *grandchild = &members[3];

	memset(private_memory, n, sizeof(private_memory));
	for (int i = 0; i < 4; i++)
		progress(&members[i]);
	for (int i = 0; i < 3; i++)
		sharing(&members[i], getpid());
	sharing(grandchild, alone->pid);
	what_is_its_own(alone, getpid(), held);
	what_is_its_own(grandchild, alone->pid, held);
	expect(all, "uid", GET_UID, 0, 0);
	expect(all, "parent", GET_PPID, 0, getpid());
	expect(sibling, "parent", GET_PPID, 0, getppid());
	/* A handler that this process sets is that of who shares its handlers. */
	signal(SIGUSR1, n % 2 ? one : other);
	expect(all, "the handler", GET_HANDLER, SIGUSR1, (long)(n % 2 ? one : other));
	expect(alone, "the handler", GET_HANDLER, SIGUSR1, (long)one);
	signal(SIGUSR1, SIG_IGN);
	expect(all, "the handler", GET_HANDLER, SIGUSR1, (long)SIG_IGN);
}

static void owner(void)
{
	int held, status, n = 0;

	signal(SIGUSR1, one);
	held = must(dup(2));
	members[0] = (struct member){
		.name = "alone", .flags = CLONE_VM | SIGCHLD, .alone = 1, .child = &members[3]};
	members[1] = (struct member){
		.name = "all", .flags = CLONE_VM | CLONE_SIGHAND | CLONE_FILES | CLONE_FS | SIGUSR2};
	members[2] =
		(struct member){.name = "sibling", .flags = CLONE_VM | CLONE_FS | CLONE_PARENT | SIGCHLD};
	members[3] =
		(struct member){.name = "grandchild", .flags = CLONE_VM | CLONE_FILES | SIGCHLD, .alone = 1};
	for (int i = 0; i < 3; i++)
		must(make(&members[i]));
	for (int i = 0; i < 4; i++)
		while (!members[i].ready)
			cr_msleep(1);
	must(fcntl(held, F_SETFD, 0));
	signal(SIGUSR1, SIG_DFL);
	ask(&members[0], SET_HANDLER, (long)one);
	while (cr_wait())
		one_round(held, ++n);
	/* Its children are, and end as they were to; the sibling is its parent's. */
	for (int i = 0; i < 2; i++) {
		must(kill(members[i].pid, SIGKILL));
		check(must(waitpid(members[i].pid, &status, __WALL)) == members[i].pid &&
				WTERMSIG(status) == SIGKILL,
			"the end of %s: %x", members[i].name, status);
	}
	must(kill(members[3].pid, SIGKILL));
	must(kill(members[2].pid, SIGKILL));
	_exit(0);
}

int main(void)
{
	pid_t pid = cr_fork("owner");

	if (pid == 0) {
		signal(SIGUSR2, SIG_IGN);
		owner();
	}
	while (cr_wait())
		;
	while (waitpid(-1, NULL, __WALL) > 0)
		;
	return 0;
}
