/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroup/subs.h"

#include <dirent.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "cgroup/cgroup-priv.h"
#include "linux/mountfd.h"

enum { DEPTH_MAX = 64, VALUE_MAX = 65536 };

struct value {
	const char *name;
	bool early;
};

/* In the order in which they are written. Each line of a value is a write of its own, where there are several. */
static const struct value v1_values[] = {
	{"cgroup.clone_children", true},
	{"cpuset.cpus", true},
	{"cpuset.mems", true},
	{"cpuset.cpu_exclusive", true},
	{"cpuset.mem_exclusive", true},
	{"cpuset.mem_hardwall"},
	{"cpuset.memory_migrate"},
	{"cpuset.memory_spread_page"},
	{"cpuset.memory_spread_slab"},
	{"cpuset.sched_load_balance"},
	{"cpuset.sched_relax_domain_level"},
	{"cpu.shares"},
	{"cpu.idle"},
	{"cpu.cfs_period_us"},
	{"cpu.cfs_quota_us"},
	{"cpu.cfs_burst_us"},
	{"memory.limit_in_bytes"},
	{"memory.memsw.limit_in_bytes"},
	{"memory.soft_limit_in_bytes"},
	{"memory.kmem.tcp.limit_in_bytes"},
	{"memory.swappiness"},
	{"memory.oom_control"},
	{"pids.max"},
	{"blkio.weight"},
	{"blkio.bfq.weight"},
	{"blkio.throttle.read_bps_device"},
	{"blkio.throttle.write_bps_device"},
	{"blkio.throttle.read_iops_device"},
	{"blkio.throttle.write_iops_device"},
	{"hugetlb.2MB.limit_in_bytes"},
	{"hugetlb.1GB.limit_in_bytes"},
	{"devices.list"},
	{"net_cls.classid"},
	{"net_prio.ifpriomap"},
	{"rdma.max"},
};

static const struct value v2_values[] = {
	{"cgroup.type", true},
	{"cgroup.subtree_control", true},
	{"cgroup.max.depth"},
	{"cgroup.max.descendants"},
	{"cgroup.pressure"},
	{"cpuset.cpus"},
	{"cpuset.mems"},
	{"cpuset.cpus.partition"},
	{"cpu.idle"},
	{"cpu.weight"},
	{"cpu.max"},
	{"cpu.max.burst"},
	{"cpu.uclamp.min"},
	{"cpu.uclamp.max"},
	{"memory.min"},
	{"memory.low"},
	{"memory.high"},
	{"memory.max"},
	{"memory.swap.high"},
	{"memory.swap.max"},
	{"memory.zswap.max"},
	{"memory.zswap.writeback"},
	{"memory.oom.group"},
	{"pids.max"},
	{"io.weight"},
	{"io.bfq.weight"},
	{"io.max"},
	{"io.latency"},
	{"io.prio.class"},
	{"hugetlb.2MB.max"},
	{"hugetlb.1GB.max"},
	{"rdma.max"},
	{"misc.max"},
};

void cgroup_open_dirs(const struct cgroup *cg, int fds[CGROUP_MAX_DIRS])
{
	for (size_t i = 0; i < CGROUP_MAX_DIRS; i++)
		fds[i] = i < cg->n_dirs && cg->dirs[i].inode
				 ? open(cg->dirs[i].path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
				 : -EBADF;
}

bool cgroup_has_subs(const struct cgroup *cg, const int *fds)
{
	struct stat st;

	/* a directory of a cgroup file system counts its directories */
	for (size_t i = 0; i < cg->n_dirs; i++)
		if (cg->dirs[i].inode &&
			(fds && fds[i] >= 0 ? fstat(fds[i], &st) : stat(cg->dirs[i].path, &st)) == 0 &&
			st.st_nlink > 2)
			return true;
	return false;
}

struct walk {
	int (*visit)(const struct cgroup_sub *sub, void *arg);
	void *arg;
	struct error *e;
	struct cgroup_sub sub;
	char path[4096];
};

static int walk(struct walk *w, int fd, size_t len, int depth)
{
	struct dirent *entry;
	DIR *list;
	int copy, r;

	w->sub.fd = fd;
	r = w->visit(&w->sub, w->arg);
	if (r < 0)
		return r;
	copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list = copy < 0 || depth == 0 ? NULL : fdopendir(copy);
	if (!list) {
		close_p(&copy);
		return error_errno(
			w->e, depth ? -errno : -ELOOP, "cgroup: read %s%s", w->sub.dir->path, w->path);
	}
	while (r == 0 && (entry = readdir(list))) {
		_cleanup_close_ int below = -EBADF;
		int n;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		n = snprintf(w->path + len, sizeof(w->path) - len, "/%s", entry->d_name);
		below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below >= 0 && (size_t)n < sizeof(w->path) - len)
			r = walk(w, below, len + n, depth - 1);
		w->path[len] = 0;
	}
	closedir(list);
	return r;
}

int cgroup_subs_visit(const struct cgroup *cg, int (*visit)(const struct cgroup_sub *sub, void *arg),
	void *arg, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < cg->n_dirs && r == 0; i++) {
		struct walk w = {.visit = visit, .arg = arg, .e = e};
		_cleanup_close_ int fd = -EBADF;

		if (!cg->dirs[i].inode)
			continue;
		fd = cgroup_dir_open(cg, &cg->dirs[i], e);
		if (fd < 0)
			return fd;
		w.sub = (struct cgroup_sub){.dir = &cg->dirs[i], .path = w.path, .fd = fd};
		r = walk(&w, fd, 0, DEPTH_MAX);
	}
	return r;
}

