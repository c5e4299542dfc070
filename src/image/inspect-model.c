/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that inspect shows, as one JSON object: image, container, processes (in the order of the tree), shared
 * memory and tmpfs. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "image/inspect-priv.h"

enum { NONE = -1 };

struct node { /* one process in the tree; indices of x->processes or NONE */
	long child, last_child, sibling;
	bool is_child;
};

struct by_pid {
	int32_t pid;
	long index;
};

static int compare_pids(const void *va, const void *vb)
{
	const struct by_pid *a = va, *b = vb;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

/* The process of that pid with the lowest index. */
static long find_pid(const struct by_pid *pids, size_t n, int32_t pid)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (pids[middle].pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && pids[low].pid == pid ? pids[low].index : NONE;
}

/* A parent must stand before its child in the image, so there are no cycles whatever the pids say. */
static struct node *build_tree(struct inspection *x)
{
	struct node *nodes = arena_array(&x->arena, x->n_processes, sizeof(*nodes));
	struct by_pid *pids = arena_array(&x->arena, x->n_processes, sizeof(*pids));

	if (!nodes || !pids)
		return NULL;
	for (size_t i = 0; i < x->n_processes; i++) {
		nodes[i] = (struct node){NONE, NONE, NONE, false};
		pids[i] = (struct by_pid){x->processes[i]->pid, i};
	}
	qsort(pids, x->n_processes, sizeof(*pids), compare_pids);
	for (size_t i = 0; i < x->n_processes; i++) {
		long p = find_pid(pids, x->n_processes, x->processes[i]->ppid);

		if (p == NONE || p >= (long)i)
			continue;
		nodes[i].is_child = true;
		if (nodes[p].last_child == NONE)
			nodes[p].child = i;
		else
			nodes[nodes[p].last_child].sibling = i;
		nodes[p].last_child = i;
	}
	return nodes;
}

void inspect_count(const struct inspection *x, uint64_t space, uint64_t from, uint64_t to, uint64_t *ret_data,
	uint64_t *ret_zero)
{
	size_t n, low = 0, high;
	const struct image_run *runs = image_runs(x->image, space, &n);
	uint64_t data = 0, zero = 0;

	high = n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (runs[middle].address + runs[middle].n_pages * IMAGE_PAGE_SIZE <= from)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < n && runs[low].address < to; low++) {
		uint64_t end = runs[low].address + runs[low].n_pages * IMAGE_PAGE_SIZE;
		uint64_t pages = (MIN(end, to) - MAX(runs[low].address, from)) / IMAGE_PAGE_SIZE;

		if (runs[low].kind != IMAGE_PAGES_SHARED) /* it is in the image only once */
			*(runs[low].kind == IMAGE_PAGES_DATA ? &data : &zero) += pages;
	}
	*ret_data = data;
	*ret_zero = zero;
}

static void add_pages(struct inspection *x, struct json_object *o, uint64_t space, uint64_t from, uint64_t to)
{
	uint64_t data, zero;

	inspect_count(x, space, from, to, &data, &zero);
	inspect_add_u64(x, o, "data_pages", data);
	inspect_add_u64(x, o, "zero_pages", zero);
}

static const char *vma_name(const struct inspection *x, const St__Memory *m, const St__Vma *v)
{
	static const char *const special[] = {"", "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"};

	if (v->special > 0 && v->special < ARRAY_SIZE(special))
		return special[v->special];
	if (v->file)
		return inspect_file_name(x, v->file);
	if (v->aio)
		return "/[aio]";
	if (v->shm)
		return "[shared]";
	if (v->start < m->brk && v->end > m->start_brk)
		return "[heap]";
	if (v->start <= m->start_stack && v->end > m->start_stack)
		return "[stack]";
	return "";
}

static struct json_object *describe_vma(
	struct inspection *x, const St__Memory *m, const St__Vma *v, bool in_order)
{
	bool shared = (v->flags & MAP_TYPE) == MAP_SHARED || (v->flags & MAP_TYPE) == MAP_SHARED_VALIDATE;
	struct json_object *o = json_object_new_object();
	char prot[5] = "---p";

	if (v->prot & PROT_READ)
		prot[0] = 'r';
	if (v->prot & PROT_WRITE)
		prot[1] = 'w';
	if (v->prot & PROT_EXEC)
		prot[2] = 'x';
	if (shared)
		prot[3] = 's';
	inspect_add_hex(x, o, "start", v->start);
	inspect_add_hex(x, o, "end", v->end);
	inspect_add_u64(x, o, "size", v->end > v->start ? v->end - v->start : 0);
	inspect_add_string(x, o, "permissions", prot);
	inspect_add_string(x, o, "name", vma_name(x, m, v));
	if (v->file)
		inspect_add_u64(x, o, "offset", v->offset);
	if (v->shm)
		inspect_add_u64(x, o, "shared_memory", v->shm);
	else if (in_order)
		add_pages(x, o, m->space, v->start, v->end);
	return o;
}

