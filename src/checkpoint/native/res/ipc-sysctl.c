/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sysctls of an ipc namespace. create sets those of config.json; here is what the container itself has changed since, which
 * it can only if /proc/sys is not read-only for it. An image is given no more: see restore.c. Of a namespace that containers of
 * a sandbox share each that may set them records them, and writes them again once the objects are there.
 *
 * Objects may need more than the limits allow (they were lowered later): while objects are made the limits are raised.
 */
#include "checkpoint/native/res/ipc.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/restore-nested.h"

static const char *const names[] = {"kernel/shmmax", "kernel/shmall", "kernel/shmmni",
	"kernel/shm_rmid_forced", "kernel/msgmax", "kernel/msgmni", "kernel/msgmnb", "kernel/sem",
	"fs/mqueue/queues_max", "fs/mqueue/msg_max", "fs/mqueue/msgsize_max", "fs/mqueue/msg_default",
	"fs/mqueue/msgsize_default"};

enum { NUMBERS = 4, VALUE = 256 };

bool ipc_may_set_sysctls(const struct spec *s)
{
	const uint64_t admin = 1ull << 21; /* CAP_SYS_ADMIN: may mount it again */

	if (!s->process || !s->process->has_capabilities || (s->process->capabilities.bounding & admin))
		return true;
	for (size_t i = 0; i < s->n_mounts; i++)
		if (s->mounts[i].type && !strcmp(s->mounts[i].type, "proc") &&
			strcmp(s->mounts[i].destination, "/proc") != 0)
			return true; /* nobody has made that one read-only */
	for (char **p = s->readonly_paths; p && *p; p++)
		if (!strcmp(*p, "/proc/sys") || !strcmp(*p, "/proc"))
			return false;
	return true;
}

static bool read_sysctl(int proc, const char *name, char *buf, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "sys/%s", name);
	if (read_small_file_at(proc, path, buf, size) <= 0)
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

static int write_sysctl(int proc, const char *name, const char *value, struct error *e)
{
	char path[64];
	int r;

	snprintf(path, sizeof(path), "sys/%s", name);
	r = write_string_at(proc, path, value);
	return r < 0 ? error_errno(e, r, "sysctl %s = %s", name, value) : 0;
}

/* Up to four numbers; returns how many. */
static size_t numbers(const char *text, uint64_t value[NUMBERS])
{
	size_t n = 0;

	for (char *end; n < NUMBERS; text = end, n++) {
		value[n] = strtoull(text, &end, 10);
		if (end == text)
			break;
	}
	return n;
}

static bool same(const char *a, const char *b)
{
	uint64_t x[NUMBERS], y[NUMBERS];
	size_t n = numbers(a, x);

	return n == numbers(b, y) && memcmp(x, y, n * sizeof(*x)) == 0;
}

/* Is this what config.json (NULL: none) says? */
static bool is_of_config(const struct spec *s, const char *name, const char *value)
{
	for (size_t i = 0; s && i < s->n_sysctl; i++) {
		const char *a = s->sysctl[i].name, *b = name;

		while (*a && (*a == *b || (*a == '.' && *b == '/')))
			a++, b++;
		if (*a == *b)
			return same(s->sysctl[i].value, value);
	}
	return false;
}

static St__Sysctl *record_of(struct dump *d, size_t i, const char *value)
{
	St__Sysctl *s = pb_new(&d->arena, Sysctl, sysctl);

	if (s) {
		s->name = (char *)names[i];
		s->value = arena_strdup(&d->arena, value);
	}
	return s && s->value ? s : NULL;
}

int ipc_sysctl_dump(struct dump *d, struct error *e)
{
	_cleanup_close_ int proc = -EBADF;
	const struct spec *maker;
	St__Ipc *m;
	int r;

	if (!ipc_may_set_sysctls(d->c->spec) || !ipc_is_kept(d))
		return 0;
	r = ipc_spec_of_maker(d, &maker, e);
	if (r < 0)
		return r;
	proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	m = ipc_add(d, NULL);
	if (m)
		m->sysctls = arena_array(&d->arena, ARRAY_SIZE(names), sizeof(*m->sysctls));
	if (!m || !m->sysctls)
		return error_errno(e, -ENOMEM, "sysctls");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char value[VALUE];

		if (!read_sysctl(proc, names[i], value, sizeof(value)) ||
			is_of_config(maker, names[i], value))
			continue;
		m->sysctls[m->n_sysctls] = record_of(d, i, value);
		if (!m->sysctls[m->n_sysctls++])
			return error_errno(e, -ENOMEM, "sysctls");
	}
	return 0;
}

