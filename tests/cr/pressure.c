/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN modes=once,cycles,running,again */
/*
 * Triggers for pressure, of the machine and of the container's cgroup, stay armed; a file that could have one and has none,
 * has none. A child polls for their events, as an event that waits is refused (the kernel tells one at the beginning, of all
 * pressure since the machine was started). What they are armed for a program cannot ask:
 * integration/checkpoint/pressure_triggers.
 */
#include "cr.h"

#include <poll.h>
#include <sys/mount.h>

static int armed(const char *path, const char *trigger)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || write(fd, trigger, strlen(trigger) + 1) < 0) {
		check(errno == ENOENT || errno == EOPNOTSUPP, "%s: %m", path);
		cr_say("unavailable", 1, "", "pressure stall information");
		for (;;)
			pause();
	}
	return fd;
}

static bool is_armed(int fd)
{
	char again[] = "some 500000 2000000";

	return write(fd, again, sizeof(again)) == -1 && errno == EBUSY;
}

static void poll_for(const int *fds, int n)
{
	struct pollfd p[4];

	if (must(fork()) > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		for (int i = 0; i < n; i++)
			p[i] = (struct pollfd){.fd = fds[i], .events = POLLPRI};
		poll(p, n, -1);
	}
}

int main(void)
{
	bool has_cgroup =
		mkdir("/tmp/cgroup", 0755) == 0 && mount("none", "/tmp/cgroup", "cgroup2", 0, NULL) == 0;
	int cpu = armed("/proc/pressure/cpu", "full 1900000 2000000"),
	    memory = armed("/proc/pressure/memory", "full 3900000 4000000"),
	    none = must(open("/proc/pressure/io", O_RDWR)),
	    reader = must(open("/proc/pressure/io", O_RDONLY)),
	    own = has_cgroup ? armed("/tmp/cgroup/memory.pressure", "some 1800000 2000000") : -1;
	struct pollfd unarmed = {.fd = none, .events = POLLPRI};
	char text[256];

	poll_for((int[]){cpu, memory, own}, has_cgroup ? 3 : 2);
	while (cr_wait()) {
		check(is_armed(cpu), "cpu: %m");
		check(is_armed(memory), "memory: %m");
		check(!has_cgroup || is_armed(own), "cgroup: %m");
		check(poll(&unarmed, 1, 0) == 1 && unarmed.revents & POLLERR, "one that nobody has armed is");
		check(pread(reader, text, sizeof(text), 0) > 0, "read: %m");
	}
	return 0;
}
