/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json: a document with every field that is known is parsed and each value looked at; then each value in it is
 * replaced by one of every other JSON type, which must be an error that names its path.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "oci/spec.h"
#include "tap.h"

static char full[64 * 1024];

static void load_full(const char *path)
{
	ssize_t n = read_small_file_at(AT_FDCWD, path, full, sizeof(full));

	if (n < 0) {
		printf("Bail out! %s: %s\n", path, strerror((int)-n));
		exit(1);
	}
}

static struct spec *parse(const char *json)
{
	struct spec *s = NULL;
	struct error e = {0};

	CHECK(spec_parse("/bundle", json, strlen(json), &s, &e) == 0, "%s", e.message);
	return s;
}

/* Expects failure with "message" in the text. */
static void refuse(const char *json, const char *message)
{
	struct spec *s = NULL;
	struct error e = {0};
	int r = spec_parse("/bundle", json, strlen(json), &s, &e);

	CHECK(r < 0 && s == NULL, "accepted: %s", json);
	CHECK(r < 0 && e.code == r && e.kind == ERROR_CONFIG && strstr(e.message, message), "\"%s\" for %s",
		e.message, json);
	spec_free(s);
}

/* The smallest document, with something in "linux" or "process" or at the top. */
#define TOP(more) "{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"rootfs\"}," more "}"
#define LINUX(more) TOP("\"linux\":{" more "}")
#define USER_NS "\"namespaces\":[{\"type\":\"user\"}]"
#define PROCESS(more) TOP("\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"," more "}")

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static void test_top(void)
{
	struct spec *s = parse(full);

	if (!s)
		return;
	CHECK(same(s->oci_version, "1.2.0") && same(s->bundle, "/bundle") &&
		same(s->rootfs, "/bundle/rootfs"));
	CHECK(s->rootfs_readonly && same(s->hostname, "box") && same(s->domainname, "example"));
	CHECK(s->n_annotations == 2 && same(spec_annotation(s, "com.example.key"), "value") &&
		same(spec_annotation(s, "empty"), "") && spec_annotation(s, "none") == NULL);
	CHECK(same(s->cgroups_path, "/pod/box") && same(s->mount_label, "label") && s->has_personality &&
		s->personality == PER_LINUX32);
	CHECK(same(s->masked_paths[0], "/proc/kcore") && !s->masked_paths[1] &&
		same(s->readonly_paths[0], "/proc/sys"));
	CHECK(s->rootfs_propagation == (MS_SLAVE | MS_REC));
	CHECK(s->time_monotonic.present && s->time_monotonic.sec == -172800 && s->time_monotonic.nsec == 5 &&
		s->time_boottime.sec == 86400);
	spec_free(s);
}

static void test_process(void)
{
	struct spec *s = parse(full);
	const struct spec_process *p = s ? s->process : NULL;

	if (!p)
		return;
	CHECK(p->terminal && p->console_height == 25 && p->console_width == 80);
	CHECK(p->uid == 1000 && p->gid == 4294967294 && p->has_umask && p->umask == 022);
	CHECK(p->n_additional_gids == 2 && p->additional_gids[1] == 6);
	CHECK(same(p->args[0], "sh") && same(p->args[1], "-c") && !p->args[2]);
	CHECK(same(p->env[0], "PATH=/bin") && same(p->env[1], "EMPTY=") && !p->env[2] &&
		same(p->cwd, "/work"));
	CHECK(p->has_capabilities &&
		p->capabilities.bounding == (1ULL << CAP_KILL | 1ULL << CAP_CHECKPOINT_RESTORE) &&
		p->capabilities.effective == 1ULL << CAP_KILL &&
		p->capabilities.inheritable == (1ULL << CAP_CHOWN | 1ULL << CAP_BPF) &&
		p->capabilities.permitted == (1ULL << CAP_NET_RAW | 1ULL << CAP_KILL | 1ULL << CAP_BPF) &&
		p->capabilities.ambient == 1ULL << CAP_BPF);
	CHECK(p->n_rlimits == 2 && p->rlimits[0].resource == RLIMIT_NOFILE && p->rlimits[0].soft == 512 &&
		same(p->rlimits[0].name, "RLIMIT_NOFILE") && p->rlimits[1].resource == RLIMIT_CORE &&
		p->rlimits[1].hard == UINT64_MAX);
	CHECK(p->no_new_privileges && same(p->apparmor_profile, "profile") &&
		same(p->selinux_label, "selinux"));
	CHECK(p->has_oom_score_adj && p->oom_score_adj == -500);
	CHECK(p->scheduler && p->scheduler->policy == SCHED_RR && p->scheduler->nice == -3 &&
		p->scheduler->priority == 7 && p->scheduler->flags == 1 && p->scheduler->runtime == 1 &&
		p->scheduler->period == 3);
	CHECK(p->has_io_priority && p->io_priority == (2 << 13 | 4));
	CHECK(p->exec_initial_cpus.present && p->exec_initial_cpus.bits[0] == 0xf &&
		p->exec_initial_cpus.bits[1] == 1 << 6 && p->exec_final_cpus.bits[0] == 1 << 5);
	CHECK(s->intel_rdt && same(s->intel_rdt->clos_id, "gold") &&
		same(s->intel_rdt->l3_cache_schema, "L3:0=7f0\nMB:0=1") &&
		same(s->intel_rdt->mem_bw_schema, "MB:0=20;1=70") &&
		same(s->intel_rdt->schemata, "L2:0=f\nL3:1=1f\n") && s->intel_rdt->monitoring &&
		s->intel_rdt->cmt && !s->intel_rdt->mbm);
	CHECK(s->memory_policy && s->memory_policy->mode == (3 | 1 << 15) &&
		s->memory_policy->nodes.bits[0] == 0xd);
	CHECK(s->n_net_devices == 2 && same(s->net_devices[0].host_name, "eth9") &&
		same(s->net_devices[0].name, "inside%d") && same(s->net_devices[1].name, "eth8"));
	spec_free(s);
}

