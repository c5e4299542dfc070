/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flags of mappings at the last freeze of --pre-copy. Only smaps tells them, and it walks all page tables for that: 10 ms for a
 * GiB, when all else takes two. So a dictionary is made while the tasks are stopped for the first round: what letters smaps
 * has for the bits that a BPF iterator shows of the same mappings. The letters depend on nothing but the bits. At the last
 * freeze the bits are read, and if there is a word for those of every mapping, smaps is not.
 *
 * Of how much memory is where, smaps alone tells, too. It matters where processes may share pages since a fork, so all this is
 * for containers of one process.
 */
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/track.h"
#include "linux/bpfvma.h"

/* That one; NULL: there is another number of them. */
static struct dump_proc *only_process(struct dump *d)
{
	struct dump_proc *only = NULL;

	for (size_t i = 0; i < d->n_procs; i++) {
		if (d->procs[i].zombie)
			continue;
		if (only)
			return NULL;
		only = &d->procs[i];
	}
	return only;
}

static const struct track_word *find_word(const struct track *t, uint64_t bits)
{
	for (size_t i = 0; i < t->n_words; i++)
		if (t->words[i].bits == bits)
			return &t->words[i];
	return NULL;
}

static void add_word(struct track *t, uint64_t bits, uint32_t letters, uint64_t protection_key)
{
	if (t->n_words < ARRAY_SIZE(t->words) && !find_word(t, bits))
		t->words[t->n_words++] = (struct track_word){bits, letters, protection_key};
}

static int read_bits(const struct track *t, pid_t pid, struct arena *a, struct vma_bits **ret, size_t *ret_n)
{
	_cleanup_close_ int iterator = vma_bits_begin(t->bits_program, pid);

	return iterator < 0 ? iterator : vma_bits_read(iterator, a, ret, ret_n);
}

/* "uw": of those that are watched, with and without the flag that says so. */
static void learn(struct track *t, const struct proc_vma *vmas, size_t n_vmas, const struct vma_bits *bits,
	size_t n, bool before)
{
	for (size_t i = 0, k = 0; i < n; i++) {
		while (k < n_vmas && vmas[k].start < bits[i].start)
			k++;
		if (k < n_vmas && vmas[k].start == bits[i].start && vmas[k].end == bits[i].end)
			add_word(t, bits[i].flags, before ? vmas[k].flags & ~VMA_UW : vmas[k].flags,
				vmas[k].protection_key);
	}
}

void track_learn_before(struct dump *d, struct track *t)
{
	struct dump_proc *p = only_process(d);

	t->n_before = 0;
	if (!p || t->n_words > 0)
		return;
	if (t->bits_program < 0)
		t->bits_program = vma_bits_load();
	if (t->bits_program < 0 || read_bits(t, p->shown, &d->arena, &t->before, &t->n_before) < 0)
		t->n_before = 0;
}

void track_learn(struct dump *d, struct track *t)
{
	struct dump_proc *p = only_process(d);
	struct vma_bits *bits;
	struct proc_vma *vmas;
	size_t n, n_vmas;

	if (!p || t->n_before == 0 || read_bits(t, p->shown, &d->arena, &bits, &n) < 0 ||
		proc_read_maps(p->shown, true, &d->arena, &vmas, &n_vmas) < 0)
		return;
	learn(t, vmas, n_vmas, bits, n, false);
	learn(t, vmas, n_vmas, t->before, t->n_before, true);
	t->n_before = 0;
}

void track_prepare_maps(struct track *t)
{
	close_p(&t->iterator); /* of a try that failed */
	if (t->n_words > 0 && t->n == 1)
		t->iterator = vma_bits_begin(t->bits_program, t->mms[0].pid);
}

/* Everything must have a word, and nothing be of the pool of huge pages, whose size smaps tells. */
static bool translate(const struct track *t, const struct dump_proc *p, struct proc_vma *vmas, size_t n_vmas,
	const struct vma_bits *bits, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n_vmas; i++) {
		struct proc_vma *v = &vmas[i];
		const struct track_word *w;

		if (!strcmp(v->name, "[vsyscall]")) /* the kernel's, and no mapping of the process */
			continue;
		if (k == n || bits[k].start != v->start || bits[k].end != v->end)
			return false;
		w = find_word(t, bits[k++].flags);
		if (!w || (w->letters & VMA_HT))
			return false;
		v->flags = w->letters;
		v->protection_key = w->protection_key;
		/* As much as there can be. */
		if (!v->shared && v->inode == 0)
			v->rss_kib = MIN((v->end - v->start) / 1024, p->status.vm_rss_kib);
	}
	return k == n;
}

int track_read_maps(struct dump *d, struct dump_proc *p, struct arena *a)
{
	struct track *t = d->track;
	struct vma_bits *bits;
	size_t n;
	int r;

	if (!d->stopped || !t || t->iterator < 0 || only_process(d) != p || t->mms[0].pid != p->pid)
		return 1;
	r = vma_bits_read(t->iterator, a, &bits, &n);
	close_p(&t->iterator);
	if (r == 0)
		r = proc_read_maps(p->shown, false, a, &p->vmas, &p->n_vmas);
	return r == 0 && translate(t, p, p->vmas, p->n_vmas, bits, n) ? 0 : 1;
}
