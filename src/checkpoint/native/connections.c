/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections and the packets that belong to them, for the container as a whole. At a checkpoint that ends the
 * container the packets are held back before the sockets go (linux/nflock.h): where the network namespace stays, or
 * takes a moment to go, the kernel would answer them with RST. At a restore, from before they can come in until the
 * sockets are there.
 */
#include <arpa/inet.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/log.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/res/socket.h"
#include "linux/nflock.h"
#include "linux/sockdiag.h"

static bool take_address(const ProtobufCBinaryData *bytes, const St__Socket *m, int *ret_family,
	unsigned char address[16], uint16_t *ret_port)
{
	struct sockaddr_storage a;
	socklen_t len;

	if (!socket_address(bytes, m->family, &a, &len))
		return false;
	inet_undress(&a);
	*ret_family = a.ss_family;
	if (a.ss_family == AF_INET) {
		memcpy(address, &((struct sockaddr_in *)&a)->sin_addr, 4);
		*ret_port = ((struct sockaddr_in *)&a)->sin_port;
	} else {
		memcpy(address, &((struct sockaddr_in6 *)&a)->sin6_addr, 16);
		*ret_port = ((struct sockaddr_in6 *)&a)->sin6_port;
	}
	return true;
}

/* False: none that packets could belong to. */
static bool flow_of(const St__File *f, struct nflock_flow *ret)
{
	const St__Socket *m = f->kind_case == ST__FILE__KIND_SOCKET ? f->socket : NULL;
	int family;

	*ret = (struct nflock_flow){};
	return m && m->tcp && m->tcp->state != STATE_CLOSE &&
	       take_address(&m->local, m, &family, ret->local, &ret->local_port) &&
	       take_address(&m->remote, m, &ret->family, ret->remote, &ret->remote_port) &&
	       family == ret->family;
}

static int netns_of(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int dump_name_lock(struct dump *d, struct error *e)
{
	uint64_t id = 0;

	if (d->journal->n_tcp == 0)
		return 0;
	while (id == 0)
		if (getrandom(&id, sizeof(id), 0) != sizeof(id))
			return error_errno(e, -errno, "getrandom");
	d->container->network_lock = id;
	return 0;
}

/* An ordinary user's runtime gets into the network namespace only by the container's user namespace: by a child. */
static void clear_lock(pid_t init, int ns, uint64_t lock)
{
	_cleanup_close_ int user = -EBADF;
	char path[64];
	pid_t child;

	if (nflock_clear(ns, lock) != -EPERM)
		return;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", init);
	user = open(path, O_RDONLY | O_CLOEXEC);
	child = user < 0 ? -1 : fork();
	if (child == 0)
		_exit(setns(user, CLONE_NEWUSER) < 0 || nflock_clear(ns, lock) < 0);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

int dump_lock_network(struct dump *d, struct error *e)
{
	struct nflock_flow *flows = arena_array(&d->arena, d->journal->n_tcp, sizeof(*flows));
	_cleanup_close_ int ns = -EBADF;
	size_t n = 0;
	int r;

	if (d->journal->n_tcp == 0)
		return 0;
	if (!flows)
		return error_errno(e, -ENOMEM, "hold packets back");
	for (size_t i = 0; i < d->n_files && n < d->journal->n_tcp; i++)
		n += flow_of(d->files[i].msg, &flows[n]);
	ns = netns_of(d->procs[0].pid);
	d->journal->network_lock = d->container->network_lock;
	r = ns < 0 ? ns : nflock_set(ns, d->journal->network_lock, flows, n);
	return r < 0 ? error_errno(e, r, "hold packets of TCP connections back with nftables") : 0;
}

void dump_release_network(struct dump_journal *j, pid_t init_pid)
{
	_cleanup_close_ int ns = -EBADF;

	if (!j)
		return;
	for (unsigned i = 0; i < j->n_tcp; i++)
		tcp_undo(&j->tcp[i]);
	j->n_tcp = 0;
	if (j->network_lock == 0)
		return;
	ns = netns_of(init_pid);
	if (ns >= 0)
		clear_lock(init_pid, ns, j->network_lock);
	j->network_lock = 0;
}

/* --- restore --- */

bool restore_is_connection(const struct restore *r, const St__File *f)
{
	return !r->options->tcp_close && f->kind_case == ST__FILE__KIND_SOCKET && f->socket->tcp;
}

/* A namespace that is there already must have the addresses; in another one hooks may bring them. */
static int check_address(int ns, const St__Socket *m, struct error *e)
{
	_cleanup_close_ int fd = netns_socket(ns, m->family, SOCK_DGRAM, 0);
	struct sockaddr_storage a;
	char text[INET6_ADDRSTRLEN] = "";
	socklen_t len;

	if (fd < 0 || !socket_address(&m->local, m->family, &a, &len))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "address of a TCP connection");
	if (m->family == AF_INET)
		((struct sockaddr_in *)&a)->sin_port = 0;
	else
		((struct sockaddr_in6 *)&a)->sin6_port = 0;
	if (bind(fd, (struct sockaddr *)&a, len) == 0 || errno != EADDRNOTAVAIL)
		return 0;
	if (m->family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, text, sizeof(text));
	else
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, text, sizeof(text));
	return error_set(e, -EADDRNOTAVAIL, ERROR_STATE,
		"the image has TCP connections of the address %s, which the container's network namespace "
		"does "
		"not have: give it that address, or restore with --tcp-close",
		text);
}

