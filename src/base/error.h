/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How this project reports failure.
 *
 * Functions return 0 or a negative errno (preserved); expected outcomes are positive and documented. The last
 * parameter is a "struct error *e", owned by the caller, of a fixed size: filling it never allocates, it cannot
 * leak, and it may be written verbatim down a pipe to another process. Whoever fails first calls error_set() or
 * error_errno(); callers on the way up add context with error_prefix(). "e" may be NULL everywhere.
 *
 * The kind is in the JSON log; the exit status of a command is 1 whatever the kind (main.c).
 */
#pragma once

#include <errno.h>

#include "base/util.h"

enum error_kind {
	ERROR_SYSTEM,	/* a system call failed */
	ERROR_USAGE,	/* the command line is wrong */
	ERROR_CONFIG,	/* config.json, process.json or options say something impossible */
	ERROR_KERNEL,	/* this kernel lacks something that is needed */
	ERROR_REFUSED,	/* the checkpoint would not be faithful */
	ERROR_STATE,	/* not possible in the container's present state (unknown id, not running, ...) */
	ERROR_CORRUPT,	/* an image or state file is damaged */
	ERROR_INTERNAL, /* a bug in Stasis */
};

struct error {
	int code; /* negative errno */
	enum error_kind kind;
	char message[1000]; /* UTF-8, no newline at the end, never empty once set */
};

/* Fills *e and returns "code" (negative errno). */
int error_set(struct error *e, int code, enum error_kind kind, const char *format, ...) _printf_(4, 5);

/* What a negative errno means, in the words of runc's messages, which callers match: "no such file or directory". To be
 * used in one expression: error_text(r).s */
struct error_text {
	char s[64];
};
struct error_text error_text(int code);

/* A failed system call: the message gets ": <error_text()>" appended, and what to do if a limit of the process is in the way.
 * "code" is a negative errno. Returns it. */
int error_errno(struct error *e, int code, const char *format, ...) _printf_(3, 4);

/* Puts "format: " before the message that is there. Returns e->code (or -EINVAL if e is NULL). */
int error_prefix(struct error *e, const char *format, ...) _printf_(2, 3);

/* "usage", "config", ... as printed in the JSON log. */
const char *error_kind_name(enum error_kind kind);
