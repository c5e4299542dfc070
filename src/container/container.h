/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lifecycle of one container. On disk a container is the directory <root>/<id> (0700) with state.json, the socket
 * start.sock while it is created, mountinfo and a copy of config.json. The status is never stored: it is derived from
 * the init process (pid and start time, so that a reused pid is never taken for it), the socket and the freezer.
 */
#pragma once

#include <linux/filter.h>
#include "base/error.h"
#include "cgroup/cgroup.h"
#include "oci/spec.h"

enum container_status {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,
	CONTAINER_STOPPED
};
const char *container_status_name(enum container_status s); /* "creating", ... */

/* The group in resctrl (linux.intelRdt). */
struct rdt {
	char *group;	/* its directory; NULL: none */
	char *monitor;	/* the directory of its monitoring group, which is ours; NULL: none */
	uint64_t inode; /* of the group when it is ours, and goes with the container; else 0 */
	bool made;	/* the creating process only: it was not there before */
};

/* Of this container and those that it was restored of: checkpoints that were begun, and that failed. One that was killed has
 * been begun. */
struct container_attempts {
	uint64_t checkpoints, failed;
	uint64_t completed; /* of this container alone */
};

/* What state.json records (mission.md row A2). Strings are malloc'ed, freed by container_free(). */
struct container {
	char *root; /* the state root, absolute */
	char *id;
	int dir_fd;  /* <root>/<id> */
	int lock_fd; /* flock()ed: commands on one container exclude each other; -EBADF: not locked */
	char *bundle;
	char *created;		  /* RFC 3339, UTC */
	pid_t init_pid;		  /* host pid; 0 before clone */
	uint64_t init_start_time; /* /proc/PID/stat field 22 */
	char boot_id[40];	  /* of the boot that init_pid and init_start_time belong to */
	uid_t owner;
	bool rootless;
	bool own_keyring; /* create has made it a session keyring (unless the kernel has none) */
	char *stdio[3]; /* what fds 0-2 were at create or restore: readlink text ("/dev/null", "pipe:[1]") */
	char *console_socket; /* NULL: none was given */
	char *mountinfo; /* /proc/<init>/mountinfo right after set-up: what is there besides was mounted by the container */
	char *sandbox, *name; /* the sandbox that it is in, and its name there (membership.c); NULL: none */
	uint64_t generation;  /* 0 when created, +1 at each restore */
	struct container_attempts attempts; /* in a file of their own: container_read_attempts() */
	bool restoring; /* a restore that has not come to its end: no program of it runs yet */
	bool starting;	/* the creating process only: made with "start" */
	bool announced; /* the creating process only: others know of init, and wait for its end: it is theirs to reap */
	int start_fd; /* the creating process only, of a restore that waits: container_receive_start(); else -EBADF */
	int interrupt_fd; /* while it is made: readable when the command was told to end; else -EBADF */
	int init_fd;	  /* the creating process only: init's error socket, see container_init_error() */
	int notify_fd;	  /* the creating process only: container_notify_listen() of a "start"; else -EBADF */
	struct net_devices_moved *net_devices; /* the creating process only: see container_settle() */
	struct cgroup cgroup;
	struct rdt rdt;
	struct spec *spec; /* parsed from the state directory's copy of config.json; NULL until asked for */
};

struct timens_offset {
	bool present;
	int64_t monotonic_sec, boottime_sec;
	int32_t monotonic_nsec, boottime_nsec;
};

/* Descriptors from number 3 on that the program finds by LISTEN_FDS and LISTEN_FDNAMES, sd_listen_fds(3). */
struct listen_fds {
	int n;
	const char *names; /* NULL: none */
};

/* Of the caller's terminal, instead of process.consoleSize; 0: unknown. Set before the program starts. */
struct console_size {
	uint16_t height, width;
};

/* A bundle's config.json, as it was read once: what was checked is what is used. */
struct container_config {
	char *text; /* malloc'ed */
	size_t len;
	struct spec *spec;
};
struct container_create_options;
int container_read_config(
	const struct container_create_options *o, struct container_config *ret, struct error *e) _must_check_;
