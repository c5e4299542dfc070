/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mappings of a process as Vma messages. Private pages belong to the process's own address space, shared
 * anonymous memory to a SharedMemory, everything else to a File. VmFlags come from smaps, which walks the page tables: it is
 * read only when the tasks are stopped (of much memory linux/vma-flags.h knows them, too), preflight makes do with maps.
 */
#include "checkpoint/native/dump.h"
#include "checkpoint/native/ia32.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/res/aio.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/track.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* 6.11 */
#endif

/* Flags that restore puts back; those that describe what the kernel does by itself are not listed. VMA_GU: it has or had guard regions,
 * as a program does again that did it once (restore-lazy.c). */
static const uint32_t kept_advice = VMA_SR | VMA_RR | VMA_DC | VMA_LO | VMA_LF | VMA_DD | VMA_WF | VMA_HG |
				    VMA_NH | VMA_MG | VMA_SL | VMA_GU;

static bool name_is(const struct proc_vma *v, const char *prefix)
{
	return strncmp(v->name, prefix, strlen(prefix)) == 0;
}

static bool is_vdso_part(const struct proc_vma *v)
{
	return !strcmp(v->name, "[vdso]") || !strcmp(v->name, "[vvar]") || !strcmp(v->name, "[vvar_vclock]");
}

/* Of a file that nobody can open, as that of /dev/zero. Flags are known only when the tasks are stopped. */
static bool is_huge_anonymous(const struct proc_vma *v)
{
	return !strcmp(v->name, "/anon_hugepage (deleted)") && (!v->flags || (v->flags & VMA_HT));
}

static bool is_shared_anonymous(const struct proc_vma *v)
{
	return v->shared &&
	       (name_is(v, "/dev/zero (deleted)") || name_is(v, "[anon_shmem:") || is_huge_anonymous(v));
}

static bool is_anonymous(const struct proc_vma *v)
{
	return !v->shared && (v->inode == 0 || name_is(v, "/dev/zero (deleted)") || is_huge_anonymous(v));
}

static const struct {
	uint32_t flag;
	const char *object, *reason, *remedy;
} refused_flags[] = {
	{VMA_UM | VMA_UW | VMA_UI, "memory watched by userfaultfd", "its fault handler's state is not known",
		"close the userfaultfd first"},
	{VMA_SS, "shadow stack", "user shadow stacks are not supported yet",
		"start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"},
	{VMA_UNKNOWN, "mapping with a flag this version does not know",
		"what is not understood is not copied", "use a newer Stasis"},
};

/* True: an obstacle was noted, the mapping is left out. */
static bool refused(struct dump *d, struct dump_proc *p, const struct proc_vma *v)
{
	const char *object = NULL, *reason = "not supported yet", *remedy = "unmap it before the checkpoint";
	uint32_t flags = v->flags;

	if ((flags & (VMA_UM | VMA_UW | VMA_UI)) == VMA_UW && track_owns(d->track, p, v))
		flags &= ~VMA_UW;
	for (size_t i = 0; i < ARRAY_SIZE(refused_flags) && !object; i++)
		if (flags & refused_flags[i].flag) {
			object = refused_flags[i].object;
			reason = refused_flags[i].reason;
			remedy = refused_flags[i].remedy;
		}
	if (sysv_is_mapping(v))
		return false; /* sysv.c says what is wrong with it */
	if (object)
		;
	else if (d->unprivileged && v->shared && is_huge_anonymous(v))
		object = "shared memory with huge pages",
		reason = "only a privileged user may open what it is of",
		remedy = "make the checkpoint as root, or use memfd_create(2)";
	else if (name_is(v, "anon_inode:") || name_is(v, "socket:") || name_is(v, "[uprobes]"))
		object = v->name;
	else if (name_is(v, "/dev/") && !name_is(v, "/dev/zero") && !name_is(v, "/dev/shm/"))
		object = v->name, reason = "memory of a device cannot be copied",
		remedy = "close the device before the checkpoint";
	else if (!is_vdso_part(v) && (v->flags & (VMA_IO | VMA_PF)))
		object = "mapping of device memory", reason = "memory of a device cannot be copied";
	else if (is_vdso_part(v) || strcmp(v->name, "[vsyscall]") == 0 || v->name[0] != '[' ||
		 name_is(v, "[heap]") || name_is(v, "[stack") || name_is(v, "[anon:") ||
		 name_is(v, "[anon_shmem:"))
		return false;
	else
		object = v->name;
	dump_refuse(d, p, -1, "mapping", reason, remedy, "%s at %llx-%llx", object,
		(unsigned long long)v->start, (unsigned long long)v->end);
	return true;
}

static int add_shm(struct dump *d, uint64_t inode, uint64_t size, bool memfd, int fd, St__SharedMemory **ret,
	struct error *e)
{
	St__SharedMemory *m;

