/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint/gate.h: nobody passes a gate alone; whoever fails or dies holds nobody up; all agree on what was passed. */
#include "checkpoint/gate.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

enum { MEMBERS = 4 };

/* In memory that all share. */
static struct board {
	atomic_int come[GATE_POINTS], lasts;
	atomic_bool early, told_to_stop;
	int results[MEMBERS][GATE_POINTS];
	struct error errors[MEMBERS];
} * board;

static struct gate *gate;

static void begin(void)
{
	if (!board)
		board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(board, 0, sizeof(*board));
	CHECK(gate_new(MEMBERS, &gate, NULL) == 0);
}

static int last(void *arg, struct error *e)
{
	(void)arg;
	(void)e;
	board->lasts++;
	return 0;
}

static int failing_last(void *arg, struct error *e)
{
	(void)arg;
	return error_set(e, -ENOSPC, ERROR_SYSTEM, "the last one failed");
}

static int go_on(void *arg, struct error *e)
{
	(void)arg;
	return board->told_to_stop ? error_set(e, -EINTR, ERROR_SYSTEM, "told to stop") : 0;
}

static void meet(unsigned who, enum gate_point p, gate_last_fn *at_last)
{
	board->come[p]++;
	board->results[who][p] = gate_meet(gate, p, who, go_on, at_last, NULL, &board->errors[who]);
	if (board->results[who][p] == 0 && board->come[p] != MEMBERS)
		board->early = true;
}

/* Each member in a process of its own. */
static void run(void (*f)(unsigned who), pid_t pids[MEMBERS])
{
	for (unsigned i = 0; i < MEMBERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			f(i);
			_exit(0);
		}
	}
}

static void wait_for(const pid_t pids[MEMBERS])
{
	for (unsigned i = 0; i < MEMBERS; i++)
		waitpid(pids[i], NULL, 0);
}

static void all_points(unsigned who)
{
	for (int p = 0; p < GATE_POINTS; p++) {
		usleep(who * 500);
		meet(who, p, p == GATE_COMMITTED ? last : NULL);
	}
}

static void all_pass(void)
{
	pid_t pids[MEMBERS];

	begin();
	for (int i = 0; i < 2; i++) {
		run(all_points, pids);
		wait_for(pids);
		CHECK(!board->early);
		CHECK(board->lasts == i + 1);
		for (int p = 0; p < GATE_POINTS; p++) {
			CHECK(gate_is_open(gate, p) && gate_opened_at(gate, p) > 0);
			CHECK(p == 0 || gate_opened_at(gate, p) > gate_opened_at(gate, p - 1));
			for (unsigned k = 0; k < MEMBERS; k++)
				CHECK(board->results[k][p] == 0);
		}
		CHECK(gate_breaker(gate, NULL) == -1);
		gate_reset(gate);
		memset(board->come, 0, sizeof(board->come));
		CHECK(!gate_is_open(gate, GATE_READY));
	}
	gate_free(gate);
}

/* The others have passed the first gate and wait at the second one. */
static void one_fails(unsigned who)
{
	struct error why;

	meet(who, GATE_READY, NULL);
	if (who == 2) {
		usleep(20000);
		error_set(&why, -EPERM, ERROR_REFUSED, "the third has something");
		gate_break(gate, who, &why);
		return;
	}
	meet(who, GATE_STOPPED, NULL);
}

static void by_a_member(void)
{
	struct error why;
	pid_t pids[MEMBERS];

	begin();
	run(one_fails, pids);
	wait_for(pids);
	for (unsigned k = 0; k < MEMBERS; k++) {
		CHECK(board->results[k][GATE_READY] == 0);
		CHECK(k == 2 || board->results[k][GATE_STOPPED] == -ECANCELED);
		CHECK(k == 2 || !strcmp(board->errors[k].message, "the third has something"));
	}
	CHECK(gate_breaker(gate, &why) == 2 && why.code == -EPERM && why.kind == ERROR_REFUSED);
	/* The first one counts. */
	gate_break(gate, 1, &(struct error){.code = -EIO});
	CHECK(gate_breaker(gate, NULL) == 2);
	CHECK(gate_is_open(gate, GATE_READY) && !gate_is_open(gate, GATE_STOPPED));
	gate_free(gate);
}

