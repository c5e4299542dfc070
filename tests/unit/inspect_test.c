/* SPDX-License-Identifier: Apache-2.0 */
/* stasis inspect: what is in the records is in the output, and names in an image can't break the output's form. */
#include <json-c/json.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "image.pb-c.h"
#include "image/image-priv.h"
#include "image/inspect.h"
#include "tap.h"

static struct image_buffer records;
static struct image_digest digest;

static void record(enum image_record_type type, const ProtobufCMessage *m)
{
	struct error e;

	CHECK(image_records_add(&records, type, IMAGE_RECORD_CRITICAL, m, &digest, &e) == 0);
}

static void put_files(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(6379), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	St__Regular exe = ST__REGULAR__INIT;
	St__Socket socket = ST__SOCKET__INIT;
	St__Pipe pipe = ST__PIPE__INIT;
	St__File f = ST__FILE__INIT;

	f.id = 5;
	f.kind_case = ST__FILE__KIND_REGULAR;
	exe.path = "/bin/<evil>\n\x1b[31m\"&\xff";
	exe.mode = S_IFREG | 0755;
	f.regular = &exe;
	record(IMAGE_RECORD_FILE, &f.base);
	f.id = 2;
	f.flags = 2;
	f.kind_case = ST__FILE__KIND_SOCKET;
	socket.family = AF_INET;
	socket.type = SOCK_STREAM;
	socket.state = 1;
	socket.backlog = 511;
	socket.local = (ProtobufCBinaryData){sizeof(address), (uint8_t *)&address};
	f.socket = &socket;
	record(IMAGE_RECORD_FILE, &f.base);
	f.id = 9;
	f.kind_case = ST__FILE__KIND_PIPE;
	pipe.pipe = 3;
	pipe.data = (ProtobufCBinaryData){4, (uint8_t *)"data"};
	f.pipe = &pipe;
	record(IMAGE_RECORD_FILE, &f.base);
}

static void put_process(int pid, int ppid, const char *comm)
{
	St__Descriptor d[3] = {ST__DESCRIPTOR__INIT, ST__DESCRIPTOR__INIT, ST__DESCRIPTOR__INIT};
	St__Thread t = ST__THREAD__INIT, *threads[] = {&t};
	St__Vma heap = ST__VMA__INIT, text = ST__VMA__INIT, *vmas[] = {&text, &heap};
	St__Descriptor *descriptors[] = {&d[0], &d[1], &d[2]};
	St__Memory m = ST__MEMORY__INIT;
	St__Process p = ST__PROCESS__INIT;

	t.tid = pid;
	t.comm = (char *)comm;
	d[0].fd = 3;
	d[0].file = 2;
	d[1].fd = 4;
	d[1].file = 9;
	d[1].cloexec = true;
	d[2].fd = 5;
	d[2].file = 77;
	text = (St__Vma){text.base, .start = 0x1000, .end = 0x3000, .prot = PROT_READ | PROT_EXEC,
		.flags = MAP_PRIVATE, .file = 5};
	heap = (St__Vma){heap.base, .start = 0x5000, .end = 0x9000, .prot = PROT_READ | PROT_WRITE,
		.flags = MAP_PRIVATE};
	m.space = 1;
	m.start_brk = 0x5000;
	m.brk = 0x9000;
	m.exe_file = 5;
	m.n_vmas = 2;
	m.vmas = vmas;
	p.pid = pid;
	p.ppid = ppid;
	p.sid = 1;
	p.n_threads = 1;
	p.threads = threads;
	p.memory = &m;
	p.n_descriptors = 3;
	p.descriptors = descriptors;
	record(IMAGE_RECORD_PROCESS, &p.base);
}

static void put_zombie(void)
{
	St__Process p = ST__PROCESS__INIT;

	p.pid = 8;
	p.ppid = 7;
	p.state = 2;
	p.exit_code = 3 << 8;
	p.comm = "dead";
	record(IMAGE_RECORD_PROCESS, &p.base);
}

static struct image *make_image(void)
{
	struct image_run runs[] = {{1, 0x5000, 1, 0, IMAGE_PAGES_ZERO, 0},
		{1, 0x6000, 2, 0, IMAGE_PAGES_DATA, 0}, {4, 0, 1, 0, IMAGE_PAGES_ZERO, 0}};
	uint64_t checksum = 0;
	struct image_index x = {runs, &checksum, 3, 1, IMAGE_CHUNK_SIZE, 0};
	struct image_manifest m = {.format_version = 1,
		.engine = "native",
		.stasis_version = "0.1.0",
		.container_id = "web",
		.container_name = "web",
		.created = "now",
		.architecture = "x86_64",
		.kernel = "6.1",
		.statistics.frozen_us = 1500};
	_cleanup_(image_buffer_done) struct image_buffer index = {0};
	St__Container c = ST__CONTAINER__INIT;
	struct image *i = NULL;
	struct error e;

