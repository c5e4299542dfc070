/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/stat, status, limits and timers: what the kernel tells about one task.
 *
 * The name of a task is free text that any process chooses. In stat it stands raw between parentheses and
 * may hold ") " and newlines, so its end is the *last* closing parenthesis: only numbers come behind it.
 * In status newline and backslash are escaped, so a name cannot forge a line.
 */
#include "linux/procfs-priv.h"

#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <time.h>

/* Fields 4 to 52 of stat, by their numbers in proc(5). */
enum { STAT_FIRST = 4, STAT_LAST = 52 };

/* Some fields are signed, some use all 64 bits (rsslim): they are kept as their bits. */
static bool parse_stat_fields(struct scan *s, uint64_t f[STAT_LAST + 1])
{
	for (int i = STAT_FIRST; i <= STAT_LAST; i++) {
		int64_t negative;

		if (!scan_char(s, ' '))
			return false;
		if (*s->p == '-') {
			if (!scan_i64(s, &negative))
				return false;
			f[i] = (uint64_t)negative;
		} else if (!scan_u64(s, &f[i])) {
			return false;
		}
	}
	return true;
}

/* A field that is an int of the kernel's. */
static bool fits_int(uint64_t v)
{
	return (int64_t)v >= INT_MIN && (int64_t)v <= INT_MAX;
}

static bool fill_stat(const uint64_t f[STAT_LAST + 1], struct proc_stat *r)
{
	static const unsigned char ints[] = {4, 5, 6, 7, 8, 18, 19, 20, 38, 52};

	for (size_t i = 0; i < ARRAY_SIZE(ints); i++)
		if (!fits_int(f[ints[i]]))
			return false;
	if (f[9] > UINT_MAX)
		return false;
	r->ppid = f[4];
	r->pgrp = f[5];
	r->session = f[6];
	r->tty_nr = f[7];
	r->tpgid = f[8];
	r->flags = f[9];
	r->cpu_time = f[14] + f[15];
	r->priority = f[18];
	r->nice = f[19];
	r->num_threads = f[20];
	r->start_time = f[22];
	r->start_code = f[26];
	r->end_code = f[27];
	r->start_stack = f[28];
	r->exit_signal = f[38];
	r->start_data = f[45];
	r->end_data = f[46];
	r->start_brk = f[47];
	r->arg_start = f[48];
	r->arg_end = f[49];
	r->env_start = f[50];
	r->env_end = f[51];
	r->exit_code = f[52];
	return true;
}

int proc_parse_stat(const char *text, struct proc_stat *ret)
{
	struct proc_stat r = {0};
	struct scan s = {text};
	uint64_t f[STAT_LAST + 1] = {0};
	const char *end = strrchr(text, ')');
	size_t len;

	if (!end || !scan_int(&s, &r.pid) || !scan_literal(&s, " (") || s.p > end)
		return -EBADMSG;
	len = end - s.p;
	if (len >= sizeof(r.comm))
		return -EBADMSG;
	memcpy(r.comm, s.p, len);
	s.p = end + 1;
	if (!scan_char(&s, ' ') || *s.p < 'A' || *s.p > 'z')
		return -EBADMSG;
	r.state = *s.p++;
	if (!parse_stat_fields(&s, f) || (*s.p != '\n' && *s.p != ' ') || !fill_stat(f, &r))
		return -EBADMSG;
	*ret = r;
	return 0;
}

/* How the value of a key of status is written. */
enum kind {
	KIND_NAME,
	KIND_STATE,
	KIND_OCTAL,
	KIND_INT,
	KIND_HEX,
	KIND_KIB,
	KIND_BOOL,
	KIND_IDS,
	KIND_GROUPS,
	KIND_NS
};

#define ROW(k, kind, member)                                                                                 \
	{                                                                                                    \
		k ":", sizeof(k), kind, offsetof(struct proc_status, member)                                 \
	}
