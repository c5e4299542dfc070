/* SPDX-License-Identifier: Apache-2.0 */
/* Locks on what only the container can reach, which need no --file-locks: its own tmpfs, a deleted file, a memfd. */
#include "cr.h"

#include <sys/file.h>

static bool is_locked(int fd)
{
	char path[64];
	int other, r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = must(open(path, O_RDWR));
	r = flock(other, LOCK_EX | LOCK_NB);
	close(other);
	return r == -1 && errno == EWOULDBLOCK;
}

int main(void)
{
	int shm = must(open("/dev/shm/locked", O_RDWR | O_CREAT, 0600)),
	    deleted = must(open("/tmp/deleted", O_RDWR | O_CREAT, 0600)),
	    memory = must(memfd_create("locked", 0));
	struct flock l = {.l_type = F_WRLCK, .l_start = 3, .l_len = 4};

	must(unlink("/tmp/deleted"));
	must(flock(shm, LOCK_EX));
	must(flock(deleted, LOCK_EX));
	must(flock(memory, LOCK_EX));
	must(fcntl(deleted, F_OFD_SETLK, &l));
	while (cr_wait()) {
		struct flock seen = {.l_type = F_WRLCK};

		check(is_locked(shm), "the flock in the tmpfs is gone");
		check(is_locked(deleted), "the flock on the deleted file is gone");
		check(is_locked(memory), "the flock on the memfd is gone");
		must(fcntl(deleted, F_GETLK, &seen));
		check(seen.l_type == F_WRLCK && seen.l_start == 3 && seen.l_len == 4 && seen.l_pid == -1,
			"the lock on the deleted file is gone");
	}
	return 0;
}
