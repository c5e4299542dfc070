/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=NET_ADMIN ids=1 hidden=1 also=filtered */
/*
 * Credentials: ids of every kind apart from each other, groups, capability sets with ambient ones, the bounding set,
 * securebits, no_new_privs, dumpable; another uid in one thread only.
 */
#include "cr.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/fsuid.h>

struct creds {
	uid_t uid[4];
	gid_t gid[4];
	gid_t groups[16];
	int n_groups;
	struct __user_cap_data_struct caps[2];
	int securebits, nnp, dumpable;
	char bounding[64], ambient[64];
};

static void collect(struct creds *c)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};

	memset(c, 0, sizeof(*c));
	getresuid(&c->uid[0], &c->uid[1], &c->uid[2]);
	c->uid[3] = setfsuid(-1);
	getresgid(&c->gid[0], &c->gid[1], &c->gid[2]);
	c->gid[3] = setfsgid(-1);
	c->n_groups = must(getgroups(16, c->groups));
	must(syscall(SYS_capget, &h, c->caps));
	c->securebits = must(prctl(PR_GET_SECUREBITS));
	c->nnp = must(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	c->dumpable = must(prctl(PR_GET_DUMPABLE));
	for (int i = 0; i <= 40; i++) {
		c->bounding[i] = prctl(PR_CAPBSET_READ, i);
		c->ambient[i] = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0);
	}
}

static void compare(const struct creds *was, const char *who)
{
	struct creds is;

	collect(&is);
	for (int i = 0; i < 4; i++) {
		check(was->uid[i] == is.uid[i], "%s: uid %d was %d, is %d", who, i, was->uid[i], is.uid[i]);
		check(was->gid[i] == is.gid[i], "%s: gid %d was %d, is %d", who, i, was->gid[i], is.gid[i]);
	}
	check(was->n_groups == is.n_groups && !memcmp(was->groups, is.groups, sizeof(is.groups)),
		"%s: groups", who);
	for (int i = 0; i < 2; i++)
		check(!memcmp(&was->caps[i], &is.caps[i], sizeof(is.caps[i])),
			"%s: capabilities %d were p %x e %x i %x, are p %x e %x i %x", who, i,
			was->caps[i].permitted, was->caps[i].effective, was->caps[i].inheritable,
			is.caps[i].permitted, is.caps[i].effective, is.caps[i].inheritable);
	check(was->securebits == is.securebits, "%s: securebits were %x, are %x", who, was->securebits,
		is.securebits);
	check(was->nnp == is.nnp, "%s: no_new_privs", who);
	check(was->dumpable == is.dumpable, "%s: dumpable was %d, is %d", who, was->dumpable, is.dumpable);
	check(!memcmp(was->bounding, is.bounding, sizeof(is.bounding)), "%s: bounding set", who);
	check(!memcmp(was->ambient, is.ambient, sizeof(is.ambient)), "%s: ambient set", who);
}

static void rounds(const char *who)
{
	struct creds c;

	collect(&c);
	while (cr_wait())
		compare(&c, who);
	_exit(0);
}

static void set_caps(uint64_t permitted, uint64_t effective, uint64_t inheritable)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {
		{(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
	};

	must(syscall(SYS_capset, &h, d));
}

#define BIT(cap) (1ULL << (cap))

static struct creds thread_creds;
static volatile int thread_round, thread_done;

static void *other_user(void *arg CR_UNUSED)
{
	/* The system call itself changes the one thread only. */
	must(syscall(SYS_setresgid, 600, 601, 602));
	must(syscall(SYS_setresuid, 500, 501, 502));
	collect(&thread_creds);
	for (int done = 0; done >= 0;) {
		thread_done = done + 1;
		while (thread_round == done)
			cr_msleep(1);
		done = thread_round;
		compare(&thread_creds, "the thread of another user");
	}
	return NULL;
}

int main(void)
{
	gid_t groups[] = {7, 100, 65534, 2000000};
	pthread_t thread;

	if (cr_fork("ids") == 0) {
		must(setgroups(4, groups));
		must(setresgid(2001, 2002, 2003));
		setfsgid(2001);
		must(setresuid(1001, 1002, 1003));
		setfsuid(1001);
		rounds("ids");
	}
	if (cr_fork("caps") == 0) {
		must(setgroups(0, NULL));
		must(prctl(PR_SET_KEEPCAPS, 1));
		must(setresgid(3000, 3000, 3000));
		must(setresuid(3000, 3000, 3000));
		set_caps(BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_KILL), BIT(CAP_KILL), BIT(CAP_NET_BIND_SERVICE));
		must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0));
		rounds("caps");
	}
	if (cr_fork("bounded") == 0) {
		must(prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN));
		must(prctl(PR_CAPBSET_DROP, CAP_SYS_CHROOT));
		must(prctl(PR_SET_SECUREBITS,
			SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE));
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		rounds("bounded");
	}
	if (cr_fork("saved") == 0) { /* root in reserve */
		must(setresuid(4000, 4000, 0));
		rounds("saved");
	}
	if (cr_fork("undumpable") == 0) {
		must(prctl(PR_SET_DUMPABLE, 0));
		rounds("undumpable");
	}
	if (cr_fork("threads") == 0) {
		check(pthread_create(&thread, NULL, other_user, NULL) == 0, "pthread_create");
		while (!thread_done)
			cr_msleep(1);
		for (int round = 1; cr_wait(); round++) {
			check(getuid() == 0, "uid of the main thread");
			thread_round = round;
			while (thread_done != round + 1)
				cr_msleep(1);
		}
		_exit(0);
	}
	rounds("the first process");
}