static void read_all(int proc, char values[ARRAY_SIZE(names)][VALUE])
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!read_sysctl(proc, names[i], values[i], VALUE))
			values[i][0] = '\0';
}

/* A new one begins with what the kernel has built in, whatever config.json says. */
static int note_changed(struct dump *d, struct dump_nested *n, struct error *e)
{
	_cleanup_close_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char now[ARRAY_SIZE(names)][VALUE], fresh[ARRAY_SIZE(names)][VALUE];

	n->sysctls = arena_array(&d->arena, ARRAY_SIZE(names), sizeof(*n->sysctls));
	if (proc < 0 || !n->sysctls)
		return error_errno(e, proc < 0 ? -errno : -ENOMEM, "sysctls");
	read_all(proc, now);
	if (unshare(CLONE_NEWIPC) < 0)
		return error_errno(e, -errno, "make an ipc namespace");
	read_all(proc, fresh);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (same(now[i], fresh[i]))
			continue;
		n->sysctls[n->n_sysctls] = record_of(d, i, now[i]);
		if (!n->sysctls[n->n_sysctls++])
			return error_errno(e, -ENOMEM, "sysctls");
	}
	return 0;
}

int ipc_look_at_nested(struct dump *d, struct dump_nested *n, const char **ret_reason, struct error *e)
{
	int r = mqueue_look_at_nested(n);

	if (r < 0)
		return error_errno(e, r, "message queues");
	r = note_changed(d, n, e);
	n->ipc_is_used |= n->n_sysctls > 0;
	if (n->n_sysctls > 0 && !ipc_may_set_sysctls(d->c->spec))
		*ret_reason =
			"its sysctls have been changed, which config.json does not let the container do";
	else if (n->ipc_is_used && d->unprivileged && ipc_role(d) == IPC_OUTSIDE)
		*ret_reason = "there are objects in it, and the container itself is in that of the machine";
	return r;
}

int ipc_sysctl_dump_nested(struct dump *d, struct dump_nested *n, struct error *e)
{
	St__Ipc *m =
		ipc_add(d, n); /* in any case: older readers must not take the image for one that they know */

	if (!m)
		return error_errno(e, -ENOMEM, "sysctls");
	m->sysctls = n->sysctls;
	m->n_sysctls = n->n_sysctls;
	return 0;
}

/* ---- restore ---- */

static uint64_t of_queue(const St__PosixQueue *q, const char *name)
{
	if (strcmp(name, "fs/mqueue/msg_max") == 0)
		return q->max_messages;
	return strcmp(name, "fs/mqueue/msgsize_max") == 0 ? q->message_size : 0;
}

/* What the objects need of one of them. */
static uint64_t needed(const struct restore *r, uint64_t ns, const char *name)
{
	uint64_t most = 0, queues = 0;

	for (size_t i = 0; i < r->n_ipc; i++) {
		const St__SysvQueue *q = r->ipc[i]->ipc_namespace == ns ? r->ipc[i]->queue : NULL;
		uint64_t bytes = q ? q->qbytes : 0, sum = 0;

		for (size_t k = 0; q && k < q->n_messages; k++) {
			if (!strcmp(name, "kernel/msgmax"))
				most = MAX(most, (uint64_t)q->messages[k]->data.len);
			sum += q->messages[k]->data.len;
		}
		if (q && !strcmp(name, "kernel/msgmnb"))
			most = MAX(most, MAX(MAX(bytes, sum), (uint64_t)q->n_messages));
	}
	for (size_t i = 0; i < r->n_ipc; i++)
		if (r->ipc[i]->posix && r->ipc[i]->ipc_namespace == ns)
			queues++, most = MAX(most, of_queue(r->ipc[i]->posix, name));
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_MQUEUE &&
			r->files[i]->mqueue->ipc_namespace == ns)
			queues++, most = MAX(most, of_queue(r->files[i]->mqueue->queue, name));
	return strcmp(name, "fs/mqueue/queues_max") == 0 ? queues : most;
}

