/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,userns,packed caps=IPC_LOCK,IPC_OWNER */
/*
 * System V shared memory: ids, keys, owners, creators, modes and contents of segments that are attached by two processes
 * (by one of them only for reading), by nobody, twice, in part, locked, and removed but still attached. What one process
 * writes the other one sees.
 */
#include "cr.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#define PAGE 4096UL
enum { KEY = 0x1234, SIZE = 5 * PAGE, ODD = 5000, GAP = 7 };

static int shared, removed, detached, locked, foreign, sparse;
static volatile uint64_t *mine;	      /* of "shared" */
static const volatile uint64_t *only; /* the same, in the child, for reading */
static char *twice, *gone, *thin;

static struct shmid_ds stat_of(int id)
{
	struct shmid_ds ds;

	must(shmctl(id, IPC_STAT, &ds));
	return ds;
}

static void set_owner(int id, int uid, int gid, int mode)
{
	struct shmid_ds ds = stat_of(id);

	ds.shm_perm.uid = uid;
	ds.shm_perm.gid = gid;
	ds.shm_perm.mode = mode;
	must(shmctl(id, IPC_SET, &ds));
}

/* By a child that has become somebody else: the creator is not the owner. */
static int made_by(int uid)
{
	int status, pid = fork();

	if (pid == 0) {
		if (setresgid(uid + 1, uid + 1, uid + 1) < 0 || setresuid(uid, uid, uid) < 0)
			_exit(1);
		set_owner(must(shmget(KEY + 1, PAGE, IPC_CREAT | IPC_EXCL | 0666)), 5, 6, 0604);
		_exit(0);
	}
	must(waitpid(pid, &status, 0));
	check(status == 0, "status %#x", status);
	return must(shmget(KEY + 1, 0, 0));
}

static void set_up(void)
{
	char *p;

	/* ids that a fresh namespace would not give */
	for (int i = 0; i < GAP; i++)
		must(shmctl(must(shmget(IPC_PRIVATE, PAGE, 0600)), IPC_RMID, NULL));
	shared = must(shmget(KEY, SIZE, IPC_CREAT | 0640));
	mine = must(shmat(shared, NULL, 0));
	cr_fill((void *)mine, SIZE, 1);
	twice = must(shmat(shared, NULL, 0));
	must(munmap(twice + PAGE, PAGE));
	must(mprotect(twice + 2 * PAGE, PAGE, PROT_READ));
	removed = must(shmget(KEY + 2, SIZE, IPC_CREAT | 0600));
	gone = must(shmat(removed, NULL, 0));
	cr_fill(gone, SIZE, 2);
	must(shmctl(removed, IPC_RMID, NULL));
	detached = must(shmget(IPC_PRIVATE, ODD, 0600));
	p = must(shmat(detached, NULL, 0));
	cr_fill(p, ODD, 3);
	must(shmdt(p));
	locked = must(shmget(IPC_PRIVATE, PAGE, 0600));
	must(shmctl(locked, SHM_LOCK, NULL));
	foreign = made_by(12);
	sparse = must(shmget(IPC_PRIVATE, 1UL << 32, 0600));
	thin = must(shmat(sparse, NULL, 0));
	*(uint64_t *)(thin + (3UL << 30)) = 33;
}

static void check_objects(void)
{
	struct shmid_ds ds = stat_of(shared);
	char *p;

	check(shmget(KEY, 0, 0) == shared, "the key leads to %d: %m", shmget(KEY, 0, 0));
	check(ds.shm_segsz == SIZE && (ds.shm_perm.mode & 01777) == 0640, "size %zu mode %o", ds.shm_segsz,
		ds.shm_perm.mode);
	/* mine, three pieces of the second one, and the child's */
	check(ds.shm_nattch == 5, "attached %lu times", (unsigned long)ds.shm_nattch);
	check(cr_differs(twice, PAGE, 1) < 0, "the second attachment");
	check(shmget(KEY + 2, 0, 0) < 0 && errno == ENOENT, "the removed one has its key again: %m");
	ds = stat_of(removed);
	check((ds.shm_perm.mode & SHM_DEST) && ds.shm_nattch == 1 && ds.shm_perm.__key == 0, "removed: %o",
		ds.shm_perm.mode);
	check(cr_differs(gone, SIZE, 2) < 0, "contents of the removed one");
	ds = stat_of(detached);
	check(ds.shm_segsz == ODD && ds.shm_nattch == 0, "detached: size %zu, attached %lu", ds.shm_segsz,
		(unsigned long)ds.shm_nattch);
	p = must(shmat(detached, NULL, SHM_RDONLY));
	check(cr_differs(p, ODD, 3) < 0, "contents of the detached one");
	must(shmdt(p));
	check(stat_of(locked).shm_perm.mode & SHM_LOCKED, "it is not locked any more");
	ds = stat_of(foreign);
	check(ds.shm_perm.uid == 5 && ds.shm_perm.gid == 6 && ds.shm_perm.cuid == 12 &&
			ds.shm_perm.cgid == 13 && (ds.shm_perm.mode & 0777) == 0604 &&
			ds.shm_perm.__key == KEY + 1,
		"of %u:%u, made by %u:%u, mode %o", ds.shm_perm.uid, ds.shm_perm.gid, ds.shm_perm.cuid,
		ds.shm_perm.cgid, ds.shm_perm.mode);
	check(*(uint64_t *)(thin + (3UL << 30)) == 33 && thin[1UL << 30] == 0, "the large one");
}

static void child(void)
{
	must(shmdt((void *)mine));
	must(shmdt(twice));
	must(shmdt(gone));
	must(shmdt(thin));
	only = must(shmat(shared, NULL, SHM_RDONLY));
	while (cr_wait()) {
		check(mprotect((void *)only, PAGE, PROT_READ | PROT_WRITE) < 0 && errno == EACCES,
			"what was attached for reading may be written: %m");
		while (only[0] != (uint64_t)cr_n)
			cr_msleep(1);
	}
	exit(0);
}

int main(void)
{
	set_up();
	if (cr_fork("child") == 0)
		child();
	while (cr_wait()) {
		check_objects();
		mine[0] = cr_n;
		check(*(uint64_t *)twice == (uint64_t)cr_n, "it is not the same memory");
		cr_fill(twice, 8, 1);
		mine[0] = cr_n;
		cr_await("done", cr_n, ".child");
		mine[0] = cr_mix(1);
	}
	must(shmdt(gone));
	check(shmctl(removed, IPC_STAT, &(struct shmid_ds){}) < 0, "the removed one is still there");
	return 0;
}