static void test_mounts(void)
{
	struct spec *s = parse(full);
	const struct spec_mount *m = s ? s->mounts : NULL;

	if (!m)
		return;
	CHECK(s->n_mounts == 4);
	CHECK(same(m[0].destination, "/proc") && same(m[0].type, "proc") && same(m[0].source, "proc") &&
		!m[0].is_bind && m[0].flags == 0 && !m[0].data && m[0].propagation == 0);
	CHECK(m[1].flags == (MS_NOSUID | MS_STRICTATIME) && same(m[1].data, "mode=755,size=65536k") &&
		m[1].tmpcopyup && m[1].clear_flags == MS_NOEXEC && same(m[1].destination, "/dev"));
	CHECK(m[2].is_bind && !m[2].type && same(m[2].source, "/bundle/data") &&
		same(m[2].destination, "/data") && m[2].flags == (MS_BIND | MS_REC | MS_RDONLY) &&
		m[2].propagation == (MS_PRIVATE | MS_REC) && !m[2].data);
	CHECK(m[2].rec_flags == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME) &&
		m[2].rec_clear == (MOUNT_ATTR__ATIME | MOUNT_ATTR_NOSUID));
	CHECK(m[3].is_bind && same(m[3].source, "/etc/hosts") && m[3].flags == MS_BIND &&
		m[3].clear_flags == MS_RDONLY);
	spec_free(s);
}

/* Every option by itself: none may fall through to the filesystem's data. */
static void test_mount_options(void)
{
	static const char *const known[] = {"acl", "noacl", "async", "sync", "atime", "noatime", "bind",
		"rbind", "defaults", "dev", "nodev", "diratime", "nodiratime", "dirsync", "exec", "noexec",
		"iversion", "noiversion", "lazytime", "nolazytime", "loud", "silent", "mand", "nomand",
		"relatime", "norelatime", "strictatime", "nostrictatime", "remount", "ro", "rw", "suid",
		"nosuid", "symfollow", "nosymfollow", "private", "rprivate", "shared", "rshared", "slave",
		"rslave", "unbindable", "runbindable", "rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev",
		"rnoexec", "rexec", "rnodiratime", "rdiratime", "rrelatime", "rnorelatime", "rnoatime",
		"ratime", "rstrictatime", "rnostrictatime", "rnosymfollow", "rsymfollow", "tmpcopyup",
		"copy-symlink", "src-nofollow"};
	static const char *const refused[] = {"", "uids", "uids=", "uids=1", "uids=1-2", "uids=1-2-",
		"uids=1-2-0", "uids=1-2-3#", "uids=1-2-3;", "uids=1-2-3;uids=1-2-3", "uids=1-2-3x",
		"uids=-1-2-3", "uids=1--2-3", "uids=4294967295-0-1", "uids=0-4294967296-1",
		"uids=99999999999999999999-0-1", "uids=0-0-4294967295#0-0-1", "uids=@0-0-1", "gids=@0-0-1",
		"pids=0-0-1"};
	char json[512];

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct spec *s;

		snprintf(json, sizeof(json),
			TOP("\"mounts\":[{\"destination\":\"/a\",\"source\":\"b\",\"type\":\"tmpfs\","
			    "\"options\":[\"%s\",\"%s=1\"]}]"),
			known[i], known[i]);
		s = parse(json);
		if (!s)
			continue;
		snprintf(json, sizeof(json), "%s=1", known[i]);
		CHECK(same(s->mounts[0].data, json), "%s: data %s", known[i], s->mounts[0].data);
		spec_free(s);
	}
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		snprintf(json, sizeof(json),
			TOP("\"mounts\":[{\"destination\":\"/a\",\"source\":\"b\","
			    "\"options\":[\"bind\",\"idmap=%s\"]}]"),
			refused[i]);
		refuse(json, "mounts[0].options: idmap=");
	}
}

