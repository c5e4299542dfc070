/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 hidden=1 caps=SYS_ADMIN */
/*
 * Namespaces that processes have made for themselves: host names, user namespaces with and without maps, one in another,
 * and what belongs to them. Who was there before keeps the container's.
 */
#include "cr.h"

#include <sys/utsname.h>

static void await(volatile int *word, int value)
{
	while (*word < value)
		cr_msleep(1);
}

static volatile int *step;

static void write_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY));

	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write \"%s\" to %s: %m", text, path);
	close(fd);
}

static void same_text(const char *path, const char *expected)
{
	char text[4096], squeezed[4096];
	size_t n = 0;

	must(cr_read(path, text, sizeof(text)));
	for (char *c = text; *c; c++)
		if (*c != ' ' || (n && squeezed[n - 1] != ' ' && squeezed[n - 1] != '\n'))
			squeezed[n++] = *c;
	squeezed[n] = 0;
	check(!strcmp(squeezed, expected), "%s is \"%s\", not \"%s\"", path, squeezed, expected);
}

static void named(const char *expected)
{
	struct utsname un;

	must(uname(&un));
	check(!strcmp(un.nodename, expected), "the host name is %s, not %s", un.nodename, expected);
}

static ino_t inode(pid_t pid, const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	must(stat(path, &st));
	return st.st_ino;
}

/* Forked before its parent has made one, and after. */
static void names(void)
{
	pid_t before = cr_fork("before"), after;

	if (before == 0) {
		while (cr_wait())
			named("stasis");
		_exit(0);
	}
	must(unshare(CLONE_NEWUTS));
	must(sethostname("inner", 5));
	must(setdomainname("domain", 6));
	after = cr_fork("after");
	while (cr_wait()) {
		struct utsname un;

		named("inner");
		must(uname(&un));
		check(!strcmp(un.domainname, "domain"), "domain name %s", un.domainname);
		if (after) {
			check(inode(after, "uts") == inode(getpid(), "uts"), "the child has another one");
			check(inode(before, "uts") != inode(getpid(), "uts"),
				"the first child is in it, too");
			must(sethostname("inner", 5));
		}
	}
	_exit(0);
}

/* All ids, as root of its own; a name of its own, which belongs to it; and one more in it. */
static void mapped(void)
{
	pid_t inner;

	must(unshare(CLONE_NEWUSER | CLONE_NEWUTS));
	*step = 1;
	await(step, 2);
	must(setresgid(7, 7, 7));
	must(setresuid(5, 5, 5));
	check(getuid() == 5, "uid %d", getuid());
	inner = cr_fork("inner");
	if (inner == 0) {
		prctl(PR_SET_DUMPABLE, 1);
		must(unshare(CLONE_NEWUSER));
		write_file("/proc/self/setgroups", "deny");
		write_file("/proc/self/uid_map", "77 5 1\n");
		write_file("/proc/self/gid_map", "78 7 1\n");
	}
	while (cr_wait()) {
		if (inner == 0) {
			check(getuid() == 77 && getgid() == 78, "uid %d gid %d", getuid(), getgid());
			same_text("/proc/self/uid_map", "77 5 1\n");
			same_text("/proc/self/setgroups", "deny\n");
			continue;
		}
		check(getuid() == 5 && getgid() == 7, "uid %d gid %d", getuid(), getgid());
		same_text("/proc/self/uid_map", "0 100 50\n60 300 10\n");
		same_text("/proc/self/gid_map", "0 200 50\n");
		same_text("/proc/self/setgroups", "allow\n");
		check(sethostname("own", 3) == 0, "it is not root of its namespace: %m");
		named("own");
	}
	_exit(0);
}

/* None at all: ids that nobody maps are still who it is. */
static void unmapped(void)
{
	must(setresgid(1234, 1234, 1234));
	must(setresuid(1234, 1234, 1234));
	must(unshare(CLONE_NEWUSER));
	while (cr_wait()) {
		char text[64];

		check(getuid() == 65534 && getgid() == 65534, "uid %d gid %d", getuid(), getgid());
		check(cr_read("/proc/self/uid_map", text, sizeof(text)) == 0, "it has got a map: %s", text);
		check(unshare(CLONE_NEWUTS) == 0, "it is not root of its namespace: %m");
	}
	_exit(0);
}

int main(void)
{
	char path[64];
	pid_t pid;

	step = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (cr_fork("names") == 0)
		names();
	pid = cr_fork("mapped");
	if (pid == 0)
		mapped();
	await(step, 1);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	write_file(path, "0 100 50\n60 300 10\n");
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	write_file(path, "0 200 50\n");
	*step = 2;
	if (cr_fork("unmapped") == 0)
		unmapped();
	while (cr_wait())
		named("stasis");
	return 0;
}
