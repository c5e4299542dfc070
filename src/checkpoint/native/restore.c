/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restore by the native engine: read and check the image, create the container from its bundle as "create" does, with
 * init going into restore_init() instead of waiting for start, and put the state back.
 */
#include "checkpoint/native/bundle-namespaces.h"
#include "checkpoint/native/restore.h"

#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/trace.h"
#include "cgroup/watch.h"
#include "checkpoint/meeting.h"
#include "checkpoint/confine.h"
#include "checkpoint/native/cpu.h"
#include "checkpoint/native/filters.h"
#include "checkpoint/native/listeners.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/res/aio.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/res/socket.h"
#include "checkpoint/native/restore-home.h"
#include "checkpoint/native/restore-lazy.h"
#include "checkpoint/native/restore-outside.h"
#include "checkpoint/native/restore-share.h"
#include "checkpoint/native/restore-thp.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/shared-pids.h"
#include "checkpoint/native/shared-user.h"
#include "checkpoint/native/tree.h"
#include "checkpoint/native/ttys.h"
#include "linux/clocks.h"

enum { NS = 1000000000 };

/* To a list of pointers, or only to its length while there is no room yet. */
#define ADD_RECORD(r, list, m)                                                                               \
	({                                                                                                   \
		if ((r)->list)                                                                               \
			(r)->list[(r)->n_##list] = (const void *)(m);                                        \
		(r)->n_##list++;                                                                             \
	})

/* Two passes over the records: counts, then pointers. Messages stay in the image's memory. */
static int count_records(struct restore *r, struct error *e)
{
	const ProtobufCMessage *m;
	enum image_record_type type;
	size_t pos = 0;
	int n;

	while ((n = image_next_record(r->image, &pos, &type, &m, e)) == 1) {
		switch (type) {
		case IMAGE_RECORD_CONTAINER:
			r->container = (const St__Container *)m;
			break;
		case IMAGE_RECORD_FILE:
			ADD_RECORD(r, files, m);
			break;
		case IMAGE_RECORD_SHM:
		case IMAGE_RECORD_SHM_2:
			if (r->shm)
				r->shm[r->n_shm] = (struct restore_shm){
					.msg = (const St__SharedMemory *)m, .fd = -EBADF};
			r->n_shm++;
			break;
		case IMAGE_RECORD_PROCESS:
		case IMAGE_RECORD_PROCESS_2:
		case IMAGE_RECORD_PROCESS_3:
			ADD_RECORD(r, procs, m);
			break;
		case IMAGE_RECORD_TMPFS:
			ADD_RECORD(r, tmpfs, m);
			break;
		case IMAGE_RECORD_NETWORK:
		case IMAGE_RECORD_NETWORK_2:
		case IMAGE_RECORD_NETWORK_3:
			r->net.network = (const St__Network *)m;
			break;
		case IMAGE_RECORD_PACKET_TABLE:
			ADD_RECORD(&r->net, tables, m);
			break;
		case IMAGE_RECORD_NAMESPACE:
		case IMAGE_RECORD_NAMESPACE_2:
		case IMAGE_RECORD_NAMESPACE_3:
			if (r->nested)
				r->nested[r->n_nested] =
					(struct restore_nested){(const St__Namespace *)m, -EBADF, -EBADF};
			r->n_nested++;
			break;
		case IMAGE_RECORD_IPC:
		case IMAGE_RECORD_IPC_2:
			ADD_RECORD(r, ipc, m);
			break;
		case IMAGE_RECORD_MOUNT:
			ADD_RECORD(r, mounts, m);
			break;
		case IMAGE_RECORD_CGROUP:
			if (r->options->cgroups != CGROUPS_IGNORE)
				ADD_RECORD(r, cgroups, m);
			break;
		}
	}
	return n;
}

static int load_records(struct restore *r, struct error *e)
{
	int result = count_records(r, e);

	if (result < 0)
		return result;
	r->files = arena_array(&r->arena, r->n_files, sizeof(*r->files));
	r->shm = arena_array(&r->arena, r->n_shm, sizeof(*r->shm));
	r->procs = arena_array(&r->arena, r->n_procs, sizeof(*r->procs));
	r->tmpfs = arena_array(&r->arena, r->n_tmpfs, sizeof(*r->tmpfs));
	r->ipc = arena_array(&r->arena, r->n_ipc, sizeof(*r->ipc));
	r->cgroups = arena_array(&r->arena, r->n_cgroups, sizeof(*r->cgroups));
	r->labels = arena_array(&r->arena, r->n_procs, sizeof(*r->labels));
	r->mounts = arena_array(&r->arena, r->n_mounts, sizeof(*r->mounts));
	r->net.tuns = arena_array(&r->arena, r->n_files, sizeof(*r->net.tuns));
	r->net.tables = arena_array(&r->arena, r->net.n_tables, sizeof(*r->net.tables));
	r->nested = arena_array(&r->arena, r->n_nested, sizeof(*r->nested));
	r->pipes = arena_array(&r->arena, r->n_files, sizeof(*r->pipes));
	r->helpers = arena_array(&r->arena, r->n_files, sizeof(*r->helpers));
	if (!r->files || !r->shm || !r->procs || !r->tmpfs || !r->ipc || !r->mounts || !r->labels ||
		!r->net.tables || !r->net.tuns || !r->cgroups || !r->pipes || !r->helpers || !r->nested)
		return error_errno(e, -ENOMEM, "read the image");
	for (size_t i = 0; i < r->n_files; i++)
		r->pipes[i].read_fd = r->pipes[i].write_fd = -EBADF;
	r->n_files = r->n_shm = r->n_procs = r->n_tmpfs = r->n_ipc = r->n_mounts = r->n_cgroups =
		r->n_nested = r->net.n_tables = 0;
	result = count_records(r, e);
	if (result < 0)
		return result;
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_TUN)
			r->net.tuns[r->net.n_tuns++] = (struct network_tun){r->files[i]->tun, -EBADF};
	if (!r->container || r->n_procs == 0)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "the image holds no container or no process");
	return 0;
}

