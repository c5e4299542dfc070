/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named fault points, at every phase boundary of create, start, exec, delete, checkpoint and restore. FAULT=name in the environment kills
 * the process that reaches the point (SIGKILL); FAULT=name:EIO (an errno's name or number) makes fault_point() return
 * that error instead, FAULT=name:EIO:2 only the first two times, FAULT=name:EIO:=2 only the second time; FAULT=name:stop stops it (SIGSTOP), :crash lets it die of SIGILL, :open lets it open a file, and :hang
 * never ends. Costs one getenv() a process. Known names are listed by `stasis features --fault-points`; tests/faults
 * runs them all.
 */
#pragma once

#include "base/error.h"

/* 0, or the negative errno asked for, with *e filled. */
int fault_point(const char *name, struct error *e) _must_check_;
/* All names, NULL-terminated; fault_point() with another name is a bug and fails with ERROR_INTERNAL. */
extern const char *const fault_names[];
