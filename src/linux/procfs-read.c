/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads files and directories of /proc/PID into memory and hands them to the parsers. Most files fit into
 * a buffer on the stack, so the common case allocates nothing; a big smaps moves to the heap, which
 * doubles.
 *
 * seq_file returns at most what its own buffer holds, which is some records: a short read means the end only where there is
 * but one record.
 */
#include "linux/procfs-priv.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"

enum { STACK_SIZE = 16 * 1024, TEXT_LIMIT = 1 << 30 };

struct proc_text {
	char *text; /* NUL-terminated */
	size_t size;
	char *heap;
	char stack[STACK_SIZE];
};

static void proc_text_done(struct proc_text *t)
{
	free(t->heap);
}

static int text_grow(struct proc_text *t, size_t len)
{
	size_t want = t->size * 4;
	char *p;

	if (want > TEXT_LIMIT)
		return -EFBIG;
	p = realloc(t->heap, want);
	if (!p)
		return -ENOMEM;
	if (!t->heap)
		memcpy(p, t->stack, len);
	t->heap = t->text = p;
	t->size = want;
	return 0;
}

/* The whole of a file, from its beginning. one_record: its text is made in one go, so that a short read is the end. t is not initialised beforehand: clearing 16 KiB for each small file would cost
 * more than reading it. */
static int text_read_fd(struct proc_text *t, int fd, bool one_record)
{
	size_t len = 0;

	t->heap = NULL;
	t->text = t->stack;
	t->size = sizeof(t->stack);
	for (;;) {
		ssize_t n;

		if (t->size - len <= 1) {
			int r = text_grow(t, len);

			if (r < 0)
				return r;
		}
		n = pread(fd, t->text + len, t->size - len - 1, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += n;
		if (one_record && t->size - len > 1)
			break;
	}
	t->text[len] = '\0';
	/* A NUL inside would hide what follows from the parsers. */
	return strlen(t->text) == len ? 0 : -EBADMSG;
}

static int text_open(struct proc_text *t, const char *path, bool one_record)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	t->heap = NULL;
	return fd < 0 ? -errno : text_read_fd(t, fd, one_record);
}

static int text_read(struct proc_text *t, const char *path)
{
	return text_open(t, path, false);
}

#define _cleanup_text_ _cleanup_(proc_text_done)

int proc_read_stat(pid_t pid, struct proc_stat *ret)
{
	return proc_read_task_stat(pid, 0, ret);
}

int proc_read_task_stat(pid_t pid, pid_t tid, struct proc_stat *ret)
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	if (tid)
		snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	else
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = text_open(&t, path, true);
	return r < 0 ? r : proc_parse_stat(t.text, ret);
}

int proc_read_status(pid_t pid, pid_t tid, struct arena *a, struct proc_status *ret)
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	if (tid)
		snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	else
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
	r = text_open(&t, path, true);
	return r < 0 ? r : proc_parse_status(t.text, a, ret);
}

int proc_read_maps(pid_t pid, bool smaps, struct arena *a, struct proc_vma **ret, size_t *ret_n)
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, smaps ? "smaps" : "maps");
	r = text_read(&t, path);
	return r < 0 ? r : proc_parse_maps(t.text, a, ret, ret_n);
}

int proc_read_mountinfo(pid_t pid, struct arena *a, struct proc_mount **ret, size_t *ret_n)
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	r = text_read(&t, path);
	return r < 0 ? r : proc_parse_mountinfo(t.text, a, ret, ret_n);
}

int proc_read_fdinfo(pid_t pid, int fd, struct arena *a, struct proc_fdinfo *ret)
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	r = text_open(&t, path, true);
	return r < 0 ? r : proc_parse_fdinfo(t.text, a, ret);
}

int proc_read_fdinfo_fd(int fdinfo, struct arena *a, struct proc_fdinfo *ret)
{
	_cleanup_text_ struct proc_text t;
	int r = text_read_fd(&t, fdinfo, true);

	return r < 0 ? r : proc_parse_fdinfo(t.text, a, ret);
}

int proc_read_timers(pid_t pid, struct arena *a, struct proc_posix_timer **ret, size_t *ret_n)
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/timers", pid);
	r = text_read(&t, path);
	return r < 0 ? r : proc_parse_timers(t.text, a, ret, ret_n);
}

