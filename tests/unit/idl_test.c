/* SPDX-License-Identifier: Apache-2.0 */
/* Interface descriptions: those of proto/ are right, and parameters are checked against them. Arguments: the files. */
#include <string.h>

#include "base/fd.h"
#include "sandbox/idl.h"
#include "tap.h"

static char **files;

static const char text[] =
	"# A comment with (parentheses).\n"
	"interface org.example.Test\n"
	"type Color (red, green)\n"
	"# behind\n"
	"type Point (x: int, y: ?int, tags: ?[]string)\n"
	"method Draw(points: []Point, color: ?Color, names: ?[string]Point, # why\n"
	"  scale: ?float, any: ?object, fill: ?bool, kind: ?(solid, dashed)) -> (done: bool)\n"
	"method None() -> ()\n"
	"error Bad (why: string)\n";

struct counts {
	int interfaces, types, methods, errors;
};

static void count(const char *kind, const char *name, void *arg)
{
	struct counts *c = arg;

	(void)name;
	c->interfaces += !strcmp(kind, "interface");
	c->types += !strcmp(kind, "type");
	c->methods += !strcmp(kind, "method");
	c->errors += !strcmp(kind, "error");
}

static void test_files(void)
{
	for (char **f = files; *f; f++) {
		_cleanup_free_ char *content = NULL;
		struct counts c = {0};
		const char *at = "";
		size_t len;

		if (!CHECK(read_file_at(AT_FDCWD, *f, 1 << 20, &content, &len) == 0, "%s", *f))
			continue;
		CHECK(idl_walk(content, count, &c, &at) == 0, "%s: at \"%.40s\"", *f, at);
		CHECK(c.interfaces == 1 && c.methods > 0, "%s", *f);
	}
}

static void test_walk(void)
{
	static const char *const wrong[] = {
		"interface a.b\nmethod M(x: Unknown) -> ()\n",
		"interface a.b\nmethod M(x: int) - ()\n",
		"interface a.b\nmethod M(x: int -> ()\n",
		"interface a.b\nmethod M(x int) -> ()\n",
		"interface a.b\nmethod M(x: [int]string) -> ()\n",
		"interface a.b\nthing T (x: int)\n",
		"interface a.b\ntype T (a, )\n",
		"interface a.b\ntype T (x: int) }\n",
	};
	struct counts c = {0};
	const char *at;

	CHECK(idl_walk(text, count, &c, &at) == 0, "at %.20s", at);
	CHECK(c.interfaces == 1 && c.types == 2 && c.methods == 2 && c.errors == 1);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		CHECK(idl_walk(wrong[i], count, &c, &at) == -EINVAL, "%s", wrong[i]);
}

/* The message and the path of the fault; "": there is none. */
static void expect(const char *method, const char *json, const char *path, const char *message)
{
	struct json_object *parameters = json ? json_tokener_parse(json) : NULL;
	struct idl_fault f;
	int r = idl_check(text, method, parameters, &f);

	CHECK(r == (*message ? -EINVAL : 0), "%s: %d %s", json, r, f.message);
	CHECK(!*message || (!strcmp(f.path, path) && strstr(f.message, message)), "%s: \"%s\" \"%s\"", json,
		f.path, f.message);
	json_object_put(parameters);
}

static void test_right(void)
{
	expect("None", NULL, "", "");
	expect("None", "{}", "", "");
	expect("Draw", "{\"points\": []}", "", "");
	expect("Draw",
		"{\"points\": [{\"x\": 1}, {\"x\": -2, \"y\": null, \"tags\": [\"a\", \"\"]}], \"color\": "
		"\"red\"}",
		"", "");
	expect("Draw",
		"{\"points\": [], \"names\": {\"a\": {\"x\": 3}}, \"scale\": 2, \"any\": {\"b\": [1]}, "
		"\"fill\": false}",
		"", "");
	expect("Draw", "{\"points\": [], \"scale\": 2.5, \"kind\": \"dashed\"}", "", "");
}

static void test_wrong(void)
{
	struct idl_fault f;

	expect("None", "{\"x\": 1}", "x", "no such parameter");
	expect("Draw", "{}", "points", "is missing");
	expect("Draw", NULL, "points", "is missing");
	expect("Draw", "{\"points\": null}", "points", "is missing");
	expect("Draw", "{\"points\": {}}", "points", "an array is needed");
	expect("Draw", "{\"points\": [{\"x\": 1}, {\"y\": 2}]}", "points[1].x", "is missing");
	expect("Draw", "{\"points\": [{\"x\": 1.5}]}", "points[0].x", "whole number");
	expect("Draw", "{\"points\": [{\"x\": \"1\"}]}", "points[0].x", "whole number");
	expect("Draw", "{\"points\": [null]}", "points[0]", "is null");
	expect("Draw", "{\"points\": [3]}", "points[0]", "an object is needed");
	expect("Draw", "{\"points\": [{\"x\": 1, \"z\": 1}]}", "points[0].z", "no such parameter");
	expect("Draw", "{\"points\": [{\"x\": 1, \"tags\": [\"a\", 4]}]}", "points[0].tags[1]",
		"a string is needed");
	expect("Draw", "{\"points\": [], \"color\": \"blue\"}", "color", "not one of (red, green): \"blue\"");
	expect("Draw", "{\"points\": [], \"color\": \"re\"}", "color", "not one of");
	expect("Draw", "{\"points\": [], \"color\": 1}", "color", "a string is needed");
	expect("Draw", "{\"points\": [], \"kind\": \"\"}", "kind", "not one of (solid, dashed)");
	expect("Draw", "{\"points\": [], \"names\": {\"a\": {}}}", "names[a].x", "is missing");
	expect("Draw", "{\"points\": [], \"fill\": 0}", "fill", "true or false");
	expect("Draw", "{\"points\": [], \"any\": []}", "any", "an object");
	expect("Draw", "{\"points\": [{\"x\": 1, \"tags\": [\"a\\u0000b\"]}]}", "points[0].tags[0]", "NUL");
	CHECK(idl_check(text, "Unknown", NULL, &f) == -ENOENT);
	CHECK(idl_check(text, "Color", NULL, &f) == -ENOENT);
	CHECK(idl_check(text, "", NULL, &f) == -ENOENT);
}

/* Names of any length are cut, and nothing is written behind the fault. */
static void test_long(void)
{
	struct json_object *o = json_object_new_object();
	char name[5000];
	struct idl_fault f;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	json_object_object_add(o, "points", json_object_new_array());
	json_object_object_add(o, name, json_object_new_int(1));
	CHECK(idl_check(text, "Draw", o, &f) == -EINVAL);
	CHECK(strlen(f.path) < sizeof(f.path) && strlen(f.message) < sizeof(f.message));
	json_object_put(o);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{"the project's interface files", test_files},
		{"declarations", test_walk},
		{"right parameters", test_right},
		{"wrong parameters", test_wrong},
		{"long names", test_long},
	};

	(void)argc;
	files = argv + 1;
	return tap_main(tests, ARRAY_SIZE(tests));
}
