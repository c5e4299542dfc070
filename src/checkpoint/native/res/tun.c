/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/net/tun. A descriptor becomes a queue of an interface (TUNSETIFF), which belongs to the network namespace in which
 * the file was opened. The interface is there as long as it has a queue, or is persistent, and has a carrier while it
 * has one: so a restore makes both together, before addresses come. Packets that wait are lost, as on a wire.
 */
#include "checkpoint/native/res/res.h"

/* Before those of the kernel, which then leave out what they both define. */
#include <net/if.h>

#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "linux/netdev.h"
#include "linux/sockdiag.h"

/* Not in the headers: an answer of TUNGETIFF. */
enum {
	DEFAULT_HEADER = 10,
	/* not IFF_NO_PI: TUNGETIFF's bit of the same number (IFF_NOFILTER) says something else; the interface tells it */
	KEPT_FLAGS = IFF_TUN | IFF_TAP | IFF_VNET_HDR | IFF_MULTI_QUEUE | IFF_NAPI | IFF_NAPI_FRAGS |
		     IFF_PERSIST | IFF_DETACH_QUEUE
};

static bool is_tun(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(10, 200);
}

static bool match(const struct dump *d, const struct dump_file *f)
{
	return is_tun(&f->st) && f->link[0] == '/' && !(f->info.flags & O_PATH);
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	const struct spec_namespace *ns = &d->c->spec->namespaces[NS_NET];

	if (*f->info.tun && (!ns->present || ns->path || d->options->empty_ns))
		preflight_add(d->report, f->proc->pid, f->fd, "tun",
			"its interface is in a network namespace that is not recorded",
			"give the container a network namespace of its own", "network interface %s",
			f->info.tun);
	if (f->mnt_ns)
		preflight_add(d->report, f->proc->pid, f->fd, "tun",
			"it was opened in a mount namespace of its own", "close it first", "%s", f->link);
	return 0;
}

/* What a kernel does not tell is 0. */
static int number(int fd, unsigned long request)
{
	int value = 0;

	return ioctl(fd, request, &value) < 0 ? 0 : value;
}

static int refuse(const char *name, const char *why, struct error *e)
{
	return error_set(e, -EBUSY, ERROR_REFUSED, "network interface %s (tun): %s", name, why);
}

/* TUNSETOFFLOAD cannot be read back, but shows in what the interface leaves to its reader. */
static bool offloads(pid_t pid, const char *name)
{
	struct ethtool_value v = {.cmd = ETHTOOL_GTXCSUM};
	struct ifreq q = {.ifr_data = (char *)&v};
	_cleanup_close_ int ns = -EBADF, socket = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	socket = ns < 0 ? -1 : netns_socket(ns, AF_INET, SOCK_DGRAM, 0);
	snprintf(q.ifr_name, IFNAMSIZ, "%s", name);
	return socket < 0 || ioctl(socket, SIOCETHTOOL, &q) < 0 || v.data != 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__TunQueue *m = pb_new(&d->arena, TunQueue, tun_queue);
	struct ifreq q = {};

	if (!m || !(m->path = arena_strdup(&d->arena, f->link)))
		return error_errno(e, -ENOMEM, "tun");
	if (ioctl(f->local, TUNGETIFF, &q) < 0 && errno != EBADFD)
		return error_errno(e, -errno, "read which interface a descriptor of /dev/net/tun belongs to");
	m->link = arena_strndup(&d->arena, q.ifr_name, IFNAMSIZ);
	if (!m->link)
		return error_errno(e, -ENOMEM, "tun");
	if (*m->link) {
		if (!network_link_named(d->network, m->link))
			return refuse(m->link, "it is in another network namespace", e);
		if (!(q.ifr_flags & IFF_NOFILTER))
			return refuse(
				m->link, "its filter is not recorded: take it away (TUNDETACHFILTER)", e);
		m->flags = (uint16_t)q.ifr_flags & KEPT_FLAGS;
		if ((m->flags & IFF_VNET_HDR) && offloads(d->c->init_pid, m->link))
			return refuse(m->link,
				"what it offloads is not recorded: ask for nothing (TUNSETOFFLOAD)", e);
		m->send_buffer = number(f->local, TUNGETSNDBUF);
		m->header_size = number(f->local, TUNGETVNETHDRSZ);
		m->little_endian = number(f->local, TUNGETVNETLE);
		m->big_endian = number(f->local, TUNGETVNETBE);
	}
	f->msg->kind_case = ST__FILE__KIND_TUN;
	f->msg->tun = m;
	return 0;
}

/* The path is an image's: nothing but the device is opened. */
static int open_device(int proc_fd, const char *path, unsigned flags, struct error *e)
{
	_cleanup_close_ int there = open(path, O_PATH | O_CLOEXEC);
	char self[64];
	struct stat st;
	int fd;

	if (there < 0 || fstat(there, &st) < 0)
		return error_errno(e, -errno, "open %s", path);
	if (!is_tun(&st))
		return error_set(e, -ENODEV, ERROR_STATE, "%s is not the device for tun interfaces", path);
	snprintf(self, sizeof(self), "self/fd/%d", there);
	fd = openat(proc_fd, self, (flags & O_ACCMODE) | O_CLOEXEC);
	return fd < 0 ? error_errno(e, -errno, "open %s", path) : fd;
}

static uint32_t info(const St__Link *l, int type, uint32_t otherwise)
{
	const struct rtattr *a = netlink_find((const struct rtattr *)l->data.data, l->data.len, type);

	return a && RTA_PAYLOAD(a) == 1 ? *(const uint8_t *)RTA_DATA(a) : netlink_u32(a, otherwise);
}