void container_config_done(struct container_config *c);

struct container_create_options {
	const char *root, *id, *bundle;
	const char *config;	       /* NULL: config.json in the bundle */
	struct container_config *read; /* by container_read_config(), and taken over; NULL: it is read */
	const char *pid_file, *console_socket; /* NULL: none */
	int console_fd; /* > 2: a connected unix socket that gets the terminal's master, instead of console_socket */
	struct console_size console_size;
	const char *pidfd_socket;     /* NULL: none */
	int preserve_fds;	      /* from number 3 on */
	struct listen_fds listen_fds; /* the first of these */
	bool notify;		      /* a NOTIFY_SOCKET for the program: container_notify_listen() */
	bool start; /* run: init does not wait; container_start() must follow at once, and says how its exec went */
	const char *sandbox, *name; /* instead of what annotations say of a sandbox; NULL */
	bool no_pivot, no_new_keyring;
	enum cgroup_manager cgroup_manager;
	bool rootless; /* the caller may have no privilege over cgroups */
	/* Restore only. init calls restore_init() in the container when all is set up (namespaces, mounts, pivot_root,
	 * hostname, sysctls, terminal and stdio on fds 0-2), still with every capability and no seccomp filter; it does
	 * not return on success. rlimits, credentials, seccomp and cwd are then the image's business. NULL: create. */
	int (*restore_init)(void *arg, struct error *e);
	/* In the parent, when init has its namespaces, and before hooks and network devices. Only if there are such. */
	int (*restore_namespaces)(void *arg, pid_t init_pid, struct error *e);
	void *restore_arg;
	pid_t restore_pid;	     /* of init, in the pid namespace that it joins; 0: any */
	int *restore_console;	     /* init leaves there the master of the terminal, if there is one */
	struct timens_offset timens; /* present: a time namespace with these offsets */
	/* The restore waits before the program goes on: the container is "created" meanwhile, and who starts it speaks with us
	 * (c->start_fd). A time namespace is restore_init's business then. */
	bool restore_waits;
	uint64_t generation;
	struct container_attempts attempts;
};

/*
 * Makes sure that the running program is a read-only one, by executing it again (with the same argv) through a read-only
 * mount of itself: a container's root that reaches /proc/PID/exe of a process of ours (CVE-2019-5736) can't write to it.
 * First thing in every command that puts a process into a container. Returns 0 when it is so, or could not be made so.
 */
int container_protect_runtime(char **argv, struct error *e) _must_check_;

/* Builds the container up to "created": the init process exists and waits on its start socket (or is in restore_init).
 * On failure everything made is undone. *ret: container_free(); it holds the container's lock, see container_unlock().
 * Hooks prestart, createRuntime, createContainer run. The caller must be single-threaded.
 * SIGINT, SIGTERM, SIGHUP and SIGQUIT undo it (-EINTR); after a success they stay blocked in the caller.
 * What restore_init finds: every descriptor of the caller (close-on-exec, but there is no exec: it closes what is not
 * its own); cwd "/"; default signal dispositions, an empty mask; its own session; no dumpable flag. */
int container_create(
	const struct container_create_options *o, struct container **ret, struct error *e) _must_check_;
/* After container_create() with restore_init, in the process that called it: 0 while init has reported nothing, or
 * init's error (negative errno, *e filled) when restore_init returned; 1 when init has closed the socket (its death, or
 * restore_init having closed it with the other descriptors). Does not block. */
