/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/net/tun: a tun with an owner, a tap with vnet headers, one with two queues of which one is detached, a descriptor
 * that is no queue yet; packets go through them before and after.
 *
 * cr: caps=NET_ADMIN devices=/dev/net/tun
 */
#include "cr.h"

#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { HEADER = 12 };

static int queue(const char *name, int flags)
{
	struct ifreq r = {.ifr_flags = flags};
	int fd = must(open("/dev/net/tun", O_RDWR | O_NONBLOCK));

	strcpy(r.ifr_name, name);
	must(ioctl(fd, TUNSETIFF, &r));
	return fd;
}

static int index_of(const char *name)
{
	return if_nametoindex(name);
}

static void configure(const char *name, const char *address)
{
	struct sockaddr_in *in;
	struct ifreq r = {};
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	strcpy(r.ifr_name, name);
	in = (struct sockaddr_in *)&r.ifr_addr;
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	must(ioctl(fd, SIOCSIFADDR, &r));
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	must(ioctl(fd, SIOCSIFNETMASK, &r));
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	must(ioctl(fd, SIOCSIFFLAGS, &r));
	close(fd);
}

/* Throws away what the kernel says of its own accord (IPv6). */
static void drain(int fd)
{
	char b[4096];

	while (read(fd, b, sizeof(b)) > 0)
		;
}

/* What is sent to an address behind the interface comes out of the queue. */
static void check_packets(int fd, const char *to)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9)};
	int s = must(socket(AF_INET, SOCK_DGRAM, 0));
	bool found = false;
	char b[4096];

	drain(fd);
	inet_pton(AF_INET, to, &a.sin_addr);
	must(sendto(s, "through the tunnel", 18, 0, (struct sockaddr *)&a, sizeof(a)));
	for (int i = 0; i < 1000 && !found; i++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		poll(&p, 1, 100);
		n = read(fd, b, sizeof(b));
		found = n > 18 && memcmp(b + n - 18, "through the tunnel", 18) == 0;
	}
	check(found, "no packet to %s comes out of the tunnel", to);
	close(s);
}

static int flags_of(int fd)
{
	struct ifreq r = {};

	must(ioctl(fd, TUNGETIFF, &r));
	return (unsigned short)r.ifr_flags;
}

/* A machine without the device. */
static int nothing_to_do(void)
{
	while (cr_wait())
		;
	return 0;
}

int main(void)
{
	struct ifreq detach = {.ifr_flags = IFF_DETACH_QUEUE};
	int tun, tap, one, two, none, header = HEADER, buffer = 123456, value, indexes[3];

	if (open("/dev/net/tun", O_RDWR) < 0)
		return nothing_to_do();
	tun = queue("mytun", IFF_TUN | IFF_NO_PI);
	must(ioctl(tun, TUNSETOWNER, (long)getuid()));
	must(ioctl(tun, TUNSETSNDBUF, &buffer));
	tap = queue("mytap", IFF_TAP | IFF_VNET_HDR | IFF_NO_PI);
	must(ioctl(tap, TUNSETVNETHDRSZ, &header));
	must(ioctl(tap, TUNSETPERSIST, 1));
	one = queue("many", IFF_TUN | IFF_MULTI_QUEUE);
	two = queue("many", IFF_TUN | IFF_MULTI_QUEUE);
	must(ioctl(two, TUNSETQUEUE, &detach));
	none = must(open("/dev/net/tun", O_RDWR));
	configure("mytun", "10.5.0.1");
	configure("many", "10.6.0.1");
	indexes[0] = index_of("mytun");
	indexes[1] = index_of("mytap");
	indexes[2] = index_of("many");
	while (cr_wait()) {
		check(indexes[0] == index_of("mytun") && indexes[1] == index_of("mytap") &&
				indexes[2] == index_of("many"),
			"numbers of interfaces");
		check_packets(tun, "10.5.0.2");
		check_packets(one, "10.6.0.2");
		check((flags_of(tun) & (IFF_TUN | IFF_NO_PI | IFF_PERSIST)) == (IFF_TUN | IFF_NO_PI),
			"flags of a tun");
		check(flags_of(tap) & IFF_PERSIST, "a persistent one is not");
		check((flags_of(tap) & (IFF_TAP | IFF_VNET_HDR)) == (IFF_TAP | IFF_VNET_HDR),
			"flags of a tap");
		check(!(flags_of(one) & IFF_DETACH_QUEUE) && (flags_of(two) & IFF_DETACH_QUEUE), "queues");
		check(ioctl(tun, TUNGETSNDBUF, &value) == 0 && value == buffer, "send buffer");
		check(ioctl(tap, TUNGETVNETHDRSZ, &value) == 0 && value == HEADER, "size of a header");
		check(ioctl(none, TUNGETIFF, &detach) < 0 && errno == EBADFD,
			"one without an interface has one");
		check(fcntl(tun, F_GETFL) & O_NONBLOCK, "flags of the file");
	}
	return 0;
}
