/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data that waits in a pseudo terminal, and its settings. The kernel lets nobody look at what waits: it is taken out and
 * put back, byte by byte as it was, lines and end-of-file marks among it, nothing echoed and no signal sent by it.
 *
 * Two queues: input, which the master's writer has typed and the slave has not read, and output, the other way. Of
 * the input the line discipline has worked off the first 4095 bytes; what is behind them ("raw") it has not seen yet, and
 * sees when there is room.
 */
#pragma once

#include <sys/types.h>

#include "base/util.h"

enum {
	TTY_TERMIOS = 44,	/* bytes of struct termios2 */
	TTY_DISCIPLINE = 4095,	/* so many bytes wait in the line discipline */
	TTY_BUFFER = 32 * 1024, /* at most so many before it: the kernel's limit is 8 KiB and a part */
};

enum tty_stop {
	TTY_FLOWS,
	TTY_STOPPED_BY_CHAR, /* ^S */
	TTY_STOPPED_BY_CALL, /* tcflow(TCOOFF) */
};

struct tty_data {
	uint8_t termios[TTY_TERMIOS];
	uint8_t stop;			/* enum tty_stop */
	bool packet;			/* the master is in packet mode (TIOCPKT) */
	uint32_t n_lines;		/* complete lines in the input, in canonical mode */
	uint16_t lines[TTY_DISCIPLINE]; /* their bytes; an end-of-file mark follows what has no other end */
	uint32_t n_input;		/* lines, then what is not yet a line */
	uint8_t input[TTY_DISCIPLINE];
	uint32_t n_raw;
	uint8_t raw[TTY_BUFFER];
	uint32_t n_output;
	uint8_t output[TTY_BUFFER];
};

/* A slave's own description (read-write, O_NONBLOCK, O_NOCTTY), opened by any descriptor of it. */
int tty_open_again(int slave) _must_check_;
/* The same by the master, also of a locked one. O_CLOEXEC among the flags stays to be seen in them (F_GETFL). */
int tty_open_slave_of(int master, int flags) _must_check_;

/*
 * Takes all data out, and notes the settings. slave: by tty_open_again(); master: -EBADF if it is not at hand, then
 * only the input is taken. Whatever happens tty_put() must follow: data that has been taken is complete in *t at
 * any moment, so that also another process can put it back.
 */
int tty_take(int slave, int master, struct tty_data *t) _must_check_;
/* Puts data and settings into a terminal without data. Without a master it needs CAP_SYS_ADMIN. */
int tty_put(int slave, int master, const struct tty_data *t) _must_check_;
