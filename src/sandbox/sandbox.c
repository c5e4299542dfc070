/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

enum { NAME_LIMIT = 256 };

static void forget_members(struct sandbox *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		free(s->members[i].id);
		free(s->members[i].name);
	}
	free(s->members);
	s->members = NULL;
	s->n_members = 0;
}

void sandbox_free(struct sandbox *s)
{
	if (!s)
		return;
	forget_members(s);
	close_p(&s->dir_fd);
	free(s->root);
	free(s->id);
	free(s);
}

static int by_name(const void *a, const void *b)
{
	const struct sandbox_member *x = a, *y = b;
	int root = !strcmp(y->name, CONTAINER_NAME_OF_ROOT) - !strcmp(x->name, CONTAINER_NAME_OF_ROOT);

	return root ? root : strcmp(x->name, y->name);
}

static void closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int add_member(struct sandbox *s, const char *id, const char *name)
{
	struct sandbox_member *all = realloc(s->members, (s->n_members + 1) * sizeof(*all)), *m;

	if (!all)
		return -ENOMEM;
	s->members = all;
	m = &all[s->n_members];
	*m = (struct sandbox_member){strdup(id), strdup(name)};
	s->n_members++;
	return m->id && m->name ? 0 : -ENOMEM;
}

/* The file may be of a create or delete that was killed: a member is a container. */
static int read_member(struct sandbox *s, int root_fd, int members_fd, const char *id)
{
	char name[NAME_LIMIT];
	ssize_t n;

	if (container_id_check(id, NULL) < 0 || faccessat(root_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	n = read_small_file_at(members_fd, id, name, sizeof(name));
	if (n == -ENOENT || (n >= 0 && container_id_check(name, NULL) < 0))
		return 0;
	return n < 0 ? (int)n : add_member(s, id, name);
}

static int read_members(struct sandbox *s)
{
	_cleanup_close_ int root_fd = open(s->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedir_p) DIR *d = NULL;
	struct dirent *ent;
	int fd, r = 0;

	if (root_fd < 0)
		return -errno;
	fd = openat(s->dir_fd, CONTAINER_MEMBERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		close_p(&fd);
		return -ENOMEM;
	}
	while (r == 0 && (ent = readdir(d)))
		if (ent->d_name[0] != '.' || container_id_check(ent->d_name, NULL) == 0)
			r = read_member(s, root_fd, fd, ent->d_name);
	if (s->n_members)
		qsort(s->members, s->n_members, sizeof(*s->members), by_name);
	return r;
}

int sandbox_refresh(struct sandbox *s, struct error *e)
{
	int r;

	forget_members(s);
	r = read_members(s);
	return r < 0 ? error_errno(e, r, "members of the sandbox %s", s->id) : 0;
}

int sandbox_open(const char *root, const char *id, struct sandbox **ret, struct error *e)
{
	_cleanup_(sandbox_free_p) struct sandbox *s = NULL;
	int r = container_id_check(id, e);

	if (r < 0)
		return error_prefix(e, "sandbox");
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_errno(e, -ENOMEM, "sandbox %s", id);
	s->dir_fd = container_open_sandbox(root, id, false);
	if (s->dir_fd == -ENOENT)
		return error_set(e, -ENOENT, ERROR_STATE, "sandbox does not exist: %s", id);
	if (s->dir_fd < 0)
		return error_errno(e, s->dir_fd, "open the sandbox %s", id);
	s->root = strdup(root);
	s->id = strdup(id);
	if (!s->root || !s->id)
		return error_errno(e, -ENOMEM, "sandbox %s", id);
	r = sandbox_refresh(s, e);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

const struct sandbox_member *sandbox_find(const struct sandbox *s, const char *name)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (!strcmp(s->members[i].name, name))
			return &s->members[i];
	return NULL;
}