static const struct value *values_of(bool v2, size_t *ret_n)
{
	*ret_n = v2 ? ARRAY_SIZE(v2_values) : ARRAY_SIZE(v1_values);
	return v2 ? v2_values : v1_values;
}

static const struct value *find_value(const char *name, bool v2)
{
	size_t n;
	const struct value *values = values_of(v2, &n);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(values[i].name, name))
			return &values[i];
	return NULL;
}

bool cgroup_value_is_known(const char *name, bool v2)
{
	return find_value(name, v2);
}

bool cgroup_value_is_early(const char *name, bool v2)
{
	const struct value *v = find_value(name, v2);

	return v && v->early;
}

/* What is to be written is not always what can be read. Of a type only "threaded" can be written. */
static int read_value(int fd, const char *name, char **ret)
{
	size_t len;
	int r = read_file_at(fd, name, VALUE_MAX, ret, &len);

	if (r < 0)
		return r;
	while (len > 0 && (*ret)[len - 1] == '\n')
		(*ret)[--len] = 0;
	if (!strcmp(name, "memory.oom_control")) {
		char *disabled = strstr(*ret, "oom_kill_disable 1");

		snprintf(*ret, len + 1, "%d", disabled != NULL);
	}
	if (!strcmp(name, "cgroup.type") && strcmp(*ret, "threaded") != 0)
		(*ret)[0] = 0;
	return 0;
}

int cgroup_sub_values(int fd, bool v2, int (*value)(const char *name, const char *text, void *arg), void *arg)
{
	size_t n;
	const struct value *values = values_of(v2, &n);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		_cleanup_free_ char *text = NULL;

		r = read_value(fd, values[i].name, &text);
		if (r < 0) {
			/* no such controller here, or nothing that can be read */
			r = r == -ENOENT || r == -EOPNOTSUPP || r == -EINVAL || r == -EACCES ? 0 : r;
			continue;
		}
		if (text[0])
			r = value(values[i].name, text, arg);
	}
	return r;
}

static int write_lines(int fd, const char *name, const char *text)
{
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *line;
	int r = copy ? 0 : -ENOMEM;

	while (r == 0 && (line = strsep(&rest, "\n")))
		if (line[0])
			r = write_string_at(fd, name, line);
	return r;
}

/* "cpu memory" is set by "+cpu +memory". */
static int write_controllers(int fd, const char *text)
{
	char all[512];
	size_t len = 0;

	for (size_t i = 0; text[i]; i++) {
		bool begins = text[i] != ' ' && (i == 0 || text[i - 1] == ' ');

		if (len + 3 > sizeof(all))
			return -E2BIG;
		if (begins)
			all[len++] = '+';
		all[len++] = text[i];
	}
	all[len] = '\0';
	return write_string_at(fd, "cgroup.subtree_control", all);
}

static int write_devices(int fd, const char *text)
{
	int r = write_string_at(fd, "devices.deny", "a");

	return r < 0 ? r : write_lines(fd, "devices.allow", text);
}

int cgroup_value_write(int fd, const char *name, const char *text)
{
	_cleanup_free_ char *now = NULL;
	int r = read_value(fd, name, &now);

	if (r < 0 && r != -EINVAL && r != -EOPNOTSUPP)
		return r;
	if (r == 0 && !strcmp(now, text))
		return 0;
	if (!strcmp(name, "cgroup.subtree_control"))
		return write_controllers(fd, text);
	if (!strcmp(name, "devices.list"))
		return write_devices(fd, text);
	return write_lines(fd, name, text);
}

int cgroup_sub_threads(int fd, bool v2, char **ret)
{
	size_t len;

	return read_file_at(fd, v2 ? "cgroup.threads" : "tasks", 64 << 20, ret, &len);
}

int cgroup_sub_is_frozen(int fd, bool v2)
{
	char text[16];
	ssize_t n =
		read_small_file_at(fd, v2 ? "cgroup.freeze" : "freezer.self_freezing", text, sizeof(text));

	if (n < 0)
		return n == -ENOENT ? 0 : (int)n;
	return text[0] == '1';
}

int cgroup_sub_has_programs(int fd)
{
	enum { TYPES = 64 };

	for (unsigned type = 0; type < TYPES; type++) {
		union bpf_attr attr = {.query = {.target_fd = fd, .attach_type = type}};

		if (syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)) == 0 && attr.query.prog_cnt > 0)
			return 1;
	}
	return 0;
}

const struct cgroup_dir *cgroup_dir_of(const struct cgroup *cg, const char *controllers)
{
	for (size_t i = 0; i < cg->n_dirs; i++)
		if (cg->dirs[i].inode && !strcmp(cg->dirs[i].controllers, controllers))
			return &cg->dirs[i];
	return NULL;
}

int cgroup_sub_make(const struct cgroup *cg, const struct cgroup_dir *d, const char *path, struct error *e)
{
	_cleanup_close_ int top = cgroup_dir_open(cg, d, e);
	const char *name = strrchr(path, '/');
	_cleanup_close_ int parent = -EBADF;
	char above[4096];
	int fd;

	if (top < 0 || !name)
		return take_fd(&top);
	snprintf(above, sizeof(above), "%.*s", (int)(name - path), path);
	parent = open_in_root(top, above[0] ? above : "/", O_RDONLY | O_DIRECTORY, 0);
	if (parent < 0)
		return error_errno(e, parent, "cgroup: open %s%s", d->path, above);
	if (mkdirat(parent, name + 1, 0755) < 0 && errno != EEXIST)
		return error_errno(e, -errno, "cgroup: make %s%s", d->path, path);
	fd = openat(parent, name + 1, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_errno(e, -errno, "cgroup: open %s%s", d->path, path) : fd;
}
