/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ipc namespace of several containers of a sandbox. The container that the sandbox begins with has nothing to say about it: in
 * Kubernetes it is not restored but made anew, and its new namespace is empty. So the owner of the objects is the first of the others.
 * Sysctls that the namespace's maker has in its config.json are left to him.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/exchange.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/res/ipc.h"

static bool namespace_of(pid_t pid, char *buf, size_t size)
{
	return pid > 0 && proc_readlink(pid, "ns/ipc", buf, size) > 0;
}

static bool is_root(const struct container *c)
{
	return c->name && !strcmp(c->name, CONTAINER_NAME_OF_ROOT);
}

/* The members in that namespace: how many, and the number of the owner. */
static unsigned members_in(const struct together *t, const char *ns, unsigned *ret_owner)
{
	unsigned n = 0;
	char text[64];

	for (unsigned i = 0; i < t->n; i++) {
		if (!namespace_of(t->containers[i]->init_pid, text, sizeof(text)) || strcmp(text, ns) != 0)
			continue;
		if (n++ == 0 || is_root(t->containers[*ret_owner]))
			*ret_owner = i;
	}
	return n;
}

/* Asked by dump_collect(), while we are in our own namespace. */
enum ipc_role ipc_find_role(const struct dump *d)
{
	const struct spec_namespace *spec = &d->c->spec->namespaces[NS_IPC];
	const struct together *t = d->options->together;
	char own[64], ns[64];
	unsigned owner = 0;

	if (t && t->n > 1 && spec->present && namespace_of(getpid(), own, sizeof(own)) &&
		namespace_of(d->c->init_pid, ns, sizeof(ns)) && strcmp(own, ns) != 0 &&
		members_in(t, ns, &owner) > 1)
		return owner == t->self ? IPC_OWNER : IPC_ELSEWHERE;
	return spec->present && !spec->path ? IPC_OWN : IPC_OUTSIDE;
}

int ipc_shared(struct dump *d, St__Shared **ret, struct error *e)
{
	enum ipc_role role = ipc_role(d);
	unsigned owner = 0;
	char ns[64];

	if (role != IPC_OWNER && role != IPC_ELSEWHERE)
		return 0;
	*ret = pb_new(&d->arena, Shared, shared);
	if (!*ret || !namespace_of(d->c->init_pid, ns, sizeof(ns)))
		return error_errno(e, -ENOMEM, "ipc namespace");
	(void)members_in(d->options->together, ns, &owner);
	(*ret)->owner = role == IPC_OWNER;
	(*ret)->with = (char *)(role == IPC_OWNER ? "" : peers_name(d, owner));
	/* "ipc:[4026532281]" */
	(*ret)->key = arena_printf(&d->arena, "ipc-%.*s", (int)strspn(ns + 5, "0123456789"), ns + 5);
	d->shares = true;
	return (*ret)->key ? 0 : error_errno(e, -ENOMEM, "ipc namespace");
}

/* It has been made by the one of them that joins no other's; NULL: by somebody else. */
int ipc_spec_of_maker(struct dump *d, const struct spec **ret, struct error *e)
{
	const struct together *t = d->options->together;
	char ns[64], text[64];

	*ret = d->c->spec;
	if (ipc_role(d) == IPC_OWN)
		return 0;
	*ret = NULL;
	if (!namespace_of(d->c->init_pid, ns, sizeof(ns)))
		return error_errno(e, -ESRCH, "ipc namespace");
	for (unsigned i = 0; i < t->n; i++) {
		struct container *c = t->containers[i];

		if (!namespace_of(c->init_pid, text, sizeof(text)) || strcmp(text, ns) != 0)
			continue;
		if (!c->spec && container_load_spec(c, e) < 0)
			return e->code;
		if (c->spec->namespaces[NS_IPC].present && !c->spec->namespaces[NS_IPC].path)
			*ret = c->spec;
	}
	return 0;
}

/* ---- restore ---- */

/* What is in our own namespace no image may add to. */
bool ipc_may_be_shared(const struct spec *s)
{
	const struct spec_namespace *ns = &s->namespaces[NS_IPC];
	struct stat own, theirs;

	if (!ns->present || !ns->path)
		return ns->present;
	return stat("/proc/self/ns/ipc", &own) == 0 && stat(ns->path, &theirs) == 0 &&
	       (own.st_dev != theirs.st_dev || own.st_ino != theirs.st_ino);
}

static int own_namespace(const struct restore *r, struct error *e)
{
	int fd = openat(r->proc_fd, "thread-self/ns/ipc", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? error_errno(e, -errno, "ipc namespace") : fd;
}

int ipc_offer(struct restore *r, struct error *e)
{
	_cleanup_close_ int ns = own_namespace(r, e);

	return ns < 0 ? ns : restore_offer(r, r->container->ipc->key, "", ns, e);
}

int ipc_await(struct restore *r, struct error *e)
{
	_cleanup_close_ int ns = own_namespace(r, e), other = -EBADF;
	struct stat a, b;
	int result = ns < 0 ? ns : restore_want(r, r->container->ipc->key, "", &other, e);

	if (result < 0)
		return result;
	if (fstat(ns, &a) < 0 || fstat(other, &b) < 0)
		return error_errno(e, -errno, "ipc namespace");
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	return error_set(e, -ESTALE, ERROR_CONFIG,
		"the container shared its ipc namespace with \"%s\", and has another one now: give both the "
		"same in "
		"linux.namespaces of config.json",
		r->container->ipc->with);
}
