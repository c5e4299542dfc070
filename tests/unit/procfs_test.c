/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The /proc parsers: against texts of Linux 6.18, against texts that a hostile process can cause (names of
 * tasks and files are its free choice), against every kind of damage, and against real objects whose state
 * is known.
 */
#include "linux/procfs.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

/* One line of TAP a check. */
struct tap {
	unsigned n, failed;
};

/* Prints the result of one check; returns it, so that a test can stop where going on makes no sense. */
__attribute__((format(printf, 3, 4))) static bool tap_ok(struct tap *t, bool good, const char *format, ...)
{
	va_list ap;

	printf("%sok %u - ", good ? "" : "not ", ++t->n);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	t->failed += !good;
	return good;
}

static int tap_done(const struct tap *t)
{
	printf("1..%u\n", t->n);
	return t->failed ? 1 : 0;
}

#define STAT_TAIL                                                                                            \
	" S 10 11 12 34816 -1 4194560 102 0 1 0 5 6 0 0 20 -5 3 0 207985 3133440 388 18446744073709551615 "  \
	"94 95 96 0 "                                                                                        \
	"0 0 65536 4 2 0 0 0 17 1 0 0 0 0 0 97 98 99 100 101 102 103 9\n"

static void test_stat(struct tap *t)
{
	static const char *const names[] = {
		"cat", "", ") R 1 2 (", "a\nb", "a) S 1 (b", "((()))", "\xff\xfe"};
	struct proc_stat s;
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(text, sizeof(text), "3461 (%s)" STAT_TAIL, names[i]);
		tap_ok(t, proc_parse_stat(text, &s) == 0 && !strcmp(s.comm, names[i]) && s.state == 'S',
			"stat: a name of %zu bytes", strlen(names[i]));
	}
	tap_ok(t,
		s.pid == 3461 && s.ppid == 10 && s.pgrp == 11 && s.session == 12 && s.tty_nr == 34816 &&
			s.tpgid == -1,
		"stat: pids and terminal");
	tap_ok(t,
		s.flags == 4194560 && s.priority == 20 && s.nice == -5 && s.num_threads == 3 &&
			s.start_time == 207985,
		"stat: flags, priorities, threads, start time");
	tap_ok(t,
		s.start_code == 94 && s.end_code == 95 && s.start_stack == 96 && s.exit_signal == 17 &&
			s.start_data == 97 && s.end_data == 98 && s.start_brk == 99 && s.arg_start == 100 &&
			s.arg_end == 101 && s.env_start == 102 && s.env_end == 103 && s.exit_code == 9,
		"stat: addresses and exit code");
	snprintf(text, sizeof(text), "3461 (%063d)" STAT_TAIL, 0);
	tap_ok(t, proc_parse_stat(text, &s) == 0, "stat: a name of 63 bytes fits");
	snprintf(text, sizeof(text), "3461 (%064d)" STAT_TAIL, 0);
	tap_ok(t, proc_parse_stat(text, &s) == -EBADMSG, "stat: a name of 64 bytes does not");
	tap_ok(t,
		proc_parse_stat("", &s) == -EBADMSG && proc_parse_stat("1 )", &s) == -EBADMSG &&
			proc_parse_stat("1 (", &s) == -EBADMSG &&
			proc_parse_stat("99999999999 (a)" STAT_TAIL, &s) == -EBADMSG,
		"stat: nonsense");
}

/* Every prefix of a good text is refused, since a number that lost its end looks like a number; only
 * prefixes that end with a whole line may pass where the format is a list ("list"). */
static void test_truncated(struct tap *t, const char *what, const char *text,
	int (*parse)(const char *, struct arena *), bool list)
{
	size_t len = strlen(text), bad = 0;
	_cleanup_free_ char *copy = NULL;

	for (size_t n = 0; n < len; n++) {
		struct arena a = {0};
		int r;

		free(copy);
		copy = strndup(text, n); /* exactly as long: the sanitizer sees every byte too far */
		if (!copy)
			abort();
		r = parse(copy, &a);
		if (r != -EBADMSG && !(r == 0 && list && (n == 0 || text[n - 1] == '\n')))
			bad++;
		arena_done(&a);
	}
	tap_ok(t, bad == 0, "%s: all %zu truncations are seen", what, len);
}

#define STATUS_NS "NStgid:\t3461\t5\nNSpid:\t3461\t5\nNSpgid:\t3459\t1\nNSsid:\t16975\t0\n"
#define STATUS_HEAD "Tgid:\t3461\nNgid:\t0\nPid:\t3461\nPPid:\t3459\nTracerPid:\t0\n"
#define STATUS_TAIL                                                                                          \
	"Threads:\t2\nSigQ:\t1/96365\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\n"                \
	"SigBlk:\tfffffffe7ffbfeff\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000000008\nCapInh:"           \
	"\t0000000000000000\n"                                                                               \
	"CapPrm:\t000001fffeffffff\nCapEff:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\nCapAmb:"           \
	"\t0000000000000010\n"                                                                               \
	"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\nSpeculation_Store_Bypass:\tvulnerable\nCpus_"     \
	"allowed:\t3\n"
