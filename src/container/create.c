/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parent's side of create: state directory, cgroup, clone, hooks, state.json.
 *
 * What a kill at any moment leaves: first the directory, then state.json with the cgroup's paths before anything of it
 * is made, so that delete can remove it all, and again with init's pid while init sets itself up. init dies with us
 * until it has reported ready: there is never a container process that state.json does not know. The file mountinfo
 * comes last, and makes it a created container.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/trace.h"
#include "container/container-priv.h"
#include "linux/clone.h"
#include "linux/procfd.h"

enum { CONFIG_MAX = 16 << 20 };

struct create {
	const struct container_create_options *o;
	struct container *c;
	struct init init;
	struct cgroup_join_fds cgroups;
	struct sock_fprog seccomp;
	struct interrupt interrupt;
	int sync, child_sync;
	int cgroup_fd;
	int pidfd;
	char *rdt_root; /* where resctrl is mounted, if config.json wants it */
	bool pid_file_written;
};

static void create_done(struct create *cr)
{
	close_p(&cr->sync);
	close_p(&cr->child_sync);
	close_p(&cr->cgroup_fd);
	close_p(&cr->pidfd);
	close_p(&cr->init.start_socket);
	close_p(&cr->init.console_socket);
	close_p(&cr->init.proc);
	close_p(&cr->init.agent);
	namespaces_close(cr->init.ns_fds);
	cgroup_join_close(&cr->cgroups);
	free(cr->seccomp.filter);
	free(cr->rdt_root);
}

int container_read_config(
	const struct container_create_options *o, struct container_config *ret, struct error *e)
{
	TRACE("read bundle");
	_cleanup_free_ char *bundle = realpath(o->bundle, NULL), *text = NULL;
	char path[PATH_MAX + 16];
	size_t len;
	int r;

	if (!bundle)
		return error_errno(e, -errno, "bundle %s", o->bundle);
	if (o->config)
		snprintf(path, sizeof(path), "%s", o->config);
	else
		snprintf(path, sizeof(path), "%s/config.json", bundle);
	r = read_file_at(AT_FDCWD, path, CONFIG_MAX, &text, &len);
	if (r == -EFBIG)
		return error_set(e, r, ERROR_CONFIG, "%s: larger than %d MiB", path, CONFIG_MAX >> 20);
	if (r == -ENOENT && !o->config)
		return error_set(
			e, r, ERROR_CONFIG, "JSON specification file config.json not found in %s", bundle);
	if (r < 0)
		return error_errno(e, r, "read %s", path);
	r = spec_parse(bundle, text, len, &ret->spec, e);
	if (r < 0)
		return r;
	ret->text = take_ptr(text);
	ret->len = len;
	return 0;
}

void container_config_done(struct container_config *c)
{
	free(take_ptr(c->text));
	spec_free(take_ptr(c->spec));
}

static int take_config(
	const struct container_create_options *o, struct container_config *ret, struct error *e)
{
	if (!o->read)
		return container_read_config(o, ret, e);
	*ret = *o->read;
	*o->read = (struct container_config){};
	return 0;
}

static int check_namespaces(const struct spec *s, struct error *e)
{
	if (!s->namespaces[NS_MNT].present &&
		(s->n_mounts || s->masked_paths[0] || s->readonly_paths[0] || s->rootfs_readonly))
		return error_set(e, -EINVAL, ERROR_CONFIG, "%s: needs a mount namespace in linux.namespaces",
			s->n_mounts	       ? "mounts"
			: s->masked_paths[0]   ? "linux.maskedPaths"
			: s->readonly_paths[0] ? "linux.readonlyPaths"
					       : "root.readonly");
	return 0;
}

static int check_rdt(struct create *cr, const struct spec *s, struct error *e)
{
	int r = s->intel_rdt ? rdt_mount_point(&cr->rdt_root, e) : 0;

	return r < 0 || !s->intel_rdt ? r : rdt_check(cr->rdt_root, s->intel_rdt, cr->o->id, e);
}

