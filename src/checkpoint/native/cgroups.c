/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sub-cgroups of the container's own: which there are, what is set in them, whose they are, and which processes are in them.
 *
 * They are made by the restoring command, which may, below the container's own directories and so within its limits. They
 * are there before init opens files, and init is in its own (version 2 has no controllers for children where processes
 * are). The others are moved when all exist but none has memory yet, which is thus charged where it belongs. Limits come last.
 */
#include <dirent.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/trace.h"
#include "cgroup/subs.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"
#include "container/container.h"

enum { MAX_CGROUPS = 16384 };

static bool is_v2(const struct cgroup_dir *d)
{
	return d->controllers[0] == 0;
}

/* Whether config.json lets the container make cgroups. */
static bool may_make(const struct spec *s)
{
	const struct spec_capabilities *c = &s->process->capabilities;

	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct spec_mount *m = &s->mounts[i];

		if (!(m->flags & MS_RDONLY) &&
			((m->type && !strncmp(m->type, "cgroup", 6)) ||
				(m->is_bind && m->source && !strncmp(m->source, "/sys/fs/cgroup", 14))))
			return true;
	}
	return !s->process->has_capabilities || (c->bounding & 1ull << CAP_SYS_ADMIN);
}

/* ---- dump ---- */

struct survey {
	struct dump *d;
	struct error *e;
	St__Cgroup *m;
	size_t max_values, max_owners;
	bool only_controllers;
	uint32_t *found; /* threads of each process in the cgroup at hand */
};

static int add_value(const char *name, const char *text, void *arg)
{
	struct survey *s = arg;
	struct arena *a = &s->d->arena;
	St__CgroupValue *v;

	if (s->only_controllers && strcmp(name, "cgroup.subtree_control") != 0)
		return 0;
	if (s->m->n_values == s->max_values)
		return -E2BIG;
	v = pb_new(a, CgroupValue, cgroup_value);
	if (!v || !(v->name = arena_strdup(a, name)) || !(v->text = arena_strdup(a, text)))
		return -ENOMEM;
	s->m->values[s->m->n_values++] = v;
	return 0;
}

static int add_owner(struct survey *s, const char *name, const struct stat *st)
{
	struct arena *a = &s->d->arena;
	St__CgroupOwner *o = pb_new(a, CgroupOwner, cgroup_owner);

	if (!o || !(o->name = arena_strdup(a, name)))
		return -ENOMEM;
	o->uid = dump_uid(s->d, st->st_uid);
	o->gid = dump_gid(s->d, st->st_gid);
	o->mode = st->st_mode & 07777;
	if (s->m->n_owners < s->max_owners)
		s->m->owners[s->m->n_owners++] = o;
	return 0;
}

/* Whoever makes a cgroup owns its files; or it has been given to somebody. What belongs to the host's root, as it does when
 * we make it, needs no record. */
static int find_owners(struct survey *s, int fd)
{
	struct dirent *entry;
	struct stat st;
	int copy, r = 0;
	DIR *list;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid || st.st_gid || (st.st_mode & 07777) != 0755)
		r = add_owner(s, "", &st);
	copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list = copy < 0 ? NULL : fdopendir(copy);
	if (!list) {
		close_p(&copy);
		return -errno;
	}
	while (r == 0 && (entry = readdir(list)))
		if (entry->d_type == DT_REG && fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			(st.st_uid || st.st_gid))
			r = add_owner(s, entry->d_name, &st);
	closedir(list);
	return r;
}

static void count_thread(struct survey *s, pid_t tid)
{
	for (size_t i = 0; i < s->d->n_procs; i++)
		for (size_t k = 0; k < s->d->procs[i].n_threads; k++)
			if (s->d->procs[i].threads[k].tid == tid) {
				s->found[i]++;
				return;
			}
}

