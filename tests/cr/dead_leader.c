/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes whose first thread has ended while others run: it stays dead, the others go on with all that is the process's,
 * a signal waits that only the dead one would take, and the parent is told of the end of the last.
 */
#include "cr.h"

#include <pthread.h>
#include <sys/resource.h>

enum { FAMILIES = 5, STATUS = 7 };
static struct family {
	volatile pid_t pid;
	volatile int asked, answered, beats, end;
} * families;
static struct family *mine;
static int fd;
static char *memory;

static int stat_of(pid_t pid, char *state, int *threads)
{
	char path[64], text[1024];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cr_read(path, text, sizeof(text)) < 0)
		return -1;
	return sscanf(strrchr(text, ')') + 1,
		       " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", state,
		       threads) == 2
		       ? 0
		       : -1;
}

static void check_process(void)
{
	struct rlimit limit;
	char b[256], state = 0;
	int threads = 0;
	sigset_t set;

	check(stat_of(getpid(), &state, &threads) == 0 && state == 'Z' && threads == 3,
		"leader %c, %d threads", state, threads);
	check(getpid() == mine->pid && gettid() != getpid(), "ids");
	check(cr_differs(memory, 65536, 3) < 0, "memory");
	check(lseek(fd, 0, SEEK_CUR) == 3 && read(fd, b, 1) == 1 && lseek(fd, 3, SEEK_SET) == 3,
		"the file: %m");
	check(getcwd(b, sizeof(b)) && !strcmp(b, "/tmp"), "in %s", b);
	must(getrlimit(RLIMIT_CORE, &limit));
	check(limit.rlim_cur == 12345, "limit");
	must(sigpending(&set));
	check(sigismember(&set, SIGUSR1) && !sigismember(&set, SIGUSR2), "what waits has changed");
	must(kill(getpid(), SIGUSR2)); /* ignored: it does not wait, as the dead leader has not blocked it */
	must(sigpending(&set));
	check(!sigismember(&set, SIGUSR2), "an ignored signal waits");
}

static void *beat(void *arg CR_UNUSED)
{
	while (!mine->end) {
		mine->beats++;
		cr_msleep(1);
	}
	syscall(SYS_exit, STATUS);
	return NULL;
}

static void *answer(void *arg CR_UNUSED)
{
	pid_t leader = getpid();
	char state = 0;
	int threads;

	while (stat_of(leader, &state, &threads) < 0 || state != 'Z')
		cr_msleep(1);
	must(kill(leader, SIGUSR1));
	mine->pid = leader;
	while (!mine->end) {
		if (mine->asked) {
			mine->asked = 0;
			check_process();
			mine->answered = 1;
		}
		cr_msleep(1);
	}
	syscall(SYS_exit, STATUS);
	return NULL;
}

static void family(void)
{
	struct rlimit limit = {12345, 1 << 20};
	pthread_t t;
	sigset_t set, old;

	must(chdir("/tmp"));
	fd = must(open("/proc/self/exe", O_RDONLY));
	must(lseek(fd, 3, SEEK_SET));
	must(setrlimit(RLIMIT_CORE, &limit));
	memory = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	cr_fill(memory, 65536, 3);
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	check(pthread_create(&t, NULL, beat, NULL) == 0, "pthread_create");
	check(pthread_create(&t, NULL, answer, NULL) == 0, "pthread_create");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	prctl(PR_SET_NAME, "the dead one", 0, 0, 0);
	syscall(SYS_exit, 1);
}

int main(void)
{
	families = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	for (int i = 0; i < FAMILIES; i++) {
		mine = &families[i];
		if (must(fork()) == 0)
			family();
		while (!mine->pid)
			cr_msleep(1);
	}
	for (int next = 0; cr_wait(); next++) {
		int status = 0;

		for (int i = next; i < FAMILIES; i++) {
			int beats = families[i].beats;

			families[i].asked = 1;
			for (int ms = 0; !families[i].answered || families[i].beats == beats; ms++) {
				check(ms < 5000, "family %d stands still", i);
				check(kill(families[i].pid, 0) == 0, "family %d has died", i);
				cr_msleep(1);
			}
			families[i].answered = 0;
		}
		families[next].end = 1;
		check(waitpid(families[next].pid, &status, 0) == families[next].pid, "wait: %m");
		check(status == STATUS << 8, "it ended with %x", status);
	}
	return 0;
}
