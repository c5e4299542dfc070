/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pid namespace of several containers of a sandbox (Kubernetes: shareProcessNamespace; podman pod create --share pid). One of them
 * has made it: its init is the first process there, and adopts the orphans of all. The others have joined it by their
 * config.json. So a pid is the same for all of them, a parent may be in another container, and a container does not end with its init.
 *
 * Whose a process is says its cgroup. Their checkpoint is one of all of them; at a restore each makes its own processes, with their
 * pids, in the namespace that its new config.json names.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "image.pb-c.h"

struct dump;
struct dump_proc;
struct restore;
struct spec;

/* PIDS_FOREIGN: of the machine, or of somebody who is not checkpointed at the same moment. */
enum pids_role { PIDS_OWN, PIDS_BEGUN, PIDS_JOINED, PIDS_FOREIGN };

/* Into d->pids_role and d->reaper, before processes are looked for. */
void shared_pids_find_role(struct dump *d);
/* Is it an orphan that the first process of the namespace has adopted, which is in another container? */
bool shared_pids_is_adopted(const struct dump *d, const struct dump_proc *p);
/* Are both we and that member in a pid namespace that containers share? */
bool shared_pids_is_shared(const struct dump *d, unsigned member);
/* Obstacles. */
int shared_pids_check(struct dump *d, struct error *e) _must_check_;
/* The name of the other container in the namespace that has this process (of the host); NULL: none. */
const char *shared_pids_whose(struct dump *d, pid_t pid);
/* For the record of the container; NULL *ret: it is shared with nobody. */
int shared_pids_message(struct dump *d, St__Shared **ret, struct error *e) _must_check_;

enum { SHARED_PIDS_REAPER = 1 }; /* ppid of the orphans */
/* Does the container come into a namespace that another one has begun? */
bool restore_joins_pids(const struct restore *r);
/* Is it the namespace of who had begun it? Before anything is made. */
int shared_pids_check_bundle(const struct restore *r, const struct spec *s, struct error *e) _must_check_;
/* In init: what is born there for a moment, with any pid, gets none that one of ours is to have. */
int shared_pids_keep_clear(struct restore *r, struct error *e) _must_check_;
