/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN,IPC_OWNER,IPC_LOCK modes=once,cycles,running,again,lazy,userns,streamed */
/*
 * System V segments in ipc namespaces that processes have made, with the ids and keys of those in the container's own:
 * attached by two processes, also for reading only; by nobody; removed.
 */
#include "ns_ipc.h"

#include <sys/ipc.h>
#include <sys/shm.h>

enum { KEY = 0x1234, SIZE = 64 * 1024 };

static int kept, detached, removed;
static char *at, *read_only, *last;
static int *rounds_of_two;

static void fill(int seed)
{
	char *p;

	kept = must(shmget(KEY, SIZE, IPC_CREAT | IPC_EXCL | 0640));
	detached = must(shmget(KEY + 1, SIZE / 2, IPC_CREAT | IPC_EXCL | 0600));
	removed = must(shmget(IPC_PRIVATE, SIZE, IPC_CREAT | IPC_EXCL | 0600));
	at = must((char *)shmat(kept, NULL, 0));
	read_only = must((char *)shmat(kept, NULL, SHM_RDONLY));
	last = must((char *)shmat(removed, NULL, 0));
	must(shmctl(removed, IPC_RMID, NULL));
	rounds_of_two = (int *)(last + SIZE - 64);
	*rounds_of_two = 0;
	cr_fill(at, SIZE, seed);
	cr_fill(last, SIZE - 64, seed + 1);
	p = must((char *)shmat(detached, NULL, 0));
	cr_fill(p, SIZE / 2, seed + 2);
	must(shmdt(p));
}

static void look(int seed)
{
	struct shmid_ds ds;
	char *p;

	must(shmctl(kept, IPC_STAT, &ds));
	check(shmget(KEY, 0, 0) == kept && shmget(KEY + 1, 0, 0) == detached, "ids have changed");
	check(ds.shm_segsz == SIZE && (ds.shm_perm.mode & 0777) == 0640 && ds.shm_nattch == 4,
		"size %zu mode %o, attached %d times", ds.shm_segsz, ds.shm_perm.mode, (int)ds.shm_nattch);
	check(cr_differs(at, SIZE, seed) < 0 && cr_differs(read_only, SIZE, seed) < 0, "segment %d", kept);
	check(cr_differs(last, SIZE - 64, seed + 1) < 0, "the removed one");
	must(shmctl(removed, IPC_STAT, &ds));
	check(ds.shm_perm.mode & SHM_DEST, "it is not removed any more");
	p = must((char *)shmat(detached, NULL, SHM_RDONLY));
	check(cr_differs(p, SIZE / 2, seed + 2) < 0, "the one that is attached by nobody");
	must(shmdt(p));
}

/* Both write to one page of theirs: what one has written the other sees. */
static void rounds(int seed)
{
	fill(seed);
	(void)cr_fork("second");
	while (cr_wait()) {
		look(seed);
		__atomic_add_fetch(rounds_of_two, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(rounds_of_two, __ATOMIC_SEQ_CST) < 2 * cr_n)
			cr_msleep(1);
	}
	exit(0);
}

int main(void)
{
	if (cr_fork("root") == 0) {
		enter_new(0);
		rounds(200);
	}
	if (cr_fork("user") == 0) {
		enter_new(CLONE_NEWUSER);
		rounds(300);
	}
	rounds(100);
}
