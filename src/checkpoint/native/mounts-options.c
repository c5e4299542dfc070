/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems that a container may mount by itself and that we can mount again, with the options of each. Others belong
 * to a device or a server, or have contents of their own that no record holds.
 */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/native/dump.h"
#include "checkpoint/native/mounts.h"

/* "name" is a flag, "name=" has a value, "gid=" and "uid=" are ids, "*": everything (names of controllers). */
struct filesystem {
	const char *type;
	const char *options[20];
};

static const char *const any[] = {"ro", "sync", "dirsync", "lazytime"};

static const struct filesystem filesystems[] = {
	{"tmpfs", {"mode=", "uid=", "gid=", "size=", "nr_blocks=", "nr_inodes=", "huge=", "mpol=", "inode32",
			  "inode64", "noswap"}},
	{"proc", {"hidepid=", "gid=", "subset="}}, {"sysfs", {}},
	{"devpts", {"gid=", "uid=", "mode=", "ptmxmode=", "max="}}, {"mqueue", {}}, {"cgroup", {"*"}},
	{"cgroup2", {}},
	{"overlay", {"lowerdir=", "upperdir=", "workdir=", "redirect_dir=", "index=", "metacopy=", "xino=",
			    "nfs_export=", "userxattr", "uuid=", "verity=", "default_permissions"}},
	/* views of the kernel, which have nothing of their own */
	{"securityfs", {}}, {"debugfs", {"mode=", "gid=", "uid="}}, {"tracefs", {"mode=", "gid=", "uid="}},
	{"configfs", {}}, {"fusectl", {}},
	{"hugetlbfs", {"pagesize=", "mode=", "uid=", "gid="}}, /* empty: mounts-dump.c */
	{"nsfs", {}},					       /* holds a namespace: nested-held.c */
};

static const struct filesystem *find(const char *fstype)
{
	for (size_t i = 0; i < ARRAY_SIZE(filesystems); i++)
		if (!strcmp(filesystems[i].type, fstype))
			return &filesystems[i];
	return NULL;
}

bool mounts_can_make(const char *fstype)
{
	return find(fstype);
}

static bool matches(const char *known, const char *word, size_t n)
{
	size_t k = strlen(known);

	return known[k - 1] == '=' ? n >= k && !strncmp(word, known, k) : n == k && !strncmp(word, known, k);
}

/* cgroup v1: names of controllers and of hierarchies, nothing that has to do with agents. */
static bool is_controller(const char *word, size_t n)
{
	static const char *const others[] = {"rw", "xattr", "noprefix", "clone_children", "cpuset_v2_mode",
		"release_agent=", "none", "all"};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (matches(others[i], word, n))
			return false;
	return !memchr(word, '=', n) || matches("name=", word, n);
}

static bool is_option(const struct filesystem *fs, const char *word, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(any); i++)
		if (matches(any[i], word, n))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(fs->options) && fs->options[i]; i++)
		if (fs->options[i][0] == '*' ? is_controller(word, n) : matches(fs->options[i], word, n))
			return true;
	return false;
}

bool mounts_options_are_good(const char *fstype, const char *options)
{
	const struct filesystem *fs = find(fstype);

	if (!fs || strlen(options) > 4000)
		return false;
	for (const char *p = options; *p; p += strcspn(p, ","), p += *p == ',')
		if (!is_option(fs, p, strcspn(p, ",")))
			return false;
	return true;
}

static uint32_t id_in(const struct id_map *map, size_t n, uint32_t host)
{
	for (size_t i = 0; i < n; i++)
		if (host >= map[i].host_id && host - map[i].host_id < map[i].size)
			return map[i].container_id + (host - map[i].host_id);
	return UINT32_MAX; /* which no mount takes */
}

/* Ids are shown as the host has them; maps: of those that we see, see read_user(). */
static char *as_seen_inside(
	const struct dump *d, struct arena *a, const char *word, size_t n, const struct id_maps *maps)
{
	bool group = matches("gid=", word, n);
	uint32_t id;

	if (!group && !matches("uid=", word, n))
		return arena_strndup(a, word, n);
	id = strtoul(word + 4, NULL, 10);
	if (!maps || d->unprivileged)
		id = group ? dump_host_gid(d, id) : dump_host_uid(d, id);
	if (maps)
		id = group ? id_in(maps->gid, maps->n_gid, id) : id_in(maps->uid, maps->n_uid, id);
	return arena_printf(a, "%s=%u", group ? "gid" : "uid", id);
}

int mounts_options_of(const struct dump *d, struct arena *a, const struct proc_mount *m,
	const struct id_maps *maps, const char **ret)
{
	const struct filesystem *fs = find(m->fstype);
	char *all = (char *)"";

	for (const char *p = m->super_options; fs && *p; p += strcspn(p, ","), p += *p == ',') {
		size_t n = strcspn(p, ",");
		const char *one;

		if (!is_option(fs, p, n))
			continue;
		one = as_seen_inside(d, a, p, n, maps);
		all = one ? arena_printf(a, "%s%s%s", all, *all ? "," : "", one) : NULL;
		if (!all)
			return -ENOMEM;
	}
	*ret = all;
	return 0;
}

char *mounts_option(struct arena *a, const char *options, const char *name)
{
	size_t k = strlen(name);

	for (const char *p = options; *p; p += strcspn(p, ","), p += *p == ',')
		if (!strncmp(p, name, k) && p[k] == '=')
			return arena_strndup(a, p + k + 1, strcspn(p, ",") - k - 1);
	return NULL;
}
