/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state directory of a container: made exclusively, locked by flock on the directory, state.json replaced
 * atomically. A directory without a (whole) state.json is a create that was killed: it loads as a stopped container
 * without an init process, so that delete can remove it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/procfd.h"

int container_id_check(const char *id, struct error *e)
{
	size_t n = strlen(id);

	if (n == 0)
		return error_set(e, -EINVAL, ERROR_USAGE, "container id cannot be empty");
	if (n > 255) /* it names a directory */
		return error_set(e, -EINVAL, ERROR_USAGE,
			"invalid container id: %zu characters are too many (255 at most)", n);
	if (!strcmp(id, ".") || !strcmp(id, ".."))
		return error_set(e, -EINVAL, ERROR_USAGE, "invalid id format: \"%s\"", id);
	for (const char *p = id; *p; p++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.", *p))
			return error_set(e, -EINVAL, ERROR_USAGE, "invalid id format: \"%.100s\"", id);
	return 0;
}

const char *container_status_name(enum container_status s)
{
	static const char *const names[] = {"creating", "created", "running", "paused", "stopped"};

	return names[s];
}

static struct container *container_new(const char *root, const char *id)
{
	struct container *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->dir_fd = c->lock_fd = c->init_fd = c->interrupt_fd = c->notify_fd = c->start_fd = -EBADF;
	c->root = strdup(root);
	c->id = strdup(id);
	if (!c->root || !c->id) {
		container_free(c);
		return NULL;
	}
	return c;
}

void container_free(struct container *c)
{
	if (!c)
		return;
	close_p(&c->dir_fd);
	close_p(&c->lock_fd);
	close_p(&c->init_fd);
	close_p(&c->notify_fd);
	close_p(&c->start_fd);
	container_settle(c);
	for (size_t i = 0; i < ARRAY_SIZE(c->stdio); i++)
		free(c->stdio[i]);
	free(c->root);
	free(c->id);
	free(c->bundle);
	free(c->created);
	free(c->console_socket);
	free(c->mountinfo);
	free(c->sandbox);
	free(c->name);
	rdt_done(&c->rdt);
	spec_free(c->spec);
	free(c);
}

void container_unlock(struct container *c)
{
	close_p(&c->lock_fd);
}

int container_lock(struct container *c, struct error *e)
{
	struct stat st;

	if (c->lock_fd >= 0)
		return 0;
	/* a descriptor of its own: giving up the lock must not give up the directory */
	c->lock_fd = openat(c->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->lock_fd < 0)
		return error_errno(e, -errno, "open state directory of %s", c->id);
	while (flock(c->lock_fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "lock container %s", c->id);
	/* deleted while we waited */
	if (fstat(c->lock_fd, &st) < 0 || st.st_nlink == 0)
		return error_set(e, -ENOENT, ERROR_STATE, "container does not exist: %s", c->id);
	return 0;
}

int state_make_root(const char *root)
{
	_cleanup_free_ char *path = strdup(root);

	if (!path)
		return -ENOMEM;
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return 0;
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Pids and start times (which count from boot) mean nothing after the next boot, and a state root may be on a disk. */
static void read_boot_id(char *buf, size_t size)
{
	char text[64] = "";

	if (read_small_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text)) < 0)
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	snprintf(buf, size, "%.*s", (int)size - 1, text);
}

static void set_created(struct container *c)
{
	char stamp[64];
	struct timespec now;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(stamp + n, sizeof(stamp) - n, ".%09ldZ", now.tv_nsec);
	c->created = strdup(stamp);
}

int state_create_dir(const char *root, const char *id, struct container **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = container_new(root, id);
	_cleanup_close_ int root_fd = -EBADF;
	int r;

	if (!c)
		return error_errno(e, -ENOMEM, "container %s", id);
	r = state_make_root(root);
	if (r == -EACCES && geteuid() != 0)
		return error_set(e, r, ERROR_SYSTEM,
			"make state root %s: permission denied (set XDG_RUNTIME_DIR to a directory of yours, "
			"or give --root)",
			root);
	if (r < 0)
		return error_errno(e, r, "make state root %s", root);
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return error_errno(e, -errno, "open state root %s", root);
	if (mkdirat(root_fd, id, 0700) < 0) {
		if (errno == EEXIST)
			return error_set(
				e, -EEXIST, ERROR_STATE, "container with given ID already exists: %s", id);
		return error_errno(e, -errno, "make state directory %s/%s", root, id);
	}
	c->dir_fd = openat(root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->dir_fd < 0)
		return error_errno(e, -errno, "open state directory %s/%s", root, id);
	set_created(c);
	r = c->created ? container_lock(c, e) : error_errno(e, -ENOMEM, "container %s", id);
	if (r == 0)
		r = fault_point("create-dir", e);
	if (r < 0) {
		state_remove_dir(c);
		return r;
	}
	read_boot_id(c->boot_id, sizeof(c->boot_id));
	c->owner = geteuid();
	*ret = take_ptr(c);
	return 0;
}

void state_remove_dir(struct container *c)
{
	_cleanup_close_ int root_fd = open(c->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root_fd >= 0)
		remove_tree_at(root_fd, c->id);
	membership_leave(c);
}

/* What an earlier boot left is only a directory. */
static void forget_other_boot(struct container *c)
{
	char now[sizeof(c->boot_id)];

	read_boot_id(now, sizeof(now));
	if (!strcmp(now, c->boot_id))
		return;
	c->init_pid = 0;
	c->cgroup = (struct cgroup){.mode = CGROUP_NONE};
}

static int not_opened(const char *root, const char *id, int code, struct error *e)
{
	struct stat st;

	if (code == -ENOENT || code == -ENOTDIR) /* runc's words */
		return error_set(e, -ENOENT, ERROR_STATE, "container does not exist: %s", id);
	if (code == -EACCES && stat(root, &st) == 0)
		return error_set(e, code, ERROR_SYSTEM,
			"open state directory %s/%s: permission denied: it is in the state root of uid %u, "
			"and you are uid "
			"%u: "
			"be that user, or give --root",
			root, id, st.st_uid, geteuid());
	return error_errno(e, code, "open state directory %s/%s", root, id);
}

int container_load(const char *root, const char *id, bool lock, struct container **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_close_ int root_fd = -EBADF;
	int r;

	r = container_id_check(id, e);
	if (r < 0)
		return r;
	c = container_new(root, id);
	if (!c)
		return error_errno(e, -ENOMEM, "container %s", id);
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd >= 0)
		c->dir_fd = openat(root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->dir_fd < 0)
		return not_opened(root, id, -errno, e);
	if (lock) {
		r = container_lock(c, e);
		if (r < 0)
			return r;
	}
	r = state_read(c, e);
	if (r < 0)
		return r;
	forget_other_boot(c);
	r = c->sandbox ? 0 : membership_adopted(c);
	if (r < 0)
		return error_errno(e, r, "container %s", id);
	*ret = take_ptr(c);
	return 0;
}