int container_init_error(struct container *c, struct error *e) _must_check_;
/* After a restore: c->mountinfo as it is to be kept (malloc'd, taken over). */
int container_keep_mounts(struct container *c, char *mountinfo, struct error *e) _must_check_;
/* Kills init and everything in the cgroup, and removes all that container_create() made: the undo of a restore. */
void container_abort(struct container *c);
/* Nothing more is to fail: what an abort would put back (network devices) is the container's for good. */
void container_settle(struct container *c);
/* Of a restore that waits (c->start_fd is readable): 1 and *ret, where who wants it started awaits an answer; 0: nobody. */
int container_receive_start(struct container *c, int *ret) _must_check_;
/* NULL: it runs. Closes fd. */
void container_answer_start(int fd, const struct error *failure);
/* Nobody else can start it. */
void container_end_waiting(struct container *c);
/* Lets other commands at the container, e.g. while the caller waits for its end. */
void container_unlock(struct container *c);
/* Takes it again (waits); -ENOENT, ERROR_STATE when the container was deleted meanwhile. */
int container_lock(struct container *c, struct error *e) _must_check_;
/* In its state directory, where a container waits until it is started. */
#define CONTAINER_START_SOCKET "start.sock"
/* Tells init to exec; startContainer and poststart hooks. STATE unless created. When a poststart hook fails, the container
 * is deleted (and *c knows it: container_delete() once more does no harm). */
int container_start(struct container *c, struct error *e) _must_check_;

/*
 * sd_notify(3). listen: before the program starts, the socket to which it says that it is ready (non-blocking; -EBADF: the
 * container was created without). ready: whether it has said so. host: passes that on to our own NOTIFY_SOCKET, with the
 * pid if it is not 0. relay: waits for ready, or the container's end, and passes it on with init's pid.
 */
int container_notify_listen(struct container *c, struct error *e) _must_check_;
bool container_notify_ready(int fd);
int container_notify_host(const char *path, pid_t main_pid, struct error *e) _must_check_;
int container_notify_relay(struct container *c, int fd, const char *path, struct error *e) _must_check_;

/* Loads <root>/<id>; ERROR_STATE 'container does not exist: ID' if it is not there. lock: take the lock (waits). */
int container_load(
	const char *root, const char *id, bool lock, struct container **ret, struct error *e) _must_check_;
/* Parses the kept config.json into c->spec unless it is there. */
int container_load_spec(struct container *c, struct error *e) _must_check_;
/* seccomp.c: program->filter is malloc'ed. It takes milliseconds. */
int seccomp_compile(const struct spec_seccomp *s, struct sock_fprog *program, struct error *e) _must_check_;
/* seccomp-kept.c: the filter that its processes have loaded, where the kernel shows it to nobody who may be asked: of an
 * ordinary user's. kept: 1 if there is none; ret->filter is malloc'ed. */
int container_keep_filter(
	const struct container *c, const struct sock_fprog *p, struct error *e) _must_check_;
/* Of a process that is restored: to the agent of linux.seccomp.listenerPath, as create does. pid: of the process, as the host sees it. */
int container_send_listener(struct container *c, int listener, pid_t pid, struct error *e) _must_check_;
int container_kept_filter(const struct container *c, struct sock_fprog *ret, struct error *e) _must_check_;
/* Writes state.json: write, fsync, rename. */
int container_save(struct container *c, struct error *e) _must_check_;
enum container_status container_status(const struct container *c);
/* A pidfd of init, verified against the start time, or -ESRCH. Caller closes. */
int container_init_pidfd(const struct container *c);
/* All processes (or threads) of the container; *ret is malloc'ed. */
int container_pids(
	const struct container *c, bool threads, pid_t **ret, size_t *ret_n, struct error *e) _must_check_;
/* Those in the pid namespace of init, by a look that takes a fraction of the time, for a container without a cgroup. */
int container_pids_quickly(
	const struct container *c, pid_t **ret, size_t *ret_n, struct error *e) _must_check_;
/* Without a cgroup: also whether tasks of the machine have ended meanwhile, whose children may be missing. */
int container_pids_found(const struct container *c, bool threads, pid_t **ret, size_t *ret_n,
	bool *ret_vanished, struct error *e) _must_check_;

/* The number of a process in the pid namespace of the container's init: 0 if it is in another one that this does not see. */
int container_pid_inside(const struct container *c, pid_t pid) _must_check_;
/* The process of the container that has this number there: a pidfd, and its pid on the host. -ESRCH, ERROR_STATE: there is none. */
int container_find_process(const struct container *c, pid_t inside, pid_t *ret_pid, int *ret_pidfd,
	struct error *e) _must_check_;

/*
 * filling.c: the memory of a restored container that is still on its way, while its program runs already. The file "filling" is
 * in the state directory then; whoever fills the memory holds a lock on it. After a failure, of which the container dies,
 * it stays and says why.
 */