#define STATUS(name)                                                                                         \
	"Name:\t" name "\nUmask:\t0027\nState:\tt (tracing stop)\n" STATUS_HEAD                              \
	"Uid:\t0\t1\t2\t4294967294\n"                                                                        \
	"Gid:\t5\t6\t7\t8\nFDSize:\t256\nGroups:\t4 24 4294967294 \n" STATUS_NS                              \
	"Kthread:\t0\nVmPeak:\t    3060 kB\n"                                                                \
	"VmLck:\t      12 kB\nVmRSS:\t    1728 kB\nTHP_enabled:\t0\n" STATUS_TAIL

static int status_of(const char *text, struct arena *a)
{
	struct proc_status s;

	return proc_parse_status(text, a, &s);
}

static void test_status(struct tap *t)
{
	struct arena a = {0};
	struct proc_status s;

	if (tap_ok(t, proc_parse_status(STATUS("cat"), &a, &s) == 0, "status: a text of 6.18")) {
		tap_ok(t,
			!strcmp(s.name, "cat") && s.umask == 027 && s.state == 't' && s.tgid == 3461 &&
				s.pid == 3461 && s.ppid == 3459 && s.tracer_pid == 0,
			"status: name, umask, state, pids");
		tap_ok(t,
			s.uid[3] == 4294967294 && s.gid[0] == 5 && s.gid[3] == 8 && s.n_groups == 3 &&
				s.groups[1] == 24 && s.groups[2] == 4294967294,
			"status: ids and groups");
		tap_ok(t,
			s.n_ns == 2 && s.ns_tgid[1] == 5 && s.ns_pid[0] == 3461 && s.ns_pid[1] == 5 &&
				s.ns_pgid[1] == 1 && s.ns_sid[1] == 0,
			"status: pids by namespace");
		tap_ok(t,
			s.threads == 2 && s.sig_pnd == 1 && s.shd_pnd == 2 &&
				s.sig_blk == 0xfffffffe7ffbfeff && s.sig_ign == 4 && s.sig_cgt == 8 &&
				s.cap_prm == 0x1fffeffffff && s.cap_amb == 16,
			"status: masks");
		tap_ok(t,
			s.no_new_privs == 1 && s.seccomp == 2 && s.seccomp_filters == 3 && !s.thp_enabled &&
				s.vm_rss_kib == 1728 && s.vm_locked_kib == 12,
			"status: the rest");
	}
	tap_ok(t, proc_parse_status(STATUS(" x\\nUid:\\t\\\\"), &a, &s) == -EBADMSG,
		"status: an unknown escape");
	tap_ok(t,
		proc_parse_status(STATUS(" x\\nUid: 0\\\\"), &a, &s) == 0 && !strcmp(s.name, " x\nUid: 0\\"),
		"status: newline and backslash in a name");
	tap_ok(t, proc_parse_status(STATUS(""), &a, &s) == 0 && !*s.name, "status: no name");
	tap_ok(t,
		proc_parse_status("Name:\ta\nState:\tZ (zombie)\n" STATUS_HEAD
				  "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n"
				  "Groups:\t \n" STATUS_NS STATUS_TAIL,
			&a, &s) == 0 &&
			s.state == 'Z' && s.n_groups == 0 && s.thp_enabled,
		"status: a zombie has no umask and no memory");
	tap_ok(t, proc_parse_status("Name:\ta\nState:\tR (running)\n", &a, &s) == -EBADMSG,
		"status: incomplete");
	tap_ok(t, proc_parse_status(STATUS("a") "Uid:\t0\t0\t0\t0\n", &a, &s) == -EBADMSG,
		"status: a key twice");
	tap_ok(t, proc_parse_status(STATUS("a") "NewKey:\t(-1)\n", &a, &s) == 0, "status: an unknown key");
	test_truncated(t, "status", STATUS("cat"), status_of, true);
	arena_done(&a);
}

static int maps_of(const char *text, struct arena *a)
{
	struct proc_vma *v;
	size_t n;

	return proc_parse_maps(text, a, &v, &n);
}

static const char maps_text[] =
	"55cadce98000-55cadce9a000 r--p 00000000 fe:00 247498                     /usr/bin/head\n"
	"55cadce9a000-55cadcea0000 rwxs 00002000 fe:00 247498                     /tmp/a b\\012c\\040 "
	"(deleted)\n"
	"7f1c34b71000-7f1c34b75000 ---p 00000000 00:00 0 \n"
	"7f1c34b75000-7f1c34b77000 rw-s 00001000 00:01 18446744073709551615                       "
	"/memfd:x\ty (deleted)\n"
	"7f1c34b77000-7f1c34b78000 rw-p 00000000 00:00 0                          [anon: my heap]\n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

