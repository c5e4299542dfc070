/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/filters.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "checkpoint/native/listeners.h"
#include "linux/seccomp-run.h"

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "seccomp filters");
}

/* It may ask a listener: also by an answer that it works out. */
static bool has_listener(const void *code, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct sock_filter f;

		memcpy(&f, (const char *)code + i * sizeof(f), sizeof(f));
		if (f.code == (BPF_RET | BPF_A) ||
			(f.code == (BPF_RET | BPF_K) &&
				(f.k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF))
			return true;
	}
	return false;
}

/* ---- the container of an ordinary user ---- */

/* What every task is asked, and calls when it is restored; see ask.c, states.c and restore-build.c. */
static const struct {
	uint32_t nr;
	const char *name;
	uint64_t args[6];
} needed[] = {
	{SYS_mmap, "mmap", {0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1}},
	{SYS_munmap, "munmap", {4096, 4096}},
	{SYS_tgkill, "tgkill", {2, 2, SIGURG}},
	{SYS_rt_sigreturn, "rt_sigreturn", {}},
	{SYS_restart_syscall, "restart_syscall", {}},
	{SYS_sigaltstack, "sigaltstack", {}},
	{SYS_rt_sigaction, "rt_sigaction", {SIGTERM, 0, 4096, 8}},
	{SYS_rt_sigtimedwait, "rt_sigtimedwait", {4096, 0, 4096, 8}},
	{SYS_getitimer, "getitimer", {}},
	{SYS_clock_gettime, "clock_gettime", {CLOCK_MONOTONIC}},
	{SYS_prctl, "prctl", {PR_GET_DUMPABLE}},
	{SYS_arch_prctl, "arch_prctl", {0x1011 /* ARCH_GET_CPUID */}},
	{SYS_brk, "brk", {}},
	{SYS_personality, "personality", {0xffffffff}},
	{SYS_madvise, "madvise", {4096, 4096, 20 /* MADV_COLD */}},
	{SYS_prlimit64, "prlimit64", {}},
	{SYS_fcntl, "fcntl", {0, 1 /* F_GETFD */}},
	{SYS_futex, "futex", {4096}},
	{SYS_setresuid, "setresuid", {}},
	{SYS_setresgid, "setresgid", {}},
	{SYS_capset, "capset", {4096, 4096}},
};

static int kept(struct dump *d, struct error *e)
{
	return d->kept_filter.filter ? 0 : container_kept_filter(d->c, &d->kept_filter, e);
}

static bool lets_through(const struct dump *d, uint32_t nr, const uint64_t args[6])
{
	return seccomp_lets_through(&d->kept_filter, 1, nr, args);
}

/* A task that may not ask for its NUMA policy has the one that it was born with: /proc shows that of its first mapping. */
static bool has_policy(const struct dump_proc *p)
{
	char path[64], line[256] = "", *word;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/numa_maps", p->shown);
	f = fopen(path, "re");
	if (!f)
		return false; /* a kernel without NUMA */
	(void)!fgets(line, sizeof(line), f);
	fclose(f);
	word = strchr(line, ' ');
	return word && strncmp(word + 1, "default", 7) != 0;
}

/* What is not asked (ask.c, states.c), as the filter does not let it through, must not have been changed either. */
static const char *hidden_state(const struct dump *d, const struct dump_proc *p)
{
	static const uint64_t zero[6] = {};
	const struct sock_fprog *f = &d->kept_filter;

	if (!lets_through(d, SYS_keyctl, zero) &&
		(seccomp_may_let_through(f, 1, SYS_keyctl) || seccomp_may_let_through(f, 1, SYS_add_key) ||
			seccomp_may_let_through(f, 1, SYS_request_key)))
		return "keyctl";
	if (!lets_through(d, SYS_get_mempolicy, zero) &&
		(seccomp_may_let_through(f, 1, SYS_get_mempolicy) ||
			seccomp_may_let_through(f, 1, SYS_set_mempolicy) ||
			seccomp_may_let_through(f, 1, SYS_mbind) || has_policy(p)))
		return "get_mempolicy";
	return NULL;
}

static const char *forbidden(const struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!lets_through(d, needed[i].nr, needed[i].args))
			return needed[i].name;
	return hidden_state(d, p);
}

/* The runtime loads one into init and into what it executes there, their children inherit it, and nobody can drop it: so
 * who has one has that one. */
static bool is_the_kept_one(const struct dump *d, const struct proc_status *s)
{
	return s->seccomp == SECCOMP_MODE_FILTER && s->seccomp_filters == 1 && d->c->spec->seccomp &&
	       d->kept_filter.len > 0;
}

