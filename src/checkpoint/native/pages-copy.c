/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How pages come into the image: read by process_vm_readv, and by /proc/PID/mem where the protection forbids that, each
 * reader into a stage of its own, from which they are written (image/stage.c); those that relatives share once.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/dump-stream.h"

enum { OWNERS = 512 /* asked for at a time */ };

int pages_read(struct page_reader *pr, uint64_t start, void *buffer, size_t len, struct error *e)
{
	/* process_vm_readv() pins the pages, and who pins a page that relatives share gets one of his own: the container would
	 * need more memory than before. */
	int r = pr->relative || pr->held ? -EFAULT : task_read_memory(pr->p->shown, start, buffer, len);

	if (r < 0)
		r = pread_exact(pr->mem_fd, buffer, len, start);
	if (r < 0)
		return error_errno(
			e, r, "read %zu bytes at %llx of pid %d", len, (unsigned long long)start, pr->p->pid);
	return 0;
}

void pages_count(struct dump *d, uint64_t bytes)
{
	struct page_job *j = d->pages;

	pthread_mutex_lock(&j->lock);
	j->done += bytes;
	progress_update(&d->progress, j->done);
	pthread_mutex_unlock(&j->lock);
}

void pages_expect(struct dump *d, uint64_t bytes)
{
	pthread_mutex_lock(&d->pages->lock);
	d->progress.total += bytes;
	pthread_mutex_unlock(&d->pages->lock);
}

int dump_write_pages(
	struct dump *d, uint64_t space, uint64_t address, const void *data, size_t n_pages, struct error *e)
{
	struct image_stage *stage = d->pages->readers[0].stage;
	const char *from = data;

	for (size_t i = 0, n; i < n_pages; i += n) {
		void *to = image_stage_room(stage, n_pages - i, &n);
		int r;

		memcpy(to, from + i * PAGE, n * PAGE);
		r = image_stage_add(stage, space, address + i * PAGE, n, e);
		if (r < 0)
			return r;
	}
	pages_count(d, n_pages * PAGE);
	return 0;
}

static int copy_pages(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	if (pr->unchanged)
		return pages_name(pr, start, end, e);
	if (pr->d->stream)
		return dump_stream_plan(pr, start, end, e);
	for (uint64_t at = start; at < end;) {
		size_t n;
		void *to = image_stage_room(pr->stage, (end - at) / PAGE, &n);
		int r = pages_read(pr, at, to, n * PAGE, e);

		if (r == 0)
			r = image_stage_add(pr->stage, pr->p->msg->memory->space, at, n, e);
		if (r < 0)
			return r;
		at += n * PAGE;
	}
	pages_count(pr->d, end - start);
	return 0;
}

static int note_shared(struct page_reader *pr, uint64_t start, uint64_t end, uint64_t of, struct error *e)
{
	pages_count(pr->d, end - start);
	return image_writer_shared(
		pr->d->writer, pr->p->msg->memory->space, start, (end - start) / PAGE, of, e);
}

/* The memory of the process with this address space. */
static int open_owner(const struct dump *d, uint64_t space)
{
	char path[32];

	for (size_t i = 0; i < d->n_procs; i++)
		if (!d->procs[i].zombie && d->procs[i].msg->memory &&
			d->procs[i].msg->memory->space == space) {
			snprintf(path, sizeof(path), "/proc/%d/mem", d->procs[i].shown);
			return open(path, O_RDONLY | O_CLOEXEC);
		}
	return -EBADF;
}

/*
 * A swapped page's entry says where in swap it is, and that changes while we read: what has been read can get another place, and
 * the page of another process the old one. So the contents decide.
 */
static bool owner_has_it(const struct page_reader *pr, uint64_t address, uint64_t owner)
{
	_cleanup_close_ int fd = open_owner(pr->d, owner);
	char ours[PAGE], theirs[PAGE];

	return fd >= 0 && pread_exact(fd, theirs, PAGE, address) == 0 &&
	       pread_exact(pr->mem_fd, ours, PAGE, address) == 0 && memcmp(ours, theirs, PAGE) == 0;
}

/* Of each page at "at", the address space that has it already; 0: none. */
static int find_owners(struct page_reader *pr, uint64_t at, size_t n, uint64_t *owners, struct error *e)
{
	uint64_t entries[OWNERS];
	int r = pread_exact(pr->pagemap_fd, entries, n * sizeof(*entries), at / PAGE * 8);

	if (r < 0)
		return error_errno(e, r, "page map of pid %d", pr->p->pid);
	pthread_mutex_lock(&pr->d->pages->lock);
	for (size_t i = 0; i < n; i++)
		owners[i] = shared_pages_owner(
			&pr->d->pages->shared, entries[i], at + i * PAGE, pr->p->msg->memory->space);
	pthread_mutex_unlock(&pr->d->pages->lock);
	for (size_t i = 0; i < n; i++)
		if (owners[i] && shared_pages_is_swapped(entries[i]) &&
			!owner_has_it(pr, at + i * PAGE, owners[i]))
			owners[i] = 0;
	return 0;
}

int pages_copy(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	uint64_t owners[OWNERS];

	if (!pr->relative)
		return copy_pages(pr, start, end, e);
	for (uint64_t at = start; at < end;) {
		size_t n = MIN((end - at) / PAGE, (uint64_t)ARRAY_SIZE(owners)), k;
		int r = find_owners(pr, at, n, owners, e);

		for (size_t i = 0; i < n && r == 0; i = k) {
			for (k = i + 1; k < n && owners[k] == owners[i]; k++)
				;
			r = owners[i] ? note_shared(pr, at + i * PAGE, at + k * PAGE, owners[i], e)
				      : copy_pages(pr, at + i * PAGE, at + k * PAGE, e);
		}
		if (r < 0)
			return r;
		at += n * PAGE;
	}
	return 0;
}
