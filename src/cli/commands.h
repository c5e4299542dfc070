/* SPDX-License-Identifier: Apache-2.0 */
/* The commands, each defined in its cmd-*.c. */
#pragma once

#include "cli/cli.h"

extern const struct cli_command cmd_check, cmd_checkpoint, cmd_create, cmd_ctl, cmd_delete, cmd_events,
	cmd_exec, cmd_features, cmd_image, cmd_inspect, cmd_kill, cmd_list, cmd_metrics, cmd_mounts,
	cmd_pause, cmd_ps, cmd_restore, cmd_resume, cmd_run, cmd_sandbox, cmd_spec, cmd_start, cmd_state,
	cmd_options, cmd_support, cmd_update, cmd_wait;
