/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is freed in one piece: one arena per spec and per dump plan. Blocks are zeroed and 16-byte aligned.
 * Every allocation returns NULL when memory (or the arena's limit) is used up; nothing aborts.
 */
#pragma once

#include <stdarg.h>

#include "base/util.h"

struct arena_chunk;
struct arena {
	struct arena_chunk *head;
	bool shared; /* with processes that are forked: none of it is copied, nor its page tables */
	/* Zeroed memory of somebody else's (16-byte aligned) instead, which is not freed; NULL */
	char *fixed;
	size_t fixed_size, fixed_used;
};

void arena_done(struct arena *a);
/* All that "from" has is "a"'s. Both are of the same kind. */
void arena_take(struct arena *a, struct arena *from);
void *arena_alloc(struct arena *a, size_t size) _must_check_;
/* n elements of "size" bytes; NULL on overflow too. */
void *arena_array(struct arena *a, size_t n, size_t size) _must_check_;
/* Room for one more than the n elements of that size in "items" (of "max", which grows with it); NULL: none. */
void *arena_grow(struct arena *a, void *items, size_t n, size_t *max, size_t size) _must_check_;
char *arena_strdup(struct arena *a, const char *s) _must_check_;
char *arena_strndup(struct arena *a, const char *s, size_t n) _must_check_;
void *arena_memdup(struct arena *a, const void *p, size_t n) _must_check_;
char *arena_printf(struct arena *a, const char *format, ...) _printf_(2, 3) _must_check_;
#define arena_new(a, type) ((type *)arena_alloc(a, sizeof(type)))