int proc_read_timer_list(struct arena *a, struct proc_sleep **ret, size_t *ret_n)
{
	_cleanup_text_ struct proc_text t;
	int r = text_read(&t, "/proc/timer_list");

	return r < 0 ? r : proc_parse_timer_list(t.text, a, ret, ret_n);
}

/* A namespace without IPv6 has no groups of it. */
int proc_read_groups(pid_t pid, int family, struct arena *a, struct proc_group **ret, size_t *ret_n)
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	*ret = NULL;
	*ret_n = 0;
	snprintf(path, sizeof(path), "/proc/%d/net/%s", pid, family == AF_INET ? "igmp" : "igmp6");
	r = text_read(&t, path);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	return (family == AF_INET ? proc_parse_igmp : proc_parse_igmp6)(t.text, a, ret, ret_n);
}

int proc_read_limits(pid_t pid, struct proc_limit ret[PROC_LIMITS])
{
	_cleanup_text_ struct proc_text t;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	r = text_read(&t, path);
	return r < 0 ? r : proc_parse_limits(t.text, ret);
}

ssize_t proc_readlink(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[128];
	ssize_t n;

	n = snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	if (n < 0 || (size_t)n >= sizeof(path) || size == 0)
		return -ENAMETOOLONG;
	n = readlink(path, buf, size);
	if (n < 0)
		return -errno;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	buf[n] = '\0';
	return n;
}

static int compare_int(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return x < y ? -1 : x > y;
}

/* Adds the names of a getdents64(2) buffer that are numbers; "." and ".." are the only others in these
 * directories. */
static int add_numbers(const char *buf, size_t len, struct arena *a, int **list, size_t *n, size_t *allocated)
{
	for (size_t at = 0; at < len;) {
		const struct dirent64 *d = (const struct dirent64 *)(buf + at);
		struct scan s = {d->d_name};

		at += d->d_reclen;
		if (d->d_name[0] == '.')
			continue;
		*list = proc_grow(a, *list, *n, allocated, sizeof(**list));
		if (!*list)
			return -ENOMEM;
		if (!scan_int(&s, &(*list)[*n]) || *s.p)
			return -EBADMSG;
		(*n)++;
	}
	return 0;
}

/* The numbers that a directory holds, ascending. */
static int read_numbers(const char *path, struct arena *a, int **ret, size_t *ret_n)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct dirent64) char buf[STACK_SIZE];
	int *list = NULL;
	size_t n = 0, allocated = 0;
	bool sorted = true;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t len = getdents64(fd, buf, sizeof(buf));
		int r;

		if (len < 0)
			return -errno;
		if (len == 0)
			break;
		r = add_numbers(buf, len, a, &list, &n, &allocated);
		if (r < 0)
			return r;
	}
	for (size_t i = 1; i < n; i++)
		sorted = sorted && list[i - 1] < list[i];
	if (!sorted)
		qsort(list, n, sizeof(*list), compare_int);
	*ret = list;
	*ret_n = n;
	return 0;
}

int proc_read_tids(pid_t pid, struct arena *a, pid_t **ret, size_t *ret_n)
{
	pid_t *tids;
	size_t n, leader;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	r = read_numbers(path, a, &tids, &n);
	if (r < 0)
		return r;
	/* The leader goes first, also when the counter of pids has wrapped around since. */
	for (leader = 0; leader < n; leader++)
		if (tids[leader] == pid)
			break;
	if (leader == n)
		return -ESRCH;
	memmove(tids + 1, tids, leader * sizeof(*tids));
	tids[0] = pid;
	*ret = tids;
	*ret_n = n;
	return 0;
}

int proc_count_fds(pid_t pid, size_t *ret)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	if (stat(path, &st) < 0)
		return -errno;
	/* Older ones say 0, of processes without any, too. */
	if (st.st_size == 0)
		return -EOPNOTSUPP;
	*ret = st.st_size;
	return 0;
}

int proc_read_fds(pid_t pid, struct arena *a, int **ret, size_t *ret_n)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	return read_numbers(path, a, ret, ret_n);
}
