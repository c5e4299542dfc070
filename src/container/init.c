/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's first process, from its clone to the exec of the user's program: it sets everything up from inside,
 * one step a file. It is a copy of the runtime's process, which is not dumpable, dies with its parent until it is
 * complete, and has every descriptor but its own closed on exec.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/mountfd.h"
#include "linux/procfd.h"

/* A new network namespace's lo is down. */
static int loopback_up(struct error *e)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK};

	if (fd < 0)
		fd = socket(
			AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* no IPv4: any socket carries the ioctl */
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		return error_errno(e, -errno, "bring up lo");
	return 0;
}

static int set_names(const struct spec *s, struct error *e)
{
	if (s->hostname && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return error_errno(e, -errno, "set the hostname");
	if (s->domainname && setdomainname(s->domainname, strlen(s->domainname)) < 0)
		return error_errno(e, -errno, "set the domainname");
	return 0;
}

/* Through the host's /proc, which shows each reader its own namespaces' values. */
static int set_sysctls(const struct spec *s, int proc, struct error *e)
{
	char path[512];

	for (size_t i = 0; i < s->n_sysctl; i++) {
		size_t prefix = snprintf(path, sizeof(path), "sys/");
		/* "net.ipv4.conf.eth0" or, where a name has a dot in it, "net/ipv4/conf/eth0.1" */
		char separator = s->sysctl[i].name[strcspn(s->sysctl[i].name, "./")];
		int r;

		if (strstr(s->sysctl[i].name, "..") || strlen(s->sysctl[i].name) >= sizeof(path) - prefix)
			return error_set(
				e, -EINVAL, ERROR_CONFIG, "invalid sysctl name %.100s", s->sysctl[i].name);
		snprintf(path + prefix, sizeof(path) - prefix, "%s", s->sysctl[i].name);
		for (char *p = path + prefix; *p && separator == '.'; p++)
			if (*p == '.')
				*p = '/';
			else if (*p == '/')
				*p = '.';
		r = procfs_write(proc, path, s->sysctl[i].value);
		if (r < 0)
			return error_errno(e, r, "sysctl %s=%s", s->sysctl[i].name, s->sysctl[i].value);
	}
	return 0;
}

/* cgroups and namespaces that are there. */
static int join(struct init *in, struct error *e)
{
	int r = cgroup_join(in->cgroups);

	if (r < 0)
		return error_errno(e, r, "join the cgroup");
	r = process_set_final_cpus(NULL, e);
	return r < 0 ? r : namespaces_join(in->ns_fds, e);
}

/* For a moment our files in /proc are an ordinary user's: the clocks are set by one of them. A restore, which needs it, has looked who
 * else is in there. */
static int new_time_between(struct init *in, struct error *e)
{
	bool shows = in->c->rootless && in->o->timens.present;
	int r = shows && prctl(PR_SET_DUMPABLE, 1) < 0 ? error_errno(e, -errno, "prctl") : 0;

	if (r == 0)
		r = namespaces_new_time(in, e);
	if (r == 0 && shows && prctl(PR_SET_DUMPABLE, 0) < 0)
		r = error_errno(e, -errno, "prctl");
	return r;
}

int init_enter_between(struct init *in, struct error *e)
{
	bool joins_user = in->ns_fds[NS_USER] >= 0;
	int r;

	r = process_raise_rlimits(in->spec->process, e);
	if (r == 0)
		r = process_set_oom_score(in->spec->process, in->proc, e);
	/* those who live there could trace us */
	if (r == 0 && joins_user && prctl(PR_SET_DUMPABLE, 0) < 0)
		r = error_errno(e, -errno, "prctl");
	if (r == 0)
		r = join(in, e);
	return r < 0 || !joins_user ? r : new_time_between(in, e);
}

/* Until here the maps of a new user namespace were written, and files of /proc/self (the clocks') had to be ours. */
static int become_ours(struct init *in, struct error *e)
{
	int r = in->spec->namespaces[NS_USER].present ? userns_become_root(e) : 0;

	/* both undone by a change of credentials or by us when we are complete */
	if (r == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0))
		r = error_errno(e, -errno, "prctl");
	return r;
}

static int ask_parent(const struct init *in, enum sync_type what, struct error *e)
{
	int r = sync_send(in->sync, what);

	return r < 0 ? error_errno(e, r, "ask the runtime") : sync_expect(in->sync, SYNC_GO, e);
}