static bool id_is_used(const struct restore *r, int id)
{
	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i];

		if (p->pid == id || p->pgid == id || p->sid == id)
			return true;
		for (size_t k = 0; k < p->n_threads; k++)
			if (p->threads[k]->tid == id)
				return true;
	}
	return false;
}

/* A helper must not get, by chance, the id of something that is made later. */
static void name_helpers(struct restore *r)
{
	int id = 2;

	/* What others have in the namespace is not known here: the kernel gives one (shared_pids_keep_clear()). */
	if (r->container->pids)
		return;
	for (size_t i = r->tree->n_processes; i < r->tree->n_nodes; i++) {
		if (r->tree->nodes[i].pid)
			continue;
		while (id_is_used(r, id))
			id++;
		r->tree->nodes[i].pid = id++;
	}
}

static void sum_up(struct restore *r)
{
	for (size_t i = 0; i < r->n_procs; i++) {
		if (r->procs[i]->state == 2)
			continue;
		r->n_threads += r->procs[i]->n_threads;
		/* In a user namespace of its own it begins with all of them. */
		for (size_t k = 0;
			k < r->procs[i]->n_threads && !restore_namespace_of(r, r->procs[i], CLONE_NEWUSER);
			k++)
			r->bounding |= r->procs[i]->threads[k]->credentials->cap_bnd;
	}
}