static struct json_object *describe_memory(struct inspection *x, const St__Memory *m)
{
	struct json_object *o = json_object_new_object(), *mappings = json_object_new_array();
	uint64_t size = 0, before = 0;

	for (size_t i = 0; i < m->n_vmas; i++) {
		const St__Vma *v = m->vmas[i];
		bool in_order = v->start >= before && v->end > v->start;

		inspect_append(x, mappings, describe_vma(x, m, v, in_order));
		if (in_order) {
			size += v->end - v->start;
			before = v->end;
		}
	}
	inspect_add_u64(x, o, "mapped_bytes", size);
	add_pages(x, o, m->space, 0, UINT64_MAX);
	inspect_add(x, o, "mappings", mappings);
	return o;
}

static struct json_object *describe_threads(struct inspection *x, const St__Process *p)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < p->n_threads; i++) {
		struct json_object *t = json_object_new_object();

		inspect_add_i64(x, t, "tid", p->threads[i]->tid);
		inspect_add_string(x, t, "comm", p->threads[i]->comm);
		inspect_append(x, a, t);
	}
	return a;
}

static struct json_object *describe_descriptors(struct inspection *x, const St__Process *p)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < p->n_descriptors; i++) {
		const St__Descriptor *d = p->descriptors[i];
		struct json_object *o = json_object_new_object();

		inspect_add_u64(x, o, "fd", d->fd);
		inspect_add_bool(x, o, "cloexec", d->cloexec);
		inspect_add_u64(x, o, "file", d->file);
		inspect_describe_file(x, o, inspect_file(x, d->file));
		inspect_append(x, a, o);
	}
	return a;
}

static void add_credentials(struct inspection *x, struct json_object *o, const St__Process *p)
{
	const St__Credentials *c = p->n_threads ? p->threads[0]->credentials : NULL;

	if (c && c->n_uid && c->n_gid) {
		inspect_add_u64(x, o, "uid", c->uid[0]);
		inspect_add_u64(x, o, "gid", c->gid[0]);
		inspect_add_hex(x, o, "effective_capabilities", c->cap_eff);
	}
}

static struct json_object *describe_process(struct inspection *x, const St__Process *p, unsigned depth)
{
	static const char *const states[] = {"running", "stopped", "zombie"};
	struct json_object *o = json_object_new_object();

	inspect_add_i64(x, o, "pid", p->pid);
	inspect_add_i64(x, o, "ppid", p->ppid);
	inspect_add_i64(x, o, "pgid", p->pgid);
	inspect_add_i64(x, o, "sid", p->sid);
	inspect_add_u64(x, o, "depth", depth);
	inspect_add_string(x, o, "comm", p->n_threads ? p->threads[0]->comm : p->comm);
	inspect_add_string(x, o, "state", p->state < 3 ? states[p->state] : "unknown");
	if (p->state == 2 && WIFSIGNALED(p->exit_code))
		inspect_add_i64(x, o, "killed_by_signal", WTERMSIG(p->exit_code));
	else if (p->state == 2)
		inspect_add_i64(x, o, "exit_status", WEXITSTATUS(p->exit_code));
	add_credentials(x, o, p);
	if (p->memory)
		inspect_add_string(x, o, "exe", inspect_file_name(x, p->memory->exe_file));
	if (p->cwd_file)
		inspect_add_string(x, o, "cwd", inspect_file_name(x, p->cwd_file));
	if (p->root_file)
		inspect_add_string(x, o, "root", inspect_file_name(x, p->root_file));
	if (p->cgroup && p->cgroup[0])
		inspect_add_string(x, o, "cgroup", p->cgroup);
	inspect_add(x, o, "threads", describe_threads(x, p));
	if (p->memory)
		inspect_add(x, o, "memory", describe_memory(x, p->memory));
	inspect_add(x, o, "descriptors", describe_descriptors(x, p));
	return o;
}

/* Depth first, without recursion: an image may claim a chain of any length. */
static struct json_object *describe_processes(struct inspection *x)
{
	struct json_object *a = json_object_new_array();
	struct node *nodes = build_tree(x);
	long *stack = arena_array(&x->arena, x->n_processes, sizeof(*stack));

	if (!nodes || !stack) {
		x->out_of_memory = true;
		return a;
	}
	for (size_t root = 0; root < x->n_processes; root++) {
		size_t depth = 0;

		if (nodes[root].is_child)
			continue;
		stack[0] = root;
		for (;;) {
			long i = stack[depth];

			inspect_append(x, a, describe_process(x, x->processes[i], depth));
			if (nodes[i].child != NONE) {
				stack[++depth] = nodes[i].child;
				continue;
			}
			while (depth > 0 && nodes[stack[depth]].sibling == NONE)
				depth--;
			if (depth == 0)
				break;
			stack[depth] = nodes[stack[depth]].sibling;
		}
	}
	return a;
}

