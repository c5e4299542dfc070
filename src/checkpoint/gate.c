/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that is decided is in one word: a bit for each open gate, and who broke the others. It changes by compare and swap
 * only, so a member that is killed at any instruction leaves it whole; and it is what those who wait sleep on.
 */
#include "checkpoint/gate.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BREAKER_SHIFT = 16, MEMBERS_MAX = 32000 };

struct gate {
	size_t size;
	unsigned members;
	_Atomic uint32_t state;
	_Atomic int64_t running_at;
	struct {
		_Atomic unsigned come;
		_Atomic int64_t opened_at;
	} points[GATE_POINTS];
	struct error errors[]; /* one for each member, which alone writes it, and the guard's */
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int gate_new(unsigned members, struct gate **ret, struct error *e)
{
	size_t size = sizeof(struct gate) + (members + 1) * sizeof(struct error);
	struct gate *g;

	if (members == 0 || members > MEMBERS_MAX)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "gates for %u", members);
	g = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g == MAP_FAILED)
		return error_errno(e, -errno, "memory for gates");
	g->size = size;
	g->members = members;
	*ret = g;
	return 0;
}

void gate_free(struct gate *g)
{
	if (g)
		munmap(g, g->size);
}

void gate_reset(struct gate *g)
{
	size_t size = g->size;
	unsigned members = g->members;

	memset(g, 0, size);
	g->size = size;
	g->members = members;
}

static int breaker_of(uint32_t state)
{
	return (int)(state >> BREAKER_SHIFT) - 1;
}

/* False: broken by somebody else before. */
static bool change(struct gate *g, uint32_t bits)
{
	uint32_t state = atomic_load(&g->state);

	do {
		if (breaker_of(state) >= 0)
			return false;
	} while (!atomic_compare_exchange_weak(&g->state, &state, state | bits));
	syscall(SYS_futex, &g->state, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	return true;
}

void gate_break(struct gate *g, unsigned who, const struct error *why)
{
	if (!g || gate_breaker(g, NULL) >= 0)
		return;
	g->errors[who] = *why;
	(void)change(g, (who + 1) << BREAKER_SHIFT);
}

int gate_breaker(const struct gate *g, struct error *why)
{
	int who = breaker_of(atomic_load(&g->state));

	if (who >= 0 && why)
		*why = g->errors[who];
	return who;
}

bool gate_is_open(const struct gate *g, enum gate_point point)
{
	return atomic_load(&g->state) & 1u << point;
}

int64_t gate_opened_at(const struct gate *g, enum gate_point point)
{
	return gate_is_open(g, point) ? atomic_load(&g->points[point].opened_at) : 0;
}

void gate_note_running(struct gate *g)
{
	int64_t now = now_ns(), last = atomic_load(&g->running_at);

	while (last < now && !atomic_compare_exchange_weak(&g->running_at, &last, now))
		;
}

int64_t gate_last_running(const struct gate *g)
{
	return atomic_load(&g->running_at);
}

/* Whatever has just failed here, the gate may have opened before it could be broken. */
static int result_of(struct gate *g, enum gate_point point, unsigned who, struct error *e)
{
	struct error why = {};
	int breaker;

	if (gate_is_open(g, point))
		return 0;
	breaker = gate_breaker(g, &why);
	if (breaker != (int)who)
		why.code = -ECANCELED;
	if (e)
		*e = why;
	return why.code;
}

static int fail(struct gate *g, enum gate_point point, unsigned who, const struct error *why, struct error *e)
{
	gate_break(g, who, why);
	return result_of(g, point, who, e);
}

static int open_gate(
	struct gate *g, enum gate_point point, unsigned who, gate_last_fn *last, void *arg, struct error *e)
{
	struct error why = {};

	if (last && gate_breaker(g, NULL) < 0 && last(arg, &why) < 0)
		return fail(g, point, who, &why, e);
	atomic_store(&g->points[point].opened_at, now_ns());
	(void)change(g, 1u << point);
	return result_of(g, point, who, e);
}

/* The others need tens of microseconds where there is a CPU for each: then it is not worth while to sleep. */
static bool open_soon(const struct gate *g, enum gate_point point)
{
	enum { TURNS = 200 };

	for (int i = 0; i < TURNS && !gate_is_open(g, point) && gate_breaker(g, NULL) < 0; i++)
		__builtin_ia32_pause();
	return gate_is_open(g, point);
}

int gate_meet(struct gate *g, enum gate_point point, unsigned who, gate_go_on_fn *go_on, gate_last_fn *last,
	void *arg, struct error *e)
{
	static const struct timespec asked_every = {.tv_nsec = 50 * 1000000};
	struct error why = {};
	uint32_t state;

	if (!g)
		return last ? last(arg, e) : 0;
	if (atomic_fetch_add(&g->points[point].come, 1) + 1 == g->members)
		return open_gate(g, point, who, last, arg, e);
	if (open_soon(g, point))
		return 0;
	for (;;) {
		state = atomic_load(&g->state);
		if ((state & 1u << point) || breaker_of(state) >= 0)
			return result_of(g, point, who, e);
		if (go_on && go_on(arg, &why) < 0)
			return fail(g, point, who, &why, e);
		syscall(SYS_futex, &g->state, FUTEX_WAIT, state, &asked_every, NULL, 0);
	}
}