static const struct status_key {
	const char *text;
	unsigned char len;
	unsigned char kind;
	unsigned short offset;
} status_keys[] = {
	ROW("Name", KIND_NAME, name),
	ROW("Umask", KIND_OCTAL, umask),
	ROW("State", KIND_STATE, state),
	ROW("Tgid", KIND_INT, tgid),
	ROW("Pid", KIND_INT, pid),
	ROW("PPid", KIND_INT, ppid),
	ROW("TracerPid", KIND_INT, tracer_pid),
	ROW("Uid", KIND_IDS, uid),
	ROW("Gid", KIND_IDS, gid),
	ROW("FDSize", KIND_INT, fd_size),
	ROW("Groups", KIND_GROUPS, groups),
	ROW("NStgid", KIND_NS, ns_tgid),
	ROW("NSpid", KIND_NS, ns_pid),
	ROW("NSpgid", KIND_NS, ns_pgid),
	ROW("NSsid", KIND_NS, ns_sid),
	ROW("VmLck", KIND_KIB, vm_locked_kib),
	ROW("VmRSS", KIND_KIB, vm_rss_kib),
	ROW("THP_enabled", KIND_BOOL, thp_enabled),
	ROW("Threads", KIND_INT, threads),
	ROW("SigPnd", KIND_HEX, sig_pnd),
	ROW("ShdPnd", KIND_HEX, shd_pnd),
	ROW("SigBlk", KIND_HEX, sig_blk),
	ROW("SigIgn", KIND_HEX, sig_ign),
	ROW("SigCgt", KIND_HEX, sig_cgt),
	ROW("CapInh", KIND_HEX, cap_inh),
	ROW("CapPrm", KIND_HEX, cap_prm),
	ROW("CapEff", KIND_HEX, cap_eff),
	ROW("CapBnd", KIND_HEX, cap_bnd),
	ROW("CapAmb", KIND_HEX, cap_amb),
	ROW("NoNewPrivs", KIND_INT, no_new_privs),
	ROW("Seccomp", KIND_INT, seccomp),
	ROW("Seccomp_filters", KIND_INT, seccomp_filters),
};
/* Every task has these, zombies and kernel threads too; the others depend on memory and on the kernel's
 * options. */
static const char *const status_required[] = {"Name:", "State:", "Tgid:", "Pid:", "PPid:", "Uid:", "Gid:",
	"NStgid:", "NSpid:", "NSpgid:", "NSsid:", "Threads:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:",
	"SigCgt:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"};

/* "\n" for the newline, "\\" for the backslash; nothing else is escaped. */
static bool parse_name(struct scan *s, char name[64])
{
	size_t n = 0;

	for (; *s->p != '\n'; s->p++) {
		char c = *s->p;

		if (c == '\0' || n + 1 >= 64)
			return false;
		if (c == '\\') {
			s->p++;
			if (*s->p != 'n' && *s->p != '\\')
				return false;
			c = *s->p == 'n' ? '\n' : '\\';
		}
		name[n++] = c;
	}
	name[n] = '\0';
	return scan_char(s, '\n');
}

static bool parse_ids(struct scan *s, uint32_t ids[4])
{
	for (int i = 0; i < 4; i++)
		if (!scan_blank(s) || !scan_u32(s, &ids[i]))
			return false;
	return scan_end_line(s);
}

static int parse_groups(struct scan *s, struct arena *a, struct proc_status *r)
{
	size_t allocated = 0;

	r->n_groups = 0;
	while (scan_blank(s) && *s->p != '\n') {
		r->groups = proc_grow(a, r->groups, r->n_groups, &allocated, sizeof(*r->groups));
		if (!r->groups)
			return -ENOMEM;
		if (!scan_u32(s, &r->groups[r->n_groups]))
			return -EBADMSG;
		r->n_groups++;
	}
	s->p++;
	return 0;
}

/* One number per level of pid namespaces; the four lists are equally long. */
static bool parse_ns(struct scan *s, int list[32], size_t *n_ns)
{
	size_t n = 0;

	while (scan_blank(s) && *s->p != '\n')
		if (n >= 32 || !scan_int(s, &list[n++]))
			return false;
	if (n == 0 || (*n_ns && n != *n_ns))
		return false;
	*n_ns = n;
	return scan_char(s, '\n');
}

static bool parse_number(struct scan *s, enum kind kind, void *field)
{
	uint64_t v;

	switch (kind) {
	case KIND_INT:
		return scan_int(s, field) && scan_end_line(s);
	case KIND_HEX:
		return scan_hex(s, field) && scan_end_line(s);
	case KIND_OCTAL:
		if (!scan_octal(s, &v) || v > 07777)
			return false;
		*(unsigned *)field = v;
		return scan_end_line(s);
	case KIND_KIB:
		if (!scan_u64(s, &v))
			return false;
		*(unsigned long *)field = v;
		return scan_literal(s, " kB\n");
	case KIND_BOOL:
		if (!scan_u64(s, &v) || v > 1)
			return false;
		*(bool *)field = v;
		return scan_end_line(s);
	default:
		return false;
	}
}