static void test_linux(void)
{
	static const enum ns_type listed[] = {
		NS_PID, NS_NET, NS_IPC, NS_UTS, NS_MNT, NS_CGROUP, NS_USER, NS_TIME};
	struct spec *s = parse(full);

	if (!s)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(listed); i++)
		CHECK(s->namespaces[listed[i]].present, "%s", ns_oci_name(listed[i]));
	CHECK(same(s->namespaces[NS_NET].path, "/run/netns/a") && !s->namespaces[NS_PID].path);
	CHECK(ns_clone_flag(NS_NET) == CLONE_NEWNET && same(ns_proc_name(NS_MNT), "mnt") &&
		same(ns_oci_name(NS_NET), "network"));
	CHECK(s->ids.n_uid == 1 && s->ids.uid[0].host_id == 100000 && s->ids.uid[0].size == 65536 &&
		s->ids.n_gid == 1 && s->ids.gid[0].container_id == 0);
	CHECK(s->n_devices == 2 && same(s->devices[0].path, "/dev/fuse") && s->devices[0].type == 'c' &&
		s->devices[0].major == 10 && s->devices[0].minor == 229 && s->devices[0].has_mode &&
		s->devices[0].mode == 0666 && s->devices[0].gid == 5 && s->devices[1].type == 'p' &&
		!s->devices[1].has_mode);
	CHECK(s->n_sysctl == 2 && same(s->sysctl[0].name, "net.core.somaxconn") &&
		same(s->sysctl[0].value, "256"));
	spec_free(s);
}

static void test_resources(void)
{
	struct spec *s = parse(full);
	const struct spec_resources *r;

	if (!s)
		return;
	r = &s->resources;
	CHECK(r->n_devices == 2 && !r->devices[0].allow && r->devices[0].type == 'a' &&
		r->devices[0].major == -1 && same(r->devices[0].access, "rwm") && r->devices[1].allow &&
		r->devices[1].major == 10 && same(r->devices[1].access, "rw"));
	CHECK(r->has_memory_limit && r->memory_limit == 536870912 && r->memory_swap == -1 &&
		r->has_memory_reservation && r->memory_reservation == INT64_MAX && r->has_memory_swappiness &&
		r->memory_swappiness == 0 && r->disable_oom_killer);
	CHECK(r->has_cpu_shares && r->cpu_shares == 1024 && r->cpu_quota == -1 && r->cpu_period == 500000 &&
		r->cpu_burst == 10 && r->cpu_rt_runtime == 950000 && r->cpu_rt_period == 1000000 &&
		r->has_cpu_idle && same(r->cpuset_cpus, "2-3") && same(r->cpuset_mems, "0-7"));
	CHECK(r->has_pids_limit && r->pids_limit == 32771);
	CHECK(r->has_blkio_weight && r->blkio_weight == 10 && r->blkio_weight_device.n == 1 &&
		r->blkio_weight_device.devices[0].weight == 500 &&
		r->blkio_throttle[BLKIO_READ_BPS].devices[0].rate == 600 &&
		r->blkio_throttle[BLKIO_WRITE_IOPS].devices[0].rate == UINT64_MAX &&
		r->blkio_throttle[BLKIO_READ_IOPS].n == 1);
	CHECK(r->n_hugepage_limits == 1 && same(r->hugepage_limits[0].page_size, "2MB") &&
		r->hugepage_limits[0].limit == 9223372036854772000);
	CHECK(r->n_unified == 1 && same(r->unified[0].name, "memory.high") &&
		same(r->unified[0].value, "1000"));
	spec_free(s);
}

static void test_seccomp(void)
{
	struct spec *s = parse(full);
	const struct spec_seccomp *c = s ? s->seccomp : NULL;

	if (!c)
		return;
	CHECK(c->default_action == (SECCOMP_RET_ERRNO | 38) && same(c->architectures[1], "SCMP_ARCH_X32"));
	CHECK(c->flags == (SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_TSYNC) &&
		same(c->listener_path, "/run/l") && same(c->listener_metadata, "meta"));
	CHECK(c->n_rules == 3 && same(c->rules[0].names[1], "read") &&
		c->rules[0].action == SECCOMP_RET_ALLOW);
	CHECK(c->rules[1].action == (SECCOMP_RET_ERRNO | 1) && c->rules[1].n_args == 1 &&
		c->rules[1].args[0].index == 5 && c->rules[1].args[0].value == UINT64_MAX &&
		c->rules[1].args[0].value_two == 3 && c->rules[1].args[0].op == 7);
	CHECK(c->rules[2].action == SECCOMP_RET_USER_NOTIF);
	spec_free(s);
	s = parse(LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_KILL\"}"));
	CHECK(s && s->seccomp->flags == SECCOMP_FILTER_FLAG_SPEC_ALLOW && !s->seccomp->architectures[0]);
	spec_free(s);
	s = parse(LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_KILL\",\"flags\":[]}"));
	CHECK(s && s->seccomp->flags == 0);
	spec_free(s);
}

