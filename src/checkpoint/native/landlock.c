/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock domains. The kernel tells nobody their rules, so they cannot be given back, and a process that came back without would be
 * less confined than it had made itself: refused. Only who has no new privileges, or CAP_SYS_ADMIN, can take one.
 */
#include <linux/capability.h>

#include "checkpoint/native/dump.h"
#include "linux/lldomain.h"

/* Who has it may have taken a domain and given it up since. */
static bool gives_administration(const struct spec *s)
{
	return !s->process || !s->process->has_capabilities ||
	       s->process->capabilities.bounding & 1ull << CAP_SYS_ADMIN;
}

/* By what it is created with. */
static bool is_likely(const struct dump *d)
{
	const struct spec *s = d->c->spec;

	return !d->unprivileged && s && (gives_administration(s) || s->process->no_new_privileges);
}

void dump_landlock_begin(const struct dump *d)
{
	if (is_likely(d))
		landlock_begin();
}

void dump_landlock_prepare(const struct dump *d)
{
	if (is_likely(d))
		landlock_learn();
}

/* In a user namespace of its own it has it, too. */
static bool may_have_one(const struct dump_proc *p)
{
	for (size_t k = 0; k < p->n_threads && !p->zombie; k++)
		if (p->threads[k].status.no_new_privs || p->threads[k].status.cap_bnd & 1ull << CAP_SYS_ADMIN)
			return true;
	return false;
}

static void refuse(struct dump *d, const pid_t *tids, size_t n)
{
	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < n && !d->procs[i].zombie; k++)
			if (dump_has_thread(&d->procs[i], tids[k])) {
				dump_refuse(d, &d->procs[i], -1, "Landlock",
					"the kernel does not tell its rules, and without them the process "
					"would be less "
					"confined",
					"run the program without Landlock", "Landlock domain");
				break;
			}
}

int dump_landlock(struct dump *d, struct error *e)
{
	bool any = gives_administration(d->c->spec);
	pid_t *tids;
	size_t n;
	int r;

	for (size_t i = 0; i < d->n_procs && !any; i++)
		any = may_have_one(&d->procs[i]);
	/* An ordinary user may not look. */
	if (!any || d->unprivileged)
		return 0;
	r = landlock_find(&d->arena, &tids, &n);
	if (r == -ENOMEM)
		return error_errno(e, r, "Landlock domains");
	if (r == 0)
		refuse(d, tids, n);
	return 0;
}
