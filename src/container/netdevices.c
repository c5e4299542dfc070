/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.netDevices: devices of the runtime's network namespace that become the container's. The kernel takes a device
 * down and forgets its addresses when it moves; they are put back, and the device is set up. All are looked at before
 * the first one moves. Nothing brings them back at the end: the runtime-spec leaves that to the kernel (devices with
 * hardware return, others end with the namespace).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/netdev.h"

struct move {
	int host, inside; /* rtnetlink sockets */
	int netns;
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

static int move_one(const struct move *m, const struct spec_net_device *d)
{
	struct netdev_addresses addresses;
	struct netdev_indexes before;
	int index = netdev_index(m->host, d->host_name), r;

	if (index < 0)
		return index;
	r = netdev_get_addresses(m->host, index, &addresses);
	if (r == 0)
		r = netdev_list(m->inside, &before);
	if (r == 0)
		r = netdev_move(m->host, index, m->netns, d->name);
	if (r == 0)
		r = index = find_new(m->inside, &before);
	for (size_t i = 0; r >= 0 && i < addresses.n; i++)
		r = netdev_add_address(m->inside, index, &addresses.address[i]);
	return r < 0 ? r : netdev_up(m->inside, index);
}

static int move_all(const struct move *m, const struct spec *s, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n_net_devices; i++)
		r = check(m, &s->net_devices[i], e);
	for (size_t i = 0; r == 0 && i < s->n_net_devices; i++) {
		const struct spec_net_device *d = &s->net_devices[i];

		r = move_one(m, d);
		if (r < 0)
			return error_errno(e, r, "linux.netDevices[\"%s\"]: move it into the container as %s",
				d->host_name, d->name);
	}
	return r;
}

int net_devices_move(const struct spec *s, pid_t init, struct error *e)
{
	_cleanup_close_ int netns = -EBADF, host = -EBADF, inside = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", init);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return error_errno(e, -errno, "open %s", path);
	host = netdev_open(-EBADF);
	inside = netdev_open(netns);
	if (host < 0 || inside < 0)
		return error_errno(e, host < 0 ? host : inside, "linux.netDevices: open a netlink socket");
	return move_all(&(struct move){host, inside, netns}, s, e);
}