static int plan_ttys(struct restore *r, struct error *e)
{
	int id = 2;

	r->n_ptys = r->container->n_ptys;
	r->ptys = arena_array(&r->arena, r->n_ptys, sizeof(*r->ptys));
	if (!r->ptys)
		return error_errno(e, -ENOMEM, "plan the terminals");
	for (size_t i = 0; i < r->n_ptys; i++) {
		struct restore_pty *p = &r->ptys[i];

		*p = (struct restore_pty){.msg = r->container->ptys[i], .master = -EBADF, .slave = -EBADF};
		if (p->msg->foreground != TTY_GROUP_IS_GONE)
			continue;
		while (id_is_used(r, id))
			id++;
		p->foreground = r->container->pids ? RESTORE_ANY_GROUP : id++;
	}
	return 0;
}

static int plan_tree(struct restore *r, struct error *e)
{
	struct tree_process *procs = arena_array(&r->arena, r->n_procs, sizeof(*procs));
	size_t wrong;
	int result;

	if (!procs)
		return error_errno(e, -ENOMEM, "plan the process tree");
	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i];
		const struct restore_nested *ns = restore_namespace_of(r, p, CLONE_NEWPID);

		procs[i] = (struct tree_process){.pid = p->pid,
			.ppid = p->ppid,
			.pgid = p->pgid,
			.sid = p->sid,
			.files_with = p->files_with,
			.fs_with = p->fs_with,
			.memory_with = p->memory_with,
			.handlers_with = p->handlers_with,
			.exit_signal = p->exit_signal,
			.zombie = p->state == 2,
			.listener = listeners_of(p),
			.orphan = i > 0 && restore_joins_pids(r) && p->ppid == SHARED_PIDS_REAPER};
		if (!ns)
			continue;
		procs[i].pid_ns = ns->msg->id;
		procs[i].outer_pid_ns = ns->msg->parent;
		procs[i].begins_pid_ns = restore_own_pid(p) == 1;
	}
	result = tree_plan_make(&r->arena, procs, r->n_procs, &r->tree, &wrong, e);
	if (result < 0)
		return error_prefix(e, "process %d", procs[wrong].pid);
	for (size_t i = 0; i < r->n_procs; i++)
		r->n_loads += r->tree->nodes[i].loads;
	name_helpers(r);
	return plan_ttys(r, e);
}

int restore_plan(struct restore *r, struct error *e)
{
	TRACE("plan");
	int result = load_records(r, e);

	if (result == 0)
		result = restore_validate(r, e);
	if (result == 0)
		result = restore_validate_namespaces(r, e);
	if (result == 0)
		result = restore_find_homes(r, e);
	if (result == 0)
		result = plan_tree(r, e);
	if (result < 0)
		return result;
	sum_up(r);
	restore_outside_plan(r);
	restore_thp_plan(r);
	result = restore_share_plan(r, e);
	if (result == 0)
		result = restore_lazy_plan(r, e);
	if (result == 0)
		result = huge_check_pool(r, e);
	if (result == 0)
		result = aio_check_room(r, e);
	return result < 0 ? result : restore_lay_out(r, e);
}

static void set_clock(
	const St__TimeSpec *then, const struct timespec *now, int64_t ahead, int64_t *sec, int32_t *nsec)
{
	int64_t ns = (then->sec - now->tv_sec) * NS + then->nsec - now->tv_nsec + ahead;

	*sec = ns / NS - (ns % NS < 0);
	*nsec = (int32_t)((ns % NS + NS) % NS);
}

void restore_set_clocks(struct restore *r, const struct clocks *now, int64_t ahead, struct timens_offset *t)
{
	r->clock_start = (int64_t)now->monotonic.tv_sec * NS + now->monotonic.tv_nsec - ahead;
	set_clock(r->container->monotonic, &now->monotonic, ahead, &t->monotonic_sec, &t->monotonic_nsec);
	set_clock(r->container->boottime, &now->boottime, ahead, &t->boottime_sec, &t->boottime_nsec);
	t->present = true;
}

