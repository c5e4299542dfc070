/* SPDX-License-Identifier: Apache-2.0 */
/* Sysctls of a network namespace, as an image may name them: whatever it says, nothing but /proc/sys/net is written. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "checkpoint/native/network.h"
#include "tap.h"

static int proc_fd = -EBADF;

static bool read_value(const char *name, char *buf, size_t size)
{
	char path[128];
	ssize_t n;

	snprintf(path, sizeof(path), "sys/%s", name);
	n = read_small_file_at(proc_fd, path, buf, size);
	if (n > 0)
		buf[strcspn(buf, "\n")] = '\0';
	return n > 0;
}

/* What a restore does with an image that has this sysctl, or would do if it had passed as well-formed. */
static int write_one(const char *name, const char *value, const char **ret_wrong)
{
	St__Sysctl s = ST__SYSCTL__INIT, *list[] = {&s};
	St__Network n = ST__NETWORK__INIT;
	struct error e;
	int r = 0;

	s.name = (char *)name;
	s.value = (char *)value;
	n.sysctls = list;
	n.n_sysctls = 1;
	*ret_wrong = network_wrong(&n);
	for (enum network_sysctl_group g = NETWORK_SYSCTLS_ALL; g <= NETWORK_SYSCTLS_DEFAULT && r == 0; g++)
		r = network_write_sysctls(&n, proc_fd, g, NULL, NULL, &e);
	return r;
}

static void test_of_the_network(void)
{
	const char *wrong;
	char now[64];

	CHECK(write_one("net/ipv4/ip_forward", "1", &wrong) == 0 && !wrong);
	CHECK(read_value("net/ipv4/ip_forward", now, sizeof(now)) && !strcmp(now, "1"));
}

/* The value is the one that it has, so that a failing test changes nothing of the machine. */
static void test_of_the_host(void)
{
	static const char *const names[] = {"kernel/printk_ratelimit_burst",
		"net/../kernel/printk_ratelimit_burst", "net/core/../../kernel/printk_ratelimit_burst",
		"net//../kernel/printk_ratelimit_burst", "net//proc/sys/kernel/printk_ratelimit_burst"};
	const char *wrong;
	char now[64];

	CHECK(read_value("kernel/printk_ratelimit_burst", now, sizeof(now)));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(write_one(names[i], now, &wrong) == 0 && wrong, "%s", names[i]);
}

/* If a name had passed nevertheless: no way leads out of the directory. */
static void test_no_way_out(void)
{
	struct error e;
	char now[64];
	int dir = openat(proc_fd, "sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);

	CHECK(dir >= 0 && read_value("kernel/printk_ratelimit_burst", now, sizeof(now)));
	CHECK(network_write_sysctl(dir, "../kernel/printk_ratelimit_burst", now, &e) < 0);
	CHECK(network_write_sysctl(dir, "core/../../kernel/printk_ratelimit_burst", now, &e) < 0);
	close(dir);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"a sysctl of the network is set", test_of_the_network},
		{"names of the host's are not well-formed", test_of_the_host},
		{"no way leads out of /proc/sys/net", test_no_way_out},
	};

	proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (unshare(CLONE_NEWNET) < 0) {
		printf("1..0 # SKIP no network namespace can be made here\n");
		return 0;
	}
	return tap_main(tests, ARRAY_SIZE(tests));
}