static void test_maps(struct tap *t)
{
	struct arena a = {0};
	struct proc_vma *v;
	size_t n;

	if (tap_ok(t, proc_parse_maps(maps_text, &a, &v, &n) == 0 && n == 6, "maps: six mappings")) {
		tap_ok(t,
			v[0].start == 0x55cadce98000 && v[0].end == 0x55cadce9a000 &&
				v[0].prot == PROT_READ && !v[0].shared && v[0].dev_major == 0xfe &&
				v[0].inode == 247498,
			"maps: a file");
		tap_ok(t,
			v[1].shared && v[1].prot == (PROT_READ | PROT_WRITE | PROT_EXEC) &&
				v[1].offset == 0x2000 && !strcmp(v[1].name, "/tmp/a b\nc\\040 (deleted)"),
			"maps: only newlines are escaped in names");
		tap_ok(t, v[2].prot == 0 && !*v[2].name && v[2].inode == 0, "maps: anonymous");
		tap_ok(t, v[3].inode == UINT64_MAX && !strcmp(v[3].name, "/memfd:x\ty (deleted)"),
			"maps: memfd");
		tap_ok(t, !strcmp(v[4].name, "[anon: my heap]") && !strcmp(v[5].name, "[vsyscall]"),
			"maps: special names");
	}
	tap_ok(t, proc_parse_maps("", &a, &v, &n) == 0 && n == 0, "maps: a kernel thread has none");
	tap_ok(t, maps_of("2000-3000 r--p 0 00:00 0 \n1000-2000 r--p 0 00:00 0 \n", &a) == -EBADMSG,
		"maps: disorder");
	tap_ok(t, maps_of("2000-2000 r--p 0 00:00 0 \n", &a) == -EBADMSG, "maps: empty mapping");
	tap_ok(t, maps_of("2000-3000 q--p 0 00:00 0 \n", &a) == -EBADMSG, "maps: unknown protection");
	tap_ok(t, maps_of("10000000000000000-3 r--p 0 00:00 0 \n", &a) == -EBADMSG, "maps: 65 bits");
	tap_ok(t, maps_of("Size: 4 kB\n", &a) == -EBADMSG, "maps: a detail of nothing");
	test_truncated(t, "maps", maps_text, maps_of, true);
	arena_done(&a);
}

static void test_smaps(struct tap *t)
{
	static const char text[] =
		"1000-3000 rw-p 00000000 00:00 0 \nSize:                  8 kB\nRss:                   8 kB\n"
		"Anonymous:             4 kB\nAnonHugePages:         0 kB\nSwap:               12 "
		"kB\nSwapPss:  1 kB\n"
		"ProtectionKey:         0\nVmFlags: rd wr mr mw me gd ac lo hg sd \n"
		"5000-6000 rw-p 00000000 00:00 0 \nRss:                   0 kB\nVmFlags: rd zz \n";
	struct arena a = {0};
	struct proc_vma *v;
	size_t n;

	if (tap_ok(t, proc_parse_maps(text, &a, &v, &n) == 0 && n == 2, "smaps: two mappings")) {
		tap_ok(t,
			v[0].flags == (VMA_RD | VMA_WR | VMA_MW | VMA_GD | VMA_LO | VMA_HG) &&
				v[0].rss_kib == 8 && v[0].anonymous_kib == 4 && v[0].swap_kib == 12,
			"smaps: flags and sizes");
		tap_ok(t, v[1].flags == (VMA_RD | VMA_UNKNOWN), "smaps: an unknown flag is not lost");
	}
	tap_ok(t, maps_of("1000-3000 rw-p 00000000 00:00 0 \nVmFlags: rd wrx \n", &a) == -EBADMSG,
		"smaps: a long flag");
	tap_ok(t, maps_of("1000-3000 rw-p 00000000 00:00 0 \nRss: x kB\n", &a) == -EBADMSG,
		"smaps: a damaged number");
	test_truncated(t, "smaps", text, maps_of, true);
	arena_done(&a);
}

static int mountinfo_of(const char *text, struct arena *a)
{
	struct proc_mount *m;
	size_t n;

	return proc_parse_mountinfo(text, a, &m, &n);
}

