/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/homes.h"

#include <sched.h>
#include <string.h>

const St__Namespace *homes_namespace(const struct homes *h, uint64_t id)
{
	for (size_t i = 0; i < h->n_spaces; i++)
		if (h->spaces[i]->id == id)
			return h->spaces[i];
	return NULL;
}

const St__Namespace *homes_namespace_of(const struct homes *h, const St__Process *p, uint32_t type)
{
	for (size_t i = 0; i < p->n_namespaces; i++) {
		const St__Namespace *n = homes_namespace(h, p->namespaces[i]);

		if (n && n->type == type)
			return n;
	}
	return NULL;
}

/* Whether user namespace "id" is "top" or one below it: who has all capabilities in "top" has them there, too. */
static bool is_within(const struct homes *h, uint64_t id, uint64_t top)
{
	for (size_t steps = 0; id != top && steps <= h->n_spaces; steps++) {
		const St__Namespace *n = homes_namespace(h, id);

		if (!n)
			return false;
		id = n->parent;
	}
	return id == top;
}

static uint64_t id_of(const St__Namespace *n)
{
	return n ? n->id : 0;
}

static uint64_t owner_of(const St__Namespace *n)
{
	return n ? n->owner : 0;
}

uint64_t homes_of_threads(const struct homes *h, size_t proc)
{
	const St__Process *p = h->procs[proc];

	return p->n_threads > 1 ? id_of(homes_namespace_of(h, p, CLONE_NEWUSER)) : h->home[proc];
}

size_t homes_foreign_pids(const struct homes *h, const St__Process *p, uint64_t home)
{
	const St__Namespace *n = homes_namespace_of(h, p, CLONE_NEWPID);
	size_t levels = 0, own = 0;

	/* From the inside: owners further out are further up. */
	for (; levels <= h->n_spaces; levels++) {
		own += is_within(h, owner_of(n), home);
		if (!n)
			break;
		n = homes_namespace(h, n->parent);
	}
	return levels + 1 - own;
}

static bool map_down(St__IdExtent *const *map, size_t n, uint32_t id, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (id < map[i]->outside || id - map[i]->outside >= map[i]->count)
			continue;
		*ret = map[i]->inside + (id - map[i]->outside);
		return true;
	}
	return false;
}

static bool map_id(const struct homes *h, uint64_t home, bool group, uint32_t id, uint32_t *ret, size_t depth)
{
	const St__Namespace *n = homes_namespace(h, home);

	*ret = id;
	if (!n)
		return home == 0;
	if (depth > h->n_spaces || !map_id(h, n->parent, group, id, &id, depth + 1))
		return false;
	return group ? map_down(n->gid_map, n->n_gid_map, id, ret)
		     : map_down(n->uid_map, n->n_uid_map, id, ret);
}

bool homes_map_uid(const struct homes *h, uint64_t home, uint32_t id, uint32_t *ret)
{
	return map_id(h, home, false, id, ret, 0);
}

bool homes_map_gid(const struct homes *h, uint64_t home, uint32_t id, uint32_t *ret)
{
	return map_id(h, home, true, id, ret, 0);
}

/* ---- can it be done ---- */

static bool may_set_groups(const struct homes *h, uint64_t home)
{
	const St__Namespace *n;

	while ((n = homes_namespace(h, home))) {
		if (n->setgroups_denied)
			return false;
		home = n->parent;
	}
	return true;
}

static bool same_groups(const St__Credentials *a, const St__Credentials *b)
{
	return a->n_groups == b->n_groups &&
	       (a->n_groups == 0 || !memcmp(a->groups, b->groups, a->n_groups * sizeof(*a->groups)));
}

/* Whether one who has the ids of "base" can get those of "c" in there. */
static bool can_become(
	const struct homes *h, uint64_t home, const St__Credentials *base, const St__Credentials *c)
{
	uint32_t ignored;
	bool good = same_groups(base, c) || may_set_groups(h, home);

	for (size_t i = 0; i < c->n_uid && good; i++)
		good = c->uid[i] == base->uid[i] || homes_map_uid(h, home, c->uid[i], &ignored);
	for (size_t i = 0; i < c->n_gid && good; i++)
		good = c->gid[i] == base->gid[i] || homes_map_gid(h, home, c->gid[i], &ignored);
	for (size_t i = 0; i < c->n_groups && good && !same_groups(base, c); i++)
		good = homes_map_gid(h, home, c->groups[i], &ignored);
	return good;
}

