/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads with a descriptor table of their own (unshare(CLONE_FILES)): other files under the same numbers, numbers that only
 * one has, files that no other table has, one description in several tables, flags of the descriptors.
 */
#include "cr.h"

#include <pthread.h>
#include <sys/eventfd.h>

enum { SAME = 20, ONLY_OURS = 30, ONLY_MAIN = 31, PIPE = 40, SHARED = 50, HIGH = 300 };
static struct own {
	char letter;
	pthread_t thread;
	volatile int asked, ready, round;
} owns[] = {{'a'}, {'b'}};
static char main_letter = 'm';

static void put(int fd, int to, int flags)
{
	if (fd != to) {
		must(dup3(fd, to, flags));
		close(fd);
	}
}

/* A file with one letter in it, at a number. */
static void letter_at(char letter, int to, int flags)
{
	char name[] = "/tmp/file-?";
	int fd;

	name[sizeof(name) - 2] = letter;
	fd = must(open(name, O_RDWR | O_CREAT, 0600));
	must(pwrite(fd, &letter, 1, 0));
	put(fd, to, flags);
}

static void check_letter(char letter, int fd, int flags)
{
	char c = 0;

	check(pread(fd, &c, 1, 0) == 1 && c == letter, "%c: descriptor %d is %c: %m", letter, fd, c);
	check(fcntl(fd, F_GETFD) == flags, "%c: flags of %d: %x", letter, fd, fcntl(fd, F_GETFD));
}

static void check_own(struct own *own)
{
	char b[4] = "";
	int next;

	check_letter(own->letter, SAME, FD_CLOEXEC);
	check_letter(own->letter, HIGH + own->letter, 0);
	check(fcntl(ONLY_MAIN, F_GETFD) < 0 && errno == EBADF, "%c has what only main has", own->letter);
	must(write(PIPE + 1, "pq", 2));
	check(read(PIPE, b, 2) == 2 && !strncmp(b, "xy", 2), "%c: the pipe had %.2s", own->letter, b);
	check(read(PIPE, b, 2) == 2 && !strncmp(b, "pq", 2), "%c: then %.2s", own->letter, b);
	must(write(PIPE + 1, "xy", 2));
	next = must(open("/dev/null", O_RDONLY));
	check(next == (own->letter == 'a' ? ONLY_OURS : 3), "%c: the next descriptor is %d", own->letter,
		next);
	close(next);
	must(lseek(SHARED, 1, SEEK_CUR));
}

static void *run(void *arg)
{
	struct own *own = arg;
	int ends[2];

	must(unshare(CLONE_FILES));
	close(ONLY_MAIN);
	letter_at(own->letter, SAME, O_CLOEXEC);
	letter_at(own->letter, HIGH + own->letter, 0);
	must(pipe(ends));
	put(ends[0], PIPE, 0);
	put(ends[1], PIPE + 1, 0);
	must(write(PIPE + 1, "xy", 2));
	for (int fd = 3; own->letter == 'a' && fd < ONLY_OURS; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			must(dup2(SHARED, fd));
	own->ready = 1;
	for (;;) {
		if (own->asked) {
			check_own(own);
			own->asked = 0;
		}
		cr_msleep(1);
	}
	return NULL;
}

int main(void)
{
	letter_at(main_letter, SAME, 0);
	letter_at(main_letter, ONLY_MAIN, 0);
	letter_at('s', SHARED, 0);
	for (size_t i = 0; i < sizeof(owns) / sizeof(owns[0]); i++) {
		check(pthread_create(&owns[i].thread, NULL, run, &owns[i]) == 0, "pthread_create");
		while (!owns[i].ready)
			cr_msleep(1);
	}
	while (cr_wait()) {
		off_t before = must(lseek(SHARED, 0, SEEK_CUR));

		for (size_t i = 0; i < sizeof(owns) / sizeof(owns[0]); i++) {
			owns[i].asked = 1;
			for (int ms = 0; owns[i].asked; ms++) {
				check(ms < 5000, "a thread stands still");
				cr_msleep(1);
			}
		}
		check_letter(main_letter, SAME, 0);
		check_letter(main_letter, ONLY_MAIN, 0);
		check(fcntl(PIPE, F_GETFD) < 0 && fcntl(HIGH + 'a', F_GETFD) < 0,
			"main has what threads have");
		check(lseek(SHARED, 0, SEEK_CUR) == before + 2, "the offset in three tables is not one");
	}
	_exit(0);
}
