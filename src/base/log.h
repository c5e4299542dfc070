/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log sink, the one mutable global. Library code logs at debug only; the CLI and server loops report errors.
 * Lines go to stderr, or to the --log file, as text or JSON ({"level","msg","time"}, the form runc's callers parse).
 */
#pragma once

#include "base/error.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Takes ownership of fd (-1: stderr, which is not closed). With a log file, errors go to stderr as well. */
void log_setup(int fd, enum log_format format, enum log_level max_level);
enum log_level log_max_level(void);
void log_set_level(enum log_level max_level);
/* In a child that has closed the log's descriptor: nothing is to be written to whatever gets its number. */
void log_forget(void);
void log_at(enum log_level level, const char *format, ...) _printf_(2, 3);
/* Prints the error at level error, with its kind in the JSON form. */
void log_error(const struct error *e);

#define log_debug(...) (log_max_level() >= LOG_LEVEL_DEBUG ? log_at(LOG_LEVEL_DEBUG, __VA_ARGS__) : (void)0)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