static int check_spec(const struct create *cr, const struct spec *s, struct error *e)
{
	const struct container_create_options *o = cr->o;
	bool socket = o->console_socket || o->console_fd > 2;
	struct stat st;

	if (!s->process)
		return error_set(e, -EINVAL, ERROR_CONFIG, "process: missing");
	if (stat(s->rootfs, &st) < 0)
		return error_errno(e, -errno, "root.path: %s", s->rootfs);
	if (!S_ISDIR(st.st_mode))
		return error_set(e, -ENOTDIR, ERROR_CONFIG, "root.path: %s must be a directory", s->rootfs);
	if (s->process->terminal && !socket)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"cannot allocate tty if the container will detach without setting console socket");
	if (!s->process->terminal && o->console_socket)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"cannot use console socket if the container will not detach or allocate tty");
	return check_namespaces(s, e);
}

/* The state directory's contents, then the cgroup. */
static int prepare_state(struct create *cr, const char *text, size_t len, struct error *e)
{
	TRACE("state and cgroup");
	struct container *c = cr->c;
	int r;

	r = write_new_file_at(c->dir_fd, "config.json", text, len, 0600);
	if (r < 0)
		return error_errno(e, r, "copy config.json to the state directory %s/%s", c->root, c->id);
	c->bundle = strdup(c->spec->bundle);
	c->generation = cr->o->generation;
	c->restoring = cr->o->restore_waits;
	if (cr->o->console_socket)
		c->console_socket = strdup(cr->o->console_socket);
	if (!c->bundle || (cr->o->console_socket && !c->console_socket))
		return error_errno(e, -ENOMEM, "container %s", c->id);
	c->rootless = cr->o->rootless;
	c->own_keyring = !cr->o->no_new_keyring;
	r = cgroup_init(&c->cgroup, c->spec->cgroups_path, c->id, cr->o->cgroup_manager, e);
	c->cgroup.optional = c->rootless;
	/* ours are theirs, unless there is a terminal */
	if (r == 0)
		r = state_record_stdio(c, getpid(), e);
	if (r == 0)
		r = container_save(c, e);
	if (r == 0)
		r = fault_point("create-state-dir", e);
	if (r == 0)
		r = cgroup_create(&c->cgroup, &c->spec->resources, e);
	return r < 0 ? r : fault_point("create-cgroup", e);
}

/* Whether init, the process between and systemd's holder are too many to be in the cgroup at once. Only who is born there is
 * counted, not who moves there: slower, and seldom needed. */
static bool must_move(const struct spec *s)
{
	return s->resources.has_pids_limit && s->resources.pids_limit > 0 && s->resources.pids_limit < 3;
}

static bool has_between(const struct spec *s)
{
	return s->namespaces[NS_USER].present || s->namespaces[NS_PID].path;
}

/* How init comes into its cgroups; what is not open here clone_init() does. */
static int prepare_cgroups(struct create *cr, struct error *e)
{
	const struct cgroup *cg = &cr->c->cgroup;

	if (!must_move(cr->c->spec))
		cr->cgroup_fd = cgroup_v2_fd(cg);
	else if (has_between(cr->c->spec))
		return 0;
	return cgroup_join_open(cg, cr->cgroup_fd >= 0, NULL, &cr->cgroups, e);
}

static int prepare_init(struct create *cr, struct error *e)
{
	TRACE("seccomp and sockets");
	struct container *c = cr->c;
	int pair[2], r;

	if (c->spec->mount_label && c->spec->mount_label[0] && access("/sys/fs/selinux/enforce", F_OK) < 0)
		return error_set(e, -EOPNOTSUPP, ERROR_CONFIG,
			"linux.mountLabel: SELinux is not enabled on this machine (remove the label)");
	if (c->spec->seccomp) {
		r = seccomp_program(c->dir_fd, c->spec->seccomp, &cr->seccomp, e);
		if (r == 0 && c->rootless)
			r = container_keep_filter(c, &cr->seccomp, e);
		if (r == 0 && !cr->o->restore_init)
			r = seccomp_connect_agent(c->spec->seccomp, &cr->init.agent, e);
		if (r < 0)
			return r;
		cr->init.seccomp = &cr->seccomp;
	}
	r = fault_point("create-seccomp", e);
	if (r == 0)
		r = namespaces_open(c->spec, cr->init.ns_fds, e);
	if (r < 0)
		return r;
	if (cr->o->console_socket && c->spec->process->terminal) {
		cr->init.console_socket = terminal_connect(cr->o->console_socket, e);
		if (cr->init.console_socket < 0)
			return cr->init.console_socket;
	} else if (cr->o->console_fd > 2 && c->spec->process->terminal) {
		cr->init.console_socket = fcntl(cr->o->console_fd, F_DUPFD_CLOEXEC, 3);
	}
	if (cr->o->restore_waits) {
		c->start_fd = start_socket_listen(c, e);
		if (c->start_fd < 0)
			return c->start_fd;
	} else if (!cr->o->restore_init && !cr->o->start) {
		cr->init.start_socket = start_socket_listen(c, e);
		if (cr->init.start_socket < 0)
			return cr->init.start_socket;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(e, -errno, "socketpair");
	cr->sync = pair[0];
	cr->child_sync = pair[1];
	cr->init.proc = procfs_open();
	if (cr->init.proc < 0)
		return error_errno(e, cr->init.proc, "open /proc");
	r = fault_point("create-sockets", e);
	return r < 0 ? r : prepare_cgroups(cr, e);
}

static uint64_t clone_flags(const struct spec *s)
{
	/* by init itself: cgroup, after it has joined; time, whose clocks are set before */
	static const enum ns_type by_clone[] = {NS_USER, NS_PID, NS_NET, NS_IPC, NS_UTS, NS_MNT};
	uint64_t flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(by_clone); i++)
		if (s->namespaces[by_clone[i]].present && !s->namespaces[by_clone[i]].path)
			flags |= ns_clone_flag(by_clone[i]);
	return flags;
}

