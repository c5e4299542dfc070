/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/peers.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/res/res.h"

/* Memory is taken only for what is written. */
enum { FILES_MAX = 1 << 18 };

struct list {
	_Atomic uint32_t n;
	bool looked_at; /* preflight only */
	struct peer_file files[FILES_MAX];
};

struct peers {
	size_t size;
	unsigned n;
	struct list lists[];
};

/* The others' files by inode, when all of them are known. */
struct peers_index {
	const struct peer_file **files;
	size_t n;
};

int peers_new(unsigned members, struct peers **ret, struct error *e)
{
	size_t size = sizeof(struct peers) + members * sizeof(struct list);
	struct peers *p =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return error_errno(e, -errno, "memory for what containers share");
	p->size = size;
	p->n = members;
	*ret = p;
	return 0;
}

void peers_free(struct peers *p)
{
	if (p)
		munmap(p, p->size);
}

void peers_reset(struct peers *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < p->n; i++)
		atomic_store(&p->lists[i].n, 0);
}

const char *peers_name(const struct dump *d, unsigned member)
{
	return d->options->together->containers[member]->name;
}

static struct peer_file *add(struct list *l)
{
	uint32_t n = atomic_load(&l->n);

	if (n == FILES_MAX)
		return NULL;
	atomic_store(&l->n, n + 1);
	return &l->files[n];
}

static int too_many(struct error *e)
{
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"cannot checkpoint: a container has more than %d open files: checkpoint it alone", FILES_MAX);
}

static unsigned self(const struct dump *d)
{
	return d->options->together->self;
}

/* ---- what a container has ---- */

/* What is one for all (the inode of anon_inode files) is told by what its link says. */
static uint64_t inode_of(const struct stat *st, const char *link)
{
	uint64_t h = st->st_ino;

	if (strncmp(link, "anon_inode:", 11) != 0)
		return h;
	for (; *link; link++)
		h = (h ^ (unsigned char)*link) * 0x100000001b3ull;
	return h;
}

static int publish(struct dump *d, struct error *e)
{
	struct list *l = &d->peers->lists[self(d)];

	atomic_store(&l->n, 0);
	for (size_t i = 0; i < d->n_files; i++) {
		const struct dump_file *f = &d->files[i];
		struct peer_file *to;

		if (f->resource && f->resource->kind_case == ST__FILE__KIND_STDIO)
			continue;
		to = add(l);
		if (!to)
			return too_many(e);
		*to = (struct peer_file){.dev = f->st.st_dev,
			.ino = inode_of(&f->st, f->link),
			.flags = f->info.flags,
			.pid = f->proc->shown,
			.fd = f->fd,
			.mode = f->st.st_mode,
			.pos = f->info.pos,
			.member = self(d),
			.links = f->st.st_nlink};
	}
	return 0;
}

/* Before the freeze: from outside, and what ends meanwhile is not there. */
static int scan_fd(struct list *l, unsigned member, pid_t pid, const char *number, struct error *e)
{
	char name[64], path[80], link[300];
	struct stat st, access;
	struct peer_file *to;

	snprintf(name, sizeof(name), "fd/%.20s", number);
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	if (proc_readlink(pid, name, link, sizeof(link)) < 0)
		link[0] = '\0'; /* a long path */
	if (stat(path, &st) < 0 || lstat(path, &access) < 0)
		return 0;
	to = add(l);
	if (!to)
		return too_many(e);
	*to = (struct peer_file){.dev = st.st_dev,
		.ino = inode_of(&st, link),
		.flags = access.st_mode & S_IWUSR ? access.st_mode & S_IRUSR ? O_RDWR : O_WRONLY : O_RDONLY,
		.pid = pid,
		.fd = (int)strtol(number, NULL, 10),
		.mode = st.st_mode,
		.member = member,
		.links = st.st_nlink};
	return 0;
}

static int scan_process(struct list *l, unsigned member, pid_t pid, struct error *e)
{
	struct dirent *ent;
	char path[32];
	DIR *dir;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && r == 0 && (ent = readdir(dir)))
		if (ent->d_name[0] != '.')
			r = scan_fd(l, member, pid, ent->d_name, e);
	if (dir)
		closedir(dir);
	return r;
}

