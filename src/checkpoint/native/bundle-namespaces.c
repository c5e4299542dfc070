/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A config.json without a network namespace would restore a container into the network of the machine, and nobody would notice
 * before somebody connects to it: the kinds of namespaces must be those that it had. How it comes to each (a new one, or a path)
 * may differ: callers give the paths of this machine.
 */
#include "checkpoint/native/bundle-namespaces.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

/* A time namespace comes with every restore, for the clocks. */
static const struct {
	enum ns_type type;
	const char *machine; /* where it is without one */
} kinds[] = {
	{NS_NET, "in the machine's network"},
	{NS_PID, "among the machine's processes"},
	{NS_MNT, "among the machine's mounts"},
	{NS_IPC, "with the machine's System V IPC objects and message queues"},
	{NS_UTS, "with the machine's host name"},
	{NS_USER, "with the machine's users: its root would be root"},
	{NS_CGROUP, "in the machine's view of cgroups"},
};

static bool is_ours(enum ns_type t, const char *path)
{
	struct stat own, given;
	char link[64];

	/* A runtime without root's privileges is in the user namespace already that it makes containers in. */
	if (t == NS_USER)
		return false;
	snprintf(link, sizeof(link), "/proc/self/ns/%s", ns_proc_name(t));
	return stat(link, &own) == 0 && stat(path, &given) == 0 && own.st_dev == given.st_dev &&
	       own.st_ino == given.st_ino;
}

uint32_t bundle_namespaces(const struct spec *s)
{
	uint32_t all = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct spec_namespace *ns = &s->namespaces[kinds[i].type];

		if (ns->present && !(ns->path && is_ours(kinds[i].type, ns->path)))
			all |= (uint32_t)ns_clone_flag(kinds[i].type);
	}
	return all;
}

static const char *given_by(const struct spec *s, enum ns_type t)
{
	return s->namespaces[t].path ? "gives it the machine's by its path" : "has none for it";
}

/* shared-pids.h and res/ipc.h know more of them. Users of its own are less than it had, and the same to its processes. */
static bool is_free(const struct restore *r, enum ns_type t, uint32_t had)
{
	return (t == NS_PID && r->container->pids) || (t == NS_IPC && r->container->ipc) ||
	       (t == NS_USER && !(had & CLONE_NEWUSER));
}

/* One kind that is not the same. */
static int differs(enum spec_check how, const char *text, struct error *e)
{
	if (how != SPEC_CHECK_WARNING)
		return error_set(e, -EINVAL, ERROR_REFUSED,
			"%s. If that is wanted: --spec-check warning or ignore", text);
	log_warning("%s", text);
	return 0;
}

int bundle_check_namespaces(const struct restore *r, const struct spec *s, struct error *e)
{
	uint32_t had = r->container->namespaces, given = bundle_namespaces(s);
	enum spec_check how = r->options->spec_check;
	int result = 0;

	/* Images of older versions do not say it. */
	if (had == 0 || how == SPEC_CHECK_IGNORE)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && result == 0; i++) {
		enum ns_type t = kinds[i].type;
		uint32_t flag = (uint32_t)ns_clone_flag(t);
		const char *name = ns_oci_name(t), *article = t == NS_IPC ? "an" : "a";
		char text[500];

		if ((had & flag) == (given & flag) || is_free(r, t, had))
			continue;
		if (had & flag)
			snprintf(text, sizeof(text),
				"the container had %s %s namespace, and linux.namespaces of the bundle's "
				"config.json %s: "
				"restored, it would be %s; give it one as it had",
				article, name, given_by(s, t), kinds[i].machine);
		else
			snprintf(text, sizeof(text),
				"the container was %s, and linux.namespaces of the bundle's config.json "
				"gives it %s %s "
				"namespace: take \"%s\" out there",
				kinds[i].machine, article, name, name);
		result = differs(how, text, e);
	}
	return result;
}