static void refuse(struct dump *d, struct dump_proc *p, const char *reason, const char *remedy)
{
	dump_refuse(d, p, -1, "seccomp", reason, remedy, "seccomp filter");
}

static void check_thread(struct dump *d, struct dump_proc *p, const struct dump_thread *t)
{
	char reason[160];
	const char *call;
	struct error ignored;

	if (kept(d, &ignored) != 0 || !is_the_kept_one(d, &t->status)) {
		refuse(d, p, "only a privileged user may look at a filter that is not the container's own",
			"run the program without filters of its own, or make the checkpoint as root");
		return;
	}
	if (has_listener(d->kept_filter.filter, d->kept_filter.len)) {
		refuse(d, p, "it has a listener (SCMP_ACT_NOTIFY), which nobody would answer after a restore",
			"run the container without it");
		return;
	}
	call = forbidden(d, p);
	if (!call)
		return;
	snprintf(reason, sizeof(reason),
		"it does not let the process call %s, which a checkpoint needs, and only a privileged user "
		"may suspend it: make the checkpoint as root",
		call);
	refuse(d, p, reason, "allow the call in linux.seccomp, or make the checkpoint as root");
}

void filters_check(struct dump *d, struct dump_proc *p)
{
	for (size_t i = 0; d->unprivileged && i < p->n_threads; i++) {
		if (p->threads[i].status.seccomp == SECCOMP_MODE_DISABLED)
			continue;
		check_thread(d, p, &p->threads[i]);
		return;
	}
}

int filters_seize(struct dump *d, struct task *t, pid_t tid, const struct proc_status *s, struct error *e)
{
	bool suspend = s->seccomp != SECCOMP_MODE_DISABLED && !d->unprivileged;
	int r = task_seize(t, tid, suspend ? PTRACE_O_SUSPEND_SECCOMP : 0, e);

	t->notes = &d->journal->calls;
	if (r < 0 || suspend || s->seccomp == SECCOMP_MODE_DISABLED)
		return r;
	r = kept(d, e);
	if (r < 0)
		return r;
	t->filters = &d->kept_filter;
	t->n_filters = 1;
	return 0;
}

bool filters_may_let_through(const struct task *t, long nr)
{
	return seccomp_may_let_through(t->filters, t->n_filters, nr);
}

static int check_ops(const struct sock_fprog *filters, size_t n, int pid, const struct batch *b, size_t first,
	struct error *e)
{
	char name[32];

	for (size_t i = first; i < b->n_ops; i++)
		if (!seccomp_lets_through(filters, n, b->ops[i].nr, b->ops[i].args))
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the seccomp filter of process %d does not let it call %s, which is needed "
				"here, and only a privileged user may suspend it",
				pid, batch_syscall_name(b->ops[i].nr, name));
	return 0;
}

int filters_check_batch(const struct task *t, const struct batch *b, struct error *e)
{
	return check_ops(t->filters, t->n_filters, t->tid, b, 0, e);
}

int filters_may_make_userns(const struct spec_seccomp *s, struct error *e)
{
	static const struct {
		uint32_t nr;
		uint64_t flags;
	} ways[] = {{SYS_unshare, CLONE_NEWUSER}, {SYS_clone, CLONE_NEWUSER | SIGCHLD}};
	struct sock_fprog p = {};
	int r = seccomp_compile(s, &p, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(ways) && r == 0; i++)
		r = seccomp_lets_through(&p, 1, ways[i].nr, (uint64_t[6]){ways[i].flags});
	r |= seccomp_may_let_through(&p, 1, SYS_clone3); /* its flags are out of a filter's sight */
	free(p.filter);
	return r;
}

/* ---- records ---- */

static St__SeccompFilter *find_or_add(
	struct dump *d, struct dump_proc *p, const uint8_t *code, size_t len, uint32_t flags)
{
	St__SeccompFilter **list, *f;

	for (size_t k = 0; k < p->msg->n_seccomp_filters; k++)
		if (p->msg->seccomp_filters[k]->instructions.len == len &&
			!memcmp(p->msg->seccomp_filters[k]->instructions.data, code, len))
			return p->msg->seccomp_filters[k];
	f = pb_new(&d->arena, SeccompFilter, seccomp_filter);
	list = arena_array(&d->arena, p->msg->n_seccomp_filters + 1, sizeof(*list));
	if (!f || !list)
		return NULL;
	memcpy(list, p->msg->seccomp_filters, p->msg->n_seccomp_filters * sizeof(*list));
	f->id = p->msg->n_seccomp_filters + 1;
	f->instructions.data = (uint8_t *)code;
	f->instructions.len = len;
	f->flags = flags;
	list[p->msg->n_seccomp_filters++] = f;
	p->msg->seccomp_filters = list;
	return f;
}

