/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK_SIZE = 16 * 1024, SHARED_CHUNK_SIZE = 1024 * 1024, PAGE = 4096 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	_Alignas(16) char data[];
};

void arena_done(struct arena *a)
{
	struct arena_chunk *next;

	for (struct arena_chunk *c = a->head; c; c = next) {
		next = c->next;
		if (a->shared)
			munmap(c, sizeof(*c) + c->size);
		else
			free(c);
	}
	a->head = NULL;
}

void arena_take(struct arena *a, struct arena *from)
{
	struct arena_chunk **last = &from->head;

	while (*last)
		last = &(*last)->next;
	/* What a has begun goes on: its chunk stays the first. */
	if (a->head) {
		*last = a->head->next;
		a->head->next = from->head;
	} else {
		a->head = from->head;
	}
	from->head = NULL;
}

static void *alloc_fixed(struct arena *a, size_t size)
{
	void *p = a->fixed + a->fixed_used;

	if (size > a->fixed_size - a->fixed_used)
		return NULL;
	a->fixed_used += size;
	return p;
}

/* Zeroed, with room for "size" bytes. */
static struct arena_chunk *new_chunk(const struct arena *a, size_t size)
{
	size_t len = sizeof(struct arena_chunk) + MAX(size, (size_t)CHUNK_SIZE);
	struct arena_chunk *c;

	if (!a->shared) {
		c = calloc(1, len);
	} else {
		len = ALIGN_UP(MAX(len, (size_t)SHARED_CHUNK_SIZE), (size_t)PAGE);
		c = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (c == MAP_FAILED)
			c = NULL;
	}
	if (c)
		c->size = len - sizeof(*c);
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->head;
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = ALIGN_UP(MAX(size, (size_t)1), (size_t)16);
	if (a->fixed)
		return alloc_fixed(a, size);
	if (!c || c->size - c->used < size) {
		c = new_chunk(a, size);
		if (!c)
			return NULL;
		c->next = a->head;
		a->head = c;
	}
	p = c->data + c->used;
	c->used += size;
	return p;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
	size_t total;

	if (size_overflows(n, size, 0, &total))
		return NULL;
	return arena_alloc(a, total);
}

void *arena_memdup(struct arena *a, const void *p, size_t n)
{
	void *q = arena_alloc(a, n);

	if (q && n)
		memcpy(q, p, n);
	return q;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *q = arena_alloc(a, n + 1);

	if (q)
		memcpy(q, s, n);
	return q;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&s, format, ap);
	va_end(ap);
	if (n < 0) {
		s = NULL;
		return NULL;
	}
	return arena_strndup(a, s, n);
}

void *arena_grow(struct arena *a, void *items, size_t n, size_t *max, size_t size)
{
	void *more;

	if (n < *max)
		return items;
	*max = MAX(16, 2 * *max);
	more = arena_array(a, *max, size);
	if (more && n > 0)
		memcpy(more, items, n * size);
	return more;
}