static int scan(struct dump *d, unsigned member, struct error *e)
{
	struct container *c = d->options->together->containers[member];
	struct list *l = &d->peers->lists[member];
	_cleanup_free_ pid_t *pids = NULL;
	size_t n = 0;
	int r = container_pids(c, false, &pids, &n, e);

	/* In the user namespace of our container we may not look into that of another one: what they share is outside then. */
	if (r == -EACCES || r == -EPERM)
		n = 0;
	else if (r < 0)
		return error_prefix(e, "container %s", c->name);
	r = 0;
	atomic_store(&l->n, 0);
	for (size_t i = 0; i < n && r == 0; i++)
		r = scan_process(l, member, pids[i], e);
	l->looked_at = true;
	return r;
}

static int scan_others(struct dump *d, struct error *e)
{
	struct peers *p = d->peers;
	int r = 0;

	for (unsigned i = 0; p && i < p->n && r == 0; i++)
		if (i != self(d) && (d->looks_again || !p->lists[i].looked_at))
			r = scan(d, i, e);
	return r;
}

/* ---- what the others have ---- */

static int compare(const void *va, const void *vb)
{
	const struct peer_file *a = *(const struct peer_file *const *)va,
			       *b = *(const struct peer_file *const *)vb;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	return a < b ? -1 : a > b;
}

static int make_index(struct dump *d)
{
	struct peers *p = d->peers;
	struct peers_index *x = arena_new(&d->arena, struct peers_index);
	size_t n = 0;

	for (unsigned i = 0; i < p->n; i++)
		n += i == self(d) ? 0 : atomic_load(&p->lists[i].n);
	if (!x || !(x->files = arena_array(&d->arena, n, sizeof(*x->files))))
		return -ENOMEM;
	for (unsigned i = 0; i < p->n; i++)
		for (uint32_t k = 0; i != self(d) && k < atomic_load(&p->lists[i].n); k++)
			if (x->n < n)
				x->files[x->n++] = &p->lists[i].files[k];
	qsort(x->files, x->n, sizeof(*x->files), compare);
	d->peers_index = x;
	return 0;
}

int peers_publish(struct dump *d, struct error *e)
{
	int r;

	if (!d->peers)
		return 0;
	r = d->stopped ? publish(d, e) : scan_others(d, e);
	if (r == 0 && d->stopped)
		r = dump_meet_published(d, e);
	if (r == 0)
		r = make_index(d);
	return r == -ENOMEM ? error_errno(e, r, "what containers share") : r;
}

const struct peer_file *peers_next(struct dump *d, uint64_t dev, uint64_t ino, const struct peer_file *after)
{
	const struct peers_index *x = d->peers_index;
	size_t lo = 0, hi = x ? x->n : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct peer_file *f = x->files[mid];

		if (f->ino < ino || (f->ino == ino && f->dev < dev) ||
			(after && f->ino == ino && f->dev == dev && f <= after))
			lo = mid + 1;
		else
			hi = mid;
	}
	return x && lo < x->n && x->files[lo]->ino == ino && x->files[lo]->dev == dev ? x->files[lo] : NULL;
}

/* Sockets are on one file system. */
const struct peer_file *peers_socket(struct dump *d, uint64_t ino)
{
	const struct peers_index *x = d->peers_index;

	for (size_t i = 0; x && ino && i < x->n; i++)
		if (x->files[i]->ino == ino && S_ISSOCK(x->files[i]->mode))
			return x->files[i];
	return NULL;
}

int peers_duplicate(const struct peer_file *f)
{
	_cleanup_close_ int pidfd = dump_open_pidfd(f->pid);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, f->fd, 0);

	return fd < 0 ? -errno : fd;
}

/* ---- what is in several ---- */

static const char *kind_of(const struct dump_file *f)
{
	return S_ISFIFO(f->st.st_mode) ? "pipe" : "file";
}

/* Who comes first owns it. The container that the sandbox begins with may not be restored at all: it comes last. */
static unsigned rank(const struct dump *d, unsigned member)
{
	const char *name = peers_name(d, member);

	return name && !strcmp(name, CONTAINER_NAME_OF_ROOT) ? UINT32_MAX : member;
}

