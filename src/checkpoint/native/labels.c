/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AppArmor profiles of the processes. A restored process changes to its profile itself, as the last thing that it does with
 * privileges; if it has several threads, before they are made, as they inherit it. config.json is the ceiling: where it names a
 * profile a process has that one, or one below it ("profile//child"). SELinux's labels are refused.
 */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

static const char stacked[] = "attr/apparmor/current" /* 5.8 */, sole[] = "attr/current";

static bool has_apparmor(void)
{
	char text[8];

	return read_small_file_at(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", text, sizeof(text)) >
		       0 &&
	       text[0] == 'Y';
}

/* "" without a security module that labels tasks. */
void dump_read_label(const char *task, char *buf, size_t size)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/%s/%s", task, has_apparmor() ? stacked : sole);
	if (read_small_file_at(AT_FDCWD, path, buf, size) < 0) {
		snprintf(path, sizeof(path), "/proc/%s/%s", task, sole);
		if (read_small_file_at(AT_FDCWD, path, buf, size) < 0)
			buf[0] = '\0';
	}
	buf[strcspn(buf, "\n")] = '\0';
}

void dump_read_label_of(const struct dump_proc *p, char *buf, size_t size)
{
	char task[16];

	snprintf(task, sizeof(task), "%d", p->shown);
	dump_read_label(task, buf, size);
}

static void dump_label(struct dump *d, struct dump_proc *p, const char *own)
{
	char label[512], other[512], task[48], *mode;

	dump_read_label_of(p, label, sizeof(label));
	for (size_t k = 1; k < p->n_threads; k++) {
		snprintf(task, sizeof(task), "%d/task/%d", p->pid, p->threads[k].tid);
		dump_read_label(task, other, sizeof(other));
		if (other[0] && label[0] && strcmp(other, label) != 0)
			dump_refuse(d, p, -1, "LSM label", "its threads have different labels",
				"let all of a process's threads have one", "thread %d: %s",
				p->threads[k].ns_tid, other);
	}
	if (!label[0] || !strcmp(label, own))
		return;
	if (!has_apparmor() || !strcmp(label, "unconfined")) {
		dump_refuse(d, p, -1, "LSM label",
			"it is not given back at restore, so the process would be less confined",
			"run the container without process.selinuxLabel", "%s", label);
		return;
	}
	mode = strstr(label, " (");
	if (mode)
		*mode = '\0';
	p->msg->label = arena_strdup(&d->arena, label);
}

void dump_labels(struct dump *d)
{
	char own[512];

	if (d->own_label)
		snprintf(own, sizeof(own), "%s", d->own_label);
	else
		dump_read_label("self", own, sizeof(own));
	for (size_t i = 0; own[0] && i < d->n_procs; i++)
		if (!d->procs[i].zombie && d->procs[i].msg)
			dump_label(d, &d->procs[i], own);
}

/* ---- restore ---- */

/* What is left of "label" behind "profile": "" or "//child"; NULL: it is another one. */
static const char *below(const char *label, const char *profile)
{
	size_t n = strlen(profile);

	return !strncmp(label, profile, n) && (!label[n] || !strncmp(label + n, "//", 2)) ? label + n : NULL;
}

int restore_check_labels(struct restore *r, const struct spec *s, struct error *e)
{
	const char *profile = s->process->apparmor_profile, *instead = r->options->lsm_profile;

	if (instead && strncmp(instead, "apparmor:", 9) != 0)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"--lsm-profile %s: only apparmor:PROFILE is supported", instead);
	if (profile && (!*profile || !strcmp(profile, "unconfined")))
		profile = NULL;
	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i];
		const char *rest = profile ? below(p->label, profile) : *p->label ? "" : NULL;

		if (p->state == 2)
			continue;
		if (profile && !rest)
			return error_set(e, -EPERM, ERROR_REFUSED,
				"process %d of the image has not the AppArmor profile %s that the bundle's "
				"config.json "
				"asks for",
				p->pid, profile);
		r->labels[i] = !rest	 ? NULL
			       : instead ? arena_printf(&r->arena, "%s%s", instead + 9, rest)
					 : p->label;
		if (rest && (!r->labels[i] || strlen(r->labels[i]) > 480 || strchr(r->labels[i], '\n')))
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"checkpoint.img: process %d: its label is malformed", p->pid);
	}
	return 0;
}

int restore_open_label(struct restore *r, const char *label, struct error *e)
{
	char path[64];
	int fd, result;

	snprintf(path, sizeof(path), "self/%s", stacked);
	fd = openat(r->proc_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(path, sizeof(path), "self/%s", sole);
		fd = openat(r->proc_fd, path, O_WRONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return error_errno(
			e, -errno, "open /proc/self/attr/current for the AppArmor profile %s", label);
	result = restore_move_fd(r, &fd);
	return result < 0 ? error_errno(e, result, "move a descriptor") : fd;
}