int restore_xstate(struct restore *r, const St__Thread *t, const void **ret, size_t *ret_len, struct error *e)
{
	uint64_t missing = 0;
	void *buf;
	int result;

	*ret = t->xstate.data;
	*ret_len = t->xstate.len;
	if (!r->layout)
		return 0;
	*ret_len = cpu_xstate_size();
	*ret = buf = arena_alloc(&r->arena, *ret_len);
	if (!buf)
		return error_errno(e, -ENOMEM, "restore");
	result = cpu_convert(image_manifest(r->image)->cpu_layout, t->xstate.data, t->xstate.len, r->layout,
		buf, *ret_len, &missing);
	if (result == -EOPNOTSUPP)
		return error_set(e, result, ERROR_REFUSED,
			"this CPU lacks register state %#llx that thread %d uses: restore on a CPU like the "
			"one "
			"that the image was made on",
			(unsigned long long)missing, t->tid);
	return result < 0 ? error_set(e, result, ERROR_CORRUPT, "registers of thread %d", t->tid) : 0;
}

/* Before anything is made: whether all registers in use find their places. */
static int load_layout(struct restore *r, struct error *e)
{
	enum { LAYOUT_MAX = 512 };
	char *layout = arena_alloc(&r->arena, LAYOUT_MAX);
	const void *xstate;
	size_t len;

	if (!layout)
		return error_errno(e, -ENOMEM, "restore");
	if (cpu_has_layout(image_manifest(r->image)))
		return 0;
	r->layout = cpu_layout(layout, LAYOUT_MAX);
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; r->procs[i]->state != 2 && k < r->procs[i]->n_threads; k++)
			if (restore_xstate(r, r->procs[i]->threads[k], &xstate, &len, e) < 0)
				return e->code;
	return 0;
}

static int confined_timeout(const struct watchdog_allowance *a)
{
	if (a->start == WATCHDOG_NEVER)
		return -1;
	return a->start ? (int)MIN(a->start, 1000000u) * 1000 : WATCHDOG_START * 1000;
}

/* By another process, while we read what has nothing to do with it. */
static int open_confined(struct restore *r, int image_dir, struct error *e)
{
	TRACE("read image");
	struct image_source *source = NULL;
	struct confined *c = NULL;
	struct error spec_error;
	int spec_result, result = r->feed->feed ? image_feed_source(r->feed->feed, &source, e)
						: image_source_new(image_dir, &source, e);

	if (result == 0)
		result = confined_begin(source, &c, e);
	if (result < 0)
		return result;
	spec_result = container_read_config(&r->options->create, &r->config, &spec_error);
	result = confined_end(c, confined_timeout(&r->options->watchdog), &r->image, e);
	if (result == 0 && spec_result < 0) {
		*e = spec_error;
		return spec_result;
	}
	return result;
}

static int load(struct restore *r, int image_dir, struct error *e)
{
	TRACE("load image");
	int result = open_confined(r, image_dir, e);

	if (result == 0 && strcmp(image_manifest(r->image)->engine, "native") != 0)
		result = error_set(e, -ENOTSUP, ERROR_REFUSED,
			"the image was made by the engine \"%.40s\", which this stasis lacks",
			image_manifest(r->image)->engine);
	if (result == 0 && image_manifest(r->image)->pre_dump)
		result = error_set(e, -EINVAL, ERROR_STATE,
			"this is a pre-dump, which has memory only: restore the checkpoint that was made "
			"with it as "
			"--parent-path");
	if (result == 0 && image_manifest(r->image)->shared && r->exchange_fd < 0)
		result = error_set(e, -EINVAL, ERROR_STATE,
			"the image is of one container of a sandbox, and has objects that several of them "
			"share: "
			"restore all of "
			"them, from the image of the sandbox");
	if (result == 0 && !restore_lazy_comes_in_question(r))
		result = image_verify_begin(r->image, &r->verification, e);
	if (result == 0)
		result = cpu_check(image_manifest(r->image), r->options->any_cpu, e);
	if (result == 0)
		result = restore_plan(r, e);
	if (result == 0 && !r->verification)
		result = image_verify_begin_some(
			r->image, r->lazy.n ? r->lazy.checked_before : NULL, &r->verification, e);
	if (result == 0)
		result = load_layout(r, e);
	if (result < 0)
		return result;
	r->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r->zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (r->proc_fd < 0 || r->zero_fd < 0)
		return error_errno(e, -errno, "open %s",
			r->proc_fd < 0 ? "/proc" : "/dev/zero (is the machine's /dev complete?)");
	return fault_point("restore-verified", e);
}

