/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/shared-pages.h"

#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"

enum { PAGE = 4096 };
#define ENTRY_FRAME ((1ull << 55) - 1)
#define ENTRY_EXCLUSIVE (1ull << 56)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_PRESENT (1ull << 63)

void shared_pages_init(struct shared_pages *s)
{
	volatile char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	*s = (struct shared_pages){};
	if (page == MAP_FAILED)
		return;
	(void)*page;
	if (fd >= 0 && pread_exact(fd, &entry, sizeof(entry), (uint64_t)page / PAGE * 8) == 0)
		s->zero_frame = entry & ENTRY_FRAME;
	munmap((void *)page, PAGE);
}

void shared_pages_done(struct shared_pages *s)
{
	free(s->table);
	s->table = NULL;
}

bool shared_pages_possible(const struct dump *d, const struct proc_vma *v)
{
	return d->n_procs > 1 && !v->shared &&
	       (v->inode == 0 || v->anonymous_kib > 0 || (v->flags & VMA_HT)) &&
	       (v->shared_kib > 0 || v->swap_kib > 0);
}

static struct shared_frame *find(struct shared_frame *table, size_t size, uint64_t frame)
{
	size_t at = (frame * 0x9e3779b97f4a7c15ull) >> 20 & (size - 1);

	while (table[at].frame && table[at].frame != frame)
		at = (at + 1) & (size - 1);
	return &table[at];
}

/* Without memory for it pages are copied once more, that is all. */
static bool grow(struct shared_pages *s)
{
	size_t size = s->size ? s->size * 2 : 4096;
	struct shared_frame *table;

	if (s->n * 2 < s->size)
		return true;
	table = calloc(size, sizeof(*table));
	if (!table)
		return false;
	for (size_t i = 0; i < s->size; i++)
		if (s->table[i].frame)
			*find(table, size, s->table[i].frame) = s->table[i];
	free(s->table);
	s->table = table;
	s->size = size;
	return true;
}

bool shared_pages_is_swapped(uint64_t entry)
{
	return entry & ENTRY_SWAPPED;
}

uint64_t shared_pages_owner(struct shared_pages *s, uint64_t entry, uint64_t address, uint64_t space)
{
	uint64_t frame = entry & ENTRY_FRAME;
	struct shared_frame *f;

	/* Frame 0: we are not allowed to see it. */
	if (!frame || (entry & ENTRY_EXCLUSIVE) || ((entry & ENTRY_PRESENT) && frame == s->zero_frame) ||
		!grow(s))
		return 0;
	f = find(s->table, s->size, frame | (entry & ENTRY_SWAPPED));
	if (f->frame) /* at another address: merged by the kernel (KSM), not inherited */
		return f->address == address && f->space != space ? f->space : 0;
	*f = (struct shared_frame){frame | (entry & ENTRY_SWAPPED), address, space};
	s->n++;
	return 0;
}
