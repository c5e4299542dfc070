/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "mounts" of config.json. Each option is one row of a table (the names of mount(8) as runc and crun know them);
 * later options win over earlier ones, and what the table does not know belongs to the filesystem ("size=64m").
 */
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "oci/spec-priv.h"

/* linux/mount.h and sys/mount.h of Debian 12 lack the newest of these. */
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

enum option_kind {
	OPTION_NOTHING,
	OPTION_SET, /* MS_* */
	OPTION_CLEAR,
	OPTION_PROPAGATION,
	OPTION_REC_SET, /* MOUNT_ATTR_* for the whole tree */
	OPTION_REC_CLEAR,
	OPTION_TMPCOPYUP,
	OPTION_IDMAP,	    /* the flag: recursively */
	OPTION_IDMAP_VALUE, /* "idmap=...": the same */
	OPTION_SOURCE_LINK,
};

static const struct mount_option {
	const char *name;
	enum option_kind kind;
	unsigned long flag;
} options[] = {
	{"defaults", OPTION_NOTHING, 0},
	{"acl", OPTION_SET, MS_POSIXACL},
	{"noacl", OPTION_CLEAR, MS_POSIXACL},
	{"async", OPTION_CLEAR, MS_SYNCHRONOUS},
	{"sync", OPTION_SET, MS_SYNCHRONOUS},
	{"atime", OPTION_CLEAR, MS_NOATIME},
	{"noatime", OPTION_SET, MS_NOATIME},
	{"bind", OPTION_SET, MS_BIND},
	{"rbind", OPTION_SET, MS_BIND | MS_REC},
	{"dev", OPTION_CLEAR, MS_NODEV},
	{"nodev", OPTION_SET, MS_NODEV},
	{"diratime", OPTION_CLEAR, MS_NODIRATIME},
	{"nodiratime", OPTION_SET, MS_NODIRATIME},
	{"dirsync", OPTION_SET, MS_DIRSYNC},
	{"exec", OPTION_CLEAR, MS_NOEXEC},
	{"noexec", OPTION_SET, MS_NOEXEC},
	{"iversion", OPTION_SET, MS_I_VERSION},
	{"noiversion", OPTION_CLEAR, MS_I_VERSION},
	{"lazytime", OPTION_SET, MS_LAZYTIME},
	{"nolazytime", OPTION_CLEAR, MS_LAZYTIME},
	{"loud", OPTION_CLEAR, MS_SILENT},
	{"silent", OPTION_SET, MS_SILENT},
	{"mand", OPTION_SET, MS_MANDLOCK},
	{"nomand", OPTION_CLEAR, MS_MANDLOCK},
	{"relatime", OPTION_SET, MS_RELATIME},
	{"norelatime", OPTION_CLEAR, MS_RELATIME},
	{"strictatime", OPTION_SET, MS_STRICTATIME},
	{"nostrictatime", OPTION_CLEAR, MS_STRICTATIME},
	{"remount", OPTION_SET, MS_REMOUNT},
	{"ro", OPTION_SET, MS_RDONLY},
	{"rw", OPTION_CLEAR, MS_RDONLY},
	{"suid", OPTION_CLEAR, MS_NOSUID},
	{"nosuid", OPTION_SET, MS_NOSUID},
	{"symfollow", OPTION_CLEAR, MS_NOSYMFOLLOW},
	{"nosymfollow", OPTION_SET, MS_NOSYMFOLLOW},
	{"private", OPTION_PROPAGATION, MS_PRIVATE},
	{"rprivate", OPTION_PROPAGATION, MS_PRIVATE | MS_REC},
	{"shared", OPTION_PROPAGATION, MS_SHARED},
	{"rshared", OPTION_PROPAGATION, MS_SHARED | MS_REC},
	{"slave", OPTION_PROPAGATION, MS_SLAVE},
	{"rslave", OPTION_PROPAGATION, MS_SLAVE | MS_REC},
	{"unbindable", OPTION_PROPAGATION, MS_UNBINDABLE},
	{"runbindable", OPTION_PROPAGATION, MS_UNBINDABLE | MS_REC},
	{"rro", OPTION_REC_SET, MOUNT_ATTR_RDONLY},
	{"rrw", OPTION_REC_CLEAR, MOUNT_ATTR_RDONLY},
	{"rnosuid", OPTION_REC_SET, MOUNT_ATTR_NOSUID},
	{"rsuid", OPTION_REC_CLEAR, MOUNT_ATTR_NOSUID},
	{"rnodev", OPTION_REC_SET, MOUNT_ATTR_NODEV},
	{"rdev", OPTION_REC_CLEAR, MOUNT_ATTR_NODEV},
	{"rnoexec", OPTION_REC_SET, MOUNT_ATTR_NOEXEC},
	{"rexec", OPTION_REC_CLEAR, MOUNT_ATTR_NOEXEC},
	{"rnodiratime", OPTION_REC_SET, MOUNT_ATTR_NODIRATIME},
	{"rdiratime", OPTION_REC_CLEAR, MOUNT_ATTR_NODIRATIME},
	{"rrelatime", OPTION_REC_SET, MOUNT_ATTR_RELATIME},
	{"rnorelatime", OPTION_REC_CLEAR, MOUNT_ATTR_RELATIME},
	{"rnoatime", OPTION_REC_SET, MOUNT_ATTR_NOATIME},
	{"ratime", OPTION_REC_CLEAR, MOUNT_ATTR_NOATIME},
	{"rstrictatime", OPTION_REC_SET, MOUNT_ATTR_STRICTATIME},
	{"rnostrictatime", OPTION_REC_CLEAR, MOUNT_ATTR_STRICTATIME},
	{"rnosymfollow", OPTION_REC_SET, MOUNT_ATTR_NOSYMFOLLOW},
	{"rsymfollow", OPTION_REC_CLEAR, MOUNT_ATTR_NOSYMFOLLOW},
	{"tmpcopyup", OPTION_TMPCOPYUP, 0},
	{"idmap", OPTION_IDMAP, false},
	{"ridmap", OPTION_IDMAP, true},
	{"copy-symlink", OPTION_SOURCE_LINK, SOURCE_LINK_COPY},
	{"src-nofollow", OPTION_SOURCE_LINK, SOURCE_LINK_MOUNT},
	{"idmap=", OPTION_IDMAP_VALUE, false},
	{"ridmap=", OPTION_IDMAP_VALUE, true},
};

