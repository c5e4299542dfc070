/* SPDX-License-Identifier: Apache-2.0 */
/* The text form: a summary, the process tree, and for each process its memory and its descriptors. */
#include <string.h>

#include "image/inspect-priv.h"

static const char *pages(struct json_object *o, const char *key, char buf[16])
{
	return inspect_size(inspect_num(o, key) * IMAGE_PAGE_SIZE, buf);
}

static void print_summary(struct json_object *model, FILE *out)
{
	struct json_object *i = inspect_get(model, "image"), *c = inspect_get(model, "container");
	const char *name = inspect_str(c, "name"), *id = inspect_str(c, "id");
	char size[16], data[16], zero[16];

	fprintf(out, "Container %s", id);
	if (name[0] && strcmp(name, id) != 0)
		fprintf(out, " (%s)", name);
	fprintf(out, ", host name %s, generation %s\n", inspect_str(c, "hostname"),
		inspect_str(i, "generation"));
	fprintf(out, "Checkpoint of %s by stasis %s (%s engine), %s, Linux %s\n", inspect_str(i, "created"),
		inspect_str(i, "stasis_version"), inspect_str(i, "engine"), inspect_str(i, "architecture"),
		inspect_str(i, "kernel"));
	fprintf(out, "Image format %s, %s: memory %s and %s of zeros; container frozen for %.2f ms\n",
		inspect_str(i, "format_version"), inspect_size(inspect_num(i, "bytes"), size),
		pages(i, "data_pages", data), pages(i, "zero_pages", zero),
		inspect_num(i, "frozen_us") / 1000.0);
}

static void print_state(struct json_object *p, char *buf, size_t size)
{
	if (inspect_get(p, "killed_by_signal"))
		snprintf(buf, size, "zombie (signal %s)", inspect_str(p, "killed_by_signal"));
	else if (inspect_get(p, "exit_status"))
		snprintf(buf, size, "zombie (exit %s)", inspect_str(p, "exit_status"));
	else
		snprintf(buf, size, "%s", inspect_str(p, "state"));
}

static void print_tree(struct json_object *processes, FILE *out)
{
	fprintf(out, "\n%7s %7s %7s %6s %7s %8s %8s  %-10s COMMAND\n", "PID", "PPID", "SID", "UID", "THREADS",
		"MAPPED", "DUMPED", "STATE");
	for (size_t k = 0; k < inspect_len(processes); k++) {
		struct json_object *p = json_object_array_get_idx(processes, k),
				   *m = inspect_get(p, "memory");
		int depth = MIN(inspect_num(p, "depth"), UINT64_C(30));
		char state[40], mapped[16], dumped[16];

		print_state(p, state, sizeof(state));
		fprintf(out, "%7s %7s %7s %6s %7zu %8s %8s  %-10s %*s%s%s\n", inspect_str(p, "pid"),
			inspect_str(p, "ppid"), inspect_str(p, "sid"), inspect_str(p, "uid"),
			inspect_len(inspect_get(p, "threads")),
			m ? inspect_size(inspect_num(m, "mapped_bytes"), mapped) : "-",
			m ? pages(m, "data_pages", dumped) : "-", state, depth * 2, "", depth ? "`- " : "",
			inspect_str(p, "comm"));
	}
}

static void print_mappings(struct json_object *memory, FILE *out)
{
	struct json_object *a = inspect_get(memory, "mappings");

	fprintf(out, "  %-33s %-4s %8s %8s %8s  %s\n", "MAPPING", "PERM", "SIZE", "DUMPED", "ZERO", "NAME");
	for (size_t k = 0; k < inspect_len(a); k++) {
		struct json_object *v = json_object_array_get_idx(a, k);
		char range[40], size[16], data[16], zero[16];

		snprintf(range, sizeof(range), "%s-%s", inspect_str(v, "start") + 2,
			inspect_str(v, "end") + 2);
		fprintf(out, "  %-33s %-4s %8s %8s %8s  %s%s%s\n", range, inspect_str(v, "permissions"),
			inspect_size(inspect_num(v, "size"), size), pages(v, "data_pages", data),
			pages(v, "zero_pages", zero), inspect_str(v, "name"),
			inspect_get(v, "shared_memory") ? " " : "", inspect_str(v, "shared_memory"));
	}
}

