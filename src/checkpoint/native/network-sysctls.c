/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sysctls of a network namespace: /proc/sys/net, which shows each reader those of its own. There are hundreds, so they
 * are read only where the container could have changed them, and written only where the new namespace differs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/log.h"
#include "checkpoint/native/network.h"

enum { MAX_SYSCTLS = 4096, MAX_VALUE = 4096, MAX_DEPTH = 6 };

struct walk {
	struct arena *a;
	St__Network *n;
	char path[256]; /* of the directory, below /proc/sys/net */
};

static void closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int note_sysctl(struct walk *w, int dir, const char *name)
{
	char value[MAX_VALUE];
	ssize_t len = read_small_file_at(dir, name, value, sizeof(value));
	St__Sysctl *s;

	/* Some cannot be read before they are set. */
	if (len < 0 || w->n->n_sysctls == MAX_SYSCTLS)
		return len < 0 ? 0 : -E2BIG;
	value[strcspn(value, "\n")] = '\0';
	s = arena_new(w->a, St__Sysctl);
	if (!s)
		return -ENOMEM;
	st__sysctl__init(s);
	s->name = arena_printf(w->a, "net/%s%s", w->path, name);
	s->value = arena_strdup(w->a, value);
	w->n->sysctls[w->n->n_sysctls++] = s;
	return s->name && s->value ? 0 : -ENOMEM;
}

static int walk(struct walk *w, int fd, int depth)
{
	_cleanup_(closedir_p) DIR *dir = fdopendir(fd);
	size_t len = strlen(w->path);
	struct dirent *ent;
	int r = 0;

	if (!dir) {
		close(fd);
		return -errno;
	}
	while (r == 0 && (ent = readdir(dir))) {
		struct stat st;
		int below;

		if (ent->d_name[0] == '.' || fstatat(fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode) && (st.st_mode & 0600) == 0600)
			r = note_sysctl(w, fd, ent->d_name);
		if (!S_ISDIR(st.st_mode) || depth == MAX_DEPTH)
			continue;
		below = openat(fd, ent->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (below < 0)
			continue; /* a device that just went */
		snprintf(w->path + len, sizeof(w->path) - len, "%s/", ent->d_name);
		r = walk(w, below, depth + 1);
		w->path[len] = '\0';
	}
	return r;
}

int network_read_sysctls(struct arena *a, St__Network *n)
{
	struct walk w = {.a = a, .n = n};
	int fd = open("/proc/sys/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	n->sysctls = arena_array(a, MAX_SYSCTLS, sizeof(*n->sysctls));
	if (fd < 0 || !n->sysctls) {
		close_p(&fd);
		return fd < 0 ? -errno : -ENOMEM;
	}
	return walk(&w, fd, 0);
}

bool network_is_sysctl(const char *name)
{
	return strncmp(name, "net/", 4) == 0 && !strstr(name, "/../") && !strstr(name, "//");
}

/* "net/ipv4/conf/eth0/forwarding": 4, the place of "eth0" and its length; 0: of no interface. */
static size_t device_in(const char *name, const char **ret)
{
	const char *slash = strncmp(name, "net/", 4) == 0 ? strchr(name + 4, '/') : NULL;

	if (!slash || (strncmp(slash, "/conf/", 6) != 0 && strncmp(slash, "/neigh/", 7) != 0))
		return 0;
	*ret = strchr(slash + 1, '/') + 1;
	return strcspn(*ret, "/");
}

/* Those for "all" change others, which therefore come later; then the ones that new interfaces begin with. */
static enum network_sysctl_group group_of(const char *name)
{
	const char *device;
	size_t len = device_in(name, &device);

	if (strcmp(name, "net/ipv4/ip_forward") == 0 || (len == 3 && strncmp(device, "all", 3) == 0))
		return NETWORK_SYSCTLS_ALL;
	return len == 0 || (len == 7 && strncmp(device, "default", 7) == 0) ? NETWORK_SYSCTLS_DEFAULT
									    : NETWORK_SYSCTLS_LINK;
}

/* Netlink says how an interface makes addresses; to write it would make some. */
static bool is_set_otherwise(const char *name)
{
	const char *last = strrchr(name, '/');

	return group_of(name) == NETWORK_SYSCTLS_LINK && last && strcmp(last, "/addr_gen_mode") == 0;
}

/* An empty range of groups, as every namespace begins with, has another look where a user namespace does not map them. */
static bool are_no_groups(const char *name, const char *now, const char *value)
{
	enum { NO_NAME = 65534 }; /* of a group */
	unsigned a, b, c, d;

	return strcmp(name, "ipv4/ping_group_range") == 0 && sscanf(now, "%u %u", &a, &b) == 2 &&
	       sscanf(value, "%u %u", &c, &d) == 2 && c > d && (a > b || (a == NO_NAME && b == NO_NAME));
}

/* "dir" is /proc/sys/net: all else in /proc/sys is the host's, and ".." leads to it. */
int network_write_sysctl(int dir, const char *name, const char *value, struct error *e)
{
	struct open_how how = {.flags = O_RDWR | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	_cleanup_close_ int fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));
	size_t len = strlen(value);
	char now[MAX_VALUE];
	ssize_t n;

	if (fd < 0 && errno == ENOENT) {
		log_warning("this kernel has no sysctl net/%s: it stays unset", name);
		return 0;
	}
	if (fd < 0)
		return error_errno(e, -errno, "open the sysctl net/%s", name);
	n = read(fd, now, sizeof(now) - 1);
	now[MAX(n, (ssize_t)0)] = '\0';
	now[strcspn(now, "\n")] = '\0';
	if (strcmp(now, value) == 0 || len == 0 || are_no_groups(name, now, value))
		return 0;
	return pwrite(fd, value, len, 0) == (ssize_t)len
		       ? 0
		       : error_errno(e, -errno, "set the sysctl net/%s to %.60s", name, value);
}

int network_write_sysctls(const St__Network *n, int proc_fd, enum network_sysctl_group group,
	bool (*is_ours)(const char *name, size_t len, void *arg), void *arg, struct error *e)
{
	_cleanup_close_ int dir = -EBADF;
	int r = 0;

	if (n->n_sysctls == 0)
		return 0;
	dir = openat(proc_fd, "sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(e, -errno, "open /proc/sys/net");
	for (size_t i = 0; i < n->n_sysctls && r == 0; i++) {
		const St__Sysctl *s = n->sysctls[i];
		const char *device;
		size_t len = device_in(s->name, &device);

		if (network_is_sysctl(s->name) && group_of(s->name) == group && !is_set_otherwise(s->name) &&
			(group != NETWORK_SYSCTLS_LINK || is_ours(device, len, arg)))
			r = network_write_sysctl(dir, s->name + strlen("net/"), s->value, e);
	}
	return r;
}