/* config.json is the ceiling (row F6): an image, whoever made it, gets no privilege that the bundle does not give. */
static uint64_t allowed_capabilities(const struct spec *s)
{
	const struct spec_capabilities *c = &s->process->capabilities;

	return s->process->has_capabilities
		       ? c->bounding | c->permitted | c->effective | c->inheritable | c->ambient
		       : ~0ull;
}

static int check_thread_ceiling(const struct restore *r, const struct spec *s, const St__Process *p,
	const St__Thread *t, struct error *e)
{
	const St__Credentials *of = t->credentials;
	uint64_t more = (of->cap_bnd | of->cap_prm | of->cap_eff | of->cap_inh | of->cap_amb) &
			~allowed_capabilities(s);

	/* In a user namespace of its own capabilities are about nothing else. */
	if (more && !restore_namespace_of(r, p, CLONE_NEWUSER))
		return error_set(e, -EPERM, ERROR_REFUSED,
			"process %d of the image has capabilities that the bundle's config.json does not "
			"allow (mask %#llx): add them "
			"to process.capabilities.bounding, if they are wanted",
			p->pid, (unsigned long long)more);
	if (t->io_flusher && !(allowed_capabilities(s) & 1ull << CAP_SYS_RESOURCE))
		return error_set(e, -EPERM, ERROR_REFUSED,
			"process %d of the image is an I/O flusher, which the bundle's config.json does not "
			"allow: add "
			"CAP_SYS_RESOURCE "
			"to process.capabilities.bounding, if that is wanted",
			p->pid);
	if (s->process->no_new_privileges && !of->no_new_privs)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"process %d of the image lacks the noNewPrivileges that the bundle's config.json "
			"asks for",
			p->pid);
	if (listeners_has_agent(p) && !(s->seccomp && s->seccomp->notifies))
		return error_set(e, -EPERM, ERROR_REFUSED,
			"process %d of the image has a seccomp filter that an agent answers for, and the "
			"bundle's "
			"config.json has "
			"none (linux.seccomp.listenerPath, SCMP_ACT_NOTIFY)",
			p->pid);
	if (s->seccomp && t->seccomp_mode != SECCOMP_MODE_STRICT && t->n_seccomp_filters == 0)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"process %d of the image runs without the seccomp filter that the bundle's "
			"config.json asks for",
			p->pid);
	return 0;
}

static bool has_ipc(const struct restore *r)
{
	for (size_t i = 0; i < r->n_shm; i++)
		if (r->shm[i].msg->sysv && !r->shm[i].msg->ipc_namespace)
			return true;
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_MQUEUE && !r->files[i]->mqueue->ipc_namespace)
			return true;
	for (size_t i = 0; i < r->n_ipc; i++)
		if (!r->ipc[i]->ipc_namespace)
			return true;
	return false;
}

static int check_sockets(const struct restore *r, const struct spec *s, struct error *e)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const St__File *f = r->files[i];

		if (f->kind_case == ST__FILE__KIND_SOCKET &&
			!socket_is_allowed(
				s, f->socket->family, f->socket->type, socket_hears_audit(f->socket)))
			return error_set(e, -EPERM, ERROR_REFUSED,
				"the image has a raw, packet or audit socket, and the bundle's config.json "
				"does not "
				"allow the container to make one: add CAP_NET_RAW (CAP_AUDIT_READ) to "
				"process.capabilities.bounding, if that is wanted");
	}
	return 0;
}