int container_load_spec(struct container *c, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	if (c->spec)
		return 0;
	r = read_file_at(c->dir_fd, "config.json", 16 << 20, &text, &len);
	if (r < 0)
		return error_errno(e, r, "read config.json of container %s", c->id);
	return spec_parse(c->bundle ? c->bundle : "/", text, len, &c->spec, e);
}

int container_init_pidfd(const struct container *c)
{
	_cleanup_close_ int fd = -EBADF;
	uint64_t start;
	int r;

	if (c->init_pid <= 0)
		return -ESRCH;
	fd = pidfd_open_process(c->init_pid);
	if (fd < 0)
		return fd;
	/* the pid may have been reused since: the start time tells, read after the pidfd is ours */
	r = process_start_time(c->init_pid, &start);
	if (r < 0 || start != c->init_start_time || pidfd_wait_exit(fd, 0) != 0 ||
		process_awaits_others(c->init_pid))
		return -ESRCH;
	return take_fd(&fd);
}

static int start_socket_address(const struct container *c, struct sockaddr_un *a)
{
	/* by descriptor: the state root's path may be longer than sun_path */
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	return snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/" START_SOCKET, c->dir_fd);
}

int start_socket_listen(const struct container *c, struct error *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;

	if (fd < 0)
		return error_errno(e, -errno, "make the start socket");
	start_socket_address(c, &a);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0)
		return error_errno(e, -errno, "make the start socket of %s", c->id);
	return take_fd(&fd);
}

