/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 */
/*
 * POSIX message queues: with attributes, mode and owner; open for reading, for writing and not at all; shared by parent and
 * child; one that has no name any more, and one that has got its name since. Somebody waits for a message. In others
 * messages wait: of several priorities, an empty one, as many as go in, in a queue that is open for writing only.
 */
#include "cr.h"

#include <mqueue.h>

static mqd_t both, reader, writer, gone, gone_too, again, mounted;

static mqd_t make(const char *name, int flags, long messages, long size)
{
	struct mq_attr a = {.mq_maxmsg = messages, .mq_msgsize = size};

	return must(mq_open(name, flags | O_CREAT | O_EXCL, 0640, &a));
}

static void check_attributes(mqd_t q, long messages, long size, long flags)
{
	struct mq_attr a;

	must(mq_getattr(q, &a));
	check(a.mq_maxmsg == messages && a.mq_msgsize == size && a.mq_flags == flags && a.mq_curmsgs == 0,
		"queue of %ld messages of %ld bytes, flags %#lx, %ld in it", a.mq_maxmsg, a.mq_msgsize,
		a.mq_flags, a.mq_curmsgs);
}

/* What goes in comes out, the highest priority first. */
static void pass_on(mqd_t from, mqd_t to)
{
	char text[200];
	unsigned priority;

	must(mq_send(from, "low", 4, 1));
	must(mq_send(from, "high", 5, 9));
	check(mq_receive(to, text, sizeof(text), &priority) == 5 && priority == 9 && !strcmp(text, "high"),
		"the first message: %m");
	check(mq_receive(to, text, sizeof(text), &priority) == 4 && priority == 1 && !strcmp(text, "low"),
		"the second message: %m");
}

static const struct {
	const char *text;
	unsigned priority;
} waiting[] = {{"third", 3}, {"first", 32767}, {"", 3}, {"last", 0}, {"second", 9}};
static const int order[] = {1, 4, 0, 2, 3};
enum { WAITING = sizeof(order) / sizeof(*order) };

static void fill(mqd_t q)
{
	for (int i = 0; i < WAITING; i++)
		must(mq_send(q, waiting[i].text, strlen(waiting[i].text), waiting[i].priority));
}

static void drain(mqd_t q)
{
	struct mq_attr a;

	must(mq_getattr(q, &a));
	check(a.mq_curmsgs == WAITING, "%ld messages wait", a.mq_curmsgs);
	for (int i = 0; i < WAITING; i++) {
		const char *want = waiting[order[i]].text;
		unsigned priority;
		char text[200];
		ssize_t n = mq_receive(q, text, sizeof(text), &priority);

		check(n == (ssize_t)strlen(want) && !memcmp(text, want, n) &&
				priority == waiting[order[i]].priority,
			"message %d: %zd bytes of priority %u, not \"%s\": %m", i, n, priority, want);
	}
}

int main(void)
{
	mqd_t full, nameless, nameless_too;
	struct stat st;
	char text[200];
	mqd_t other;

	umask(0);
	both = make("/both", O_RDWR | O_NONBLOCK, 5, 100);
	must(fchown(both, 7, 8));
	reader = make("/plain", O_RDONLY, 10, 64);
	writer = must(mq_open("/plain", O_WRONLY | O_CLOEXEC));
	must(mq_close(make("/nobody", O_RDWR, 3, 33)));
	gone = make("/gone", O_RDWR, 4, 44);
	gone_too = must(mq_open("/gone", O_WRONLY));
	must(mq_unlink("/gone"));
	again = make("/gone", O_RDWR, 6, 66);
	mounted = must(open("/dev/mqueue/both", O_RDWR));
	full = make("/full", O_RDWR | O_NONBLOCK, WAITING, 100);
	fill(full);
	nameless = make("/nameless", O_RDWR, WAITING, 100);
	nameless_too = must(mq_open("/nameless", O_WRONLY));
	must(mq_unlink("/nameless"));
	fill(nameless_too);
	if (cr_fork("waiter") == 0) {
		while (cr_wait())
			check(mq_receive(reader, text, sizeof(text), NULL) == 6, "wait for a message: %m");
		return 0;
	}
	while (cr_wait()) {
		check(mq_send(full, "x", 1, 0) < 0 && errno == EAGAIN, "one more goes in: %m");
		drain(full);
		fill(full);
		drain(nameless);
		fill(nameless_too);
		check_attributes(both, 5, 100, O_NONBLOCK);
		check_attributes(gone, 4, 44, 0);
		check_attributes(again, 6, 66, 0);
		must(fstat(both, &st));
		check(st.st_uid == 7 && st.st_gid == 8 && (st.st_mode & 07777) == 0640,
			"owner %u:%u, mode %o", st.st_uid, st.st_gid, st.st_mode);
		check(mq_receive(both, text, sizeof(text), NULL) < 0 && errno == EAGAIN,
			"receive from an empty queue: %m");
		pass_on(both, both);
		pass_on(mounted, both);
		pass_on(gone_too, gone);
		pass_on(again, again);
		check(mq_send(reader, "x", 1, 0) < 0 && errno == EBADF,
			"write to what is open for reading: %m");
		must(mq_send(writer, "hello", 6, 0));
		other = must(mq_open("/nobody", O_RDWR));
		check_attributes(other, 3, 33, 0);
		must(mq_close(other));
		check(mq_open("/stasis", O_RDONLY) < 0 && errno == ENOENT, "there is one more");
		while (cr_exists("done", cr_n, ".waiter") == 0)
			cr_msleep(1);
	}
	return 0;
}
