/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stubs: forks of the stasis process that stand in for the processes to be restored, in plain C, until each
 * gives up its own memory in restore_build(). Init makes all files, then the tree is forked as the plan says. Three
 * barriers order what depends on others: all exist; all group leaders lead; all members have joined.
 */
#include "checkpoint/native/restore.h"

#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/fd.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/listeners.h"
#include "checkpoint/native/network.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/restore-home.h"
#include "checkpoint/native/restore-lazy.h"
#include "checkpoint/native/restore-share.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/shared-pids.h"
#include "checkpoint/native/timens.h"
#include "checkpoint/native/tree.h"
#include "checkpoint/native/ttys.h"

static long futex(uint32_t *word, int op, uint32_t value)
{
	return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

/* The first failure of any stub is the one that is reported. */
_Noreturn void restore_stub_fail(struct restore *r, const struct error *e)
{
	struct error ignored;
	uint32_t none = 0;

	if (__atomic_compare_exchange_n(
		    &r->control->failing, &none, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		r->control->error = *e;
		(void)!fault_point("restore-failing", &ignored);
		__atomic_store_n(&r->control->failed, 1, __ATOMIC_SEQ_CST);
		futex(&r->control->n_ready, FUTEX_WAKE, INT32_MAX);
	}
	_exit(1);
}

/* Waits until "total" stubs have come here. */
void restore_barrier(struct restore *r, uint32_t *counter, uint32_t total)
{
	uint32_t n = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);

	if (n >= total) {
		futex(counter, FUTEX_WAKE, INT32_MAX);
		return;
	}
	while ((n = __atomic_load_n(counter, __ATOMIC_SEQ_CST)) < total)
		futex(counter, FUTEX_WAIT, n);
}

/* Until the parent has set it. It kills us if it fails. */
static void await(uint32_t *word)
{
	while (!__atomic_load_n(word, __ATOMIC_SEQ_CST))
		futex(word, FUTEX_WAIT, 0);
}

/* Stubs that take part in the barriers: processes and group leaders (the other helpers are gone by then). */
static uint32_t participants(const struct restore *r)
{
	return r->tree->n_processes - r->tree->n_members + r->tree->n_group_leaders;
}

/* NULL: a helper. */
static const St__Process *process_of(const struct restore *r, const struct tree_node *node)
{
	return node->kind == TREE_PROCESS ? r->procs[node->process] : NULL;
}

static _Noreturn void stub(struct restore *r, size_t node);

static pid_t fork_node(struct restore *r, size_t index)
{
	const struct tree_node *node = &r->tree->nodes[index];
	struct error e;
	const St__Process *parent = process_of(r, &r->tree->nodes[node->parent]);
	pid_t pid = -EEXIST;

	/* Where other containers live, one of them may have a process of this pid for a moment (a sender of a message). */
	for (int i = 0; pid == -EEXIST && i < (r->container->pids ? 400 : 1); i++) {
		if (i > 0)
			usleep(5000);
		pid = restore_fork(r, parent, process_of(r, node), node->pid, node->shares);
	}
	if (pid == 0)
		stub(r, index);
	if (pid < 0) {
		if (pid == -EEXIST)
			error_set(&e, -EEXIST, ERROR_STATE,
				"pid %d is already taken in the container's pid namespace", node->pid);
		else if (pid == -EAGAIN)
			error_set(&e, pid, ERROR_SYSTEM,
				"fork process %d: no more processes are allowed: raise the limit of pids of "
				"config.json, "
				"or of a cgroup above",
				node->pid);
		else
			error_errno(&e, pid, "fork process %d", node->pid);
		restore_stub_fail(r, &e);
	}
	return pid;
}

static void wait_for(struct restore *r, pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static bool begins_namespace(const struct restore *r, const struct tree_node *node)
{
	const St__Process *p = process_of(r, node);

	return p && p->n_inner_pids && restore_own_pid(p) == 1;
}

/* loaded: those that come when the filter with a listener is there, or all others. */
static void fork_children(struct restore *r, size_t self, bool before_setsid, bool loaded)
{
	const size_t n = r->tree->n_nodes;

	/* The first process of a pid namespace before those that come into it beside it. */
	for (size_t i = 1; i < 2 * n; i++) {
		size_t k = i < n ? i : i - n;
		const struct tree_node *node = &r->tree->nodes[k];
		pid_t pid;

		if (k == 0 || node->parent != self || k == self || node->before_setsid != before_setsid ||
			begins_namespace(r, node) != (i < n) || node->kind == TREE_MEMBER ||
			(node->time == TREE_AFTER_LOAD) != loaded)
			continue;
		pid = fork_node(r, k);
		if (node->kind == TREE_SESSION_LEADER || node->kind == TREE_PARENT)
			wait_for(r, pid);
	}
}

static bool forks_after_load(const struct restore *r, size_t self)
{
	for (size_t i = 1; i < r->tree->n_nodes; i++)
		if (r->tree->nodes[i].parent == self && r->tree->nodes[i].before_setsid &&
			r->tree->nodes[i].time == TREE_AFTER_LOAD)
			return true;
	return false;
}

/* Children before and behind the moment when it begins its session; *loaded: it has its filter with a listener. */
static void fork_and_load(struct restore *r, size_t self, bool before_setsid, bool *loaded)
{
	struct error e;

	fork_children(r, self, before_setsid, false);
	if (!listeners_any(r))
		return;
	if (r->tree->nodes[self].loads && !*loaded && (!before_setsid || forks_after_load(r, self))) {
		*loaded = true;
		if (listeners_load(r, self, &e) < 0)
			restore_stub_fail(r, &e);
	}
	fork_children(r, self, before_setsid, true);
}

static void reap_group_leaders(struct restore *r, size_t self)
{
	for (size_t i = r->tree->n_processes; i < r->tree->n_nodes; i++)
		if (r->tree->nodes[i].kind == TREE_GROUP_LEADER && r->tree->nodes[i].parent == self)
			wait_for(r, r->tree->nodes[i].pid);
}

/* Ends as the zombie had ended: its parent reads the same status. */
static _Noreturn void die_as(int status)
{
	struct rlimit no_core = {0, 0};
	int sig = status & 0x7f;
	sigset_t set;

	if (sig == 0)
		_exit((status >> 8) & 0xff);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	kill(getpid(), sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + sig);
}

pid_t restore_fork_helper(pid_t pid, int status)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = pid ? (uint64_t)&pid : 0, .set_tid_size = pid ? 1 : 0};
	pid_t child = syscall(SYS_clone3, &args, sizeof(args));
	sigset_t set;
	int sig;

	if (child != 0)
		return child;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigwait(&set, &sig); /* all signals are blocked in the stubs */
	die_as(status);
}

