/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for what others do with a sandbox. */
#pragma once

#include "container/container.h"

/* Until a checkpoint of the sandbox (NULL: of none), and one of the container (NULL: of none), that is under way has ended. An error if it was a
 * failure of the container's; that it is gone is none. */
int sandbox_wait_checkpoint(
	const char *root, const char *sandbox, struct container *c, struct error *e) _must_check_;
/* Until a restore of the sandbox that is under way has ended; its error, or that of the last one. */
int sandbox_wait_restore(const char *root, const char *sandbox, struct error *e) _must_check_;
