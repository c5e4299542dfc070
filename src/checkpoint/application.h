/* SPDX-License-Identifier: Apache-2.0 */
/* The application's side of a checkpoint and of a restore: its hooks, and what its open requests are answered. */
#pragma once

#include <signal.h>

#include "base/error.h"
#include "container/container.h"

/*
 * Runs the container's command for that occasion, if it has one (docs/application.md), in the container as exec does, and waits
 * for its end: a failure, also one past its time, is an error; nobody of its process group is there then. result: what a
 * resume hook is told of the checkpoint: "done" or "failed"; else NULL. 1: there is no such hook. SIGINT, SIGTERM, SIGHUP and
 * SIGQUIT end the hook, -ECANCELED. The caller must be single-threaded.
 */
int application_hook(
	struct container *c, enum application_hook which, const char *result, struct error *e) _must_check_;
/*
 * From before the save hook until after the resume hook SIGINT and SIGTERM wait, if there is such a hook, so that the one never
 * comes without the other: only where the guard lets them (guard.c) or a hook runs do they end the operation.
 */
struct application_hold {
	bool held;
	sigset_t old;
};
void application_hold(struct application_hold *h, struct container *c);
void application_release(struct application_hold *h);
/* The save hook. It prepares the container for a checkpoint: after it, also if it has failed, comes application_resume(). */
int application_save(struct container *c, bool *ret_saved, struct error *e) _must_check_;
/* The resume hook, after a checkpoint that ended with "result" (*e); what becomes of that. Only if saved. */
int application_resume(struct container *c, bool saved, int result, struct error *e) _must_check_;