int restore_end_helper(pid_t pid, struct error *e)
{
	kill(pid, SIGUSR1);
	while (waitpid(pid, NULL, 0) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "wait for a helper");
	return 0;
}

static int set_fs(struct restore *r, const St__Process *p, struct error *e)
{
	int fd = restore_fd(r, p->root_file);

	umask(p->umask);
	if (restore_is_gone(r, p->root_file) || restore_is_gone(r, p->cwd_file))
		return 0; /* restore_go_where_gone() */
	if (p->root_file && (fchdir(fd) < 0 || chroot(".") < 0))
		return error_errno(e, -errno, "root directory of process %d", p->pid);
	fd = restore_fd(r, p->cwd_file);
	if (p->cwd_file && fchdir(fd) < 0)
		return error_errno(e, -errno, "working directory of process %d", p->pid);
	return 0;
}

/* Read by init for all: they are inherited, and a file of /proc costs more than a fork's share of pages. */
static int read_inherited(struct restore *r, struct error *e)
{
	char score[32], filter[32];

	if (read_small_file_at(r->proc_fd, "self/oom_score_adj", score, sizeof(score)) <= 0 ||
		read_small_file_at(r->proc_fd, "self/coredump_filter", filter, sizeof(filter)) <= 0)
		return error_errno(e, -EIO, "read oom_score_adj and coredump_filter");
	r->oom_score_adj = strtol(score, NULL, 10);
	r->coredump_filter = strtol(filter, NULL, 16);
	return 0;
}