static int check_sysctls(const struct restore *r, struct error *e)
{
	size_t n = r->net.network && r->own_net && !r->options->empty_ns ? r->net.network->n_sysctls : 0;

	for (size_t i = 0; i < r->n_nested; i++)
		n += r->nested[i].msg->network ? r->nested[i].msg->network->n_sysctls : 0;
	if (n == 0 || r->may_set_sysctls)
		return 0;
	return error_set(e, -EPERM, ERROR_REFUSED,
		"the image brings sysctls of the network, and the bundle's config.json lets the container "
		"set none: "
		"take /proc/sys out of linux.readonlyPaths, if they are wanted, or use --empty-ns network");
}

static int check_bundle(struct restore *r, struct error *e)
{
	TRACE("check bundle");
	const struct spec *s = r->config.spec;
	int result = 0;

	/* The bundle's word, not the image's: a shared host name is not to be changed. */
	r->own_uts = s->namespaces[NS_UTS].present && !s->namespaces[NS_UTS].path;
	r->own_net = s->namespaces[NS_NET].present && !s->namespaces[NS_NET].path;
	r->own_user = s->namespaces[NS_USER].present;
	r->own_ipc = s->namespaces[NS_IPC].present && !s->namespaces[NS_IPC].path;
	r->may_set_sysctls = ipc_may_set_sysctls(s);
	r->net.veth_pairs = r->options->veth_pairs;
	r->net.n_veth_pairs = r->options->n_veth_pairs;
	r->net.may_filter = !s->process || (allowed_capabilities(s) & 1ull << CAP_NET_ADMIN);
	r->may_make_devices = !s->process || !s->process->has_capabilities ||
			      (s->process->capabilities.bounding & 1ull << CAP_MKNOD);
	if (bundle_check_namespaces(r, s, e) < 0)
		return e->code;
	if (r->container->ipc && !ipc_may_be_shared(s))
		return error_set(e, -EINVAL, ERROR_CONFIG,
			"the container shared its ipc namespace with others of its sandbox: give all of them "
			"the same "
			"one, which is not the machine's, in linux.namespaces of config.json");
	if (has_ipc(r) && !r->own_ipc && !r->container->ipc)
		return error_set(e, -EINVAL, ERROR_CONFIG,
			"the container has IPC objects: restore needs an ipc namespace of its own in "
			"config.json");
	result = shared_pids_check_bundle(r, s, e);
	if (result == 0)
		result = shared_user_check_bundle(s, e);
	for (size_t i = 0; s->process && i < r->n_procs && result == 0; i++)
		for (size_t k = 0; k < r->procs[i]->n_threads && result == 0; k++)
			result = check_thread_ceiling(r, s, r->procs[i], r->procs[i]->threads[k], e);
	if (s->process && result == 0)
		result = restore_check_namespaces(r,
			s->process->has_capabilities ? s->process->capabilities.bounding : ~0ull, s->seccomp,
			e);
	if (result == 0)
		result = check_sockets(r, s, e);
	if (result == 0)
		result = bpf_check_maps(r, s, e);
	if (result == 0)
		result = check_sysctls(r, e);
	if (result == 0)
		result = restore_check_tmpfs(r, s, e);
	if (result == 0)
		result = restore_check_mounts(r, s, e);
	if (result == 0)
		result = restore_check_cgroups(r, s, e);
	if (result == 0)
		result = restore_check_cgroup_roots(r, e);
	if (result == 0)
		result = restore_check_labels(r, s, e);
	if (result == 0)
		result = restore_check_veths(r, e);
	return result < 0 ? result : restore_check_network(r, s, e);
}

