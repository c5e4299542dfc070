/* SPDX-License-Identifier: Apache-2.0 */
/* What is in an image, for people and scripts: process tree, memory, files and sockets, from the records alone. */
#pragma once

#include <stdio.h>

#include "image/image.h"
#include "image/sandbox.h"

enum image_inspect_format { IMAGE_INSPECT_TEXT, IMAGE_INSPECT_JSON, IMAGE_INSPECT_HTML };

/* Writes to out. Nothing in the image can make the output anything else than plain text, well-formed JSON or HTML:
 * control characters and invalid UTF-8 in names are printed as \xNN. */
int image_inspect(struct image *i, enum image_inspect_format format, FILE *out, struct error *e) _must_check_;
/* The same of a sandbox: its containers, and what they share. */
int image_inspect_whole(const struct image_whole *w, enum image_inspect_format format, FILE *out,
	struct error *e) _must_check_;
