/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/timens.h"

#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/restore.h"

#define NS 1000000000ll

static const struct restore_nested *find(const struct restore *r, uint64_t id)
{
	for (size_t i = 0; i < r->n_nested; i++)
		if (r->nested[i].msg->id == id)
			return &r->nested[i];
	return NULL;
}

/* The index of the process that has it for its children only; n_procs: none. */
static size_t maker_of(const struct restore *r, uint64_t id)
{
	size_t i = 0;

	while (i < r->n_procs && r->procs[i]->children_time_namespace != id)
		i++;
	return i;
}

bool restore_timens_is_inits(const struct restore *r, uint64_t id)
{
	return maker_of(r, id) == r->n_procs;
}

/* The new one has the clocks of the one before: those of the container, or of one that the process is in. */
static int64_t ahead(const struct restore *r, const St__Process *p, bool boottime)
{
	const struct restore_nested *in = restore_namespace_of(r, p, CLONE_NEWTIME);

	if (!in)
		return 0;
	return boottime ? in->msg->boottime_offset : in->msg->monotonic_offset;
}

struct timespec restore_timens_clock(
	const struct restore *r, const St__Process *p, int clockid, struct timespec containers)
{
	bool boottime = clockid == CLOCK_BOOTTIME || clockid == CLOCK_BOOTTIME_ALARM;
	int64_t ns = containers.tv_nsec + ahead(r, p, boottime), rest = (ns % NS + NS) % NS;

	return (struct timespec){containers.tv_sec + (ns - rest) / NS, rest};
}

static int set_clocks(const struct restore *r, int64_t monotonic, int64_t boottime)
{
	long long m[2], b[2];
	char text[256];
	int result = (int)read_small_file_at(r->proc_fd, "self/timens_offsets", text, sizeof(text));

	if (result < 0)
		return result;
	if (sscanf(text, "monotonic %lld %lld boottime %lld %lld", &m[0], &m[1], &b[0], &b[1]) != 4)
		return -EBADMSG;
	monotonic += m[0] * NS + m[1];
	boottime += b[0] * NS + b[1];
	m[1] = (monotonic % NS + NS) % NS;
	b[1] = (boottime % NS + NS) % NS;
	snprintf(text, sizeof(text), "monotonic %lld %lld\nboottime %lld %lld\n",
		(long long)(monotonic - m[1]) / NS, m[1], (long long)(boottime - b[1]) / NS, b[1]);
	return write_string_at(r->proc_fd, "self/timens_offsets", text);
}

int restore_timens_begin(struct restore *r, struct error *e)
{
	const struct timens_offset *t = &r->control->clocks;
	_cleanup_close_ int fd = -EBADF;
	int result = unshare(CLONE_NEWTIME) < 0 ? -errno : 0;

	if (result == 0)
		result = set_clocks(r, t->monotonic_sec * NS + t->monotonic_nsec,
			t->boottime_sec * NS + t->boottime_nsec);
	if (result < 0)
		return error_errno(e, result, "new time namespace");
	fd = openat(r->proc_fd, "self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWTIME) < 0)
		return error_errno(e, -errno, "enter the new time namespace");
	r->clocks_later = false;
	return 0;
}

int restore_timens_fill(const struct restore *r, uint64_t id)
{
	const struct restore_nested *n = find(r, id);

	/* In a user namespace its files in /proc would be those of somebody else. */
	if (!n || prctl(PR_SET_DUMPABLE, 1) < 0)
		return -errno;
	return set_clocks(r, n->msg->monotonic_offset, n->msg->boottime_offset);
}

/* A process that has been in it, and is gone: nobody may set the clocks any more. No thread has been made yet, whose id it
 * could have. */
static int fix(void)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	pid_t child = syscall(SYS_clone3, &args, sizeof(args));

	if (child == 0)
		_exit(0);
	if (child < 0)
		return -errno;
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* The others find it by the maker's number in our /proc. */
static int publish(const struct restore *r, size_t index)
{
	uint32_t *word = &r->sharers[index].time_maker;
	char text[16] = "";

	if (readlinkat(r->proc_fd, "self", text, sizeof(text) - 1) < 0)
		return -errno;
	__atomic_store_n(word, (uint32_t)strtoul(text, NULL, 10), __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	return 0;
}

static int make_for_children(const struct restore *r, size_t index)
{
	const St__Process *p = r->procs[index];
	const struct restore_nested *n = find(r, p->children_time_namespace);
	int result;

	if (!n || unshare(CLONE_NEWTIME) < 0)
		return -errno;
	result = set_clocks(r, n->msg->monotonic_offset - ahead(r, p, false),
		n->msg->boottime_offset - ahead(r, p, true));
	if (result == 0 && n->msg->fixed_offsets)
		result = fix();
	return result == 0 ? publish(r, index) : result;
}

int restore_timens_open(const struct restore *r, uint64_t id, int flags)
{
	const struct restore_nested *n = find(r, id);
	size_t maker = maker_of(r, id);
	char path[64];
	int fd;

	if (maker < r->n_procs)
		snprintf(path, sizeof(path), "%u/ns/time_for_children", r->sharers[maker].time_maker);
	else
		snprintf(path, sizeof(path), "self/fd/%d", n ? n->fd : -EBADF);
	fd = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC | flags);
	return fd < 0 ? -errno : fd;
}

static int enter(struct restore *r, const St__Process *p, uint64_t id)
{
	size_t maker = maker_of(r, id);
	_cleanup_close_ int fd = -EBADF;

	if (maker < r->n_procs)
		while (!__atomic_load_n(&r->sharers[maker].time_maker, __ATOMIC_SEQ_CST))
			syscall(SYS_futex, &r->sharers[maker].time_maker, FUTEX_WAIT, 0, NULL, NULL, 0);
	fd = restore_timens_open(r, id, 0);
	if (fd < 0 || setns(fd, CLONE_NEWTIME) < 0)
		return fd < 0 ? fd : -errno;
	r->clock_start += ahead(r, p, false);
	return 0;
}

int restore_timens(struct restore *r, size_t index, struct error *e)
{
	const St__Process *p = r->procs[index];
	const struct restore_nested *in = restore_namespace_of(r, p, CLONE_NEWTIME);
	int result = in ? enter(r, p, in->msg->id) : 0;

	if (result == 0 && p->children_time_namespace)
		result = make_for_children(r, index);
	return result < 0 ? error_errno(e, result, "process %d: its time namespace", p->pid) : 0;
}

/* It is the container's, or there is one who makes it; nobody is to wait for himself. */
bool restore_timens_is_valid(const struct restore *r, size_t index)
{
	const St__Process *p = r->procs[index];
	const struct restore_nested *n = find(r, p->children_time_namespace);

	if (p->children_time_namespace == 0)
		return true;
	if (!n || n->msg->type != CLONE_NEWTIME || n->msg->owner || p->state == 2 ||
		maker_of(r, n->msg->id) != index)
		return false;
	for (size_t steps = 0; (n = restore_namespace_of(r, p, CLONE_NEWTIME)); steps++) {
		size_t maker = maker_of(r, n->msg->id);

		if (maker == r->n_procs)
			return true;
		if (steps == r->n_nested)
			return false;
		p = r->procs[maker];
	}
	return true;
}
