/* SPDX-License-Identifier: Apache-2.0 */
/* cr: rw=/proc/sys caps=SYS_ADMIN modes=once,cycles,running,again */
/*
 * Sysctls of the ipc namespace that the container has changed, also to less than its objects have; and of namespaces that its
 * processes have made.
 */
#include "ns_ipc.h"

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

static void read_value(const char *path, char now[64])
{
	must(cr_read(path, now, 64));
	now[strcspn(now, "\n")] = 0;
}

/* What is the default there, and 40 messages of 300 bytes wait in a queue, which has been made smaller since. */
static void nested(int flags)
{
	struct {
		long type;
		char text[300];
	} m = {.type = 1};
	char now[64], others[64];
	struct msqid_ds ds;
	int queue;

	enter_new(flags);
	read_value("/proc/sys/kernel/msgmax", others);
	queue = must(msgget(5, IPC_CREAT | 0600));
	for (int i = 0; i < 40; i++)
		must(msgsnd(queue, &m, sizeof(m.text), 0));
	if (flags == 0) {
		write_file("/proc/sys/kernel/msgmnb", "9000");
		write_file("/proc/sys/kernel/shmmni", "33");
		write_file("/proc/sys/fs/mqueue/msg_max", "3");
	}
	while (cr_wait()) {
		read_value("/proc/sys/kernel/msgmax", now);
		check(!strcmp(now, others) && strcmp(now, "4096") != 0, "msgmax is %s", now);
		read_value("/proc/sys/kernel/msgmnb", now);
		check((flags == 0) == !strcmp(now, "9000"), "msgmnb is %s", now);
		read_value("/proc/sys/kernel/shmmni", now);
		check((flags == 0) == !strcmp(now, "33"), "shmmni is %s", now);
		read_value("/proc/sys/fs/mqueue/msg_max", now);
		check((flags == 0) == !strcmp(now, "3"), "msg_max is %s", now);
		must(msgctl(queue, IPC_STAT, &ds));
		check(ds.msg_qnum == 40, "%lu messages", ds.msg_qnum);
	}
	exit(0);
}

int main(void)
{
	char path[64], now[64];
	struct msqid_ds ds;
	int queue, fd;

	if (cr_fork("root") == 0)
		nested(0);
	if (cr_fork("user") == 0)
		nested(CLONE_NEWUSER);
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