static const char *recorded(const struct restore *r, uint64_t ns, const char *name)
{
	for (size_t i = 0; i < r->n_ipc; i++)
		for (size_t k = 0; r->ipc[i]->ipc_namespace == ns && k < r->ipc[i]->n_sysctls; k++)
			if (!strcmp(r->ipc[i]->sysctls[k]->name, name))
				return r->ipc[i]->sysctls[k]->value;
	return NULL;
}

/* Is the namespace one whose objects we make, and that nobody uses meanwhile? */
static bool is_ours(const struct restore *r, uint64_t ns)
{
	const St__Shared *shared = r->container->ipc;

	return ns || (shared ? shared->owner : r->own_ipc);
}

/* They belong to root of the namespace's owner, where the kernel knows that (6.9). */
static int write_in(struct restore *r, uint64_t ns, const char *name, const char *value, struct error *e)
{
	const struct restore_nested *n = restore_namespace(r, ns),
				    *owner = n ? restore_namespace(r, n->msg->owner) : NULL;
	struct ipc_creator c;
	struct error ignored;
	uint32_t uid, gid;
	int result = write_sysctl(r->proc_fd, name, value, owner ? &ignored : e), end;

	if (result == 0 || !owner)
		return result;
	if (!restore_outside_id(r, owner, 0, false, &uid) || !restore_outside_id(r, owner, 0, true, &gid))
		return write_sysctl(r->proc_fd, name, value, e);
	result = ipc_begin_as(&c, uid, gid, e);
	if (result < 0)
		return result;
	result = write_sysctl(r->proc_fd, name, value, e);
	end = ipc_end_as(&c, result < 0 ? &ignored : e);
	return result < 0 ? result : end;
}

/* The text of "now" with none of its numbers below those of "then", nor below "need"; false: they are so already. */
static bool raised(const char *now, const char *then, uint64_t need, char *text, size_t size)
{
	uint64_t a[NUMBERS], b[NUMBERS] = {}, most[NUMBERS] = {};
	size_t n = numbers(now, a), len = 0;

	numbers(then, b);
	for (size_t k = 0; k < n && len < size; k++) {
		most[k] = MAX(MAX(a[k], b[k]), need);
		len += snprintf(text + len, size - len, "%llu ", (unsigned long long)most[k]);
	}
	return memcmp(a, most, n * sizeof(*a)) != 0;
}

int ipc_sysctl_raise(struct restore *r, uint64_t ns, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		uint64_t need = is_ours(r, ns) ? needed(r, ns, names[i]) : 0;
		const char *of_image = recorded(r, ns, names[i]);
		char now[VALUE], text[VALUE];
		int result;

		r->sysctls[i] = NULL;
		if ((!of_image && !need) || !read_sysctl(r->proc_fd, names[i], now, sizeof(now)))
			continue;
		r->sysctls[i] = arena_strdup(&r->arena, of_image ? of_image : now);
		if (!r->sysctls[i])
			return error_errno(e, -ENOMEM, "sysctls");
		if (!r->may_set_sysctls && !same(now, r->sysctls[i]))
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the container had set %s to %s, which config.json does not let it do: make "
				"/proc/sys "
				"writable for it, or set it in linux.sysctl",
				names[i], r->sysctls[i]);
		/* shm_rmid_forced only once all are attached. */
		if (!is_ours(r, ns) || !strcmp(names[i], "kernel/shm_rmid_forced") ||
			!raised(now, r->sysctls[i], need, text, sizeof(text)))
			continue;
		result = write_in(r, ns, names[i], text, e);
		if (result < 0)
			return result;
	}
	return 0;
}

int ipc_sysctl_restore(struct restore *r, uint64_t ns, struct error *e)
{
	_Static_assert(ARRAY_SIZE(names) <= ARRAY_SIZE(r->sysctls), "restore.h has room for all");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char text[VALUE];
		int result;

		if (!r->sysctls[i] || !read_sysctl(r->proc_fd, names[i], text, sizeof(text)) ||
			same(text, r->sysctls[i]))
			continue;
		result = write_in(r, ns, names[i], r->sysctls[i], e);
		if (result < 0)
			return result;
	}
	return 0;
}

bool ipc_sysctl_is_valid(const St__Sysctl *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], s->name))
			return strlen(s->value) < 128 && s->value[strspn(s->value, "0123456789 \t-")] == '\0';
	return false;
}
