/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The little that a C unit test needs. A test is a function of static storage in the table given to tap_main(); inside
 * it every CHECK() that fails prints where, and fails the test. Output is TAP.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct tap_test {
	const char *name;
	void (*run)(void);
};

static bool tap_failed;

#define CHECK(cond, ...)                                                                                     \
	({                                                                                                   \
		bool _ok = (cond);                                                                           \
		if (!_ok) {                                                                                  \
			tap_failed = true;                                                                   \
			printf("# %s:%d: %s", __FILE__, __LINE__, #cond);                                    \
			printf(" " __VA_ARGS__);                                                             \
			printf("\n");                                                                        \
		}                                                                                            \
		_ok;                                                                                         \
	})

static inline int tap_main(const struct tap_test *tests, size_t n)
{
	int bad = 0;

	printf("1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		tap_failed = false;
		tests[i].run();
		printf("%s %zu - %s\n", tap_failed ? "not ok" : "ok", i + 1, tests[i].name);
		fflush(stdout);
		bad |= tap_failed;
	}
	return bad;
}