/* Session, cgroups and namespaces: what must come before any mount. */
static int enter(struct init *in, struct error *e)
{
	const struct spec *s = in->spec;
	int r = fault_point("create-init", e);

	if (r < 0)
		return r;
	process_reset_signals();
	umask(0);
	setsid(); /* fails only for a group leader, which a new process is not */
	r = in->between ? sync_expect(in->sync, SYNC_GO, e) : join(in, e);
	if (r == 0)
		r = fault_point("create-joined", e);
	in->host_pid = process_host_pid(in->proc);
	if (r == 0)
		r = process_open_attr(s->process, in->proc, &in->attr_fd, e);
	if (r == 0 && !s->namespaces[NS_USER].path)
		r = namespaces_new_time(in, e);
	if (r == 0)
		r = become_ours(in, e);
	if (r < 0)
		return r;
	/* after joining: a cgroup namespace is rooted where its maker is */
	if (s->namespaces[NS_CGROUP].present && !s->namespaces[NS_CGROUP].path &&
		unshare(CLONE_NEWCGROUP) < 0)
		return error_errno(e, -errno, "new cgroup namespace");
	if (s->namespaces[NS_NET].present && !s->namespaces[NS_NET].path) {
		r = loopback_up(e);
		if (r < 0)
			return r;
	}
	r = s->n_net_devices ? ask_parent(in, SYNC_NETWORK, e) : 0;
	if (r == 0)
		r = set_names(s, e);
	if (r == 0)
		r = set_sysctls(s, in->proc, e);
	if (r == 0 && !in->between)
		r = process_set_oom_score(s->process, in->proc, e);
	if (r == 0 && in->start_socket >= 0 && in->c->rootless)
		r = namespaces_open_own(in->proc, in->own_ns, e);
	close_p(&in->proc);
	return r < 0 ? r : fault_point("create-namespaces", e);
}

static bool own_mounts(const struct spec *s)
{
	return s->namespaces[NS_MNT].present && !s->namespaces[NS_MNT].path;
}

/* Hooks run between the mounts and the pivot; those of the runtime's side in the parent, while we wait. */
static int run_hooks(struct init *in, struct error *e)
{
	const struct spec *s = in->spec;
	int r;

	if (s->hooks[HOOK_PRESTART].n || s->hooks[HOOK_CREATE_RUNTIME].n) {
		r = ask_parent(in, SYNC_HOOKS, e);
		if (r < 0)
			return r;
	}
	return hooks_run(s, in->c, HOOK_CREATE_CONTAINER, CONTAINER_CREATING, getpid(), e);
}

/* create makes the working directory, as runc does; whether it is there and may be entered is seen when that is tried. */
static void make_cwd(int root, const struct spec *s)
{
	_cleanup_close_ int cwd = s->process ? make_dirs_in_root(root, s->process->cwd, 0755) : -EBADF;

	(void)cwd;
}

static int make_root(struct init *in, struct error *e)
{
	const struct spec *s = in->spec;
	_cleanup_close_ int root = -EBADF;
	bool own = own_mounts(s);
	int r;

	if (own) {
		r = rootfs_open(in, &root, e);
		if (r == 0)
			r = fault_point("create-root", e);
		if (r == 0)
			r = rootfs_mounts(in, root, e);
		if (r == 0)
			r = fault_point("create-mounts", e);
		if (r == 0)
			r = rootfs_devices(s, root, e);
		if (r == 0)
			r = fault_point("create-devices", e);
	} else {
		root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = root < 0 ? error_errno(e, -errno, "open /") : 0;
	}
	if (r == 0) {
		make_cwd(root, s);
		r = run_hooks(in, e);
	}
	if (r == 0)
		r = fault_point("create-container-hooks", e);
	if (r == 0 && in->console_socket >= 0)
		r = terminal_set_up(root, s->process, in->console_socket, own, in->o->restore_console, e);
	if (r == 0)
		r = fault_point("create-console", e);
	if (r == 0 && own)
		r = rootfs_protect(s, root, e);
	if (r == 0)
		r = fault_point("create-protected", e);
	if (r == 0 && own)
		r = rootfs_pivot(s, root, in->o->no_pivot, e);
	return r < 0 ? r : fault_point("create-pivot", e);
}

