/* SPDX-License-Identifier: Apache-2.0 */
/* The HTML form: one page without scripts and without anything fetched from elsewhere. */
#include <string.h>

#include "image/inspect-priv.h"

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
	"'unsafe-inline'\">\n"
	"<meta name=\"viewport\" content=\"width=device-width\">\n<title>Checkpoint image</title>\n<style>\n"
	"body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; "
	"color: #1a1a1a; }\n"
	"h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }\n"
	"table { border-collapse: collapse; width: 100%; font-size: 0.87em; margin: 0.5em 0 1em; }\n"
	"th, td { text-align: left; padding: 0.2em 0.7em 0.2em 0; border-bottom: 1px solid #ddd; "
	"vertical-align: top; }\n"
	"td.n, th.n { text-align: right; } td.m { font-family: ui-monospace, monospace; overflow-wrap: "
	"anywhere; }\n"
	"details { margin: 0.4em 0; } summary { cursor: pointer; }\n"
	".bar { display: inline-block; width: 9em; height: 0.7em; background: #e4e4e4; }\n"
	".bar i { display: block; float: left; height: 100%; background: #2a78b5; } .bar i + i { background: "
	"#a9cfe8; }\n"
	"@media (prefers-color-scheme: dark) { body { background: #151515; color: #ddd; } th, td { "
	"border-color: #333; }\n"
	"  .bar { background: #333; } }\n"
	"</style>\n</head>\n<body>\n";

static void put(FILE *out, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		case '\'':
			fputs("&#39;", out);
			break;
		default:
			fputc(*s, out);
		}
	}
}

static void cell(FILE *out, const char *class, const char *s)
{
	fprintf(out, "<td%s%s%s>", class[0] ? " class=\"" : "", class, class[0] ? "\"" : "");
	put(out, s);
	fputs("</td>", out);
}

static void put_pages(FILE *out, struct json_object *o, const char *key)
{
	char buf[16];

	cell(out, "n", inspect_get(o, key) ? inspect_size(inspect_num(o, key) * IMAGE_PAGE_SIZE, buf) : "");
}

/* Which part of a mapping has data, and which has zeros. */
static void put_bar(FILE *out, uint64_t size, uint64_t data, uint64_t zero)
{
	double all = size ? size : 1;
	double d = MIN(data * IMAGE_PAGE_SIZE / all * 100, 100.0),
	       z = MIN(zero * IMAGE_PAGE_SIZE / all * 100, 100.0 - d);

	fprintf(out,
		"<td><span class=\"bar\"><i style=\"width:%.1f%%\"></i><i "
		"style=\"width:%.1f%%\"></i></span></td>",
		d, z);
}

static void put_summary(FILE *out, struct json_object *model)
{
	static const char *const keys[] = {"created", "engine", "stasis_version", "format_version",
		"architecture", "kernel", "generation"};
	struct json_object *i = inspect_get(model, "image"), *c = inspect_get(model, "container");
	char buf[16];

	fputs("<h1>Container ", out);
	put(out, inspect_str(c, "id"));
	fputs("</h1>\n<table>\n", out);
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		fprintf(out, "<tr><th>%s</th>", keys[k]);
		cell(out, "", inspect_str(i, keys[k]));
		fputs("</tr>\n", out);
	}
	fputs("<tr><th>host name</th>", out);
	cell(out, "", inspect_str(c, "hostname"));
	fprintf(out, "</tr>\n<tr><th>size of the image</th><td>%s</td></tr>\n",
		inspect_size(inspect_num(i, "bytes"), buf));
	fprintf(out, "<tr><th>frozen for</th><td>%.2f ms</td></tr>\n</table>\n",
		inspect_num(i, "frozen_us") / 1000.0);
}

static void put_tree(FILE *out, struct json_object *processes)
{
	fputs("<h2>Processes</h2>\n<table>\n<tr><th>command</th><th class=\"n\">pid</th><th "
	      "class=\"n\">ppid</th>"
	      "<th class=\"n\">sid</th><th class=\"n\">uid</th><th>state</th><th class=\"n\">threads</th>"
	      "<th class=\"n\">mapped</th><th class=\"n\">dumped</th></tr>\n",
		out);
	for (size_t k = 0; k < inspect_len(processes); k++) {
		struct json_object *p = json_object_array_get_idx(processes, k),
				   *m = inspect_get(p, "memory");
		unsigned depth = MIN(inspect_num(p, "depth"), UINT64_C(30));
		char threads[24], buf[16];

		fprintf(out, "<tr><td style=\"padding-left:%uem\"><a href=\"#p%zu\">", depth * 2, k);
		put(out, inspect_str(p, "comm"));
		fputs("</a></td>", out);
		cell(out, "n", inspect_str(p, "pid"));
		cell(out, "n", inspect_str(p, "ppid"));
		cell(out, "n", inspect_str(p, "sid"));
		cell(out, "n", inspect_str(p, "uid"));
		cell(out, "", inspect_str(p, "state"));
		snprintf(threads, sizeof(threads), "%zu", inspect_len(inspect_get(p, "threads")));
		cell(out, "n", threads);
		cell(out, "n", m ? inspect_size(inspect_num(m, "mapped_bytes"), buf) : "");
		put_pages(out, m, "data_pages");
		fputs("</tr>\n", out);
	}
	fputs("</table>\n", out);
}

