/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: ownership, and whole-file reads and writes. All fds are opened close-on-exec. */
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include "base/error.h"

/* Closes *fd if it is one, keeps errno. An fd variable starts at -EBADF. */
void close_p(int *fd);
#define _cleanup_close_ _cleanup_(close_p)

static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -EBADF;
	return v;
}

/* Closes all from "from" on but these, which it sorts; those below it, and negative ones, don't matter. */
void fds_close_others(int from, int *keep, size_t n);

/* Reads all of a file (also /proc files, whose size is 0) into *ret, NUL-terminated; caller frees. "limit" bytes at
 * most, else -EFBIG. dirfd AT_FDCWD allowed. Returns 0 or a negative errno. */
int read_file_at(int dirfd, const char *path, size_t limit, char **ret, size_t *ret_len) _must_check_;

/* The same of an open file, from where it stands. */
int read_fd(int fd, size_t limit, char **ret, size_t *ret_len) _must_check_;

/* Reads a small file into the caller's buffer, NUL-terminated. Returns the length or a negative errno
 * (-EFBIG: does not fit). No allocation. */
ssize_t read_small_file_at(int dirfd, const char *path, char *buf, size_t size) _must_check_;

/* One write(2) of a string to an existing file, as /proc and cgroupfs want it. */
int write_string_at(int dirfd, const char *path, const char *value) _must_check_;

/* Writes all; retries short writes and EINTR. */
int write_all(int fd, const void *data, size_t len) _must_check_;
int pwrite_all(int fd, const void *data, size_t len, off_t offset) _must_check_;
/* Reads exactly len bytes, else -ENODATA at end of file. */
int read_exact(int fd, void *data, size_t len) _must_check_;
int pread_exact(int fd, void *data, size_t len, off_t offset) _must_check_;

/* A file that must not be there yet; it stays, partly written, when this fails. */
int write_new_file_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode) _must_check_;

/* Replaces dirfd/name atomically: temporary file, fsync, rename. After a loss of power, too, it is the old or the new
 * one. */
int write_file_atomic_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode) _must_check_;
/* The same without the fsync: readers see the old or the new file, a machine that loses power may keep neither. */
int write_file_replace_at(
	int dirfd, const char *name, const void *data, size_t len, mode_t mode) _must_check_;

/* Removes a directory tree by fd, never following links; a mount point in it stays (-EBUSY). 0 also if absent. */
int remove_tree_at(int dirfd, const char *name);
