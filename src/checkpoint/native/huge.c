/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Huge pages of a pool (hugetlb): MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB, files on a hugetlbfs. Private pages are dumped and
 * restored as any others are, only that mappings begin and end at a huge page. Shared ones belong to a file of a kernel-internal
 * hugetlbfs, which has read(2), but not write(2): it is filled by mappings. Nor does mremap(2) make a second mapping of it, as for
 * other shared memory: it is mapped by its descriptor, and a System V segment is attached anew.
 *
 * Pages that nobody has written to stay holes, and are not taken from the pool; mappings reserve them.
 */
#include "checkpoint/native/huge.h"

#include <dirent.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "checkpoint/native/restore-share.h"

enum { PAGE = IMAGE_PAGE_SIZE, BUFFER = 1 << 20, SHIFT_MIN = 13, SHIFT_MAX = 34 };

unsigned huge_shift_of(int fd)
{
	struct statfs fs;

	return fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > PAGE
		       ? __builtin_ctzl(fs.f_bsize)
		       : 0;
}

uint64_t huge_page_size(const St__SharedMemory *m)
{
	return m->huge_shift ? 1ull << m->huge_shift : PAGE;
}

/* ---- dump ---- */

static bool is_zero(const char *p, size_t n)
{
	return n == 0 || (*p == 0 && !memcmp(p, p + 1, n - 1));
}

/* Mapped, its holes would be filled by looking at them. */
int huge_dump_contents(struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e)
{
	char *buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r = 0;

	if (buffer == MAP_FAILED)
		return error_errno(e, -errno, "buffer");
	size = ALIGN_UP(size, (uint64_t)PAGE); /* of a segment: what was asked for */
	for (uint64_t at = 0; at < size && r == 0; at += BUFFER) {
		size_t len = MIN(size - at, (uint64_t)BUFFER);

		r = pread_exact(fd, buffer, len, at);
		if (r < 0)
			error_errno(e, r, "read a file with huge pages");
		else if (!is_zero(buffer, len))
			r = dump_write_pages(d, space, at, buffer, len / PAGE, e);
	}
	munmap(buffer, BUFFER);
	return r;
}

/* Everybody may put files there, whose contents would be gone. */
int huge_check_mounts(struct dump *d, struct error *e)
{
	for (size_t i = 0; i < d->c->spec->n_mounts; i++) {
		const struct spec_mount *m = &d->c->spec->mounts[i];
		struct open_how how = {
			.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
		const struct dirent *entry;
		DIR *dir;
		int fd;

		if (!m->type || strcmp(m->type, "hugetlbfs") != 0)
			continue;
		fd = syscall(SYS_openat2, d->root_fd, m->destination, &how, sizeof(how));
		dir = huge_shift_of(fd) ? fdopendir(fd) : NULL;
		if (!dir) {
			close_p(&fd);
			continue; /* it is covered, or unmounted: mounts-dump.c knows */
		}
		do
			entry = readdir(dir);
		while (entry && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")));
		if (entry)
			dump_refuse(d, &d->procs[0], -1, "hugetlb",
				"the mount is made anew, and its files are not recorded",
				"remove them, or use memfds or anonymous memory", "%s on a hugetlbfs, %s",
				entry->d_name, m->destination);
		closedir(dir);
	}
	return 0;
}

/* ---- restore: plan ---- */

static unsigned shift_of(const St__Vma *v)
{
	return v->flags & MAP_HUGETLB ? v->flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK : 0;
}

static bool shift_is_valid(unsigned shift)
{
	return shift >= SHIFT_MIN && shift <= SHIFT_MAX;
}

bool huge_is_valid(const St__Vma *v)
{
	unsigned shift = shift_of(v);

	return !(v->flags & MAP_HUGETLB) ||
	       (shift_is_valid(shift) && !((v->start | v->end) & ((1ull << shift) - 1)) && !v->shm);
}

bool huge_shm_is_valid(const St__SharedMemory *m)
{
	return !m->huge_shift ||
	       (shift_is_valid(m->huge_shift) && (m->sysv || !(m->size & (huge_page_size(m) - 1))));
}

/* In huge pages of which any piece is in the image. */
static uint64_t pages_with_data(const struct restore *r, uint64_t space, unsigned shift)
{
	const struct image_run *runs;
	uint64_t n = 0, next = 0;
	size_t n_runs;

	runs = image_runs(r->image, space, &n_runs);
	for (size_t i = 0; i < n_runs; i++) {
		uint64_t from = MAX(runs[i].address >> shift, next),
			 to = ((runs[i].address + runs[i].n_pages * PAGE - 1) >> shift) + 1;

		if (runs[i].kind != IMAGE_PAGES_DATA || to <= from)
			continue;
		n += to - from;
		next = to;
	}
	return n;
}

static void count_private(const struct restore *r, uint64_t *need)
{
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; r->procs[i]->state != 2 && k < r->procs[i]->memory->n_vmas; k++) {
			const St__Vma *v = r->procs[i]->memory->vmas[k];

			/* What relatives share is reserved once. */
			if (shift_of(v) && !(v->flags & MAP_NORESERVE) && !restore_share_in_unit(r, i, k))
				need[shift_of(v)] += (v->end - v->start) >> shift_of(v);
		}
	for (size_t i = 0; i < r->n_units; i++) {
		const struct restore_unit *u = &r->units[i];

		if (shift_of(u->like))
			need[shift_of(u->like)] += (u->end - u->start) >> shift_of(u->like);
	}
}

static uint64_t longest_mapping(const struct restore *r, const struct restore_shm *s)
{
	uint64_t longest = 0;

	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; r->procs[i]->state != 2 && k < r->procs[i]->memory->n_vmas; k++) {
			const St__Vma *v = r->procs[i]->memory->vmas[k];

			if (v->shm == s->msg->id && !(v->flags & MAP_NORESERVE))
				longest = MAX(longest, v->end - v->start);
		}
	return longest;
}