static int parse_status_value(
	struct scan *s, const struct status_key *k, struct arena *a, struct proc_status *r)
{
	void *field = (char *)r + k->offset;

	/* The name begins right behind one tab, and may begin with blanks of its own. */
	if (k->kind == KIND_NAME)
		return scan_char(s, '\t') && parse_name(s, field) ? 0 : -EBADMSG;
	scan_blank(s);
	switch (k->kind) {
	case KIND_STATE:
		r->state = *s->p;
		return scan_skip_line(s) && r->state >= 'A' && r->state <= 'z' ? 0 : -EBADMSG;
	case KIND_IDS:
		return parse_ids(s, field) ? 0 : -EBADMSG;
	case KIND_GROUPS:
		return parse_groups(s, a, r);
	case KIND_NS:
		return parse_ns(s, field, &r->n_ns) ? 0 : -EBADMSG;
	default:
		return parse_number(s, k->kind, field) ? 0 : -EBADMSG;
	}
}

/* Lines come in the order of the table, so the search begins behind the last hit. */
static const struct status_key *find_status_key(const char *line, size_t *from)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_keys); i++) {
		size_t at = (*from + i) % ARRAY_SIZE(status_keys);

		if (line[0] == status_keys[at].text[0] &&
			!strncmp(line, status_keys[at].text, status_keys[at].len)) {
			*from = at + 1;
			return &status_keys[at];
		}
	}
	return NULL;
}

static bool status_complete(uint64_t seen)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_required); i++) {
		size_t from = 0;
		const struct status_key *k = find_status_key(status_required[i], &from);

		if (!k || !(seen & UINT64_C(1) << (k - status_keys)))
			return false;
	}
	return true;
}

int proc_parse_status(const char *text, struct arena *a, struct proc_status *ret)
{
	struct scan s = {text};
	struct proc_status r = {.thp_enabled = true};
	uint64_t seen = 0;
	size_t from = 0;
	int err;

	_Static_assert(ARRAY_SIZE(status_keys) <= 64, "the seen set is one word");
	while (*s.p) {
		const struct status_key *k = find_status_key(s.p, &from);

		if (!k) {
			if (!scan_skip_line(&s))
				return -EBADMSG;
			continue;
		}
		/* Twice the same key: a forged line, or a format that is not understood. */
		if (seen & UINT64_C(1) << (k - status_keys))
			return -EBADMSG;
		seen |= UINT64_C(1) << (k - status_keys);
		s.p += k->len;
		err = parse_status_value(&s, k, a, &r);
		if (err < 0)
			return err;
	}
	if (!status_complete(seen))
		return -EBADMSG;
	*ret = r;
	return 0;
}

