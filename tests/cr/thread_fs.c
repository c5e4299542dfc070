/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with a working directory and umask of their own, as those of Samba have by unshare(CLONE_FS). */
#include "cr.h"

#include <pthread.h>

static struct own {
	const char *directory;
	mode_t mask;
	pthread_t thread;
	volatile int asked, ready;
} owns[] = {{"/tmp", 037}, {"/proc", 0}, {"/tmp/deleted", 077}};

static void check_own(const char *directory, mode_t mask)
{
	char b[256] = "";
	mode_t now = umask(mask);

	check(now == mask, "umask %o, not %o, in %s", now, mask, directory);
	if (getcwd(b, sizeof(b)))
		check(!strcmp(b, directory), "in %s, not in %s", b, directory);
	else
		check(strstr(directory, "deleted") && errno == ENOENT, "getcwd in %s: %m", directory);
}

static void *run(void *arg)
{
	struct own *own = arg;

	must(unshare(CLONE_FS));
	must(chdir(own->directory));
	umask(own->mask);
	own->ready = 1;
	for (;;) {
		if (own->asked) {
			check_own(own->directory, own->mask);
			own->asked = 0;
		}
		cr_msleep(1);
	}
	return NULL;
}

int main(void)
{
	must(mkdir("/tmp/deleted", 0700));
	for (size_t i = 0; i < sizeof(owns) / sizeof(owns[0]); i++) {
		check(pthread_create(&owns[i].thread, NULL, run, &owns[i]) == 0, "pthread_create");
		while (!owns[i].ready)
			cr_msleep(1);
	}
	must(rmdir("/tmp/deleted"));
	must(chdir("/dev"));
	umask(027);
	while (cr_wait()) {
		for (size_t i = 0; i < sizeof(owns) / sizeof(owns[0]); i++) {
			owns[i].asked = 1;
			for (int ms = 0; owns[i].asked; ms++) {
				check(ms < 2000, "a thread stands still");
				cr_msleep(1);
			}
		}
		check_own("/dev", 027);
		must(chdir("/"));
		check_own("/", 027);
		must(chdir("/dev"));
	}
	_exit(0);
}