/* Not more than it will take: what is left out here, mmap(2) says later. The kernel is asked by a mapping, which it
 * grants only if it can reserve all of it. */
int huge_check_pool(const struct restore *r, struct error *e)
{
	uint64_t need[SHIFT_MAX + 1] = {};

	count_private(r, need);
	for (size_t i = 0; i < r->n_shm; i++) {
		unsigned shift = r->shm[i].msg->huge_shift;

		if (shift)
			need[shift] += MAX(pages_with_data(r, r->shm[i].msg->id, shift),
				longest_mapping(r, &r->shm[i]) >> shift);
	}
	for (unsigned shift = SHIFT_MIN; shift <= SHIFT_MAX; shift++) {
		void *p;

		if (!need[shift])
			continue;
		p = need[shift] > UINT64_MAX >> shift
			    ? MAP_FAILED
			    : mmap(NULL, need[shift] << shift, PROT_READ,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | shift << MAP_HUGE_SHIFT, -1,
				      0);
		if (p == MAP_FAILED)
			return error_set(e, -ENOMEM, ERROR_REFUSED,
				"the container has %llu huge pages of %llu KiB, which this machine does not "
				"have "
				"free: " HUGE_POOL_REMEDY,
				(unsigned long long)need[shift], 1ull << (shift - 10));
		munmap(p, need[shift] << shift);
	}
	return 0;
}

/* What a mapping of shared anonymous memory is of has no name; but the mapping leads to it. */
int huge_make_anonymous(struct restore_shm *s, struct error *e)
{
	unsigned shift = s->msg->huge_shift;
	char path[96];
	char *p = mmap(NULL, s->msg->size, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_HUGETLB | shift << MAP_HUGE_SHIFT, -1, 0);

	if (p == MAP_FAILED)
		return error_errno(e, -errno,
			"make shared memory with huge pages of %llu KiB: " HUGE_POOL_REMEDY,
			1ull << (shift - 10));
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		(unsigned long)(p + s->msg->size));
	s->fd = open(path, O_RDWR | O_CLOEXEC);
	munmap(p, s->msg->size);
	return s->fd < 0 ? error_errno(e, -errno, "open shared memory with huge pages (root may)") : 0;
}

/* ---- restore: in the stubs ---- */

/* One huge page at a time. */
static int fill(struct restore *r, const struct image_run *run, int fd, unsigned shift, struct error *e)
{
	uint64_t at = run->address, end = at + run->n_pages * PAGE, size = 1ull << shift;

	while (at < end) {
		uint64_t page = at & ~(size - 1), len = MIN(end, page + size) - at;
		char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page);
		int result;

		if (p == MAP_FAILED)
			return error_errno(e, -errno, "map a huge page: " HUGE_POOL_REMEDY);
		result = image_read_data(
			r->image, run->layer, run->offset + (at - run->address), p + (at - page), len, e);
		munmap(p, size);
		if (result < 0)
			return result;
		at += len;
	}
	return 0;
}

int huge_restore_contents(struct restore *r, uint64_t space, int fd, unsigned shift, struct error *e)
{
	const struct image_run *runs;
	int result = 0;
	size_t n;

	runs = image_runs(r->image, space, &n);
	for (size_t i = 0; i < n && result == 0; i++)
		if (runs[i].kind == IMAGE_PAGES_DATA)
			result = fill(r, &runs[i], fd, shift, e);
	return result;
}

void op_map_huge(struct batch *b, const struct restore_shm *s, const St__Vma *v)
{
	uint64_t len = v->end - v->start;

	if (!s->msg->sysv) {
		batch_call(b, OP_EXPECT, SYS_mmap, v->start, len, v->prot, v->flags | MAP_FIXED, s->fd,
			v->offset)
			->result = v->start;
		return;
	}
	batch_call(b, OP_EXPECT, SYS_shmat, s->msg->sysv->id, v->start,
		SHM_REMAP | (v->read_only ? SHM_RDONLY : 0))
		->result = v->start;
	if (v->prot != (v->read_only ? PROT_READ : PROT_READ | PROT_WRITE))
		batch_call(b, 0, SYS_mprotect, v->start, len, v->prot);
}
