/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transparent huge pages (THP) for what a restore fills: the kernel then makes 512 pages at once, and the whole takes a third of the
 * time. MADV_COLLAPSE makes them where one page is there, and leaves no flag at the mapping, as MADV_HUGEPAGE would, which could not be taken
 * back.
 *
 * Invariants: only where each of the 512 pages gets contents, so that the container needs no more memory than before; not
 * where the program, or who runs the machine, wants none. All of it may fail: then the pages are small.
 */
#include "checkpoint/native/restore-thp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "checkpoint/native/restore-lazy.h"
#include "checkpoint/native/restore-share.h"
#include "linux/procfs.h"

#define HUGE (2ull << 20)
/* For less the call is not worth its while: it makes all CPUs empty their lists of pages. */
#define HUGE_MIN (8ull << 20)
#define MADV_COLLAPSE_OP 25
enum { PAGE = 4096, HUGE_ORDER = 9 };

static uint64_t read_setting(const char *path, char *text, size_t size)
{
	ssize_t n = read_small_file_at(AT_FDCWD, path, text, size);

	return n > 0 ? strtoull(text, NULL, 10) : UINT64_MAX;
}

/* A guest that gives its free memory back to the host (free page reporting) does so with blocks of this order and larger: who takes
 * such a block waits for the host at its first touch, several times longer than small pages would take. */
static bool host_takes_huge_blocks(void)
{
	char text[64] = "";

	return read_setting("/sys/module/page_reporting/parameters/page_reporting_order", text,
		       sizeof(text)) <= HUGE_ORDER;
}

void restore_thp_plan(struct restore *r)
{
	char text[64] = "";

	read_setting("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text));
	r->huge_fill = r->options->thp != THP_NO && *text && !strstr(text, "[never]") &&
		       (r->options->thp == THP_YES || !host_takes_huge_blocks());
}

static bool is_suitable(const struct restore *r, size_t proc, const St__Vma *v)
{
	return r->huge_fill && !r->procs[proc]->memory->thp_disable && !(v->advice & VMA_NH) && !v->file &&
	       !v->special && !v->shm && !v->numa_mode && (v->flags & MAP_PRIVATE) &&
	       !(v->flags & (MAP_HUGETLB | MAP_GROWSDOWN)) && v->end - v->start >= HUGE_MIN;
}

struct cover { /* stretches that are filled, one behind the other */
	struct batch *b;
	uint64_t start, end;
};

static void end_cover(struct cover *c)
{
	uint64_t from = ALIGN_UP(c->start, HUGE), to = c->end & ~(HUGE - 1);

	if (to <= from || to - from < HUGE_MIN)
		return;
	for (uint64_t at = from; at < to; at += HUGE)
		batch_call(c->b, OP_MAY_FAIL, SYS_madvise, at, PAGE, MADV_POPULATE_WRITE);
	batch_call(c->b, OP_MAY_FAIL, SYS_madvise, from, to - from, MADV_COLLAPSE_OP);
}

static void add_to_cover(
	void *arg, enum restore_fill what, uint64_t start, uint64_t end, unsigned layer, uint64_t offset)
{
	struct cover *c = arg;

	if (what != FILL_READ)
		return;
	if (start != c->end) {
		end_cover(c);
		c->start = start;
	}
	c->end = end;
}

int restore_thp_ops(struct restore *r, struct batch *b, size_t proc, size_t vma)
{
	struct cover c = {.b = b};
	int result;

	if (!is_suitable(r, proc, r->procs[proc]->memory->vmas[vma]) || restore_share_is_kept(r, proc, vma) ||
		restore_is_lazy(r, proc, vma))
		return 0;
	result = restore_share_fill(r, proc, vma, false, add_to_cover, &c);
	end_cover(&c);
	return result;
}
