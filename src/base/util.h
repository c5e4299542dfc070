/* SPDX-License-Identifier: Apache-2.0 */
/* Small macros that every layer uses: ownership (_cleanup_, take_ptr, take_fd), sizes, attributes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(f, a) __attribute__((format(printf, f, a)))
#define _unused_ __attribute__((unused))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a) (((x) + ((a)-1)) & ~((a)-1))

/* Hands a pointer (or fd) on: the variable is emptied, so that its _cleanup_ does nothing. */
#define take_ptr(p)                                                                                          \
	({                                                                                                   \
		__typeof__(p) *_pp = &(p);                                                                   \
		__typeof__(p) _v = *_pp;                                                                     \
		*_pp = NULL;                                                                                 \
		_v;                                                                                          \
	})

static inline void free_p(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(free_p)

/* "a" * "b" + "c" for sizes that come from outside; true when it does not fit. */
static inline bool size_overflows(size_t a, size_t b, size_t c, size_t *ret)
{
	return __builtin_mul_overflow(a, b, ret) || __builtin_add_overflow(*ret, c, ret);
}
