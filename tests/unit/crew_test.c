/* SPDX-License-Identifier: Apache-2.0 */
/* base/crew.h: each item is done once, by whomever; results and errors come back; nothing goes on after an end. */
#include "base/crew.h"

#include <stdatomic.h>
#include <string.h>

#include "tap.h"

enum { N = 2000 };

struct work {
	atomic_int done[N];
	atomic_bool by_helper;
	size_t failing; /* N: none */
};

static int item(void *arg, size_t i, unsigned worker, struct error *e)
{
	struct work *w = arg;

	w->done[i]++;
	if (worker)
		w->by_helper = true;
	if (worker > CREW_HELPERS)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "worker %u", worker);
	if (i == w->failing)
		return error_set(e, -EIO, ERROR_SYSTEM, "item %zu", i);
	usleep(i % 100 == 0 ? 1000 : 0);
	return (int)i;
}

static bool each_once(const struct work *w)
{
	for (size_t i = 0; i < N; i++)
		if (w->done[i] != 1)
			return false;
	return true;
}

static void in_order(struct crew *c)
{
	struct work w = {.failing = N};
	struct error e;
	bool right = true;

	CHECK(crew_start(c, item, &w, N, &e) == 0);
	for (size_t i = 0; i < N; i++)
		right = right && crew_need(c, i, &e) == (int)i;
	CHECK(right);
	CHECK(crew_finish(c, &e) == 0);
	CHECK(each_once(&w));
}

static void backwards(struct crew *c)
{
	struct work w = {.failing = N};
	struct error e;
	bool right = true;

	CHECK(crew_start(c, item, &w, N, &e) == 0);
	for (size_t i = N; i-- > 0;)
		right = right && crew_need(c, i, &e) == (int)i && crew_need(c, i, &e) == (int)i;
	crew_drop(c);
	CHECK(right && each_once(&w));
}

static void all_at_once(struct crew *c, bool helpers)
{
	struct work w = {.failing = N};
	struct error e;

	CHECK(crew_start(c, item, &w, N, &e) == 0);
	usleep(5000);
	CHECK(crew_finish(c, &e) == 0);
	CHECK(each_once(&w) && w.by_helper == helpers);
}

static void failing(struct crew *c)
{
	struct work w = {.failing = 1000};
	struct error e = {};
	int after;

	CHECK(crew_start(c, item, &w, N, &e) == 0);
	CHECK(crew_finish(c, &e) == -EIO);
	CHECK(strcmp(e.message, "item 1000") == 0);
	after = w.done[N - 1];
	usleep(2000);
	CHECK(after == 0 && w.done[N - 1] == 0);
}

static void dropped(struct crew *c)
{
	struct work w = {.failing = N};
	struct error e;
	int before = 0, after = 0;

	CHECK(crew_start(c, item, &w, N, &e) == 0);
	crew_drop(c);
	for (size_t i = 0; i < N; i++)
		before += w.done[i];
	usleep(5000);
	for (size_t i = 0; i < N; i++)
		after += w.done[i];
	CHECK(before == after && after < N);
	crew_drop(c);
}

static void with_helpers(unsigned helpers)
{
	struct crew *c;
	struct error e;

	if (!CHECK(crew_new(helpers, &c, &e) == 0))
		return;
	in_order(c);
	backwards(c);
	all_at_once(c, helpers > 0 && sysconf(_SC_NPROCESSORS_ONLN) > 1);
	failing(c);
	dropped(c);
	CHECK(crew_start(c, item, NULL, 0, &e) == 0 && crew_finish(c, &e) == 0);
	crew_free(c);
}

static void alone(void)
{
	with_helpers(0);
}

static void one_helper(void)
{
	with_helpers(1);
}

static void all_helpers(void)
{
	with_helpers(CREW_HELPERS);
}

int main(void)
{
	static const struct tap_test tests[] = {{"the owner alone", alone}, {"one helper", one_helper},
		{"as many as there are CPUs", all_helpers}};

	return tap_main(tests, ARRAY_SIZE(tests));
}