/* A new queue, of a new interface if that is not there yet. */
static int make_queue(int proc_fd, const St__Link *l, const St__TunQueue *q, bool first, struct error *e)
{
	_cleanup_close_ int fd = open_device(proc_fd, q ? q->path : "/dev/net/tun", O_RDWR, e);
	struct ifreq request = {};
	unsigned index = l->index;

	if (fd < 0)
		return fd;
	snprintf(request.ifr_name, IFNAMSIZ, "%s", l->name);
	if (q)
		request.ifr_flags = q->flags & ~(IFF_PERSIST | IFF_DETACH_QUEUE | IFF_NO_PI);
	else
		request.ifr_flags = info(l, IFLA_TUN_TYPE, IFF_TUN) |
				    (info(l, IFLA_TUN_VNET_HDR, 0) ? IFF_VNET_HDR : 0) |
				    (info(l, IFLA_TUN_MULTI_QUEUE, 0) ? IFF_MULTI_QUEUE : 0);
	request.ifr_flags |= info(l, IFLA_TUN_PI, 0) ? 0 : IFF_NO_PI;
	if (first && ioctl(fd, TUNSETIFINDEX, &index) < 0)
		return error_errno(e, -errno, "number of the network interface %s (tun)", l->name);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return error_errno(
			e, -errno, "make the network interface %s (tun, number %d)", l->name, l->index);
	return take_fd(&fd);
}

static int set_owner(int fd, const St__Link *l, struct error *e)
{
	uint32_t owner = info(l, IFLA_TUN_OWNER, UINT32_MAX), group = info(l, IFLA_TUN_GROUP, UINT32_MAX);

	if ((owner != UINT32_MAX && ioctl(fd, TUNSETOWNER, (unsigned long)owner) < 0) ||
		(group != UINT32_MAX && ioctl(fd, TUNSETGROUP, (unsigned long)group) < 0) ||
		(info(l, IFLA_TUN_PERSIST, 0) && ioctl(fd, TUNSETPERSIST, 1) < 0))
		return error_errno(e, -errno, "owner of the network interface %s (tun)", l->name);
	return 0;
}

/* What it has from its first moment, as other kinds get it when they are made (restore-network.c). */
static int set_address(const St__Link *l, struct error *e)
{
	_cleanup_close_ int socket = netdev_open(-EBADF);
	struct netlink_message m;
	struct ifinfomsg *header = netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(*header));
	int r;

	if (l->address.len == 0)
		return 0;
	header->ifi_index = l->index;
	netlink_put(&m, IFLA_ADDRESS, l->address.data, l->address.len);
	r = socket < 0 ? socket : netlink_ask(socket, &m, NULL, NULL);
	return r < 0 ? error_errno(e, r, "address of the network interface %s (tun)", l->name) : 0;
}

int restore_tun(struct network_image *image, int proc_fd, const St__Link *l, struct error *e)
{
	_cleanup_close_ int unheld = -EBADF;
	bool first = true;
	int r = 0;

	for (size_t i = 0; i < image->n_tuns && r == 0; i++) {
		struct network_tun *t = &image->tuns[i];

		if (strcmp(t->msg->link, l->name) != 0)
			continue;
		t->fd = make_queue(proc_fd, l, t->msg, first, e);
		r = t->fd < 0 ? t->fd : first ? set_owner(t->fd, l, e) : 0;
		first = false;
	}
	if (r == 0 && first) {
		unheld = make_queue(proc_fd, l, NULL, true, e);
		r = unheld < 0 ? unheld : set_owner(unheld, l, e);
	}
	return r < 0 ? r : set_address(l, e);
}

static int set_queue(const St__TunQueue *q, int fd, struct error *e)
{
	int yes = 1;
	struct ifreq detach = {.ifr_flags = IFF_DETACH_QUEUE};

	if ((q->send_buffer > 0 && ioctl(fd, TUNSETSNDBUF, &q->send_buffer) < 0) ||
		(q->header_size > 0 && q->header_size != DEFAULT_HEADER &&
			ioctl(fd, TUNSETVNETHDRSZ, &q->header_size) < 0) ||
		(q->big_endian && ioctl(fd, TUNSETVNETBE, &yes) < 0) ||
		(q->little_endian && ioctl(fd, TUNSETVNETLE, &yes) < 0) ||
		((q->flags & IFF_DETACH_QUEUE) && ioctl(fd, TUNSETQUEUE, &detach) < 0))
		return error_errno(e, -errno, "queue of the network interface %s (tun)", q->link);
	return 0;
}

static int open_tun(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int result;

	if (!*m->tun->link) {
		fd = open_device(r->proc_fd, m->tun->path, m->flags, e);
		if (fd < 0)
			return fd;
		*ret_fd = take_fd(&fd);
		return 0;
	}
	for (size_t i = 0; i < r->net.n_tuns; i++)
		if (r->net.tuns[i].msg == m->tun)
			fd = take_fd(&r->net.tuns[i].fd);
	if (fd < 0)
		return error_set(e, -ENODEV, ERROR_STATE,
			"the container had a network interface %s (tun), which this restore does not make: "
			"it wants "
			"a network namespace of its own, without --empty-ns network",
			m->tun->link);
	result = set_queue(m->tun, fd, e);
	if (result == 0)
		*ret_fd = take_fd(&fd);
	return result;
}

extern const struct resource resource_tun;
const struct resource resource_tun = {
	.kind = "tun",
	.description = "/dev/net/tun, queues of tun and tap interfaces with their flags and owners; packets "
		       "that wait are lost",
	.kind_case = ST__FILE__KIND_TUN,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_tun,
};
