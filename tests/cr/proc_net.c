/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the network that init has open below its own directory of /proc: "deleted" as soon as somebody looks for them once more. */
/* cr: modes=once,cycles,running,userns ignore=name container=1 */
#include "cr.h"

int main(void)
{
	char text[64], path[] = "/proc/1/net/tcp", of_thread[] = "/proc/1/task/1/net/tcp";
	int fds[4];

	for (int i = 0; i < 4; i++)
		fds[i] = must(open(i < 2 ? path : of_thread, O_RDONLY));
	must(pread(fds[0], text, 10, 0));
	must(lseek(fds[1], 5, SEEK_SET));
	while (cr_wait()) {
		for (int i = 0; i < 4; i++)
			check(pread(fds[i], text, 4, 0) == 4 && !strncmp(text, "  sl", 4), "file %d: %m", i);
		check(lseek(fds[1], 0, SEEK_CUR) == 5, "its offset: %m");
	}
	return 0;
}
