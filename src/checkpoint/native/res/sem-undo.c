/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SEM_UNDO: what a process has taken from semaphores and gives back by ending. The kernel does not show these adjustments,
 * but it keeps each within 16 bits: an operation that would lead it out of them fails with ERANGE. So the process is made to
 * try, in one call, an operation on the limit of what we ask and then one that is sure to fail with EAGAIN. Nothing is
 * ever changed, and which of the two errors comes says whether the adjustment is above a value.
 *
 * To restore, the process does two operations in one call that leave the semaphore as it is, one of them with SEM_UNDO.
 */
#include "checkpoint/native/res/ipc.h"

#include <sched.h>
#include <string.h>
#include <sys/sem.h>
#include <sys/syscall.h>

enum { HIGHEST = 32767 /* SEMVMX, SEMAEM */, OPS_PER_SEMAPHORE = 5, AT_ONCE = 64, KCMP_SYSVSEM_TYPE = 6 };

/* Processes without such a list are equal in that, and we have none; but our helper threads began with one that they share
 * with us. */
bool sem_undo_is_used(const struct dump_proc *p)
{
	if (unshare(CLONE_SYSVSEM) < 0)
		return true;
	for (size_t k = 0; k < p->n_threads; k++)
		if (syscall(SYS_kcmp, p->threads[k].tid, getpid(), KCMP_SYSVSEM_TYPE, 0, 0) > 0)
			return true;
	return false;
}

static bool threads_share_it(const struct dump_proc *p)
{
	for (size_t k = 1; k < p->n_threads; k++)
		if (syscall(SYS_kcmp, p->shown, p->threads[k].tid, KCMP_SYSVSEM_TYPE, 0, 0) != 0)
			return false;
	return true;
}

struct probe {
	struct dump_proc *p;
	const St__SysvSemaphores *set;
	bool negative;
	struct sembuf ops[AT_ONCE * OPS_PER_SEMAPHORE + 1];
	size_t n;
};

static void add(struct probe *pr, size_t number, int op, int flags)
{
	if (op != 0) /* zero would wait */
		pr->ops[pr->n++] = (struct sembuf){number, op, flags};
}

/* Operations of which one fails with ERANGE if the adjustment (its negative) is above "limit". */
static void add_test(struct probe *pr, size_t number, int limit)
{
	int value = pr->set->values[number];

	if (!pr->negative) {
		add(pr, number, HIGHEST - value, 0);
		add(pr, number, limit - HIGHEST, SEM_UNDO);
		return;
	}
	add(pr, number, -value, 0);
	add(pr, number, MIN(HIGHEST + 1 - limit, HIGHEST), SEM_UNDO);
	if (limit == 0) {
		add(pr, number, -HIGHEST, 0);
		add(pr, number, 1, SEM_UNDO);
	}
}

/* *ret: whether the adjustment of one of the semaphores from "first" on is above "limit". */
static int any_above(struct probe *pr, size_t first, size_t n, int limit, bool *ret, struct error *e)
{
	struct dump_proc *p = pr->p;
	uint64_t at = p->area + p->area_len - sizeof(pr->ops), args[6] = {pr->set->object->id, at};
	int64_t result = 0;
	int r;

	pr->n = 0;
	for (size_t i = first; i < first + n; i++)
		add_test(pr, i, limit);
	add(pr, first, -HIGHEST - 1, IPC_NOWAIT); /* never possible */
	args[2] = pr->n;
	r = task_write_memory(p->shown, at, pr->ops, pr->n * sizeof(*pr->ops));
	if (r < 0)
		return error_errno(e, r, "write to the memory of pid %d", p->pid);
	r = task_syscall(&p->threads[0].task, p->syscall_insn, SYS_semop, args, &result, e);
	if (r < 0)
		return r;
	if (result != -ERANGE && result != -EAGAIN)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"cannot checkpoint: process %d: it has used SEM_UNDO, and what it would give back to "
			"semaphore set %d cannot be asked (%s): end it, or remove the set (ipcrm)",
			p->ns_pid, pr->set->object->id,
			result == -EACCES ? "it may not change that set" : strerror(-result));
	*ret = result == -ERANGE;
	return 0;
}

static int add_undo(struct dump *d, struct probe *pr, size_t number, int adjustment, struct error *e)
{
	St__Process *m = pr->p->msg;
	St__SemUndo *u = pb_new(&d->arena, SemUndo, sem_undo),
		    **more = arena_array(&d->arena, m->n_sem_undos + 1, sizeof(*more));

	if (!u || !more)
		return error_errno(e, -ENOMEM, "semaphores");
	if (m->n_sem_undos)
		memcpy(more, m->sem_undos, m->n_sem_undos * sizeof(*more));
	u->set = pr->set->object->id;
	u->number = number;
	u->adjustment = pr->negative ? -adjustment : adjustment;
	more[m->n_sem_undos++] = u;
	m->sem_undos = more;
	return 0;
}