/* In init: the lock must not live on in us, and the host's directories are not ours. */
static _Noreturn void child_main(struct create *cr)
{
	close_p(&cr->sync);
	close_p(&cr->c->lock_fd);
	close_p(&cr->c->dir_fd);
	close_p(&cr->c->start_fd);
	close_p(&cr->interrupt.fd);
	cr->c->interrupt_fd = -EBADF;
	init_main(&cr->init);
}

static void between_child(void *arg)
{
	child_main(arg);
}

static int between_enter(void *arg, struct error *e)
{
	struct create *cr = arg;

	return init_enter_between(&cr->init, e);
}

/* A pid namespace is entered by being born in it. */
static pid_t clone_process(struct create *cr, struct error *e)
{
	uint64_t flags = clone_flags(cr->c->spec);
	pid_t child;

	cr->init.sync = cr->child_sync;
	cr->init.between = has_between(cr->c->spec);
	if (cr->init.between)
		return clone_between(&(struct clone_between){.cgroup_fd = cr->cgroup_fd,
					     .flags = flags,
					     .pid = cr->o->restore_pid,
					     .enter = between_enter,
					     .main = between_child,
					     .arg = cr,
					     .sync = cr->sync,
					     .child_sync = cr->child_sync},
			&cr->pidfd, e);
	child = clone_fork(flags, cr->cgroup_fd, &cr->pidfd);
	if (child == 0)
		child_main(cr);
	return child < 0 ? error_errno(e, child, "clone the container's init") : child;
}

static int go_on(const struct create *cr, struct error *e)
{
	int r = sync_send(cr->sync, SYNC_GO);

	/* one that is gone has said why */
	return r == -EPIPE ? sync_expect(cr->sync, SYNC_READY, e)
	       : r < 0	   ? error_errno(e, r, "send to the container's init")
			   : 0;
}

static int clone_init(struct create *cr, struct error *e)
{
	TRACE("clone init");
	const struct spec_namespace *user = &cr->c->spec->namespaces[NS_USER];
	int r = process_hide(e);
	pid_t pid;

	if (r < 0)
		return r;
	pid = clone_process(cr, e);
	if (pid < 0)
		return pid;
	cr->c->init_pid = pid;
	/* only init may hold these: their closing is what its death or exec is seen by */
	close_p(&cr->child_sync);
	close_p(&cr->init.start_socket);
	if (user->present && !user->path)
		r = userns_write_maps(pid, cr->c->spec, e);
	if (r < 0)
		return r;
	if (cr->init.between) {
		r = must_move(cr->c->spec) ? cgroup_attach(&cr->c->cgroup, pid, false, e) : 0;
		if (r == 0)
			r = go_on(cr, e);
		if (r < 0)
			return r;
	}
	r = process_start_time(pid, &cr->c->init_start_time);
	if (r < 0)
		return error_errno(e, r, "start time of pid %d", pid);
	if (cr->c->spec->intel_rdt) {
		r = rdt_join(cr->rdt_root, cr->c->spec->intel_rdt, cr->c->id, pid, &cr->c->rdt, e);
		if (r < 0)
			return r;
	}
	/* Beside init's own work. With the cgroup's inodes: only what is recorded may be signalled. */
	r = container_save(cr->c, e);
	return r < 0 ? r : fault_point("create-clone", e);
}

