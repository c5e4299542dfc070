/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A further process in a running container. The child is cloned in the container's pid namespace and v2 cgroup, moves
 * itself into the v1 hierarchies, then into the other namespaces in one setns of init's pidfd, so that a reused pid can't
 * lead it elsewhere. Until its exec it is not dumpable (CVE-2016-9962), and all but the preserved descriptors close.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/clone.h"
#include "linux/procfd.h"

struct exec {
	struct container *c;
	const struct exec_options *o;
	struct spec_process process; /* o's, with the container's where it says nothing */
	struct cgroup_join_fds cgroups;
	struct sock_fprog seccomp;
	int init_pidfd, cgroup_fd, console_socket, agent;
	int proc; /* procfs_open() */
	int sync, child_sync;
	pid_t host_pid;		   /* the child's own, by itself */
	int namespaces;		   /* CLONE_NEW* to join */
	int handed_over[NS_COUNT]; /* the same, if init's pidfd doesn't lead there; else -EBADF */
	int attr_fd;		   /* process_open_attr() */
};

static void exec_done(struct exec *x)
{
	close_p(&x->init_pidfd);
	close_p(&x->cgroup_fd);
	close_p(&x->console_socket);
	close_p(&x->agent);
	close_p(&x->proc);
	close_p(&x->sync);
	close_p(&x->child_sync);
	namespaces_close(x->handed_over);
	cgroup_join_close(&x->cgroups);
	free(x->seccomp.filter);
}

/* A user namespace is entered for good, and its ids change what a process may do: by a process between. */
static bool between(const struct exec *x)
{
	return x->namespaces & CLONE_NEWUSER;
}

static int check_status(const struct exec *x, struct error *e)
{
	enum container_status s = container_status(x->c);

	if (s == CONTAINER_STOPPED)
		return error_set(e, -EINVAL, ERROR_STATE, "cannot exec in a stopped container");
	if (x->c->restoring) /* its pids are the image's */
		return error_set(e, -EINVAL, ERROR_STATE,
			"cannot exec in a container that is being restored: it has not been started yet");
	if (s == CONTAINER_PAUSED && !x->o->ignore_paused)
		return error_set(e, -EINVAL, ERROR_STATE,
			"cannot exec in a paused container (use --ignore-paused to override)");
	return 0;
}

/* 1: there is none of this type; -EACCES: it is not ours to see. */
static int stat_namespace(const struct exec *x, enum ns_type t, struct stat *ret)
{
	char path[64];

	if (x->handed_over[t] >= 0)
		return fstat(x->handed_over[t], ret) < 0 ? -errno : 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", x->c->init_pid, ns_proc_name(t));
	if (stat(path, ret) == 0)
		return 0;
	return errno == ENOENT && t == NS_TIME ? 1 : -errno;
}

/* Which namespaces of init are not ours; config.json does not know all of them (restore adds a time namespace). */
static int find_namespaces(struct exec *x, struct error *e)
{
	struct stat theirs, ours;
	char path[64];

	for (int t = 0; t < NS_COUNT; t++) {
		int r = stat_namespace(x, t, &theirs);

		if (r == -EACCES && container_status(x->c) == CONTAINER_CREATED) {
			r = namespaces_ask(x->c, x->handed_over, e);
			if (r < 0)
				return r;
			r = stat_namespace(x, t, &theirs);
		}
		if (r < 0)
			return error_errno(e, r, "%s namespace of pid %d", ns_oci_name(t), x->c->init_pid);
		snprintf(path, sizeof(path), "/proc/self/ns/%s", ns_proc_name(t));
		if (r == 0 && stat(path, &ours) < 0)
			return error_errno(e, -errno, "%s", path);
		if (r == 0 && (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev))
			x->namespaces |= ns_clone_flag(t);
		else
			close_p(&x->handed_over[t]);
	}
	return 0;
}

/* As runc: what the process does not say is the container's, but for its no_new_privs and its limits, which are as
 * given. Without this a process.json that names no capabilities would give all of ours. */