/* The oldest first, as the kernel counts them (whatever ptrace(2) says), and as restore loads them. */
static int record(struct dump *d, struct dump_proc *p, struct dump_thread *t, const uint8_t *code, size_t len,
	uint32_t flags, struct error *e)
{
	St__SeccompFilter *f = find_or_add(d, p, code, len, flags);
	uint64_t *ids = arena_array(&d->arena, t->msg->n_seccomp_filters + 1, sizeof(*ids));

	if (!f || !ids)
		return no_memory(e);
	if (t->msg->n_seccomp_filters > 0)
		memcpy(ids, t->msg->seccomp_filters, t->msg->n_seccomp_filters * sizeof(*ids));
	ids[t->msg->n_seccomp_filters++] = f->id;
	t->msg->seccomp_filters = ids;
	return 0;
}

static int collect_kept(struct dump *d, struct dump_proc *p, struct dump_thread *t, struct error *e)
{
	/* As PTRACE_SECCOMP_GET_METADATA has it. */
	uint32_t flags = d->c->spec->seccomp ? d->c->spec->seccomp->flags & SECCOMP_FILTER_FLAG_LOG : 0;

	if (!is_the_kept_one(d, &t->status))
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"process %d has loaded a seccomp filter just now, which only a privileged user may "
			"look at: make the checkpoint as root",
			p->ns_pid);
	return record(d, p, t, (const uint8_t *)d->kept_filter.filter,
		d->kept_filter.len * sizeof(struct sock_filter), flags, e);
}

int filters_collect(struct dump *d, struct dump_proc *p, struct dump_thread *t, struct error *e)
{
	enum { MOST = 64 };

	if (d->unprivileged && t->status.seccomp != SECCOMP_MODE_DISABLED)
		return collect_kept(d, p, t, e);
	if (t->status.seccomp != SECCOMP_MODE_FILTER)
		return 0;
	/* Threads nearly always have the filters of their leader (TSYNC, or installed before they were made). */
	for (size_t i = 0; i < MOST; i++) {
		struct {
			unsigned long filter_off, flags;
		} meta = {i, 0};
		long n = ptrace(PTRACE_SECCOMP_GET_FILTER, t->tid, i, NULL);
		uint8_t *code;
		int r;

		if (n < 0 && errno == ENOENT)
			return 0;
		if (n < 0)
			return error_errno(e, -errno, "seccomp filter %zu of pid %d", i, t->tid);
		code = arena_alloc(&d->arena, n * sizeof(struct sock_filter));
		if (!code || ptrace(PTRACE_SECCOMP_GET_FILTER, t->tid, i, code) < 0)
			return error_errno(e, -errno, "seccomp filter %zu of pid %d", i, t->tid);
		d->may_notify |= has_listener(code, n);
		if (ptrace(PTRACE_SECCOMP_GET_METADATA, t->tid, sizeof(meta), &meta) < 0)
			meta.flags = 0;
		r = record(d, p, t, code, n * sizeof(struct sock_filter), meta.flags, e);
		if (r < 0)
			return r;
	}
	return error_set(
		e, -EOPNOTSUPP, ERROR_REFUSED, "process %d has more than %d seccomp filters", t->tid, MOST);
}

static size_t index_of(const St__Process *p, uint64_t id)
{
	size_t i = 0;

	while (p->seccomp_filters[i]->id != id)
		i++;
	return i;
}

static struct sock_fprog program_of(const St__SeccompFilter *f)
{
	return (struct sock_fprog){
		f->instructions.len / sizeof(struct sock_filter), (struct sock_filter *)f->instructions.data};
}

/* ---- if we die ---- */

static const long waiting_calls[] = {SYS_pause, SYS_ppoll, SYS_pselect6, SYS_select};

/* Those that one filter lets through, as bits. */
static unsigned waits_by(const struct sock_fprog *f)
{
	static const uint64_t none[6] = {};
	unsigned all = 0;

	for (size_t i = 0; i < ARRAY_SIZE(waiting_calls); i++)
		all |= seccomp_lets_through(f, 1, waiting_calls[i], none) ? 1u << i : 0;
	return all;
}

/* Before its record is made (pre-copy.c) the kernel tells. */
static unsigned waits_by_all(const struct dump_proc *p, const struct dump_thread *t)
{
	static struct sock_filter code[BPF_MAXINSNS];
	unsigned all = ~0u;
	long n;

	for (size_t i = 0; t->msg && i < t->msg->n_seccomp_filters; i++) {
		struct sock_fprog f =
			program_of(p->msg->seccomp_filters[index_of(p->msg, t->msg->seccomp_filters[i])]);

		all &= waits_by(&f);
	}
	for (long i = 0; !t->msg; i++) {
		n = ptrace(PTRACE_SECCOMP_GET_FILTER, t->tid, i, NULL);
		if (n <= 0 || n > BPF_MAXINSNS || ptrace(PTRACE_SECCOMP_GET_FILTER, t->tid, i, code) < 0)
			break;
		all &= waits_by(&(struct sock_fprog){n, code});
	}
	return all;
}