static void test_mountinfo(struct tap *t)
{
	static const char text[] = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
				   "24 27 254:1 /a\\040b /m\\012n\\134\\011 ro shared:2 master:1 "
				   "propagate_from:3 - tmpfs  rw,size=4k\n"
				   "25 27 0:4 mnt:[4026531841] /x rw shared:7 - nsfs #\\043 rw,odd option\n";
	struct arena a = {0};
	struct proc_mount *m;
	size_t n;

	if (tap_ok(t, proc_parse_mountinfo(text, &a, &m, &n) == 0 && n == 3, "mountinfo: three mounts")) {
		tap_ok(t,
			m[0].id == 22 && m[0].parent_id == 27 && m[0].dev_minor == 21 &&
				!strcmp(m[0].root, "/") && !strcmp(m[0].target, "/proc") &&
				!strcmp(m[0].options, "rw,relatime") && !*m[0].optional &&
				!strcmp(m[0].fstype, "proc") && !strcmp(m[0].source, "proc") &&
				!strcmp(m[0].super_options, "rw"),
			"mountinfo: all fields");
		tap_ok(t,
			!strcmp(m[1].root, "/a b") && !strcmp(m[1].target, "/m\nn\\\t") &&
				!strcmp(m[1].optional, "shared:2 master:1 propagate_from:3") &&
				!*m[1].source && !strcmp(m[1].super_options, "rw,size=4k"),
			"mountinfo: escapes, tags, an empty source");
		tap_ok(t,
			!strcmp(m[2].root, "mnt:[4026531841]") && !strcmp(m[2].source, "##") &&
				!strcmp(m[2].super_options, "rw,odd option"),
			"mountinfo: a file system that does not escape");
	}
	tap_ok(t, mountinfo_of("22 27 0:21 / /proc rw,relatime shared:1\n", &a) == -EBADMSG,
		"mountinfo: no separator");
	test_truncated(t, "mountinfo", text, mountinfo_of, true);
	arena_done(&a);
}

#define FDINFO "pos:\t5\nflags:\t02100001\nmnt_id:\t27\nino:\t10952795\n"

static int fdinfo_of(const char *text, struct arena *a)
{
	struct proc_fdinfo f;

	return proc_parse_fdinfo(text, a, &f);
}

static void test_fdinfo(struct tap *t)
{
	struct arena a = {0};
	struct proc_fdinfo f;

	tap_ok(t,
		proc_parse_fdinfo(
			FDINFO "lock:\t1: FLOCK  ADVISORY  WRITE 3466 fe:00:10952795 0 EOF\n", &a, &f) == 0 &&
			f.pos == 5 && f.flags == 02100001 && f.mnt_id == 27 && f.ino == 10952795 &&
			f.n_locks == 1 && f.locks[0].type == PROC_LOCK_FLOCK && f.locks[0].write &&
			f.locks[0].pid == 3466 && f.locks[0].end == INT64_MAX && !f.has_epoll,
		"fdinfo: common lines and a lock");
	tap_ok(t,
		proc_parse_fdinfo(FDINFO "lock:\t1: POSIX  ADVISORY  READ 3 fe:00:1 5 14\n"
					 "lock:\t2: LEASE  BREAKING  UNLCK 3 fe:00:1 0 EOF\n"
					 "lock:\t3: DELEG  ACTIVE    READ 3 fe:00:1 0 EOF\n",
			&a, &f) == 0 &&
			f.n_locks == 3 && f.locks[0].start == 5 && f.locks[0].end == 14 &&
			!f.locks[0].write && f.locks[1].breaking && f.locks[2].type == PROC_LOCK_OTHER,
		"fdinfo: a range, a lease that is wanted back, an unknown lock");
	tap_ok(t, fdinfo_of(FDINFO "lock:\t1: POSIX  ADVISORY  READ 3 fe:00:1 14 5\n", &a) == -EBADMSG,
		"fdinfo: a lock that ends before it starts");
	tap_ok(t, proc_parse_fdinfo(FDINFO "eventfd-count: ffffffffffffff fe\n", &a, &f) == -EBADMSG,
		"fdinfo: split number");
	tap_ok(t,
		proc_parse_fdinfo(FDINFO
			"eventfd-count: fffffffffffffffe\neventfd-id: 3\neventfd-semaphore: 1\n",
			&a, &f) == 0 &&
			f.has_eventfd && f.eventfd_count == UINT64_MAX - 1 && f.eventfd_semaphore == 1,
		"fdinfo: a full eventfd");
	tap_ok(t,
		proc_parse_fdinfo(FDINFO "eventfd-count:                5\n", &a, &f) == 0 &&
			f.eventfd_semaphore == -1,
		"fdinfo: an eventfd of a kernel that does not tell the mode");
	tap_ok(t,
		proc_parse_fdinfo(FDINFO "Pid:\t-1\nNSpid:\t0\n", &a, &f) == 0 && f.has_pidfd &&
			f.pidfd_pid == -1,
		"fdinfo: a pidfd of a reaped process");
	tap_ok(t, proc_parse_fdinfo(FDINFO "Pid:\t12\nNSpid:\t12\t7\t3\n", &a, &f) == 0 && f.pidfd_nspid == 3,
		"fdinfo: a pidfd in nested namespaces");
	tap_ok(t,
		proc_parse_fdinfo(FDINFO "inotify wd:2 ino:3c51a sdev:fe00000 mask:80000002 ignored_mask:0 "
					 "fhandle-bytes:8 fhandle-type:1 f_handle:1ac5030000000000 \n"
					 "inotify wd:1 ino:5 sdev:1 mask:2 ignored_mask:0\n",
			&a, &f) == 0 &&
			f.n_marks == 2 && f.marks[0].wd == 2 && f.marks[0].ino == 0x3c51a &&
			f.marks[0].sdev == 0xfe00000 && f.marks[0].mask == 0x80000002 &&
			f.marks[0].handle_bytes == 8 && f.marks[0].handle[1] == 0xc5 &&
			f.marks[1].handle_bytes == 0,
		"fdinfo: inotify watches");
	tap_ok(t,
		proc_parse_fdinfo(FDINFO "fanotify flags:10 event-flags:8000\n"
					 "fanotify mnt_id:12 mflags:40 mask:38 ignored_mask:40000003\n",
			&a, &f) == 0 &&
			f.has_fanotify && f.fanotify_flags == 0x10 && f.fanotify_event_flags == 0x8000 &&
			f.n_marks == 1 && f.marks[0].mnt_id == 0x12 && f.marks[0].flags == 0x40,
		"fdinfo: fanotify marks");
	tap_ok(t, fdinfo_of(FDINFO "inotify wd:1 ino:1 fhandle-bytes:2 f_handle:1a\n", &a) == -EBADMSG,
		"fdinfo: a handle that is too short");
	tap_ok(t, fdinfo_of(FDINFO "inotify wd:1 fhandle-bytes:81 f_handle:\n", &a) == -EBADMSG,
		"fdinfo: a handle that is too long");
	tap_ok(t, proc_parse_fdinfo(FDINFO "SqMask:\t0x0\n    0: /tmp/x\nPollList:\nodd\n", &a, &f) == 0,
		"fdinfo: an unknown kind");
	tap_ok(t, fdinfo_of(FDINFO "it_value: (1, 1000000000)\n", &a) == -EBADMSG,
		"fdinfo: too many nanoseconds");
	tap_ok(t, fdinfo_of("pos:\t5\nflags:\t0\n", &a) == -EBADMSG, "fdinfo: incomplete");
	tap_ok(t, fdinfo_of("pos:\t5\nflags:\t08\nmnt_id:\t1\n", &a) == -EBADMSG, "fdinfo: not octal");
	test_truncated(t, "fdinfo",
		FDINFO "tfd:        4 events: 80000019 data:                4  pos:0 ino:40e sdev:10\n"
		       "tfd:        3 events:       19 data:                3  pos:0 ino:40e sdev:10\n",
		fdinfo_of, true);
	arena_done(&a);
}

