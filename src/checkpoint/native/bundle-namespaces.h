/* SPDX-License-Identifier: Apache-2.0 */
/* Which kinds of namespaces a container is given, and whether a restore gives it the same. */
#pragma once

#include "checkpoint/native/restore.h"

/* CLONE_NEW* of what linux.namespaces gives the container. A path that leads to the machine's (our own) gives none. */
uint32_t bundle_namespaces(const struct spec *s);
/* The image's and the bundle's are the same, or it is refused, or warned of (--spec-check). */
int bundle_check_namespaces(const struct restore *r, const struct spec *s, struct error *e) _must_check_;
