/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/spec-check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

struct check {
	enum spec_check how;
	char text[700]; /* what differs, separated by "; " */
	size_t n;
};

static void _printf_(2, 3) differs(struct check *c, const char *format, ...)
{
	char text[300];
	va_list ap;
	size_t used = strlen(c->text);

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	c->n++;
	if (c->how == SPEC_CHECK_WARNING)
		log_warning("the bundle's config.json is not the one of the image: %s", text);
	else if (used + strlen(text) + 8 < sizeof(c->text))
		snprintf(c->text + used, sizeof(c->text) - used, "%s%s", used ? "; " : "", text);
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static const char *shown(const char *s)
{
	return s ? s : "(none)";
}

static void check_text(struct check *c, const char *path, const char *image, const char *bundle)
{
	if (!same(image, bundle))
		differs(c, "%s is %.100s, was %.100s", path, shown(bundle), shown(image));
}

static void check_number(struct check *c, const char *path, int64_t image, int64_t bundle)
{
	if (image != bundle)
		differs(c, "%s is %lld, was %lld", path, (long long)bundle, (long long)image);
}

static void check_set(struct check *c, const char *path, uint64_t image, uint64_t bundle)
{
	if (image != bundle)
		differs(c, "%s is %#llx, was %#llx", path, (unsigned long long)bundle,
			(unsigned long long)image);
}

/* In this order. */
static void check_list(struct check *c, const char *path, char **image, char **bundle)
{
	size_t i = 0;

	while (image && bundle && image[i] && bundle[i] && !strcmp(image[i], bundle[i]))
		i++;
	if ((image ? image[i] : NULL) || (bundle ? bundle[i] : NULL))
		differs(c, "%s[%zu] is %.100s, was %.100s", path, i, shown(bundle ? bundle[i] : NULL),
			shown(image ? image[i] : NULL));
}

/* In any order. */
static bool has(char **list, const char *s)
{
	for (; list && *list; list++)
		if (!strcmp(*list, s))
			return true;
	return false;
}

static void check_strings(struct check *c, const char *path, char **image, char **bundle)
{
	for (char **p = image; p && *p; p++)
		if (!has(bundle, *p))
			differs(c, "%s lacks %.100s", path, *p);
	for (char **p = bundle; p && *p; p++)
		if (!has(image, *p))
			differs(c, "%s has %.100s, which it had not", path, *p);
}

/* ---- process ---- */

static void check_user(struct check *c, const struct spec_process *a, const struct spec_process *b)
{
	check_number(c, "process.user.uid", a->uid, b->uid);
	check_number(c, "process.user.gid", a->gid, b->gid);
	check_number(c, "process.user.umask", a->has_umask ? (int64_t)a->umask : -1,
		b->has_umask ? (int64_t)b->umask : -1);
	if (a->n_additional_gids != b->n_additional_gids ||
		(a->n_additional_gids && memcmp(a->additional_gids, b->additional_gids,
						 a->n_additional_gids * sizeof(*a->additional_gids)) != 0))
		differs(c, "process.user.additionalGids are others");
}

static const struct spec_rlimit *find_rlimit(const struct spec_process *p, int resource)
{
	for (size_t i = 0; i < p->n_rlimits; i++)
		if (p->rlimits[i].resource == resource)
			return &p->rlimits[i];
	return NULL;
}

static void check_rlimits(struct check *c, const struct spec_process *a, const struct spec_process *b)
{
	for (size_t i = 0; i < a->n_rlimits; i++) {
		const struct spec_rlimit *x = &a->rlimits[i], *y = find_rlimit(b, x->resource);

		if (!y || x->soft != y->soft || x->hard != y->hard)
			differs(c, "process.rlimits: %s %s", x->name, y ? "has another value" : "is missing");
	}
	for (size_t i = 0; i < b->n_rlimits; i++)
		if (!find_rlimit(a, b->rlimits[i].resource))
			differs(c, "process.rlimits: %s is new", b->rlimits[i].name);
}

static void check_process(struct check *c, const struct spec_process *a, const struct spec_process *b)
{
	const struct spec_capabilities *x = &a->capabilities, *y = &b->capabilities;

	check_list(c, "process.args", a->args, b->args);
	check_text(c, "process.cwd", a->cwd, b->cwd);
	check_number(c, "process.terminal", a->terminal, b->terminal);
	check_user(c, a, b);
	check_rlimits(c, a, b);
	check_number(c, "process.noNewPrivileges", a->no_new_privileges, b->no_new_privileges);
	if (a->has_capabilities != b->has_capabilities)
		differs(c, "process.capabilities are %s", b->has_capabilities ? "new" : "missing");
	check_set(c, "process.capabilities.bounding", x->bounding, y->bounding);
	check_set(c, "process.capabilities.effective", x->effective, y->effective);
	check_set(c, "process.capabilities.inheritable", x->inheritable, y->inheritable);
	check_set(c, "process.capabilities.permitted", x->permitted, y->permitted);
	check_set(c, "process.capabilities.ambient", x->ambient, y->ambient);
}

/* ---- mounts and devices ---- */

static const struct spec_mount *find_mount(const struct spec *s, const struct spec_mount *of, size_t nth)
{
	for (size_t i = 0; i < s->n_mounts; i++)
		if (!strcmp(s->mounts[i].destination, of->destination) && nth-- == 0)
			return &s->mounts[i];
	return NULL;
}

/* How many of those before it are at the same place. */
static size_t rank_of(const struct spec *s, const struct spec_mount *of)
{
	size_t n = 0;

	for (const struct spec_mount *m = s->mounts; m < of; m++)
		n += !strcmp(m->destination, of->destination);
	return n;
}

static bool same_mount(const struct spec_mount *a, const struct spec_mount *b)
{
	return a->is_bind == b->is_bind && (a->is_bind || same(a->type, b->type)) && a->flags == b->flags &&
	       a->clear_flags == b->clear_flags && a->propagation == b->propagation &&
	       a->rec_flags == b->rec_flags && a->rec_clear == b->rec_clear && a->tmpcopyup == b->tmpcopyup &&
	       a->idmap == b->idmap && same(a->idmap_option, b->idmap_option) && same(a->data, b->data);
}

static void check_mounts(struct check *c, const struct spec *a, const struct spec *b)
{
	for (size_t i = 0; i < a->n_mounts; i++) {
		const struct spec_mount *x = &a->mounts[i], *y = find_mount(b, x, rank_of(a, x));

		if (!y || !same_mount(x, y))
			differs(c, "mounts: %.100s %s", x->destination,
				y ? "has another type or other options" : "is missing");
	}
	for (size_t i = 0; i < b->n_mounts; i++)
		if (!find_mount(a, &b->mounts[i], rank_of(b, &b->mounts[i])))
			differs(c, "mounts: %.100s is new", b->mounts[i].destination);
}

static const struct spec_device *find_device(const struct spec *s, const char *path)
{
	for (size_t i = 0; i < s->n_devices; i++)
		if (!strcmp(s->devices[i].path, path))
			return &s->devices[i];
	return NULL;
}

static void check_devices(struct check *c, const struct spec *a, const struct spec *b)
{
	for (size_t i = 0; i < a->n_devices; i++) {
		const struct spec_device *x = &a->devices[i], *y = find_device(b, x->path);

		if (!y || x->type != y->type || x->has_mode != y->has_mode || x->mode != y->mode ||
			x->uid != y->uid || x->gid != y->gid)
			differs(c, "linux.devices: %.100s is %s", x->path, y ? "another one" : "missing");
	}
	for (size_t i = 0; i < b->n_devices; i++)
		if (!find_device(a, b->devices[i].path))
			differs(c, "linux.devices: %.100s is new", b->devices[i].path);
}

/* ---- the rest ---- */

static const char *find_sysctl(const struct spec *s, const char *name)
{
	for (size_t i = 0; i < s->n_sysctl; i++)
		if (!strcmp(s->sysctl[i].name, name))
			return s->sysctl[i].value;
	return NULL;
}

static void check_sysctls(struct check *c, const struct spec *a, const struct spec *b)
{
	for (size_t i = 0; i < a->n_sysctl; i++)
		if (!same(a->sysctl[i].value, find_sysctl(b, a->sysctl[i].name)))
			differs(c, "linux.sysctl: %.100s is %.60s, was %.60s", a->sysctl[i].name,
				shown(find_sysctl(b, a->sysctl[i].name)), a->sysctl[i].value);
	for (size_t i = 0; i < b->n_sysctl; i++)
		if (!find_sysctl(a, b->sysctl[i].name))
			differs(c, "linux.sysctl: %.100s is new", b->sysctl[i].name);
}

static bool same_rule(const struct spec_seccomp_rule *a, const struct spec_seccomp_rule *b)
{
	size_t i = 0;

	if (a->action != b->action || a->n_args != b->n_args)
		return false;
	while (a->names[i] && b->names[i] && !strcmp(a->names[i], b->names[i]))
		i++;
	if (a->names[i] || b->names[i])
		return false;
	for (i = 0; i < a->n_args; i++)
		if (a->args[i].index != b->args[i].index || a->args[i].value != b->args[i].value ||
			a->args[i].value_two != b->args[i].value_two || a->args[i].op != b->args[i].op)
			return false;
	return true;
}

static bool same_seccomp(const struct spec_seccomp *a, const struct spec_seccomp *b)
{
	if (!a || !b)
		return a == b;
	if (a->default_action != b->default_action || a->flags != b->flags || a->n_rules != b->n_rules)
		return false;
	for (size_t i = 0; i < a->n_rules; i++)
		if (!same_rule(&a->rules[i], &b->rules[i]))
			return false;
	return true;
}

static void check_ids(struct check *c, const struct id_maps *a, const struct id_maps *b)
{
	if (a->n_uid != b->n_uid || a->n_gid != b->n_gid ||
		(a->n_uid && memcmp(a->uid, b->uid, a->n_uid * sizeof(*a->uid)) != 0) ||
		(a->n_gid && memcmp(a->gid, b->gid, a->n_gid * sizeof(*a->gid)) != 0))
		differs(c, "linux.uidMappings or linux.gidMappings are others");
}

static void check_linux(struct check *c, const struct spec *a, const struct spec *b)
{
	for (int t = 0; t < NS_COUNT; t++)
		if (a->namespaces[t].present != b->namespaces[t].present)
			differs(c, "linux.namespaces: %s is %s", ns_oci_name(t),
				b->namespaces[t].present ? "new" : "missing");
	check_number(c, "root.readonly", a->rootfs_readonly, b->rootfs_readonly);
	check_strings(c, "linux.maskedPaths", a->masked_paths, b->masked_paths);
	check_strings(c, "linux.readonlyPaths", a->readonly_paths, b->readonly_paths);
	check_ids(c, &a->ids, &b->ids);
	if (!same_seccomp(a->seccomp, b->seccomp))
		differs(c, "linux.seccomp is another one");
}

int spec_check(const struct spec *image, const struct spec *bundle, enum spec_check how, struct error *e)
{
	struct check c = {.how = how};

	if (how == SPEC_CHECK_IGNORE)
		return 0;
	if (image->process && bundle->process)
		check_process(&c, image->process, bundle->process);
	check_mounts(&c, image, bundle);
	check_devices(&c, image, bundle);
	check_sysctls(&c, image, bundle);
	check_linux(&c, image, bundle);
	if (c.n == 0 || how == SPEC_CHECK_WARNING)
		return 0;
	return error_set(e, -EINVAL, ERROR_REFUSED,
		"the bundle's config.json is not the one of the image: %s (--spec-check warning or ignore, "
		"if that is wanted)",
		c.text);
}