static void print_descriptors(struct json_object *a, FILE *out)
{
	fprintf(out, "  %5s %6s  %-20s %-12s %s\n", "FD", "FILE", "KIND", "FLAGS", "DETAILS");
	for (size_t k = 0; k < inspect_len(a); k++) {
		struct json_object *d = json_object_array_get_idx(a, k);
		char flags[120], details[600];

		snprintf(flags, sizeof(flags), "%s%s", inspect_str(d, "flags"),
			inspect_num(d, "cloexec") ? ",cloexec" : "");
		inspect_print_details(d, details, sizeof(details));
		fprintf(out, "  %5s %6s  %-20s %-12s %s\n", inspect_str(d, "fd"), inspect_str(d, "file"),
			inspect_str(d, "kind"), flags, details);
	}
}

static void print_process(struct json_object *p, FILE *out)
{
	struct json_object *threads = inspect_get(p, "threads"), *descriptors = inspect_get(p, "descriptors");

	fprintf(out, "\nProcess %s (%s)", inspect_str(p, "pid"), inspect_str(p, "comm"));
	if (inspect_str(p, "exe")[0])
		fprintf(out, ", %s", inspect_str(p, "exe"));
	if (inspect_str(p, "cwd")[0])
		fprintf(out, " in %s", inspect_str(p, "cwd"));
	fputc('\n', out);
	if (inspect_len(threads) > 1) {
		fputs("  threads:", out);
		for (size_t k = 0; k < inspect_len(threads); k++) {
			struct json_object *t = json_object_array_get_idx(threads, k);

			fprintf(out, " %s (%s)", inspect_str(t, "tid"), inspect_str(t, "comm"));
		}
		fputc('\n', out);
	}
	if (inspect_get(p, "memory"))
		print_mappings(inspect_get(p, "memory"), out);
	if (inspect_len(descriptors))
		print_descriptors(descriptors, out);
}

static void print_rest(struct json_object *model, FILE *out)
{
	struct json_object *shms = inspect_get(model, "shared_memory"), *tmpfs = inspect_get(model, "tmpfs"),
			   *ipc = inspect_get(model, "ipc");
	char size[16], data[16];

	if (inspect_len(shms))
		fprintf(out, "\nShared memory\n");
	for (size_t k = 0; k < inspect_len(shms); k++) {
		struct json_object *s = json_object_array_get_idx(shms, k);

		fprintf(out, "  %s: %s, dumped %s%s%s%s\n", inspect_str(s, "id"),
			inspect_size(inspect_num(s, "size"), size), pages(s, "data_pages", data),
			inspect_num(s, "memfd") ? ", memfd" : "",
			inspect_get(s, "sysv") ? ", System V segment " : "", inspect_str(s, "sysv"));
	}
	if (inspect_len(ipc))
		fprintf(out, "\nIPC\n");
	for (size_t k = 0; k < inspect_len(ipc); k++) {
		struct json_object *o = json_object_array_get_idx(ipc, k);

		fprintf(out, "  %s %s: %s entries\n", inspect_str(o, "kind"), inspect_str(o, "id"),
			inspect_str(o, "entries"));
	}
	if (inspect_len(tmpfs))
		fprintf(out, "\ntmpfs\n");
	for (size_t k = 0; k < inspect_len(tmpfs); k++) {
		struct json_object *t = json_object_array_get_idx(tmpfs, k);

		fprintf(out, "  %s: %s entries, %s\n", inspect_str(t, "target"), inspect_str(t, "entries"),
			inspect_size(inspect_num(t, "bytes"), size));
	}
}

void inspect_text(struct json_object *model, FILE *out)
{
	struct json_object *processes = inspect_get(model, "processes");

	print_summary(model, out);
	print_tree(processes, out);
	for (size_t k = 0; k < inspect_len(processes); k++)
		print_process(json_object_array_get_idx(processes, k), out);
	print_rest(model, out);
}
