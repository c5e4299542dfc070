/* SPDX-License-Identifier: Apache-2.0 */
/* io.stasis.Network. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "linux/netdev.h"
#include "linux/procfd.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/network.h"
#include "sandbox/sandbox.h"

#define NETWORK_INTERFACE "io.stasis.Network"

static int failed(struct call *c, const char *item, struct error *e)
{
	struct json_object *o = json_object_new_object();

	error_prefix(e, "%s", item);
	json_add_string(o, "item", item);
	json_object_object_add(o, "errno", json_object_new_int(-e->code));
	json_add_string(o, "message", e->message);
	(void)call_error(c, NETWORK_INTERFACE ".Failed", o);
	return e->code;
}

static int host_network(struct call *c, const struct container *k, struct error *e)
{
	struct json_object *o = json_object_new_object();

	error_set(e, -EINVAL, ERROR_STATE,
		"container %s is in the network namespace of the host, which is not the sandbox's to change",
		k->id);
	json_add_string(o, "id", k->id);
	json_add_string(o, "message", e->message);
	(void)call_error(c, NETWORK_INTERFACE ".HostNetwork", o);
	return e->code;
}

/* The one that was asked for, or the one that the sandbox begins with; if that has gone, the first that lives. */
static int choose(struct call *c, struct container **ret, struct error *e)
{
	_cleanup_(sandbox_free_p) struct sandbox *s = NULL;
	int r;

	if (call_string(c, "id"))
		return call_container_named(c, false, ret, e);
	r = call_no_fds(c, e);
	if (r == 0)
		r = sandbox_open(c->supervisor->root, c->supervisor->id, &s, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_members; i++) {
		_cleanup_(container_free_p) struct container *k = NULL;

		if (container_load(s->root, s->members[i].id, false, &k, e) == 0 &&
			container_status(k) > CONTAINER_CREATING && container_status(k) < CONTAINER_STOPPED) {
			*ret = take_ptr(k);
			return 0;
		}
	}
	return error_set(e, -ESRCH, ERROR_STATE, "no container of the sandbox %s runs or is created", s->id);
}

/* A namespace of init, while it is certainly init's. */
static int open_namespace(const struct container *k, int pidfd, const char *name, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", k->init_pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return error_errno(e, -errno, "%s", path);
	if (fd < 0 || pidfd_wait_exit(pidfd, 0) != 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running: %s is stopped", k->id);
	return take_fd(&fd);
}

static bool is_our_own(int ns, const char *name)
{
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	return stat(path, &a) == 0 && fstat(ns, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* An ordinary user may do it only within the user namespace that he has made, where there is no host's network. */
static int open_sockets(const struct container *k, int pidfd, struct net_sockets *s, struct error *e)
{
	_cleanup_close_ int user = -EBADF;

	s->host = netdev_open(-EBADF);
	if (s->host < 0)
		return error_errno(e, s->host, "rtnetlink");
	if (k->rootless) {
		user = open_namespace(k, pidfd, "user", e);
		if (user < 0)
			return user;
		if (!is_our_own(user, "user") && setns(user, CLONE_NEWUSER) < 0)
			return error_errno(e, -errno, "enter the user namespace of container %s", k->id);
	}
	s->inside = netdev_open(s->netns);
	return s->inside < 0 ? error_errno(e, s->inside, "rtnetlink in the network namespace of container %s",
				       k->id)
			     : 0;
}

static void sockets_done(struct net_sockets *s)
{
	close_p(&s->host);
	close_p(&s->inside);
	close_p(&s->netns);
}

/* What a child of ours does, who can be killed: we take back then what he had done, as he does if we are. */
struct work {
	const struct container *k;
	int pidfd, netns;
	const struct net_plan *plan;
	struct net_journal *journal;
	struct outcome {
		int r;
		char item[NET_ITEM_SIZE]; /* "": it has not come to that */
		struct error e;
	} * outcome; /* shared */
};

static _Noreturn void do_work(const struct work *w, pid_t parent)
{
	_cleanup_(sockets_done) struct net_sockets s = {-EBADF, -EBADF, w->netns};
	struct outcome *o = w->outcome;
	int r = open_sockets(w->k, w->pidfd, &s, &o->e);

	if (r == 0)
		r = net_plan_apply(&s, w->plan, w->journal, o->item, &o->e);
	if (r == 0 && getppid() != parent)
		net_journal_undo(&s, w->journal);
	o->r = r;
	_exit(0);
}

static int take_back(const struct work *w, struct error *e)
{
	_cleanup_(sockets_done) struct net_sockets s = {-EBADF, -EBADF, fcntl(w->netns, F_DUPFD_CLOEXEC, 3)};
	int r = open_sockets(w->k, w->pidfd, &s, e);

	if (r < 0)
		return r;
	net_journal_undo(&s, w->journal);
	return error_set(e, -EIO, ERROR_INTERNAL,
		"the process that made the links and routes was killed: all is as it was before");
}

static int work(struct work *w, char item[NET_ITEM_SIZE], struct error *e)
{
	pid_t self = getpid(), pid;
	int status = 0;

	w->outcome =
		mmap(NULL, sizeof(*w->outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w->outcome == MAP_FAILED)
		return error_errno(e, -errno, "network");
	pid = fork();
	if (pid == 0)
		do_work(w, self);
	if (pid < 0)
		return error_errno(e, -errno, "network");
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return take_back(w, e);
	*e = w->outcome->e;
	memcpy(item, w->outcome->item, NET_ITEM_SIZE);
	return w->outcome->r;
}

static int create_links_and_routes(struct call *c, struct error *e)
{
	_cleanup_(net_journal_free_p) struct net_journal *journal = NULL;
	_cleanup_(container_free_p) struct container *k = NULL;
	_cleanup_(arena_done) struct arena a = {};
	_cleanup_close_ int pidfd = -EBADF, netns = -EBADF;
	char item[NET_ITEM_SIZE] = "";
	struct idl_fault fault;
	struct net_plan plan;
	int r = net_plan_parse(c->parameters, &a, &plan, &fault);

	if (r == -EINVAL)
		return call_invalid(c, fault.path, e, "%s", fault.message);
	r = r < 0 ? error_errno(e, r, "network") : choose(c, &k, e);
	if (r < 0)
		return r;
	pidfd = container_init_pidfd(k);
	if (pidfd < 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running: %s is stopped", k->id);
	netns = open_namespace(k, pidfd, "net", e);
	if (netns < 0)
		return netns;
	if (is_our_own(netns, "net"))
		return host_network(c, k, e);
	r = net_journal_new(&journal, e);
	if (r < 0)
		return r;
	call_finish();
	r = work(&(struct work){.k = k, .pidfd = pidfd, .netns = netns, .plan = &plan, .journal = journal},
		item, e);
	if (r < 0)
		return *item ? failed(c, item, e) : r;
	return call_reply(c, NULL, false);
}

const struct method network_methods[] = {
	{NETWORK_INTERFACE, "CreateLinksAndRoutes", create_links_and_routes, METHOD_WORKER},
	{},
};
