/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the library share: its handles, the program that works for it, its errors. */
#pragma once

#include <stasis.h>

#include "base/error.h"
#include "container/container.h"

#define EXPORT __attribute__((visibility("default")))

struct stasis {
	char *root, *program;
	bool systemd_cgroup;
};

struct stasis_container {
	struct stasis runtime; /* a copy of its own */
	char *id;
	int pidfd; /* of the first process, from when we first saw it alive; -EBADF: never */
};

struct stasis_process {
	int pidfd;
	pid_t pid;
};

/* ---- handle.c ---- */
/* What e says, for the caller; returns r. */
int lib_error(int r, const struct error *e, struct stasis_error *ret);
/* Copies the first "size" bytes of an options struct of the caller, which may be of an older or newer header. */
int lib_options(void *to, size_t size, const void *from, struct error *e) _must_check_;
struct stasis_container *lib_container_new(const struct stasis *s, const char *id);
/* The container's record as it is now. */
int lib_record(struct stasis_container *c, bool lock, struct container **ret, struct error *e) _must_check_;

/* ---- program.c ---- */
struct program {
	const struct stasis *s;
	const char *args[64]; /* after the global options: the command first */
	size_t n;
	bool too_many;
	const int *stdio;  /* three; NULL: ours */
	const char *input; /* what is on its stdin instead of stdio[0] */
	char **ret_output; /* not NULL: what it printed to stdout, instead of stdio[1]; caller frees */
};
void program_add(struct program *p, const char *arg);
/* Both, unless value is NULL. */
void program_add_option(struct program *p, const char *name, const char *value);
void program_add_flag(struct program *p, const char *name, bool on);
/* Runs it to its end. Returns 0, or the error that it logged; a status without a logged error is returned positive. */
int program_run(const struct program *p, struct error *e) _must_check_;

/* ---- process.c ---- */
/* As stasis_wait(). */
int process_wait(int pidfd, int timeout_ms, int *ret_status, struct error *e) _must_check_;
