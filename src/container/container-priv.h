/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share. create.c (the parent) and init.c (the child that becomes the container's first
 * process) run the steps, which are one file each: rootfs.c, mounts.c, devices.c, terminal.c, process.c, hooks.c.
 */
#pragma once

#include <linux/filter.h>
#include <signal.h>

#include "container/container.h"

/* The socket on which a created init waits for start, in the state directory. */
#define START_SOCKET CONTAINER_START_SOCKET

/* ---- sync.c: messages between the creating process and init, over a SOCK_SEQPACKET pair ---- */
enum sync_type {
	SYNC_ERROR = 1, /* init failed: the error is in the message */
	SYNC_NETWORK,	/* init to parent: the network namespace is there, move linux.netDevices into it */
	SYNC_HOOKS,	/* init to parent: namespaces and mounts are made, run prestart and createRuntime */
	SYNC_READY,	/* init to parent: completely set up */
	SYNC_GO,	/* parent to init: go on */
	SYNC_CLONED, /* the process between to the parent: the number is the pid of the container's process */
	SYNC_SOURCE, /* init to parent: send me the source of the mount of this number */
	SYNC_NAMESPACES, /* exec to init: send me your namespaces */
};
int sync_send(int fd, enum sync_type type) _must_check_;
int sync_send_number(int fd, enum sync_type type, int number) _must_check_;
void sync_send_error(int fd, const struct error *e);
/* Waits for a message of this type. An error message becomes our error; a closed socket is -ECONNRESET. */
int sync_expect(int fd, enum sync_type type, struct error *e) _must_check_;
/* Nobody is at the other end any more. */
bool sync_is_closed(int fd);
/* The same for a message of any other type, which is returned; ret_number may be NULL. */
int sync_receive(int fd, int *ret_number, struct error *e) _must_check_;

/* ---- interrupt.c: what ends a create that is under way ---- */
struct interrupt {
	int fd; /* signalfd: readable when we were told to end */
	sigset_t old_mask;
};
int interrupt_begin(struct interrupt *i, struct error *e) _must_check_;
/* Lets signals through again, which may well end us. Only after a failure. */
void interrupt_end(struct interrupt *i);
/* Waits until fd is readable (timeout_ms: -1 for ever): 1, or 0 after the timeout, or -EINTR when interrupt_fd (-EBADF:
 * none) says so. */
int interrupt_wait(int interrupt_fd, int fd, int timeout_ms) _must_check_;
int interrupt_error(struct error *e);

/* ---- init.c ---- */
struct init {
	const struct container_create_options *o;
	const struct container *c;
	const struct spec *spec;
	const struct cgroup_join_fds *cgroups;
	bool between;	      /* a process between has joined cgroups and namespaces for us */
	int sync;	      /* our end of the socket pair */
	int start_socket;     /* listening; -EBADF for a restore */
	int console_socket;   /* connected; -EBADF: none */
	int proc;	      /* procfs_open(), by the runtime: one that we join may be a container's */
	int attr_fd;	      /* process_open_attr() */
	int ns_fds[NS_COUNT]; /* namespaces to join by path; -EBADF: none */
	int own_ns[NS_COUNT]; /* namespaces_open_own(), or -EBADF */
	const struct sock_fprog *seccomp; /* NULL: none */
	int agent;			  /* connected to the seccomp agent; -EBADF: none */
	const int *sources;		  /* of bind mounts, opened before; NULL: source_open() opens them */
	pid_t host_pid;			  /* by init_main(): ours as the runtime sees it */
};
_Noreturn void init_main(struct init *in);
/* By the process between, if there is one. */
int init_enter_between(struct init *in, struct error *e) _must_check_;

/* ---- namespaces.c ---- */
/* Opens those that config.json gives by path. */
int namespaces_open(const struct spec *s, int fds[NS_COUNT], struct error *e) _must_check_;
/* Joins those that are open, and closes them. (pid: the children of the caller.) */
int namespaces_join(int fds[NS_COUNT], struct error *e) _must_check_;
void namespaces_close(int fds[NS_COUNT]);
/* An ordinary user may not look into his init that waits for start, as it is not dumpable. So it opens its namespaces
 * itself, and hands them over to who asks on the start socket. */
