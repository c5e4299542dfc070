/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 caps=SYS_ADMIN,IPC_OWNER tmpfs=/mnt */
/*
 * Semaphores with what SEM_UNDO gives back, message queues and POSIX queues in ipc namespaces that processes have made, with
 * the ids, keys and names of those in the container's own; a mount that shows the queues of one.
 */
#include "ns_ipc.h"

#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>

enum { KEY = 0x1234 };

struct text {
	long type;
	char text[16];
};

static int set, queue;
static mqd_t gone;
static pid_t holder;

static void take(int number, int by, int flags)
{
	struct sembuf op = {number, by, flags};

	must(semop(set, &op, 1));
}

/* Takes two, and gives them back by its end. */
static void hold(void)
{
	holder = fork();
	check(holder >= 0, "fork: %m");
	if (holder == 0) {
		take(0, -2, SEM_UNDO);
		for (;;)
			pause();
	}
	take(1, -1, 0);
	while (semctl(set, 0, GETVAL) != 5)
		cr_msleep(1);
	take(1, 1, 0);
}

static void send_text(mqd_t q, const char *name, unsigned priority)
{
	must(mq_send(q, name, strlen(name) + 1, priority));
}

static void fill(const char *name)
{
	struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 32};
	struct text t = {.type = 3};
	mqd_t q;

	snprintf(t.text, sizeof(t.text), "%s", name);
	set = must(semget(KEY, 2, IPC_CREAT | IPC_EXCL | 0600));
	must(semctl(set, 0, SETVAL, 7));
	must(semctl(set, 1, SETVAL, 1));
	queue = must(msgget(KEY, IPC_CREAT | IPC_EXCL | 0600));
	must(msgsnd(queue, &t, sizeof(t.text), 0));
	q = must(mq_open("/q", O_RDWR | O_CREAT | O_EXCL, 0600, &a));
	send_text(q, name, 1);
	mq_close(q);
	gone = must(mq_open("/gone", O_RDWR | O_CREAT | O_EXCL, 0600, &a));
	must(mq_unlink("/gone"));
	send_text(gone, name, 9);
	hold();
}

static void check_text(mqd_t q, const char *name, unsigned priority)
{
	unsigned got = 0;
	char text[32];

	must(mq_receive(q, text, sizeof(text), &got));
	check(!strcmp(text, name) && got == priority, "\"%s\" instead of \"%s\"", text, name);
	send_text(q, name, priority);
}

static void look(const char *name)
{
	struct msqid_ds ds;
	struct text t;
	mqd_t q;

	check(semget(KEY, 0, 0) == set && semctl(set, 0, GETVAL) == 5, "semaphore %d",
		semctl(set, 0, GETVAL));
	must(kill(holder, SIGKILL));
	must(waitpid(holder, NULL, 0));
	check(semctl(set, 0, GETVAL) == 7, "semaphore %d after its holder's end", semctl(set, 0, GETVAL));
	hold();
	check(msgget(KEY, 0) == queue, "another queue");
	must(msgctl(queue, IPC_STAT, &ds));
	check(ds.msg_qnum == 1, "%lu messages", ds.msg_qnum);
	must(msgrcv(queue, &t, sizeof(t.text), 3, 0));
	check(!strcmp(t.text, name), "message \"%s\" instead of \"%s\"", t.text, name);
	must(msgsnd(queue, &t, sizeof(t.text), 0));
	q = must(mq_open("/q", O_RDWR));
	check_text(q, name, 1);
	mq_close(q);
	check_text(gone, name, 9);
}

static void rounds(const char *name)
{
	while (cr_wait())
		look(name);
	exit(0);
}

static void show(void)
{
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(mount("mqueue", "/mnt", "mqueue", 0, NULL));
}

int main(void)
{
	fill("own");
	if (cr_fork("root") == 0) {
		enter_new(CLONE_NEWNS);
		show();
		fill("root");
		if (cr_fork("below") == 0) {
			enter_new(0);
			fill("below");
			rounds("below");
		}
		while (cr_wait()) {
			check(access("/mnt/q", F_OK) == 0, "/mnt/q: %m");
			look("root");
		}
		return 0;
	}
	if (cr_fork("user") == 0) {
		enter_new(CLONE_NEWUSER | CLONE_NEWNS);
		show();
		fill("user");
		while (cr_wait()) {
			check(access("/mnt/q", F_OK) == 0, "/mnt/q: %m");
			look("user");
		}
		return 0;
	}
	if (cr_fork("empty") == 0) {
		enter_new(CLONE_NEWUSER);
		while (cr_wait())
			check(semget(KEY, 0, 0) < 0 && errno == ENOENT, "a set in an empty namespace");
		return 0;
	}
	rounds("own");
}
