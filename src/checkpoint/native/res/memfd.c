/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfd_create(2): a nameless tmpfs file with seals. Contents are a SharedMemory, since several descriptions and mappings
 * may refer to one memfd. Seals are put on after the contents are in; F_SEAL_FUTURE_WRITE, and what comes with it, after
 * it has been mapped.
 */
#include "checkpoint/native/res/res.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "checkpoint/native/exchange.h"
#include "checkpoint/native/peers.h"

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif
enum { SEAL_FUTURE_WRITE = 0x10 };

static bool match(const struct dump *d, const struct dump_file *f)
{
	return S_ISREG(f->st.st_mode) && strncmp(f->link, "/memfd:", 7) == 0;
}

/* A description of our own to read by: the task's may be write-only, and a mapping has none. */
static int reopen(const struct dump_file *f)
{
	char path[96];

	if (f->fd >= 0)
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->proc->shown, f->fd);
	else
		snprintf(path, sizeof(path), "/proc/%d/%s", f->proc->shown, f->by_name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Also when this is what somebody has mapped. */
static bool is_open(const struct dump *d, const struct dump_file *f)
{
	for (const struct dump_file *o = NULL; (o = dump_same_inode(d, f, o));)
		if (o->fd >= 0)
			return true;
	return f->fd >= 0;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = reopen(f);
	int seals = fd < 0 ? 0 : fcntl(fd, F_GET_SEALS);

	if (seals >= 0 && (seals & SEAL_FUTURE_WRITE) && !is_open(d, f))
		dump_refuse(d, f->proc, f->fd, "memfd",
			"F_SEAL_FUTURE_WRITE is set, and no process has it open any more",
			"unmap it, or keep it open", "%s", f->link);
	if (seals >= 0 && (seals & SEAL_FUTURE_WRITE) && peers_have(d, f->st.st_dev, f->st.st_ino))
		dump_refuse(d, f->proc, f->fd, "memfd",
			arena_printf(&d->arena,
				"F_SEAL_FUTURE_WRITE is set, and the container \"%s\" has it, too",
				peers_name(d, peers_next(d, f->st.st_dev, f->st.st_ino, NULL)->member)),
			"close it in one of them", "%s", f->link);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__MemFd *m = pb_new(&d->arena, MemFd, mem_fd);
	_cleanup_close_ int fd = reopen(f);
	size_t n = strlen(f->link + 7), suffix = strlen(" (deleted)");

	if (fd < 0)
		return error_errno(e, -errno, "open %s", f->link);
	if (!m || !(m->name = arena_strndup(&d->arena, f->link + 7, n > suffix ? n - suffix : n)))
		return error_errno(e, -ENOMEM, "memfd");
	m->seals = fcntl(fd, F_GET_SEALS);
	m->mode = f->st.st_mode & 07777;
	m->uid = dump_uid(d, f->st.st_uid);
	m->gid = dump_gid(d, f->st.st_gid);
	f->msg->kind_case = ST__FILE__KIND_MEMFD;
	f->msg->memfd = m;
	if (peers_shared(d, f, &f->msg->shared, e) < 0)
		return e->code;
	if (f->msg->shared && !f->msg->shared->owner)
		return dump_shm_elsewhere(d, f->st.st_ino, f->st.st_size, true, fd, &m->shm, e);
	return dump_shm(d, f->st.st_ino, f->st.st_size, true, fd, &m->shm, e);
}

static struct restore_shm *find_shm(struct restore *r, uint64_t id)
{
	for (size_t i = 0; i < r->n_shm; i++)
		if (r->shm[i].msg->id == id)
			return &r->shm[i];
	return NULL;
}

static int make(struct restore *r, const St__MemFd *m, struct restore_shm *shm, struct error *e)
{
	unsigned shift = shm->msg->huge_shift;
	int result;

	shm->fd = memfd_create(m->name,
		MFD_CLOEXEC | MFD_ALLOW_SEALING | (shift ? MFD_HUGETLB | shift << MFD_HUGE_SHIFT : 0));
	if (shm->fd < 0 || restore_move_fd(r, &shm->fd) < 0 || ftruncate(shm->fd, shm->msg->size) < 0)
		return error_errno(e, -errno, "make memfd %s", m->name);
	result = restore_contents(r, shm->msg->id, shm->fd, shm->msg->size, e);
	if (result < 0)
		return result;
	if (fchown(shm->fd, m->uid, m->gid) < 0 || fchmod(shm->fd, m->mode) < 0)
		return error_errno(e, -errno, "owner and mode of memfd %s", m->name);
	return 0;
}

static int have(struct restore *r, const St__File *m, struct restore_shm **ret, struct error *e)
{
	struct restore_shm *shm = *ret = find_shm(r, m->memfd->shm);

	if (!shm)
		return error_set(
			e, -EBADMSG, ERROR_CORRUPT, "memfd %s refers to unknown memory", m->memfd->name);
	if (shm->fd >= 0)
		return 0;
	return m->shared && !m->shared->owner ? restore_want(r, m->shared->key, "", &shm->fd, e)
					      : make(r, m->memfd, shm, e);
}

static int offer_memfd(struct restore *r, const St__File *m, struct error *e)
{
	struct restore_shm *shm = find_shm(r, m->memfd->shm);
	int result;

	if (shm && shm->fd >= 0)
		return 0;
	result = have(r, m, &shm, e);
	return result < 0 ? result : restore_offer(r, m->shared->key, "", shm->fd, e);
}

/* What memfd_create() has given does not count as open for writing, so that a program can be run from it all the same: whose it was at
 * the checkpoint, it is again. Other descriptions are opened. */
static bool gets_first(const St__File *m, struct restore_shm *shm)
{
	bool first = !shm->given && (m->flags & O_ACCMODE) == O_RDWR && (!m->shared || m->shared->owner);

	shm->given |= first;
	return first;
}

static int open_memfd(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	struct restore_shm *shm;
	char path[64];
	int result = have(r, m, &shm, e);

	if (result < 0)
		return result;
	if (gets_first(m, shm)) {
		*ret_fd = fcntl(shm->fd, F_DUPFD_CLOEXEC, 0);
		return *ret_fd < 0 ? error_errno(e, -errno, "memfd %s", m->memfd->name) : 0;
	}
	snprintf(path, sizeof(path), "self/fd/%d", shm->fd);
	*ret_fd = openat(r->proc_fd, path, (m->flags & O_ACCMODE) | O_CLOEXEC);
	return *ret_fd < 0 ? error_errno(e, -errno, "open memfd %s again", m->memfd->name) : 0;
}

bool restore_seals_late(const St__File *f)
{
	return f->kind_case == ST__FILE__KIND_MEMFD && f->memfd->seals > 0 &&
	       f->memfd->seals & SEAL_FUTURE_WRITE;
}

static int connect_memfd(struct restore *r, const St__File *m, int fd, struct error *e)
{
	struct restore_shm *shm = find_shm(r, m->memfd->shm);
	int have = fcntl(shm->fd, F_GET_SEALS), want = m->memfd->seals & ~have;

	if (restore_seals_late(m))
		return 0;
	if (m->memfd->seals > 0 && want && fcntl(shm->fd, F_ADD_SEALS, want) < 0)
		return error_errno(e, -errno, "seal memfd %s", m->memfd->name);
	return 0;
}

extern const struct resource resource_memfd;
const struct resource resource_memfd = {
	.kind = "memfd",
	.description = "memfd, contents and seals, also programs that are run from one",
	.kind_case = ST__FILE__KIND_MEMFD,
	.match = match,
	.check = check,
	.dump = dump,
	.offer = offer_memfd,
	.open = open_memfd,
	.connect = connect_memfd,
};
