/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of fdinfo that tell of inotify watches and fanotify marks: words "key:hex", the first of which are
 *
 *	inotify wd:1 ino:3c51a sdev:fe00000 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:1ac5030000000000
 *	fanotify flags:10 event-flags:0
 *	fanotify mnt_id:12 mflags:40 mask:38 ignored_mask:40000003
 *	fanotify ino:4f969 sdev:800013 mflags:0 mask:3b ignored_mask:0 fhandle-bytes:8 ...
 *	fanotify sdev:800013 mflags:0 mask:3b ignored_mask:0
 *
 * (Documentation/filesystems/proc.rst). File systems without file handles leave the last three out.
 */
#include "linux/procfs-priv.h"

static bool parse_handle(struct scan *s, struct proc_mark *m)
{
	for (unsigned i = 0; i < m->handle_bytes; i++) {
		int hi = hex_digit(s->p[0]), lo = hi < 0 ? -1 : hex_digit(s->p[1]);

		if (lo < 0)
			return false;
		m->handle[i] = hi << 4 | lo;
		s->p += 2;
	}
	return true;
}

static bool parse_word(struct scan *s, struct proc_mark *m, uint32_t *ret_event_flags)
{
	struct {
		const char *key;
		uint32_t *to;
	} const words[] = {{"wd:", &m->wd}, {"sdev:", &m->sdev}, {"mask:", &m->mask},
		{"ignored_mask:", &m->ignored_mask}, {"mflags:", &m->flags}, {"flags:", &m->flags},
		{"event-flags:", ret_event_flags}, {"mnt_id:", &m->mnt_id},
		{"fhandle-bytes:", &m->handle_bytes}, {"fhandle-type:", &m->handle_type}};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t n = strlen(words[i].key);

		if (strncmp(s->p, words[i].key, n) != 0)
			continue;
		s->p += n;
		return scan_hex32(s, words[i].to) && m->handle_bytes <= sizeof(m->handle);
	}
	if (strncmp(s->p, "ino:", 4) == 0)
		return scan_literal(s, "ino:") && scan_hex(s, &m->ino);
	return scan_literal(s, "f_handle:") && parse_handle(s, m);
}

/* Behind "inotify " or "fanotify ". */
int proc_parse_mark(struct scan *s, struct arena *a, size_t *allocated, bool fanotify, struct proc_fdinfo *f)
{
	bool group = fanotify && strncmp(s->p, "flags:", 6) == 0;
	struct proc_mark m = {};
	uint32_t event_flags = 0;

	while (scan_blank(s) && *s->p != '\n')
		if (!parse_word(s, &m, &event_flags))
			return -EBADMSG;
	if (!scan_char(s, '\n') || (!fanotify && (!m.wd || m.wd > INT_MAX)))
		return -EBADMSG;
	f->has_inotify |= !fanotify;
	f->has_fanotify |= fanotify;
	if (group) {
		f->fanotify_flags = m.flags;
		f->fanotify_event_flags = event_flags;
		return 0;
	}
	f->marks = proc_grow(a, f->marks, f->n_marks, allocated, sizeof(*f->marks));
	if (!f->marks)
		return -ENOMEM;
	f->marks[f->n_marks++] = m;
	return 0;
}
