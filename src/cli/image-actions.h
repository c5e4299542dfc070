/* SPDX-License-Identifier: Apache-2.0 */
/* What "stasis image" can do, each in a file of its own. */
#pragma once

#include "base/error.h"

/* A directory to a stream on stdout; a stream on stdin to a new directory. */
int cli_image_pack(const void *options, char **args, struct error *e);
int cli_image_unpack(const void *options, char **args, struct error *e);
