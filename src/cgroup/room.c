/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory there is left below all limits that hold for a process. */
#include <stdio.h>
#include <string.h>

#include "cgroup/cgroup-priv.h"

struct pair {
	const char *limit, *usage;
};

static const struct pair v1_pairs[] = {{"memory.limit_in_bytes", "memory.usage_in_bytes"},
	{"memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"}, {}};
static const struct pair v2_pairs[] = {
	{"memory.max", "memory.current"}, {"memory.high", "memory.current"}, {}};

/* "max" and files that are not there: no limit. */
static uint64_t number_of(const char *dir, const char *name, uint64_t otherwise)
{
	char path[1200], text[64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) <= 0 || text[0] < '0' || text[0] > '9')
		return otherwise;
	return strtoull(text, NULL, 10);
}

static uint64_t room_in(const char *dir, const struct pair *pairs)
{
	uint64_t room = UINT64_MAX;

	for (; pairs->limit; pairs++) {
		uint64_t limit = number_of(dir, pairs->limit, UINT64_MAX), usage;

		if (limit > INT64_MAX / 2)
			continue;
		usage = number_of(dir, pairs->usage, limit);
		room = MIN(room, limit - MIN(limit, usage));
	}
	return room;
}

static bool lists(const char *controllers, size_t len, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = controllers; at < controllers + len; at++) {
		const char *end = memchr(at, ',', controllers + len - at);

		end = end ? end : controllers + len;
		if ((size_t)(end - at) == n && !memcmp(at, name, n))
			return true;
		at = end;
	}
	return len == 0 && n == 0;
}

/* Of "4:cpu,memory:/path" lines that of the hierarchy; v2 has the empty name. */
static bool find_path(const char *text, const char *controller, char *ret, size_t size)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line ? 1 : 0) {
		const char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;
		size_t len = second ? strcspn(second + 1, "\n") : 0;

		if (!second || !lists(first + 1, second - first - 1, controller) || len >= size)
			continue;
		memcpy(ret, second + 1, len);
		ret[len] = '\0';
		return true;
	}
	return false;
}

/* How much of the container's directory is where the hierarchy is mounted: "path" is that of a process, which may be in a
 * sub-cgroup, and begins with the container's, of which "least" bytes are known. 0: it does not. */
static size_t root_of(const char *dir, const char *path, size_t least)
{
	size_t n = strlen(dir);

	for (size_t len = strlen(path); len >= least && len > 0; len--)
		if ((path[len] == '/' || !path[len]) && len < n && !strncmp(dir + n - len, path, len))
			return n - len;
	return 0;
}

uint64_t cgroup_memory_room(const struct cgroup *cg, pid_t pid)
{
	const struct cgroup_dir *v1 = cgroup_v1_dir(cg, "memory"), *d = v1 ? v1 : cgroup_v2_dir(cg);
	char name[32], text[8192], path[512], dir[1100];
	size_t base;
	uint64_t room = UINT64_MAX;

	if (!d)
		return UINT64_MAX;
	snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
	if (read_small_file_at(AT_FDCWD, name, text, sizeof(text)) <= 0 ||
		!find_path(text, v1 ? "memory" : "", path, sizeof(path)))
		return 0;
	base = root_of(d->path, path, strlen(cg->path));
	if (base == 0)
		return 0; /* seen from another place: unknown */
	snprintf(dir, sizeof(dir), "%.*s%s", (int)base, d->path, path);
	while (strlen(dir) > base) {
		room = MIN(room, room_in(dir, v1 ? v1_pairs : v2_pairs));
		*strrchr(dir, '/') = '\0';
	}
	return room;
}