int namespaces_open_own(int proc, int fds[NS_COUNT], struct error *e) _must_check_;
void namespaces_hand_over(int socket, const int fds[NS_COUNT]);
int namespaces_ask(const struct container *c, int fds[NS_COUNT], struct error *e) _must_check_;
/* Moves the caller to a new time namespace, if config.json or the restore want one. */
int namespaces_new_time(const struct init *in, struct error *e) _must_check_;

/* ---- userns.c ---- */
/* A child of the caller made by a process between, which calls enter() first: see there. The child, in main(), waits for
 * SYNC_GO before it says anything. */
struct clone_between {
	int cgroup_fd;	/* as for clone_fork() */
	uint64_t flags; /* of the child */
	pid_t pid;	/* likewise, in its pid namespace, which is one that was there; 0: any */
	int (*enter)(void *arg, struct error *e);
	void (*main)(void *arg); /* does not return */
	void *arg;
	int sync, child_sync;
};
pid_t clone_between(const struct clone_between *b, int *ret_pidfd, struct error *e) _must_check_;
/* By the runtime, for a process in a new user namespace. */
int userns_write_maps(pid_t pid, const struct spec *s, struct error *e) _must_check_;
/* The death signal is gone after this, and the process is not dumpable. */
int userns_become_root(struct error *e) _must_check_;

/* ---- sources.c ---- */
enum { SOURCE_ROOT = -1 }; /* else an index of spec->mounts */
/* By init: a detached mount (the root is attached already). */
int source_open(const struct init *in, int index, struct error *e) _must_check_;
/* With our own mounts and privileges; init: whose user namespace's mappings an id-mapped mount has. */
int source_open_here(const struct spec *s, int index, pid_t init, struct error *e) _must_check_;
/* By the runtime, when init asks with SYNC_SOURCE. */
int source_serve(const struct init *in, int index, int init_pidfd, int sync, struct error *e) _must_check_;

/* ---- rootfs.c, mounts.c, devices.c: everything by fds below "root" ---- */
/* Makes the mount namespace's propagation right and returns the attached root mount's fd. */
int rootfs_open(const struct init *in, int *ret_root, struct error *e) _must_check_;
/* One of them, by its index. */
int rootfs_mount(const struct init *in, size_t index, int root, struct error *e) _must_check_;
int rootfs_mounts(const struct init *in, int root, struct error *e) _must_check_;
int rootfs_devices(const struct spec *s, int root, struct error *e) _must_check_;
/* Masked and read-only paths, and the read-only root. */
int rootfs_protect(const struct spec *s, int root, struct error *e) _must_check_;
int rootfs_pivot(const struct spec *s, int root, bool no_pivot, struct error *e) _must_check_;
int rootfs_copy_up(int from, int to, struct error *e) _must_check_;
/* An image may have made a link to the container's /proc of the path "name" that we are about to cover: refused, as a
 * mount there could fake what LSMs and we read, or bare what is masked. */
int rootfs_check_target(int target, const char *name, struct error *e) _must_check_;

/* ---- notify.c ---- */
/* The directory of the container's NOTIFY_SOCKET, its mount and its variable. */
int notify_prepare(struct container *c, struct spec *s, struct error *e) _must_check_;

/* ---- application.c ---- */
#define APPLICATION_PREFIX "io.stasis."
#define APPLICATION_IMAGE_PATH APPLICATION_PREFIX "application.image-path"
/* The directory that is to be the container's /run/stasis, with its files, and its mount. */
int application_prepare(struct container *c, struct spec *s, const struct container_create_options *o,
	struct error *e) _must_check_;

/* ---- terminal.c ---- */
/* A pty of the container's own devpts: the slave becomes fds 0-2 (and /dev/console if console), the controlling
 * terminal of our session; the master goes over the socket, and stays open in *ret_master if that is not NULL. */
/* A caller's own size is more than what config.json says. */
void terminal_use_size(struct spec_process *p, struct console_size size);
int terminal_set_up(int root, const struct spec_process *p, int socket, bool console, int *ret_master,
	struct error *e) _must_check_;
/* Sends a pidfd to whoever listens there (containerd's shim). */
int send_pidfd(const char *path, int pidfd, struct error *e) _must_check_;
int terminal_connect(const char *path, struct error *e) _must_check_;