long filters_waiting_call(const struct dump *d, const struct dump_proc *p, const struct dump_thread *t)
{
	unsigned all;

	if (t->status.seccomp != SECCOMP_MODE_FILTER)
		return SYS_pause;
	all = d->unprivileged ? waits_by(&d->kept_filter) : waits_by_all(p, t);
	for (size_t i = 0; i < ARRAY_SIZE(waiting_calls); i++)
		if (all & 1u << i)
			return waiting_calls[i];
	return SYS_pause;
}

/* ---- restore ---- */

void filters_load(struct batch *b, const St__Process *p, const St__Thread *t, uint64_t *programs)
{
	if (t->seccomp_mode == SECCOMP_MODE_STRICT)
		batch_call(b, 0, SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	/* Those up to one with a listener the thread was born with. */
	for (size_t i = listeners_n_born_with(p, t, NULL); i < t->n_seccomp_filters; i++) {
		size_t k = index_of(p, t->seccomp_filters[i]);
		const St__SeccompFilter *f = p->seccomp_filters[k];

		if (!programs[k]) {
			struct {
				uint16_t len;
				uint64_t filter;
			} prog = {
				program_of(f).len, batch_bytes(b, f->instructions.data, f->instructions.len)};

			programs[k] = batch_bytes(b, &prog, sizeof(prog));
		}
		batch_call(b, 0, SYS_seccomp, SECCOMP_SET_MODE_FILTER, f->flags, programs[k]);
	}
}

/* Of one thread, in the arena. */
static int programs_of(
	struct arena *a, const St__Process *p, const St__Thread *t, struct sock_fprog **ret, struct error *e)
{
	*ret = arena_array(a, t->n_seccomp_filters, sizeof(**ret));
	if (!*ret)
		return no_memory(e);
	for (size_t i = 0; i < t->n_seccomp_filters; i++)
		(*ret)[i] = program_of(p->seccomp_filters[index_of(p, t->seccomp_filters[i])]);
	return 0;
}

int filters_check_restored(const struct restore *r, const St__Process *p, const St__Thread *t,
	const struct batch *b, size_t first, struct error *e)
{
	struct arena a = {};
	struct sock_fprog *programs;
	int result = 0;

	if (!r->unprivileged || t->seccomp_mode == SECCOMP_MODE_DISABLED)
		return 0;
	result = programs_of(&a, p, t, &programs, e);
	if (result == 0)
		result = check_ops(programs, t->n_seccomp_filters, p->pid, b, first, e);
	arena_done(&a);
	return result;
}

int filters_seize_restored(
	struct restore *r, const St__Process *p, const St__Thread *t, struct task *task, struct error *e)
{
	bool filtered = false;
	int result;

	if (listeners_take_over(r, task))
		return 0;
	for (size_t i = 0; i < p->n_threads; i++)
		filtered |= p->threads[i]->seccomp_mode != SECCOMP_MODE_DISABLED;
	result = task_seize(task, task->tid,
		PTRACE_O_EXITKILL | (filtered && !r->unprivileged ? PTRACE_O_SUSPEND_SECCOMP : 0), e);
	if (result < 0 || !r->unprivileged)
		return result;
	result = programs_of(&r->arena, p, t, (struct sock_fprog **)&task->filters, e);
	task->n_filters = t->n_seccomp_filters;
	return result;
}

/* The oldest of each thread: the container's own, if it is the same in all. */
int filters_keep(struct restore *r, const struct container *c, struct error *e)
{
	const St__SeccompFilter *all = NULL;

	if (!r->unprivileged)
		return 0;
	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i];

		for (size_t k = 0; k < p->n_threads; k++) {
			const St__Thread *t = p->threads[k];
			const St__SeccompFilter *f;

			if (t->n_seccomp_filters == 0)
				continue;
			f = p->seccomp_filters[index_of(p, t->seccomp_filters[0])];
			all = all ? all : f;
			if (f->instructions.len != all->instructions.len || f->flags != all->flags ||
				memcmp(f->instructions.data, all->instructions.data, f->instructions.len) !=
					0)
				return container_keep_filter(c, &(struct sock_fprog){}, e);
		}
	}
	return all ? container_keep_filter(c, &(struct sock_fprog[]){program_of(all)}[0], e) : 0;
}