static int timers_of(const char *text, struct arena *a)
{
	struct proc_posix_timer *p;
	size_t n;

	return proc_parse_timers(text, a, &p, &n);
}

static void test_timers(struct tap *t)
{
	static const char text[] = "ID: 1\nsignal: 14/ffff0000ffff0001\nnotify: signal/tid.77\nClockID: -6\n"
				   "ID: 0\nsignal: 10/0000000000000000\nnotify: none/pid.3466\nClockID: 1\n";
	struct arena a = {0};
	struct proc_posix_timer *p;
	size_t n, bad = 0;

	tap_ok(t,
		proc_parse_timers(text, &a, &p, &n) == 0 && n == 2 && p[0].id == 1 && p[0].signo == 14 &&
			p[0].sigval == 0xffff0000ffff0001 &&
			p[0].notify == (SIGEV_SIGNAL | SIGEV_THREAD_ID) && p[0].tid == 77 &&
			p[0].clockid == -6 && p[1].notify == SIGEV_NONE && p[1].tid == 0,
		"timers: two");
	tap_ok(t, proc_parse_timers("", &a, &p, &n) == 0 && n == 0, "timers: none");
	for (size_t len = 1; len < strlen(text); len++) {
		char copy[256] = "";

		memcpy(copy, text, len);
		if (timers_of(copy, &a) == 0 && text[len] != 'I')
			bad++;
	}
	tap_ok(t, bad == 0, "timers: truncations are seen");
	arena_done(&a);
}

static void test_timer_list(struct tap *t)
{
	static const char text[] =
		"cpu: 0\n clock 0:\n  .base:       00000000eb5f370d\nactive timers:\n"
		" #0: <00000000fc2edfd0>, tick_nohz_handler, S:01\n"
		" # expires at 12595804000000-12595804000000 nsecs [in 857787 to 857787 nsecs]\n"
		" #1: <000000006892de2a>, hrtimer_wakeup, S:01\n"
		" # expires at 12595804036786-12595804086786 nsecs [in 894573 to 944573 nsecs]\n"
		" clock 6:\nactive timers:\n #0: <0000000056874718>, hrtimer_wakeup, S:01\n"
		" # expires at 77-99 nsecs [in -5 to -3 nsecs]\n";
	struct arena a = {0};
	struct proc_sleep *s;
	size_t n;

	tap_ok(t,
		proc_parse_timer_list(text, &a, &s, &n) == 0 && n == 2 && s[0].clock == CLOCK_MONOTONIC &&
			s[0].ends_ns == 12595804036786 && s[1].clock == CLOCK_BOOTTIME && s[1].ends_ns == 77,
		"timer_list: two sleeps");
	tap_ok(t, proc_parse_timer_list("", &a, &s, &n) == 0 && n == 0, "timer_list: none");
	tap_ok(t, proc_parse_timer_list(" clock x\n", &a, &s, &n) == -EBADMSG, "timer_list: malformed");
	tap_ok(t, proc_read_timer_list(&a, &s, &n) == 0, "timer_list: of this machine");
	arena_done(&a);
}

