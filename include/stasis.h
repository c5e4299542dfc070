/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libstasis: containers from a program of yours. Link with -lstasis (pkg-config stasis); examples/embed.c shows a whole life.
 *
 * What only looks at a container or signals it is done in your process: state, statistics, signals, pause, resume, wait.
 * What makes processes (create, start, exec, delete, checkpoint, restore) is done by the program "stasis", which the
 * library starts: a container must never be a copy of your program with all of its memory, and your program may have
 * threads. State is on disk, so that the command line, other programs and this library see the same containers.
 *
 * Conventions
 * - Functions return 0 or a negative errno (marked otherwise where it is not so), and then *e, unless NULL, says what
 *   failed and what to do about it. Out-parameters (ret...) are left alone on failure.
 * - Strings and arrays that you are given are malloc'ed: free(). What you pass is borrowed for the call only.
 * - Structs of options begin with their size, so that programs built against an older header go on working: set it by
 *   STASIS_OPTIONS(type, ...). Members that are 0 or NULL have the default.
 * - Different handles may be used by different threads at once; one handle by one thread at a time.
 * - The library keeps no descriptors inheritable, changes no signal dispositions and installs no handlers.
 */
#ifndef STASIS_H
#define STASIS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STASIS_OPTIONS(type, ...) (&(const struct type){.size = sizeof(struct type), __VA_ARGS__})

enum stasis_error_kind {
	STASIS_ERROR_SYSTEM,  /* a system call failed */
	STASIS_ERROR_USAGE,   /* an argument is wrong */
	STASIS_ERROR_CONFIG,  /* config.json says something impossible */
	STASIS_ERROR_KERNEL,  /* this kernel lacks something that is needed */
	STASIS_ERROR_REFUSED, /* a checkpoint would not be faithful; see stasis_check() */
	STASIS_ERROR_STATE, /* not possible in the container's present state: unknown, not running, exists already ... */
	STASIS_ERROR_CORRUPT,  /* an image or state file is damaged */
	STASIS_ERROR_INTERNAL, /* a bug */
};

struct stasis_error {
	int code; /* negative errno: what the function returned */
	enum stasis_error_kind kind;
	char message[1000]; /* UTF-8, no newline */
};

/* "0.1.0" */
const char *stasis_version(void);

/* ---- where the containers are ---- */

struct stasis_options {
	size_t size;
	const char *root;    /* state directory; default: $XDG_RUNTIME_DIR/stasis, for root /run/stasis */
	const char *program; /* default: the one that was installed with this library */
	bool systemd_cgroup; /* cgroup paths are slice:prefix:name */
};

struct stasis;
int stasis_open(const struct stasis_options *o, struct stasis **ret, struct stasis_error *e);
/* Handles of containers live on. NULL is allowed. */
void stasis_close(struct stasis *s);

/* The ids of all containers, sorted, in one allocation that ends with a NULL. */
int stasis_list(struct stasis *s, char ***ret, size_t *ret_n, struct stasis_error *e);

/* ---- containers ---- */

enum stasis_status {
	STASIS_CREATING, /* being made, or left over from one that was killed */
	STASIS_CREATED,	 /* waits for stasis_start() */
	STASIS_RUNNING,
	STASIS_PAUSED,
	STASIS_STOPPED
};

struct stasis_create_options {
	size_t size;
	const char *bundle;	    /* directory with config.json; default: the working directory */
	const int *stdio;	    /* the container's three; -1: /dev/null. Default: yours */
	const char *console_socket; /* with "terminal": gets the master of the terminal */
	bool no_pivot, no_new_keyring;
};

struct stasis_container; /* a handle: it names a container, and does not keep it alive */

int stasis_create(struct stasis *s, const char *id, const struct stasis_create_options *o,
	struct stasis_container **ret, struct stasis_error *e);
/* One that exists. -ENOENT: there is none of that id. */
int stasis_load(struct stasis *s, const char *id, struct stasis_container **ret, struct stasis_error *e);
/* Frees the handle; the container is left alone. NULL is allowed. */
void stasis_free(struct stasis_container *c);

const char *stasis_id(const struct stasis_container *c);
int stasis_status(struct stasis_container *c, enum stasis_status *ret, struct stasis_error *e);
/* The host's pid of its first process; -ESRCH when it is stopped. */
int stasis_pid(struct stasis_container *c, pid_t *ret, struct stasis_error *e);
/* The OCI state document, as "stasis state" prints it. */
int stasis_state_json(struct stasis_container *c, char **ret, struct stasis_error *e);
/* What it uses, as the "data" of "stasis events --stats". */
int stasis_stats_json(struct stasis_container *c, char **ret, struct stasis_error *e);
/* The host's pids of all its processes. */
int stasis_processes(struct stasis_container *c, pid_t **ret, size_t *ret_n, struct stasis_error *e);

int stasis_start(struct stasis_container *c, struct stasis_error *e);
/* all: every process of the container, else the first one */
int stasis_signal(struct stasis_container *c, int sig, bool all, struct stasis_error *e);
int stasis_pause(struct stasis_container *c, struct stasis_error *e);
int stasis_resume(struct stasis_container *c, struct stasis_error *e);
/* Changes limits; a JSON object as config.json's linux.resources. All of it, or on failure nothing. */
int stasis_update(struct stasis_container *c, const char *resources_json, struct stasis_error *e);
/* Removes a stopped container; force: kills it first. The handle is still to be freed. */
int stasis_delete(struct stasis_container *c, bool force, struct stasis_error *e);