/* Who is logged in himself, and restores without CAP_AUDIT_CONTROL, cannot give that away: the kernel's audit goes on naming
 * him. */
static int give_login(const struct restore *r, const St__Process *p, struct error *e)
{
	char text[32];
	int result = 0;

	if (p->has_login && read_small_file_at(r->proc_fd, "self/loginuid", text, sizeof(text)) > 0 &&
		strtoul(text, NULL, 10) != p->loginuid) {
		snprintf(text, sizeof(text), "%u", p->loginuid);
		result = write_string_at(r->proc_fd, "self/loginuid", text);
	}
	return result < 0 && result != -EPERM
		       ? error_errno(e, result, "loginuid %u of process %d", p->loginuid, p->pid)
		       : 0;
}

/* Who lacks CAP_SYS_ADMIN on the machine may do it ten times a second, in common with all others. A kernel without such groups: as when they
 * are switched off, they would be of no effect. */
static int give_autogroup(struct restore *r, const St__Process *p, struct error *e)
{
	enum { TRIES = 50, PAUSE_US = 50000 };
	char text[16];
	int result;

	if (!p->autogroup_nice)
		return 0;
	snprintf(text, sizeof(text), "%d", p->autogroup_nice);
	result = write_string_at(r->proc_fd, "self/autogroup", text);
	for (int i = 0; i < TRIES && result == -EAGAIN; i++) {
		usleep(PAUSE_US);
		result = write_string_at(r->proc_fd, "self/autogroup", text);
	}
	return result < 0 && result != -ENOENT
		       ? error_errno(e, result, "nice value %s of the autogroup of session %d", text, p->pid)
		       : 0;
}

static int small_attributes(struct restore *r, const St__Process *p, struct error *e)
{
	char text[32];
	int result = give_login(r, p, e);

	if (result < 0)
		return result;

	snprintf(text, sizeof(text), "%d", p->oom_score_adj);
	if (p->oom_score_adj != r->oom_score_adj)
		result = write_string_at(r->proc_fd, "self/oom_score_adj", text);
	if (result < 0)
		return error_errno(e, result, "oom_score_adj %s of process %d", text, p->pid);
	snprintf(text, sizeof(text), "0x%x", p->memory->coredump_filter);
	if (p->memory->coredump_filter != r->coredump_filter)
		result = write_string_at(r->proc_fd, "self/coredump_filter", text);
	if (result < 0)
		return error_errno(e, result, "coredump_filter of process %d", p->pid);
	result = give_autogroup(r, p, e);
	if (result < 0)
		return result;
	return p->fs_with ? 0 : set_fs(r, p, e);
}

/* The first of those who share a table gives the descriptors their numbers, once none of the others opens any. */
static int place_files(struct restore *r, const St__Process *p, size_t index, struct error *e)
{
	if (p->files_with) {
		__atomic_store_n(&r->sharers[index].in_loop, 1, __ATOMIC_SEQ_CST);
		futex(&r->sharers[index].in_loop, FUTEX_WAKE, INT32_MAX);
		return 0;
	}
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->files_with == p->pid && !r->procs[i]->memory_with)
			await(&r->sharers[i].in_loop);
	return restore_place_files(r, p, e);
}

/* Where its threads are to be made; else that is one of the last things that it does. */
static int settle(struct restore *r, const St__Process *p, size_t index, struct error *e)
{
	uint64_t home = homes_of_threads(&r->homes, index);
	int result = home != r->here ? restore_settle(r, p, home) : 0;

	return result < 0 ? error_errno(e, result, "enter its user namespace") : 0;
}

