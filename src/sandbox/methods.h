/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of methods, each of which ends with an empty row. */
#pragma once

#include "sandbox/call.h"

extern const struct method application_methods[];	/* methods-application.c */
extern const struct method restore_container_methods[]; /* methods-restore.c */
extern const struct method checkpoint_methods[];	/* methods-checkpoint.c */
extern const struct method restore_methods[];		/* session-join.c */
extern const struct method state_methods[];		/* methods-state.c */
extern const struct method container_methods[];		/* methods-container.c */
extern const struct method process_methods[];		/* methods-process.c */
extern const struct method exec_methods[];		/* methods-exec.c */
extern const struct method pause_methods[];		/* methods-pause.c */
extern const struct method event_methods[];		/* methods-event.c */
extern const struct method network_methods[];		/* methods-network.c */
extern const struct method debug_methods[];		/* methods-debug.c */
extern const struct method self_methods[];		/* methods-self.c */
