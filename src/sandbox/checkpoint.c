/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/checkpoint.h"

#include <string.h>
#include <sys/file.h>

#include "base/fd.h"
#include "base/log.h"

int sandbox_named(const char *root, const char *id, char **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_close_ int fd = -EBADF;
	const char *name = id;
	int r = container_id_check(id, e);

	if (r < 0)
		return r;
	fd = container_open_sandbox(root, id, false);
	if (fd < 0 && fd != -ENOENT)
		return error_errno(e, fd, "open the sandbox %s", id);
	if (fd < 0) {
		r = container_load(root, id, false, &c, e);
		if (r < 0)
			return r == -ENOENT ? 1 : r;
		if (!c->sandbox)
			return 1;
		name = c->sandbox;
	}
	*ret = strdup(name);
	return *ret ? 0 : error_errno(e, -ENOMEM, "sandbox %s", id);
}

void sandbox_checkpoint_done(struct sandbox_checkpoint *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		container_free(s->members[i].c);
		preflight_report_done(&s->members[i].report);
	}
	sandbox_free(s->sandbox);
	close_p(&s->members_fd);
	*s = (struct sandbox_checkpoint){.members_fd = -EBADF};
}

/* Who would join waits (container/membership.c), and another checkpoint. */
static int close_doors(struct sandbox_checkpoint *s, struct error *e)
{
	s->members_fd = openat(
		s->sandbox->dir_fd, CONTAINER_MEMBERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->members_fd < 0 && errno == ENOENT)
		return 0;
	if (s->members_fd < 0)
		return error_errno(e, -errno, "open the sandbox %s", s->sandbox->id);
	while (flock(s->members_fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "lock the sandbox %s", s->sandbox->id);
	return sandbox_refresh(s->sandbox, e);
}

/* Whether it is to be in the image: 1, or it has stopped: 0. */
static int judge(const struct sandbox_checkpoint *s, const struct container *c, struct error *e)
{
	enum container_status status = container_status(c);

	switch (status) {
	case CONTAINER_RUNNING:
	case CONTAINER_PAUSED:
		return 1;
	case CONTAINER_STOPPED:
		return 0;
	default:
		return error_set(e, -EINVAL, ERROR_STATE,
			"cannot checkpoint sandbox \"%.100s\": its container \"%.100s\" (%.100s) is %s: "
			"start it or delete "
			"it",
			s->sandbox->id, c->name, c->id, container_status_name(status));
	}
}

/* One that is being made might take any time. */
static int check_made(const struct sandbox_checkpoint *s, const struct sandbox_member *m, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	int r = container_load(s->sandbox->root, m->id, false, &c, e);

	if (r < 0 || (container_status(c) != CONTAINER_CREATING && !c->restoring))
		return r;
	return error_set(e, -EBUSY, ERROR_STATE,
		"cannot checkpoint sandbox \"%.100s\": its container \"%.100s\" (%.100s) is still being "
		"created or "
		"restored (or that was interrupted: then delete it)",
		s->sandbox->id, m->name, m->id);
}

static int take(struct sandbox_checkpoint *s, const struct sandbox_member *m, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	int r = check_made(s, m, e);

	if (r == 0)
		r = container_load(s->sandbox->root, m->id, true, &c, e);
	/* Deleted, or not made after all, while we waited for its lock. */
	if (r == -ENOENT)
		return 0;
	if (r == 0 && (!c->sandbox || !c->name || strcmp(c->sandbox, s->sandbox->id) != 0))
		return 0;
	if (r == 0)
		r = judge(s, c, e);
	if (r <= 0)
		return r;
	if (s->n == CHECKPOINT_MEMBERS_MAX)
		return error_set(e, -E2BIG, ERROR_REFUSED,
			"cannot checkpoint sandbox \"%.100s\": more than %d of its containers run",
			s->sandbox->id, CHECKPOINT_MEMBERS_MAX);
	s->members[s->n++].c = take_ptr(c);
	return 0;
}

static int check_names(const struct sandbox_checkpoint *s, struct error *e)
{
	for (unsigned i = 1; i < s->n; i++)
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(s->members[i].c->name, s->members[k].c->name))
				return error_set(e, -EEXIST, ERROR_STATE,
					"cannot checkpoint sandbox \"%.100s\": its containers \"%.100s\" and "
					"\"%.100s\" "
					"have the same name, %.100s: delete one of them",
					s->sandbox->id, s->members[k].c->id, s->members[i].c->id,
					s->members[i].c->name);
	return 0;
}

/* Always in the same order, as Pause does it; who makes a container has its lock when it joins. */
static int take_all(struct sandbox_checkpoint *s, struct error *e)
{
	int r = close_doors(s, e);

	for (size_t i = 0; i < s->sandbox->n_members && r == 0; i++)
		r = take(s, &s->sandbox->members[i], e);
	if (r == 0 && s->n == 0)
		return error_set(e, -EINVAL, ERROR_STATE,
			"cannot checkpoint sandbox \"%.100s\": none of its containers runs", s->sandbox->id);
	return r == 0 ? check_names(s, e) : r;
}

/* The container that the sandbox begins with (the first member) goes last. */
static int delete_all(struct sandbox_checkpoint *s, struct error *e)
{
	struct error ignored;
	int r = 0;

	for (unsigned i = s->n; i-- > 0;)
		if (container_delete(s->members[i].c, true, r < 0 ? &ignored : e) < 0 && r == 0)
			r = e->code;
	return r;
}

int sandbox_checkpoint(const char *root, const char *id, const struct checkpoint_options *o,
	struct sandbox_checkpoint *ret, struct error *e)
{
	int r;

	*ret = (struct sandbox_checkpoint){.members_fd = -EBADF};
	r = sandbox_open(root, id, &ret->sandbox, e);
	if (r == 0)
		r = take_all(ret, e);
	if (r == 0)
		r = checkpoint_run_together(ret->sandbox->id, ret->members, ret->n, o, &ret->stats, e);
	return r == 0 && !o->leave_running ? delete_all(ret, e) : r;
}

void sandbox_checkpoint_obstacles(const struct sandbox_checkpoint *s, FILE *out)
{
	for (unsigned i = 0; i < s->n; i++) {
		const struct preflight_report *r = &s->members[i].report;

		for (size_t k = 0; k < r->n; k++) {
			const struct obstacle *o = &r->obstacles[k];

			fprintf(out, "  container %s process %d", s->members[i].c->name, o->pid);
			if (o->fd >= 0)
				fprintf(out, " fd %d", o->fd);
			fprintf(out, ": %s: %s: %s; %s\n", o->kind, o->object, o->reason, o->remedy);
		}
	}
}

/* The names are ids: nothing in them needs a backslash. */
void sandbox_checkpoint_statistics(const struct sandbox_checkpoint *s, FILE *out)
{
	fprintf(out, "{\"sandbox\": \"%s\", \"stopped_us\": %llu, \"total_us\": %llu, \"containers\": {\n",
		s->sandbox->id, (unsigned long long)s->stats.frozen_us,
		(unsigned long long)s->stats.total_us);
	for (unsigned i = 0; i < s->n; i++) {
		fprintf(out, "%s\"%s\": ", i ? ", " : "", s->members[i].c->name);
		image_statistics_print(&s->members[i].stats, IMAGE_DUMP, out);
	}
	fprintf(out, "}}\n");
}
