/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/track.h"

#include <linux/kcmp.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/fault.h"
#include "base/fd.h"
#include "checkpoint/native/filters.h"
#include "checkpoint/native/pagemap.h"
#include "checkpoint/native/pages.h"
#include "checkpoint/native/res/aio.h"

/* linux/userfaultfd.h of 6.7 and later. */
#define FEATURE_WP_UNPOPULATED (1 << 13)
#define FEATURE_WP_ASYNC (1 << 15)
#define FLAG_USER_MODE_ONLY 1

/* linux/mman.h of 6.13 and later. */
#define ADVICE_GUARD_INSTALL 102

enum { REGIONS = 4096, TRIED = 6 };

void track_done(struct track *t)
{
	for (size_t i = 0; i < t->n; i++)
		close_p(&t->mms[i].uffd);
	close_p(&t->bits_program);
	close_p(&t->iterator);
	free(t->mms);
	*t = (struct track){TRACK_INIT};
}

void track_ranges_done(struct track_ranges *r)
{
	free(r->v);
	*r = (struct track_ranges){};
}

static int add_range(struct track_ranges *r, struct dump_proc *p, uint64_t start, uint64_t end, bool written)
{
	struct track_range *last = r->n ? &r->v[r->n - 1] : NULL;

	if (last && last->proc == p && last->end == start && last->written == written) {
		last->end = end;
		return 0;
	}
	if (r->n == r->allocated) {
		size_t want = MAX(r->allocated * 2, (size_t)1024);
		struct track_range *more = reallocarray(r->v, want, sizeof(*more));

		if (!more)
			return -ENOMEM;
		r->v = more;
		r->allocated = want;
	}
	r->v[r->n++] = (struct track_range){p, start, end, written};
	return 0;
}

/* ---- the kernel ---- */

static int set_up(int uffd)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED};

	return ioctl(uffd, UFFDIO_API, &api) < 0 ? -errno : 0;
}

static int watch_range(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = {
		.range = {.start = start, .len = end - start}, .mode = UFFDIO_REGISTER_MODE_WP};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

/* Whatever their bits say: see scan_vma(). */
static int protect(int uffd, const struct page_region *region)
{
	struct uffdio_writeprotect wp = {
		.range = {.start = region->start, .len = region->end - region->start},
		.mode = UFFDIO_WRITEPROTECT_MODE_WP};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) < 0 ? -errno : 0;
}

/* Protects the pages that it tells of. -EPERM: the mapping is not watched. */
static int scan(int pagemap_fd, uint64_t start, uint64_t end, bool protect, struct page_region *regions,
	size_t n_regions, uint64_t *ret_walked)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = (protect ? PM_SCAN_WP_MATCHING : 0) | PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uint64_t)regions,
		.vec_len = n_regions,
		.category_anyof_mask = PM_PRESENT | PM_SWAPPED,
		.return_mask = PM_WRITTEN,
	};
	int n = ioctl(pagemap_fd, PAGEMAP_SCAN_IOCTL, &arg);

	if (n < 0)
		return -errno;
	*ret_walked = arg.walk_end;
	return n;
}

static bool is_watched(int pagemap_fd, const struct proc_vma *v)
{
	struct page_region region;
	uint64_t walked;

	return scan(pagemap_fd, v->start, v->start + PAGE, false, &region, 1, &walked) >= 0;
}

int track_scan_written(
	int pagemap_fd, uint64_t start, uint64_t end, struct page_region *regions, size_t n_regions)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uint64_t)regions,
		.vec_len = n_regions,
		.category_mask = PM_WRITTEN,
		.return_mask = PM_WRITTEN,
	};
	int n = ioctl(pagemap_fd, PAGEMAP_SCAN_IOCTL, &arg);

	return n < 0 ? -errno : n;
}

/*
 * Of pages 0 to 5, all protected, 1 is dropped, 3 becomes a guard region and 5 is written. What a guard region leaves in the page table is
 * no page: until 6.18 (and stable versions of its time) the scan took a bit of such an entry, or of one of swap or of a page that
 * is being migrated, for that of the protection, and did not tell of it even if it had been written.
 */
static bool tells_empty(int uffd, int pagemap, char *pages)
{
	struct page_region regions[TRIED];
	uint64_t start = (uint64_t)pages, end = start + TRIED * PAGE, walked;

	memset(pages, 1, TRIED * PAGE);
	if (set_up(uffd) < 0 || watch_range(uffd, start, end) < 0 ||
		scan(pagemap, start, end, true, regions, TRIED, &walked) < 0 ||
		madvise(pages + PAGE, PAGE, MADV_DONTNEED) < 0 ||
		madvise(pages + 3 * PAGE, PAGE, ADVICE_GUARD_INSTALL) < 0)
		return false;
	*(volatile char *)(pages + 5 * PAGE) = 2;
	if (track_scan_written(pagemap, start, end, regions, TRIED) != 3)
		return false;
	for (uint64_t i = 0, at = start + PAGE; i < 3; i++, at += 2 * PAGE)
		if (regions[i].start != at || regions[i].end != at + PAGE)
			return false;
	return true;
}

