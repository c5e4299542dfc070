/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images are read by a process that can do nothing else (linux/confine.h), because who wrote one may be a stranger who knows of a
 * bug in what reads it: JSON, protobuf, the page index. It opens nothing: we read the files and put their bytes into memory
 * that both have. What it leaves there is checked from end to end (image_adopt()) before anybody follows a pointer
 * of it. So the worst that an image can do is to say something else than it seems to say.
 */
#pragma once

#include "base/error.h"
#include "image/image.h"

struct confined;
/* Starts it; takes the source. The caller has one thread. */
int confined_begin(struct image_source *source, struct confined **ret, struct error *e) _must_check_;
/* Its verdict: image_open()'s errors, or that it died. Frees. "timeout_ms": without an answer for so long it is killed; -1: never. */
int confined_end(struct confined *c, int timeout_ms, struct image **ret, struct error *e) _must_check_;
/* Kills it. */
void confined_drop(struct confined *c);
static inline void confined_drop_p(struct confined **c)
{
	confined_drop(*c);
}

/* Both, for a directory: what image_open() does. */
int confined_image_open(int dirfd, struct image **ret, struct error *e) _must_check_;