/* ---- process.c ---- */
struct process_context {
	const struct spec_process *p;
	const struct sock_fprog *seccomp;
	const struct spec_seccomp *seccomp_spec;
	int agent;		       /* connected to the seccomp agent; -EBADF: none, or not any more */
	const struct oci_state *state; /* what the agent is told */
	pid_t host_pid;		       /* our own, likewise */
	bool filtered;		       /* by process_load_notifying() */
	int attr_fd;		       /* process_open_attr() */
	int preserve_fds;
	struct listen_fds listen_fds; /* the first of those to preserve */
	bool no_new_keyring;
	bool userns;			  /* in another user namespace than the runtime's */
	const unsigned long *personality; /* NULL: leave */
	const struct spec_memory_policy *memory_policy;
	char **env;	       /* by process_prepare(): with HOME; never freed, the exec is near */
	char executable[4096]; /* found by process_prepare() */
};
/* A session keyring of the container's own. Restored containers get no more of all this. */
int process_join_keyring(const struct process_context *x, struct error *e) _must_check_;
/* All but the last: limits, ids, cwd; finds the executable. Capabilities are still there afterwards. */
int process_prepare(struct process_context *x, struct error *e) _must_check_;
/* At the end of create: a filter with a listener, which agents expect then. From here on our calls are the agent's and
 * the profile's business, as with runc. */
int process_load_notifying(struct process_context *x, struct error *e) _must_check_;
/* Capabilities, seccomp, exec. Returns only on failure. */
int process_exec(struct process_context *x, struct error *e) _must_check_;
/* Our pid in the pid namespace of that /proc: the host's by the host's (procfs_open()). */
pid_t process_host_pid(int proc);
/* Default dispositions, empty mask. */
void process_reset_signals(void);
/* Through the host's /proc (procfs_open()). */
int process_set_oom_score(const struct spec_process *p, int proc, struct error *e) _must_check_;
/* Our attr directory in the host's /proc, where labels are written; *ret stays -EBADF when there are none to write. */
int process_open_attr(const struct spec_process *p, int proc, int *ret, struct error *e) _must_check_;
/* Closes all but 0-2, the preserved ones and those of "keep" (-EBADF: none): from here on we follow the container's
 * paths, and no magic link of /proc may lead back to the host (CVE-2024-21626). */
int process_close_others(int preserve_fds, const int *keep, size_t n_keep, struct error *e) _must_check_;
/* Nobody in the container may ptrace us before our exec (CVE-2016-9962): from before there is anything of us in it. */
int process_hide(struct error *e) _must_check_;
/* What takes the host's privileges, before a user namespace is entered: hard limits that are to be higher. */
int process_raise_rlimits(const struct spec_process *p, struct error *e) _must_check_;
/* What we do not have ourselves nobody gets, with a warning: the runtime-spec wants no error. Not for who enters a user
 * namespace, where all are had. */
void process_limit_capabilities(struct spec_process *p);
int process_set_rlimits(const struct spec_process *p, struct error *e) _must_check_;

/* ---- scheduling.c ---- */
int process_set_scheduling(const struct spec_process *p, struct error *e) _must_check_;
int process_set_memory_policy(
	const struct spec_memory_policy *policy, struct error *e) _must_check_; /* NULL: leave */
/* Absent: left alone. */
int process_set_cpus(const struct spec_number_set *cpus, struct error *e) _must_check_;
/* After joining the cgroup. Absent or NULL: what the cgroup allows. */
int process_set_final_cpus(const struct spec_number_set *cpus, struct error *e) _must_check_;

/* ---- rdt.c: root is where resctrl is mounted, NULL: nowhere ---- */
struct json_object;
int rdt_mount_point(char **ret, struct error *e) _must_check_;
/* Whether the machine has what is asked for. */
int rdt_check(const char *root, const struct spec_intel_rdt *s, const char *id, struct error *e) _must_check_;
/* Finds or makes the group, and puts a process into it. What has been made is gone after a failure. */
int rdt_join(const char *root, const struct spec_intel_rdt *s, const char *id, pid_t pid, struct rdt *g,
	struct error *e) _must_check_;
/* The caller, who is about to become a process of the container. */
int rdt_enter(const struct rdt *g, struct error *e) _must_check_;
/* New schemata. *ret_old: what rdt_update_undo() wants, NULL for a new group; malloc'ed. */
int rdt_update(const char *root, struct container *c, const struct spec_intel_rdt *s, char **ret_old,
	struct error *e) _must_check_;
