/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/vma-flags.h"

#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/bpfvma.h"

enum { PAGE = 4096, KNOWN_MAX = 96, EXAMPLES_MAX = 64 };
/* These four bits are as old as smaps. */
enum { RAW_READ = 1, RAW_WRITE = 2, RAW_EXEC = 4, RAW_MAYSHARE = 0x80 };

struct known {
	uint64_t raw, key;
	uint32_t flags;
};

struct vma_flags {
	int program;
	struct known known[KNOWN_MAX];
	size_t n;
	bool has_gate; /* [vsyscall], which is no mapping */
	uint32_t gate;
};

/* Mappings as programs have them, with a page between two that keeps the kernel from joining them. */
struct examples {
	char *area;
	size_t n;
	int uffd;
};

static char *add(struct examples *x, int prot, int flags)
{
	char *at = x->area + x->n * 3 * PAGE;

	if (x->n == EXAMPLES_MAX)
		return NULL;
	at = mmap(at, PAGE, prot, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	x->n++;
	return at;
}

static void watch(struct examples *x, char *at)
{
	struct uffdio_register range = {.range = {(uintptr_t)at, PAGE}, .mode = UFFDIO_REGISTER_MODE_WP};

	if (at && x->uffd >= 0)
		(void)!ioctl(x->uffd, UFFDIO_REGISTER, &range);
}

/* Advice that an example does not take leaves it as it is. */
static void add_kinds(struct examples *x, int flags)
{
	static const int advice[] = {0, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP};

	for (size_t i = 0; i < ARRAY_SIZE(advice); i++) {
		char *at[] = {add(x, PROT_READ | PROT_WRITE, flags), add(x, PROT_READ | PROT_WRITE, flags),
			add(x, PROT_NONE, flags), add(x, PROT_READ, flags)};

		for (size_t k = 0; k < ARRAY_SIZE(at); k++)
			if (at[k] && advice[i])
				(void)!madvise(at[k], PAGE, advice[i]);
		watch(x, at[1]);
	}
}

/* Shared, of a file that is open for reading only. */
static void add_read_only(struct examples *x)
{
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *at = add(x, PROT_READ, MAP_PRIVATE);

	if (fd >= 0 && at)
		(void)!mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
}

static void make_examples(struct examples *x)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	char *at;

	x->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (x->uffd >= 0 && ioctl(x->uffd, UFFDIO_API, &api) < 0)
		close_p(&x->uffd);
	add_kinds(x, MAP_PRIVATE);
	add_kinds(x, MAP_PRIVATE | MAP_NORESERVE);
	(void)!add(x, PROT_READ | PROT_WRITE, MAP_SHARED);
	(void)!add(x, PROT_READ, MAP_SHARED);
	(void)!add(x, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
	(void)!add(x, PROT_READ | PROT_EXEC, MAP_PRIVATE);
	(void)!add(x, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_GROWSDOWN);
	add_read_only(x);
	/* Protected after it could be written to. */
	at = add(x, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	(void)!(at && mprotect(at, PAGE, PROT_READ));
	at = add(x, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	(void)!(at && mprotect(at, PAGE, PROT_NONE));
	at = add(x, PROT_NONE, MAP_PRIVATE);
	(void)!(at && mprotect(at, PAGE, PROT_READ | PROT_WRITE));
}

static unsigned prot_of(uint64_t raw)
{
	return (raw & RAW_READ ? PROT_READ : 0) | (raw & RAW_WRITE ? PROT_WRITE : 0) |
	       (raw & RAW_EXEC ? PROT_EXEC : 0);
}

/* Both lists ascend. NULL: the kernel's has no such mapping, or says something else of it. */
static const struct vma_bits *find_row(
	const struct vma_bits *rows, size_t n, size_t *at, const struct proc_vma *v)
{
	while (*at < n && rows[*at].start < v->start)
		++*at;
	if (*at == n || rows[*at].start != v->start || rows[*at].end != v->end ||
		prot_of(rows[*at].flags) != v->prot || ((rows[*at].flags & RAW_MAYSHARE) != 0) != v->shared)
		return NULL;
	return &rows[*at];
}

static const struct known *find_known(const struct vma_flags *f, uint64_t raw)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->known[i].raw == raw)
			return &f->known[i];
	return NULL;
}

static bool is_gate(const struct proc_vma *v)
{
	return !strcmp(v->name, "[vsyscall]");
}

static int read_rows(
	const struct vma_flags *f, int tid, struct arena *a, struct vma_bits **ret, size_t *ret_n)
{
	_cleanup_close_ int iterator = vma_bits_begin(f->program, tid);

	return iterator < 0 ? iterator : vma_bits_read(iterator, a, ret, ret_n);
}

static int learn(struct vma_flags *f, const struct proc_vma *v, uint64_t raw)
{
	const struct known *k = find_known(f, raw);

	if (k)
		return k->flags == v->flags && k->key == v->protection_key ? 0 : -EOPNOTSUPP;
	if (f->n < KNOWN_MAX)
		f->known[f->n++] = (struct known){raw, v->protection_key, v->flags};
	return 0;
}

static int learn_all(struct vma_flags *f, struct arena *a)
{
	struct vma_bits *rows = NULL;
	struct proc_vma *vmas;
	size_t n, n_rows = 0, at = 0, found = 0;
	int r = proc_read_maps(getpid(), true, a, &vmas, &n);

	if (r == 0)
		r = read_rows(f, (int)syscall(SYS_gettid), a, &rows, &n_rows);
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct vma_bits *row = find_row(rows, n_rows, &at, &vmas[i]);

		if (is_gate(&vmas[i])) {
			f->has_gate = true;
			f->gate = vmas[i].flags;
		} else if (row) { /* ours may change meanwhile */
			r = learn(f, &vmas[i], row->flags);
			found++;
		}
	}
	return r < 0 ? r : found > n / 2 ? 0 : -EOPNOTSUPP;
}