/* A row that ends with "=" is for that with any value. */
static const struct mount_option *find_option(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		size_t len = strlen(options[i].name);
		bool value = options[i].name[len - 1] == '=';

		if (value ? strncmp(options[i].name, text, len) == 0 : strcmp(options[i].name, text) == 0)
			return &options[i];
	}
	return NULL;
}

const char *mount_option_name(size_t i)
{
	for (size_t k = 0; k < ARRAY_SIZE(options); k++)
		if (options[k].kind != OPTION_IDMAP_VALUE && i-- == 0)
			return options[k].name;
	return NULL;
}

unsigned long mount_propagation(const char *name)
{
	const struct mount_option *o = find_option(name);

	return o && o->kind == OPTION_PROPAGATION ? o->flag : 0;
}

/* The three atime modes are one field to mount_setattr(2): whoever changes it must clear all of it first, and the
 * modes "relatime" and "atime" (our clear of the other two) are both its value 0. */
static void apply_recursive(struct spec_mount *m, const struct mount_option *o)
{
	bool set = o->kind == OPTION_REC_SET;

	if ((o->flag & ~(unsigned long)MOUNT_ATTR__ATIME) == 0) {
		m->rec_flags = (m->rec_flags & ~(unsigned long)MOUNT_ATTR__ATIME) | (set ? o->flag : 0);
		m->rec_clear |= MOUNT_ATTR__ATIME;
		return;
	}
	m->rec_flags = set ? m->rec_flags | o->flag : m->rec_flags & ~o->flag;
	m->rec_clear = set ? m->rec_clear & ~o->flag : m->rec_clear | o->flag;
}

static void apply_option(struct spec_mount *m, const struct mount_option *o, const char *text)
{
	switch (o->kind) {
	case OPTION_NOTHING:
		break;
	case OPTION_SET:
		m->flags |= o->flag;
		m->clear_flags &= ~o->flag;
		break;
	case OPTION_CLEAR:
		m->flags &= ~o->flag;
		m->clear_flags |= o->flag;
		break;
	case OPTION_PROPAGATION:
		m->propagation = o->flag;
		break;
	case OPTION_REC_SET:
	case OPTION_REC_CLEAR:
		apply_recursive(m, o);
		break;
	case OPTION_TMPCOPYUP:
		m->tmpcopyup = true;
		break;
	case OPTION_IDMAP_VALUE:
		m->idmap_option = strchr(text, '=') + 1;
		/* fall through */
	case OPTION_IDMAP:
		m->idmap = true;
		m->idmap_recursive = o->flag;
		break;
	case OPTION_SOURCE_LINK:
		m->source_link = o->flag;
		break;
	}
}