bool track_try_empty(void)
{
	_cleanup_close_ int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | FLAG_USER_MODE_ONLY),
			    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *pages = mmap(NULL, TRIED * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool does = uffd >= 0 && pagemap >= 0 && pages != MAP_FAILED && tells_empty(uffd, pagemap, pages);

	if (pages != MAP_FAILED)
		munmap(pages, TRIED * PAGE);
	return does;
}

int track_check_kernel(struct error *e)
{
	_cleanup_close_ int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | FLAG_USER_MODE_ONLY),
			    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct proc_vma v = {.start = (uint64_t)page, .end = (uint64_t)page + PAGE};
	bool able = uffd >= 0 && pagemap >= 0 && page != MAP_FAILED && set_up(uffd) == 0 &&
		    watch_range(uffd, v.start, v.end) == 0 && is_watched(pagemap, &v);
	struct utsname un;

	if (page != MAP_FAILED)
		munmap(page, PAGE);
	uname(&un);
	return able ? 0
		    : error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			      "this kernel (%.40s) cannot tell which memory is written: that needs Linux 6.7 "
			      "with "
			      "userfaultfd: make a full checkpoint",
			      un.release);
}

/* ---- what is watched ---- */

struct track_mm *track_find(const struct track *t, const struct dump_proc *p)
{
	for (size_t i = 0; t && i < t->n; i++)
		if (t->mms[i].pid == p->pid && t->mms[i].start_time == p->stat.start_time)
			return &t->mms[i];
	return NULL;
}

/* Plain anonymous memory of the process's own. What is shared can also be written where we do not look, by write(2) or others;
 * of what is of a file only what differs from that is private, and there is little of it. */
bool track_is_watchable(const struct proc_vma *v)
{
	return !v->shared && v->inode == 0 &&
	       (!v->name[0] || !strcmp(v->name, "[heap]") || !strncmp(v->name, "[stack", 6) ||
		       !strncmp(v->name, "[anon:", 6));
}

/* The kernel lets a range be registered again by whom it belongs to, and only by him. */
static bool owns(const struct track_mm *mm, const struct proc_vma *v)
{
	return mm && track_is_watchable(v) && watch_range(mm->uffd, v->start, v->end) == 0;
}

/* Processes that share memory (CLONE_VM) are watched by the first of them. */
bool track_owns(const struct track *t, const struct dump_proc *p, const struct proc_vma *v)
{
	if (owns(track_find(t, p), v))
		return true;
	for (size_t i = 0; t && i < t->n; i++)
		if (t->mms[i].pid != p->pid && syscall(SYS_kcmp, t->mms[i].pid, p->pid, KCMP_VM, 0, 0) == 0 &&
			owns(&t->mms[i], v))
			return true;
	return false;
}

static struct track_mm *add_mm(struct track *t, const struct dump_proc *p, int uffd)
{
	if (t->n == t->allocated) {
		size_t want = MAX(t->allocated * 2, (size_t)64);
		struct track_mm *more = reallocarray(t->mms, want, sizeof(*more));

		if (!more)
			return NULL;
		t->mms = more;
		t->allocated = want;
	}
	t->mms[t->n] = (struct track_mm){.pid = p->pid, .start_time = p->stat.start_time, .uffd = uffd};
	return &t->mms[t->n++];
}

static void drop_mm(struct track *t, struct track_mm *mm)
{
	close_p(&mm->uffd);
	*mm = t->mms[--t->n];
}

static int open_pagemap(const struct dump_proc *p)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", p->shown);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Of processes that have ended, or whose memory is another since an exec. */
static bool is_stale(const struct dump *d, const struct track_mm *mm)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		const struct dump_proc *p = &d->procs[i];
		_cleanup_close_ int pagemap = -EBADF;

		if (p->zombie || p->pid != mm->pid || p->stat.start_time != mm->start_time)
			continue;
		pagemap = open_pagemap(p);
		for (size_t k = 0; k < p->n_vmas && pagemap >= 0; k++)
			if (track_is_watchable(&p->vmas[k]) && is_watched(pagemap, &p->vmas[k]))
				return !owns(mm, &p->vmas[k]);
		return true;
	}
	return true;
}

static void drop_stale(const struct dump *d, struct track *t)
{
	for (size_t i = t->n; i-- > 0;)
		if (is_stale(d, &t->mms[i]))
			drop_mm(t, &t->mms[i]);
}