static int check_addresses(const struct restore *r, int ns, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_files && result == 0; i++)
		if (restore_is_connection(r, r->files[i]))
			result = check_address(ns, r->files[i]->socket, e);
	return result;
}

/* The namespace that the container will be in, if it is there already; -EBADF: it will be a new one. */
static int existing_namespace(const struct spec *s)
{
	const struct spec_namespace *ns = &s->namespaces[NS_NET];
	const char *path = !ns->present ? "/proc/thread-self/ns/net" : ns->path;
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -EBADF;

	return path && fd < 0 ? -errno : fd;
}

/* Who may make no raw sockets gets none out of an image. */
static int check_raw_sockets(const struct restore *r, const struct spec *s, struct error *e)
{
	const struct spec_capabilities *c = &s->process->capabilities;

	if (!s->process->has_capabilities || (c->bounding | c->permitted) & 1ull << CAP_NET_RAW)
		return 0;
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_SOCKET &&
			raw_needs_privilege(r->files[i]->socket))
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the image has a raw or packet socket, and the bundle's config.json does not "
				"give CAP_NET_RAW");
	return 0;
}

int restore_check_network(const struct restore *r, const struct spec *s, struct error *e)
{
	_cleanup_close_ int ns = -EBADF;
	size_t n = 0;
	int result = s->process ? check_raw_sockets(r, s, e) : 0;

	if (result < 0)
		return result;
	for (size_t i = 0; i < r->n_files; i++)
		n += restore_is_connection(r, r->files[i]);
	if (n == 0)
		return 0;
	if (!r->options->tcp_established)
		return error_set(e, -EINVAL, ERROR_REFUSED,
			"the image has %zu TCP connections: restore with --tcp-established to bring them "
			"back, "
			"or with --tcp-close to close them",
			n);
	ns = existing_namespace(s);
	if (ns == -EBADF)
		return 0;
	if (ns < 0)
		return error_errno(e, ns, "network namespace of the container");
	result = check_addresses(r, ns, e);
	return result < 0 ? result : restore_lock_network(r, ns, e);
}

int restore_lock_network(const struct restore *r, int netns_fd, struct error *e)
{
	_cleanup_free_ struct nflock_flow *flows = NULL;
	size_t n = 0;
	int result;

	if (!r->container->network_lock || r->options->tcp_close)
		return 0;
	flows = calloc(r->n_files, sizeof(*flows));
	if (!flows)
		return error_errno(e, -ENOMEM, "hold packets back");
	for (size_t i = 0; i < r->n_files; i++)
		n += flow_of(r->files[i], &flows[n]);
	result = nflock_set(netns_fd, r->container->network_lock, flows, n);
	return result < 0 ? error_errno(e, result, "hold packets of TCP connections back with nftables") : 0;
}

static int descriptor_of(const struct restore_connection *c)
{
	_cleanup_close_ int pidfd = dump_open_pidfd(c->pid);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, c->fd, 0);

	return fd < 0 ? -errno : fd;
}

static int for_each(struct restore_connection *all, size_t n,
	int (*step)(const St__Socket *, int, struct error *), struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < n && result == 0; i++) {
		_cleanup_close_ int fd = descriptor_of(&all[i]);

		result = fd < 0 ? error_errno(e, fd, "a TCP connection of the container")
				: step(all[i].file->socket, fd, e);
	}
	return result;
}

int restore_release_network(
	const struct restore *r, struct restore_connection *all, size_t n, pid_t init_pid, struct error *e)
{
	_cleanup_close_ int ns = -EBADF;
	int result;

	if (!r->container->network_lock && n == 0)
		return 0;
	result = for_each(all, n, tcp_release, e);
	ns = netns_of(init_pid);
	/* It is not there if it was made for another namespace. */
	if (result == 0 && ns >= 0 && r->container->network_lock)
		clear_lock(init_pid, ns, r->container->network_lock);
	return result < 0 ? result : for_each(all, n, tcp_send_rest, e);
}