/* A message of init's, unless we are told to end first. It may ask for mounts before. */
static int expect(const struct create *cr, enum sync_type type, struct error *e)
{
	for (;;) {
		int r = interrupt_wait(cr->interrupt.fd, cr->sync, -1), number;

		if (r < 0)
			return r == -EINTR ? interrupt_error(e)
					   : error_errno(e, r, "wait for the container's init");
		r = sync_receive(cr->sync, &number, e);
		if (r < 0)
			return r;
		if (r == (int)type)
			return 0;
		if (r == SYNC_SOURCE)
			r = source_serve(&cr->init, number, cr->pidfd, cr->sync, e);
		else
			r = error_set(e, -EPROTO, ERROR_INTERNAL,
				"unexpected message %d of the container's init", r);
		if (r < 0)
			return r;
	}
}

/* Waits until init is set up; moves its network devices and runs the runtime's hooks in between. */
static int follow_init(struct create *cr, struct error *e)
{
	TRACE("init and hooks");
	struct container *c = cr->c;
	const struct spec *s = c->spec;
	int r;

	if (s->n_net_devices) {
		r = expect(cr, SYNC_NETWORK, e);
		if (r == 0 && cr->o->restore_namespaces)
			r = cr->o->restore_namespaces(cr->o->restore_arg, c->init_pid, e);
		if (r == 0)
			r = net_devices_move(s, c->init_pid, &c->net_devices, e);
		if (r == 0)
			r = go_on(cr, e);
		if (r < 0)
			return r;
	}
	if (s->hooks[HOOK_PRESTART].n || s->hooks[HOOK_CREATE_RUNTIME].n) {
		r = expect(cr, SYNC_HOOKS, e);
		if (r == 0 && cr->o->restore_namespaces)
			r = cr->o->restore_namespaces(cr->o->restore_arg, c->init_pid, e);
		if (r == 0)
			r = hooks_run(s, c, HOOK_PRESTART, CONTAINER_CREATING, c->init_pid, e);
		if (r == 0)
			r = hooks_run(s, c, HOOK_CREATE_RUNTIME, CONTAINER_CREATING, c->init_pid, e);
		if (r == 0)
			r = go_on(cr, e);
		if (r < 0)
			return r;
	}
	r = fault_point("create-hooks", e);
	if (r == 0)
		r = expect(cr, SYNC_READY, e);
	return r < 0 ? r : fault_point("create-ready", e);
}

static int finish(struct create *cr, struct error *e)
{
	TRACE("finish");
	struct container *c = cr->c;
	int r;

	if (c->spec->process->terminal) {
		r = state_record_stdio(c, c->init_pid, e);
		if (r == 0)
			r = container_save(c, e);
		if (r < 0)
			return r;
	}
	r = state_record_mounts(c, e);
	if (r == 0)
		r = fault_point("create-mountinfo", e);
	if (r == 0 && cr->o->pid_file) {
		r = write_pid_file(cr->o->pid_file, c->init_pid, e);
		cr->pid_file_written = r == 0;
	}
	if (r == 0)
		r = fault_point("create-pid-file", e);
	if (r == 0 && cr->o->pidfd_socket)
		r = send_pidfd(cr->o->pidfd_socket, cr->pidfd, e);
	if (r == 0)
		r = fault_point("create-state", e);
	if (r < 0)
		return r;
	/* the last moment: from here on there is a container */
	if (interrupt_wait(cr->interrupt.fd, -1, 0) == -EINTR)
		return interrupt_error(e);
	r = go_on(cr, e);
	if (r < 0)
		return r;
	c->init_fd = take_fd(&cr->sync);
	c->starting = cr->o->start;
	return 0;
}

/* Kills init, and with it its pid namespace; the cgroup's others; then removes the cgroup and the directory. */
static void undo(struct container *c, int pidfd)
{
	_cleanup_free_ char *rdt_root = NULL;
	int status;

	if (pidfd >= 0) {
		(void)!pidfd_kill(pidfd, SIGKILL);
		/* not our child, or not ours to reap: a restore handed on */
		if (c->announced || pidfd_reap(pidfd, &status) < 0)
			(void)!pidfd_wait_exit(pidfd, 5000);
	}
	if (c->net_devices)
		net_devices_return(c->net_devices);
	(void)!cgroup_signal(&c->cgroup, SIGKILL, NULL);
	(void)!cgroup_delete(&c->cgroup, NULL);
	if (c->rdt.group && rdt_mount_point(&rdt_root, NULL) == 0)
		rdt_undo(rdt_root, &c->rdt);
	/* what prestart and createRuntime hooks set up, these take down */
	if (c->spec && c->init_pid > 0)
		(void)!hooks_run(c->spec, c, HOOK_POSTSTOP, CONTAINER_STOPPED, 0, NULL);
	state_remove_dir(c);
}

