/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel keys (keyrings(7)) that a task has: looked for, and refused. */
#pragma once

#include "checkpoint/native/batch.h"
#include "checkpoint/native/dump.h"

enum { KEYRING_OPS = 5, KEYRING_NAME = 384 };

struct keyring_question {
	struct op *thread, *process;	 /* 0 or more: it has one. NULL: its filters let nobody ask */
	struct op *contents, *described; /* of the session keyring. NULL: it is not the container's own */
	struct op *of_systemd;
	const char *name;
	const int32_t *first; /* key in it */
};

void keyring_ask(struct batch *b, const struct dump *d, struct keyring_question *q);
int keyring_check(const struct dump *d, const struct dump_proc *p, const struct keyring_question *q,
	struct error *e) _must_check_;
