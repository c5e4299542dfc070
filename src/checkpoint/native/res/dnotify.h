/* SPDX-License-Identifier: Apache-2.0 */
/* F_NOTIFY (dnotify.c), for which directories may be watched (regular.c). */
#pragma once

#include "checkpoint/native/batch.h"
#include "checkpoint/native/res/res.h"

/* A directory of which somebody may have asked to be told: into the descriptors' messages what, or an obstacle. */
int dnotify_check(struct dump *d, struct dump_file *f, struct error *e) _must_check_;
bool dnotify_is_valid(const St__Descriptor *m);
size_t dnotify_count(const St__Process *p);
/* By the process, whose descriptors are in their places. */
void dnotify_restore(const St__Process *p, struct batch *b);