static void test_groups(struct tap *t)
{
	static const char igmp[] = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
				   "1\tlo        :     1      V3\n"
				   "\t\t\t\t010000E0     1 0:00000000\t\t0\n"
				   "2\tabcdefghijklmno:     2      V3\n"
				   "\t\t\t\t030201EF     1 0:00000000\t\t0\n"
				   "\t\t\t\t010000E0     1 0:00000000\t\t0\n";
	static const char igmp6[] =
		"1    lo              ff02000000000000000000000000001a     1 00000000 0\n"
		"12   eth0            ff010000000000000000000000000001     1 00000008 0\n";
	struct arena a = {0};
	struct proc_group *g;
	size_t n, bad = 0;
	char text[sizeof(igmp)];

	tap_ok(t,
		proc_parse_igmp(igmp, &a, &g, &n) == 0 && n == 3 && g[0].ifindex == 1 &&
			memcmp(g[0].address, "\xe0\0\0\1", 4) == 0 && g[1].ifindex == 2 &&
			strcmp(g[2].device, "abcdefghijklmno") == 0 &&
			memcmp(g[1].address, "\xef\1\2\3", 4) == 0,
		"groups: igmp");
	tap_ok(t,
		proc_parse_igmp6(igmp6, &a, &g, &n) == 0 && n == 2 && g[0].address[1] == 2 &&
			g[0].address[15] == 0x1a && strcmp(g[0].device, "lo") == 0 && g[1].ifindex == 12,
		"groups: igmp6");
	tap_ok(t, proc_parse_igmp("", &a, &g, &n) == 0 && n == 0 && proc_parse_igmp6("", &a, &g, &n) == 0,
		"groups: none");
	for (size_t len = 1; len < strlen(igmp6); len++) {
		memcpy(text, igmp6, len);
		text[len] = '\0';
		if (text[len - 1] != '\n' && proc_parse_igmp6(text, &a, &g, &n) != -EBADMSG)
			bad++;
	}
	tap_ok(t, bad == 0, "groups: truncations are seen");
	tap_ok(t, proc_parse_igmp("x\n\t\t010000E0 1\n", &a, &g, &n) == -EBADMSG, "groups: of no interface");
	tap_ok(t,
		proc_read_groups(getpid(), AF_INET, &a, &g, &n) == 0 && n > 0 &&
			proc_read_groups(getpid(), AF_INET6, &a, &g, &n) == 0,
		"groups: of this machine");
	arena_done(&a);
}

static void test_limits(struct tap *t)
{
	struct proc_limit l[PROC_LIMITS];
	struct rlimit r;
	bool same = true;

	if (tap_ok(t, proc_read_limits(getpid(), l) == 0, "limits: of this process"))
		for (int i = 0; i < PROC_LIMITS; i++)
			same = same && getrlimit(i, &r) == 0 && l[i].soft == r.rlim_cur &&
			       l[i].hard == r.rlim_max;
	tap_ok(t, same, "limits: equal to getrlimit");
	tap_ok(t, proc_parse_limits("Limit     Soft\nMax cpu time 1 2 seconds\n", l) == -EBADMSG,
		"limits: incomplete");
	tap_ok(t, proc_parse_limits("Limit     Soft\nMax new thing 1 2 x\n", l) == -EBADMSG,
		"limits: an unknown one");
}

/* --- real objects --- */

static bool info(int fd, struct arena *a, struct proc_fdinfo *f)
{
	struct stat st;

	return proc_read_fdinfo(getpid(), fd, a, f) == 0 && fstat(fd, &st) == 0 && f->ino == st.st_ino &&
	       (f->flags & ~(unsigned)O_CLOEXEC) == (unsigned)fcntl(fd, F_GETFL) &&
	       !!(f->flags & O_CLOEXEC) == (fcntl(fd, F_GETFD) == FD_CLOEXEC);
}

