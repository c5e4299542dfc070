/* SPDX-License-Identifier: Apache-2.0 */
/* What can be read from a list of mounts. Pure. */
#include "checkpoint/native/mounts.h"

#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static const struct {
	const char *name;
	uint64_t attribute;
} options[] = {
	{"rw", 0}, {"ro", MOUNT_ATTR_RDONLY}, {"nosuid", MOUNT_ATTR_NOSUID}, {"nodev", MOUNT_ATTR_NODEV},
	{"noexec", MOUNT_ATTR_NOEXEC}, {"noatime", MOUNT_ATTR_NOATIME}, {"nodiratime", MOUNT_ATTR_NODIRATIME},
	{"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW}, {"relatime", 0},
	{"idmapped", 0}, /* comes with the mount that it is made of */
};

static bool add_option(const char *word, size_t n, uint64_t *attributes)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strlen(options[i].name) == n && !strncmp(options[i].name, word, n)) {
			*attributes |= options[i].attribute;
			return true;
		}
	}
	return false;
}

bool mounts_attributes(const struct proc_mount *m, uint64_t *ret)
{
	bool relatime = false;

	*ret = 0;
	for (const char *p = m->options; *p; p += strspn(p, ",")) {
		size_t n = strcspn(p, ",");

		if (!add_option(p, n, ret))
			return false;
		relatime |= n == strlen("relatime") && !strncmp(p, "relatime", n);
		p += n;
	}
	if (!relatime && !(*ret & MOUNT_ATTR_NOATIME))
		*ret |= MOUNT_ATTR_STRICTATIME;
	return true;
}

static uint32_t tag(const char *tags, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = tags; *p; p += strcspn(p, " "), p += *p == ' ')
		if (!strncmp(p, name, n))
			return strtoul(p + n, NULL, 10);
	return 0;
}

struct mount_groups mounts_groups(const struct proc_mount *m)
{
	return (struct mount_groups){tag(m->optional, "shared:"), tag(m->optional, "master:"),
		strstr(m->optional, "unbindable") != NULL};
}

const char *mounts_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	if (n == 1)
		return path[1] ? path : "";
	return !strncmp(path, top, n) && (path[n] == '/' || !path[n]) ? path + n : NULL;
}

static bool is_listed(const struct proc_mount *m, size_t n, int id)
{
	for (size_t i = 0; i < n; i++)
		if (m[i].id == id)
			return true;
	return false;
}

ssize_t mounts_root(const struct proc_mount *m, size_t n)
{
	ssize_t root = -1;

	for (size_t i = 0; i < n; i++) {
		if (m[i].parent_id != m[i].id && is_listed(m, n, m[i].parent_id))
			continue;
		if (root >= 0 || strcmp(m[i].target, "/") != 0)
			return -1;
		root = i;
	}
	return root;
}

size_t mounts_at(const struct proc_mount *m, size_t n, size_t root, const char *path)
{
	size_t at = root;

	for (size_t steps = 0; steps < n; steps++) {
		ssize_t next = -1;

		/* What is mounted over the root itself is not crossed by who begins there. */
		for (size_t i = 0; i < n; i++)
			if (i != at && m[i].parent_id == m[at].id && mounts_below(path, m[i].target) &&
				!(at == root && !m[i].target[1]) &&
				(next < 0 || strlen(m[i].target) < strlen(m[next].target)))
				next = i;
		if (next < 0)
			break;
		at = next;
	}
	return at;
}

uint32_t mounts_level(const struct proc_mount *m, size_t i)
{
	uint32_t level = 0;

	for (size_t k = 0; k < i; k++)
		level += !strcmp(m[k].target, m[i].target);
	return level;
}

ssize_t mounts_find(const struct proc_mount *m, size_t n, const char *target, uint32_t level)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(m[i].target, target) && level-- == 0)
			return i;
	return -1;
}
