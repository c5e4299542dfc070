/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container of an ordinary user. He owns its user namespace, and so has all power over its processes, but not over
 * files of its other ids, nor may he enter its other namespaces. So what looks at the container or changes it enters the
 * user namespace first, for good: the surgeon, and for preflight a process of its own, which sends what it has found.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/engine-priv.h"
#include "checkpoint/native/dump.h"
#include "linux/lldomain.h"

bool checkpoint_is_unprivileged(const struct container *c)
{
	return geteuid() != 0 || (c->rootless && !idmap_is_initial());
}

int checkpoint_enter_userns(const struct container *c, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat own, theirs;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/user", c->init_pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		return error_set(e, -EPERM, ERROR_REFUSED, "the container's init: " HIDDEN_REASON);
	if (fd < 0 || fstat(fd, &theirs) < 0 || stat("/proc/self/ns/user", &own) < 0)
		return error_errno(e, -errno, "the container's user namespace");
	if (own.st_ino == theirs.st_ino && own.st_dev == theirs.st_dev)
		return 0;
	return setns(fd, CLONE_NEWUSER) < 0 ? error_errno(e, -errno, "enter the container's user namespace")
					    : 0;
}

/* What the child says, in memory that both have. */
struct shared_report {
	struct error error;
	int result;
	bool done;
	size_t n, len;
	struct {
		pid_t pid;
		int fd;
	} obstacles[1024];
	char text[1 << 20]; /* four strings for each */
};

static void put(struct shared_report *s, const struct preflight_report *r)
{
	for (size_t i = 0; i < r->n && i < ARRAY_SIZE(s->obstacles); i++) {
		const struct obstacle *o = &r->obstacles[i];
		const char *const texts[] = {o->kind, o->object, o->reason, o->remedy};
		size_t len = s->len;

		for (size_t k = 0; k < ARRAY_SIZE(texts); k++) {
			size_t n = strlen(texts[k]) + 1;

			if (n > sizeof(s->text) - len)
				return;
			memcpy(s->text + len, texts[k], n);
			len += n;
		}
		s->obstacles[i].pid = o->pid;
		s->obstacles[i].fd = o->fd;
		s->len = len;
		s->n = i + 1;
	}
}

static const char *next(const char **text)
{
	const char *s = *text;

	*text += strlen(s) + 1;
	return s;
}

static void get(const struct shared_report *s, struct preflight_report *r)
{
	const char *text = s->text;

	for (size_t i = 0; i < s->n; i++) {
		const char *kind = next(&text), *object = next(&text), *reason = next(&text);

		preflight_add(r, s->obstacles[i].pid, s->obstacles[i].fd, arena_strdup(&r->arena, kind),
			reason, next(&text), "%s", object);
	}
}

static _Noreturn void look(const struct preflight_look *l, struct shared_report *s)
{
	struct preflight_report own = {};

	if (checkpoint_is_unprivileged(l->c))
		s->result = checkpoint_enter_userns(l->c, &s->error);
	if (s->result == 0)
		s->result = native_preflight(l->c, l->o, &own, &s->error);
	put(s, &own);
	s->done = true;
	_exit(0);
}

/* By the child. */
struct looking {
	struct shared_report *shared;
	pid_t pid;
};

static int begin(const struct preflight_look *l, struct looking *k, struct error *e)
{
	int r;

	k->shared = mmap(NULL, sizeof(*k->shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (k->shared == MAP_FAILED) {
		k->shared = NULL;
		return error_errno(e, -ENOMEM, "preflight");
	}
	/* the surgeon needs it, too */
	r = container_load_spec(l->c, e);
	if (r < 0)
		return r;
	fflush(NULL);
	k->pid = fork();
	if (k->pid == 0)
		look(l, k->shared);
	return k->pid < 0 ? error_errno(e, -errno, "fork") : 0;
}

static int end(const struct preflight_look *l, struct looking *k, struct error *e)
{
	struct shared_report *s = k->shared;
	int r = 0;

	while (k->pid > 0 && waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (k->pid > 0)
		r = s->done ? s->result : -ECHILD;
	if (r < 0 && s->done)
		*e = s->error;
	else if (r < 0)
		error_errno(e, r, "look at the container from inside its user namespace");
	if (s) {
		get(s, l->report);
		munmap(s, sizeof(*s));
	}
	return r;
}

int checkpoint_preflight_inside(const struct preflight_look *all, unsigned n, struct error *e)
{
	struct looking looking[CHECKPOINT_MEMBERS_MAX] = {};
	struct error ignored;
	int result = 0;

	/* Those who look are not those who stop the containers: what is found out only once (2 ms) is known to both if it is here. */
	for (unsigned i = 0; i < n; i++)
		if (!checkpoint_is_unprivileged(all[i].c))
			landlock_learn();
	for (unsigned i = 0; i < n && result == 0; i++)
		result = begin(&all[i], &looking[i], e);
	for (unsigned i = 0; i < n; i++) {
		int r = end(&all[i], &looking[i], result < 0 ? &ignored : e);

		if (r < 0 && n > 1 && result == 0)
			error_prefix(
				e, "container \"%.100s\"", all[i].c->name ? all[i].c->name : all[i].c->id);
		result = result < 0 ? result : r;
	}
	return result;
}