static _Noreturn void become(struct restore *r, const St__Process *p, size_t index)
{
	struct error e;
	int result;

	if (p->state == 2) {
		prctl(PR_SET_NAME, p->comm ? p->comm : "");
		die_as(p->exit_code);
	}
	result = small_attributes(r, p, &e);
	if (result == 0)
		result = restore_children_namespace(r, p, &e);
	if (result == 0)
		result = restore_lazy_offer(r, index, &e);
	if (result == 0)
		result = place_files(r, p, index, &e);
	if (result == 0)
		result = fault_point("restore-memory", &e);
	if (result == 0)
		result = settle(r, p, index, &e);
	if (result == 0)
		result = restore_build(r, index, &e);
	error_prefix(&e, "process %d", p->pid);
	restore_stub_fail(r, &e);
}

/* Whether anybody has to join a group, or relies on others that they exist: owners of files, pidfds, namespaces. */
static bool needs_others(const struct restore *r)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->files_with || r->procs[i]->fs_with)
			return true;
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->owner)
			return true;
	return r->tree->joins || r->has_late_files || r->n_nested || r->n_cgroups || r->n_ptys;
}

static void join_groups(struct restore *r, const struct tree_node *node, const St__Process *p)
{
	int pgid = p ? restore_pid_seen(r, p, p->pgid) : node->pid;
	struct error e;

	if (!needs_others(r))
		return;
	restore_barrier(r, &r->control->n_forked, participants(r));
	if (p && r->n_nested && restore_timens(r, node->process, &e) < 0)
		restore_stub_fail(r, &e);
	if (!p && getpgrp() != pgid && setpgid(0, 0) < 0)
		goto failed;
	restore_barrier(r, &r->control->n_led, participants(r));
	if (p == r->procs[0] && restore_owners(r, &e) < 0)
		restore_stub_fail(r, &e);
	if (pgid > 0 && getpgrp() != pgid && setpgid(0, pgid) < 0)
		goto failed;
	restore_barrier(r, &r->control->n_joined, participants(r));
	return;
failed:
	error_errno(&e, -errno, "process %d: join process group %d", node->pid, pgid);
	restore_stub_fail(r, &e);
}

static void late_files(struct restore *r, bool init)
{
	struct error e;
	int result = 0;

	if (init)
		result = restore_late_files(r, true, &e);
	if (result == 0)
		restore_barrier(r, &r->control->n_opened, r->tree->n_processes - r->tree->n_members);
	if (result == 0 && !init)
		result = restore_late_files(r, false, &e);
	if (result < 0)
		restore_stub_fail(r, &e);
	restore_barrier(r, &r->control->n_fetched, r->tree->n_processes - r->tree->n_members);
}

static _Noreturn void stub(struct restore *r, size_t self)
{
	const struct tree_node *node = &r->tree->nodes[self];
	const St__Process *p = process_of(r, node);
	bool loaded = false;
	struct error e;

	if (p && restore_late_mounts(r, p, &e) < 0)
		restore_stub_fail(r, &e);
	if (p && restore_enter_namespaces(r, p, &e) < 0)
		restore_stub_fail(r, &e);
	if (restore_share_stage(r, self, &e) < 0)
		restore_stub_fail(r, &e);
	if (node->adopts && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
		error_errno(&e, -errno, "process %d: adopt", node->pid);
		restore_stub_fail(r, &e);
	}
	fork_and_load(r, self, true, &loaded);
	if (node->setsid && setsid() < 0) {
		error_errno(&e, -errno, "process %d: begin a session", node->pid);
		restore_stub_fail(r, &e);
	}
	if ((node->setsid || self == 0) && p && restore_take_terminal(r, node->pid, &e) < 0)
		restore_stub_fail(r, &e);
	/* Before its children: in a pid namespace of their own they cannot name the group any more, but inherit it. */
	if (p && p->pgid == p->pid && getpgrp() != getpid() && setpgid(0, 0) < 0) {
		error_errno(&e, -errno, "process %d: lead its group", node->pid);
		restore_stub_fail(r, &e);
	}
	fork_and_load(r, self, false, &loaded);
	if (node->unshares && unshare((int)node->unshares) < 0) {
		error_errno(&e, -errno, "process %d: what it shares no more", node->pid);
		restore_stub_fail(r, &e);
	}
	if (node->kind == TREE_SESSION_LEADER || node->kind == TREE_PARENT)
		_exit(0);
	if (fault_point("restore-tree", &e) < 0)
		restore_stub_fail(r, &e);
	join_groups(r, node, p);
	if (r->n_cgroups)
		await(&r->control->cgroups_placed);
	if (!p)
		_exit(0);
	if (restore_set_foreground(r, p, &e) < 0)
		restore_stub_fail(r, &e);
	reap_group_leaders(r, self);
	if (r->has_late_files)
		late_files(r, self == 0);
	if (r->n_gone && restore_go_where_gone(r, p, &e) < 0)
		restore_stub_fail(r, &e);
	become(r, p, node->process);
}

