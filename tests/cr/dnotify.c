/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,lazy,userns */
/*
 * dnotify: directories that are watched by F_NOTIFY, each for something else, once or always, with the signal and the number that were
 * chosen; by a child through a description that it has inherited, beside its parent; beside watches of inotify; and nothing that a
 * restore does is an event.
 */
#include "cr.h"

#include <sys/inotify.h>

enum { SIGNAL_ALL = 40, SIGNAL_ONCE, SIGNAL_SHARED, SIGNAL_CHILD };

static sigset_t signals;
static int all, once, shared, own;

static void touch(const char *path)
{
	close(must(open(path, O_CREAT | O_WRONLY, 0600)));
}

/* fd < 0: none comes. */
static void expect(const char *what, int sig, int fd)
{
	struct timespec t = {fd < 0 ? 0 : 2, 0};
	siginfo_t info = {};
	int r = sigtimedwait(&signals, &info, &t);

	if (fd < 0)
		check(r == -1 && errno == EAGAIN, "%s: signal %d for %d", what, r, info.si_fd);
	else
		check(r == sig && info.si_fd == fd, "%s: signal %d for %d (%m)", what, r, info.si_fd);
}

static int watch(const char *path, int sig, unsigned long what)
{
	int fd = must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	must(fcntl(fd, F_SETSIG, sig));
	must(fcntl(fd, F_NOTIFY, what));
	return fd;
}

static void child(void)
{
	must(fcntl(shared, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	while (cr_wait())
		expect("in the child", 0, -1); /* the owner of the description is its parent, who gets both */
	_exit(0);
}

static void set_up(void)
{
	int in = must(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));

	sigemptyset(&signals);
	for (int s = SIGNAL_ALL; s <= SIGNAL_CHILD; s++)
		sigaddset(&signals, s);
	must(sigprocmask(SIG_BLOCK, &signals, NULL));
	must(mkdir("/tmp/all", 0755));
	must(mkdir("/tmp/once", 0755));
	must(mkdir("/tmp/shared", 0755));
	touch("/tmp/all/file");
	all = watch("/tmp/all", SIGNAL_ALL, DN_MODIFY | DN_ATTRIB | DN_RENAME | DN_MULTISHOT);
	must(inotify_add_watch(in, "/tmp/all", IN_DELETE_SELF));
	must(inotify_add_watch(must(inotify_init1(IN_CLOEXEC)), "/tmp/all", IN_DELETE_SELF));
	once = watch("/tmp/once", SIGNAL_ONCE, DN_DELETE);
	shared = watch("/tmp/shared", SIGNAL_SHARED, DN_DELETE | DN_MULTISHOT);
	own = must(open("/tmp/once", O_RDONLY | O_DIRECTORY));
	must(fcntl(own, F_SETOWN, getpid()));
	if (cr_fork("child") == 0)
		child();
}

int main(void)
{
	set_up();
	while (cr_wait()) {
		int fd = must(open("/tmp/all/file", O_RDWR));

		expect("before anything is done", 0, -1);
		must(write(fd, "x", 1));
		expect("a write", SIGNAL_ALL, all);
		must(fchmod(fd, 0640));
		expect("a change of attributes", SIGNAL_ALL, all);
		must(rename("/tmp/all/file", "/tmp/all/other"));
		expect("a new name", SIGNAL_ALL, all);
		must(rename("/tmp/all/other", "/tmp/all/file"));
		expect("the old name", SIGNAL_ALL, all);
		must(read(fd, &(char){0}, 1));
		touch("/tmp/all/new");
		must(unlink("/tmp/all/new"));
		expect("what it is not watched for", 0, -1);
		touch("/tmp/once/new");
		must(unlink("/tmp/once/new"));
		expect("a file that is deleted", SIGNAL_ONCE, once);
		touch("/tmp/once/new");
		must(unlink("/tmp/once/new"));
		expect("the second time", 0, -1);
		must(fcntl(once, F_NOTIFY, DN_DELETE));
		touch("/tmp/shared/new");
		expect("the child's", SIGNAL_SHARED, shared);
		must(unlink("/tmp/shared/new"));
		expect("the parent's", SIGNAL_SHARED, shared);
		expect("after all", 0, -1);
		close(fd);
	}
	return 0;
}
