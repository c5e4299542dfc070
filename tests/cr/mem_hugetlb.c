/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,userns,old,packed caps=IPC_LOCK */
/*
 * Huge pages of the pool (hugetlb): private, also shared with a child since its fork; shared; a memfd, by a shared and a private
 * mapping; System V segments, attached, only for reading, by nobody, and removed. What nobody has touched takes no page.
 */
#include "cr.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#define HUGE (2UL << 20)
#define SIZE_2M (21 << 26)

static char *private, *shared, *file, *copy, *segment, *gone;
static volatile uint64_t *counter; /* in "shared" */
static int fd, id = -1, lonely = -1;

/* Pages that the memfd has. */
static int allocated(void)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_blocks * 512 / HUGE;
}

static void same(const char *what, const char *p, size_t size, uint64_t seed)
{
	ssize_t at = cr_differs(p, size, seed);

	check(at < 0, "%s %s differs at %zx", cr_tag, what, at);
}

static void unavailable(const char *what)
{
	cr_say("unavailable", 1, "", what);
	for (;;)
		cr_msleep(1000);
}

/* Root of the machine's first user namespace may make them, no other. */
static void make_segments(void)
{
	char *p;

	id = shmget(0x4711, 2 * HUGE, IPC_CREAT | 0600 | SHM_HUGETLB | SIZE_2M);
	if (id < 0) {
		check(errno == EPERM, "shmget: %m");
		return;
	}
	segment = must(shmat(id, NULL, 0));
	cr_fill(segment, HUGE, 5);
	lonely = must(shmget(IPC_PRIVATE, 5000, 0600 | SHM_HUGETLB | SIZE_2M));
	p = must(shmat(lonely, NULL, 0));
	cr_fill(p, 5000 & ~7, 6);
	must(shmdt(p));
	fd = must(shmget(IPC_PRIVATE, HUGE, 0600 | SHM_HUGETLB | SIZE_2M));
	gone = must(shmat(fd, NULL, 0));
	cr_fill(gone, HUGE, 7);
	must(shmctl(fd, IPC_RMID, NULL));
}

static void make_memfd(void)
{
	fd = must(memfd_create("large", MFD_ALLOW_SEALING | MFD_HUGETLB | SIZE_2M));
	must(ftruncate(fd, 3 * HUGE));
	must(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	file = must(mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, HUGE));
	cr_fill(file + HUGE, HUGE, 3);
	copy = must(mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, HUGE));
	cr_fill(copy, HUGE, 4);
}

static void check_segments(void)
{
	struct shmid_ds ds;
	char *p;

	if (id < 0)
		return;
	same("segment", segment, HUGE, 5);
	same("removed segment", gone, HUGE, 7);
	must(shmctl(id, IPC_STAT, &ds));
	check(ds.shm_segsz == 2 * HUGE && ds.shm_nattch == 2, "segment of %zu bytes, attached %d times",
		ds.shm_segsz, (int)ds.shm_nattch);
	must(shmctl(lonely, IPC_STAT, &ds));
	check(ds.shm_segsz == 5000, "segment of %zu bytes", ds.shm_segsz);
	p = must(shmat(lonely, NULL, 0));
	same("detached segment", p, 5000 & ~7, 6);
	must(shmdt(p));
}

static void child(void)
{
	const char *reading = NULL;

	if (id >= 0) {
		must(shmdt(segment));
		must(shmdt(gone));
		reading = must(shmat(id, NULL, SHM_RDONLY));
	}
	must(munmap(file, 2 * HUGE));
	must(munmap(copy, 2 * HUGE));
	close(fd);
	cr_fill(private + HUGE, HUGE, 11); /* from here on its own */
	while (cr_wait()) {
		same("shared page", private, HUGE, 1);
		same("page of its own", private + HUGE, HUGE, 11);
		check(*counter == (uint64_t)cr_n, "the counter is %llu", (unsigned long long)*counter);
		if (reading)
			same("segment", reading, HUGE, 5);
		cr_say("seen", cr_n, "", "seen");
	}
	_exit(0);
}

int main(void)
{
	private = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | SIZE_2M, -1, 0);
	if (private == MAP_FAILED)
		unavailable("huge pages (vm.nr_hugepages)");
	cr_fill(private, 2 * HUGE, 1);
	shared = must(mmap(NULL, 4 * HUGE, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | SIZE_2M, -1, 0));
	cr_fill(shared, HUGE, 2);
	must(mprotect(shared, HUGE, PROT_READ));
	counter = (uint64_t *)(shared + 3 * HUGE);
	*counter = 1;
	make_segments();
	make_memfd();
	if (cr_fork("child") == 0)
		child();
	while (cr_wait()) {
		same("private page", private, 2 * HUGE, 1);
		same("shared page", shared, HUGE, 2);
		check(*counter == (uint64_t)cr_n, "the counter is %llu", (unsigned long long)*counter);
		same("memfd", file + HUGE, HUGE, 3);
		check(allocated() == 1, "the memfd has %d pages", allocated());
		same("private copy", copy, HUGE, 4);
		same("page of the file", copy + HUGE, HUGE, 3);
		check(ftruncate(fd, 4 * HUGE) < 0 && errno == EPERM, "the seal: %m");
		check_segments();
		cr_await("seen", cr_n, "");
		*counter = cr_n + 1;
	}
	return 0;
}
