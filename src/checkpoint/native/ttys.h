/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudo terminals of a container, across its open files and its sessions: res/tty.c and res/tty-restore.c. */
#pragma once

#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"
#include "linux/tty-data.h"

enum tty_kind { TTY_MASTER = 1, TTY_SLAVE = 2, TTY_CONTROLLING = 3 };
enum { TTY_MAX_INDEX = 4095, TTY_GROUP_IS_GONE = -1 };

/* Finds the pseudo terminals and notes obstacles; cheap where there are none. After the processes and files. */
int dump_check_ttys(struct dump *d, struct error *e) _must_check_;
/* The Pty messages, with the data that waits. The tasks are stopped. */
int dump_ttys(struct dump *d, struct error *e) _must_check_;
/* The guard: puts back what a surgeon had taken out when it died. */
void dump_undo_ttys(struct dump_tty_journal *j);

/* What a well-formed image may say wrongly of them. */
int restore_validate_ttys(const struct restore *r, struct error *e) _must_check_;
/* In init, before and after the files are opened: all pairs; then what would be in the way of opening them. */
int restore_make_ttys(struct restore *r, struct error *e) _must_check_;
int restore_finish_ttys(struct restore *r, struct error *e) _must_check_;
/* In each stub: the leader of a new session takes its terminal before it has children. */
int restore_take_terminal(struct restore *r, int sid, struct error *e) _must_check_;
/* When all have joined their groups: the leader says which one is in the foreground, others let go. */
int restore_set_foreground(struct restore *r, const St__Process *p, struct error *e) _must_check_;
