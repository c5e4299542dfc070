/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/resctrl.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "linux/procfs.h"

int resctrl_mount_point(const char *mountinfo, char **ret)
{
	_cleanup_(arena_done) struct arena a = {0};
	struct proc_mount *mounts;
	size_t n;
	int r = proc_parse_mountinfo(mountinfo, &a, &mounts, &n);

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (strcmp(mounts[i].fstype, "resctrl") != 0 || strcmp(mounts[i].root, "/") != 0)
			continue;
		*ret = strdup(mounts[i].target);
		return *ret ? 0 : -ENOMEM;
	}
	return r < 0 ? r : 1;
}

/* The next line that is not empty, without the blanks before it; *at goes behind it. False: no more. */
static bool next_line(const char **at, const char **ret, size_t *ret_len)
{
	*at += strspn(*at, " \t\n");
	*ret = *at;
	*ret_len = strcspn(*at, "\n");
	*at += *ret_len;
	return *ret_len > 0;
}

char *resctrl_join(const char *l3, const char *mb)
{
	char *text = NULL;
	const char *at = l3 ? l3 : "", *line;
	size_t size, len;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	while (next_line(&at, &line, &len))
		if (strncmp(line, "MB:", 3) != 0)
			fprintf(f, "%.*s\n", (int)len, line);
	if (mb)
		fprintf(f, "%s\n", mb);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* One "0=ff" of a line "L3:0=ff;1=f0". */
struct domain {
	const char *resource;
	size_t resource_len;
	uint64_t id, value;
};

/* A number up to "end" or a blank. Bandwidths are decimal, masks are hexadecimal. */
static bool parse_number(const char **at, int base, const char *end, uint64_t *ret)
{
	char *stop;

	*at += strspn(*at, " \t");
	if (!isxdigit((unsigned char)**at))
		return false;
	errno = 0;
	*ret = strtoull(*at, &stop, base);
	*at = stop + strspn(stop, " \t");
	return errno == 0 && *at <= end;
}

/* The next domain of a text, from *at, which is in a line whose resource *d knows, or at the start of one. 1, 0: no more,
 * or -EBADMSG. */
static int next_domain(const char **at, struct domain *d)
{
	const char *end;
	bool bandwidth;

	if (*at[0] == ';' && d->resource) {
		++*at;
	} else {
		const char *line, *colon;
		size_t len;

		if (!next_line(at, &line, &len))
			return 0;
		colon = memchr(line, ':', len);
		if (!colon)
			return -EBADMSG;
		d->resource = line;
		d->resource_len = colon - line;
		*at = colon + 1;
	}
	end = *at + strcspn(*at, "\n");
	bandwidth = d->resource_len >= 2 && !memcmp(d->resource + d->resource_len - 2, "MB", 2);
	bandwidth |= d->resource_len == 4 && !memcmp(d->resource, "SMBA", 4);
	if (!parse_number(at, 10, end, &d->id) || *(*at)++ != '=' ||
		!parse_number(at, bandwidth ? 10 : 16, end, &d->value) || !strchr(";\n", **at))
		return -EBADMSG;
	return 1;
}

/* Whether a text names this domain; *ret: its value there, the last one that is given. */
static bool find(const char *text, const struct domain *wanted, uint64_t *ret)
{
	struct domain d = {0};
	bool found = false;

	while (text && next_domain(&text, &d) > 0)
		if (d.id == wanted->id && d.resource_len == wanted->resource_len &&
			!memcmp(d.resource, wanted->resource, d.resource_len)) {
			*ret = d.value;
			found = true;
		}
	return found;
}

bool resctrl_has(const char *schemata, const char *wanted, const char *later)
{
	struct domain d = {0};
	uint64_t value;
	int r;

	while ((r = next_domain(&wanted, &d)) > 0)
		if (!find(later, &d, &value) && (!find(schemata, &d, &value) || value != d.value))
			return false;
	return r == 0;
}

size_t resctrl_line(const char *schemata, const char *resource, const char **ret)
{
	size_t len;

	while (next_line(&schemata, ret, &len))
		if (!strncmp(*ret, resource, strlen(resource)))
			return len;
	return 0;
}
