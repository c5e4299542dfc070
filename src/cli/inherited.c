/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of our caller that go on to the container: systemd's (LISTEN_FDS, from number 3 on), then --preserve-fds
 * more. What we inherited is not close-on-exec, and what we open ourselves is: so a number that nobody gave us can never
 * be a descriptor of ours (as in CVE-2024-21626), whatever has been opened by now.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

int cli_check_preserved(int from, int n, struct error *e)
{
	for (int i = 0; i < n; i++) {
		int flags = fcntl(from + i, F_GETFD);

		if (flags < 0 || flags & FD_CLOEXEC)
			return error_set(e, -EBADF, ERROR_USAGE,
				"unable to stat preserved-fd %d (of %d): descriptor %d is not open", i, n,
				from + i);
	}
	return 0;
}

int cli_listen_fds(struct listen_fds *ret, struct error *e)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t n;

	*ret = (struct listen_fds){0};
	/* meant for somebody else, who left them in the environment */
	if (!fds || !pid || cli_parse_number(pid, INT32_MAX, &n) < 0 || (pid_t)n != getpid())
		return 0;
	if (cli_parse_number(fds, 1 << 16, &n) < 0)
		return error_set(e, -EINVAL, ERROR_USAGE, "LISTEN_FDS=%s: a number is needed", fds);
	ret->n = (int)n;
	ret->names = getenv("LISTEN_FDNAMES");
	return cli_check_preserved(STDERR_FILENO + 1, ret->n, e);
}
