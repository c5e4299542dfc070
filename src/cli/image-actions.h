/* SPDX-License-Identifier: Apache-2.0 */
/* What "stasis image" can do, each in a file of its own. */
#pragma once

#include "image/image.h"

struct cli_image_options {
	bool json;
	const char *output, *compress;
};

/* What --compress says; NULL: nothing. */
int cli_parse_compress(const char *text, struct image_packing *ret, struct error *e) _must_check_;
/* A directory to a stream on stdout; a stream on stdin to a new directory. */
int cli_image_pack(const void *options, char **args, struct error *e);
int cli_image_unpack(const void *options, char **args, struct error *e);
