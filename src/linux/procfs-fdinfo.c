/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/fdinfo/N: what an open file description says about itself. Four common lines, then lines that
 * depend on the kind of file. Kinds and lines that are not known here are skipped; a line that is known
 * and malformed is an error, since its value would go into the image.
 */
#include "linux/procfs-priv.h"

/* "(12, 345)": seconds and nanoseconds */
static bool parse_pair(struct scan *s, int64_t *sec, int64_t *nsec)
{
	return scan_blank(s) && scan_char(s, '(') && scan_i64(s, sec) && scan_literal(s, ", ") &&
	       scan_i64(s, nsec) && scan_literal(s, ")\n") && *nsec >= 0 && *nsec < 1000000000;
}

/* "tfd:        4 events: 80000019 data:                4  pos:0 ino:40e sdev:10" */
static int parse_epoll(struct scan *s, struct arena *a, size_t *allocated, struct proc_fdinfo *f)
{
	struct proc_epoll_target *t;
	int64_t pos;

	f->epoll = proc_grow(a, f->epoll, f->n_epoll, allocated, sizeof(*f->epoll));
	if (!f->epoll)
		return -ENOMEM;
	t = &f->epoll[f->n_epoll];
	*t = (struct proc_epoll_target){0};
	if (!scan_blank(s) || !scan_int(s, &t->tfd) || !scan_literal(s, " events:") || !scan_blank(s) ||
		!scan_hex32(s, &t->events) || !scan_literal(s, " data:") || !scan_blank(s) ||
		!scan_hex(s, &t->data) || !scan_blank(s) || !scan_literal(s, "pos:") || !scan_i64(s, &pos) ||
		!scan_literal(s, " ino:") || !scan_hex(s, &t->ino) || !scan_literal(s, " sdev:") ||
		!scan_hex32(s, &t->sdev) || !scan_end_line(s))
		return -EBADMSG;
	t->pos = (uint64_t)pos;
	f->n_epoll++;
	f->has_epoll = true;
	return 0;
}

/* "FLOCK  ADVISORY  WRITE" */
static bool parse_lock_type(struct scan *s, struct proc_lock *l)
{
	static const struct {
		const char *text;
		enum proc_lock_type type;
	} types[] = {{"POSIX  ADVISORY  ", PROC_LOCK_POSIX}, {"OFDLCK ADVISORY  ", PROC_LOCK_OFD},
		{"FLOCK  ADVISORY  ", PROC_LOCK_FLOCK}, {"LEASE  ACTIVE    ", PROC_LOCK_LEASE},
		{"LEASE  BREAKING  ", PROC_LOCK_LEASE}};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strncmp(s->p, types[i].text, strlen(types[i].text)) != 0)
			continue;
		l->type = types[i].type;
		l->breaking = strstr(types[i].text, "BREAKING") != NULL;
		s->p += strlen(types[i].text);
		l->write = strncmp(s->p, "WRITE ", 6) == 0;
		return scan_literal(s, l->write ? "WRITE " : "READ ") ||
		       (l->breaking && scan_literal(s, "UNLCK "));
	}
	return false;
}

/* "\t1: POSIX  ADVISORY  WRITE 3466 fe:00:10952795 5 14", "... 0 EOF" */
static int parse_lock(struct scan *s, struct arena *a, size_t *allocated, struct proc_fdinfo *f)
{
	struct proc_lock *l;
	uint64_t number;
	uint32_t device;

	f->locks = proc_grow(a, f->locks, f->n_locks, allocated, sizeof(*f->locks));
	if (!f->locks)
		return -ENOMEM;
	l = &f->locks[f->n_locks++];
	*l = (struct proc_lock){.type = PROC_LOCK_OTHER};
	if (!scan_blank(s) || !scan_u64(s, &number) || !scan_literal(s, ": "))
		return -EBADMSG;
	if (!parse_lock_type(s, l)) {
		l->type = PROC_LOCK_OTHER;
		return scan_skip_line(s) ? 0 : -EBADMSG;
	}
	if (!scan_int(s, &l->pid) || !scan_char(s, ' ') || !scan_hex32(s, &device) || !scan_char(s, ':') ||
		!scan_hex32(s, &device) || !scan_char(s, ':') || !scan_u64(s, &number) ||
		!scan_char(s, ' ') || !scan_i64(s, &l->start) || !scan_char(s, ' '))
		return -EBADMSG;
	if (scan_literal(s, "EOF\n"))
		l->end = INT64_MAX;
	else if (!scan_i64(s, &l->end) || l->end < l->start || !scan_end_line(s))
		return -EBADMSG;
	return l->start < 0 ? -EBADMSG : 0;
}

