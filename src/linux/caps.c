/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

int caps_last(void)
{
	int last = 63;

	/* EINVAL for what the kernel does not know; the set has no holes */
	while (last > 0 && prctl(PR_CAPBSET_READ, last) < 0)
		last--;
	return last;
}

int caps_get(struct caps *ret)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	ret->effective = d[0].effective | (uint64_t)d[1].effective << 32;
	ret->permitted = d[0].permitted | (uint64_t)d[1].permitted << 32;
	ret->inheritable = d[0].inheritable | (uint64_t)d[1].inheritable << 32;
	return 0;
}

int caps_set(const struct caps *c)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
		{(uint32_t)c->effective, (uint32_t)c->permitted, (uint32_t)c->inheritable},
		{c->effective >> 32, c->permitted >> 32, c->inheritable >> 32},
	};

	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

int caps_limit_bounding(uint64_t keep)
{
	/* no look at what is there: one call for each capability, until EINVAL says that there are no more */
	for (int i = 0; i < 64; i++) {
		if (keep & 1ULL << i || prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL)
			return 0;
		if (prctl(PR_CAPBSET_READ, i) == 1)
			return -EPERM;
	}
	return 0;
}

int caps_set_ambient(uint64_t set)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	for (int i = 0; i < 64 && set >> i; i++) {
		if (!(set & 1ULL << i))
			continue;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return -errno;
	}
	return 0;
}
