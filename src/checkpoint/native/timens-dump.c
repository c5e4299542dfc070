/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/timens.h"

#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/dump.h"

#define NS 1000000000ll

/* "monotonic 5000 0\nboottime -70000 5": seconds and nanoseconds. */
static int parse(const char *text, struct timens_offsets *ret)
{
	long long mono[2], boot[2];

	if (sscanf(text, "monotonic %lld %lld boottime %lld %lld", &mono[0], &mono[1], &boot[0], &boot[1]) !=
		4)
		return -EBADMSG;
	*ret = (struct timens_offsets){mono[0] * NS + mono[1], boot[0] * NS + boot[1]};
	return 0;
}

/* /proc shows those that the process's children would have. */
static int read_next(const char *who, struct timens_offsets *ret)
{
	char path[64], text[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%s/timens_offsets", who);
	n = read_small_file_at(AT_FDCWD, path, text, sizeof(text));
	return n < 0 ? (int)n : parse(text, ret);
}

/* In a child: who has more than one thread cannot enter one. */
static int enter_and_read(int ns, int out)
{
	struct timens_offsets offsets;
	int r = setns(ns, CLONE_NEWTIME) < 0 ? -errno : read_next("self", &offsets);

	if (r == 0 && write(out, &offsets, sizeof(offsets)) != sizeof(offsets))
		r = -EIO;
	return -r;
}

/* Its clocks are fixed, as a process is in it: to enter it changes nothing. */
static int read_within(const char *path, struct timens_offsets *ret)
{
	_cleanup_close_ int ns = open(path, O_RDONLY | O_CLOEXEC), out = -EBADF, in = -EBADF;
	int ends[2], status = 0;
	pid_t child;

	if (ns < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	in = ends[0];
	out = ends[1];
	child = fork();
	if (child == 0)
		_exit(enter_and_read(ns, out));
	if (child < 0)
		return -errno;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
	return read(in, ret, sizeof(*ret)) == sizeof(*ret) ? 0 : -EIO;
}

static bool is_same(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino;
}

int timens_read(pid_t pid, struct timens_offsets *ret)
{
	char its[64], next[64], who[16];

	snprintf(who, sizeof(who), "%d", pid);
	snprintf(its, sizeof(its), "/proc/%d/ns/time", pid);
	snprintf(next, sizeof(next), "/proc/%d/ns/time_for_children", pid);
	if (access(its, F_OK) < 0 && errno == ENOENT) { /* a kernel without them */
		*ret = (struct timens_offsets){};
		return 0;
	}
	if (is_same(its, next))
		return read_next(who, ret);
	return is_same(its, "/proc/self/ns/time_for_children") ? read_next("self", ret)
							       : read_within(its, ret);
}

/* Clocks can be set until a process is in the namespace. Whether they can be is seen by setting them to what they are. */
static int look_whether_fixed(struct dump_proc *p, const struct timens_offsets *now, struct dump_nested *n)
{
	int64_t rest = now->monotonic % NS + (now->monotonic % NS < 0 ? NS : 0);
	char path[64], text[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/timens_offsets", p->shown);
	snprintf(text, sizeof(text), "monotonic %lld %lld\n", (long long)((now->monotonic - rest) / NS),
		(long long)rest);
	r = write_string_at(AT_FDCWD, path, text);
	n->msg->fixed_offsets = r == -EACCES;
	return r == -EACCES ? 0 : r;
}

int dump_timens(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e)
{
	struct timens_offsets own, its;
	char path[64], who[16];
	struct stat st = {};
	int r;

	snprintf(who, sizeof(who), "%d", p->shown);
	snprintf(path, sizeof(path), "/proc/%d/ns/time", p->shown);
	r = stat(path, &st) < 0 ? -errno : timens_read(d->c->init_pid, &own);
	n->msg->fixed_offsets = st.st_ino == n->inode;
	if (r == 0)
		r = n->msg->fixed_offsets ? timens_read(p->shown, &its) : read_next(who, &its);
	if (r == 0 && !n->msg->fixed_offsets && d->stopped)
		r = look_whether_fixed(p, &its, n);
	if (r < 0 && !d->stopped && (r == -ENOENT || r == -ESRCH))
		return 1; /* it has ended */
	if (r < 0)
		return error_errno(e, r, "time namespace of process %d", p->ns_pid);
	n->msg->monotonic_offset = its.monotonic - own.monotonic;
	n->msg->boottime_offset = its.boottime - own.boottime;
	return 0;
}

int64_t dump_timens_ahead(const struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 0; i < d->n_nested; i++)
		for (size_t k = 0; k < p->msg->n_namespaces; k++)
			if (d->nested[i].msg->type == CLONE_NEWTIME &&
				d->nested[i].msg->id == p->msg->namespaces[k])
				return d->nested[i].msg->monotonic_offset;
	return 0;
}