static void test_hooks(void)
{
	struct spec *s = parse(full);

	if (!s)
		return;
	for (int t = 0; t < HOOK_COUNT; t++)
		CHECK(s->hooks[t].n == (t == HOOK_PRESTART ? 2 : 1), "type %d: %zu", t, s->hooks[t].n);
	CHECK(same(s->hooks[HOOK_PRESTART].hooks[0].args[1], "x") &&
		same(s->hooks[HOOK_PRESTART].hooks[0].env[0], "A=b") &&
		s->hooks[HOOK_PRESTART].hooks[0].timeout == 3);
	CHECK(same(s->hooks[HOOK_PRESTART].hooks[1].args[0], "/bin/h2") &&
		!s->hooks[HOOK_PRESTART].hooks[1].args[1] && !s->hooks[HOOK_PRESTART].hooks[1].env &&
		s->hooks[HOOK_PRESTART].hooks[1].timeout == 0);
	CHECK(same(s->hooks[HOOK_POSTSTOP].hooks[0].path, "/bin/poststop"));
	spec_free(s);
}

static void test_minimal(void)
{
	struct spec *s =
		parse("{\"ociVersion\":\"1.0.0-rc1\",\"root\":{\"path\":\"/"
		      "r\"},\"future\":{\"x\":[1]},\"linux\":null,\"mounts\":null,\"hostname\":null}\n \t");

	CHECK(s && !s->process && same(s->rootfs, "/r") && !s->masked_paths[0] && !s->hostname &&
		s->n_mounts == 0 && s->oci_version);
	spec_free(s);
	/* Parts that we refuse, but with nothing in them, as callers write them. */
	s = parse(LINUX("\"resources\":{\"network\":{\"classID\":null,\"priorities\":[]},"
			"\"rdma\":{}}"));
	CHECK(s != NULL);
	spec_free(s);
	s = parse(PROCESS("\"x\":1"));
	CHECK(s && s->process && s->process->uid == 0 && !s->process->env[0] &&
		!s->process->has_capabilities && !s->process->has_oom_score_adj);
	spec_free(s);
}

