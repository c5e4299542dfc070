/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scanner that all /proc parsers share. It walks NUL-terminated text and never looks past the NUL:
 * every step tests one byte before it goes on. The kernel ends each line with a newline, so a last line
 * without one is taken for truncated text (-EBADMSG) rather than parsed into a number that lost its last
 * digits.
 *
 * scan_*() return whether the thing was there; on false the position is unspecified and the caller gives
 * up.
 */
#pragma once

#include <limits.h>
#include <string.h>

#include "linux/procfs.h"

struct scan {
	const char *p;
};

static inline bool scan_char(struct scan *s, char c)
{
	if (*s->p != c)
		return false;
	s->p++;
	return true;
}

static inline bool scan_literal(struct scan *s, const char *literal)
{
	while (*literal)
		if (!scan_char(s, *literal++))
			return false;
	return true;
}

/* Skips blanks, possibly none. Always true, so that it fits into a chain of &&. */
static inline bool scan_blank(struct scan *s)
{
	while (*s->p == ' ' || *s->p == '\t')
		s->p++;
	return true;
}

static inline bool scan_u64(struct scan *s, uint64_t *ret)
{
	const char *start = s->p;
	uint64_t v = 0;

	for (; *s->p >= '0' && *s->p <= '9'; s->p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->p - '0', &v))
			return false;
	*ret = v;
	return s->p != start;
}

static inline bool scan_octal(struct scan *s, uint64_t *ret)
{
	const char *start = s->p;
	uint64_t v = 0;

	for (; *s->p >= '0' && *s->p <= '7'; s->p++) {
		if (v >> 61)
			return false;
		v = v << 3 | (unsigned)(*s->p - '0');
	}
	*ret = v;
	return s->p != start;
}

/* -1 if c is no lower-case hexadecimal digit; the kernel prints lower case only. */
static inline int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static inline bool scan_hex(struct scan *s, uint64_t *ret)
{
	const char *start = s->p;
	uint64_t v = 0;
	int d;

	for (; (d = hex_digit(*s->p)) >= 0; s->p++) {
		if (v >> 60)
			return false;
		v = v << 4 | (unsigned)d;
	}
	*ret = v;
	return s->p != start;
}

static inline bool scan_hex32(struct scan *s, uint32_t *ret)
{
	uint64_t v;

	if (!scan_hex(s, &v) || v > UINT32_MAX)
		return false;
	*ret = v;
	return true;
}

static inline bool scan_u32(struct scan *s, uint32_t *ret)
{
	uint64_t v;

	if (!scan_u64(s, &v) || v > UINT32_MAX)
		return false;
	*ret = v;
	return true;
}

static inline bool scan_i64(struct scan *s, int64_t *ret)
{
	bool negative = scan_char(s, '-');
	uint64_t v;

	if (!scan_u64(s, &v) || v > (uint64_t)INT64_MAX + negative)
		return false;
	*ret = negative ? (int64_t)-v : (int64_t)v;
	return true;
}

static inline bool scan_int(struct scan *s, int *ret)
{
	int64_t v;

	if (!scan_i64(s, &v) || v < INT_MIN || v > INT_MAX)
		return false;
	*ret = v;
	return true;
}

/* A line of inotify or fanotify (procfs-marks.c). */
int proc_parse_mark(struct scan *s, struct arena *a, size_t *allocated, bool fanotify, struct proc_fdinfo *f);

/* The newline that ends the present line, NULL if the text ends first. */
static inline const char *scan_find_newline(const struct scan *s)
{
	const char *end = strchrnul(s->p, '\n');

	return *end ? end : NULL;
}

/* Skips the rest of the line. */
static inline bool scan_skip_line(struct scan *s)
{
	const char *end = scan_find_newline(s);

	if (!end)
		return false;
	s->p = end + 1;
	return true;
}

/* Nothing but blanks may be left on the line. */
static inline bool scan_end_line(struct scan *s)
{
	return scan_blank(s) && scan_char(s, '\n');
}

/* Makes room for one more element behind n; the old array stays in the arena until that goes. Arrays
 * double. */
static inline void *proc_grow(struct arena *a, void *array, size_t n, size_t *allocated, size_t size)
{
	size_t want = *allocated ? *allocated * 2 : 32;
	void *p;

	if (n < *allocated)
		return array;
	p = arena_array(a, want, size);
	if (!p)
		return NULL;
	if (n)
		memcpy(p, array, n * size);
	*allocated = want;
	return p;
}

/* Copies len bytes to dst (room for len + 1), turning "\ooo" back into its byte. Returns the new length.
 * If "only" is not 0, no other byte than that one is looked for: seq_path(m, path, "\n") escapes nothing
 * but the newline. */
static inline size_t proc_unescape(char *dst, const char *src, size_t len, unsigned char only)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (src[i] == '\\' && len - i >= 4 && src[i + 1] >= '0' && src[i + 1] <= '3' &&
			src[i + 2] >= '0' && src[i + 2] <= '7' && src[i + 3] >= '0' && src[i + 3] <= '7') {
			unsigned c = (src[i + 1] - '0') << 6 | (src[i + 2] - '0') << 3 | (src[i + 3] - '0');

			if (c && (!only || c == only)) {
				dst[n++] = (char)c;
				i += 3;
				continue;
			}
		}
		dst[n++] = src[i];
	}
	dst[n] = '\0';
	return n;
}

/* An unescaped copy in the arena. */
static inline const char *proc_unescaped(struct arena *a, const char *src, size_t len, unsigned char only)
{
	char *s;

	if (len == 0)
		return "";
	if (!memchr(src, '\\', len))
		return arena_strndup(a, src, len);
	s = arena_alloc(a, len + 1);
	if (s)
		proc_unescape(s, src, len, only);
	return s;
}