static char *names(struct dump *d, const struct dump_file *f, bool *ret_first)
{
	char text[512] = "";
	unsigned last = UINT32_MAX;

	*ret_first = true;
	for (const struct peer_file *o = NULL; (o = peers_next(d, f->st.st_dev, f->st.st_ino, o));) {
		size_t n = strlen(text);

		*ret_first &= rank(d, self(d)) < rank(d, o->member);
		if (o->member == last)
			continue;
		last = o->member;
		snprintf(text + n, sizeof(text) - n, "%s%s", n ? ", " : "", peers_name(d, o->member));
	}
	return arena_strdup(&d->arena, text);
}

int peers_shared(struct dump *d, const struct dump_file *f, St__Shared **ret, struct error *e)
{
	St__Shared *m;
	bool first;

	*ret = NULL;
	if (!peers_have(d, f->st.st_dev, f->st.st_ino))
		return 0;
	m = pb_new(&d->arena, Shared, shared);
	if (!m || !(m->with = names(d, f, &first)) ||
		!(m->key = arena_printf(&d->arena, "%s-%llx-%llx", kind_of(f),
			  (unsigned long long)f->st.st_dev, (unsigned long long)f->st.st_ino)))
		return error_errno(e, -ENOMEM, "what containers share");
	m->owner = first;
	d->shares = true;
	*ret = m;
	return 0;
}

/* Of these the descriptor itself can be passed on when it has been made: nothing else of the container is in it. */
static bool may_share_description(const struct dump_file *f)
{
	switch ((int)f->resource->kind_case) {
	case ST__FILE__KIND_PIPE:
	case ST__FILE__KIND_MEMFD:
	case ST__FILE__KIND_EVENTFD:
	case ST__FILE__KIND_TIMERFD:
		return true;
	case ST__FILE__KIND_REGULAR:
		return S_ISREG(f->st.st_mode) || S_ISDIR(f->st.st_mode);
	default:
		return false;
	}
}

static bool is_same(const struct dump_file *f, const struct peer_file *o)
{
	enum { KCMP_FILE_TYPE = 0 };

	return f->fd >= 0 && o->fd >= 0 && (f->info.flags & O_ACCMODE) == (o->flags & O_ACCMODE) &&
	       syscall(SYS_kcmp, f->proc->shown, o->pid, KCMP_FILE_TYPE, f->fd, o->fd) == 0;
}

/* The same open file description in another container, not only the same file: the one that comes first. */
static const struct peer_file *find_same(struct dump *d, const struct dump_file *f)
{
	uint64_t ino = inode_of(&f->st, f->link);
	const struct peer_file *first = NULL;

	if (!f->resource || f->resource->kind_case == ST__FILE__KIND_STDIO || f->fd < 0)
		return NULL;
	for (const struct peer_file *o = NULL; (o = peers_next(d, f->st.st_dev, ino, o));)
		if ((!first || rank(d, o->member) < rank(d, first->member)) && is_same(f, o))
			first = o;
	return first;
}

static void check_file(struct dump *d, const struct dump_file *f)
{
	const struct peer_file *o = find_same(d, f);

	if (!o || may_share_description(f))
		return;
	dump_refuse(d, f->proc, f->fd, f->resource->kind,
		arena_printf(&d->arena,
			"the container \"%s\" has it open as well: it was passed from one to the other",
			peers_name(d, o->member)),
		"close it in one of them", "%s", f->link);
}

void peers_check(struct dump *d)
{
	for (size_t i = 0; d->peers_index && i < d->n_files; i++)
		check_file(d, &d->files[i]);
}

/* Its key is where the owner has it. */
int peers_describe(struct dump *d, struct dump_file *f, struct error *e)
{
	const struct peer_file *o = d->peers_index ? find_same(d, f) : NULL;
	St__Shared *m;

	if (!o)
		return 0;
	if (f->msg->owner)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"cannot checkpoint: %s sends signals (F_SETOWN), and the container \"%s\" has it "
			"open as well: "
			"close it in one of them",
			f->link, peers_name(d, o->member));
	m = f->msg->description = pb_new(&d->arena, Shared, shared);
	if (!m)
		return error_errno(e, -ENOMEM, "what containers share");
	m->owner = rank(d, self(d)) < rank(d, o->member);
	m->with = (char *)peers_name(d, o->member);
	m->key = arena_printf(
		&d->arena, "desc-%d-%d", m->owner ? f->proc->shown : o->pid, m->owner ? f->fd : o->fd);
	d->shares = true;
	return m->key ? 0 : error_errno(e, -ENOMEM, "what containers share");
}
