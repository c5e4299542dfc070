/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line as tables: one file a command (cmd-*.c), each with a const table of options that fills a struct of
 * its own. Help, completions (`__options`) and the checks of the manual come from the same tables.
 */
#pragma once

#include "base/error.h"
#include "container/container.h"

enum cli_kind {
	CLI_FLAG,   /* bool */
	CLI_STRING, /* const char * */
	CLI_MODE,   /* likewise, but its value only after "=": without one it is "yes" */
	CLI_NUMBER, /* int, >= 0 */
	CLI_LIST,   /* struct cli_list: may be given many times */
	CLI_IGNORED_FLAG,
	CLI_IGNORED_STRING, /* taken for compatibility, without meaning here */
};

struct cli_option {
	const char *name; /* without dashes; NULL ends a table */
	char letter;	  /* 0: none */
	enum cli_kind kind;
	size_t offset; /* in the command's struct */
	const char *argument, *help;
};

/* What it lists is in argv; freed by cli_done(). */
struct cli_list {
	const char **v;
	size_t n;
};

struct cli_globals {
	const char *root, *log, *log_format, *log_level, *cgroup_manager, *rootless;
	bool debug, systemd_cgroup, version, help;
};

enum { CLI_OPTIONS_SIZE = 2048 };

struct cli_command {
	const char *name, *arguments, *summary;
	const struct cli_option *options;
	int min_args, max_args; /* -1: any number */
	bool options_first;	/* what follows the first argument is not ours (exec, ps) */
	bool hidden;
	bool enters_container; /* puts a process of ours into a container: container_protect_runtime() */
	/* An exit status, or a negative errno with *e filled. args ends with NULL. */
	int (*run)(
		const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e);
};

/* Ends with a command without a name. */
extern const struct cli_command *const cli_commands[];
extern const struct cli_option cli_global_options[];

/* Parses argv (after the command's name) into *out; *ret_args: the rest. 1: --help was asked for. */
int cli_parse(const struct cli_option *options, bool options_first, int argc, char **argv, void *out,
	char **ret_args, int *ret_n, struct error *e) _must_check_;
/* Frees what cli_parse() has put into *out. */
void cli_done(const struct cli_option *options, void *out);
void cli_print_help(const struct cli_command *c);
void cli_print_global_help(void);
/* "SIGTERM", "term" or "15" to a number; -EINVAL with *e. */
int cli_parse_signal(const char *s, struct error *e) _must_check_;
/* As Go's strconv.ParseBool: "true", "t", "1" and their opposites. */
int cli_parse_bool(const char *s, bool *ret) _must_check_;
/* Whether to do without root's privileges: what --rootless says, else who we are. */
bool cli_is_rootless(const struct cli_globals *g);
/* A decimal number without sign up to max. */
int cli_parse_number(const char *s, uint64_t max, uint64_t *ret) _must_check_;
/* Seconds, as struct watchdog_allowance has them; text NULL: the default. */
int cli_parse_watchdog(const char *option, const char *text, unsigned *ret, struct error *e) _must_check_;
/* "5" or "500ms", not 0; text NULL: *ret_ms stays. */
int cli_parse_moment(const char *option, const char *text, unsigned *ret_ms, struct error *e) _must_check_;

/* Calls f for each container whose id matches the (extended) regular expression; the last error is the result, those
 * before it are logged. */
int cli_for_matching(const char *root, const char *pattern,
	int (*f)(const char *id, void *arg, struct error *e), void *arg, struct error *e) _must_check_;
/* Whether n descriptors from number "from" on have been given to us by our caller. */
int cli_check_preserved(int from, int n, struct error *e) _must_check_;
/* What systemd's socket activation has given to us; none: n is 0. */
int cli_listen_fds(struct listen_fds *ret, struct error *e) _must_check_;

/*
 * Waits for a process of ours in the foreground (foreground.c): signals are passed on, orphans reaped, a terminal's
 * master (-EBADF: none) relayed to our own. *ret_status: as an exit status, 128 + signal when it was killed.
 */
struct foreground {
	int signals; /* signalfd */
	int notify;  /* the container's NOTIFY_SOCKET, borrowed; -EBADF: none, or it is ready */
	sigset_t old_mask;
};
/* Of our terminal, 0 by 0 if stdin is none. */
struct console_size foreground_size(void);
int foreground_begin(struct foreground *f, struct error *e) _must_check_;
int foreground_wait(struct foreground *f, pid_t pid, int pidfd, int master, int *ret_status,
	struct error *e) _must_check_;
void foreground_end(struct foreground *f);

/* How a foreground container comes into being: make() creates it (run) or restores it, start() may be NULL. */
struct foreground_container {
	int (*make)(void *arg, const struct container_create_options *create, struct container **ret,
		struct error *e);
	void *arg;
	int (*start)(struct container *c, struct error *e);
	bool keep, no_subreaper;
};
/* The container's exit status (128 + signal), or a negative errno. */
int foreground_container(struct container_create_options *create, const struct foreground_container *how,
	struct error *e) _must_check_;
/* Of a member of a sandbox: it gets a supervisor if it has none. Only a warning if not: containers do not depend on it. */
void cli_supervise(const struct container *c);
/* Kills and deletes it; an error is logged. */
void container_delete_quietly(struct container *c);