/* *ret: the file, locked, as long as any process has this descriptor. */
int container_filling_begin(const struct container *c, int *ret, struct error *e) _must_check_;
/* By a holder: it is complete (the file goes), or has failed. dir_fd: c->dir_fd. */
void container_filling_end(int dir_fd, int fd, const struct error *failure);
/* Negative: it has failed, *e says why. */
int container_filling_failure(const struct container *c, struct error *e) _must_check_;
/* Waits until all memory is there (timeout_ms: -1 for ever). -ETIMEDOUT, or why it never will be. If those who fill it are
 * gone without a word the container is killed. */
int container_filling_wait(struct container *c, int timeout_ms, struct error *e) _must_check_;

int container_kill(struct container *c, int sig, bool all, struct error *e) _must_check_;
/* The foreground process group of the terminal that this process (of the container; its pid on the host) has. */
int container_kill_foreground(struct container *c, pid_t pid, int sig, struct error *e) _must_check_;
int container_pause(struct container *c, struct error *e) _must_check_;
int container_resume(struct container *c, struct error *e) _must_check_;
/* Changes limits of a container that runs: all of them, or on failure none. rdt: the schemata of its group in resctrl, to
 * which it comes if it is in none; NULL: leave. */
int container_update(struct container *c, const struct spec_resources *resources,
	const struct spec_intel_rdt *rdt, struct error *e) _must_check_;
/* Adds mounts (a spec's .mounts) to a container that runs, all or none; or unmounts their destinations. */
int container_mounts(struct container *c, const struct spec *mounts, bool add, struct error *e) _must_check_;
/* The OCI state document, with the members that runc adds. Caller frees *ret. */
int container_state_json(struct container *c, char **ret, struct error *e) _must_check_;
/* What it has used, as the "data" of runc's `events --stats`: cgroup, resctrl and network interfaces. Caller frees *ret. */
int container_stats_json(struct container *c, char **ret, struct error *e) _must_check_;
/* Removes a stopped container; force: kills first. poststop hooks. */
int container_delete(struct container *c, bool force, struct error *e) _must_check_;
/* Runs hooks of a type with the state on stdin (runtime namespace). */
int container_run_hooks(struct container *c, enum hook_type type, struct error *e) _must_check_;

/* application.c: what a container is told, and may ask for (docs/application.md), by the annotations io.stasis.application* and
 * io.stasis.hooks.*. */
#define CONTAINER_APPLICATION "/run/stasis"
#define CONTAINER_APPLICATION_ENVIRONMENT "environment"
#define CONTAINER_APPLICATION_SOCKET "socket"
enum application_hook { APPLICATION_SAVE, APPLICATION_RESUME, APPLICATION_RESTORE, APPLICATION_HOOKS };
struct application {
	bool present;			 /* there is CONTAINER_APPLICATION */
	const char *image_path;		 /* for checkpoints that it asks for, absolute; NULL: it may not */
	const char *sandbox_image_path;	 /* the same for those of its whole sandbox */
	char **options;			 /* of these, NULL-terminated; NULL: none */
	bool leave_running;		 /* after these */
	unsigned interval;		 /* seconds between two of these */
	char **hooks[APPLICATION_HOOKS]; /* commands, NULL-terminated; NULL: none */
	unsigned timeout;		 /* of a hook, seconds */
};
enum { APPLICATION_OPTIONS_MAX = 64 };
/* All of it in the arena; ERROR_CONFIG names the annotation. */
int container_application(
	const struct spec *s, struct arena *a, struct application *ret, struct error *e) _must_check_;
/* The directory that is the container's CONTAINER_APPLICATION; -ENOENT: it has none. */
int container_open_application(const struct container *c);
/* c->attempts from the state directory: nothing that is worth an error. */
void container_read_attempts(struct container *c);
/* The file that they are in, of the container of this state directory, which stays good when it is deleted; -ENOENT: there were none.
 * What it says now; false: nothing. */
