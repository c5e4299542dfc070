/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of the container's ipc namespace, and of those that its processes have made (nested.c; "n" in the following, NULL: the container's): System V segments, semaphore sets and message queues (sysv.c), POSIX message queues (mqueue.c), what SEM_UNDO
 * would give back (sem-undo.c), and the sysctls of the namespace (ipc-sysctl.c).
 */
#pragma once

#include "checkpoint/native/batch.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

/* The inode of a segment is its id, which may be that of another file, or of a segment of another namespace (ns: Namespace.id,
 * 0: the container's): so it is marked. */
#define SYSV_INODE(ns, id) ((uint64_t)(uint32_t)(id) | ((uint64_t)(ns)&INT32_MAX) << 32 | 1ull << 63)

/* Whose the namespace is. Objects in one of somebody outside are not recorded, and stay. Of one that containers of a sandbox
 * share one of them, its owner, records the objects. */
enum ipc_role { IPC_OUTSIDE, IPC_OWN, IPC_OWNER, IPC_ELSEWHERE };
enum ipc_role ipc_find_role(const struct dump *d);
static inline enum ipc_role ipc_role(const struct dump *d)
{
	return (enum ipc_role)d->ipc_role;
}
/* The objects are recorded here; they come back, whoever records them. */
static inline bool ipc_is_recorded(const struct dump *d)
{
	return ipc_role(d) == IPC_OWN || ipc_role(d) == IPC_OWNER;
}
static inline bool ipc_is_kept(const struct dump *d)
{
	return ipc_role(d) != IPC_OUTSIDE;
}
/* For the record of the container; NULL *ret: it is shared with nobody. */
int ipc_shared(struct dump *d, St__Shared **ret, struct error *e) _must_check_;
/* Whose config.json was there when the namespace was made; NULL *ret: nobody's. */
int ipc_spec_of_maker(struct dump *d, const struct spec **ret, struct error *e) _must_check_;
/* Whether config.json lets the container write to /proc/sys. */
bool ipc_may_set_sysctls(const struct spec *s);

/* Is there any object? We are in the namespace. */
bool sysv_is_used(void);
/* Of the namespace in which we are: its folder of queues, its sysctls, whether it is used; *ret_reason: an obstacle. Leaves us
 * in a new one. */
int ipc_look_at_nested(
	struct dump *d, struct dump_nested *n, const char **ret_reason, struct error *e) _must_check_;
/* n->mqueue_folder; n->ipc_is_used, if there is any queue with a name. */
int mqueue_look_at_nested(struct dump_nested *n) _must_check_;
/* The namespace whose queues a mount of that device shows: Namespace.id, 0: the container's. 1: of neither. */
int mqueue_namespace_of_mount(
	struct dump *d, const struct proc_mount *m, uint64_t *ret, struct error *e) _must_check_;
/* Obstacles; we are in the namespace. */
int sysv_check(struct dump *d, struct dump_nested *n, struct error *e) _must_check_;
/* Is it a mapping of a segment, not of a file of such a name? */
bool sysv_is_mapping(const struct proc_vma *v);
/* The segment that is mapped there, as a SharedMemory. */
int sysv_dump_mapping(struct dump *d, struct dump_proc *p, const struct proc_vma *v, uint64_t *ret_id,
	struct error *e) _must_check_;
/* Everything, into d->ipc and d->shm; we are in the namespace. */
int sysv_dump(struct dump *d, struct dump_nested *n, struct error *e) _must_check_;
/* Segments that are attached, and what SEM_UNDO gives back, of a namespace that another container records. */
int sysv_dump_elsewhere(struct dump *d, struct error *e) _must_check_;
int mqueue_check(struct dump *d, struct dump_nested *n, struct error *e) _must_check_;
/* Once all namespaces have been looked at: descriptors of queues that are in none of them. */
void mqueue_check_descriptors(struct dump *d);
int mqueue_dump(struct dump *d, struct dump_nested *n, struct error *e) _must_check_;
/* mq_notify of a queue with so many messages: into its process's record, or *ret_reason why not (mqueue-notify.c). */
int mqueue_check_notify(
	struct dump *d, int queue, long messages, const char **ret_reason, struct error *e) _must_check_;
bool mqueue_notify_is_valid(const St__MqNotify *m);
/* In the process. One call and one struct sigevent of the batch each. */
void mqueue_restore_notify(const St__Process *p, struct batch *b);
int ipc_sysctl_dump(struct dump *d, struct error *e) _must_check_;
int ipc_sysctl_dump_nested(struct dump *d, struct dump_nested *n, struct error *e) _must_check_;
/* Adds one more record; NULL: no memory. */
St__Ipc *ipc_add(struct dump *d, const struct dump_nested *n);
static inline uint64_t ipc_id(const struct dump_nested *n)
{
	return n ? n->msg->id : 0;
}
/* Fills sem_undos of all processes of the namespace. They are stopped, and have the area of ask.c. */
int sem_undo_dump(
	struct dump *d, uint64_t ns, St__SysvSemaphores *const *sets, size_t n, struct error *e) _must_check_;
/* Has any thread of the process ever used SEM_UNDO? */
bool sem_undo_is_used(const struct dump_proc *p);

/* In init, which has entered the namespace (Namespace.id, 0: the container's). The objects, and segments at their places in
 * the area; the sysctls before them (as high as they need it) and after them (as they were). */
int sysv_restore(struct restore *r, uint64_t ns, struct error *e) _must_check_;
/* Of a namespace that containers of a sandbox share: its objects are there; wait until they are. */
bool ipc_may_be_shared(const struct spec *s);
int ipc_offer(struct restore *r, struct error *e) _must_check_;
int ipc_await(struct restore *r, struct error *e) _must_check_;
int mqueue_restore(struct restore *r, uint64_t ns, struct error *e) _must_check_;
int ipc_sysctl_raise(struct restore *r, uint64_t ns, struct error *e) _must_check_;
int ipc_sysctl_restore(struct restore *r, uint64_t ns, struct error *e) _must_check_;
/* What is made in a namespace belongs to who makes it, and nobody else may make anything there whose ids are not mapped. What a
 * change of ids takes away is given back. */
struct ipc_creator {
	bool other;
	int dumpable, death;
};
int ipc_begin_as(struct ipc_creator *c, uint32_t uid, uint32_t gid, struct error *e) _must_check_;
int ipc_end_as(const struct ipc_creator *c, struct error *e) _must_check_;
/* The namespace that a process of the image is in: Namespace.id, 0: the container's. */
uint64_t ipc_namespace_of(const struct restore *r, const St__Process *p);
/* A name and a value that may be written. */
bool ipc_sysctl_is_valid(const St__Sysctl *s);
/* How many calls and how much data op_sem_undo() needs. */
size_t sem_undo_ops(const St__Process *p);
enum { SEM_UNDO_DATA = 16 };
void op_sem_undo(struct batch *b, const struct restore *r, const St__Process *p);