void restore_tell(uint32_t *word)
{
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* An init that others know of is theirs to reap: it is a zombie when all the others are gone. */
static void reap(const struct container *c)
{
	siginfo_t si = {};

	while (waitid(P_ALL, 0, &si, WEXITED | __WALL | WNOWAIT) == 0 || errno == EINTR) {
		if (c->announced && si.si_pid == c->init_pid)
			return;
		if (si.si_pid > 0)
			(void)!waitpid(si.si_pid, NULL, __WALL);
		si.si_pid = 0;
	}
}

/* Its tasks are ours to wait for: traced ones stay until their tracer has. Init takes its pid namespace with it, if that is its own. */
static void end_tasks(struct restore *r, struct container *c)
{
	_cleanup_close_ int pidfd = container_init_pidfd(c);

	if (pidfd >= 0)
		(void)!syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	if (restore_joins_pids(r))
		(void)!cgroup_signal(&c->cgroup, SIGKILL, NULL);
	stream_feed_stop(r->feed);
	reap(c);
}

/* Who waits for it is told when all is removed. Somebody may be about to delete it, and wait for our tracees. */
static void give_up(struct restore *r, struct container *c, const struct error *e)
{
	struct meeting *m = r->options->meeting;

	if (m)
		meeting_tell_failure(m, e);
	end_tasks(r, c);
	if (!m || meeting_may_undo(m, c))
		container_abort(c);
	if (m)
		meeting_failed(m, c, e);
}

/* Before the first hook, which may connect the container's network with others. */
static int lock_packets(void *arg, pid_t init_pid, struct error *e)
{
	_cleanup_close_ int ns = -EBADF;
	const struct restore *r = arg;
	char path[64];

	if (!r->container->network_lock)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", init_pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return error_errno(e, -errno, "network namespace of the container");
	return restore_lock_network(r, ns, e);
}

uint64_t restore_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* Whoever was killed for want of memory, the user learns that, and not that some process is gone. */
static int explain(const struct restore *r, const struct container *c, int result, struct error *e)
{
	uint64_t kills = 0, limit, memory = r->stats->pages_data * IMAGE_PAGE_SIZE;
	char allowed[64];

	if (cgroup_read_oom(&c->cgroup, &kills, &limit) < 0 || kills == 0)
		return result;
	if (limit == UINT64_MAX)
		snprintf(allowed, sizeof(allowed), "as much as those above it");
	else
		snprintf(allowed, sizeof(allowed), "%llu bytes", (unsigned long long)limit);
	return error_set(e, -ENOMEM, ERROR_CONFIG,
		"the OOM killer ended the container while it was restored: its cgroup may have %s of memory, "
		"and the image "
		"has %llu bytes, with which a restore needs some more for itself: raise "
		"linux.resources.memory.limit of "
		"config.json (and swap), or the limit of a cgroup above",
		allowed, (unsigned long long)memory);
}

/* The program runs before its memory is there; nobody would say anything when it is killed a moment later. */
static void warn_of_limit(const struct restore *r, const struct container *c)
{
	uint64_t kills, limit, memory = r->stats->pages_data * IMAGE_PAGE_SIZE;

	if (cgroup_read_oom(&c->cgroup, &kills, &limit) == 0 && limit < memory)
		log_warning("the image has %llu bytes of memory, and the container's cgroup may have %llu: "
			    "it may be "
			    "killed when "
			    "the rest of its memory comes (linux.resources.memory.limit of config.json)",
			(unsigned long long)memory, (unsigned long long)limit);
}

static int run(struct restore *r, struct container **ret, struct error *e)
{
	TRACE("run");
	uint64_t start = restore_now_us();
	struct container_create_options create = r->options->create;
	_cleanup_(container_free_p) struct container *c = NULL;
	struct clocks now;
	int result;

	create.restore_init = restore_init;
	create.read = &r->config;
	create.restore_namespaces = lock_packets;
	create.restore_arg = r;
	create.restore_console = &r->console_master;
	create.restore_pid = restore_joins_pids(r) ? r->procs[0]->pid : 0;
	result = check_bundle(r, e);
	if (result < 0)
		return result;
	create.generation = image_manifest(r->image)->generation + 1;
	create.attempts = (struct container_attempts){
		image_manifest(r->image)->attempts, image_manifest(r->image)->failed_attempts};
	if (r->options->meeting) {
		create.restore_waits = true;
		r->options->meeting->joins_pids = restore_joins_pids(r);
	} else {
		clocks_now(&now);
		restore_set_clocks(r, &now, 0, &create.timens);
	}
	if (restore_has_cgroup_roots(r) &&
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->cgroup_roots) < 0)
		return error_errno(e, -errno, "socketpair");
	progress_start(&r->progress, "create", NULL, 0);
	result = container_create(&create, &c, e);
	if (result < 0)
		return result;
	watchdog_started(&r->watchdog, c->init_pid);
	r->stats->create_us = restore_now_us() - start;
	result = fault_point("restore-created", e);
	if (result == 0)
		result = restore_make_veths(r, c->init_pid, e);
	if (result == 0)
		result = restore_make_cgroups(r, c, e);
	if (result == 0 && r->options->meeting)
		result = restore_wait(r, c, e);
	if (result == 0)
		result = restore_coordinate(r, c, e);
	if (result == 0)
		result = restore_remember_mounts(r, c, e);
	if (result == 0)
		result = filters_keep(r, c, e);
	if (result == 0)
		result = fault_point("restore-end", e);
	if (result < 0) {
		result = explain(r, c, result, e);
		give_up(r, c, e);
		return result;
	}
	if (r->lazy.n > 0)
		warn_of_limit(r, c);
	*ret = take_ptr(c);
	return 0;
}

