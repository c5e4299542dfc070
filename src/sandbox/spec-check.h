/* SPDX-License-Identifier: Apache-2.0 */
/* What may differ between the config.json that a container of an image had, and the one that it is to be restored with. */
#pragma once

#include "base/error.h"
#include "checkpoint/engine.h"
#include "oci/spec.h"

/*
 * Free to differ: the root's path, sources of mounts, host name, environment, cgroup and resources, hooks, paths of namespaces, numbers of
 * devices, annotations. To be the same: the set of mounts with types and options, args, cwd, user, terminal, rlimits, capabilities,
 * noNewPrivileges, namespaces, sysctls, seccomp, devices, id mappings, masked and read-only paths.
 * REFUSED with all that differs, or a warning each.
 */
int spec_check(const struct spec *image, const struct spec *bundle, enum spec_check how,
	struct error *e) _must_check_;
