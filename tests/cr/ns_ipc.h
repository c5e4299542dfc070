/* SPDX-License-Identifier: Apache-2.0 */
/* Ipc namespaces that processes have made for themselves: as root, or in a user namespace of their own. */
#pragma once

#include "cr.h"

static void write_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY));

	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write \"%s\" to %s: %m", text, path);
	close(fd);
}

/* To a new ipc namespace, and others: with CLONE_NEWUSER, where our ids are root. */
static void enter_new(int flags)
{
	char map[32];

	snprintf(map, sizeof(map), "0 %u 1\n", getuid());
	must(unshare(flags | CLONE_NEWIPC));
	if (!(flags & CLONE_NEWUSER))
		return;
	prctl(PR_SET_DUMPABLE, 1);
	write_file("/proc/self/setgroups", "deny");
	write_file("/proc/self/uid_map", map);
	write_file("/proc/self/gid_map", map);
}