static void one_dies(unsigned who)
{
	if (who == 0)
		raise(SIGKILL);
	meet(who, GATE_READY, NULL);
}

static void by_the_guard(void)
{
	struct error why;
	pid_t pids[MEMBERS];

	begin();
	run(one_dies, pids);
	waitpid(pids[0], NULL, 0);
	error_set(&why, -ECHILD, ERROR_SYSTEM, "one has died");
	gate_break(gate, MEMBERS, &why);
	wait_for(pids);
	for (unsigned k = 1; k < MEMBERS; k++)
		CHECK(board->results[k][GATE_READY] == -ECANCELED);
	CHECK(gate_breaker(gate, NULL) == MEMBERS);
	gate_free(gate);
}

static void told_to_stop(void)
{
	pid_t pids[MEMBERS];

	begin();
	run(one_dies, pids);
	usleep(10000);
	board->told_to_stop = true;
	wait_for(pids);
	for (unsigned k = 1; k < MEMBERS; k++)
		CHECK(board->results[k][GATE_READY] == -EINTR || board->results[k][GATE_READY] == -ECANCELED);
	CHECK(gate_breaker(gate, NULL) > 0);
	gate_free(gate);
}

static void commit_fails(unsigned who)
{
	meet(who, GATE_COMMITTED, failing_last);
}

static void last_fails(void)
{
	unsigned own = 0;
	pid_t pids[MEMBERS];

	begin();
	run(commit_fails, pids);
	wait_for(pids);
	for (unsigned k = 0; k < MEMBERS; k++) {
		CHECK(board->results[k][GATE_COMMITTED] < 0);
		CHECK(!strcmp(board->errors[k].message, "the last one failed"));
		own += board->results[k][GATE_COMMITTED] == -ENOSPC;
	}
	CHECK(own == 1);
	CHECK(!gate_is_open(gate, GATE_COMMITTED));
	gate_free(gate);
}

static void commit(unsigned who)
{
	usleep(who * 200);
	meet(who, GATE_COMMITTED, NULL);
}

/* Broken at any moment: all have passed the gate, or none has. */
static void all_or_none(void)
{
	unsigned passed = 0, broken = 0;

	for (int i = 0; i < 300; i++) {
		pid_t pids[MEMBERS];
		unsigned n = 0;

		begin();
		run(commit, pids);
		usleep(i * 5);
		gate_break(gate, MEMBERS, &(struct error){.code = -EINTR});
		wait_for(pids);
		for (unsigned k = 0; k < MEMBERS; k++)
			n += board->results[k][GATE_COMMITTED] == 0;
		if (!CHECK(n == 0 || n == MEMBERS, "%u", n) ||
			!CHECK(gate_is_open(gate, GATE_COMMITTED) == (n == MEMBERS)))
			break;
		passed += n == MEMBERS;
		broken += n == 0;
		gate_free(gate);
	}
	printf("# passed %u, broken %u\n", passed, broken);
}

static void without_gates(void)
{
	struct error e;

	begin();
	CHECK(gate_meet(NULL, GATE_COMMITTED, 0, NULL, last, NULL, &e) == 0);
	CHECK(board->lasts == 1);
	CHECK(gate_meet(NULL, GATE_COMMITTED, 0, NULL, failing_last, NULL, &e) == -ENOSPC);
	gate_break(NULL, 0, &e);
	gate_free(gate);
}

static const struct tap_test tests[] = {
	{"all pass, twice", all_pass},
	{"a member breaks them", by_a_member},
	{"the guard breaks them for one that has died", by_the_guard},
	{"one that waits is told to stop", told_to_stop},
	{"what the last one does fails", last_fails},
	{"all or none", all_or_none},
	{"without gates", without_gates},
};

int main(void)
{
	return tap_main(tests, sizeof(tests) / sizeof(*tests));
}
