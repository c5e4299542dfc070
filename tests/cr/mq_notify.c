/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mq_notify: a process is told of the message that comes to an empty queue, by its signal and with its value; once. Also of
 * a queue without a name; and a registration without a signal, which keeps others from one.
 *
 * cr: modes=once,cycles,running,again,userns
 */
#include "cr.h"

#include <mqueue.h>

static mqd_t make(const char *name)
{
	struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 16};

	return must(mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &a));
}

static int tell(mqd_t q, int kind, int signal, void *value)
{
	struct sigevent how = {
		.sigev_notify = kind, .sigev_signo = signal, .sigev_value = {.sival_ptr = value}};

	return mq_notify(q, &how);
}

static void expect(mqd_t q, int signal, void *value)
{
	struct timespec now = {}, soon = {10, 0};
	siginfo_t info;
	sigset_t set;
	char b[16];

	sigemptyset(&set);
	sigaddset(&set, signal);
	check(sigtimedwait(&set, &info, &now) == -1, "it was told before there was a message");
	check(tell(q, SIGEV_SIGNAL, SIGUSR1, NULL) == -1 && errno == EBUSY, "nobody is registered: %m");
	must(mq_send(q, "one", 4, 0));
	check(sigtimedwait(&set, &info, &soon) == signal, "no signal: %m");
	check(info.si_code == SI_MESGQ && info.si_ptr == value, "code %d, value %p, not %p", info.si_code,
		info.si_ptr, value);
	check(mq_receive(q, b, sizeof(b), NULL) == 4, "no message: %m");
	/* It is used up. */
	must(tell(q, SIGEV_SIGNAL, signal, value));
}

int main(void)
{
	mqd_t named = make("/named"), gone = make("/gone"), held = make("/held"), other = make("/other");
	void *big = (void *)0x1234567890abcdef;
	sigset_t set;

	must(mq_unlink("/gone"));
	sigfillset(&set);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	must(tell(named, SIGEV_SIGNAL, SIGRTMIN + 3, big));
	must(tell(gone, SIGEV_SIGNAL, SIGUSR2, NULL));
	must(tell(held, SIGEV_NONE, 0, NULL));
	while (cr_wait()) {
		expect(named, SIGRTMIN + 3, big);
		expect(gone, SIGUSR2, NULL);
		check(tell(held, SIGEV_SIGNAL, SIGUSR1, NULL) == -1 && errno == EBUSY,
			"nobody is registered: %m");
		check(tell(other, SIGEV_NONE, 0, NULL) == 0 && mq_notify(other, NULL) == 0,
			"somebody is registered: %m");
	}
	return 0;
}
