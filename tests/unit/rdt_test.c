/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.intelRdt. No machine of ours has resctrl: texts are compared, and files handled in plain directories that are laid
 * out like it. What only the kernel does (files that are in a group once it is made, tasks that move) is not tested.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/resctrl.h"
#include "tap.h"

static char root[] = "/tmp/rdt-test.XXXXXX";

static void put(const char *path, const char *text)
{
	char whole[PATH_MAX], *slash;

	snprintf(whole, sizeof(whole), "%s/%s", root, path);
	for (slash = whole + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = 0;
		(void)!mkdir(whole, 0755);
	}
	(void)!unlink(whole);
	CHECK(write_new_file_at(AT_FDCWD, whole, text, strlen(text), 0600) == 0, "%s", path);
}

static bool says(const char *path, const char *text)
{
	_cleanup_free_ char *now = NULL;
	char whole[PATH_MAX];

	snprintf(whole, sizeof(whole), "%s/%s", root, path);
	return read_file_at(AT_FDCWD, whole, 1 << 16, &now, NULL) == 0 && !strcmp(now, text);
}

static bool exists(const char *path)
{
	char whole[PATH_MAX];

	snprintf(whole, sizeof(whole), "%s/%s", root, path);
	return access(whole, F_OK) == 0;
}

static void test_mount_point(void)
{
	char *path = NULL;

	CHECK(resctrl_mount_point("22 1 0:20 / / rw - ext4 /dev/a rw\n"
				  "33 22 0:30 / /sys/fs/a\\040b rw,relatime shared:4 - resctrl resctrl rw\n",
		      &path) == 0 &&
		path && !strcmp(path, "/sys/fs/a b"));
	free(path);
	CHECK(resctrl_mount_point("22 1 0:20 / / rw - ext4 resctrl rw\n", &path) == 1);
	CHECK(resctrl_mount_point("22 1 0:20 /g /x rw - resctrl resctrl rw\n", &path) == 1);
	CHECK(resctrl_mount_point("22 1 x\n", &path) < 0);
}

