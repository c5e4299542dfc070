/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pressure triggers: what has been written to /proc/pressure/X or to X.pressure of a cgroup ("some 150000 1000000") arms one,
 * which lives as long as the description. No file shows it; it is read where the kernel has it (linux/bpfwalk.h). Whether its
 * maker had CAP_SYS_RESOURCE decides how the kernel watches, so a restore opens the file with or without it. An event
 * that nobody has polled for yet could not be given again: refused as long as it waits.
 */
#include "checkpoint/native/res/pressure.h"

#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/bpfwalk.h"
#include "linux/caps.h"

enum { NS = 1000 };

static bool is_pressure(const char *path)
{
	const char *name = strrchr(path, '/');

	return strstr(path, "/pressure/") || (name && strstr(name, ".pressure"));
}

bool pressure_may_be_armed(const struct dump_file *f)
{
	return f->st.st_size == 0 && (f->info.flags & O_ACCMODE) != O_RDONLY && !(f->info.flags & O_PATH) &&
	       is_pressure(f->link);
}

/* Of a file of /proc its private data leads to the trigger, of a cgroup's file by what kernfs and the cgroup have of it. */
static int walk(
	struct dump *d, const struct dump_file *f, St__PressureTrigger *t, bool *ret_armed, bool *ret_event)
{
	enum { SEQ, PRIVATE, OF, TRIGGER, STATE, THRESHOLD, WINDOW, AGGREGATOR, EVENT };
	const bool proc = strstr(f->link, "/pressure/") != NULL;
	const struct bpf_field fields[] = {
		[SEQ] = {"file", "private_data", 8},
		[PRIVATE] = {"seq_file", "private", 8, SEQ + 1},
		[OF] = {"kernfs_open_file", "priv", 8, PRIVATE + 1},
		[TRIGGER] = {"cgroup_file_ctx", "psi", 8, OF + 1},
		[STATE] = {"psi_trigger", "state", 4, (proc ? PRIVATE : TRIGGER) + 1},
		[THRESHOLD] = {"psi_trigger", "threshold", 8, (proc ? PRIVATE : TRIGGER) + 1},
		[WINDOW] = {"psi_trigger", "win", 8, (proc ? PRIVATE : TRIGGER) + 1},
		[AGGREGATOR] = {"psi_trigger", "aggregator", 4, (proc ? PRIVATE : TRIGGER) + 1},
		[EVENT] = {"psi_trigger", "event", 4, (proc ? PRIVATE : TRIGGER) + 1},
	};
	const uint64_t *v;
	struct bpf_row *row;
	size_t n;
	int r = bpf_walk(&(struct bpf_objects){"task_file", f->proc->shown, f->fd}, fields,
		ARRAY_SIZE(fields), &d->arena, &row, &n);

	if (r < 0 || n != 1)
		return r < 0 ? r : -ENOENT;
	v = row->values;
	*ret_armed = v[proc ? PRIVATE : TRIGGER] != 0;
	*ret_event = v[EVENT] != 0;
	/* PSI_IO_SOME, PSI_IO_FULL, ...; of interrupts there is only "full". */
	t->full = v[STATE] % 2 == 1 || strstr(f->link, "irq") != NULL;
	t->threshold_us = v[THRESHOLD] / NS;
	t->window_us = v[WINDOW] / NS;
	t->privileged = v[AGGREGATOR] != 0;
	/* What the kernel takes, or we have read something else. */
	return *ret_armed && (t->window_us < 500000 || t->window_us > 10000000 || t->threshold_us == 0 ||
				     t->threshold_us > t->window_us || v[THRESHOLD] % NS || v[WINDOW] % NS)
		       ? -EOPNOTSUPP
		       : 0;
}

int pressure_check(struct dump *d, struct dump_file *f, const char **ret_reason, const char **ret_remedy,
	struct error *e)
{
	St__PressureTrigger *t = pb_new(&d->arena, PressureTrigger, pressure_trigger);
	bool armed = false, event = false;
	int r = !t ? -ENOMEM : d->unprivileged || f->fd < 0 ? -EOPNOTSUPP : walk(d, f, t, &armed, &event);

	if (r == -ENOMEM)
		return error_errno(e, r, "%s", f->link);
	if (r == -ENOENT && !d->stopped)
		return 0; /* closed meanwhile */
	*ret_remedy = "close it first";
	if (r < 0)
		*ret_reason = "whether it is a trigger for pressure this kernel does not let us read";
	f->trigger = r == 0 && armed ? t : NULL;
	if (f->trigger && event) {
		*ret_reason = "an event of its trigger for pressure waits";
		*ret_remedy = REMEDY_POLL;
	}
	return 0;
}

/* Opened as its maker had. */
static int open_as(const char *path, int flags, bool privileged)
{
	struct caps own, less;
	int fd, r = caps_get(&own);

	if (r < 0)
		return r;
	less = own;
	less.effective &= ~(1ull << CAP_SYS_RESOURCE);
	if (!privileged && caps_set(&less) < 0)
		return -errno;
	fd = open(path, flags);
	if (fd < 0)
		fd = -errno;
	r = privileged ? 0 : caps_set(&own);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

int pressure_open(struct restore *r, const St__Regular *m, int flags, struct error *e)
{
	const St__PressureTrigger *t = m->trigger;
	_cleanup_close_ int fd = -EBADF;
	struct statfs fs;
	char text[64];
	int n = snprintf(text, sizeof(text), "%s %llu %llu", t->full ? "full" : "some",
		(unsigned long long)t->threshold_us, (unsigned long long)t->window_us);

	if (!is_pressure(m->path) || (flags & O_ACCMODE) == O_RDONLY)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "a trigger for pressure is malformed");
	if (t->privileged && !(r->bounding & 1ull << CAP_SYS_RESOURCE))
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image has a trigger for pressure which only CAP_SYS_RESOURCE can make, and the "
			"bundle's "
			"config.json does not give it");
	fd = open_as(m->path, flags, t->privileged);
	if (fd < 0)
		return error_errno(e, fd, "open %s", m->path);
	if (fstatfs(fd, &fs) < 0 || (fs.f_type != PROC_SUPER_MAGIC && fs.f_type != CGROUP2_SUPER_MAGIC))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "%s is not a file for pressure", m->path);
	if (write(fd, text, n + 1) != n + 1)
		return error_errno(e, -errno, "write \"%s\" to %s", text, m->path);
	return take_fd(&fd);
}