/* Tells the parent that all is done and waits until it has written the state. */
static int report_ready(struct init *in, struct error *e)
{
	int r;

	/* From here on we outlive the parent if it says so; if it dies before, the socket tells us. Not a restore, of which that is
	 * only the beginning. */
	if (!in->o->restore_init && prctl(PR_SET_PDEATHSIG, 0) < 0)
		return error_errno(e, -errno, "prctl");
	r = sync_send(in->sync, SYNC_READY);
	if (r < 0)
		return error_errno(e, r, "report to the runtime");
	return sync_expect(in->sync, SYNC_GO, e);
}

/* Waits for start: a connection on which a message comes. Its descriptor is where our errors go, until the exec closes
 * it. A seccomp filter that does not let us wait is the end. */
static int wait_for_start(struct init *in)
{
	for (;;) {
		int fd = accept4(in->start_socket, NULL, NULL, SOCK_CLOEXEC);
		struct error none;
		int said;

		if (fd < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS))
			return -errno;
		if (fd < 0)
			continue; /* a signal, or a caller that was gone again */
		said = sync_receive(fd, NULL, &none);
		if (said == SYNC_GO)
			return fd;
		if (said == SYNC_NAMESPACES)
			namespaces_hand_over(fd, in->own_ns);
		close(fd); /* else somebody only asked whether we are here */
	}
}

static void run_program(struct init *in, struct error *e)
{
	const struct spec *s = in->spec;
	struct oci_state state = container_oci_state(in->c, s, CONTAINER_CREATING, in->host_pid);
	struct process_context x = {
		.p = s->process,
		.seccomp = in->seccomp,
		.seccomp_spec = s->seccomp,
		.agent = in->agent,
		.state = &state,
		.host_pid = in->host_pid,
		.personality = s->has_personality ? &s->personality : NULL,
		.memory_policy = s->memory_policy,
		.attr_fd = in->attr_fd,
		.preserve_fds = in->o->preserve_fds,
		.listen_fds = in->o->listen_fds,
		.no_new_keyring = in->o->no_new_keyring,
		.userns = s->namespaces[NS_USER].present || in->c->rootless,
	};
	int keep[4 + NS_COUNT] = {in->sync, in->start_socket, in->attr_fd, in->agent};
	int r, starter;

	memcpy(keep + 4, in->own_ns, sizeof(in->own_ns));
	r = process_close_others(in->o->preserve_fds, keep, ARRAY_SIZE(keep), e);
	if (r == 0)
		r = fault_point("create-closed", e);
	if (r == 0)
		r = process_prepare(&x, e);
	if (r == 0)
		r = fault_point("create-process", e);
	if (r == 0)
		r = process_load_notifying(&x, e);
	if (r == 0)
		r = report_ready(in, e);
	if (r < 0)
		return;
	if (in->start_socket >= 0) {
		starter = wait_for_start(in);
		if (starter < 0) {
			error_errno(e, starter, "wait for start");
			return;
		}
		close_p(&in->sync);
		close_p(&in->start_socket);
		namespaces_close(in->own_ns);
		in->sync = starter;
	}
	r = fault_point("start-go", e);
	if (r == 0)
		r = hooks_run(s, in->c, HOOK_START_CONTAINER, CONTAINER_CREATED, getpid(), e);
	if (r == 0)
		r = fault_point("start-hooks", e);
	if (r == 0)
		(void)!process_exec(&x, e);
}

/* The restore has descriptors of its own in us, and closes what is not its. */
static void run_restore(struct init *in, struct error *e)
{
	struct oci_state state = container_oci_state(in->c, in->spec, CONTAINER_CREATING, in->host_pid);
	struct process_context x = {.p = in->spec->process, .state = &state, .attr_fd = in->attr_fd};
	int r = in->o->no_new_keyring ? 0 : process_join_keyring(&x, e);

	if (r == 0)
		r = process_set_memory_policy(in->spec->memory_policy, e);
	if (r == 0)
		r = report_ready(in, e);
	if (r == 0)
		(void)!in->o->restore_init(in->o->restore_arg, e);
}

void init_main(struct init *in)
{
	struct error e = {0};

	if (enter(in, &e) == 0 && make_root(in, &e) == 0) {
		if (in->o->restore_init)
			run_restore(in, &e);
		else
			run_program(in, &e);
	}
	if (!e.code)
		error_set(&e, -EIO, ERROR_INTERNAL, "init ended without saying why");
	sync_send_error(in->sync, &e);
	_exit(1);
}