static struct json_object *describe_shms(struct inspection *x)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < x->n_shms; i++) {
		struct json_object *o = json_object_new_object();

		inspect_add_u64(x, o, "id", x->shms[i]->id);
		inspect_add_u64(x, o, "size", x->shms[i]->size);
		inspect_add_bool(x, o, "memfd", x->shms[i]->memfd);
		if (x->shms[i]->sysv)
			inspect_add_i64(x, o, "sysv", x->shms[i]->sysv->id);
		add_pages(x, o, x->shms[i]->id, 0, UINT64_MAX);
		inspect_append(x, a, o);
	}
	return a;
}

static struct json_object *describe_tmpfses(struct inspection *x)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < x->n_tmpfses; i++) {
		const St__Tmpfs *t = x->tmpfses[i];
		struct json_object *o = json_object_new_object();
		uint64_t bytes = 0;

		for (size_t k = 0; k < t->n_entries; k++)
			bytes += t->entries[k]->size;
		inspect_add_string(x, o, "target", t->target);
		inspect_add_u64(x, o, "entries", t->n_entries);
		inspect_add_u64(x, o, "bytes", bytes);
		inspect_append(x, a, o);
	}
	return a;
}

static void add_object(
	struct inspection *x, struct json_object *to, const char *kind, const St__SysvObject *o)
{
	inspect_add_string(x, to, "kind", kind);
	if (!o)
		return;
	inspect_add_i64(x, to, "id", o->id);
	inspect_add_i64(x, to, "key", o->key);
	inspect_add_u64(x, to, "mode", o->mode);
	inspect_add_u64(x, to, "uid", o->uid);
	inspect_add_u64(x, to, "gid", o->gid);
}

static struct json_object *describe_ipc(struct inspection *x)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < x->n_ipcs; i++) {
		const St__Ipc *m = x->ipcs[i];
		struct json_object *o = json_object_new_object();

		if (m->semaphores) {
			add_object(x, o, "semaphore set", m->semaphores->object);
			inspect_add_u64(x, o, "entries", m->semaphores->n_values);
		} else if (m->queue) {
			add_object(x, o, "message queue", m->queue->object);
			inspect_add_u64(x, o, "entries", m->queue->n_messages);
		} else if (m->posix) {
			inspect_add_string(x, o, "kind", "POSIX message queue");
			inspect_add_string(x, o, "id", m->posix->name);
			inspect_add_u64(x, o, "entries", 0);
		} else {
			add_object(x, o, "sysctls", NULL);
			inspect_add_u64(x, o, "entries", m->n_sysctls);
		}
		inspect_append(x, a, o);
	}
	return a;
}

static struct json_object *describe_image(struct inspection *x)
{
	const struct image_manifest *m = image_manifest(x->image);
	struct json_object *o = json_object_new_object();

	inspect_add_i64(x, o, "format_version", m->format_version);
	inspect_add_string(x, o, "engine", m->engine);
	inspect_add_string(x, o, "stasis_version", m->stasis_version);
	inspect_add_string(x, o, "created", m->created);
	inspect_add_string(x, o, "architecture", m->architecture);
	inspect_add_string(x, o, "kernel", m->kernel);
	inspect_add_u64(x, o, "generation", m->generation);
	inspect_add_u64(x, o, "bytes", m->statistics.bytes);
	inspect_add_u64(x, o, "data_pages", m->statistics.pages_data);
	inspect_add_u64(x, o, "zero_pages", m->statistics.pages_zero);
	inspect_add_u64(x, o, "total_us", m->statistics.total_us);
	inspect_add_u64(x, o, "frozen_us", m->statistics.frozen_us);
	return o;
}

struct json_object *inspect_model(struct inspection *x)
{
	const struct image_manifest *m = image_manifest(x->image);
	struct json_object *o = json_object_new_object(), *container = json_object_new_object();

	inspect_add_string(x, container, "id", m->container_id);
	inspect_add_string(x, container, "name", m->container_name);
	inspect_add_string(x, container, "hostname", x->container->hostname);
	inspect_add(x, o, "image", describe_image(x));
	inspect_add(x, o, "container", container);
	inspect_add(x, o, "processes", describe_processes(x));
	inspect_add(x, o, "shared_memory", describe_shms(x));
	inspect_add(x, o, "tmpfs", describe_tmpfses(x));
	if (x->n_ipcs > 0)
		inspect_add(x, o, "ipc", describe_ipc(x));
	return o;
}