static const char *const limit_names[PROC_LIMITS] = {
	[RLIMIT_CPU] = "Max cpu time",
	[RLIMIT_FSIZE] = "Max file size",
	[RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size",
	[RLIMIT_CORE] = "Max core file size",
	[RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes",
	[RLIMIT_NOFILE] = "Max open files",
	[RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space",
	[RLIMIT_LOCKS] = "Max file locks",
	[RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size",
	[RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority",
	[RLIMIT_RTTIME] = "Max realtime timeout",
};
_Static_assert((int)RLIM_NLIMITS == (int)PROC_LIMITS, "a new resource limit needs its name");

static bool parse_limit(struct scan *s, uint64_t *ret)
{
	scan_blank(s);
	if (*s->p == 'u') {
		*ret = UINT64_MAX;
		return scan_literal(s, "unlimited");
	}
	return scan_u64(s, ret);
}

int proc_parse_limits(const char *text, struct proc_limit ret[PROC_LIMITS])
{
	struct proc_limit limits[PROC_LIMITS] = {0};
	struct scan s = {text};
	unsigned seen = 0;

	if (!scan_literal(&s, "Limit ") || !scan_skip_line(&s))
		return -EBADMSG;
	while (*s.p) {
		int i;

		/* A name is followed by a blank, so that none is taken for the beginning of a longer one. */
		for (i = 0; i < PROC_LIMITS; i++)
			if (!strncmp(s.p, limit_names[i], strlen(limit_names[i])) &&
				s.p[strlen(limit_names[i])] == ' ')
				break;
		if (i == PROC_LIMITS || seen & 1u << i)
			return -EBADMSG;
		s.p += strlen(limit_names[i]);
		if (!parse_limit(&s, &limits[i].soft) || !parse_limit(&s, &limits[i].hard) ||
			!scan_skip_line(&s))
			return -EBADMSG;
		seen |= 1u << i;
	}
	if (seen != (1u << PROC_LIMITS) - 1)
		return -EBADMSG;
	memcpy(ret, limits, sizeof(limits));
	return 0;
}

/* "notify: signal/tid.12", "none/pid.1", "thread/pid.1" */
static bool parse_notify(struct scan *s, struct proc_posix_timer *t)
{
	int who;

	if (*s->p == 's') {
		t->notify = SIGEV_SIGNAL;
		if (!scan_literal(s, "signal/"))
			return false;
	} else if (*s->p == 'n') {
		t->notify = SIGEV_NONE;
		if (!scan_literal(s, "none/"))
			return false;
	} else {
		t->notify = SIGEV_THREAD;
		if (!scan_literal(s, "thread/"))
			return false;
	}
	if (*s->p == 't') {
		t->notify |= SIGEV_THREAD_ID;
		if (!scan_literal(s, "tid."))
			return false;
	} else if (!scan_literal(s, "pid.")) {
		return false;
	}
	if (!scan_int(s, &who))
		return false;
	t->tid = t->notify & SIGEV_THREAD_ID ? who : 0;
	return scan_char(s, '\n');
}

int proc_parse_timers(const char *text, struct arena *a, struct proc_posix_timer **ret, size_t *ret_n)
{
	struct proc_posix_timer *timers = NULL;
	struct scan s = {text};
	size_t n = 0, allocated = 0;

	while (*s.p) {
		struct proc_posix_timer *t;

		timers = proc_grow(a, timers, n, &allocated, sizeof(*timers));
		if (!timers)
			return -ENOMEM;
		t = &timers[n];
		*t = (struct proc_posix_timer){0};
		if (!scan_literal(&s, "ID: ") || !scan_int(&s, &t->id) || !scan_literal(&s, "\nsignal: ") ||
			!scan_int(&s, &t->signo) || !scan_char(&s, '/') || !scan_hex(&s, &t->sigval) ||
			!scan_literal(&s, "\nnotify: ") || !parse_notify(&s, t) ||
			!scan_literal(&s, "ClockID: ") || !scan_int(&s, &t->clockid) || !scan_char(&s, '\n'))
			return -EBADMSG;
		n++;
	}
	*ret = timers;
	*ret_n = n;
	return 0;
}

/* " #3: <000000007b099a9e>, hrtimer_wakeup, S:01" and below it " # expires at 123-456 nsecs [in ...". */
static bool parse_sleep(struct scan *s, uint64_t *ret)
{
	static const char name[] = ">, hrtimer_wakeup, ";
	const char *end = scan_find_newline(s),
		   *at = end ? memmem(s->p, end - s->p, name, strlen(name)) : NULL;

	if (!at)
		return false;
	s->p = end + 1;
	return scan_literal(s, " # expires at ") && scan_u64(s, ret);
}

int proc_parse_timer_list(const char *text, struct arena *a, struct proc_sleep **ret, size_t *ret_n)
{
	static const int clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME, CLOCK_TAI};
	struct proc_sleep *sleeps = NULL;
	struct scan s = {text};
	size_t n = 0, allocated = 0;
	uint64_t base = 0;

	while (*s.p) {
		struct scan line = s;
		uint64_t ends;

		if (scan_literal(&line, " clock ") && !scan_u64(&line, &base))
			return -EBADMSG;
		line = s;
		if (parse_sleep(&line, &ends)) {
			sleeps = proc_grow(a, sleeps, n, &allocated, sizeof(*sleeps));
			if (!sleeps)
				return -ENOMEM;
			/* The second half of the bases are the same clocks, for timers that end in softirqs. */
			sleeps[n++] = (struct proc_sleep){clocks[base % ARRAY_SIZE(clocks)], ends};
		}
		if (!scan_skip_line(&s))
			return -EBADMSG;
	}
	*ret = sleeps;
	*ret_n = n;
	return 0;
}