static void test_real_counters(struct tap *t, struct arena *a)
{
	struct itimerspec its = {{3, 5}, {1000, 7}};
	int efd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC),
	    tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), sfd;
	uint64_t big = UINT64_C(0x100000005);
	struct proc_fdinfo f;
	sigset_t set;

	tap_ok(t,
		write(efd, &big, 8) == 8 && info(efd, a, &f) && f.has_eventfd && f.eventfd_count == big &&
			f.eventfd_semaphore == 1,
		"real: eventfd above 32 bits, semaphore");
	tap_ok(t,
		timerfd_settime(tfd, 0, &its, NULL) == 0 && info(tfd, a, &f) && f.has_timerfd &&
			f.ticks == 0 && f.clockid == CLOCK_MONOTONIC && f.it_interval.sec == 3 &&
			f.it_interval.nsec == 5 && (f.it_value.sec == 999 || f.it_value.sec == 1000),
		"real: timerfd");
	its.it_value.tv_sec = 1;
	tap_ok(t,
		timerfd_settime(tfd, TFD_TIMER_ABSTIME, &its, NULL) == 0 && info(tfd, a, &f) && f.ticks > 0 &&
			f.settime_flags == TFD_TIMER_ABSTIME,
		"real: an expired timerfd with an absolute time");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMAX);
	sfd = signalfd(-1, &set, SFD_CLOEXEC);
	tap_ok(t,
		info(sfd, a, &f) && f.has_signalfd &&
			f.sigmask == (UINT64_C(1) << (SIGUSR1 - 1) | UINT64_C(1) << 63),
		"real: signalfd");
	close(efd);
	close(tfd);
	close(sfd);
}

