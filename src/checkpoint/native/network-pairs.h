/* SPDX-License-Identifier: Apache-2.0 */
/* veth pairs between network namespaces of the container (Link.inside). */
#pragma once

#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

/* Finds them, when all namespaces have been read; "own" is the container's, if that is. Negative errno. */
int dump_network_pairs(struct dump *d, int own) _must_check_;

/* In init, which is in the container's network namespace: makes them, in namespaces that are empty yet. */
int restore_network_pairs(const struct restore *r, struct error *e) _must_check_;
/* Does each end have its other one? */
bool restore_network_pairs_are_whole(const struct restore *r);