int native_restore(const struct restore_options *o, int image_dir, struct stream_feed *feed,
	struct container **ret, struct image_statistics *stats, struct error *e)
{
	struct restore r = {.options = o,
		.stats = stats,
		.progress = progress_to(STDERR_FILENO, o->progress),
		.feed = feed,
		.unprivileged = geteuid() != 0 || !idmap_is_initial(),
		.proc_fd = -EBADF,
		.zero_fd = -EBADF,
		.root_fd = -EBADF,
		.init_pidfd = -EBADF,
		.cgroup_roots = {-EBADF, -EBADF},
		.console_master = -EBADF,
		.exchange_fd = o->exchange_fd > 0 ? o->exchange_fd : -EBADF,
		.lazy = {.device = -EBADF, .offer = -EBADF, .offers = -EBADF, .image_dir = image_dir}};
	uint64_t start = restore_now_us();
	int result;

	r.progress.beat = &r.beat;
	progress_start(&r.progress, "open", NULL, 0);
	result = load(&r, image_dir, e);
	if (result == 0) {
		const struct image_statistics *made = &image_manifest(r.image)->statistics;

		*stats = (struct image_statistics){.open_us = restore_now_us() - start,
			.processes = made->processes,
			.threads = made->threads,
			.files = made->files,
			.pages_data = made->pages_data,
			.pages_zero = made->pages_zero,
			.pages_shared = made->pages_shared,
			.pages_parent = made->pages_parent,
			.pages_repeated = made->pages_repeated,
			.bytes = made->bytes};
		/* What reads the image has a limit of its own. */
		watchdog_begin(&r.watchdog, WATCHDOG_RESTORE, &o->watchdog, &r.beat, o->work_path);
		result = run(&r, ret, e);
		result = watchdog_end(&r.watchdog, result, e);
	}
	progress_stop(&r.progress);
	(void)!image_verify_end(r.verification, NULL);
	if (result == 0 && r.lazy.n > 0)
		stream_feed_release(feed);
	restore_lazy_done(&r);
	close_p(&r.proc_fd);
	close_p(&r.zero_fd);
	close_p(&r.cgroup_roots[0]);
	close_p(&r.cgroup_roots[1]);
	for (size_t i = 0; i < r.n_shm; i++)
		close_p(&r.shm[i].fd);
	container_config_done(&r.config);
	image_free(r.image);
	arena_done(&r.arena);
	return result;
}
