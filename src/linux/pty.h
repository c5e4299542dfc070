/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudo-terminals, and fds sent over a unix socket. Thin: negative errno, no messages. */
#pragma once

#include <sys/types.h>
#include <termios.h>

#include "base/util.h"

/* A new pair from a ptmx device already opened read-write: the unlocked slave (O_NOCTTY, close-on-exec). */
int pty_open_slave(int master) _must_check_;
int pty_set_size(int fd, unsigned short rows, unsigned short columns) _must_check_;
/* Puts a terminal into raw mode; the old settings go to *old. */
int tty_make_raw(int fd, struct termios *old) _must_check_;
int tty_restore(int fd, const struct termios *old) _must_check_;

/* One fd over a connected unix socket, with a short text beside it (must not be empty). */
int socket_send_fd(int socket, int fd, const char *text) _must_check_;
/* Receives one; the fd is close-on-exec. -ENODATA: the other side closed without sending. */
int socket_receive_fd(int socket) _must_check_;