int container_open_attempts(int dir_fd) _must_check_;
bool container_attempts_in(int fd, struct container_attempts *ret);
enum container_attempt { ATTEMPT_BEGINS, ATTEMPT_FAILED, ATTEMPT_COMPLETED };
int container_count_attempt(struct container *c, enum container_attempt what, struct error *e) _must_check_;

void container_free(struct container *c);
static inline void container_free_p(struct container **c)
{
	container_free(*c);
}

/* Sandboxes are below the state root, where no container can be called so: <root>/@sandboxes/<sandbox>/members/<id> holds the
 * name of a member. */
#define CONTAINER_SANDBOXES "@sandboxes"
#define CONTAINER_MEMBERS "members"
/* Beside it, the supervisor's (src/sandbox): held while it lives; where it listens; how members ended. */
#define CONTAINER_SUPERVISOR_LOCK "supervisor.lock"
#define CONTAINER_CONTROL_SOCKET "control.sock"
#define CONTAINER_EXITS "exits"
#define CONTAINER_RESTORES "restores" /* what container_count_restore() counts; the supervisor makes it */
#define CONTAINER_NAME_OF_ROOT                                                                               \
	"POD" /* of the container that a sandbox begins with, if nothing else is said */
/* The sandbox and the name in it that a container of these options and this spec has; NULL: none. malloc'ed. */
int container_find_sandbox(const struct container_create_options *o, const struct spec *s, char **ret_sandbox,
	char **ret_name, struct error *e) _must_check_;
/* Whether another member of its sandbox lives in its pid namespace: one of them. */
bool container_has_guest(const struct container *c, struct container **ret);
/* The member of the sandbox that has this name and lives; -ENOENT: there is none. */
int container_find_member(const char *root, const char *sandbox, const char *name, struct container **ret,
	struct error *e) _must_check_;
/* Restores of containers into a sandbox, as long as there is one with a supervisor. */
struct sandbox_restores {
	uint64_t all, failed;
};
void container_count_restore(const char *root, const char *sandbox, bool failed);
/* False: there is nothing that counts. sandbox_fd: container_open_sandbox(). */
bool container_read_restores(int sandbox_fd, struct sandbox_restores *ret);
/* The sandbox's directory, or a negative errno. make: if it is not there yet. */
int container_open_sandbox(const char *root, const char *sandbox, bool make);
/* Removes the sandbox's directory, if no member and nothing of a supervisor is in it. */
void container_tidy_sandbox(const char *root, const char *sandbox);

/* Checks an id: [A-Za-z0-9_+.-]{1,1024}, not "." or "..". */
int container_id_check(const char *id, struct error *e) _must_check_;

/* What is to be otherwise than in the container's own process. */
struct exec_change {
	char **args;					   /* NULL-terminated; needed */
	const char *cwd, *user, *apparmor, *process_label; /* user: "UID[:GID]"; NULL: as it is */
	const char *const *env, *const *capabilities;	   /* in addition */
	const gid_t *groups;
	size_t n_env, n_capabilities, n_groups;
	bool no_new_privileges, terminal;
};
/* *ret lives with c->spec; the strings are borrowed. */
int container_exec_process(struct container *c, const struct exec_change *x, struct spec_process **ret,
	struct error *e) _must_check_;

struct exec_options {
	const struct spec_process
		*process; /* capabilities, LSM labels, umask ...: by default the container's */
	const char *pid_file, *console_socket;
	int console_fd; /* > 2: as in container_create_options */
	struct console_size console_size;
	const char *pidfd_socket; /* NULL: none */
	bool detach;
	bool ignore_paused;
	int preserve_fds;
	struct cgroup_subs cgroups; /* none: the container's */
	const int *stdio;	    /* what its descriptors 0-2 are; NULL: ours */
	bool dies_with_caller;	    /* is killed when we are */
};
/* Runs a process in the container: a child of the caller, whose pidfd is *ret_pidfd (the caller closes it, and reaps the
 * child unless it exits first). Returns when the program has been exec'ed, or with the error of why not. */
int container_exec(struct container *c, const struct exec_options *o, pid_t *ret_pid, int *ret_pidfd,
	struct error *e) _must_check_;
