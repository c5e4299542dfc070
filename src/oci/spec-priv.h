/* SPDX-License-Identifier: Apache-2.0 */
/* The parsers of config.json's parts, one file each; private to src/oci. All are json_parse_fn. */
#pragma once

#include "oci/json-priv.h"
#include "oci/spec.h"

int spec_process_parse(
	struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec_process ** */
int spec_mounts_parse(struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec * */
int spec_linux_parse(struct parser *p, const struct jv *v, void *dest) _must_check_;  /* struct spec * */
int spec_resources_parse(
	struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec_resources * */
int spec_seccomp_parse(
	struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec_seccomp ** */
int spec_net_devices_parse(struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec * */
int spec_intel_rdt_parse(
	struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec_intel_rdt ** */
int spec_memory_policy_parse(
	struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec_memory_policy ** */
int spec_affinity_parse(
	struct parser *p, const struct jv *v, void *dest) _must_check_; /* struct spec_process * */
int spec_hooks_parse(
	struct parser *p, const struct jv *v, void *dest) _must_check_; /* spec_hook_list[HOOK_COUNT] */
/* One member of a map of strings; dest is a struct spec_sysctl or spec_annotation: {name, value}. */
int spec_name_value_parse(struct parser *p, const struct jv *v, void *dest) _must_check_;
/* "path" itself when absolute, else below the bundle. NULL: out of memory. */
const char *spec_from_bundle(struct parser *p, const char *path) _must_check_;
/* An env array: every entry NAME=value. dest: char *** */
int spec_env_parse(struct parser *p, const struct jv *v, void *dest) _must_check_;
/* An array of mappings that don't overlap; dest: struct id_maps *. */
int spec_uid_maps_parse(struct parser *p, const struct jv *v, void *dest) _must_check_;
int spec_gid_maps_parse(struct parser *p, const struct jv *v, void *dest) _must_check_;
/* NULL, or why the kernel would not take them. */
const char *spec_check_id_maps(const struct id_map *map, size_t n);
/* "idmap=..." of the i-th mount, when linux.uidMappings are known. */
int spec_idmap_option(struct parser *p, struct spec *s, size_t i) _must_check_;
/* "shared", "rslave"...: MS_* (| MS_REC), or 0 when it is none of them. */
unsigned long mount_propagation(const char *name);

/* Names that are numbers to the kernel; the tables end with a NULL name. */
struct name_number {
	const char *name;
	uint64_t number;
};
extern const struct name_number spec_namespace_types[], spec_seccomp_actions[], spec_seccomp_operators[],
	spec_seccomp_architectures[], spec_seccomp_flags[], spec_memory_policy_modes[],
	spec_memory_policy_flags[];
/* The i-th that is supported, or NULL. */
const char *mount_option_name(size_t i);
const char *capability_name(size_t i);
/* An index into the table, or an error naming "what" and all that is allowed. */
int spec_lookup(struct parser *p, const struct jv *v, const struct name_number *table, const char *what,
	uint64_t *ret) _must_check_;
