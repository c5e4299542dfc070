/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 caps=IPC_OWNER,KILL */
/*
 * System V semaphores: ids, keys, owners, modes and values; processes that sleep in semop(2); and what SEM_UNDO gives back
 * when a process ends, for adjustments over the whole range, of a process that shares them among its threads.
 */
#include "cr.h"

#include <pthread.h>
#include <sys/ipc.h>
#include <sys/sem.h>

enum { KEY = 0x77, HIGHEST = 32767, SEMS = 7, MANY = 200 };

/* Value before, and what the holder takes: adjustments from one end to the other. */
static const struct {
	int value, take[3], flags[3], adjustment;
} cases[SEMS] = {
	{1, {-1}, {SEM_UNDO}, 1},
	{0, {1}, {SEM_UNDO}, -1},
	{30000, {-30000}, {SEM_UNDO}, 30000},
	{5, {20000}, {SEM_UNDO}, -20000},
	{0, {HIGHEST, -HIGHEST, 1}, {SEM_UNDO, 0, SEM_UNDO}, -HIGHEST - 1},
	{HIGHEST, {-HIGHEST, 17}, {SEM_UNDO, 0}, HIGHEST},
	{9, {-4, 4}, {SEM_UNDO, SEM_UNDO}, 0},
};

static int set, turns, many;

static void change(int id, int number, int by, int flags)
{
	struct sembuf op = {number, by, flags};

	must(semop(id, &op, 1));
}

static void *second_thread(void *arg)
{
	change(many, 150, -3, SEM_UNDO);
	*(volatile int *)arg = 1;
	while (pause() < 0)
		;
	return NULL;
}

/* Takes, says so, and waits to be killed. */
static pid_t start_holder(void)
{
	pid_t pid = fork();
	volatile int there = 0;
	pthread_t thread;

	if (pid != 0) {
		check(pid > 0, "fork: %m");
		change(turns, 2, -1, 0);
		return pid;
	}
	for (int i = 0; i < SEMS; i++)
		for (int k = 0; k < 3; k++)
			if (cases[i].take[k])
				change(set, i, cases[i].take[k], cases[i].flags[k]);
	pthread_create(&thread, NULL, second_thread, (void *)&there);
	while (!there)
		cr_msleep(1);
	change(turns, 2, 1, 0);
	for (;;)
		pause();
}

static void set_values(void)
{
	for (int i = 0; i < SEMS; i++)
		must(semctl(set, i, SETVAL, cases[i].value));
	must(semctl(many, 150, SETVAL, 10));
}

static int taken(int i)
{
	return cases[i].value + cases[i].take[0] + cases[i].take[1] + cases[i].take[2];
}

static void check_given_back(pid_t holder)
{
	for (int i = 0; i < SEMS; i++)
		check(semctl(set, i, GETVAL) == taken(i), "semaphore %d is %d", i, semctl(set, i, GETVAL));
	check(semctl(many, 150, GETVAL) == 7, "semaphore 150 is %d", semctl(many, 150, GETVAL));
	must(kill(holder, SIGKILL));
	must(waitpid(holder, NULL, 0));
	for (int i = 0; i < SEMS; i++) {
		int want = taken(i) + cases[i].adjustment;

		want = want < 0 ? 0 : want > HIGHEST ? HIGHEST : want;
		check(semctl(set, i, GETVAL) == want, "semaphore %d is %d after its holder's end, not %d", i,
			semctl(set, i, GETVAL), want);
	}
	check(semctl(many, 150, GETVAL) == 10, "semaphore 150 is %d in the end", semctl(many, 150, GETVAL));
}

int main(void)
{
	struct semid_ds ds;
	pid_t holder;

	must(semctl(must(semget(IPC_PRIVATE, 1, 0600)), 0, IPC_RMID));
	set = must(semget(KEY, SEMS, IPC_CREAT | 0640));
	turns = must(semget(IPC_PRIVATE, 3, 0600));
	many = must(semget(IPC_PRIVATE, MANY, 0600));
	for (int i = 0; i < MANY; i++)
		must(semctl(many, i, SETVAL, i % 7));
	must(semctl(set, 0, IPC_STAT, &ds));
	ds.sem_perm.uid = 8;
	ds.sem_perm.gid = 9;
	must(semctl(set, 0, IPC_SET, &ds));
	set_values();
	if (cr_fork("sleeper") == 0) {
		while (cr_wait()) {
			change(turns, 0, -1, 0); /* given after the round has begun, or in the sleep below */
			change(turns, 1, 1, 0);
		}
		exit(0);
	}
	if (fork() == 0) {
		/* sleeps in semop when the container is stopped */
		for (;;) {
			struct sembuf ops[2] = {{SEMS - 1, 0, 0}, {SEMS - 1, 1, 0}};

			ops[0].sem_num = ops[1].sem_num = 199;
			ops[0].sem_op = -100;
			ops[1].sem_op = 1;
			must(semop(many, ops, 2));
		}
	}
	holder = start_holder();
	while (cr_wait()) {
		must(semctl(set, 0, IPC_STAT, &ds));
		check(semget(KEY, 0, 0) == set && ds.sem_nsems == SEMS && (ds.sem_perm.mode & 0777) == 0640 &&
				ds.sem_perm.uid == 8 && ds.sem_perm.gid == 9 && ds.sem_perm.cuid == 0,
			"the set has changed");
		for (int i = 0; i < 150; i++)
			check(semctl(many, i, GETVAL) == i % 7, "semaphore %d is %d", i,
				semctl(many, i, GETVAL));
		check_given_back(holder);
		change(turns, 0, 1, 0);
		change(turns, 1, -1, 0);
		must(semctl(many, 199, SETVAL, 100));
		while (semctl(many, 199, GETVAL) != 1)
			cr_msleep(1);
		must(semctl(many, 199, SETVAL, 0));
		set_values();
		holder = start_holder();
	}
	return 0;
}
