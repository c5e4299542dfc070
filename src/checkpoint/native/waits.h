/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls in which a thread sleeps for a time that it gave relative to their beginning. When a stop interrupts them the kernel
 * knows how much is left: it keeps the end of the sleep to itself, in the task's restart block, or writes what is left
 * into the caller's memory, to begin the call again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/user.h>

enum wait_kind {
	WAIT_NONE,	   /* not such a call, or not interrupted in it */
	WAIT_TIMESPEC,	   /* restart block; the time is a struct timespec */
	WAIT_MILLISECONDS, /* restart block; the time is a number */
	WAIT_LEFT,	   /* what is left has been written to the caller's struct timespec */
	WAIT_LEFT_TIMEVAL, /* or struct timeval */
};

struct wait {
	enum wait_kind kind;
	long nr;
	int argument;	  /* 0-5: that says how long */
	uint64_t address; /* what it is: an address, or milliseconds */
	uint64_t remnant; /* where nanosleep has written what is left; 0: nowhere */
	uint64_t args[6];
	bool ia32, time32; /* a call of i386; and its struct timespec has members of 32 bits */
};

/* What a task with these registers has been interrupted in. */
struct wait wait_of_registers(const struct user_regs_struct *regs);
