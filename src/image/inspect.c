/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the records of an image by type, and has them printed. */
#include <stdlib.h>

#include "image/image-priv.h"
#include "image/inspect-priv.h"

static int compare_files(const void *va, const void *vb)
{
	const St__File *a = *(const St__File *const *)va, *b = *(const St__File *const *)vb;

	return a->id < b->id ? -1 : a->id > b->id;
}

const St__File *inspect_file(const struct inspection *x, uint64_t id)
{
	size_t low = 0, high = x->n_files;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (x->files[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < x->n_files && x->files[low]->id == id && id ? x->files[low] : NULL;
}

/* One pass to count, one to fill. */
static int for_records(struct inspection *x,
	void (*visit)(struct inspection *, enum image_record_type, const void *), struct error *e)
{
	const ProtobufCMessage *m;
	enum image_record_type type;
	size_t pos = 0;
	int r;

	while ((r = image_next_record(x->image, &pos, &type, &m, e)) == 1)
		visit(x, type, m);
	return r;
}

static void count(struct inspection *x, enum image_record_type type, const void *m)
{
	switch (type) {
	case IMAGE_RECORD_CONTAINER:
		x->container = m;
		break;
	case IMAGE_RECORD_FILE:
		x->n_files++;
		break;
	case IMAGE_RECORD_PROCESS:
	case IMAGE_RECORD_PROCESS_2:
	case IMAGE_RECORD_PROCESS_3:
		x->n_processes++;
		break;
	case IMAGE_RECORD_SHM:
	case IMAGE_RECORD_SHM_2:
		x->n_shms++;
		break;
	case IMAGE_RECORD_TMPFS:
		x->n_tmpfses++;
		break;
	case IMAGE_RECORD_NETWORK:
	case IMAGE_RECORD_NETWORK_2:
	case IMAGE_RECORD_NETWORK_3:
		x->network = m;
		break;
	case IMAGE_RECORD_NAMESPACE:
	case IMAGE_RECORD_NAMESPACE_2:
	case IMAGE_RECORD_NAMESPACE_3:
	case IMAGE_RECORD_PACKET_TABLE:
		break;
	case IMAGE_RECORD_IPC:
	case IMAGE_RECORD_IPC_2:
		x->n_ipcs++;
		break;
	case IMAGE_RECORD_MOUNT:
		x->n_mounts++;
		break;
	case IMAGE_RECORD_CGROUP:
		x->n_cgroups++;
		break;
	}
}

static void fill(struct inspection *x, enum image_record_type type, const void *m)
{
	switch (type) {
	case IMAGE_RECORD_CONTAINER:
	case IMAGE_RECORD_NETWORK:
	case IMAGE_RECORD_NETWORK_2:
	case IMAGE_RECORD_NETWORK_3:
	case IMAGE_RECORD_NAMESPACE:
	case IMAGE_RECORD_NAMESPACE_2:
	case IMAGE_RECORD_NAMESPACE_3:
	case IMAGE_RECORD_PACKET_TABLE:
		break;
	case IMAGE_RECORD_FILE:
		x->files[x->n_files++] = m;
		break;
	case IMAGE_RECORD_PROCESS:
	case IMAGE_RECORD_PROCESS_2:
	case IMAGE_RECORD_PROCESS_3:
		x->processes[x->n_processes++] = m;
		break;
	case IMAGE_RECORD_SHM:
	case IMAGE_RECORD_SHM_2:
		x->shms[x->n_shms++] = m;
		break;
	case IMAGE_RECORD_TMPFS:
		x->tmpfses[x->n_tmpfses++] = m;
		break;
	case IMAGE_RECORD_IPC:
	case IMAGE_RECORD_IPC_2:
		x->ipcs[x->n_ipcs++] = m;
		break;
	case IMAGE_RECORD_MOUNT:
		x->mounts[x->n_mounts++] = m;
		break;
	case IMAGE_RECORD_CGROUP:
		x->cgroups[x->n_cgroups++] = m;
		break;
	}
}

int inspect_collect(struct inspection *x, struct error *e)
{
	int r = for_records(x, count, e);

	if (r < 0)
		return r;
	x->files = arena_array(&x->arena, x->n_files, sizeof(void *));
	x->processes = arena_array(&x->arena, x->n_processes, sizeof(void *));
	x->shms = arena_array(&x->arena, x->n_shms, sizeof(void *));
	x->tmpfses = arena_array(&x->arena, x->n_tmpfses, sizeof(void *));
	x->ipcs = arena_array(&x->arena, x->n_ipcs, sizeof(void *));
	x->mounts = arena_array(&x->arena, x->n_mounts, sizeof(void *));
	x->cgroups = arena_array(&x->arena, x->n_cgroups, sizeof(void *));
	if (!x->files || !x->processes || !x->shms || !x->tmpfses || !x->ipcs || !x->mounts || !x->cgroups)
		return error_errno(e, -ENOMEM, "inspect");
	x->n_files = x->n_processes = x->n_shms = x->n_tmpfses = x->n_ipcs = x->n_mounts = x->n_cgroups = 0;
	r = for_records(x, fill, e);
	if (r < 0)
		return r;
	qsort(x->files, x->n_files, sizeof(void *), compare_files);
	return 0;
}

void inspect_print_json(struct json_object *model, FILE *out)
{
	fputs(json_object_to_json_string_ext(model,
		      JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE),
		out);
	fputc('\n', out);
}

static void inspection_done(struct inspection *x)
{
	arena_done(&x->arena);
}

static void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}

int image_inspect(struct image *i, enum image_inspect_format format, FILE *out, struct error *e)
{
	_cleanup_(inspection_done) struct inspection x = {.image = i};
	_cleanup_(json_put_p) struct json_object *model = NULL;
	int r = inspect_collect(&x, e);

	if (r < 0)
		return r;
	model = inspect_model(&x);
	if (!model || x.out_of_memory)
		return error_errno(e, -ENOMEM, "inspect");
	switch (format) {
	case IMAGE_INSPECT_TEXT:
		inspect_text(model, out);
		break;
	case IMAGE_INSPECT_JSON:
		inspect_print_json(model, out);
		break;
	case IMAGE_INSPECT_HTML:
		inspect_html(model, out);
		break;
	}
	if (fflush(out) != 0 || ferror(out))
		return error_errno(e, -errno, "writing");
	return 0;
}