static void test_messages(void)
{
	static const struct {
		const char *json, *message;
	} bad[] = {
		{"", "line 1, column 1: the text ends"},
		{"{\n\"root\": {\n", "line 3, column 1: the text ends"},
		{"{\n  \"root\": {\"path\": \"x\"}\n  \"hostname\": \"y\"\n}", "line 3, column 3: "},
		{TOP("\"hostname\":\"x\",") "", "line 1, column"},
		{TOP("\"hostname\":\"x\"") "}", "unexpected text after the end"},
		{"{root:{}}", "line 1, column 2"},
		{"[]", "must be an object, not an array"},
		{"{}", "ociVersion: missing"},
		{"{\"ociVersion\":\"1.0.2\"}", "root: missing"},
		{"{\"ociVersion\":\"1.0.2\",\"root\":{}}", "root.path: missing"},
		{"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"\"}}", "root.path: must not be empty"},
		{"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"a\\u0000b\"}}",
			"root.path: must not contain a NUL"},
		{"{\"ociVersion\":\"2.0.0\",\"root\":{\"path\":\"x\"}}", "ociVersion: version \"2.0.0\""},
		{LINUX("\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"uts\"},{\"type\":\"nets\"}]"),
			"linux.namespaces[2].type: unknown namespace \"nets\" (pid, network, mount, ipc, "
			"uts, user, cgroup, time)"},
		{LINUX("\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]"),
			"linux.namespaces[1]: the pid namespace is listed twice"},
		{LINUX("\"namespaces\":[{\"type\":\"pid\",\"path\":\"x\"}]"),
			"linux.namespaces[0].path: must be an absolute path"},
		{LINUX("\"namespaces\":[{}]"), "linux.namespaces[0].type: missing"},
		{LINUX("\"namespaces\":[null]"), "linux.namespaces[0]: must be an object, not null"},
		{LINUX("\"uidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":1}]"),
			"linux.uidMappings: needs a user namespace"},
		{LINUX(USER_NS), "linux.uidMappings: missing"},
		{LINUX(USER_NS ",\"uidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":1}]"),
			"linux.gidMappings: missing"},
		{LINUX(USER_NS ",\"gidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":1}],"
			       "\"uidMappings\":[{\"containerID\":1,\"hostID\":5,\"size\":1}]"),
			"linux.uidMappings: id 0 is not mapped"},
		{LINUX(USER_NS ",\"uidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":10},"
			       "{\"containerID\":9,\"hostID\":50,\"size\":1}]"),
			"linux.uidMappings: mappings 0 and 1 overlap"},
		{LINUX(USER_NS ",\"gidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":10},"
			       "{\"containerID\":10,\"hostID\":1,\"size\":5}]"),
			"linux.gidMappings: mappings 0 and 1 overlap"},
		{LINUX("\"uidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":0}]"),
			"linux.uidMappings[0].size: 0 is out of range"},
		{LINUX("\"uidMappings\":[{\"containerID\":0,\"hostID\":4294967295,\"size\":2}]"),
			"linux.uidMappings[0]: the range goes beyond"},
		{TOP("\"hostname\":\"x\""), "hostname: needs a uts namespace"},
		{LINUX("\"sysctl\":{\"vm.swappiness\":\"1\"}"),
			"linux.sysctl[\"vm.swappiness\"]: is not kept apart"},
		{LINUX("\"sysctl\":{\"net.ipv4.x\":\"1\"}"),
			"linux.sysctl[\"net.ipv4.x\"]: needs a network namespace"},
		{LINUX("\"sysctl\":{\"net/../kernel/x\":\"1\"}"), "not the name of a sysctl"},
		{LINUX("\"sysctl\":{\"\":\"1\"}"), "not the name of a sysctl"},
		{LINUX("\"sysctl\":{\"kernel.shmmax\":5}"),
			"linux.sysctl[\"kernel.shmmax\"]: must be a string, not an integer"},
		{LINUX("\"devices\":[{\"type\":\"c\",\"path\":\"/dev/x\"}]"),
			"linux.devices[0].major: missing (only a device of type p has none)"},
		{LINUX("\"devices\":[{\"type\":\"x\",\"path\":\"/dev/x\"}]"),
			"unknown device type \"x\" (c, b, u, p)"},
		{LINUX("\"rootfsPropagation\":\"bind\""), "unknown mount propagation \"bind\" (private,"},
		{LINUX("\"timeOffsets\":{\"monotonic\":{\"secs\":1}}"),
			"linux.timeOffsets: needs a new time namespace"},
		{LINUX("\"intelRdt\":{\"closID\":\"a/b\"}"),
			"linux.intelRdt.closID: must be \"/\" or the name of a directory"},
		{LINUX("\"intelRdt\":{\"closID\":\"info\"}"), "linux.intelRdt.closID: must be"},
		{LINUX("\"intelRdt\":{\"closID\":\"..\"}"), "linux.intelRdt.closID: must be"},
		{LINUX("\"intelRdt\":{\"memBwSchema\":\"L3:0=f\"}"),
			"linux.intelRdt.memBwSchema: must be one line that begins with \"MB:\""},
		{LINUX("\"intelRdt\":{\"memBwSchema\":\"MB:0=1\\nL3:0=f\"}"), "linux.intelRdt.memBwSchema"},
		{LINUX("\"intelRdt\":{\"schemata\":[\"L3:0=f\\nMB:0=9\"]}"),
			"linux.intelRdt.schemata[0]: must be one line"},
		{LINUX("\"maskedPaths\":[\"a\"]"),
			"linux.maskedPaths[0]: must be an absolute path, not \"a\""},
		{LINUX("\"resources\":{\"pids\":{\"limit\":1.5}}"),
			"linux.resources.pids.limit: must be an integer, not a number with a fraction"},
		{LINUX("\"resources\":{\"memory\":{\"limit\":9223372036854775808}}"),
			"linux.resources.memory.limit: 9223372036854775808 is out of range"},
		{LINUX("\"resources\":{\"unified\":{\"../x\":\"1\"}}"), "not the name of a cgroup file"},
		{LINUX("\"resources\":{\"hugepageLimits\":[{\"pageSize\":\"../2M\",\"limit\":1}]}"),
			"must be a size like"},
		{LINUX("\"resources\":{\"devices\":[{\"allow\":true,\"access\":\"rx\"}]}"),
			"linux.resources.devices[0].access: must be made of r, w and m"},
		{LINUX("\"seccomp\":{}"), "linux.seccomp.defaultAction: missing"},
		{LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}"),
			"cannot be the default action"},
		{LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":1}"),
			"linux.seccomp.defaultErrnoRet: only SCMP_ACT_ERRNO"},
		{LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[],"
		       "\"action\":\"SCMP_ACT_LOG\"}]}"),
			"linux.seccomp.syscalls[0].names: must not be empty"},
		{LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"x\"],"
		       "\"action\":\"SCMP_ACT_NOTIFY\"}]}"),
			"needs a listenerPath"},
		{LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_"
		       "NEW_LISTENER\"]}"),
			"linux.seccomp.flags[0]: unknown seccomp flag"},
		{LINUX("\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"x86\"]}"),
			"linux.seccomp.architectures[0]: unknown architecture \"x86\" (SCMP_ARCH_X86,"},
		{TOP("\"process\":{\"cwd\":\"/\"}"), "process.args: missing"},
		{TOP("\"process\":{\"args\":[],\"cwd\":\"/\"}"), "process.args: must name a program"},
		{TOP("\"process\":{\"args\":[\"\"],\"cwd\":\"/\"}"), "process.args: must name a program"},
		{TOP("\"process\":{\"args\":[\"a\"],\"cwd\":\"tmp\"}"),
			"process.cwd: must be an absolute path, not \"tmp\""},
		{PROCESS("\"env\":[\"A\"]"), "process.env[0]: must be NAME=value, not \"A\""},
		{PROCESS("\"env\":[\"=A\"]"), "process.env[0]: must be NAME=value"},
		{PROCESS("\"user\":{\"uid\":-1}"), "process.user.uid: -1 is out of range (0 to 4294967294)"},
		{PROCESS("\"user\":{\"uid\":4294967295}"), "process.user.uid: 4294967295 is out of range"},
		{PROCESS("\"user\":{\"umask\":512}"), "process.user.umask: 512 is out of range (0 to 511)"},
		{PROCESS("\"oomScoreAdj\":1001"),
			"process.oomScoreAdj: 1001 is out of range (-1000 to 1000)"},
		{PROCESS("\"capabilities\":{\"effective\":[\"CAP_KILL\"]}"),
			"process.capabilities.effective: CAP_KILL must be in permitted, too"},
		{PROCESS("\"oomScoreAdj\":18446744073709551616"), "config.json: line 1, column"},
		{TOP("\"hostname\":\"\xff\""), "config.json: line 1, column"},
		{PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":1}]"),
			"process.rlimits[0].type: unknown resource limit \"RLIMIT_X\" (RLIMIT_AS,"},
		{PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":1}]"),
			"process.rlimits[0]: the soft limit is above"},
		{PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":1},{\"type\":\"RLIMIT_"
			 "CPU\",\"soft\":1,\"hard\":1}]"),
			"process.rlimits[1]: RLIMIT_CPU is listed twice"},
		{PROCESS("\"ioPriority\":{\"class\":\"X\"}"),
			"process.ioPriority.class: unknown i/o priority class \"X\" (IOPRIO_CLASS_RT,"},
		{PROCESS("\"scheduler\":{\"policy\":\"X\"}"),
			"process.scheduler.policy: unknown scheduling policy"},
		{TOP("\"mounts\":[{\"destination\":\"/x\"}]"), "mounts[0].type: missing (only"},
		{TOP("\"mounts\":[{\"destination\":\"/x\",\"source\":\"/"
		     "y\",\"options\":[\"bind\",\"idmap\"]}]"),
			"mounts[0].options: idmap needs uidMappings"},
		{TOP("\"mounts\":[{\"destination\":\"/x\",\"source\":\"/"
		     "y\",\"type\":\"tmpfs\",\"options\":[\"idmap\"]}]"),
			"mounts[0].options: ids can be mapped only for a bind mount"},
		{TOP("\"mounts\":[{\"destination\":\"/x\",\"source\":\"/"
		     "y\",\"type\":\"bind\",\"gidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":1}]}]"),
			"mounts[0].gidMappings: uidMappings and gidMappings are needed together"},
		{TOP("\"mounts\":[{\"destination\":\"\",\"type\":\"tmpfs\"}]"),
			"mounts[0].destination: must not be empty"},
		{TOP("\"mounts\":[{\"destination\":\"/x\",\"options\":[\"rbind\"]}]"),
			"mounts[0].source: missing (a bind mount needs one)"},
		{TOP("\"hooks\":{\"poststop\":[{\"path\":\"x\"}]}"),
			"hooks.poststop[0].path: must be an absolute path"},
		{TOP("\"hooks\":{\"poststop\":[{\"path\":\"/x\",\"timeout\":0}]}"),
			"hooks.poststop[0].timeout: 0 is out of range (1 to"},
		{TOP("\"annotations\":{\"a\\nb\":1}"), "annotations[\"a?b\"]: must be a string"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse(bad[i].json, bad[i].message);
}