	*ret = NULL;
	for (size_t i = 0; i < d->n_shm; i++) {
		if (d->shm_inode[i] == inode) {
			*ret = d->shm[i];
			return 1;
		}
	}
	if (d->n_shm == d->max_shm) {
		size_t want = d->max_shm ? d->max_shm * 2 : 32;
		void *shm = arena_array(&d->arena, want, sizeof(*d->shm));
		void *inodes = arena_array(&d->arena, want, sizeof(*d->shm_inode));

		if (!shm || !inodes)
			return error_errno(e, -ENOMEM, "shared memory");
		if (d->n_shm > 0) {
			memcpy(shm, d->shm, d->n_shm * sizeof(*d->shm));
			memcpy(inodes, d->shm_inode, d->n_shm * sizeof(*d->shm_inode));
		}
		d->shm = shm;
		d->shm_inode = inodes;
		d->max_shm = want;
	}
	m = pb_new(&d->arena, SharedMemory, shared_memory);
	if (!m)
		return error_errno(e, -ENOMEM, "shared memory");
	m->id = dump_new_id(d);
	m->size = size;
	m->memfd = memfd;
	m->huge_shift = huge_shift_of(fd);
	d->shm_inode[d->n_shm] = inode;
	d->shm[d->n_shm++] = *ret = m;
	return 0;
}

int dump_shm(
	struct dump *d, uint64_t inode, uint64_t size, bool memfd, int fd, uint64_t *ret_id, struct error *e)
{
	St__SharedMemory *m;
	int r = add_shm(d, inode, size, memfd, fd, &m, e);

	*ret_id = m ? m->id : 0;
	return r == 0 ? dump_contents(d, m->id, fd, size, e) : MIN(r, 0);
}

int dump_shm_elsewhere(
	struct dump *d, uint64_t inode, uint64_t size, bool memfd, int fd, uint64_t *ret_id, struct error *e)
{
	St__SharedMemory *m;
	int r = add_shm(d, inode, size, memfd, fd, &m, e);

	*ret_id = m ? m->id : 0;
	if (m)
		m->elsewhere = true;
	return MIN(r, 0);
}

static int shared_anonymous(
	struct dump *d, struct dump_proc *p, const struct proc_vma *v, uint64_t *ret_id, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;
	char path[96];

	for (size_t i = 0; i < d->n_shm; i++) {
		if (d->shm_inode[i] == v->inode) {
			*ret_id = d->shm[i]->id;
			return 0;
		}
	}
	if (d->unprivileged)
		return dump_mapped_object(d, v, ret_id, e);
	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", p->shown, (unsigned long long)v->start,
		(unsigned long long)v->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(e, -errno, "open the shared memory %s", path);
	return dump_shm(d, v->inode, st.st_size, false, fd, ret_id, e);
}

/* Every process maps its program and libraries in several pieces, and its siblings map the same ones. What maps tells
 * of two private mappings alike (device, inode and path) is the same file; links are followed only once. */
struct mapped {
	const struct proc_vma *vma;
	uint64_t file;
	struct mapped *next;
};

enum { MAPPED_BUCKETS = 256 };

struct mapped_index {
	struct mapped *heads[MAPPED_BUCKETS];
};

static struct mapped **find_mapped(struct dump *d, const struct proc_vma *v)
{
	struct mapped **at = &d->mapped->heads[v->inode % MAPPED_BUCKETS];

	while (*at &&
		((*at)->vma->inode != v->inode || (*at)->vma->dev_major != v->dev_major ||
			(*at)->vma->dev_minor != v->dev_minor || strcmp((*at)->vma->name, v->name) != 0))
		at = &(*at)->next;
	return at;
}

static int file_by_mapping(
	struct dump *d, struct dump_proc *p, const struct proc_vma *v, uint64_t *ret_id, struct error *e)
{
	char name[64], path[96];
	unsigned flags = O_RDONLY;
	struct stat st;

	snprintf(name, sizeof(name), "map_files/%llx-%llx", (unsigned long long)v->start,
		(unsigned long long)v->end);
	snprintf(path, sizeof(path), "/proc/%d/%s", p->shown, name);
	/* The link's own mode says how the file had been opened: a shared mapping of a writable one may be made writable, unless
	 * that had been sealed (F_SEAL_FUTURE_WRITE). */
	if (v->shared && (v->flags & VMA_MW || !d->stopped) && lstat(path, &st) == 0 &&
		(st.st_mode & S_IWUSR))
		flags = O_RDWR;
	if (d->unprivileged)
		return dump_mapped_file(d, p, v, flags, ret_id, e);
	return dump_file_by_link(d, p, name, flags, ret_id, e);
}

static int mapped_file(
	struct dump *d, struct dump_proc *p, const struct proc_vma *v, uint64_t *ret_id, struct error *e)
{
	struct mapped **at, *m;
	int r;

	if (v->shared) /* here it also matters how it was opened */
		return file_by_mapping(d, p, v, ret_id, e);
	if (!d->mapped && !(d->mapped = arena_new(&d->arena, struct mapped_index)))
		return error_errno(e, -ENOMEM, "mappings");
	at = find_mapped(d, v);
	if (*at) {
		*ret_id = (*at)->file;
		return 0;
	}
	r = file_by_mapping(d, p, v, ret_id, e);
	if (r < 0)
		return r;
	m = *at = arena_new(&d->arena, struct mapped);
	if (!m)
		return error_errno(e, -ENOMEM, "mappings");
	m->vma = v;
	m->file = *ret_id;
	return 0;
}