/* Appends to the comma-separated list of what the filesystem itself gets; "data" has room for all options. */
static void add_data(char *data, const char *text)
{
	size_t n = strlen(data), len = strlen(text);

	if (n)
		data[n++] = ',';
	memcpy(data + n, text, len + 1);
}

static int parse_options(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_mount *m = dest;
	size_t n, room = 1;
	const char *text;
	char *data;
	int r = jv_expect(p, v, json_type_array);

	if (r < 0)
		return r;
	n = json_object_array_length(v->o);
	for (size_t i = 0; i < n; i++) {
		struct jv item = jv_element(v, i);

		r = jv_borrow(p, &item, &text);
		if (r < 0)
			return r;
		room += strlen(text) + 1;
	}
	data = arena_alloc(p->arena, room);
	if (!data)
		return jv_no_memory(p);
	for (size_t i = 0; i < n; i++) {
		struct jv item = jv_element(v, i);
		const struct mount_option *o;

		r = jv_borrow(p, &item, &text);
		if (r < 0)
			return r;
		o = find_option(text);
		if (o)
			apply_option(m, o, text);
		else if (text[0])
			add_data(data, text);
	}
	m->data = data[0] ? data : NULL;
	return 0;
}

static const struct json_field mount_fields[] = {
	{"destination", JSON_STRING, .required = true, .offset = offsetof(struct spec_mount, destination)},
	{"type", JSON_STRING, .offset = offsetof(struct spec_mount, type)},
	{"source", JSON_STRING, .offset = offsetof(struct spec_mount, source)},
	{"options", JSON_CUSTOM, .parse = parse_options},
	{"uidMappings", JSON_CUSTOM, .offset = offsetof(struct spec_mount, ids),
		.parse = spec_uid_maps_parse},
	{"gidMappings", JSON_CUSTOM, .offset = offsetof(struct spec_mount, ids),
		.parse = spec_gid_maps_parse},
	{NULL},
};

static int check_idmap(struct parser *p, const struct jv *v, struct spec_mount *m)
{
	const char *key = m->ids.n_uid ? "uidMappings" : m->ids.n_gid ? "gidMappings" : "options";
	struct jv member = {.up = v, .key = key};

	m->idmap |= m->ids.n_uid || m->ids.n_gid;
	if (m->idmap && !m->is_bind)
		return jv_fail(p, &member, "ids can be mapped only for a bind mount");
	if (!m->ids.n_uid != !m->ids.n_gid)
		return jv_fail(p, &member, "uidMappings and gidMappings are needed together");
	return 0;
}

static int parse_mount(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_mount *m = dest;
	struct jv member = {.up = v};
	int r = jv_fields(p, v, mount_fields, m);

	if (r < 0)
		return r;
	member.key = "destination";
	if (!m->destination[0])
		return jv_fail(p, &member, "must not be empty");
	/* The specification wants an absolute one since 1.0.2; older callers mean "below the root", as runc reads it. */
	if (m->destination[0] != '/')
		m->destination = arena_printf(p->arena, "/%s", m->destination);
	if (!m->destination)
		return jv_no_memory(p);
	m->is_bind = (m->flags & MS_BIND) || (m->type && strcmp(m->type, "bind") == 0);
	r = check_idmap(p, v, m);
	if (r < 0)
		return r;
	if (!m->is_bind) {
		member.key = "type";
		if (!m->type || !m->type[0])
			return jv_fail(p, &member, "missing (only bind mounts have none)");
		return 0;
	}
	member.key = "source";
	if (!m->source || !m->source[0])
		return jv_fail(p, &member, "missing (a bind mount needs one)");
	m->flags |= MS_BIND;
	m->type = NULL;
	m->source = spec_from_bundle(p, m->source);
	return m->source ? 0 : jv_no_memory(p);
}

int spec_mounts_parse(struct parser *p, const struct jv *v, void *dest)
{
	struct spec *s = dest;

	return jv_array(p, v, sizeof(*s->mounts), parse_mount, &s->mounts, &s->n_mounts);
}
