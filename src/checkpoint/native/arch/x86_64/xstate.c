/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended registers of one CPU for another: the standard format of xsave, whose components lie where CPUID says. Pure.
 */
#include <stdio.h>
#include <string.h>

#include "checkpoint/native/cpu.h"

enum { HEADER_AT = 512, AVX_AT = 576, AVX_SIZE = 256, COMPONENTS = 63, STATE_MAX = 16384 };

struct layout {
	struct {
		unsigned offset, size; /* size 0: the CPU lacks it */
	} of[COMPONENTS];
};

static int parse(const char *text, struct layout *l)
{
	*l = (struct layout){};
	l->of[2].offset = AVX_AT;
	l->of[2].size = AVX_SIZE;
	while (*text) {
		unsigned i, offset, size;
		int n = 0;

		if (sscanf(text, "%2u:%5u:%5u%n", &i, &offset, &size, &n) != 3 || i <= 2 || i >= COMPONENTS ||
			offset < AVX_AT + AVX_SIZE || size == 0 || offset > STATE_MAX - size ||
			size > STATE_MAX || l->of[i].size)
			return -EBADMSG;
		l->of[i].offset = offset;
		l->of[i].size = size;
		text += n;
		text += *text == ' ';
	}
	return 0;
}

int cpu_convert(const char *from, const void *xstate, size_t len, const char *to, void *buf, size_t size,
	uint64_t *ret_missing)
{
	struct layout a, b;
	uint64_t used;

	if (len < AVX_AT || size < AVX_AT || parse(from, &a) < 0 || parse(to, &b) < 0)
		return -EBADMSG;
	memcpy(&used, (const char *)xstate + HEADER_AT, sizeof(used));
	memcpy(buf, xstate, HEADER_AT + sizeof(used));
	*ret_missing = used >> COMPONENTS << COMPONENTS;
	for (unsigned i = 2; i < COMPONENTS; i++) {
		if (!(used & 1ull << i))
			continue;
		if (a.of[i].size == 0 || a.of[i].offset + a.of[i].size > len)
			return -EBADMSG;
		if (b.of[i].size != a.of[i].size || b.of[i].offset + b.of[i].size > size)
			*ret_missing |= 1ull << i;
		else
			memcpy((char *)buf + b.of[i].offset, (const char *)xstate + a.of[i].offset,
				b.of[i].size);
	}
	return *ret_missing ? -EOPNOTSUPP : 0;
}