static const St__Credentials *credentials_of(const St__Process *p, size_t thread)
{
	const St__Credentials *c = p->threads && thread < p->n_threads && p->threads[thread]
					   ? p->threads[thread]->credentials
					   : NULL;

	return c && c->n_uid == 4 && c->n_gid == 4 ? c : NULL;
}

/* "base": what they are born with; NULL: of a dead process. */
static const char *check_ids(const struct homes *h, size_t proc, const St__Credentials *base)
{
	const St__Process *p = h->procs[proc];

	for (size_t i = 0; i < p->n_threads && base; i++) {
		const St__Credentials *c = credentials_of(p, i);
		uint64_t home = i == 0 ? h->home[proc] : homes_of_threads(h, proc);
		const St__Credentials *from = home == h->home[proc] ? base : credentials_of(p, 0);

		if (c && from && home && !can_become(h, home, from, c))
			return "its ids are not mapped in its user namespace, and others than those of who "
			       "made it";
	}
	return NULL;
}

static const char *check_namespaces(const struct homes *h, const St__Process *p, const St__Process *parent,
	uint64_t home, uint64_t forker)
{
	static const uint32_t types[] = {
		CLONE_NEWUTS, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWCGROUP};
	const St__Namespace *n = homes_namespace_of(h, p, CLONE_NEWTIME);

	if (home && (p->children_time_namespace || (n && !is_within(h, n->owner, home))))
		return "its time namespace belongs to a user namespace above it";
	for (size_t i = 0; i < ARRAY_SIZE(types) && forker; i++) {
		n = homes_namespace_of(h, p, types[i]);
		if (n != homes_namespace_of(h, parent, types[i]) && !is_within(h, owner_of(n), forker))
			return "it is in a namespace that belongs to a user namespace above it, and its "
			       "parent is in another";
	}
	return NULL;
}

/* Init, if the parent is not of this container. */
static size_t find(const struct homes *h, int pid)
{
	for (size_t i = 0; i < h->n_procs; i++)
		if (h->procs[i]->pid == pid)
			return i;
	return 0;
}

/* The process that came into the home first, from outside: as it was the others are born. */
static const St__Process *settler(const struct homes *h, size_t i)
{
	const St__Process *p = h->procs[i];

	while (i > 0 && h->home[find(h, p->ppid)] == h->home[i]) {
		i = find(h, p->ppid);
		p = h->procs[i];
	}
	return p;
}

static const char *find_home(struct homes *h, size_t i)
{
	const St__Process *p = h->procs[i], *parent = h->procs[find(h, p->ppid)];
	const St__Namespace *pid = homes_namespace_of(h, p, CLONE_NEWPID),
			    *user = homes_namespace_of(h, p, CLONE_NEWUSER);
	uint64_t from = h->home[find(h, p->ppid)];
	bool first = pid && pid != homes_namespace_of(h, parent, CLONE_NEWPID) && p->n_inner_pids &&
		     p->inner_pids[p->n_inner_pids - 1] == 1;

	h->home[i] = first ? pid->owner : from;
	if (!is_within(h, h->home[i], from))
		return "its pid namespace belongs to a user namespace above the one of its parent";
	if (p->state != 2 && !is_within(h, id_of(user), h->home[i]))
		return "its user namespace is not below the one that owns its pid namespace";
	return check_namespaces(h, p, parent, h->home[i], from);
}

int homes_find(struct homes *h, struct arena *a, size_t *ret_wrong, const char **ret_reason)
{
	h->home = arena_array(a, h->n_procs, sizeof(*h->home));
	if (!h->home)
		return -ENOMEM;
	for (size_t i = 1; i < h->n_procs; i++) {
		*ret_wrong = i;
		*ret_reason = find_home(h, i);
		if (!*ret_reason)
			*ret_reason = check_ids(h, i, credentials_of(settler(h, i), 0));
		if (*ret_reason)
			return 1;
	}
	return 0;
}
