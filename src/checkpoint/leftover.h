/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a surgeon that died has left in the container's tasks. They run on since then, and may have come to another program or to
 * their end: what is not there any more needs no undoing. Failures are nobody's: there is nothing else that could be done.
 */
#pragma once

#include "checkpoint/native/dump.h"

/* Takes what it has mapped out of a process, once no thread is in there any more. syscall_insn: as in struct task_call. */
void leftover_unmap(pid_t pid, uint64_t area, uint64_t len, uint64_t syscall_insn);
/* Lets the calls of a thread go again where they went before. */
void leftover_dispatch(const struct dump_dispatched *of);
/* A thread that went on with a sleep, and may be signalled again. */
void leftover_wake(const struct dump_asleep *of);
