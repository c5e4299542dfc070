/* SPDX-License-Identifier: Apache-2.0 */
/* cr: tmpfs=/mnt */
/*
 * inotify: watches keep their numbers, also with gaps, and masks: on directories, files, a renamed and a deleted one that
 * is open, a symbolic link, a tmpfs, /proc; once-only ones; and nothing that a restore does is an event. Watched by epoll.
 */
#include "cr.h"

#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

static int in, empty, ep, deleted;
static int w_tmp, w_file, w_renamed, w_deleted, w_link, w_mnt, w_once, w_proc, w_sub;

static void touch(const char *path)
{
	close(must(open(path, O_CREAT | O_WRONLY, 0600)));
}

/* The events that wait, as text: "1:100:name;" */
static const char *events(int fd)
{
	static char text[4096];
	char b[4096] __attribute__((aligned(8)));
	ssize_t n = read(fd, b, sizeof(b));
	size_t at = 0;

	check(n >= 0 || errno == EAGAIN, "read: %m");
	text[0] = 0;
	for (ssize_t i = 0; i < n;) {
		struct inotify_event *e = (void *)(b + i);

		at += snprintf(
			text + at, sizeof(text) - at, "%d:%x:%s;", e->wd, e->mask, e->len ? e->name : "");
		i += sizeof(*e) + e->len;
	}
	return text;
}

static void expect(const char *what, const char *format, ...)
{
	char want[1024];
	const char *got = events(in);
	va_list ap;

	va_start(ap, format);
	vsnprintf(want, sizeof(want), format, ap);
	va_end(ap);
	check(!strcmp(want, got), "%s: events \"%s\" instead of \"%s\"", what, got, want);
}

static void set_up(void)
{
	struct epoll_event e = {.events = EPOLLIN};

	must(mkdir("/tmp/sub", 0755));
	must(mkdir("/tmp/sub/deep", 0755));
	touch("/tmp/file");
	touch("/tmp/old-name");
	touch("/mnt/file");
	must(symlink("/tmp/file", "/tmp/link"));
	deleted = must(open("/tmp/deleted", O_CREAT | O_RDWR, 0600));
	in = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	for (int i = 0; i < 5; i++) /* numbers that are not used any more */
		must(inotify_rm_watch(in, must(inotify_add_watch(in, "/etc", IN_CREATE))));
	w_tmp = must(inotify_add_watch(in, "/tmp", IN_CREATE | IN_DELETE | IN_ONLYDIR));
	w_file = must(inotify_add_watch(in, "/tmp/file", IN_MODIFY | IN_CLOSE_WRITE | IN_EXCL_UNLINK));
	w_renamed = must(inotify_add_watch(in, "/tmp/old-name", IN_MODIFY));
	must(inotify_rm_watch(in, must(inotify_add_watch(in, "/etc", IN_CREATE))));
	w_deleted = must(inotify_add_watch(in, "/tmp/deleted", IN_MODIFY));
	w_link = must(inotify_add_watch(in, "/tmp/link", IN_ATTRIB | IN_DONT_FOLLOW));
	w_mnt = must(inotify_add_watch(in, "/mnt", IN_CREATE));
	w_once = must(inotify_add_watch(in, "/mnt/file", IN_MODIFY | IN_ONESHOT));
	w_proc = must(inotify_add_watch(in, "/proc/sys/kernel/hostname", IN_OPEN));
	w_sub = must(inotify_add_watch(in, "/tmp/sub/deep", IN_CREATE | IN_DELETE | IN_CLOSE_WRITE));
	must(rename("/tmp/old-name", "/tmp/sub/new-name"));
	must(unlink("/tmp/deleted"));
	empty = must(inotify_init());
	ep = must(epoll_create1(0));
	must(epoll_ctl(ep, EPOLL_CTL_ADD, in, &e));
	events(in);
}

static void check_watches(void)
{
	int fd = must(open("/tmp/sub/new-name", O_WRONLY));

	expect("before anything is done", "");
	touch("/tmp/new");
	must(unlink("/tmp/new"));
	expect("the directory", "%d:100:new;%d:200:new;", w_tmp, w_tmp);
	touch("/tmp/file");
	expect("the file", "%d:8:;", w_file);
	must(write(fd, "x", 1));
	expect("the renamed file", "%d:2:;", w_renamed);
	close(fd);
	must(write(deleted, "x", 1));
	expect("the deleted file", "%d:2:;", w_deleted);
	must(lchown("/tmp/link", 0, 0));
	expect("the link", "%d:4:;", w_link);
	touch("/mnt/new");
	must(unlink("/mnt/new"));
	expect("the tmpfs", "%d:100:new;", w_mnt);
	close(must(open("/proc/sys/kernel/hostname", O_RDONLY)));
	expect("the file of /proc", "%d:20:;", w_proc);
	touch("/tmp/sub/deep/x");
	must(unlink("/tmp/sub/deep/x"));
	expect("the directory below", "%d:100:x;%d:8:x;%d:200:x;", w_sub, w_sub, w_sub);
}

static void check_once(void)
{
	int fd = must(open("/mnt/file", O_WRONLY)), again;

	must(write(fd, "x", 1));
	must(write(fd, "x", 1));
	expect("the one that fires once", "%d:2:;%d:8000:;", w_once, w_once);
	again = must(inotify_add_watch(in, "/mnt/file", IN_MODIFY | IN_ONESHOT));
	check(again > w_sub, "a new watch has the number %d", again);
	w_once = again;
	close(fd);
}

int main(void)
{
	struct epoll_event e;

	set_up();
	while (cr_wait()) {
		check(epoll_wait(ep, &e, 1, 0) == 0, "epoll has an event");
		check_watches();
		check_once();
		check(inotify_add_watch(in, "/tmp", IN_CREATE | IN_DELETE) == w_tmp, "another watch on /tmp");
		touch("/tmp/new");
		check(epoll_wait(ep, &e, 1, 0) == 1, "epoll has no event");
		must(unlink("/tmp/new"));
		events(in);
		check(inotify_add_watch(empty, "/etc", IN_CREATE) >= 1, "the one without watches: %m");
		must(inotify_rm_watch(empty, inotify_add_watch(empty, "/etc", IN_CREATE)));
		events(empty);
	}
	return 0;
}
