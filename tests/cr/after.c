/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a restored process does next is as ordinary as before: threads, fork, exec (of itself), vfork, new mappings, signals,
 * timers, files, a session, a core limit, wait; and pids count on, so that none that was just used comes again.
 */
#include "cr.h"

#include <pthread.h>
#include <spawn.h>

extern char **environ;

static void *quick(void *arg)
{
	static __thread int local = 7;

	return (void *)(intptr_t)(local + (int)(intptr_t)arg);
}

static void wait_for(pid_t pid, int expected, const char *what)
{
	int status;

	check(waitpid(pid, &status, 0) == pid, "%s: %m", what);
	check(WIFEXITED(status) && WEXITSTATUS(status) == expected, "%s: status %x", what, status);
}

int main(int argc, char **argv)
{
	char *const again[] = {"after", "exec", NULL};
	pthread_t threads[5];
	pid_t pid;
	void *r;

	if (argc == 2 && !strcmp(argv[1], "exec")) {
		char *p = malloc(1 << 20);

		memset(p, 1, 1 << 20);
		check(pthread_create(&threads[0], NULL, quick, NULL) == 0 &&
				pthread_join(threads[0], &r) == 0,
			"thread after exec");
		_exit(p[1000] == 1 ? 42 : 1);
	}
	while (cr_wait()) {
		struct timespec t = {0, 3000000}, before, now;

		for (int i = 0; i < 5; i++)
			check(pthread_create(&threads[i], NULL, quick, (void *)(intptr_t)i) == 0,
				"pthread_create: %m");
		for (int i = 0; i < 5; i++)
			check(pthread_join(threads[i], &r) == 0 && (intptr_t)r == 7 + i, "pthread_join");
		pid = must(fork());
		if (pid == 0) {
			execve("/proc/self/exe", again, environ);
			_exit(1);
		}
		wait_for(pid, 42, "fork and exec");
		check(posix_spawn(&pid, "/bin/after", NULL, NULL, again, environ) == 0, "posix_spawn");
		wait_for(pid, 42, "posix_spawn");
		pid = must(fork());
		if (pid == 0) {
			check(setsid() == getpid(), "setsid: %m");
			raise(SIGSTOP);
			_exit(9);
		}
		check(waitpid(pid, NULL, WUNTRACED) == pid && kill(pid, SIGCONT) == 0, "stop: %m");
		wait_for(pid, 9, "after the stop");
		clock_gettime(CLOCK_MONOTONIC, &before);
		check(nanosleep(&t, NULL) == 0, "nanosleep: %m");
		clock_gettime(CLOCK_MONOTONIC, &now);
		check((now.tv_sec - before.tv_sec) * 1000000000L + now.tv_nsec - before.tv_nsec >= 3000000,
			"it slept too short");
		char *p = must(
			mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		for (size_t at = 0; at < 64 << 20; at += 4096)
			check(p[at] == 0, "new memory is not zero");
		must(munmap(p, 64 << 20));
		int fd = must(open("/tmp/new", O_RDWR | O_CREAT | O_TRUNC, 0600));
		check(write(fd, "new", 3) == 3 && close(fd) == 0 && unlink("/tmp/new") == 0,
			"a new file: %m");
	}
	return 0;
}
