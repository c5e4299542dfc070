/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file-descriptor based mount API (5.2, mount_setattr 5.12) and openat2. Thin: negative errno, no messages.
 * Everything is by fd, so that a path inside a container's rootfs is resolved once, with RESOLVE_IN_ROOT, and a
 * symlink swapped in later changes nothing.
 */
#pragma once

#include <sys/types.h>

#include "base/util.h"

/* openat2() below "root" as if it were "/", O_CLOEXEC added. Magic links are refused. */
int open_in_root(int root, const char *path, uint64_t flags, mode_t mode) _must_check_;
/* mkdir -p below root; returns an O_PATH fd of the directory. */
int make_dirs_in_root(int root, const char *path, mode_t mode) _must_check_;
/* An empty file at path (parents made too) unless something is there; returns an O_PATH fd. */
int make_file_in_root(int root, const char *path) _must_check_;

/* A detached copy of the mount (tree, if recursive) at dirfd/path; path "": dirfd itself. */
int mount_clone(int dirfd, const char *path, bool recursive) _must_check_;
/* The same of a path, whose last component may be a symlink that is not to be followed. */
int mount_clone_at(const char *path, bool recursive, bool follow) _must_check_;
/* Attaches a detached mount at the place of an O_PATH fd. */
int mount_attach(int mount_fd, int target_fd) _must_check_;
/* mount_setattr on an fd: MOUNT_ATTR_* to set and clear, propagation MS_* or 0. */
int mount_change(
	int mount_fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive) _must_check_;
/* A detached mount (tree, if recursive) shows ids as that user namespace maps them (5.12). */
int mount_map_ids(int mount_fd, int userns_fd, bool recursive) _must_check_;
/* A new filesystem instance, detached, MOUNT_ATTR_* applied; options comma-separated or NULL; label: SELinux's or NULL. */
int mount_make(const char *fstype, const char *source, const char *options, const char *label,
	uint64_t attr) _must_check_;
/* Options of a filesystem that is there. */
int mount_reconfigure(int mount_fd, const char *options) _must_check_;
/* "to", which is private, gets the peer group and the master of "from" (5.15). */
int mount_set_group(int from_fd, int to_fd) _must_check_;
/* The id that mountinfo shows. */
int mount_id(int fd) _must_check_;
/* MS_RDONLY, MS_NOSUID, ... as MOUNT_ATTR_*. */
uint64_t mount_attr_of_flags(unsigned long ms_flags);