static int dump_mapping(
	struct dump *d, struct dump_proc *p, const struct proc_vma *v, St__Vma *m, struct error *e)
{
	m->start = v->start;
	m->end = v->end;
	m->offset = v->offset;
	m->prot = v->prot;
	m->flags = v->shared ? MAP_SHARED : v->flags & VMA_DP ? MAP_DROPPABLE : MAP_PRIVATE;
	m->advice = v->flags & kept_advice;
	m->pkey = v->protection_key;
	if (v->flags & VMA_GD)
		m->flags |= MAP_GROWSDOWN;
	if (v->flags & VMA_NR)
		m->flags |= MAP_NORESERVE;
	if (is_anonymous(v)) {
		size_t n = strlen(v->name);

		m->flags |= MAP_ANONYMOUS;
		if (v->flags & VMA_HT)
			m->flags |= MAP_HUGETLB | (uint32_t)__builtin_ctzll(v->page_kib << 10)
							  << MAP_HUGE_SHIFT;
		m->offset = 0;
		if (name_is(v, "[anon:") && n > 7) {
			m->name = arena_strndup(&d->arena, v->name + 6, n - 7);
			if (!m->name)
				return error_errno(e, -ENOMEM, "mappings");
		}
		return 0;
	}
	if (aio_is_ring(v)) {
		m->aio = pb_new(&d->arena, AioRing, aio_ring);
		return m->aio ? 0 : error_errno(e, -ENOMEM, "mappings");
	}
	if (sysv_is_mapping(v)) {
		m->read_only = d->stopped && !(v->flags & VMA_MW);
		return sysv_dump_mapping(d, p, v, &m->shm, e);
	}
	if (name_is(v, "[anon_shmem:")) {
		m->name = arena_strndup(&d->arena, v->name + 12, strlen(v->name) - 13);
		if (!m->name)
			return error_errno(e, -ENOMEM, "mappings");
	}
	if (is_shared_anonymous(v))
		return shared_anonymous(d, p, v, &m->shm, e);
	return mapped_file(d, p, v, &m->file, e);
}

static void memory_layout(St__Memory *m, const struct proc_stat *s)
{
	m->start_code = s->start_code;
	m->end_code = s->end_code;
	m->start_data = s->start_data;
	m->end_data = s->end_data;
	m->start_brk = s->start_brk;
	m->start_stack = s->start_stack;
	m->arg_start = s->arg_start;
	m->arg_end = s->arg_end;
	m->env_start = s->env_start;
	m->env_end = s->env_end;
}

static int process_files(struct dump *d, struct dump_proc *p, struct error *e)
{
	int r;

	r = dump_file_by_looked(d, p, "exe", O_RDONLY, &p->exe, &p->msg->memory->exe_file, e);
	if (r == 0)
		r = dump_file_by_looked(d, p, "cwd", O_PATH | O_DIRECTORY, &p->cwd, &p->msg->cwd_file, e);
	if (r == 0 && p->root.text)
		r = dump_file_by_looked(d, p, "root", O_PATH | O_DIRECTORY, &p->root, &p->msg->root_file, e);
	return r;
}

int dump_mappings(struct dump *d, struct dump_proc *p, struct error *e)
{
	St__Memory *m = p->msg->memory = pb_new(&d->arena, Memory, memory);
	bool vdso = false;
	int r;

	if (m)
		m->vmas = arena_array(&d->arena, p->n_vmas, sizeof(*m->vmas));
	if (!m || !m->vmas)
		return error_errno(e, -ENOMEM, "mappings");
	m->space = dump_new_id(d);
	memory_layout(m, &p->stat);
	m->coredump_filter = p->coredump_filter;
	m->auxv.data = p->auxv;
	m->auxv.len = p->auxv_len;
	for (size_t i = 0; i < p->n_vmas; i++) {
		const struct proc_vma *v = &p->vmas[i];
		St__Vma *vma;

		if (refused(d, p, v) || !strcmp(v->name, "[vsyscall]"))
			continue;
		/* One record for the whole group, which the kernel maps in one piece. */
		if (!strcmp(v->name, "[vdso]") && v->start < 1ull << 32)
			m->ia32 = ia32_is_vdso(p->shown, v->start);
		if (is_vdso_part(v) && vdso) {
			m->vmas[m->n_vmas - 1]->end = v->end;
			continue;
		}
		vma = m->vmas[m->n_vmas] = pb_new(&d->arena, Vma, vma);
		if (!vma)
			return error_errno(e, -ENOMEM, "mappings");
		m->n_vmas++;
		if (is_vdso_part(v)) {
			vdso = true;
			vma->start = v->start;
			vma->end = v->end;
			vma->special = 1;
			continue;
		}
		r = dump_mapping(d, p, v, vma, e);
		if (r < 0)
			return r;
	}
	r = aio_dump(d, p, e);
	return r < 0 ? r : process_files(d, p, e);
}
