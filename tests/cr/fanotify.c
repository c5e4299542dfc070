/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN tmpfs=/mnt modes=once,cycles,running,again */
/* fanotify: marks of a directory, a file, a mount and a file system, with what they ignore; flags of the group. */
#include "cr.h"

#include <sys/fanotify.h>

static int group, by_fid;

/* How many events of this kind wait, and of which file the last one is. */
static int events(uint64_t mask, char name[256])
{
	char b[4096] __attribute__((aligned(8))), link[64];
	struct fanotify_event_metadata *e = (void *)b;
	ssize_t n = read(group, b, sizeof(b));
	int found = 0;

	name[0] = 0;
	check(n >= 0 || errno == EAGAIN, "read: %m");
	for (; n > 0 && FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", e->fd);
		link[63] = 0;
		name[must(readlink(link, name, 255))] = 0;
		check((fcntl(e->fd, F_GETFL) & O_ACCMODE) == O_RDWR,
			"the event's descriptor has other flags");
		check(e->pid == getpid(), "pid %d", e->pid);
		found += (e->mask & mask) != 0;
		close(e->fd);
	}
	return found;
}

static void modify(const char *path)
{
	int fd = must(open(path, O_WRONLY | O_CREAT, 0600));

	must(write(fd, "x", 1));
	close(fd);
}

static void expect(const char *path, bool wanted)
{
	char name[256];
	int n;

	modify(path);
	n = events(FAN_MODIFY, name);
	check(wanted ? n == 1 && !strcmp(name, path) : n == 0, "%s: %d events, %s", path, n, name);
}

static void mark(int fd, unsigned flags, uint64_t mask, const char *path)
{
	must(fanotify_mark(fd, FAN_MARK_ADD | flags, mask, AT_FDCWD, path));
}

int main(void)
{
	char name[256];

	must(mkdir("/tmp/dir", 0755));
	modify("/tmp/file");
	modify("/mnt/ignored");
	modify("/tmp/dir/inside");
	group = fanotify_init(
		FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_MARKS, O_RDWR | O_LARGEFILE);
	check(group >= 0, "fanotify_init: %m");
	mark(group, 0, FAN_MODIFY | FAN_EVENT_ON_CHILD, "/tmp/dir");
	mark(group, 0, FAN_MODIFY, "/tmp/file");
	mark(group, FAN_MARK_MOUNT, FAN_MODIFY, "/mnt");
	mark(group, FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_MODIFY, "/mnt/ignored");
	by_fid = must(fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0));
	mark(by_fid, FAN_MARK_FILESYSTEM, FAN_CREATE | FAN_ONDIR, "/mnt");
	while (cr_wait()) {
		char b[4096];
		ssize_t n;

		check(events(~0ull, name) == 0, "an event before anything is done: %s", name);
		check(read(by_fid, b, sizeof(b)) == -1 && errno == EAGAIN,
			"an event before anything is done");
		expect("/tmp/file", true);
		expect("/tmp/dir/inside", true);
		expect("/tmp/other", false);
		expect("/mnt/new", true);
		expect("/mnt/ignored", false);
		n = read(by_fid, b, sizeof(b));
		check(n > 0 && memmem(b, n, "new", 4), "no event of the file system: %m");
		must(unlink("/mnt/new"));
		check(fcntl(group, F_GETFD) == FD_CLOEXEC && fcntl(group, F_GETFL) & O_NONBLOCK, "flags");
	}
	return 0;
}