/* ---- descriptors out of the processes ---- */

static int take_out(struct dump_proc *p, int fd)
{
	int pidfd = dump_pidfd(p), ours = pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return ours < 0 ? -errno : ours;
}

struct injection {
	struct dump_proc **procs;
	struct task_call *calls, *closes;
	size_t n;
};

static int prepare(struct dump *d, const struct track *t, struct injection *in, struct error *e)
{
	in->procs = arena_array(&d->arena, d->n_procs, sizeof(*in->procs));
	in->calls = arena_array(&d->arena, d->n_procs, sizeof(*in->calls));
	in->closes = arena_array(&d->arena, d->n_procs, sizeof(*in->closes));
	if (!in->procs || !in->calls || !in->closes)
		return error_errno(e, -ENOMEM, "watch the memory");
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		if (p->zombie || track_find(t, p) || in->n == ARRAY_SIZE(d->journal->watching))
			continue;
		if (!p->syscall_insn)
			dump_find_code(p);
		p->threads[0].task.park.nr = filters_waiting_call(d, p, &p->threads[0]);
		if (!p->syscall_insn)
			continue;
		in->procs[in->n] = p;
		in->calls[in->n++] = (struct task_call){.task = &p->threads[0].task,
			.insn = p->syscall_insn,
			.nr = SYS_userfaultfd,
			.args = {O_CLOEXEC | O_NONBLOCK | FLAG_USER_MODE_ONLY}};
		d->journal->watching[d->journal->n_watching].pid = p->shown;
		d->journal->watching[d->journal->n_watching++].syscall_insn = p->syscall_insn;
	}
	return 0;
}

/* Each process that is not watched yet makes a userfaultfd, which we take over. A process that cannot (its descriptor table is
 * full) is not watched. */
static int make_uffds(struct dump *d, struct track *t, struct error *e)
{
	struct injection in = {};
	size_t n = 0;
	int r, settled;

	r = prepare(d, t, &in, e);
	if (r < 0 || in.n == 0)
		return r;
	r = task_calls(in.calls, in.n, e);
	if (r == 0)
		r = fault_point("predump-watched", e);
	for (size_t i = 0; i < in.n; i++) {
		int fd = in.calls[i].result, uffd;

		if (in.calls[i].failed || fd < 0)
			continue;
		in.closes[n] = in.calls[i];
		in.closes[n].nr = SYS_close;
		in.closes[n].args[0] = fd;
		in.closes[n++].args[1] = 0;
		uffd = r == 0 ? take_out(in.procs[i], fd) : -EBADF;
		if (uffd < 0)
			continue;
		if (set_up(uffd) < 0)
			close(uffd);
		else if (!add_mm(t, in.procs[i], uffd)) {
			close(uffd);
			r = error_errno(e, -ENOMEM, "watch the memory");
		}
	}
	settled = n ? task_calls(in.closes, n, r < 0 ? NULL : e) : 0;
	if (r == 0)
		r = settled;
	settled = task_settle(in.calls, in.n, r < 0 ? NULL : e);
	d->journal->n_watching = 0;
	return r < 0 ? r : settled;
}

/* ---- a round ---- */

/*
 * "known": it has been watched since the last image or round.
 *
 * In a mapping that is not, pages can look protected and yet be writable, and would never be told of again: mremap() that lets what
 * it moves merge with a watched neighbour ends the watching of that one, and leaves its pages' bits as they are (Linux 6.18).
 */
static int scan_vma(struct dump_proc *p, int uffd, int pagemap, const struct proc_vma *v, bool known,
	struct page_region *regions, struct track_ranges *ret, struct error *e)
{
	uint64_t at = v->start, walked = at;
	int n = REGIONS;

	while (at < v->end && n == REGIONS) {
		n = scan(pagemap, at, v->end, true, regions, REGIONS, &walked);
		if (n < 0)
			return error_errno(e, n, "scan the page map of pid %d", p->pid);
		for (int i = 0; i < n; i++) {
			bool written = regions[i].categories & PM_WRITTEN;
			int r = known || written ? 0 : protect(uffd, &regions[i]);

			if (r == 0)
				r = add_range(ret, p, regions[i].start, regions[i].end, !known || written);
			if (r < 0)
				return error_errno(e, r, "watch the memory of pid %d", p->pid);
		}
		/* walk_end can lag behind the last region (facts.md). */
		if (n == REGIONS)
			at = MAX(walked, regions[n - 1].end);
	}
	return 0;
}

