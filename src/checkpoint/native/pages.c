/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copying of all processes' pages, by as many readers as there are helpers; and the contents of files.
 */
#include "checkpoint/native/pages.h"

#include <stdio.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "checkpoint/native/huge.h"

static int open_of_process(pid_t pid, const char *name, int *ret, struct error *e)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? error_errno(e, -errno, "open %s", path) : 0;
}

static int copy_item(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct dump *d = arg;
	struct page_reader *pr = &d->pages->readers[worker];
	struct dump_proc *p = &d->procs[item];
	_cleanup_close_ int pagemap_fd = -EBADF, mem_fd = -EBADF;
	int r;

	if (p->zombie)
		return 0;
	r = open_of_process(p->shown, "pagemap", &pagemap_fd, e);
	if (r == 0)
		r = open_of_process(p->shown, "mem", &mem_fd, e);
	if (r < 0)
		return r;
	pr->d = d;
	pr->p = p;
	pr->arena = dump_arena(d, worker);
	pr->pagemap_fd = pagemap_fd;
	pr->mem_fd = mem_fd;
	return pages_scan(pr, e);
}

/* An estimate for the progress line: what is resident, of whatever kind. */
static uint64_t resident_bytes(const struct dump *d)
{
	uint64_t kib = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		kib += d->procs[i].status.vm_rss_kib;
	return kib * 1024;
}

int dump_pages_prepare(struct dump *d, struct error *e)
{
	struct page_job *j = d->pages = arena_new(&d->arena, struct page_job);

	if (!j)
		return error_errno(e, -ENOMEM, "buffer");
	pthread_mutex_init(&j->lock, NULL);
	j->progress.fd = -EBADF;
	shared_pages_init(&j->shared);
	for (size_t i = 0; i < ARRAY_SIZE(j->readers); i++) {
		j->readers[i].buffer =
			mmap(NULL, PAGES_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (j->readers[i].buffer == MAP_FAILED)
			return error_errno(e, -errno, "buffer");
	}
	return 0;
}

int dump_pages_start(struct dump *d, struct error *e)
{
	progress_start(&d->pages->progress, STDERR_FILENO, "Writing memory", resident_bytes(d));
	return crew_start(d->crew, copy_item, d, d->n_procs, e);
}

int dump_pages_finish(struct dump *d, struct error *e)
{
	int r = crew_finish(d->crew, e);

	progress_stop(&d->pages->progress);
	shared_pages_done(&d->pages->shared);
	return r;
}

int dump_contents(struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e)
{
	char *map;
	off_t at = 0;
	int r = 0;

	if (!d->stopped || size == 0)
		return 0;
	if (huge_shift_of(fd))
		return huge_dump_contents(d, space, fd, size, e);
	/* Mapped, so that the tail of the last page reads as zeros. */
	map = mmap(NULL, ALIGN_UP(size, (uint64_t)PAGE), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return error_errno(e, -errno, "map a file of %llu bytes", (unsigned long long)size);
	while (r == 0 && (uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			break; /* ENXIO: only a hole is left; EINVAL cannot be, the offset is inside */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > size)
			hole = size;
		data &= ~(off_t)(PAGE - 1);
		hole = ALIGN_UP(hole, (off_t)PAGE);
		r = dump_write_pages(d, space, data, map + data, (hole - data) / PAGE, e);
		at = hole;
	}
	munmap(map, ALIGN_UP(size, (uint64_t)PAGE));
	return r;
}
