/* SPDX-License-Identifier: Apache-2.0 */
/* "linux" of config.json but for resources and seccomp: namespaces, devices, sysctls, paths. */
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>

#include "oci/spec-priv.h"

struct namespace_entry {
	uint64_t type;
	const char *path;
};

const struct name_number spec_namespace_types[] = {
	{"pid", NS_PID},
	{"network", NS_NET},
	{"mount", NS_MNT},
	{"ipc", NS_IPC},
	{"uts", NS_UTS},
	{"user", NS_USER},
	{"cgroup", NS_CGROUP},
	{"time", NS_TIME},
	{NULL},
};

static int parse_namespace_type(struct parser *p, const struct jv *v, void *dest)
{
	return spec_lookup(p, v, spec_namespace_types, "namespace", dest);
}

/* Docker and podman write "path": "" for "a new one". */
static int parse_namespace_path(struct parser *p, const struct jv *v, void *dest)
{
	const char *s;
	int r = jv_borrow(p, v, &s);

	return r < 0 || !s[0] ? r : jv_absolute(p, v, dest);
}

static const struct json_field namespace_fields[] = {
	{"type", JSON_CUSTOM, .required = true, .offset = offsetof(struct namespace_entry, type),
		.parse = parse_namespace_type},
	{"path", JSON_CUSTOM, .offset = offsetof(struct namespace_entry, path),
		.parse = parse_namespace_path},
	{NULL},
};

static int parse_namespaces(struct parser *p, const struct jv *v, void *dest)
{
	struct spec *s = dest;
	int r = jv_expect(p, v, json_type_array);

	for (size_t i = 0; r == 0 && i < json_object_array_length(v->o); i++) {
		struct namespace_entry entry = {0};
		struct jv item = jv_element(v, i);

		r = jv_fields(p, &item, namespace_fields, &entry);
		if (r < 0)
			return r;
		if (s->namespaces[entry.type].present)
			return jv_fail(p, &item, "the %s namespace is listed twice",
				ns_oci_name((enum ns_type)entry.type));
		s->namespaces[entry.type] = (struct spec_namespace){.present = true, .path = entry.path};
	}
	return r;
}

static int parse_device_type(struct parser *p, const struct jv *v, void *dest)
{
	static const struct name_number types[] = {
		{"c", 'c'},
		{"b", 'b'},
		{"u", 'u'},
		{"p", 'p'},
		{NULL},
	};
	uint64_t type = 0;
	int r = spec_lookup(p, v, types, "device type", &type);

	*(char *)dest = (char)type;
	return r;
}

static const struct json_field device_fields[] = {
	{"type", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec_device, type),
		.parse = parse_device_type},
	{"path", JSON_PATH, .required = true, .offset = offsetof(struct spec_device, path)},
	{"major", JSON_I64, .offset = offsetof(struct spec_device, major), .max = (1 << 12) - 1},
	{"minor", JSON_I64, .offset = offsetof(struct spec_device, minor), .max = (1 << 20) - 1},
	{"fileMode", JSON_U32, .offset = offsetof(struct spec_device, mode),
		.has_offset = offsetof(struct spec_device, has_mode), .max = 0177777},
	{"uid", JSON_U32, .offset = offsetof(struct spec_device, uid), .max = UINT32_MAX - 1},
	{"gid", JSON_U32, .offset = offsetof(struct spec_device, gid), .max = UINT32_MAX - 1},
	{NULL},
};

static int parse_device(struct parser *p, const struct jv *v, void *dest)
{
	static const char *const numbers[] = {"major", "minor"};
	struct spec_device *d = dest;
	struct jv member;
	int r = jv_fields(p, v, device_fields, d);

	if (r < 0)
		return r;
	for (size_t i = 0; d->type != 'p' && i < ARRAY_SIZE(numbers); i++) {
		if (jv_member(v, numbers[i], &member))
			continue;
		member = (struct jv){.up = v, .key = numbers[i]};
		return jv_fail(p, &member, "missing (only a device of type p has none)");
	}
	/* Callers put the whole st_mode here; the type bits are said by "type". */
	d->mode &= 07777;
	return 0;
}

static int parse_devices(struct parser *p, const struct jv *v, void *dest)
{
	struct spec *s = dest;

	return jv_array(p, v, sizeof(*s->devices), parse_device, &s->devices, &s->n_devices);
}

/* No component may leave /proc/sys, whichever of '.' and '/' separates. */
static bool sysctl_name_valid(const char *name)
{
	const char *slash = strchr(name, '/'), *dot = strchr(name, '.');
	const char separator[] = {slash && (!dot || slash < dot) ? '/' : '.', 0};

	for (const char *at = name;;) {
		size_t n = strcspn(at, separator);

		if (n == 0 || (n <= 2 && strspn(at, "./") >= n))
			return false;
		if (!at[n])
			return true;
		at += n + 1;
	}
}

enum ns_type spec_sysctl_namespace(const char *name)
{
	static const struct {
		const char *prefix;
		enum ns_type ns;
	} table[] = {
		{"kernel.msgmax", NS_IPC},
		{"kernel.msgmnb", NS_IPC},
		{"kernel.msgmni", NS_IPC},
		{"kernel.sem", NS_IPC},
		{"kernel.shmall", NS_IPC},
		{"kernel.shmmax", NS_IPC},
		{"kernel.shmmni", NS_IPC},
		{"kernel.shm_rmid_forced", NS_IPC},
		{"kernel.msg_next_id", NS_IPC},
		{"kernel.sem_next_id", NS_IPC},
		{"kernel.shm_next_id", NS_IPC},
		{"fs.mqueue.", NS_IPC},
		{"net.", NS_NET},
		{"kernel.domainname", NS_UTS},
		{"kernel.hostname", NS_UTS},
		{"user.", NS_USER},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const char *a = table[i].prefix, *b = name;

		while (*a && (*a == *b || (*a == '.' && *b == '/')))
			a++, b++;
		if (!*a && (a[-1] == '.' || !*b))
			return table[i].ns;
	}
	return NS_COUNT;
}