/*
 * Waits for the end of the container's first process. Returns 0 with *ret_status as of waitpid(2), or 1 when it did not end
 * within timeout_ms (-1: no limit). Works for a container that this handle has known alive. The status is known if the
 * kernel is 6.15 or newer, or your program is the container's parent: be a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER)
 * before it is made. Otherwise -ENODATA: it has ended, and how is not known. When you are the parent, this reaps it.
 */
int stasis_wait(struct stasis_container *c, int timeout_ms, int *ret_status, struct stasis_error *e);

/* ---- further processes ---- */

struct stasis_exec_options {
	size_t size;
	const char *const *args; /* NULL-terminated; or, instead of all up to user: */
	const char *process;	 /* a file with an OCI process, as process.json */
	const char *cwd;
	const char *const *env; /* NULL-terminated, in addition to the container's */
	const char *user;	/* "UID[:GID]" */
	const int *stdio;	/* as of stasis_create() */
	bool tty;
	const char *console_socket; /* with tty */
};

struct stasis_process;

/* Returns when the program runs. */
int stasis_exec(struct stasis_container *c, const struct stasis_exec_options *o, struct stasis_process **ret,
	struct stasis_error *e);
void stasis_process_free(struct stasis_process *p); /* which runs on */
pid_t stasis_process_pid(const struct stasis_process *p);
int stasis_process_pidfd(const struct stasis_process *p); /* borrowed: for poll(2) */
int stasis_process_signal(struct stasis_process *p, int sig, struct stasis_error *e);
/* As stasis_wait(). */
int stasis_process_wait(struct stasis_process *p, int timeout_ms, int *ret_status, struct stasis_error *e);

/* ---- checkpoint and restore ---- */

struct stasis_checkpoint_options {
	size_t size;
	const char *image_path; /* required: a new or empty directory */
	const char *work_path;	/* for logs; default: the image's */
	bool leave_running;	/* else the container is deleted when its image is complete */
	/* As the options of "stasis checkpoint", see stasis(8): */
	bool tcp_established, tcp_close, tcp_skip_in_flight, ext_unix_sk, file_locks;
	const char *manage_cgroups_mode, *empty_ns;
	const char *compress;
	bool dedup;
	const char *pre_copy; /* "yes", a number of rounds, or milliseconds as in "20ms" */
	const char *
		patience; /* how long what passes by itself is waited for: seconds as in "3", or milliseconds as in "200ms" */
};

/* What stands in the way of a faithful checkpoint, as JSON (see "stasis check --format json"). Returns 0: nothing; 1: something. */
int stasis_check(struct stasis_container *c, char **ret_json, struct stasis_error *e);
/* On failure the container runs on as before, and nothing half-written is left. */
int stasis_checkpoint(
	struct stasis_container *c, const struct stasis_checkpoint_options *o, struct stasis_error *e);

struct stasis_restore_options {
	size_t size;
	struct stasis_create_options create; /* its size need not be set */
	const char *image_path;		     /* required */
	const char *work_path;
	/* As the options of "stasis restore": */
	bool tcp_established, tcp_close;
	const char *manage_cgroups_mode, *empty_ns, *lsm_profile;
	/* "yes": the program runs at once, and gets its memory as it touches it and in the background; "no"; "auto", the default, decides by
	 * the size. */
	const char *lazy;
	const char *
		spec_check; /* "warning" or "ignore": whether the bundle's config.json may have other kinds of namespaces */
};

/* A new container, which goes on where the checkpointed one stood. */
int stasis_restore(struct stasis *s, const char *id, const struct stasis_restore_options *o,
	struct stasis_container **ret, struct stasis_error *e);

/* Waits until a container that was restored lazily has all of its memory: 0; 1: not within timeout_ms (-1: no limit). Negative: it never will,
 * *e says why, and the container has been killed. Of any other container 0 at once. */
int stasis_wait_restore(struct stasis_container *c, int timeout_ms, struct stasis_error *e);

/* ---- the control socket of a sandbox (docs/control.md) ---- */

struct stasis_control; /* a connection: one call at a time */

/* make: the sandbox need not be there yet; without a container it stays for some seconds. -ENOENT: there is none. Its supervisor is started
 * if there is none. */
int stasis_control_open(struct stasis *s, const char *sandbox, bool make, struct stasis_control **ret,
	struct stasis_error *e);
/* Ends what goes on, as docs/control.md says. NULL is allowed. */
void stasis_control_close(struct stasis_control *c);
/* Borrowed, for poll(2): readable when (some of) a reply is there. */
int stasis_control_fd(const struct stasis_control *c);

/* Calls a method and waits for its reply. method: "io.stasis.Sandbox.List"; parameters: a JSON object, NULL: none; *ret_json (unless NULL): the
 * reply's parameters, a JSON object. An error reply is an error, of a code and kind as near as there is: stasis_control_error(). */
int stasis_control_call(struct stasis_control *c, const char *method, const char *parameters, char **ret_json,
	struct stasis_error *e);
/* The full name of the last error reply, as "io.stasis.Sandbox.ContainerNotFound"; "": there was none. */
const char *stasis_control_error(const struct stasis_control *c);

/* The same in two steps, for streams, descriptors, and for not waiting. */
struct stasis_call_options {
	size_t size;
	const char *method; /* required */
	const char *parameters;
	const int *fds; /* go with it, and stay yours */
	size_t n_fds;
	bool more;   /* several replies are wanted */
	bool oneway; /* none is wanted */
};
int stasis_control_send(
	struct stasis_control *c, const struct stasis_call_options *o, struct stasis_error *e);
/* Waits for the next reply. 1: it is not the last one. */
int stasis_control_receive(struct stasis_control *c, char **ret_json, struct stasis_error *e);

#ifdef __cplusplus
}
#endif

#endif
