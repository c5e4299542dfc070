/* SPDX-License-Identifier: Apache-2.0 */
/* cr: rw=/proc/sys modes=once,cycles,running,again */
/*
 * Sysctls of the ipc namespace that the container has changed, also to less than its objects have.
 */
#include "cr.h"

#include <sys/msg.h>

static const struct {
	const char *name, *value;
} changed[] = {{"kernel/msgmax", "4096"}, {"kernel/msgmnb", "70000"}, {"kernel/msgmni", "123"},
	{"kernel/shmmni", "77"}, {"kernel/shm_rmid_forced", "1"}, {"kernel/sem", "100\t2000\t50\t60"},
	{"fs/mqueue/msg_max", "9"}, {"fs/mqueue/queues_max", "11"}};

static void path_of(size_t i, char path[64])
{
	snprintf(path, 64, "/proc/sys/%s", changed[i].name);
}

int main(void)
{
	char path[64], now[64];
	struct msqid_ds ds;
	int queue, fd;

	for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
		path_of(i, path);
		fd = must(open(path, O_WRONLY));
		must(write(fd, changed[i].value, strlen(changed[i].value)));
		close(fd);
	}
	queue = must(msgget(5, IPC_CREAT | 0600));
	while (cr_wait()) {
		for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
			path_of(i, path);
			must(cr_read(path, now, sizeof(now)));
			now[strcspn(now, "\n")] = 0;
			check(strcmp(now, changed[i].value) == 0, "%s is %s", changed[i].name, now);
		}
		must(msgctl(queue, IPC_STAT, &ds));
		check(ds.msg_qbytes == 70000, "%lu bytes", ds.msg_qbytes);
	}
	return 0;
}
