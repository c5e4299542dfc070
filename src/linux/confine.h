/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For a process of ours that reads what a stranger has written: it gives up everything that it could do damage with, and keeps
 * memory, what is open, and its end. Whoever takes it over finds no capability, nothing to open, nobody to signal, no
 * process to start, no program to execute; any other system call kills it (SIGSYS).
 */
#pragma once

#include <linux/filter.h>

#include "base/error.h"

enum confine_for {
	CONFINE_PARSER, /* it reads and writes descriptor 0, and nothing else */
	CONFINE_STREAM, /* it reads, writes, extends and empties all that is open */
};

/* Of the calling process, for good. It dies with its parent; it must have one thread only. What is to stay open it has to see to
 * itself. */
int confine_self(enum confine_for what, struct error *e) _must_check_;
/* For tests: what of system calls is let through. */
struct sock_fprog confine_filter(enum confine_for what);
