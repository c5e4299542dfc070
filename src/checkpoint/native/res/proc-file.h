/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories of /proc/PID: their process has to be there when they are opened. */
#pragma once

#include "checkpoint/native/res/res.h"

/* The process, as the container sees it, whose file in /proc this is; 0: it is none such. */
int proc_file_pid(const struct dump *d, const struct dump_file *f);
/* That process is gone, whether or not another one has its pid now. */
bool proc_file_is_gone(struct dump *d, const struct dump_file *f);
/* Notes what stands in the way. */
void proc_file_check(struct dump *d, struct dump_file *f, int pid);
/* Its process has ended: opens it while a helper has the pid. */
int proc_file_open_gone(const St__Regular *m, int flags, struct error *e) _must_check_;