int start_socket_connect(const struct container *c)
{
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_un a;

	if (faccessat(c->dir_fd, START_SOCKET, F_OK, 0) < 0)
		return -errno;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	start_socket_address(c, &a);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return take_fd(&fd);
}

enum container_status container_status(const struct container *c)
{
	_cleanup_close_ int pidfd = container_init_pidfd(c), socket = -EBADF;

	if (pidfd < 0)
		return CONTAINER_STOPPED;
	if (!c->mountinfo)
		return CONTAINER_CREATING;
	if (cgroup_is_frozen(&c->cgroup) > 0)
		return CONTAINER_PAUSED;
	/* Init's copy of the listening socket is closed by its exec. Connecting wakes it; it sees no message and waits on. */
	socket = start_socket_connect(c);
	return socket >= 0 ? CONTAINER_CREATED : CONTAINER_RUNNING;
}

int state_record_stdio(struct container *c, pid_t pid, struct error *e)
{
	char path[64], target[4096];

	for (int i = 0; i < 3; i++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, i);
		n = readlink(path, target, sizeof(target) - 1);
		target[MAX(n, 0)] = '\0';
		free(c->stdio[i]);
		c->stdio[i] = strdup(n < 0 ? "/dev/null" : target); /* closed: as runc records it */
		if (!c->stdio[i])
			return error_errno(e, -ENOMEM, "state of %s", c->id);
	}
	return 0;
}

int state_record_mounts(struct container *c, struct error *e)
{
	char path[64];
	size_t len;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", c->init_pid);
	r = read_file_at(AT_FDCWD, path, 16 << 20, &c->mountinfo, &len);
	if (r < 0)
		return error_errno(e, r, "read %s", path);
	r = write_file_replace_at(c->dir_fd, "mountinfo", c->mountinfo, len, 0600);
	return r < 0 ? error_errno(e, r, "write mountinfo of container %s", c->id) : 0;
}

int container_keep_mounts(struct container *c, char *mountinfo, struct error *e)
{
	int r;

	free(c->mountinfo);
	c->mountinfo = mountinfo;
	r = write_file_replace_at(c->dir_fd, "mountinfo", c->mountinfo, strlen(c->mountinfo), 0600);
	return r < 0 ? error_errno(e, r, "write mountinfo of container %s", c->id) : 0;
}

int write_pid_file(const char *path, pid_t pid, struct error *e)
{
	_cleanup_free_ char *copy = strdup(path);
	_cleanup_close_ int dir = -EBADF;
	const char *name = path;
	char text[16], *slash;
	int r, n;

	if (!copy)
		return error_errno(e, -ENOMEM, "pid file %s", path);
	slash = strrchr(copy, '/');
	if (slash) {
		name = path + (slash - copy) + 1;
		slash[slash == copy ? 1 : 0] = '\0';
	}
	dir = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(e, -errno, "open the directory of pid file %s", path);
	n = snprintf(text, sizeof(text), "%d", pid);
	r = write_file_replace_at(dir, name, text, n, 0644);
	return r < 0 ? error_errno(e, r, "write pid file %s", path) : 0;
}