static int parse_sysctl_entry(struct parser *p, const struct jv *v, void *dest)
{
	if (!sysctl_name_valid(v->key))
		return jv_fail(p, v, "not the name of a sysctl");
	return spec_name_value_parse(p, v, dest);
}

static int parse_sysctl(struct parser *p, const struct jv *v, void *dest)
{
	struct spec *s = dest;

	return jv_map(p, v, sizeof(*s->sysctl), parse_sysctl_entry, &s->sysctl, &s->n_sysctl);
}

static int parse_propagation(struct parser *p, const struct jv *v, void *dest)
{
	struct spec *s = dest;
	int r = jv_string(p, v, &s->rootfs_propagation_name);

	if (r < 0 || !s->rootfs_propagation_name[0])
		return r;
	s->rootfs_propagation = mount_propagation(s->rootfs_propagation_name);
	if (!s->rootfs_propagation)
		return jv_fail_unknown(p, v, "mount propagation", s->rootfs_propagation_name,
			"private, rprivate, shared, rshared, slave, rslave, unbindable, runbindable");
	return 0;
}

static const struct json_field time_offset_fields[] = {
	{"secs", JSON_I64, .offset = offsetof(struct spec_time_offset, sec)},
	{"nanosecs", JSON_U32, .offset = offsetof(struct spec_time_offset, nsec), .max = 999999999},
	{NULL},
};

static int parse_time_offset(struct parser *p, const struct jv *v, void *dest)
{
	((struct spec_time_offset *)dest)->present = true;
	return jv_fields(p, v, time_offset_fields, dest);
}

static const struct json_field time_offsets_fields[] = {
	{"monotonic", JSON_CUSTOM, .offset = offsetof(struct spec, time_monotonic),
		.parse = parse_time_offset},
	{"boottime", JSON_CUSTOM, .offset = offsetof(struct spec, time_boottime), .parse = parse_time_offset},
	{NULL},
};

static int parse_domain(struct parser *p, const struct jv *v, void *dest)
{
	static const struct name_number domains[] = {{"LINUX", PER_LINUX}, {"LINUX32", PER_LINUX32}, {NULL}};
	uint64_t n = 0;
	int r = spec_lookup(p, v, domains, "personality", &n);

	*(unsigned long *)dest = n;
	return r;
}

static const struct json_field personality_fields[] = {
	{"domain", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec, personality),
		.parse = parse_domain},
	{"flags", JSON_UNSUPPORTED}, /* none is defined by the specification */
	{NULL},
};

static const struct json_field linux_fields[] = {
	{"namespaces", JSON_CUSTOM, .parse = parse_namespaces},
	{"uidMappings", JSON_CUSTOM, .offset = offsetof(struct spec, ids), .parse = spec_uid_maps_parse},
	{"gidMappings", JSON_CUSTOM, .offset = offsetof(struct spec, ids), .parse = spec_gid_maps_parse},
	{"timeOffsets", JSON_SUB, .sub = time_offsets_fields},
	{"devices", JSON_CUSTOM, .parse = parse_devices},
	{"netDevices", JSON_CUSTOM, .parse = spec_net_devices_parse},
	{"cgroupsPath", JSON_STRING, .offset = offsetof(struct spec, cgroups_path)},
	{"resources", JSON_CUSTOM, .offset = offsetof(struct spec, resources), .parse = spec_resources_parse},
	{"sysctl", JSON_CUSTOM, .parse = parse_sysctl},
	{"seccomp", JSON_CUSTOM, .offset = offsetof(struct spec, seccomp), .parse = spec_seccomp_parse},
	{"rootfsPropagation", JSON_CUSTOM, .parse = parse_propagation},
	{"maskedPaths", JSON_PATHV, .offset = offsetof(struct spec, masked_paths)},
	{"readonlyPaths", JSON_PATHV, .offset = offsetof(struct spec, readonly_paths)},
	{"mountLabel", JSON_STRING, .offset = offsetof(struct spec, mount_label)},
	{"intelRdt", JSON_CUSTOM, .offset = offsetof(struct spec, intel_rdt), .parse = spec_intel_rdt_parse},
	{"memoryPolicy", JSON_CUSTOM, .offset = offsetof(struct spec, memory_policy),
		.parse = spec_memory_policy_parse},
	{"personality", JSON_SUB, .has_offset = offsetof(struct spec, has_personality),
		.sub = personality_fields},
	{NULL},
};

static int check_sysctls(struct parser *p, const struct jv *v, const struct spec *s)
{
	struct jv map = {.up = v, .key = "sysctl"};

	for (size_t i = 0; i < s->n_sysctl; i++) {
		const char *name = s->sysctl[i].name;
		struct jv entry = {.up = &map, .key = name, .quote_key = true};
		enum ns_type ns = spec_sysctl_namespace(name);

		if (ns == NS_COUNT)
			return jv_fail(
				p, &entry, "is not kept apart by any namespace, it would change the host");
		if (!s->namespaces[ns].present)
			return jv_fail(
				p, &entry, "needs a %s namespace in linux.namespaces", ns_oci_name(ns));
	}
	return 0;
}

int spec_linux_parse(struct parser *p, const struct jv *v, void *dest)
{
	int r = jv_fields(p, v, linux_fields, dest);

	return r < 0 ? r : check_sysctls(p, v, dest);
}