/* A value of another type in place of each value of the full document. */
static void path_of_member(char *to, size_t size, const char *path, const char *key)
{
	static const char *const maps[] = {"annotations", "linux.sysctl", "linux.resources.unified",
		"linux.netDevices", "linux.resources.rdma"};
	bool is_map = false;

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
		is_map |= strcmp(path, maps[i]) == 0;
	if (is_map)
		snprintf(to, size, "%s[\"%s\"]", path, key);
	else
		snprintf(to, size, "%s%s%s", path, path[0] ? "." : "", key);
}

static size_t replaced;

static void try_replacement(struct json_object *root, const char *path, enum json_type is)
{
	struct error e = {0};
	struct spec *s = NULL;
	const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN);
	size_t n = strlen(path);
	int r = spec_parse("/bundle", text, strlen(text), &s, &e);

	replaced++;
	CHECK(r == -EINVAL && strncmp(e.message, path, n) == 0 && e.message[n] == ':',
		"%s of type %d: \"%s\"", path, (int)is, r ? e.message : "accepted");
	spec_free(s);
}

static void replace_all(struct json_object *root, struct json_object *parent, const char *path)
{
	bool array = json_object_is_type(parent, json_type_array);
	struct json_object_iterator it, last;
	size_t n = array ? json_object_array_length(parent) : (size_t)json_object_object_length(parent);

	if (!array) {
		it = json_object_iter_begin(parent);
		last = json_object_iter_end(parent);
		(void)last;
	}
	for (size_t i = 0; i < n; i++) {
		const char *key = array ? NULL : json_object_iter_peek_name(&it);
		struct json_object *value =
			array ? json_object_array_get_idx(parent, i) : json_object_iter_peek_value(&it);
		enum json_type is = json_object_get_type(value);
		struct json_object *others[] = {json_object_new_boolean(1), json_object_new_double(1.5),
			json_object_new_int(1), json_object_new_object(), json_object_new_array(),
			json_object_new_string("x")};
		char here[512];

		if (array)
			snprintf(here, sizeof(here), "%s[%zu]", path, i);
		else
			path_of_member(here, sizeof(here), path, key);
		json_object_get(value);
		for (size_t k = 0; k < ARRAY_SIZE(others); k++) {
			if (json_object_get_type(others[k]) == is) {
				json_object_put(others[k]);
				continue;
			}
			if (array)
				json_object_array_put_idx(parent, i, others[k]);
			else
				json_object_object_add(parent, key, others[k]);
			try_replacement(root, here,
				json_object_get_type(array ? json_object_array_get_idx(parent, i)
							   : json_object_object_get(parent, key)));
		}
		if (array)
			json_object_array_put_idx(parent, i, value);
		else
			json_object_object_add(parent, key, value);
		if (is == json_type_object || is == json_type_array)
			replace_all(root, value, here);
		if (!array)
			json_object_iter_next(&it);
	}
}