/* By init, so that its pages are charged to the container. Holes stay holes: only runs are touched. */
static int fill_shared_memory(struct restore *r, bool nested, struct error *e)
{
	for (size_t i = 0; i < r->n_shm; i++) {
		const struct restore_shm *s = &r->shm[i];
		const struct image_run *runs;
		size_t n;

		if (!!s->msg->ipc_namespace != nested)
			continue;
		if (s->fd >= 0 && huge_restore_contents(r, s->msg->id, s->fd, s->msg->huge_shift, e) < 0)
			return e->code;
		if (!s->address)
			continue;
		runs = image_runs(r->image, s->msg->id, &n);
		for (size_t k = 0; k < n; k++) {
			uint64_t len = runs[k].n_pages * IMAGE_PAGE_SIZE,
				 room = ALIGN_UP(s->msg->size, (uint64_t)IMAGE_PAGE_SIZE);
			int result;

			if (runs[k].address > room || len > room - runs[k].address)
				return error_set(e, -EBADMSG, ERROR_CORRUPT,
					"shared memory %llu has pages behind its end",
					(unsigned long long)s->msg->id);
			result = image_read(r->image, s->msg->id, runs[k].address,
				(void *)(s->address + runs[k].address), len, e);
			if (result < 0)
				return result;
		}
	}
	return 0;
}

/* Segments come to lie in the area, where fill_shared_memory() gives them their contents. */
static int make_ipc(struct restore *r, uint64_t ns, struct error *e)
{
	int result = ipc_sysctl_raise(r, ns, e);

	if (result == 0)
		result = sysv_restore(r, ns, e);
	if (result == 0)
		result = mqueue_restore(r, ns, e);
	return result == 0 ? ipc_sysctl_restore(r, ns, e) : result;
}

static int restore_ipc(struct restore *r, struct error *e)
{
	const St__Shared *shared = r->container->ipc;
	int result = shared && !shared->owner ? ipc_await(r, e) : 0;

	if (result == 0)
		result = make_ipc(r, 0, e);
	return result == 0 && shared && shared->owner ? ipc_offer(r, e) : result;
}

/* Of the namespaces that the container's processes had made. */
static int restore_nested_ipc(struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_ipc && result == 0; i++) {
		uint64_t ns = r->ipc[i]->ipc_namespace;
		bool done = false;

		for (size_t k = 0; k < i; k++)
			done |= r->ipc[k]->ipc_namespace == ns;
		if (!ns || done)
			continue;
		result = restore_enter_ipc(r, ns, e);
		if (result == 0)
			result = make_ipc(r, ns, e);
	}
	if (result == 0)
		result = restore_enter_ipc(r, 0, e);
	return result == 0 ? fill_shared_memory(r, true, e) : result;
}