static void inherit(struct spec_process *p, const struct spec_process *from)
{
	if (!p->has_capabilities) {
		p->has_capabilities = from->has_capabilities;
		p->capabilities = from->capabilities;
	}
	if (!p->has_oom_score_adj) {
		p->has_oom_score_adj = from->has_oom_score_adj;
		p->oom_score_adj = from->oom_score_adj;
	}
	if (!p->has_umask) {
		p->has_umask = from->has_umask;
		p->umask = from->umask;
	}
	if (!p->has_io_priority) {
		p->has_io_priority = from->has_io_priority;
		p->io_priority = from->io_priority;
	}
	if (!p->exec_initial_cpus.present && !p->exec_final_cpus.present) {
		p->exec_initial_cpus = from->exec_initial_cpus;
		p->exec_final_cpus = from->exec_final_cpus;
	}
	if (!p->scheduler)
		p->scheduler = from->scheduler;
	if (!p->apparmor_profile)
		p->apparmor_profile = from->apparmor_profile;
	if (!p->selinux_label)
		p->selinux_label = from->selinux_label;
}

static int prepare(struct exec *x, struct error *e)
{
	const struct exec_options *o = x->o;
	int pair[2], r;

	x->process = *o->process;
	if (x->c->spec->process)
		inherit(&x->process, x->c->spec->process);
	terminal_use_size(&x->process, o->console_size);
	if (o->process->terminal && !o->console_socket && o->console_fd <= 2)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"cannot allocate tty if the process will detach without setting console socket");
	if (!o->process->terminal && o->console_socket)
		return error_set(
			e, -EINVAL, ERROR_USAGE, "cannot use console socket if the process has no terminal");
	r = process_set_cpus(&x->process.exec_initial_cpus, e);
	if (r < 0)
		return r;
	x->init_pidfd = container_init_pidfd(x->c);
	if (x->init_pidfd < 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running");
	r = find_namespaces(x, e);
	if (r < 0)
		return r;
	if (!(x->namespaces & CLONE_NEWUSER))
		process_limit_capabilities(&x->process);
	if (x->c->spec->seccomp) {
		r = container_kept_filter(x->c, &x->seccomp, e);
		if (r == 1)
			r = seccomp_program(x->c->dir_fd, x->c->spec->seccomp, &x->seccomp, e);
		if (r == 0)
			r = seccomp_connect_agent(x->c->spec->seccomp, &x->agent, e);
		if (r < 0)
			return r;
	}
	if (o->process->terminal) {
		x->console_socket = o->console_socket ? terminal_connect(o->console_socket, e)
						      : fcntl(o->console_fd, F_DUPFD_CLOEXEC, 3);
		if (x->console_socket < 0)
			return o->console_socket ? x->console_socket
						 : error_errno(e, -errno, "console socket");
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(e, -errno, "socketpair");
	x->sync = pair[0];
	x->child_sync = pair[1];
	x->proc = procfs_open();
	if (x->proc < 0)
		return error_errno(e, x->proc, "open the host's /proc");
	r = cgroup_v2_sub_fd(&x->c->cgroup, &o->cgroups, &x->cgroup_fd, e);
	if (r < 0)
		return r;
	return cgroup_join_open(&x->c->cgroup, x->cgroup_fd >= 0, &o->cgroups, &x->cgroups, e);
}

/* Until the end of this we have our own privileges, and are not to be traced by those who live there. */
static int join(struct exec *x, int namespaces, struct error *e)
{
	int r = process_set_oom_score(&x->process, x->proc, e);

	if (r < 0)
		return r;
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_errno(e, -errno, "prctl");
	r = cgroup_join(&x->cgroups);
	if (r < 0)
		return error_errno(e, r, "join the cgroup");
	r = rdt_enter(&x->c->rdt, e);
	if (r < 0)
		return r;
	r = process_set_final_cpus(&x->process.exec_final_cpus, e);
	if (r < 0)
		return r;
	if (x->handed_over[NS_USER] >= 0)
		return namespaces_join(x->handed_over, e);
	if (namespaces && setns(x->init_pidfd, namespaces) < 0)
		return error_errno(e, -errno, "join the container's namespaces");
	return 0;
}

/* All namespaces at once, also pid: it is for the child. */
static int enter_between(void *arg, struct error *e)
{
	struct exec *x = arg;
	int r = process_raise_rlimits(&x->process, e);

	if (r == 0)
		r = join(x, x->namespaces, e);
	return r < 0 ? r : userns_become_root(e);
}

static int enter(struct exec *x, struct error *e)
{
	int r;

	process_reset_signals();
	umask(0);
	setsid();
	r = between(x) ? sync_expect(x->child_sync, SYNC_GO, e) : join(x, x->namespaces & ~CLONE_NEWPID, e);
	if (r < 0)
		return r;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return error_errno(e, -errno, "prctl");
	/* who died before we asked to die with him sends no signal */
	if (sync_is_closed(x->child_sync))
		return error_errno(e, -ECONNRESET, "exec");
	x->host_pid = process_host_pid(x->proc);
	/* of the host's /proc: the container's own may be anything (CVE-2019-16884) */
	r = process_open_attr(&x->process, x->proc, &x->attr_fd, e);
	return r < 0 ? r : fault_point("exec-namespaces", e);
}

static int take_stdio(const struct exec *x, struct error *e)
{
	for (int i = 0; x->o->stdio && i < 3; i++)
		if (x->o->stdio[i] != i && dup2(x->o->stdio[i], i) < 0)
			return error_errno(e, -errno, "stdin, stdout and stderr");
	return 0;
}

/* A detached process outlives us; whoever kills us now has started it all the same. */
static void choose_death(const struct exec *x)
{
	prctl(PR_SET_PDEATHSIG, x->o->dies_with_caller ? SIGKILL : 0);
	/* A change of ids had made us forget it, and we may be late. */
	if (x->o->dies_with_caller && sync_is_closed(x->child_sync))
		_exit(255);
}

static int take_terminal(struct exec *x, struct error *e)
{
	_cleanup_close_ int root = -EBADF;

	if (x->console_socket < 0)
		return 0;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return error_errno(e, -errno, "open /");
	return terminal_set_up(root, &x->process, x->console_socket, false, NULL, e);
}

static _Noreturn void child_main(struct exec *x)
{
	const struct spec *s = x->c->spec;
	struct oci_state state = container_oci_state(x->c, s, CONTAINER_RUNNING, x->c->init_pid);
	struct process_context context = {
		.p = &x->process,
		.seccomp = s->seccomp ? &x->seccomp : NULL,
		.seccomp_spec = s->seccomp,
		.agent = x->agent,
		.state = &state,
		.personality = s->has_personality ? &s->personality : NULL,
		.memory_policy = s->memory_policy,
		.preserve_fds = x->o->preserve_fds,
		.userns = between(x) || x->c->rootless,
	};
	const int sync = x->child_sync;
	struct error e = {0};
	int r;

	r = take_stdio(x, &e);
	if (r == 0)
		r = enter(x, &e);
	if (r == 0)
		r = take_terminal(x, &e);
	if (r == 0)
		r = fault_point("exec-console", &e);
	context.attr_fd = x->attr_fd;
	context.host_pid = x->host_pid;
	if (r == 0)
		r = process_close_others(x->o->preserve_fds, (int[]){sync, x->attr_fd, x->agent}, 3, &e);
	if (r == 0)
		r = fault_point("exec-closed", &e);
	if (r == 0)
		r = process_prepare(&context, &e);
	if (r == 0)
		r = fault_point("exec-process", &e);
	if (r == 0) {
		choose_death(x);
		(void)!process_exec(&context, &e);
	}
	sync_send_error(sync, &e);
	_exit(255);
}

static _Noreturn void child(struct exec *x)
{
	close_p(&x->sync);
	close_p(&x->c->lock_fd);
	close_p(&x->c->dir_fd);
	child_main(x);
}

static void between_child(void *arg)
{
	child(arg);
}

static pid_t clone_by_between(struct exec *x, int *ret_pidfd, struct error *e)
{
	struct clone_between b = {
		.cgroup_fd = x->cgroup_fd,
		.enter = enter_between,
		.main = between_child,
		.arg = x,
		.sync = x->sync,
		.child_sync = x->child_sync,
	};
	pid_t pid = clone_between(&b, ret_pidfd, e);
	int r = pid < 0 ? 0 : sync_send(x->sync, SYNC_GO);

	return r < 0 ? error_errno(e, r, "send to the process") : pid;
}

static pid_t clone_directly(struct exec *x, int *ret_pidfd, struct error *e)
{
	_cleanup_close_ int old = -EBADF;
	pid_t pid;

	if (x->namespaces & CLONE_NEWPID) {
		old = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
		if (old < 0 || setns(x->init_pidfd, CLONE_NEWPID) < 0)
			return error_errno(e, -errno, "join the container's pid namespace");
	}
	pid = clone_fork(0, x->cgroup_fd, ret_pidfd);
	if (pid == 0)
		child(x);
	/* there is no way back where our user namespace doesn't own our pid namespace (rootless podman): then fork no more */
	if (old >= 0 && setns(old, CLONE_NEWPID) < 0 && errno != EPERM && pid > 0)
		return error_errno(e, -errno, "return to the pid namespace");
	return pid < 0 ? error_errno(e, pid, "clone a process into the container") : pid;
}

static pid_t clone_child(struct exec *x, int *ret_pidfd, struct error *e)
{
	pid_t (*const clone)(struct exec * x, int *ret_pidfd, struct error *e) =
		between(x) ? clone_by_between : clone_directly;
	pid_t pid;

	if (process_hide(e) < 0)
		return e->code;
	pid = clone(x, ret_pidfd, e);
	/* v2: no process may be where there are controllers for those below; then beside init, wherever that has moved */
	if (pid == -EBUSY && x->o->cgroups.n == 0) {
		close_p(&x->cgroup_fd);
		x->cgroup_fd = cgroup_v2_fd_of(&x->c->cgroup, x->c->init_pid);
		if (x->cgroup_fd >= 0)
			pid = clone(x, ret_pidfd, e);
	}
	return pid;
}

static int exec_process(struct exec *x, pid_t *ret_pid, int *ret_pidfd, struct error *e)
{
	_cleanup_close_ int pidfd = -EBADF;
	bool pid_file_written = false;
	int r, status;
	pid_t pid;

	r = fault_point("exec-start", e);
	if (r == 0)
		r = check_status(x, e);
	if (r == 0)
		r = container_load_spec(x->c, e);
	if (r == 0)
		r = prepare(x, e);
	if (r == 0)
		r = fault_point("exec-prepared", e);
	if (r < 0)
		return r;
	pid = clone_child(x, &pidfd, e);
	if (pid < 0)
		return pid;
	close_p(&x->child_sync);
	/* the end of file is its exec, or its death, which the caller will see */
	r = fault_point("exec-clone", e);
	if (r == 0)
		r = sync_expect(x->sync, SYNC_READY, e);
	if (r == -ECONNRESET)
		r = fault_point("exec-ready", e);
	if (r == 0 && x->o->pid_file) {
		r = write_pid_file(x->o->pid_file, pid, e);
		pid_file_written = r == 0;
	}
	if (r == 0)
		r = fault_point("exec-pid-file", e);
	if (r == 0 && x->o->pidfd_socket)
		r = send_pidfd(x->o->pidfd_socket, pidfd, e);
	if (r < 0) {
		(void)!pidfd_kill(pidfd, SIGKILL);
		(void)!pidfd_reap(pidfd, &status);
		if (pid_file_written)
			unlink(x->o->pid_file);
		return r;
	}
	*ret_pid = pid;
	*ret_pidfd = take_fd(&pidfd);
	return 0;
}

int container_exec(
	struct container *c, const struct exec_options *o, pid_t *ret_pid, int *ret_pidfd, struct error *e)
{
	struct exec x = {
		.c = c,
		.o = o,
		.init_pidfd = -EBADF,
		.cgroup_fd = -EBADF,
		.console_socket = -EBADF,
		.agent = -EBADF,
		.sync = -EBADF,
		.child_sync = -EBADF,
		.attr_fd = -EBADF,
		.proc = -EBADF,
	};
	int r;

	for (int t = 0; t < NS_COUNT; t++)
		x.handed_over[t] = -EBADF;
	r = exec_process(&x, ret_pid, ret_pidfd, e);
	exec_done(&x);
	return r;
}
