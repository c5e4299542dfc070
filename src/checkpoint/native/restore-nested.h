/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces that the container's processes had made. Init makes them all first, each in a helper, and holds them by a
 * descriptor; the stubs inherit these and enter what is theirs. Two kinds are different: a pid namespace begins with the
 * fork of its first process, and a user namespace is entered last, as what is done before needs the privileges outside of it.
 */
#pragma once

#include "checkpoint/native/restore.h"

/* A child with the same table of descriptors. */
pid_t restore_fork_sharing_files(void);
/* In init, once descriptors can be numbered: those that the container's own mounts may hold; then, when these are there, those of
 * mounts, and what is in those of the network. */
int restore_make_namespaces(struct restore *r, struct error *e) _must_check_;
int restore_finish_namespaces(struct restore *r, struct error *e) _must_check_;
/* That of a process, since Linux 6.11; or a negative errno. */
int restore_pid_namespace_of(pid_t pid) _must_check_;
/* Another descriptor of one; of pids: once its first process is there. Or a negative errno. */
int restore_open_namespace(const struct restore *r, uint64_t id, int flags);
/* A detached mount that holds what an nsfs of the image holds; or a negative errno. May an image say this? */
int restore_mount_namespace(const struct restore *r, const St__Mount *m);
bool restore_may_hold(const struct restore *r, const St__Mount *m);
/* In a stub, before it forks: all but those of pids and users. */
int restore_enter_namespaces(struct restore *r, const St__Process *p, struct error *e) _must_check_;
/* Forks "child" (NULL: a helper) from the stub of "parent" (NULL: a helper), with its ids at every level; flags of clone(2):
 * what the two share. The new pid as the caller sees it, 0 in the child, or a negative errno. */
int restore_fork(struct restore *r, const St__Process *parent, const St__Process *child, int pid,
	uint64_t flags) _must_check_;
bool restore_is_pid_namespace(const struct restore *r, uint64_t id);
bool restore_is_ipc_namespace(const struct restore *r, uint64_t id);
bool restore_is_net_namespace(const struct restore *r, uint64_t id);
/* In the stub of the first process of a pid namespace: to a mount namespace in which it may mount proc, as a user namespace lets
 * mount it only where one is seen. */
int restore_where_proc_is_seen(struct restore *r, struct error *e) _must_check_;
/* In a stub, when all processes exist: the pid namespace of its future children. */
int restore_children_namespace(struct restore *r, const St__Process *p, struct error *e) _must_check_;

/* The namespace of that kind (CLONE_NEW*) that the process is in; NULL: the container's. */
const struct restore_nested *restore_namespace_of(
	const struct restore *r, const St__Process *p, uint32_t type);
const struct restore_nested *restore_namespace(const struct restore *r, uint64_t id);
/* An id that is mapped in a user namespace, as the container sees it. */
uint32_t restore_mapped_id(const struct restore *r, const struct restore_nested *n, bool group);
/* The process that is 1 in a pid namespace; and how many such namespaces lie between it and the container's. */
const St__Process *restore_first_of(const struct restore *r, const struct restore_nested *n);
size_t restore_pid_levels(const struct restore *r, const struct restore_nested *n);
/* A process's or thread's id as "viewer" sees it; 0: not at all. Threads: by their process. */
int restore_pid_seen(const struct restore *r, const St__Process *viewer, int pid);
/* Its own idea of its pid, and of its thread's. */
int restore_own_pid(const St__Process *p);
int restore_own_tid(const St__Thread *t);

/* In init, while it opens a file of a mount namespace (0: the container's). */
int restore_enter_root(const struct restore *r, uint64_t ns, struct error *e) _must_check_;

/* Likewise while it makes or connects a socket of a network namespace. */
int restore_enter_network(struct restore *r, uint64_t ns, struct error *e) _must_check_;

/* Likewise while it makes an object of an ipc namespace. */
int restore_enter_ipc(struct restore *r, uint64_t ns, struct error *e) _must_check_;
/* What was an id in a user namespace (NULL: the container's), as the container sees it; false: it is not mapped. */
bool restore_outside_id(
	const struct restore *r, const struct restore_nested *n, uint32_t id, bool group, uint32_t *ret);

/* What an image says of namespaces makes sense; and the bundle lets processes make them. */
int restore_validate_namespaces(const struct restore *r, struct error *e) _must_check_;
int restore_check_namespaces(const struct restore *r, uint64_t allowed_caps,
	const struct spec_seccomp *profile, struct error *e) _must_check_;