static void put_mappings(FILE *out, struct json_object *a)
{
	fprintf(out,
		"<details><summary>Memory: %zu mappings</summary>\n<table>\n<tr><th>range</th><th></th>"
		"<th class=\"n\">size</th><th class=\"n\">data</th><th "
		"class=\"n\">zero</th><th></th><th>name</th></tr>\n",
		inspect_len(a));
	for (size_t k = 0; k < inspect_len(a); k++) {
		struct json_object *v = json_object_array_get_idx(a, k);
		char range[44], buf[16];

		snprintf(range, sizeof(range), "%s-%s", inspect_str(v, "start"), inspect_str(v, "end"));
		fputs("<tr>", out);
		cell(out, "m", range);
		cell(out, "m", inspect_str(v, "permissions"));
		cell(out, "n", inspect_size(inspect_num(v, "size"), buf));
		put_pages(out, v, "data_pages");
		put_pages(out, v, "zero_pages");
		put_bar(out, inspect_num(v, "size"), inspect_num(v, "data_pages"),
			inspect_num(v, "zero_pages"));
		cell(out, "m", inspect_str(v, "name"));
		fputs("</tr>\n", out);
	}
	fputs("</table>\n</details>\n", out);
}

static void put_descriptors(FILE *out, struct json_object *a)
{
	fprintf(out,
		"<details open><summary>Files and sockets: %zu descriptors</summary>\n<table>\n<tr><th "
		"class=\"n\">fd</th>"
		"<th class=\"n\">file</th><th>kind</th><th>flags</th><th>details</th></tr>\n",
		inspect_len(a));
	for (size_t k = 0; k < inspect_len(a); k++) {
		struct json_object *d = json_object_array_get_idx(a, k);
		char details[600];

		inspect_print_details(d, details, sizeof(details));
		fputs("<tr>", out);
		cell(out, "n", inspect_str(d, "fd"));
		cell(out, "n", inspect_str(d, "file"));
		cell(out, "", inspect_str(d, "kind"));
		cell(out, "", inspect_str(d, "flags"));
		cell(out, "m", details);
		fputs("</tr>\n", out);
	}
	fputs("</table>\n</details>\n", out);
}

static void put_process(FILE *out, struct json_object *p, size_t k)
{
	struct json_object *threads = inspect_get(p, "threads");

	fprintf(out, "<h2 id=\"p%zu\">", k);
	put(out, inspect_str(p, "comm"));
	fprintf(out, " (%s)</h2>\n<p>", inspect_str(p, "pid"));
	put(out, inspect_str(p, "exe"));
	if (inspect_str(p, "cwd")[0]) {
		fputs(" in ", out);
		put(out, inspect_str(p, "cwd"));
	}
	fputs("</p>\n", out);
	if (inspect_len(threads) > 1) {
		fprintf(out, "<details><summary>%zu threads</summary>\n<table>\n", inspect_len(threads));
		for (size_t t = 0; t < inspect_len(threads); t++) {
			fputs("<tr>", out);
			cell(out, "n", inspect_str(json_object_array_get_idx(threads, t), "tid"));
			cell(out, "", inspect_str(json_object_array_get_idx(threads, t), "comm"));
			fputs("</tr>\n", out);
		}
		fputs("</table>\n</details>\n", out);
	}
	if (inspect_get(p, "memory"))
		put_mappings(out, inspect_get(inspect_get(p, "memory"), "mappings"));
	put_descriptors(out, inspect_get(p, "descriptors"));
}