void rdt_update_undo(const char *root, struct container *c, const char *old);
int rdt_stats(const char *root, const struct rdt *g, struct json_object **ret, struct error *e) _must_check_;
/* The end of a container; of a create that failed. Nobody is in the group any more. */
int rdt_remove(const struct rdt *g, struct error *e) _must_check_;
void rdt_undo(const char *root, struct rdt *g);
void rdt_done(struct rdt *g);

/* ---- netdevices.c ---- */
/* From our network namespace into that of init. *ret is what has moved, also after a failure, and borrows from s. */
int net_devices_move(
	const struct spec *s, pid_t init, struct net_devices_moved **ret, struct error *e) _must_check_;
void net_devices_return(struct net_devices_moved *moved);

/* ---- seccomp.c, seccomp-cache.c, seccomp-enosys.c: program->filter is malloc'ed ---- */
enum {
	SECCOMP_INSTRUCTIONS_MAX = 4096, /* BPF_MAXINSNS */
	SECCOMP_FORM = 1,		 /* raised when the same profile gives another program */
};
/* The compiled profile, from the cache beside the state directory or by seccomp_compile(), and then kept there. */
int seccomp_program(int state_dir, const struct spec_seccomp *s, struct sock_fprog *program,
	struct error *e) _must_check_;
/* A file of the cache: 0 if it is whole and of that key, -ENOENT if it is of another. */
enum { SECCOMP_CACHE_CHECKSUM = 24 }; /* where the hash of all that follows it is */
int seccomp_cache_parse(
	const char *data, size_t len, const char *key, size_t key_len, struct sock_fprog *ret) _must_check_;
uint64_t seccomp_cache_hash(const void *data, size_t len);
/* ENOSYS for calls that are newer than the profile, before the rest of the program. */
int seccomp_add_enosys(const struct spec_seccomp *s, struct sock_fprog *program) _must_check_;
/* seccomp-notify.c: connects to the agent, if the profile has SCMP_ACT_NOTIFY; *ret is left alone otherwise. */
int seccomp_connect_agent(const struct spec_seccomp *s, int *ret, struct error *e) _must_check_;
/* Loads the filter and sends its listener over the socket, which is closed then. pid: the caller's, as the host sees it. */
int seccomp_load_with_agent(const struct sock_fprog *program, const struct spec_seccomp *s, int socket,
	const struct oci_state *state, pid_t pid, struct error *e) _must_check_;
/* libseccomp's number of "SCMP_ARCH_X86_64"; 0: not known. */
uint32_t seccomp_architecture(const char *oci_name);

/* ---- hooks.c ---- */
/* As hooks and the seccomp agent are told; borrows from both. */
struct oci_state container_oci_state(
	const struct container *c, const struct spec *s, enum container_status status, pid_t pid);
int hooks_run(const struct spec *s, const struct container *c, enum hook_type type,
	enum container_status status, pid_t pid, struct error *e) _must_check_;

/* ---- state.c ---- */
/* state-json.c: fills c from state.json and mountinfo; a missing state.json is not an error. */
int state_read(struct container *c, struct error *e) _must_check_;
/* Makes <root>/<id>, locked. */
int state_create_dir(const char *root, const char *id, struct container **ret, struct error *e) _must_check_;
/* The state root, if it is not there yet. */
int state_make_root(const char *root) _must_check_;
void state_remove_dir(struct container *c);

/* membership.c: c->sandbox and c->name; then its file among the sandbox's members, which goes with the state directory. annotated:
 * the sandbox is known by annotations, and so its root may be a container without them. membership_adopted() is for that one, when
 * its state says nothing of a sandbox. */
int membership_decide(struct container *c, const struct spec *s, const struct container_create_options *o,
	struct error *e) _must_check_;
int membership_enter(struct container *c, bool annotated, struct error *e) _must_check_;
int membership_adopted(struct container *c) _must_check_;
void membership_leave(const struct container *c);
/* c->stdio from /proc/<pid>/fd. */
int state_record_stdio(struct container *c, pid_t pid, struct error *e) _must_check_;
/* c->mountinfo from /proc/<init>, and into the state directory. It is there when a container is complete. */
int state_record_mounts(struct container *c, struct error *e) _must_check_;
int write_pid_file(const char *path, pid_t pid, struct error *e) _must_check_;
/* Connects to the start socket: fd, or negative errno (-ECONNREFUSED, -ENOENT: nobody waits there). */
int start_socket_connect(const struct container *c) _must_check_;
int start_socket_listen(const struct container *c, struct error *e) _must_check_;
