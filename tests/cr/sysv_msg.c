/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 caps=IPC_OWNER */
/*
 * System V message queues: id, key, mode, owner, limit; messages in their order with their types, an empty one and one as
 * long as may be, of a queue that is full; somebody who waits for a message.
 */
#include "cr.h"

#include <sys/ipc.h>
#include <sys/msg.h>

enum { KEY = 0x99, LONGEST = 8192 };

struct message {
	long type;
	char text[LONGEST];
};

static const struct {
	long type;
	size_t size;
} sent[] = {{3, 10}, {1, 0}, {LONG_MAX, LONGEST}, {3, 100}, {2, 1}};

static int queue, answers;

static void send_all(void)
{
	for (size_t i = 0; i < sizeof(sent) / sizeof(sent[0]); i++) {
		struct message m = {.type = sent[i].type};

		cr_fill(m.text, sent[i].size / 8 * 8, i);
		must(msgsnd(queue, &m, sent[i].size, IPC_NOWAIT));
	}
}

static void receive(long type, size_t i)
{
	struct message m;
	ssize_t n = msgrcv(queue, &m, LONGEST, type, IPC_NOWAIT);

	check(n == (ssize_t)sent[i].size && m.type == sent[i].type, "message %zu: %zd bytes, type %ld: %m", i,
		n, m.type);
	check(cr_differs(m.text, n / 8 * 8, i) < 0, "contents of message %zu", i);
}

int main(void)
{
	struct msqid_ds ds;
	struct message m;

	must(msgctl(must(msgget(IPC_PRIVATE, 0600)), IPC_RMID, NULL));
	queue = must(msgget(KEY, IPC_CREAT | 0620));
	answers = must(msgget(IPC_PRIVATE, 0600));
	must(msgctl(queue, IPC_STAT, &ds));
	ds.msg_qbytes = 8303;
	ds.msg_perm.uid = 3;
	ds.msg_perm.gid = 4;
	must(msgctl(queue, IPC_SET, &ds));
	send_all();
	if (cr_fork("waiter") == 0) {
		while (cr_wait())
			check(msgrcv(answers, &m, 16, 5, 0) == 16, "wait for a message: %m");
		return 0;
	}
	while (cr_wait()) {
		must(msgctl(queue, IPC_STAT, &ds));
		check(msgget(KEY, 0) == queue && ds.msg_qnum == 5 && ds.msg_qbytes == 8303 &&
				ds.msg_perm.uid == 3 && ds.msg_perm.gid == 4 &&
				(ds.msg_perm.mode & 0777) == 0620,
			"%lu messages, %lu bytes", ds.msg_qnum, ds.msg_qbytes);
		m.type = 9;
		check(msgsnd(queue, &m, 1, IPC_NOWAIT) < 0 && errno == EAGAIN,
			"a full queue takes one more: %m");
		receive(3, 0);
		receive(-2, 1);
		receive(0, 2);
		receive(0, 3);
		receive(0, 4);
		check(msgrcv(queue, &m, LONGEST, 0, IPC_NOWAIT) < 0 && errno == ENOMSG, "there is more: %m");
		send_all();
		m.type = 5;
		must(msgsnd(answers, &m, 16, 0));
	}
	return 0;
}
