/* SPDX-License-Identifier: Apache-2.0 */
/* The names that config.json may have, for `features`: from the parsers' own tables, so that it can't say anything else. */
#include "oci/spec-priv.h"

static const struct name_number *const tables[] = {
	[SPEC_NAMESPACES] = spec_namespace_types,
	[SPEC_SECCOMP_ACTIONS] = spec_seccomp_actions,
	[SPEC_SECCOMP_OPERATORS] = spec_seccomp_operators,
	[SPEC_SECCOMP_ARCHITECTURES] = spec_seccomp_architectures,
	[SPEC_SECCOMP_FLAGS] = spec_seccomp_flags,
	[SPEC_MEMORY_POLICY_MODES] = spec_memory_policy_modes,
	[SPEC_MEMORY_POLICY_FLAGS] = spec_memory_policy_flags,
};

const char *spec_name(enum spec_names what, size_t i)
{
	switch (what) {
	case SPEC_MOUNT_OPTIONS:
		return mount_option_name(i);
	case SPEC_CAPABILITIES:
		return capability_name(i);
	default:
		return tables[what][i].name;
	}
}