/* "NSpid:\t12\t3": one number a level, the innermost last; "NSpid:\t0" outside of the reader's namespace. */
static bool parse_nspid(struct scan *s, int *ret)
{
	do {
		if (!scan_blank(s) || !scan_int(s, ret))
			return false;
	} while (*s->p != '\n');
	return scan_char(s, '\n');
}

enum key {
	KEY_POS,
	KEY_FLAGS,
	KEY_MNT_ID,
	KEY_INO,
	KEY_EVENTFD_COUNT,
	KEY_EVENTFD_ID,
	KEY_EVENTFD_SEMAPHORE,
	KEY_SIGMASK,
	KEY_CLOCKID,
	KEY_TICKS,
	KEY_SETTIME_FLAGS,
	KEY_IT_VALUE,
	KEY_IT_INTERVAL,
	KEY_PID,
	KEY_NSPID,
	KEY_TFD,
	KEY_LOCK,
	KEY_SCM_FDS,
	KEY_TUN,
	KEY_MAP_ID,
	KEY_FROZEN,
	KEY_INOTIFY,
	KEY_FANOTIFY,
	KEY_COUNT,
};

#define K(s)                                                                                                 \
	{                                                                                                    \
		s, sizeof(s) - 1                                                                             \
	}
static const struct {
	const char *text;
	size_t len;
} keys[KEY_COUNT] = {
	[KEY_POS] = K("pos:"),
	[KEY_FLAGS] = K("flags:"),
	[KEY_MNT_ID] = K("mnt_id:"),
	[KEY_INO] = K("ino:"),
	[KEY_EVENTFD_COUNT] = K("eventfd-count:"),
	[KEY_EVENTFD_ID] = K("eventfd-id:"),
	[KEY_EVENTFD_SEMAPHORE] = K("eventfd-semaphore:"),
	[KEY_SIGMASK] = K("sigmask:"),
	[KEY_CLOCKID] = K("clockid:"),
	[KEY_TICKS] = K("ticks:"),
	[KEY_SETTIME_FLAGS] = K("settime flags:"),
	[KEY_IT_VALUE] = K("it_value:"),
	[KEY_IT_INTERVAL] = K("it_interval:"),
	[KEY_PID] = K("Pid:"),
	[KEY_NSPID] = K("NSpid:"),
	[KEY_TFD] = K("tfd:"),
	[KEY_LOCK] = K("lock:"),
	[KEY_SCM_FDS] = K("scm_fds:"),
	[KEY_TUN] = K("iff:"),
	[KEY_MAP_ID] = K("map_id:"),
	[KEY_FROZEN] = K("frozen:"),
	[KEY_INOTIFY] = K("inotify "),
	[KEY_FANOTIFY] = K("fanotify "),
};

/* The lines of one file come in the order of the table, so the search begins where the last one ended. */
static enum key find_key(const char *line, enum key from)
{
	for (unsigned i = 0; i < KEY_COUNT; i++) {
		enum key k = (from + i) % KEY_COUNT;

		if (line[0] == keys[k].text[0] && !strncmp(line, keys[k].text, keys[k].len))
			return k;
	}
	return KEY_COUNT;
}

static bool parse_octal_flags(struct scan *s, uint64_t max, uint64_t *ret)
{
	return scan_octal(s, ret) && *ret <= max && scan_end_line(s);
}

/* To the end of the line, which may be there at once. */
static bool parse_name(struct scan *s, char *to, size_t size)
{
	size_t len = strcspn(s->p, "\n");

	if (len >= size)
		return false;
	memcpy(to, s->p, len);
	to[len] = '\0';
	return scan_skip_line(s);
}

