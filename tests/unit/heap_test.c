/* SPDX-License-Identifier: Apache-2.0 */
/* base/heap.h: what is given out next is there already. */
#include "base/heap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tap.h"

static long faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt;
}

static void *kept; /* the piece that was taken last, which begins with the address of the one before */

/* How many page faults it takes to fill so much, in pieces; they are not given back. */
static long fill(size_t size)
{
	enum { PIECE = 8000 };
	long before = faults();

	for (size_t done = 0; done < size; done += PIECE) {
		char *p = malloc(PIECE);

		if (!p)
			break;
		memset(p, 1, PIECE);
		*(void **)p = kept;
		kept = p;
	}
	return faults() - before;
}

static void is_there_already(void)
{
	enum { SIZE = 256 << 10, PAGES = SIZE / 4096 };
	bool is_ours = true;
	long without = fill(SIZE), with;

#ifdef __SANITIZE_ADDRESS__ /* which has a heap of its own */
	is_ours = false;
#endif
	heap_prepare(SIZE);
	with = fill(SIZE - (32 << 10));
	CHECK(!is_ours || without > PAGES / 2, "%ld faults without it: nothing is measured", without);
	CHECK(!is_ours || with < 8, "%ld faults, %ld without it", with, without);
}

int main(void)
{
	static const struct tap_test tests[] = {{"no page faults", is_there_already}};

	return tap_main(tests, 1);
}