static void test_real_watchers(struct tap *t, struct arena *a)
{
	int ep = epoll_create1(0), ifd = inotify_init1(IN_NONBLOCK),
	    pfd = syscall(SYS_pidfd_open, getpid(), 0);
	struct epoll_event ev = {EPOLLIN | EPOLLET, {.u64 = UINT64_C(0xfedcba9876543210)}};
	int pipes[100][2], good = 0;
	struct proc_fdinfo f;

	tap_ok(t, info(ep, a, &f) && !f.has_epoll && f.n_epoll == 0, "real: an empty epoll");
	for (int i = 0; i < 100; i++)
		good += pipe(pipes[i]) == 0 && epoll_ctl(ep, EPOLL_CTL_ADD, pipes[i][0], &ev) == 0;
	tap_ok(t, good == 100 && info(ep, a, &f) && f.has_epoll && f.n_epoll == 100,
		"real: epoll of 100 pipes");
	good = 0;
	for (size_t i = 0; i < f.n_epoll; i++) {
		struct stat st;

		good += fstat(f.epoll[i].tfd, &st) == 0 && f.epoll[i].ino == st.st_ino &&
			(f.epoll[i].events & ~(unsigned)(EPOLLERR | EPOLLHUP)) == ev.events &&
			f.epoll[i].data == ev.data.u64;
	}
	tap_ok(t, good == 100, "real: each with its file, events and data");
	tap_ok(t, inotify_add_watch(ifd, "/", IN_CREATE) == 1 && info(ifd, a, &f) && f.has_inotify,
		"real: inotify");
	tap_ok(t, info(pfd, a, &f) && f.has_pidfd && f.pidfd_pid == getpid(), "real: pidfd");
	for (int i = 0; i < 100; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	close(ep);
	close(ifd);
	close(pfd);
}

static void test_real_file(struct tap *t, struct arena *a)
{
	char path[] = "/tmp/procfs test\n (deleted)XXXXXX", target[200], escaped[64];
	int fd = mkostemp(path, O_APPEND | O_CLOEXEC), n;
	struct proc_fdinfo f;
	struct proc_vma *v;
	size_t n_vmas;
	void *map;
	bool found = false;

	if (!tap_ok(t, fd >= 0 && ftruncate(fd, 8192) == 0 && lseek(fd, 4321, SEEK_SET) == 4321,
		    "real: a file"))
		return;
	tap_ok(t,
		flock(fd, LOCK_EX) == 0 && info(fd, a, &f) && f.pos == 4321 && f.flags & O_APPEND &&
			f.n_locks == 1,
		"real: position, flags and lock");
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
	unlink(path);
	snprintf(escaped, sizeof(escaped), "fd/%d", fd);
	n = proc_readlink(getpid(), escaped, target, sizeof(target));
	tap_ok(t, n == (int)strlen(path) + 10 && !strncmp(target, path, strlen(path)),
		"real: the link of an unlinked file");
	tap_ok(t, proc_readlink(getpid(), escaped, target, n) == -ENAMETOOLONG,
		"real: a buffer that is one too small");
	tap_ok(t, proc_read_maps(getpid(), true, a, &v, &n_vmas) == 0, "real: smaps of this process");
	for (size_t i = 0; i < n_vmas; i++) {
		if (v[i].start != (uintptr_t)map)
			continue;
		found = v[i].end == v[i].start + 4096 && v[i].offset == 4096 && v[i].shared &&
			v[i].prot == PROT_READ && !strncmp(v[i].name, path, strlen(path)) &&
			!strcmp(v[i].name + strlen(path), " (deleted)") && v[i].flags & VMA_SH &&
			v[i].inode == f.ino;
	}
	tap_ok(t, found, "real: its mapping, with newline and blanks in the name");
	munmap(map, 4096);
	close(fd);
}

/* smaps of this many mappings needs more than the buffer on the stack. */
static void test_real_big(struct tap *t, struct arena *a)
{
	const size_t pages = 1200;
	char *p = mmap(NULL, pages * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct proc_vma *v;
	size_t n, mine = 0, unknown = 0;

	for (size_t i = 0; i < pages; i += 2)
		if (mprotect(p + i * 4096, 4096, PROT_READ | PROT_WRITE) < 0)
			abort();
	madvise(p, 4096, MADV_DONTFORK);
	madvise(p, 4096, MADV_DONTDUMP);
	tap_ok(t, proc_read_maps(getpid(), true, a, &v, &n) == 0 && n > pages, "real: smaps of %zu mappings",
		n);
	for (size_t i = 0; i < n; i++) {
		mine += v[i].start >= (uintptr_t)p && v[i].end <= (uintptr_t)p + pages * 4096;
		unknown += !!(v[i].flags & VMA_UNKNOWN);
		if (v[i].start == (uintptr_t)p)
			tap_ok(t, (v[i].flags & (VMA_DC | VMA_DD)) == (VMA_DC | VMA_DD),
				"real: advice in the flags");
	}
	tap_ok(t, mine == pages, "real: each mapping once");
	tap_ok(t, unknown == 0, "real: this kernel has no unknown flag in use");
	munmap(p, pages * 4096);
}

static void *sleeper(void *barrier)
{
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return NULL;
}

static void test_real_task(struct tap *t, struct arena *a)
{
	struct sigevent ev = {
		.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_ptr = a};
	struct proc_posix_timer *timers;
	struct proc_status st;
	struct proc_stat s;
	struct proc_mount *m;
	pthread_barrier_t b;
	pthread_t th;
	pid_t *tids;
	timer_t timer;
	int *fds;
	size_t n;

	prctl(PR_SET_NAME, ") \\R\n(x");
	tap_ok(t,
		proc_read_stat(getpid(), &s) == 0 && !strcmp(s.comm, ") \\R\n(x") && s.pid == getpid() &&
			s.ppid == getppid() && s.session == getsid(0) && s.state == 'R',
		"real: stat with a hostile name");
	tap_ok(t,
		proc_read_status(getpid(), 0, a, &st) == 0 && !strcmp(st.name, ") \\R\n(x") &&
			st.pid == getpid() && st.uid[1] == geteuid() &&
			st.n_groups == (size_t)getgroups(0, NULL) && st.n_ns >= 1 && st.threads == 1,
		"real: status with a hostile name");
	pthread_barrier_init(&b, NULL, 2);
	if (pthread_create(&th, NULL, sleeper, &b))
		abort();
	pthread_barrier_wait(&b);
	tap_ok(t,
		proc_read_tids(getpid(), a, &tids, &n) == 0 && n == 2 && tids[0] == getpid() &&
			tids[1] != tids[0],
		"real: two threads, the leader first");
	tap_ok(t,
		proc_read_task_stat(getpid(), tids[1], &s) == 0 && s.pid == tids[1] &&
			proc_read_status(getpid(), tids[1], a, &st) == 0 && st.pid == tids[1] &&
			st.tgid == getpid(),
		"real: stat and status of a thread");
	pthread_barrier_wait(&b);
	pthread_join(th, NULL);
	tap_ok(t,
		timer_create(CLOCK_REALTIME, &ev, &timer) == 0 &&
			proc_read_timers(getpid(), a, &timers, &n) == 0 && n == 1 &&
			timers[0].signo == SIGUSR2 && timers[0].clockid == CLOCK_REALTIME &&
			timers[0].notify == SIGEV_SIGNAL,
		"real: a timer");
	timer_delete(timer);
	tap_ok(t, proc_read_mountinfo(getpid(), a, &m, &n) == 0 && n > 0, "real: mountinfo");
	tap_ok(t, proc_read_fds(getpid(), a, &fds, &n) == 0 && n >= 3 && fds[0] < fds[1] && fds[1] < fds[2],
		"real: fds");
	tap_ok(t,
		proc_read_stat(0x7ffffff0, &s) == -ENOENT &&
			proc_read_fds(0x7ffffff0, a, &fds, &n) == -ENOENT,
		"real: no such process");
}

int main(void)
{
	struct arena a = {0};
	struct tap t = {0};

	test_stat(&t);
	test_status(&t);
	test_maps(&t);
	test_smaps(&t);
	test_mountinfo(&t);
	test_fdinfo(&t);
	test_timers(&t);
	test_timer_list(&t);
	test_groups(&t);
	test_limits(&t);
	test_real_counters(&t, &a);
	test_real_watchers(&t, &a);
	test_real_file(&t, &a);
	test_real_big(&t, &a);
	test_real_task(&t, &a);
	arena_done(&a);
	return tap_done(&t);
}
