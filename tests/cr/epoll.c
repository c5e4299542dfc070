/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll: level, edge and one-shot with their data, disarmed one-shots, an instance in an instance, one shared by processes,
 * a target registered under a number that now is another file.
 */
#include "cr.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = {.events = events, .data.u64 = data};

	must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static int wait_for(int ep, uint64_t *data, int ms)
{
	struct epoll_event e[10];
	int n = must(epoll_wait(ep, e, 10, ms));

	*data = 0;
	for (int i = 0; i < n; i++)
		*data |= e[i].data.u64;
	return n;
}

int main(void)
{
	int ep = must(epoll_create1(EPOLL_CLOEXEC)), outer = must(epoll_create1(0)), ev[6], p[2], q[2], z[2],
	    shared;
	int exclusive = must(epoll_create1(0)), twice = must(epoll_create1(0));
	uint64_t v = 1, data;
	struct epoll_event e;

	for (int i = 0; i < 6; i++)
		ev[i] = must(eventfd(0, EFD_NONBLOCK));
	must(pipe(p));
	add(ep, ev[0], EPOLLIN, 0x1);
	add(ep, ev[1], EPOLLIN | EPOLLET, 0x10);
	add(ep, ev[2], EPOLLIN | EPOLLONESHOT, 0x100);
	add(ep, ev[3], EPOLLIN | EPOLLONESHOT, 0x1000); /* fires before the checkpoint: disarmed */
	add(ep, p[0], EPOLLIN | EPOLLRDHUP, 0xdeadbeef00000000ULL);
	add(outer, ep, EPOLLIN, 0x77);
	must(write(ev[3], &v, 8));
	check(wait_for(ep, &data, 0) == 1 && data == 0x1000, "before: %lx", (long)data);
	must(pipe(q));
	add(ep, q[0], EPOLLIN | EPOLLONESHOT,
		0x10000); /* the same, of something that is not ready any more */
	must(write(q[1], &v, 8));
	check(wait_for(ep, &data, 0) == 1 && data == 0x10000, "before: %lx", (long)data);
	must(read(q[0], &data, 8));
	must(close(q[1])); /* a hang-up does not count for it */
	must(pipe(z));
	add(ep, z[0], EPOLLIN | EPOLLONESHOT, 0x100000);
	must(write(z[1], &v, 8));
	check(wait_for(ep, &data, 0) == 1 && data == 0x100000, "before: %lx", (long)data);
	must(read(z[0], &data, 8));
	add(exclusive, ev[5], EPOLLIN | EPOLLEXCLUSIVE, 55);
	must(dup2(ev[4], 90));
	add(twice, 90, EPOLLIN, 1);
	must(dup2(ev[5], 90)); /* two targets with one number */
	add(twice, 90, EPOLLIN, 2);
	shared = must(epoll_create1(0));
	add(shared, ev[4], EPOLLIN, 4);
	must(dup2(ev[4], 100)); /* the description lives on as 100, the number becomes another file */
	must(dup2(ev[5], ev[4]));
	if (cr_fork("child") == 0) {
		while (cr_wait()) {
			check(wait_for(ep, &data, 0) >= 0, "in the child");
			must(write(100, &v, 8));
		}
		return 0;
	}
	while (cr_wait()) {
		cr_await("done", cr_n, ".child");
		check(wait_for(shared, &data, 0) == 1 && data == 4, "the target whose number changed: %lx",
			(long)data);
		check(wait_for(twice, &data, 0) == 1 && data == 1, "the first of two with one number: %lx",
			(long)data);
		must(read(100, &v, 8));
		v = 1;
		must(write(ev[5], &v, 8));
		check(wait_for(twice, &data, 0) == 1 && data == 2, "the second of two with one number: %lx",
			(long)data);
		check(wait_for(exclusive, &data, 0) == 1 && data == 55, "the exclusive one: %lx", (long)data);
		must(read(ev[5], &v, 8));
		check(epoll_ctl(exclusive, EPOLL_CTL_MOD, ev[5], &(struct epoll_event){.events = EPOLLIN}) ==
				-1,
			"it is not exclusive any more");
		close(z[1]);
		check(wait_for(ep, &data, 0) == 0, "nothing is ready, and yet %lx", (long)data);
		for (int i = 0; i < 3; i++)
			must(write(ev[i], &v, 8));
		must(write(ev[3], &v, 8));
		must(write(p[1], "x", 1));
		check(wait_for(outer, &data, 1000) == 1 && data == 0x77, "the outer one: %lx", (long)data);
		check(wait_for(ep, &data, 1000) == 4 && data == 0xdeadbeef00000111ULL, "ready: %lx",
			(long)data);
		check(wait_for(ep, &data, 0) == 2 && data == 0xdeadbeef00000001ULL, "level-triggered: %lx",
			(long)data);
		e = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 0x100};
		for (int i = 0; i < 4; i++)
			must(read(ev[i], &v, 8));
		v = 1;
		must(read(p[0], &data, 1));
		must(epoll_ctl(ep, EPOLL_CTL_MOD, ev[2], &e));
		check(epoll_ctl(ep, EPOLL_CTL_ADD, ev[0], &e) == -1 && errno == EEXIST,
			"a target is not in it: %m");
		check(fcntl(ep, F_GETFD) == FD_CLOEXEC, "close-on-exec");
	}
	return 0;
}
