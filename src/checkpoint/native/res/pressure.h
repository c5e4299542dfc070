/* SPDX-License-Identifier: Apache-2.0 */
/* Triggers for pressure (pressure.c), which files of /proc and cgroups may be (regular.c). */
#pragma once

#include "checkpoint/native/res/res.h"

/* One that could be: it is to be checked. */
bool pressure_may_be_armed(const struct dump_file *f);
/* Sets f->trigger, or *ret_reason and *ret_remedy: why it cannot be kept. */
int pressure_check(struct dump *d, struct dump_file *f, const char **ret_reason, const char **ret_remedy,
	struct error *e) _must_check_;
/* The file, with its trigger. */
int pressure_open(struct restore *r, const St__Regular *m, int flags, struct error *e) _must_check_;
