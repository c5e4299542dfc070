/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.netDevices: devices of the runtime's network namespace that become the container's. The kernel takes a device
 * down and forgets its addresses when it moves; they are put back, and the device is set up. All are looked at before
 * the first one moves. A create or restore that fails afterwards moves them back (without the routes, which the kernel
 * forgets, too). Nothing brings them back at the container's end: the runtime-spec leaves that to the kernel (devices with
 * hardware return, others end with the namespace).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"
#include "linux/netdev.h"

struct move {
	int host, inside; /* rtnetlink sockets */
	int netns;
};

struct moved_device {
	const char *host_name;
	int index; /* inside */
	bool up;   /* when it was outside */
	struct netdev_addresses addresses;
};

struct net_devices_moved {
	int netns; /* stays alive by this, also when init is dead */
	size_t n;
	struct moved_device device[];
};

static int check(const struct move *m, const struct spec_net_device *d, struct error *e)
{
	struct netdev_addresses addresses;
	int r = netdev_index(m->host, d->host_name);

	if (r > 0)
		r = netdev_get_addresses(m->host, r, &addresses);
	if (r < 0)
		return error_errno(e, r, "linux.netDevices[\"%s\"]", d->host_name);
	if (strchr(d->name, '%'))
		return 0;
	r = netdev_index(m->inside, d->name);
	if (r > 0)
		return error_set(e, -EEXIST, ERROR_CONFIG,
			"linux.netDevices[\"%s\"]: the container's network namespace has a device %s already",
			d->host_name, d->name);
	return r == -ENODEV
		       ? 0
		       : error_errno(e, r, "linux.netDevices[\"%s\"]: look for %s", d->host_name, d->name);
}

/* Its index may be another one there, and its name the kernel's choice: it is the one that was not there before. */
static int find_new(int inside, const struct netdev_indexes *before)
{
	struct netdev_indexes now;
	int r = netdev_list(inside, &now);

	for (size_t i = 0; r == 0 && i < now.n; i++) {
		size_t k = 0;

		while (k < before->n && before->index[k] != now.index[i])
			k++;
		if (k == before->n)
			return now.index[i];
	}
	return r < 0 ? r : -ENODEV;
}

/* A device in the namespace behind "inside" or "host", as it was before it moved there. */
static int dress(int socket, int index, const struct netdev_addresses *addresses, bool up)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < addresses->n; i++)
		r = netdev_add_address(socket, index, &addresses->address[i]);
	return r == 0 && up ? netdev_up(socket, index) : r;
}

static int move_one(const struct move *m, const struct spec_net_device *d, struct net_devices_moved *moved)
{
	struct moved_device *now = &moved->device[moved->n];
	struct netdev_indexes before;
	int index = netdev_index(m->host, d->host_name), r;

	if (index < 0)
		return index;
	now->host_name = d->host_name;
	r = netdev_is_up(m->host, d->host_name);
	now->up = r > 0;
	if (r >= 0)
		r = netdev_get_addresses(m->host, index, &now->addresses);
	if (r == 0)
		r = netdev_list(m->inside, &before);
	if (r == 0)
		r = netdev_move(m->host, index, m->netns, d->name);
	if (r == 0)
		r = now->index = find_new(m->inside, &before);
	if (r < 0)
		return r;
	moved->n++;
	return dress(m->inside, now->index, &now->addresses, true);
}

static int move_all(
	const struct move *m, const struct spec *s, struct net_devices_moved *moved, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n_net_devices; i++)
		r = check(m, &s->net_devices[i], e);
	for (size_t i = 0; r == 0 && i < s->n_net_devices; i++) {
		const struct spec_net_device *d = &s->net_devices[i];

		r = move_one(m, d, moved);
		if (r < 0)
			return error_errno(e, r, "linux.netDevices[\"%s\"]: move it into the container as %s",
				d->host_name, d->name);
	}
	return r;
}

int net_devices_move(const struct spec *s, pid_t init, struct net_devices_moved **ret, struct error *e)
{
	struct net_devices_moved *moved =
		calloc(1, sizeof(*moved) + s->n_net_devices * sizeof(*moved->device));
	_cleanup_close_ int host = -EBADF, inside = -EBADF;
	char path[64];

	if (!moved)
		return error_errno(e, -ENOMEM, "linux.netDevices");
	*ret = moved;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", init);
	moved->netns = open(path, O_RDONLY | O_CLOEXEC);
	if (moved->netns < 0)
		return error_errno(e, -errno, "open %s", path);
	host = netdev_open(-EBADF);
	inside = netdev_open(moved->netns);
	if (host < 0 || inside < 0)
		return error_errno(e, host < 0 ? host : inside, "linux.netDevices: open a netlink socket");
	return move_all(&(struct move){host, inside, moved->netns}, s, moved, e);
}

void net_devices_return(struct net_devices_moved *moved)
{
	_cleanup_close_ int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), host = netdev_open(-EBADF),
			    inside = -EBADF;

	if (moved->netns >= 0)
		inside = netdev_open(moved->netns);
	for (size_t i = 0; own >= 0 && host >= 0 && inside >= 0 && i < moved->n; i++) {
		const struct moved_device *d = &moved->device[i];
		int r = netdev_move(inside, d->index, own, d->host_name);

		if (r == 0)
			r = netdev_index(host, d->host_name);
		if (r > 0)
			r = dress(host, r, &d->addresses, d->up);
		if (r < 0)
			log_warning("linux.netDevices[\"%s\"]: not put back as it was: %s", d->host_name,
				error_text(r).s);
	}
}

void container_settle(struct container *c)
{
	if (c->net_devices)
		close_p(&c->net_devices->netns);
	free(c->net_devices);
	c->net_devices = NULL;
}