static void test_join(void)
{
	static const struct {
		const char *l3, *mb, *whole;
	} cases[] = {
		{NULL, NULL, ""},
		{"L3:0=f", NULL, "L3:0=f\n"},
		{NULL, "MB:0=20", "MB:0=20\n"},
		{"L3:0=f;1=f0", "MB:0=20", "L3:0=f;1=f0\nMB:0=20\n"},
		{"L3CODE:0=f\n\n  MB:0=9\nL3DATA:0=3\n", "MB:0=20", "L3CODE:0=f\nL3DATA:0=3\nMB:0=20\n"},
		{"MB:0=9", NULL, ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = resctrl_join(cases[i].l3, cases[i].mb);

		CHECK(text && !strcmp(text, cases[i].whole), "%zu: %s", i, text);
		free(text);
	}
}

static void test_has(void)
{
	static const char now[] = "    L3:0=00ff;1=f0\n  L2:0=1\n    MB:0= 20;1=100\n";

	CHECK(resctrl_has(now, "", NULL));
	CHECK(resctrl_has(now, "L3:0=ff;1=f0\nMB:0=20;1=100\n", NULL));
	CHECK(resctrl_has(now, "L3:1=0F0", NULL));
	CHECK(resctrl_has(now, "MB:1=100;0=020", NULL));
	CHECK(!resctrl_has(now, "L3:0=fe", NULL));
	CHECK(!resctrl_has(now, "L3:2=ff", NULL));
	CHECK(!resctrl_has(now, "L3CODE:0=ff", NULL));
	CHECK(!resctrl_has(now, "MB:0=14", NULL), "bandwidths are decimal");
	CHECK(!resctrl_has(now, "L3:0=ff;", NULL));
	CHECK(!resctrl_has(now, "L3", NULL));
	CHECK(!resctrl_has(now, "L3:0", NULL));
	CHECK(!resctrl_has(now, "L3:=", NULL));
	CHECK(!resctrl_has(now, "L3:0=x", NULL));
	CHECK(!resctrl_has(now, ";0=ff", NULL));
	CHECK(!resctrl_has("", "L3:0=ff", NULL));
	CHECK(!resctrl_has("L3:0\n=ff", "L3:0=ff", NULL));
	/* what is written later counts */
	CHECK(resctrl_has(now, "L3:0=fe;1=f0", "L3:0=ff\n"));
	CHECK(!resctrl_has(now, "L3:0=fe;1=f1", "L3:0=ff\n"));
}

static void lay_out(void)
{
	(void)!remove_tree_at(AT_FDCWD, root);
	CHECK(mkdir(root, 0755) == 0);
	put("schemata", "    L3:0=ff\n    MB:0=100\n");
	put("tasks", "1\n");
	put("info/last_cmd_status", "ok\n");
	put("info/L3/cbm_mask", "ff\n");
	put("info/L3/num_closids", "16\n");
	put("info/MB/min_bandwidth", "10\n");
	put("info/L3_MON/mon_features", "llc_occupancy\n");
	put("gold/schemata", "    L3:0=f\n    MB:0=50\n");
	put("gold/tasks", "");
	put("gold/mon_groups/x", "");
}

static int join(const struct spec_intel_rdt *s, struct rdt *g, struct error *e)
{
	*g = (struct rdt){0};
	*e = (struct error){0};
	return rdt_join(root, s, "c", 77, g, e);
}

static void test_check(void)
{
	struct spec_intel_rdt s = {.l3_cache_schema = "L3:0=f"};
	struct error e = {0};
	char path[PATH_MAX];

	lay_out();
	CHECK(rdt_check(NULL, &s, "c", &e) == -EOPNOTSUPP &&
		strstr(e.message,
			"intelRdt is specified in config, but Intel RDT is not supported or enabled"));
	CHECK(rdt_check(root, &s, "c", &e) == 0);
	CHECK(rdt_check(root, &s, "info", &e) == -EINVAL);
	s.clos_id = "gold";
	CHECK(rdt_check(root, &s, "info", &e) == 0);
	snprintf(path, sizeof(path), "%s/info/L3", root);
	CHECK(remove_tree_at(AT_FDCWD, path) == 0);
	CHECK(rdt_check(root, &s, "c", &e) == -EOPNOTSUPP &&
		strstr(e.message, "Intel RDT/CAT is not enabled"));
}

/* A group that is there is joined if it is as wanted, and stays. */
static void test_existing(void)
{
	struct spec_intel_rdt s = {.clos_id = "gold"};
	struct error e;
	struct rdt g;

	lay_out();
	CHECK(join(&s, &g, &e) == 0 && !g.made && !g.inode, "%s", e.message);
	CHECK(says("gold/tasks", "77"));
	CHECK(rdt_remove(&g, &e) == 0 && exists("gold"));
	rdt_undo(root, &g);
	CHECK(exists("gold") && !g.group);

	s.schemata = "L3:0=0f\n";
	s.mem_bw_schema = "MB:0=50";
	CHECK(join(&s, &g, &e) == 0, "%s", e.message);
	rdt_done(&g);
	CHECK(says("gold/schemata", "    L3:0=f\n    MB:0=50\n"), "not written");
	s.mem_bw_schema = "MB:0=60";
	CHECK(join(&s, &g, &e) == -EEXIST && strstr(e.message, "with other schemata") && !g.group);
	s.schemata = "MB:0=50\n"; /* counts instead */
	CHECK(join(&s, &g, &e) == 0, "%s", e.message);
	rdt_done(&g);
	s.schemata = "L2:0=1\n";
	s.mem_bw_schema = NULL;
	CHECK(join(&s, &g, &e) == -EEXIST);

	s = (struct spec_intel_rdt){.clos_id = "silver"};
	CHECK(join(&s, &g, &e) == -ENOENT && strstr(e.message, "closID: ") && !exists("silver"));
	s.clos_id = "/";
	CHECK(join(&s, &g, &e) == 0 && says("tasks", "77") && !strcmp(g.group, root));
	rdt_undo(root, &g);
	CHECK(exists("tasks"));
}

/* Here a new group has no files, so the join fails: nothing stays, and the kernel's own words are in the error. */
static void test_new(void)
{
	struct spec_intel_rdt s = {.l3_cache_schema = "L3:0=f"};
	struct error e;
	struct rdt g;

	lay_out();
	put("info/last_cmd_status", "bad mask\n");
	CHECK(join(&s, &g, &e) == -ENOENT &&
			strstr(e.message,
				"/c/schemata: no such file or directory, last_cmd_status: bad mask"),
		"%s", e.message);
	CHECK(!exists("c") && !g.group);
	s = (struct spec_intel_rdt){.clos_id = "gold", .monitoring = true};
	CHECK(join(&s, &g, &e) == -ENOENT && strstr(e.message, "gold/mon_groups/c/tasks"), "%s", e.message);
	CHECK(!exists("gold/mon_groups/c") && exists("gold"));
	/* of someone else */
	put("gold/mon_groups/c/tasks", "");
	CHECK(join(&s, &g, &e) == -EEXIST && exists("gold/mon_groups/c"));
}

static void test_remove(void)
{
	_cleanup_free_ char *path = NULL;
	struct rdt g = {0};
	struct error e = {0};
	struct stat st;

	lay_out();
	CHECK(asprintf(&path, "%s/c", root) > 0 && mkdir(path, 0755) == 0 && stat(path, &st) == 0);
	g.group = path;
	g.inode = st.st_ino + 1;
	CHECK(rdt_remove(&g, &e) == 0 && exists("c"), "another group of the same name");
	g.inode = st.st_ino;
	CHECK(rdt_remove(&g, &e) == 0 && !exists("c"));
	CHECK(rdt_remove(&g, &e) == 0);
}

static void test_stats(void)
{
	char group[PATH_MAX];
	struct rdt g = {.group = group};
	struct json_object *o = NULL;
	struct error e = {0};

	lay_out();
	snprintf(group, sizeof(group), "%s/gold", root);
	put("gold/mon_data/mon_L3_01/llc_occupancy", "Unavailable\n");
	put("gold/mon_data/mon_L3_01/mbm_total_bytes", "18446744073709551615\n");
	put("gold/mon_data/mon_L3_00/llc_occupancy", "4096\n");
	put("gold/mon_data/other/llc_occupancy", "1\n");
	CHECK(rdt_stats(root, &g, &o, &e) == 0, "%s", e.message);
	CHECK(!strcmp(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
		      "{\"l3_cache_info\":{\"num_closids\":16,\"cbm_mask\":\"ff\"},"
		      "\"l3_cache_schema_root\":\"L3:0=ff\",\"l3_cache_schema\":\"L3:0=f\","
		      "\"mem_bw_info\":{\"min_bandwidth\":10},\"mem_bw_schema_root\":\"MB:0=100\","
		      "\"mem_bw_schema\":\"MB:0=50\",\"mbm_stats\":[{},{\"mbm_total_bytes\":"
		      "18446744073709551615}],"
		      "\"cmt_stats\":[{\"llc_occupancy\":4096},{}]}"),
		"%s", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"the mount point", test_mount_point},
		{"schemata are joined", test_join},
		{"schemata are compared", test_has},
		{"what the machine lacks", test_check},
		{"a group that is there", test_existing},
		{"a new group", test_new},
		{"only our own group is removed", test_remove},
		{"statistics", test_stats},
	};
	int r;

	if (!mkdtemp(root))
		return 1;
	r = tap_main(tests, ARRAY_SIZE(tests));
	(void)!remove_tree_at(AT_FDCWD, root);
	return r;
}