/* The names that the container had given itself, in a namespace of its own. */
static int set_names(struct restore *r, struct error *e)
{
	const St__Container *c = r->container;
	struct utsname un;

	if (!r->own_uts || uname(&un) < 0)
		return 0;
	if (*c->hostname && strcmp(un.nodename, c->hostname) != 0 &&
		sethostname(c->hostname, strlen(c->hostname)) < 0)
		return error_errno(e, -errno, "set the host name");
	if (*c->domainname && strcmp(un.domainname, c->domainname) != 0 &&
		setdomainname(c->domainname, strlen(c->domainname)) < 0)
		return error_errno(e, -errno, "set the domain name");
	return 0;
}

/* All of them, also the two that glibc keeps for itself and has handlers for once it has made threads. */
static void reset_signal_actions(void)
{
	uint64_t none[4] = {};

	for (int sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, none, NULL, 8);
}

/* Once, for all that are forked from here: the rest is then a matter of each thread. */
static void limit_capabilities(const struct restore *r)
{
	for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (!(r->bounding & 1ull << cap))
			prctl(PR_CAPBSET_DROP, cap);
}

/* In a network namespace of our own: what is made in it from here on may connect it with others. */
static int lock_packets(const struct restore *r, struct error *e)
{
	_cleanup_close_ int ns = -EBADF;

	if (!r->own_net || !r->container->network_lock)
		return 0;
	ns = openat(r->proc_fd, "thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return ns < 0 ? error_errno(e, -errno, "network namespace") : restore_lock_network(r, ns, e);
}

int restore_init(void *arg, struct error *e)
{
	struct restore *r = arg;
	sigset_t all;
	int result;

	r->clock_start = r->container->monotonic->sec * 1000000000ll + r->container->monotonic->nsec;
	sigfillset(&all);
	r->clocks_later = r->options->meeting;
	sigprocmask(SIG_SETMASK, &all, NULL);
	reset_signal_actions();
	/* The whole restore dies with its command, until it is complete. */
	result = prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? error_errno(e, -errno, "prctl") : 0;
	/* What is not dumpable has its files in /proc owned by the host's root. Nobody else in there may see us (shared-user.h). */
	if (result == 0 && r->own_user && prctl(PR_SET_DUMPABLE, 1) < 0)
		result = error_errno(e, -errno, "prctl");
	if (result == 0)
		result = shared_pids_keep_clear(r, e);
	if (result == 0)
		result = restore_wait_at(r, RESTORE_EMPTY, e);
	if (result == 0 && r->n_cgroups)
		await(&r->control->cgroups_made);
	if (result == 0)
		result = restore_ipc(r, e);
	if (result == 0)
		result = fill_shared_memory(r, false, e);
	if (result == 0)
		result = set_names(r, e);
	if (result == 0)
		result = restore_make_room(r, e);
	if (result == 0)
		result = restore_make_namespaces(r, e);
	if (result == 0)
		result = restore_mounts(r, e);
	if (result == 0)
		result = restore_open_root(r, e);
	if (result == 0)
		result = lock_packets(r, e);
	if (result == 0)
		result = restore_tmpfs(r, e);
	if (result == 0)
		result = restore_finish_namespaces(r, e);
	if (result == 0)
		result = restore_nested_ipc(r, e);
	if (result == 0 && r->options->n_veth_pairs)
		await(&r->control->veths_made);
	if (result == 0 && r->net.network && r->own_net && !r->options->empty_ns)
		result = restore_network(&r->net, r->proc_fd, e);
	if (result == 0)
		result = restore_open_files(r, e);
	if (result == 0)
		result = read_inherited(r, e);
	if (result == 0)
		result = fault_point("restore-files", e);
	if (result == 0)
		result = restore_wait_at(r, RESTORE_FILES, e);
	if (result < 0)
		restore_stub_fail(r, e);
	limit_capabilities(r);
	if (restore_late_begin(r, e) < 0 || restore_start_clerk(r, e) < 0)
		restore_stub_fail(r, e);
	stub(r, 0);
}
