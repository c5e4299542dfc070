/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target of the parser of D-Bus messages: what it accepts lies in the message. */
#include "cgroup/bus.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void inside(const uint8_t *data, size_t size, const char *text)
{
	check(!text || !*text ||
		((const uint8_t *)text > data && (const uint8_t *)text + strlen(text) < data + size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bus_reply r;
	uint8_t *copy = malloc(size);

	if (!copy || size == 0) {
		free(copy);
		return 0;
	}
	memcpy(copy, data, size);
	if (bus_parse(copy, size, &r) == 0) {
		check(r.body >= copy && r.body + r.body_len == copy + size);
		inside(copy, size, r.error);
		inside(copy, size, r.signature);
		inside(copy, size, bus_reply_string(&r));
	}
	free(copy);
	return 0;
}
