/* SPDX-License-Identifier: Apache-2.0 */
/* cr: rw=/proc/sys caps=SYS_ADMIN modes=once,cycles,running,again */
/* Sysctls of ipc namespaces that processes have made for themselves, with objects that they would not allow any more. */
#include "ns_ipc.h"

#include <sys/msg.h>

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
	if (cr_fork("root") == 0)
		nested(0);
	if (cr_fork("user") == 0)
		nested(CLONE_NEWUSER);
	cr_idle();
}