static bool parse_value(struct scan *s, enum key k, struct proc_fdinfo *f)
{
	uint64_t v;

	scan_blank(s);
	switch (k) {
	case KEY_POS:
		return scan_i64(s, &f->pos) && scan_end_line(s);
	case KEY_FLAGS:
		if (!parse_octal_flags(s, UINT_MAX, &v))
			return false;
		f->flags = v;
		return true;
	case KEY_MNT_ID:
		return scan_int(s, &f->mnt_id) && scan_end_line(s);
	case KEY_INO:
		return scan_u64(s, &f->ino) && scan_end_line(s);
	case KEY_EVENTFD_COUNT:
		f->has_eventfd = true;
		return scan_hex(s, &f->eventfd_count) && scan_end_line(s);
	case KEY_EVENTFD_ID:
		return scan_int(s, &f->eventfd_id) && scan_end_line(s);
	case KEY_EVENTFD_SEMAPHORE:
		return scan_int(s, &f->eventfd_semaphore) && scan_end_line(s);
	case KEY_SIGMASK:
		f->has_signalfd = true;
		return scan_hex(s, &f->sigmask) && scan_end_line(s);
	case KEY_CLOCKID:
		f->has_timerfd = true;
		return scan_int(s, &f->clockid) && scan_end_line(s);
	case KEY_TICKS:
		return scan_u64(s, &f->ticks) && scan_end_line(s);
	case KEY_SETTIME_FLAGS:
		if (!parse_octal_flags(s, INT_MAX, &v))
			return false;
		f->settime_flags = v;
		return true;
	case KEY_IT_VALUE:
		return parse_pair(s, &f->it_value.sec, &f->it_value.nsec);
	case KEY_IT_INTERVAL:
		return parse_pair(s, &f->it_interval.sec, &f->it_interval.nsec);
	case KEY_PID:
		f->has_pidfd = true;
		return scan_int(s, &f->pidfd_pid) && scan_end_line(s);
	case KEY_NSPID:
		return parse_nspid(s, &f->pidfd_nspid);
	case KEY_TUN:
		return parse_name(s, f->tun, sizeof(f->tun));
	case KEY_MAP_ID:
		if (!scan_u64(s, &v) || v > UINT32_MAX)
			return false;
		f->bpf_map_id = v;
		return scan_end_line(s);
	case KEY_FROZEN:
		if (!scan_u64(s, &v))
			return false;
		f->bpf_frozen = v != 0;
		return scan_end_line(s);
	case KEY_SCM_FDS:
		return scan_u64(s, &f->scm_fds) && scan_end_line(s);
	default:
		return scan_skip_line(s);
	}
}

static bool repeats(enum key k)
{
	return k == KEY_TFD || k == KEY_LOCK || k == KEY_INOTIFY || k == KEY_FANOTIFY;
}

int proc_parse_fdinfo(const char *text, struct arena *a, struct proc_fdinfo *ret)
{
	struct scan s = {text};
	struct proc_fdinfo f = {.eventfd_semaphore = -1, .eventfd_id = -1};
	unsigned seen = 0;
	const unsigned required = 1 << KEY_POS | 1 << KEY_FLAGS | 1 << KEY_MNT_ID;
	size_t n_targets = 0, n_locks = 0, n_marks = 0;
	enum key k = KEY_COUNT;
	int r;

	while (*s.p) {
		k = find_key(s.p, repeats(k) ? k : (k + 1) % KEY_COUNT);
		if (k < KEY_COUNT) {
			s.p += keys[k].len;
			seen |= 1u << k;
		}
		if (k == KEY_TFD)
			r = parse_epoll(&s, a, &n_targets, &f);
		else if (k == KEY_LOCK)
			r = parse_lock(&s, a, &n_locks, &f);
		else if (k == KEY_INOTIFY || k == KEY_FANOTIFY)
			r = proc_parse_mark(&s, a, &n_marks, k == KEY_FANOTIFY, &f);
		else
			r = parse_value(&s, k, &f) ? 0 : -EBADMSG;
		if (r < 0)
			return r;
	}
	if ((seen & required) != required)
		return -EBADMSG;
	*ret = f;
	return 0;
}