static void put_rest(FILE *out, struct json_object *model)
{
	struct json_object *shms = inspect_get(model, "shared_memory"), *tmpfs = inspect_get(model, "tmpfs");
	char buf[16];

	if (inspect_len(shms)) {
		fputs("<h2>Shared memory</h2>\n<table>\n<tr><th class=\"n\">id</th><th class=\"n\">size</th>"
		      "<th class=\"n\">dumped</th></tr>\n",
			out);
		for (size_t k = 0; k < inspect_len(shms); k++) {
			struct json_object *s = json_object_array_get_idx(shms, k);

			fputs("<tr>", out);
			cell(out, "n", inspect_str(s, "id"));
			cell(out, "n", inspect_size(inspect_num(s, "size"), buf));
			put_pages(out, s, "data_pages");
			fputs("</tr>\n", out);
		}
		fputs("</table>\n", out);
	}
	if (inspect_len(tmpfs))
		fputs("<h2>tmpfs</h2>\n<table>\n<tr><th>mount</th><th class=\"n\">entries</th><th "
		      "class=\"n\">size</th></tr>\n",
			out);
	for (size_t k = 0; k < inspect_len(tmpfs); k++) {
		struct json_object *t = json_object_array_get_idx(tmpfs, k);

		fputs("<tr>", out);
		cell(out, "m", inspect_str(t, "target"));
		cell(out, "n", inspect_str(t, "entries"));
		cell(out, "n", inspect_size(inspect_num(t, "bytes"), buf));
		fputs("</tr>\n", out);
	}
	if (inspect_len(tmpfs))
		fputs("</table>\n", out);
}

void inspect_html(struct json_object *model, FILE *out)
{
	struct json_object *processes = inspect_get(model, "processes");

	fputs(head, out);
	put_summary(out, model);
	put_tree(out, processes);
	for (size_t k = 0; k < inspect_len(processes); k++)
		put_process(out, json_object_array_get_idx(processes, k), k);
	put_rest(out, model);
	fputs("</body>\n</html>\n", out);
}

/* ---- a sandbox ---- */

static void put_containers(FILE *out, struct json_object *list)
{
	static const char *const titles[] = {"id", "generation", "processes", "files", "memory_bytes",
		"image_bytes", "shared_objects", "command"};
	char buf[16];

	fputs("<h2>Containers</h2>\n<table>\n<tr><th>name</th>", out);
	for (size_t k = 0; k < ARRAY_SIZE(titles); k++)
		fprintf(out, "<th>%s</th>", titles[k]);
	fputs("</tr>\n", out);
	for (size_t k = 0; k < inspect_len(list); k++) {
		struct json_object *c = json_object_array_get_idx(list, k);

		fputs("<tr>", out);
		cell(out, "", inspect_str(c, "name"));
		for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
			cell(out, "",
				strstr(titles[i], "_bytes") ? inspect_size(inspect_num(c, titles[i]), buf)
							    : inspect_str(c, titles[i]));
		fputs("</tr>\n", out);
	}
	fputs("</table>\n", out);
}

static void put_shared(FILE *out, struct json_object *list)
{
	if (inspect_len(list))
		fputs("<h2>Shared</h2>\n<table>\n<tr><th>kind</th><th>key</th><th>in the image of</th>"
		      "<th>containers</th></tr>\n",
			out);
	for (size_t k = 0; k < inspect_len(list); k++) {
		struct json_object *s = json_object_array_get_idx(list, k),
				   *names = inspect_get(s, "containers");

		fputs("<tr>", out);
		cell(out, "", inspect_str(s, "kind"));
		cell(out, "m", inspect_str(s, "key"));
		cell(out, "", inspect_str(s, "owner"));
		fputs("<td>", out);
		for (size_t i = 0; i < inspect_len(names); i++) {
			fputs(i ? ", " : "", out);
			put(out, json_object_get_string(json_object_array_get_idx(names, i)));
		}
		fputs("</td></tr>\n", out);
	}
	if (inspect_len(list))
		fputs("</table>\n", out);
}

void inspect_sandbox_html(struct json_object *model, FILE *out)
{
	static const char *const keys[] = {
		"created", "stasis_version", "format_version", "architecture", "kernel"};
	struct json_object *i = inspect_get(model, "image");

	fputs(head, out);
	fputs("<h1>Sandbox ", out);
	put(out, inspect_str(inspect_get(model, "sandbox"), "id"));
	fputs("</h1>\n<table>\n", out);
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		fprintf(out, "<tr><th>%s</th>", keys[k]);
		cell(out, "", inspect_str(i, keys[k]));
		fputs("</tr>\n", out);
	}
	fprintf(out, "<tr><th>stood still for</th><td>%.2f ms</td></tr>\n</table>\n",
		inspect_num(i, "stopped_us") / 1000.0);
	put_containers(out, inspect_get(model, "containers"));
	put_shared(out, inspect_get(model, "shared"));
	fputs("</body>\n</html>\n", out);
}