void container_abort(struct container *c)
{
	_cleanup_close_ int pidfd = container_init_pidfd(c);

	undo(c, pidfd);
}

static int create(struct create *cr, struct error *e)
{
	TRACE("create");
	_cleanup_(container_config_done) struct container_config config = {};
	int r;

	r = fault_point("create-start", e);
	if (r == 0)
		r = container_id_check(cr->o->id, e);
	if (r == 0)
		r = take_config(cr->o, &config, e);
	if (r == 0)
		r = check_spec(cr, config.spec, e);
	if (r == 0)
		r = fault_point("create-config", e);
	if (r == 0)
		r = check_rdt(cr, config.spec, e);
	if (r == 0)
		r = state_create_dir(cr->o->root, cr->o->id, &cr->c, e);
	if (r < 0)
		return r;
	cr->c->interrupt_fd = cr->interrupt.fd;
	terminal_use_size(config.spec->process, cr->o->console_size);
	cr->c->spec = take_ptr(config.spec);
	if (!cr->c->spec->namespaces[NS_USER].present)
		process_limit_capabilities(cr->c->spec->process);
	cr->init.c = cr->c;
	cr->init.spec = cr->c->spec;
	r = membership_decide(cr->c, cr->c->spec, cr->o, e);
	if (r == 0)
		r = membership_enter(cr->c, !cr->o->sandbox, e);
	if (r == 0)
		r = application_prepare(cr->c, cr->c->spec, cr->o, e);
	if (r == 0 && cr->o->notify)
		r = notify_prepare(cr->c, cr->c->spec, e);
	if (r == 0 && cr->o->notify && cr->o->start) {
		cr->c->notify_fd = container_notify_listen(cr->c, e);
		r = MIN(cr->c->notify_fd, 0);
	}
	if (r == 0)
		r = prepare_state(cr, config.text, config.len, e);
	if (r == 0)
		r = prepare_init(cr, e);
	if (r == 0)
		r = clone_init(cr, e);
	if (r == 0)
		r = follow_init(cr, e);
	cgroup_release(&cr->c->cgroup);
	if (r == 0)
		r = finish(cr, e);
	cr->c->interrupt_fd = -EBADF;
	if (r == 0)
		return 0;
	undo(cr->c, cr->pidfd);
	if (cr->pid_file_written)
		unlink(cr->o->pid_file);
	return r;
}

int container_create(const struct container_create_options *o, struct container **ret, struct error *e)
{
	struct create cr = {
		.o = o,
		.init = {.o = o,
			.sync = -EBADF,
			.start_socket = -EBADF,
			.console_socket = -EBADF,
			.attr_fd = -EBADF,
			.proc = -EBADF,
			.agent = -EBADF},
		.sync = -EBADF,
		.child_sync = -EBADF,
		.cgroup_fd = -EBADF,
		.pidfd = -EBADF,
	};
	int r;

	cr.init.cgroups = &cr.cgroups;
	for (int t = 0; t < NS_COUNT; t++)
		cr.init.ns_fds[t] = cr.init.own_ns[t] = -EBADF;
	r = interrupt_begin(&cr.interrupt, e);
	if (r < 0)
		return r;
	r = create(&cr, e);
	if (r == 0)
		*ret = take_ptr(cr.c);
	container_free(cr.c);
	create_done(&cr);
	if (r < 0)
		interrupt_end(&cr.interrupt);
	else
		close_p(&cr.interrupt.fd);
	return r;
}

int container_init_error(struct container *c, struct error *e)
{
	struct pollfd p = {.fd = c->init_fd, .events = POLLIN};
	int r;

	if (c->init_fd < 0)
		return 1;
	if (poll(&p, 1, 0) <= 0)
		return 0;
	r = sync_expect(c->init_fd, SYNC_READY, e);
	if (r != -ECONNRESET)
		return r < 0 ? r : 0;
	close_p(&c->init_fd);
	return 1;
}
