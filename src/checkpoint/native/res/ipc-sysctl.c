/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sysctls of the ipc namespace. create sets those of config.json; here is what the container itself has changed since, which
 * it can only if /proc/sys is not read-only for it. An image is given no more: see restore.c.
 *
 * Objects may need more than the limits allow (they were lowered later): while objects are made the limits are raised.
 */
#include "checkpoint/native/res/ipc.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"

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

/* Is this what config.json says? */
static bool is_of_config(const struct spec *s, const char *name, const char *value)
{
	for (size_t i = 0; i < s->n_sysctl; i++) {
		const char *a = s->sysctl[i].name, *b = name;

		while (*a && (*a == *b || (*a == '.' && *b == '/')))
			a++, b++;
		if (*a == *b)
			return same(s->sysctl[i].value, value);
	}
	return false;
}

int ipc_sysctl_dump(struct dump *d, struct error *e)
{
	_cleanup_close_ int proc = -EBADF;
	St__Ipc *m;

	if (!ipc_may_set_sysctls(d->c->spec) || d->c->spec->namespaces[NS_IPC].path)
		return 0;
	proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	m = ipc_add(d);
	if (m)
		m->sysctls = arena_array(&d->arena, ARRAY_SIZE(names), sizeof(*m->sysctls));
	if (!m || !m->sysctls)
		return error_errno(e, -ENOMEM, "sysctls");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char value[256];
		St__Sysctl *s;

		if (!read_sysctl(proc, names[i], value, sizeof(value)) ||
			is_of_config(d->c->spec, names[i], value))
			continue;
		s = m->sysctls[m->n_sysctls++] = pb_new(&d->arena, Sysctl, sysctl);
		if (s)
			s->value = arena_strdup(&d->arena, value);
		if (!s || !s->value)
			return error_errno(e, -ENOMEM, "sysctls");
		s->name = (char *)names[i];
	}
	return 0;
}

static void read_all(int proc, char values[ARRAY_SIZE(names)][VALUE])
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!read_sysctl(proc, names[i], values[i], VALUE))
			values[i][0] = '\0';
}

int ipc_check_fresh(int mount_namespace, const char **ret, struct error *e)
{
	_cleanup_close_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char now[ARRAY_SIZE(names)][VALUE], fresh[ARRAY_SIZE(names)][VALUE];
	bool queues = false;
	int r;

	if (proc < 0)
		return error_errno(e, -errno, "open /proc");
	read_all(proc, now);
	/* Where an ordinary user may mount: to see the queues. */
	if (setns(mount_namespace, CLONE_NEWNS) < 0)
		return error_errno(e, -errno, "enter the container's mount namespace");
	r = mqueue_is_used(&queues);
	if (r < 0)
		return error_errno(e, r, "message queues");
	if (unshare(CLONE_NEWIPC) < 0)
		return error_errno(e, -errno, "make an ipc namespace");
	read_all(proc, fresh);
	*ret = queues ? "it has message queues" : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!same(now[i], fresh[i]))
			*ret = "its sysctls have been changed";
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
static uint64_t needed(const struct restore *r, const char *name)
{
	uint64_t most = 0, queues = 0;

	for (size_t i = 0; i < r->n_ipc; i++) {
		const St__SysvQueue *q = r->ipc[i]->queue;
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
		if (r->ipc[i]->posix)
			queues++, most = MAX(most, of_queue(r->ipc[i]->posix, name));
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_MQUEUE)
			queues++, most = MAX(most, of_queue(r->files[i]->mqueue->queue, name));
	return strcmp(name, "fs/mqueue/queues_max") == 0 ? queues : most;
}

static const char *recorded(const struct restore *r, const char *name)
{
	for (size_t i = 0; i < r->n_ipc; i++)
		for (size_t k = 0; k < r->ipc[i]->n_sysctls; k++)
			if (!strcmp(r->ipc[i]->sysctls[k]->name, name))
				return r->ipc[i]->sysctls[k]->value;
	return NULL;
}

int ipc_sysctl_raise(struct restore *r, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(names) && r->own_ipc; i++) {
		uint64_t now[NUMBERS], then[NUMBERS] = {}, need = needed(r, names[i]);
		const char *of_image = recorded(r, names[i]);
		char text[256];
		size_t n, len = 0;
		int result;

		if ((!of_image && !need) || !read_sysctl(r->proc_fd, names[i], text, sizeof(text)))
			continue;
		r->sysctls[i] = arena_strdup(&r->arena, of_image ? of_image : text);
		if (!r->sysctls[i])
			return error_errno(e, -ENOMEM, "sysctls");
		if (!r->may_set_sysctls && !same(text, r->sysctls[i]))
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the container had set %s to %s, which config.json does not let it do: make "
				"/proc/sys "
				"writable for it, or set it in linux.sysctl",
				names[i], r->sysctls[i]);
		if (!strcmp(names[i], "kernel/shm_rmid_forced"))
			continue; /* only once all are attached */
		n = numbers(text, now);
		numbers(r->sysctls[i], then);
		for (size_t k = 0; k < n && len < sizeof(text); k++)
			len += snprintf(text + len, sizeof(text) - len, "%llu ",
				(unsigned long long)MAX(MAX(now[k], then[k]), need));
		numbers(text, then);
		if (memcmp(now, then, n * sizeof(*now)) == 0)
			continue;
		result = write_sysctl(r->proc_fd, names[i], text, e);
		if (result < 0)
			return result;
	}
	return 0;
}

int ipc_sysctl_restore(struct restore *r, struct error *e)
{
	_Static_assert(ARRAY_SIZE(names) <= ARRAY_SIZE(r->sysctls), "restore.h has room for all");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char text[256];
		int result;

		if (!r->sysctls[i] || !read_sysctl(r->proc_fd, names[i], text, sizeof(text)) ||
			same(text, r->sysctls[i]))
			continue;
		result = write_sysctl(r->proc_fd, names[i], r->sysctls[i], e);
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