int vma_flags_new(struct vma_flags **ret)
{
	struct vma_flags *f = calloc(1, sizeof(*f));
	struct examples x = {.uffd = -EBADF};
	struct arena a = {};
	int r;

	if (!f)
		return -ENOMEM;
	f->program = vma_bits_load();
	x.area = mmap(
		NULL, EXAMPLES_MAX * 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	r = f->program < 0 ? f->program : x.area == MAP_FAILED ? -ENOMEM : 0;
	if (r == 0) {
		make_examples(&x);
		r = learn_all(f, &a);
	}
	if (x.area != MAP_FAILED)
		munmap(x.area, EXAMPLES_MAX * 3 * PAGE);
	close_p(&x.uffd);
	arena_done(&a);
	if (r < 0)
		vma_flags_free(f);
	else
		*ret = f;
	return MIN(r, 0);
}

void vma_flags_free(struct vma_flags *f)
{
	if (f)
		close_p(&f->program);
	free(f);
}

int vma_flags_read(struct vma_flags *f, pid_t tid, struct arena *a, struct proc_vma *vmas, size_t n)
{
	struct vma_bits *rows = NULL;
	size_t n_rows = 0, at = 0;
	int r = read_rows(f, tid, a, &rows, &n_rows);

	for (size_t i = 0; i < n && r == 0; i++) {
		const struct vma_bits *row = find_row(rows, n_rows, &at, &vmas[i]);
		const struct known *k = row ? find_known(f, row->flags) : NULL;

		if (is_gate(&vmas[i]) && f->has_gate) {
			vmas[i].flags = f->gate;
			continue;
		}
		if (!k || (k->flags & (VMA_HT | VMA_UNKNOWN)))
			return 1;
		vmas[i].flags = k->flags;
		vmas[i].protection_key = k->key;
	}
	return r < 0 ? 1 : 0;
}