static void test_wrong_types(void)
{
	struct json_object *root = json_tokener_parse(full);

	replace_all(root, root, "");
	CHECK(replaced > 1000, "only %zu replacements", replaced);
	json_object_put(root);
}

/* Cut anywhere, it is an error and never anything worse. */
static void test_truncated(void)
{
	size_t len = strlen(full);

	while (len > 0 && full[len - 1] != '}')
		len--;
	for (size_t i = 0; i < len; i++) {
		char *copy = malloc(i + 1);
		struct error e = {0};
		struct spec *s = NULL;

		memcpy(copy, full, i);
		CHECK(spec_parse("/bundle", copy, i, &s, &e) < 0 && strstr(e.message, "line "),
			"cut at %zu: %s", i, e.message);
		spec_free(s);
		free(copy);
	}
}

static void test_limits(void)
{
	struct error e = {0};
	struct spec *s = NULL;
	char *deep = malloc(1000), *huge = calloc(1, (16 << 20) + 2);

	memset(deep, '[', 1000);
	CHECK(spec_parse("/b", deep, 1000, &s, &e) == -EINVAL && strstr(e.message, "deeper than 64"), "%s",
		e.message);
	CHECK(spec_parse("/b", huge, (16 << 20) + 1, &s, &e) == -EFBIG && strstr(e.message, "16 MiB"), "%s",
		e.message);
	free(deep);
	free(huge);
}

