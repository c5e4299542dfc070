/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/mountinfo: the mounts of a mount namespace, in the order in which they were made (a parent may
 * come after its child when mounts were moved). Blank, tab, newline, backslash and, in sources, "#" are
 * escaped as "\ooo", so fields are separated by single blanks for sure; the optional fields end with a
 * lone "-".
 */
#include "linux/procfs-priv.h"

/* The next blank-separated field of the line, unescaped. NULL: ran out of memory. */
static int parse_field(struct scan *s, struct arena *a, const char **ret)
{
	const char *start = s->p;

	while (*s->p && *s->p != ' ' && *s->p != '\n')
		s->p++;
	if (!*s->p)
		return -EBADMSG;
	*ret = proc_unescaped(a, start, s->p - start, 0);
	return *ret ? 0 : -ENOMEM;
}

/* "shared:1 master:2 - " or "- "; *ret gets the tags separated by blanks. */
static int parse_optional(struct scan *s, struct arena *a, const char **ret)
{
	const char *start = s->p, *end;

	for (;;) {
		if (s->p[0] == '-' && s->p[1] == ' ')
			break;
		while (*s->p && *s->p != ' ' && *s->p != '\n')
			s->p++;
		if (!scan_char(s, ' '))
			return -EBADMSG;
	}
	end = s->p > start ? s->p - 1 : s->p;
	*ret = proc_unescaped(a, start, end - start, 0);
	s->p += 2;
	return *ret ? 0 : -ENOMEM;
}

static int parse_mount(struct scan *s, struct arena *a, struct proc_mount *m)
{
	const char **fields[] = {&m->root, &m->target, &m->options};
	const char **tail[] = {&m->fstype, &m->source};
	const char *end;
	int r;

	if (!scan_int(s, &m->id) || !scan_char(s, ' ') || !scan_int(s, &m->parent_id) || !scan_char(s, ' ') ||
		!scan_u32(s, &m->dev_major) || !scan_char(s, ':') || !scan_u32(s, &m->dev_minor) ||
		!scan_char(s, ' '))
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		r = parse_field(s, a, fields[i]);
		if (r < 0)
			return r;
		if (!scan_char(s, ' '))
			return -EBADMSG;
	}
	r = parse_optional(s, a, &m->optional);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(tail); i++) {
		r = parse_field(s, a, tail[i]);
		if (r < 0)
			return r;
		if (!scan_char(s, ' '))
			return -EBADMSG;
	}
	/* File systems print the last field themselves, not all of them escape it. */
	end = scan_find_newline(s);
	if (!end)
		return -EBADMSG;
	m->super_options = proc_unescaped(a, s->p, end - s->p, 0);
	s->p = end + 1;
	return m->super_options ? 0 : -ENOMEM;
}

int proc_parse_mountinfo(const char *text, struct arena *a, struct proc_mount **ret, size_t *ret_n)
{
	struct scan s = {text};
	struct proc_mount *mounts = NULL;
	size_t n = 0, allocated = 0;
	int r;

	while (*s.p) {
		mounts = proc_grow(a, mounts, n, &allocated, sizeof(*mounts));
		if (!mounts)
			return -ENOMEM;
		r = parse_mount(&s, a, &mounts[n]);
		if (r < 0)
			return r;
		n++;
	}
	*ret = mounts;
	*ret_n = n;
	return 0;
}
