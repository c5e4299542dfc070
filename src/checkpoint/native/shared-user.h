/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user namespace that a container has joined by its config.json (a pod's: Kubernetes' hostUsers: false; podman pod create --userns).
 * Nothing of it is in the image: at a restore the new config.json says which one it is, and that one's maps what ids mean.
 *
 * Who is made anew can be traced until he is complete, as in a user namespace files of /proc belong to the host's root otherwise. In a new
 * namespace there is nobody else; in a shared one no neighbour may see his pid.
 */
#pragma once

#include "base/error.h"

struct container;
struct spec;

/* May the container's processes be made in that user namespace? Before anything is made. */
int shared_user_check_bundle(const struct spec *s, struct error *e) _must_check_;
/* The same, where the pid namespace is that of "owner" (borrowed). */
int shared_user_check_pids(const struct spec *s, const struct container *owner, struct error *e) _must_check_;