static void test_load(void)
{
	char folder[] = "/tmp/spec-test-XXXXXX", path[64];
	struct error e = {0};
	struct spec *s = NULL;
	char *text = NULL;
	int dir;

	CHECK(spec_load("/no/such/bundle", &s, &e) == -ENOENT && e.kind == ERROR_CONFIG &&
		strstr(e.message, "no such directory"));
	CHECK(spec_load("/etc/passwd", &s, &e) == -ENOTDIR, "%s", e.message);
	if (!CHECK(mkdtemp(folder) != NULL))
		return;
	CHECK(spec_load(folder, &s, &e) == -ENOENT && strstr(e.message, "has no config.json"), "%s",
		e.message);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int rootless = 0; rootless < 2; rootless++) {
		CHECK(spec_default_json(rootless, &text) == 0);
		CHECK(write_file_atomic_at(dir, "config.json", text, strlen(text), 0600) == 0);
		free(text);
		CHECK(spec_load(folder, &s, &e) == 0, "%s", e.message);
		if (!s)
			continue;
		snprintf(path, sizeof(path), "%s/rootfs", folder);
		CHECK(same(s->rootfs, path) && s->process && same(s->process->args[0], "sh") &&
			s->process->terminal);
		CHECK(s->namespaces[NS_USER].present == rootless &&
			s->namespaces[NS_NET].present == !rootless);
		spec_free(take_ptr(s));
	}
	CHECK(write_file_atomic_at(dir, "config.json", "{\n\n!", 4, 0600) == 0);
	CHECK(spec_load(folder, &s, &e) == -EINVAL && strstr(e.message, "config.json: line 3, column 1"),
		"%s", e.message);
	close(dir);
	CHECK(remove_tree_at(AT_FDCWD, folder) == 0);
}

static void test_other_documents(void)
{
	static const char process[] = "{\"args\":[\"ls\"],\"cwd\":\"/\",\"user\":{\"uid\":5}}";
	static const char resources[] = "{\"memory\":{\"limit\":1000}}";
	struct error e = {0};
	struct spec *s = NULL;

	CHECK(spec_parse_process(process, strlen(process), &s, &e) == 0 && s->process->uid == 5, "%s",
		e.message);
	spec_free(take_ptr(s));
	CHECK(spec_parse_process("{\"cwd\":1}", 9, &s, &e) == -EINVAL && strncmp(e.message, "args: ", 6) == 0,
		"%s", e.message);
	CHECK(spec_parse_process("{", 1, &s, &e) == -EINVAL && strstr(e.message, "process.json: line 1"),
		"%s", e.message);
	CHECK(spec_parse_resources(resources, strlen(resources), &s, &e) == 0 &&
		s->resources.memory_limit == 1000);
	spec_free(take_ptr(s));
}

static void test_state(void)
{
	static const struct spec_annotation a = {"a/b", "\"q\""};
	struct oci_state state = {.id = "x",
		.status = "created",
		.pid = 4,
		.bundle = "/b",
		.annotations = &a,
		.n_annotations = 1};
	char *text = NULL;

	CHECK(oci_state_json(&state, false, &text) == 0);
	CHECK(same(strchr(text, ','), ",\"id\":\"x\",\"pid\":4,\"status\":\"created\",\"bundle\":\"/b\","
				      "\"annotations\":{\"a/b\":\"\\\"q\\\"\"}}"),
		"%s", text);
	free(text);
	state.rootfs = "/b/r";
	state.created = "2026-01-01T00:00:00Z";
	state.owner = "";
	CHECK(oci_state_json(&state, true, &text) == 0);
	CHECK(strstr(text, "  \"rootfs\": \"/b/r\",\n") && strstr(text, "\n  \"owner\": \"\"\n}"), "%s",
		text);
	free(text);
	state = (struct oci_state){.id = "x", .status = "creating"};
	CHECK(oci_process_state_json(&state, 7, "a\"b", &text) == 0);
	CHECK(same(text,
		      "{\"ociVersion\":\"" OCI_VERSION
		      "\",\"fds\":[\"seccompFd\"],\"pid\":7,\"metadata\":\"a\\\"b\",\"state\":"
		      "{\"ociVersion\":\"" OCI_VERSION "\",\"id\":\"x\",\"pid\":0,\"status\":\"creating\"}}"),
		"%s", text);
	free(text);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{"top level", test_top},
		{"process", test_process},
		{"mounts", test_mounts},
		{"every mount option", test_mount_options},
		{"linux", test_linux},
		{"resources", test_resources},
		{"seccomp", test_seccomp},
		{"hooks", test_hooks},
		{"minimal documents, nulls, unknown fields", test_minimal},
		{"messages", test_messages},
		{"every wrong type", test_wrong_types},
		{"every truncation", test_truncated},
		{"depth and size", test_limits},
		{"bundles, default spec", test_load},
		{"process.json, resources", test_other_documents},
		{"state", test_state},
	};

	if (argc != 2) {
		printf("Bail out! usage: %s full.json\n", argv[0]);
		return 1;
	}
	load_full(argv[1]);
	return tap_main(tests, ARRAY_SIZE(tests));
}