static int find_processes(struct survey *s, const struct cgroup_sub *sub)
{
	_cleanup_free_ char *text = NULL;
	struct dump *d = s->d;
	int r = cgroup_sub_threads(sub->fd, is_v2(sub->dir), &text);

	if (r < 0)
		return r;
	memset(s->found, 0, d->n_procs * sizeof(*s->found));
	for (char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
		count_thread(s, strtol(p, NULL, 10));
	s->m->pids = arena_array(&d->arena, d->n_procs, sizeof(*s->m->pids));
	if (!s->m->pids)
		return -ENOMEM;
	for (size_t i = 0; i < d->n_procs; i++) {
		if (!s->found[i])
			continue;
		if (s->found[i] < d->procs[i].n_threads)
			dump_refuse(d, &d->procs[i], -1, "cgroup", "its threads are in several cgroups",
				"put them into one", "%s%s", sub->dir->path, sub->path);
		s->m->pids[s->m->n_pids++] = d->procs[i].ns_pid;
	}
	return 0;
}

static void check_sub(struct survey *s, const struct cgroup_sub *sub)
{
	if (cgroup_sub_is_frozen(sub->fd, is_v2(sub->dir)) > 0)
		preflight_add(s->d->report, 0, -1, "cgroup", "the container has frozen it", "thaw it", "%s%s",
			sub->dir->path, sub->path);
	if (is_v2(sub->dir) && cgroup_sub_has_programs(sub->fd) > 0)
		preflight_add(s->d->report, 0, -1, "cgroup", "BPF programs are attached to it", "detach them",
			"%s%s", sub->dir->path, sub->path);
}

static int look_at(const struct cgroup_sub *sub, void *arg)
{
	enum { VALUES = 64, OWNERS = 256 };
	struct survey *s = arg;
	struct dump *d = s->d;
	bool all = d->options->cgroups == CGROUPS_FULL || d->options->cgroups == CGROUPS_STRICT;
	int r;

	if (!sub->path[0] && !all && !is_v2(sub->dir))
		return 0; /* the container's own: its limits are config.json's */
	s->m = pb_new(&d->arena, Cgroup, cgroup);
	s->max_values = VALUES;
	s->max_owners = OWNERS;
	s->only_controllers = !sub->path[0] && !all;
	if (!s->m || !(s->m->path = arena_strdup(&d->arena, sub->path)) ||
		!(s->m->values = arena_array(&d->arena, VALUES, sizeof(*s->m->values))) ||
		!(s->m->owners = arena_array(&d->arena, OWNERS, sizeof(*s->m->owners))))
		return error_errno(s->e, -ENOMEM, "cgroups");
	s->m->controllers = (char *)sub->dir->controllers;
	r = cgroup_sub_values(sub->fd, is_v2(sub->dir), add_value, s);
	if (r == 0 && sub->path[0]) {
		check_sub(s, sub);
		r = find_owners(s, sub->fd);
		if (r == 0)
			r = find_processes(s, sub);
	}
	/* -ENODEV: removed while we look, which preflight does not mind */
	if (r < 0)
		return r == -ENODEV && !d->stopped
			       ? 0
			       : error_errno(s->e, r, "cgroup %s%s", sub->dir->path, sub->path);
	if (d->n_cgroups == MAX_CGROUPS)
		return error_set(
			s->e, -E2BIG, ERROR_REFUSED, "the container has more than %d cgroups", MAX_CGROUPS);
	d->cgroups[d->n_cgroups++] = s->m;
	return 0;
}

int dump_cgroups(struct dump *d, struct error *e)
{
	TRACE("cgroups");
	struct survey s = {.d = d, .e = e};
	bool all = d->options->cgroups == CGROUPS_FULL || d->options->cgroups == CGROUPS_STRICT;
	bool subs;

	d->n_cgroups = 0;
	if (d->options->cgroups == CGROUPS_IGNORE || d->c->cgroup.mode == CGROUP_NONE)
		return 0;
	subs = cgroup_has_subs(&d->c->cgroup, d->is_prepared ? d->cgroup_dirs : NULL);
	if (!subs && !all)
		return 0;
	if (subs && !may_make(d->c->spec)) {
		preflight_add(d->report, 0, -1, "cgroup",
			"it has sub-cgroups, and config.json does not allow that to the container",
			"remove them, or use --manage-cgroups-mode ignore", "%s", d->c->cgroup.path);
		return 0;
	}
	d->cgroups = arena_array(&d->arena, MAX_CGROUPS, sizeof(*d->cgroups));
	s.found = arena_array(&d->arena, d->n_procs, sizeof(*s.found));
	if (!d->cgroups || !s.found)
		return error_errno(e, -ENOMEM, "cgroups");
	return cgroup_subs_visit(&d->c->cgroup, look_at, &s, e);
}

/* ---- the image ---- */

static bool is_plain_path(const char *path)
{
	if (strlen(path) >= 4000)
		return false;
	for (const char *p = path; *p;) {
		size_t n = strcspn(p + 1, "/");

		if (*p != '/' || n == 0 || n > 255 || p[1] == '.')
			return false;
		p += n + 1;
	}
	return true;
}

static bool is_well_formed(const St__Cgroup *m)
{
	for (size_t i = 0; i < m->n_values; i++)
		if (!cgroup_value_is_known(m->values[i]->name, m->controllers[0] == 0))
			return false;
	for (size_t i = 0; i < m->n_owners; i++)
		if (strchr(m->owners[i]->name, '/') || m->owners[i]->name[0] == '.' ||
			m->owners[i]->mode > 07777)
			return false;
	return is_plain_path(m->path);
}

int restore_validate_cgroups(const struct restore *r, struct error *e)
{
	if (r->n_cgroups > MAX_CGROUPS)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: %zu cgroups", r->n_cgroups);
	for (size_t i = 0; i < r->n_cgroups; i++)
		if (!is_well_formed(r->cgroups[i]))
			return error_set(
				e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: cgroup %zu is malformed", i);
	return 0;
}

int restore_check_cgroups(const struct restore *r, const struct spec *s, struct error *e)
{
	for (size_t i = 0; i < r->n_cgroups; i++)
		if (r->cgroups[i]->path[0] && !may_make(s))
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the image brings sub-cgroups, and the bundle's config.json does not allow "
				"the container to "
				"make any: restore with --manage-cgroups-mode ignore");
	return 0;
}

/* ---- restore ---- */

struct placing {
	struct restore *r;
	struct container *c;
	struct id_maps ids;
	struct proc_status init;
};

static uint32_t outside(const struct id_map *map, size_t n, uint32_t id)
{
	for (size_t i = 0; i < n; i++)
		if (id >= map[i].container_id && id - map[i].container_id < map[i].size)
			return map[i].host_id + (id - map[i].container_id);
	return UINT32_MAX; /* stays as it is */
}

static int open_sub(const struct placing *p, const St__Cgroup *m, struct error *e)
{
	const struct cgroup_dir *d = cgroup_dir_of(&p->c->cgroup, m->controllers);

	if (!d)
		return error_set(e, -ENOENT, ERROR_KERNEL,
			"the image has cgroups of \"%s\", which this machine does not have: restore with "
			"--manage-cgroups-mode ignore",
			m->controllers[0] ? m->controllers : "version 2");
	return cgroup_sub_make(&p->c->cgroup, d, m->path, e);
}

static int write_values(
	const struct placing *p, const St__Cgroup *m, bool early, bool controllers, struct error *e)
{
	bool all = p->r->options->cgroups == CGROUPS_FULL || p->r->options->cgroups == CGROUPS_STRICT;
	_cleanup_close_ int fd = open_sub(p, m, e);

	for (size_t i = 0; fd >= 0 && i < m->n_values; i++) {
		const St__CgroupValue *v = m->values[i];
		bool of_children = !strcmp(v->name, "cgroup.subtree_control");
		int r;

		if (cgroup_value_is_early(v->name, !m->controllers[0]) != early ||
			of_children != controllers || (!m->path[0] && !all && !of_children))
			continue;
		r = cgroup_value_write(fd, v->name, v->text);
		if (r < 0)
			return error_errno(e, r, "cgroup %s%s: write \"%.100s\" to %s", p->c->cgroup.path,
				m->path, v->text, v->name);
	}
	return MIN(fd, 0);
}

static int give_away(const struct placing *p, const St__Cgroup *m, struct error *e)
{
	_cleanup_close_ int fd = m->n_owners ? open_sub(p, m, e) : 0;

	if (fd == 0)
		return take_fd(&fd);
	for (size_t i = 0; fd >= 0 && i < m->n_owners; i++) {
		const St__CgroupOwner *o = m->owners[i];
		const char *name = o->name[0] ? o->name : ".";

		if (fchownat(fd, name, outside(p->ids.uid, p->ids.n_uid, o->uid),
			    outside(p->ids.gid, p->ids.n_gid, o->gid), AT_SYMLINK_NOFOLLOW) < 0 ||
			fchmodat(fd, name, o->mode, 0) < 0)
			if (errno != ENOENT) /* a file that this kernel has not */
				return error_errno(e, -errno, "cgroup %s%s: owner of %s", p->c->cgroup.path,
					m->path, name);
	}
	return MIN(fd, 0);
}

static bool holds(const St__Cgroup *m, int pid)
{
	for (size_t i = 0; i < m->n_pids; i++)
		if (m->pids[i] == pid)
			return true;
	return false;
}

/* Index of the record in whose cgroup the process is; n_cgroups: in the container's own. */
static size_t place_of(const struct restore *r, const char *controllers, int pid)
{
	size_t i = 0;

	while (i < r->n_cgroups &&
		(strcmp(r->cgroups[i]->controllers, controllers) != 0 || !holds(r->cgroups[i], pid)))
		i++;
	return i;
}

static int move_process(
	const struct placing *p, const struct cgroup_dir *d, size_t place, pid_t pid, struct error *e)
{
	static const St__Cgroup own = {.path = (char *)""};
	const St__Cgroup *m = place < p->r->n_cgroups ? p->r->cgroups[place] : &own;
	_cleanup_close_ int fd = cgroup_sub_make(&p->c->cgroup, d, m->path, e);
	char text[16];
	int r;

	if (fd < 0)
		return fd;
	snprintf(text, sizeof(text), "%d", pid);
	r = write_string_at(fd, "cgroup.procs", text);
	/* threads of a threaded domain are moved one by one; there is only one yet */
	if (r == -EOPNOTSUPP)
		r = write_string_at(fd, "cgroup.threads", text);
	return r < 0 ? error_errno(e, r, "cgroup %s%s: move process %d there", d->path, m->path, pid) : 0;
}

static int prepare(struct placing *p, struct error *e)
{
	pid_t init = p->c->init_pid;
	int r = idmap_read(init, "uid_map", &p->r->arena, &p->ids.uid, &p->ids.n_uid);

	if (r == 0)
		r = idmap_read(init, "gid_map", &p->r->arena, &p->ids.gid, &p->ids.n_gid);
	if (r == 0)
		r = proc_read_status(init, init, &p->r->arena, &p->init);
	return r < 0 ? error_errno(e, r, "look at the container's init") : 0;
}

int restore_make_cgroups(struct restore *r, struct container *c, struct error *e)
{
	struct placing p = {.r = r, .c = c};
	const struct cgroup *cg = &c->cgroup;
	int result;

	if (r->n_cgroups == 0)
		return 0;
	result = prepare(&p, e);
	for (size_t i = 0; i < r->n_cgroups && result == 0; i++)
		result = write_values(&p, r->cgroups[i], true, false, e);
	for (size_t i = 0; i < r->n_cgroups && result == 0; i++)
		result = give_away(&p, r->cgroups[i], e);
	for (size_t i = 0; i < cg->n_dirs && result == 0; i++) {
		size_t place = place_of(r, cg->dirs[i].controllers, r->procs[0]->pid);

		if (cg->dirs[i].inode && place < r->n_cgroups)
			result = move_process(&p, &cg->dirs[i], place, c->init_pid, e);
	}
	for (size_t i = 0; i < r->n_cgroups && result == 0; i++)
		result = write_values(&p, r->cgroups[i], true, true, e);
	/* files that are there only now */
	for (size_t i = 0; i < r->n_cgroups && result == 0; i++)
		result = give_away(&p, r->cgroups[i], e);
	if (result == 0)
		result = restore_send_cgroup_roots(r, cg, e);
	if (result == 0)
		restore_tell(&r->control->cgroups_made);
	return result;
}

/* All are where init is. */
static int place_process(const struct placing *p, const St__Process *m, pid_t pid, struct error *e)
{
	const struct cgroup *cg = &p->c->cgroup;

	for (size_t i = 0; i < cg->n_dirs; i++) {
		const char *controllers = cg->dirs[i].controllers;
		size_t place = place_of(p->r, controllers, m->pid);
		int r;

		if (!cg->dirs[i].inode || place == place_of(p->r, controllers, p->r->procs[0]->pid))
			continue;
		r = move_process(p, &cg->dirs[i], place, pid, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Who watches cgroup.events may have had news that it had not read: it gets some of each. Where processes come to there
 * are; an empty one is frozen for a moment. */
static int notify_watchers(const struct placing *p, const St__Cgroup *m, struct error *e)
{
	_cleanup_close_ int fd = m->controllers[0] || !m->path[0] || m->n_pids ? 0 : open_sub(p, m, e);
	int r;

	if (fd == 0)
		return take_fd(&fd);
	r = fd < 0 ? fd : write_string_at(fd, "cgroup.freeze", "1");
	if (r == 0)
		r = write_string_at(fd, "cgroup.freeze", "0");
	return r < 0 ? error_errno(e, r, "cgroup %s%s: freeze and thaw", p->c->cgroup.path, m->path) : 0;
}

int restore_place_cgroups(struct restore *r, struct container *c, struct error *e)
{
	struct placing p = {.r = r, .c = c};
	_cleanup_free_ pid_t *pids = NULL;
	size_t n = 0;
	int result = prepare(&p, e);

	if (result == 0)
		result = cgroup_pids(&c->cgroup, false, &pids, &n, e);
	for (size_t i = 0; i < n && result == 0; i++) {
		const St__Process *m;
		struct proc_status st;

		/* who has ended meanwhile was to be a zombie */
		if (proc_read_status(pids[i], pids[i], &r->arena, &st) < 0 || st.n_ns < p.init.n_ns)
			continue;
		m = restore_process(r, st.ns_pid[p.init.n_ns - 1]);
		if (m && m->state != 2)
			result = place_process(&p, m, pids[i], e);
	}
	for (size_t i = 0; i < r->n_cgroups && result == 0; i++)
		result = write_values(&p, r->cgroups[i], false, false, e);
	for (size_t i = 0; i < r->n_cgroups && result == 0; i++)
		result = notify_watchers(&p, r->cgroups[i], e);
	if (result == 0)
		restore_tell(&r->control->cgroups_placed);
	return result;
}