static int round_of(struct dump_proc *p, struct track_mm *mm, struct track_ranges *ret, struct error *e)
{
	static struct page_region regions[REGIONS];
	_cleanup_close_ int pagemap = open_pagemap(p);
	int r = pagemap < 0 ? error_errno(e, -errno, "page map of pid %d", p->pid) : 0;

	for (size_t i = 0; i < p->n_vmas && r == 0; i++) {
		const struct proc_vma *v = &p->vmas[i];
		bool known;

		if (!track_is_watchable(v))
			continue;
		known = mm->space && is_watched(pagemap, v);
		/* Droppable memory, for one, cannot be watched. What we do not watch is copied as a whole. */
		if (watch_range(mm->uffd, v->start, v->end) == 0 && is_watched(pagemap, v))
			r = scan_vma(p, mm->uffd, pagemap, v, known, regions, ret, e);
	}
	return r;
}

static int read_vmas(struct dump *d, struct error *e)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];
		int r = p->zombie ? 0 : proc_read_maps(p->shown, false, &d->arena, &p->vmas, &p->n_vmas);

		if (r < 0)
			return error_errno(e, r, "mappings of pid %d", p->pid);
	}
	return 0;
}

int track_round(struct dump *d, struct track *t, struct track_ranges *ret, struct error *e)
{
	int r = read_vmas(d, e);

	if (r < 0)
		return r;
	t->image = 0;
	drop_stale(d, t);
	r = make_uffds(d, t, e);
	for (size_t i = 0; i < d->n_procs && r == 0; i++) {
		struct track_mm *mm = d->procs[i].zombie ? NULL : track_find(t, &d->procs[i]);

		/* A request in flight would write past the page tables. */
		if (mm)
			r = aio_settle(d, &d->procs[i]);
		if (mm && r == -EAGAIN) {
			drop_mm(t, mm);
			r = 0;
			continue;
		}
		if (r < 0)
			return error_errno(e, r, "watch the memory");
		if (mm)
			r = round_of(&d->procs[i], mm, ret, e);
	}
	return r;
}

uint64_t track_peek(struct dump *d, const struct track *t)
{
	static struct page_region regions[REGIONS];
	uint64_t bytes = 0;

	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];
		_cleanup_close_ int pagemap = p->zombie || !track_find(t, p) ? -EBADF : open_pagemap(p);

		for (size_t k = 0; k < p->n_vmas && pagemap >= 0; k++) {
			uint64_t at = p->vmas[k].start, walked = at;
			int n = track_is_watchable(&p->vmas[k]) ? REGIONS : 0;

			while (at < p->vmas[k].end && n == REGIONS) {
				n = scan(pagemap, at, p->vmas[k].end, false, regions, REGIONS, &walked);
				for (int m = 0; m < n; m++)
					if (regions[m].categories & PM_WRITTEN)
						bytes += regions[m].end - regions[m].start;
				if (n == REGIONS)
					at = MAX(walked, regions[n - 1].end);
			}
		}
	}
	return bytes;
}

/* ---- undo ---- */

/* A descriptor of the process that is a userfaultfd; -1: none. Programs that have one of their own are refused before. */
static int find_uffd(pid_t pid)
{
	struct arena a = {};
	int *fds, found = -1;
	size_t n = 0;

	if (proc_read_fds(pid, &a, &fds, &n) < 0)
		n = 0;
	for (size_t i = 0; i < n && found < 0; i++) {
		char name[32], link[64];
		ssize_t len;

		snprintf(name, sizeof(name), "fd/%d", fds[i]);
		len = proc_readlink(pid, name, link, sizeof(link));
		if (len > 0 && !strcmp(link, "anon_inode:[userfaultfd]"))
			found = fds[i];
	}
	arena_done(&a);
	return found;
}

/* The one that it has now would be its own. */
static bool has_closed(const struct dump_journal *j, pid_t pid)
{
	for (unsigned i = 0; i < j->calls.n; i++)
		if (j->calls.of[i].tid == pid && j->calls.of[i].nr == SYS_close && j->calls.of[i].done)
			return true;
	return false;
}

void track_undo(struct dump_journal *j)
{
	for (unsigned i = 0; i < j->n_watching; i++) {
		struct arena a = {};
		struct error ignored;
		struct task t;
		struct task_call call = {.task = &t, .insn = j->watching[i].syscall_insn, .nr = SYS_close};
		int fd = has_closed(j, j->watching[i].pid) ? -EBADF : find_uffd(j->watching[i].pid);

		if (fd < 0)
			continue;
		call.args[0] = fd;
		if (dump_stop_leftover(&t, j->watching[i].pid, &a) == 0 &&
			task_calls(&call, 1, &ignored) == 0)
			(void)!task_settle(&call, 1, &ignored);
		(void)!task_detach(&t, &ignored);
		arena_done(&a);
	}
}
