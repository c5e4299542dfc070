/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/memory-hold.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/fd.h"

enum { PAGE = 4096, STACK = 64 << 10, HOLD_MS = 1000 };

struct hold {
	pthread_t thread;
	bool begun, held;
	int mem_fd;
	uint64_t address;
	char *page; /* where the byte will never come */
};

struct memory_holds {
	int uffd;
	char *pages;
	unsigned n;
	struct hold holds[];
};

int memory_holds_new(unsigned n, struct memory_holds **ret)
{
	struct memory_holds *h = calloc(1, sizeof(*h) + n * sizeof(*h->holds));
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_api api = {.api = UFFD_API};
	int r;

	if (!h)
		return -ENOMEM;
	h->n = n;
	h->pages = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	h->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	range.range.start = (uintptr_t)h->pages;
	range.range.len = n * PAGE;
	if (h->pages == MAP_FAILED || h->uffd < 0 || ioctl(h->uffd, UFFDIO_API, &api) < 0 ||
		ioctl(h->uffd, UFFDIO_REGISTER, &range) < 0) {
		r = -errno;
		memory_holds_free(h);
		return r;
	}
	for (unsigned i = 0; i < n; i++)
		h->holds[i].page = h->pages + i * PAGE;
	*ret = h;
	return 0;
}

void memory_holds_free(struct memory_holds *h)
{
	if (!h)
		return;
	close_p(&h->uffd); /* all reads go on, and come to their end */
	for (unsigned i = 0; i < h->n; i++)
		if (h->holds[i].begun)
			pthread_join(h->holds[i].thread, NULL);
	if (h->pages != MAP_FAILED)
		munmap(h->pages, h->n * PAGE);
	free(h);
}

static void *hold(void *arg)
{
	struct hold *h = arg;

	(void)!pread(h->mem_fd, h->page, 1, (off_t)h->address);
	return NULL;
}

static int begin(struct hold *h)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	if (pthread_attr_init(&attr) != 0)
		return -ENOMEM;
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&h->thread, &attr, hold, h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	h->begun = r == 0;
	return r;
}

/* It sleeps in the read once it has asked for the page. */
static int wait_until_held(struct memory_holds *h, struct hold *of)
{
	struct pollfd pfd = {.fd = h->uffd, .events = POLLIN};

	while (!of->held) {
		struct uffd_msg m;
		int r = poll(&pfd, 1, HOLD_MS);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -ETIMEDOUT;
		if (read(h->uffd, &m, sizeof(m)) == sizeof(m) && m.event == UFFD_EVENT_PAGEFAULT)
			of->held = (m.arg.pagefault.address & ~(uint64_t)(PAGE - 1)) == (uintptr_t)of->page;
	}
	return 0;
}

int memory_hold(struct memory_holds *h, unsigned i, int mem_fd, uint64_t address)
{
	struct hold *of = &h->holds[i];
	int r;

	of->mem_fd = mem_fd;
	of->address = address;
	r = begin(of);
	return r < 0 ? r : wait_until_held(h, of);
}

void memory_let_go(struct memory_holds *h, unsigned i)
{
	struct uffdio_zeropage zero = {.range = {(uintptr_t)h->holds[i].page, PAGE}};

	if (h->holds[i].held && ioctl(h->uffd, UFFDIO_ZEROPAGE, &zero) == 0)
		h->holds[i].held = false;
}