	image_buffer_done(&records);
	digest = (struct image_digest){0};
	CHECK(image_records_begin(&records, &e) == 0);
	c.hostname = "box";
	record(IMAGE_RECORD_CONTAINER, &c.base);
	put_files();
	put_process(1, 0, "init");
	put_process(20, 1, "second");
	put_process(7, 1, "first");
	put_zombie();
	put_process(21, 20, "grandchild");
	CHECK(image_records_end(&records, &digest, &e) == 0);
	CHECK(image_index_build(&x, 8192, &index, &e) == 0);
	CHECK(image_from_memory(&m, records.data, records.len, index.data, index.len, 8192, &i, &e) == 0,
		"%s", e.message);
	return i;
}

static char *inspect(enum image_inspect_format format)
{
	_cleanup_(image_free_p) struct image *i = make_image();
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct error e;

	CHECK(image_inspect(i, format, out, &e) == 0, "%s", e.message);
	fclose(out);
	return text;
}

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v;
}

static long num(struct json_object *o, const char *key)
{
	return json_object_get_int64(get(o, key));
}

static void test_json(void)
{
	static const int order[] = {1, 20, 21, 7, 8}, depth[] = {0, 1, 2, 1, 2};
	_cleanup_free_ char *text = inspect(IMAGE_INSPECT_JSON);
	struct json_object *o = json_tokener_parse(text), *processes = get(o, "processes"), *p, *v;

	if (!CHECK(o && json_object_array_length(processes) == 5))
		return;
	for (int k = 0; k < 5; k++) {
		p = json_object_array_get_idx(processes, k);
		CHECK(num(p, "pid") == order[k] && num(p, "depth") == depth[k]);
	}
	p = json_object_array_get_idx(processes, 4);
	CHECK(!strcmp(json_object_get_string(get(p, "state")), "zombie") && num(p, "exit_status") == 3);
	CHECK(!strcmp(json_object_get_string(get(p, "comm")), "dead"));
	p = json_object_array_get_idx(processes, 0);
	v = get(p, "memory");
	CHECK(num(v, "mapped_bytes") == 0x6000 && num(v, "data_pages") == 2 && num(v, "zero_pages") == 1);
	v = json_object_array_get_idx(get(v, "mappings"), 1);
	CHECK(num(v, "data_pages") == 2 && num(v, "zero_pages") == 1 &&
		!strcmp(json_object_get_string(get(v, "name")), "[heap]"));
	v = json_object_array_get_idx(get(p, "descriptors"), 0);
	CHECK(!strcmp(json_object_get_string(get(v, "kind")), "tcp") &&
		!strcmp(json_object_get_string(get(v, "local")), "127.0.0.1:6379"));
	v = json_object_array_get_idx(get(p, "descriptors"), 1);
	CHECK(num(v, "queued_bytes") == 4 && json_object_get_boolean(get(v, "cloexec")));
	v = json_object_array_get_idx(get(p, "descriptors"), 2);
	CHECK(!strcmp(json_object_get_string(get(v, "kind")), "missing"));
	CHECK(!strcmp(json_object_get_string(get(p, "exe")), "/bin/<evil>\\x0a\\x1b[31m\"&\\xff"));
	json_object_put(o);
}

static void test_text(void)
{
	_cleanup_free_ char *text = inspect(IMAGE_INSPECT_TEXT);

	CHECK(strstr(text, "Container web, host name box"));
	CHECK(strstr(text, "frozen for 1.50 ms"));
	CHECK(strstr(text, "    `- grandchild"));
	CHECK(strstr(text, "zombie (exit 3)"));
	CHECK(strstr(text, "listening 127.0.0.1:6379 backlog 511"));
	CHECK(strstr(text, "[heap]"));
	CHECK(!strchr(text, '\x1b') && strstr(text, "\\x1b[31m"),
		"no escape sequences of the image on the terminal");
}

static void test_html(void)
{
	_cleanup_free_ char *text = inspect(IMAGE_INSPECT_HTML);

	CHECK(!strncmp(text, "<!DOCTYPE html>", 15) && strstr(text, "</html>"));
	CHECK(strstr(text, "/bin/&lt;evil&gt;") && !strstr(text, "<evil>"));
	CHECK(strstr(text, "127.0.0.1:6379"));
	CHECK(!strstr(text, "http://") && !strstr(text, "https://") && !strstr(text, "<script"),
		"self-contained");
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"JSON: tree, memory, descriptors", test_json},
		{"text", test_text},
		{"HTML", test_html},
	};
	int r = tap_main(tests, ARRAY_SIZE(tests));

	image_buffer_done(&records);
	return r;
}