/* An adjustment that is above 0: nearly always it is 1. */
static int find_value(struct dump *d, struct probe *pr, size_t number, struct error *e)
{
	int above = 0, most = pr->negative ? HIGHEST + 1 : HIGHEST, step = 1, r;

	while (above + 1 < most) {
		int limit = MIN(above + step, most - 1);
		bool is;

		r = any_above(pr, number, 1, limit, &is, e);
		if (r < 0)
			return r;
		if (is)
			above = limit;
		else
			most = limit;
		step = is ? step * 2 : MAX((most - above) / 2, 1);
	}
	return add_undo(d, pr, number, above + 1, e);
}

/* All of the set in few calls: halves of which none has one are not looked at closer. */
static int find_in(struct dump *d, struct probe *pr, size_t first, size_t n, struct error *e)
{
	bool is;
	int r = any_above(pr, first, n, 0, &is, e);

	if (r < 0 || !is)
		return r;
	if (n == 1)
		return find_value(d, pr, first, e);
	r = find_in(d, pr, first, n / 2, e);
	return r < 0 ? r : find_in(d, pr, first + n / 2, n - n / 2, e);
}

static int find_in_set(
	struct dump *d, struct dump_proc *p, const St__SysvSemaphores *set, size_t at_once, struct error *e)
{
	for (size_t first = 0; first < set->n_values; first += at_once) {
		for (int negative = 0; negative < 2; negative++) {
			struct probe pr = {.p = p, .set = set, .negative = negative};
			int r = find_in(d, &pr, first, MIN(at_once, set->n_values - first), e);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

int sem_undo_dump(struct dump *d, uint64_t ns, St__SysvSemaphores *const *sets, size_t n, struct error *e)
{
	struct seminfo info;
	size_t at_once;

	if (semctl(0, 0, IPC_INFO, &info) < 0)
		return error_errno(e, -errno, "limits of semaphores");
	at_once = MIN((size_t)MAX(info.semopm - 1, 0) / OPS_PER_SEMAPHORE, (size_t)AT_ONCE);
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		/* Who goes into another namespace gives everything back. */
		if (p->zombie || dump_namespace_of(d, p, CLONE_NEWIPC) != ns || !sem_undo_is_used(p))
			continue;
		if (!threads_share_it(p) || at_once == 0)
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"cannot checkpoint: process %d: %s: let it end first", p->ns_pid,
				at_once ? "its threads have used SEM_UNDO each for itself"
					: "it has used SEM_UNDO, which kernel.sem (its third number) forbids "
					  "to look at");
		for (size_t k = 0; k < n; k++) {
			int r = find_in_set(d, p, sets[k], at_once, e);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* ---- restore ---- */

static int value_of(const struct restore *r, uint64_t ns, const St__SemUndo *u)
{
	for (size_t i = 0; i < r->n_ipc; i++) {
		const St__SysvSemaphores *s = r->ipc[i]->semaphores;

		if (s && r->ipc[i]->ipc_namespace == ns && s->object->id == u->set)
			return s->values[u->number];
	}
	return 0;
}

/* An adjustment may be more than the semaphore has room for at once. */
static int most_at_once(int value)
{
	return MAX(value, HIGHEST - value);
}

size_t sem_undo_ops(const St__Process *p)
{
	/* half of the range is always possible */
	return p->n_sem_undos * 4;
}

void op_sem_undo(struct batch *b, const struct restore *r, const St__Process *p)
{
	for (size_t i = 0; i < p->n_sem_undos; i++) {
		const St__SemUndo *u = p->sem_undos[i];
		int value = value_of(r, ipc_namespace_of(r, p), u), left = u->adjustment;

		while (left != 0) {
			int now = MAX(MIN(left, most_at_once(value)), -most_at_once(value));
			struct sembuf ops[2] = {{u->number, -now, SEM_UNDO}, {u->number, now, 0}};

			/* Whichever the semaphore has room for goes first. */
			if (value - now < 0 || value - now > HIGHEST)
				ops[0] = (struct sembuf){u->number, now, 0},
				ops[1] = (struct sembuf){u->number, -now, SEM_UNDO};
			batch_call(b, 0, SYS_semop, u->set, batch_bytes(b, ops, sizeof(ops)), 2);
			left -= now;
		}
	}
}
