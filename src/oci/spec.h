/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json as data. spec_parse() reads and validates it; everything here lives in spec->arena and is freed by
 * spec_free(). Arrays are a pointer and a count; absent strings are NULL; absent numbers have a has_ flag.
 * Source: OCI runtime-spec 1.3, config.md and config-linux.md.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/error.h"
#include "linux/idmap.h"

enum ns_type { NS_PID, NS_NET, NS_IPC, NS_UTS, NS_MNT, NS_CGROUP, NS_USER, NS_TIME, NS_COUNT };

struct spec_namespace {
	bool present;	  /* listed in config.json */
	const char *path; /* join this one; NULL: make a new one */
};

struct spec_rlimit {
	int resource;	  /* RLIMIT_* */
	const char *name; /* "RLIMIT_NOFILE" */
	uint64_t soft, hard;
};

/* "RLIMIT_NOFILE" */
const char *spec_rlimit_name(int resource);

/* Bit n is capability n (CAP_* of linux/capability.h). */
struct spec_capabilities {
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

/* SCHED_* attributes as sched_setattr(2) takes them. */
struct spec_scheduler {
	uint32_t policy;
	int nice;
	uint32_t priority;
	uint64_t flags; /* SCHED_FLAG_* */
	uint64_t runtime, deadline, period;
};

/* "0-3,7": bit n of the array is number n. */
enum { NUMBER_SET_MAX = 1024 };
struct spec_number_set {
	bool present;
	uint64_t bits[NUMBER_SET_MAX / 64];
};

/* As set_mempolicy(2) takes it. */
struct spec_memory_policy {
	unsigned mode; /* MPOL_* | MPOL_F_* */
	struct spec_number_set nodes;
};

struct spec_process {
	bool terminal;
	uint16_t console_height, console_width; /* 0: leave */
	uid_t uid;
	gid_t gid;
	bool has_umask;
	mode_t umask;
	gid_t *additional_gids;
	size_t n_additional_gids;
	char **args;	 /* NULL-terminated */
	char **env;	 /* NULL-terminated, "NAME=value" */
	const char *cwd; /* absolute */
	bool has_capabilities;
	struct spec_capabilities capabilities;
	struct spec_rlimit *rlimits;
	size_t n_rlimits;
	bool no_new_privileges;
	const char *apparmor_profile, *selinux_label;
	bool has_oom_score_adj;
	int oom_score_adj;
	struct spec_scheduler *scheduler; /* NULL: leave */
	bool has_io_priority;
	struct spec_number_set exec_initial_cpus, exec_final_cpus; /* of exec, never of init */
	int io_priority; /* class << 13 | level, as ioprio_set(2) takes it */
};

/* When the source of a bind mount is a symlink. */
enum source_link {
	SOURCE_LINK_FOLLOW,
	SOURCE_LINK_MOUNT, /* mounted itself */
	SOURCE_LINK_COPY,  /* made in the container instead of a mount */
};

struct spec_mount {
	const char *destination;   /* absolute, in the container */
	const char *type;	   /* NULL for bind */
	const char *source;	   /* bind: absolute on the host (made so from the bundle) */
	unsigned long flags;	   /* MS_* to set */
	unsigned long clear_flags; /* MS_* that options ask to be cleared ("rw", "suid", "dev", ...) */
	unsigned long propagation; /* MS_PRIVATE, MS_SLAVE... possibly | MS_REC; 0: none asked */
	unsigned long rec_flags;   /* MOUNT_ATTR_* set recursively ("rro", "rnosuid", ...) */
	unsigned long rec_clear;
	bool is_bind;
	bool tmpcopyup;
	bool idmap,
		idmap_recursive; /* bind: with "ids", or without any with those of the container's user namespace */
	struct id_maps ids;
	const char *idmap_option;     /* "uids=..." of "idmap=uids=...", which gave "ids"; NULL: none */
	enum source_link source_link; /* bind */
	const char *data; /* the options that are the filesystem's own, comma-separated; NULL: none */
};

struct spec_device {
	const char *path;
	char type; /* 'c', 'b', 'p', 'u' */
	int64_t major, minor;
	bool has_mode;
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

/* The group in resctrl. Absent strings are NULL, never "". */
struct spec_intel_rdt {
	const char *clos_id; /* the group's name; "/": the root itself; NULL: the container's id */
	const char *l3_cache_schema, *mem_bw_schema; /* the latter is one line, "MB:..." */
	const char *schemata;			     /* lines, each with its newline; written after these */
	bool monitoring;			     /* in a monitoring group of its own */
	bool cmt, mbm;				     /* of what there are to be statistics */
};

/* A network device of the host that the container gets. */
struct spec_net_device {
	const char *host_name;
	const char *name; /* in the container; may end with "%d" */
};

struct spec_device_rule {
	bool allow;
	char type;	      /* 'a', 'b', 'c' */
	int64_t major, minor; /* -1: all */
	const char *access;   /* subset of "rwm" */
};

struct spec_sysctl {
	const char *name, *value;
};

struct spec_hook {
	const char *path;
	char **args; /* NULL-terminated; args[0] given or the path */
	char **env;  /* NULL-terminated; NULL: not given */
	int timeout; /* seconds; 0: none */
};

struct spec_hook_list {
	struct spec_hook *hooks;
	size_t n;
};

enum hook_type {
	HOOK_PRESTART,
	HOOK_CREATE_RUNTIME,
	HOOK_CREATE_CONTAINER,
	HOOK_START_CONTAINER,
	HOOK_POSTSTART,
	HOOK_POSTSTOP,
	HOOK_COUNT
};

/* One line of blkio/io files: a weight, or a rate in bytes or operations a second. */
struct spec_blkio_device {
	int64_t major, minor;
	uint16_t weight;
	uint64_t rate;
};

struct spec_blkio_list {
	struct spec_blkio_device *devices;
	size_t n;
};

enum blkio_throttle {
	BLKIO_READ_BPS,
	BLKIO_WRITE_BPS,
	BLKIO_READ_IOPS,
	BLKIO_WRITE_IOPS,
	BLKIO_THROTTLE_COUNT
};

struct spec_hugepage_limit {
	const char *page_size; /* "2MB", as the kernel's file names have it */
	uint64_t limit;
};

struct spec_net_priority {
	const char *name; /* of the interface */
	uint32_t priority;
};

struct spec_rdma_limit {
	const char *device;
	bool has_handles, has_objects;
	uint32_t handles, objects;
};

struct spec_resources {
	struct spec_device_rule *devices;
	size_t n_devices;
	/* has_ false or value -1: no limit is written / "max" is written */
	bool has_memory_limit, has_memory_swap, has_memory_reservation, has_memory_swappiness,
		disable_oom_killer, check_before_update;
	int64_t memory_limit, memory_swap, memory_reservation;
	uint64_t memory_swappiness;
	bool has_cpu_shares, has_cpu_quota, has_cpu_period, has_cpu_idle, has_cpu_burst;
	uint64_t cpu_shares, cpu_period, cpu_burst;
	int64_t cpu_quota, cpu_idle;
	const char *cpuset_cpus, *cpuset_mems;
	bool has_pids_limit;
	int64_t pids_limit;
	bool has_blkio_weight;
	uint16_t blkio_weight;
	struct spec_blkio_list blkio_weight_device, blkio_throttle[BLKIO_THROTTLE_COUNT];
	struct spec_hugepage_limit *hugepage_limits;
	size_t n_hugepage_limits;
	bool has_net_class_id; /* v1 only, as the priorities */
	uint32_t net_class_id;
	struct spec_net_priority *net_priorities;
	size_t n_net_priorities;
	struct spec_rdma_limit *rdma;
	size_t n_rdma;
	bool has_cpu_rt_runtime, has_cpu_rt_period; /* v1 only */
	int64_t cpu_rt_runtime;
	uint64_t cpu_rt_period;
	struct spec_sysctl *unified; /* v2 file name and value */
	size_t n_unified;
	struct spec_sysctl *unit_properties; /* of the annotations org.systemd.property.NAME */
	size_t n_unit_properties;
};

struct spec_seccomp_arg {
	unsigned index;
	uint64_t value, value_two;
	int op; /* SCMP_CMP_* numbering of libseccomp */
};

struct spec_seccomp_rule {
	char **names;	 /* NULL-terminated */
	uint32_t action; /* SECCOMP_RET_* */
	struct spec_seccomp_arg *args;
	size_t n_args;
};

struct spec_seccomp {
	uint32_t default_action; /* SECCOMP_RET_* with errno */
	char **architectures;	 /* NULL-terminated, "SCMP_ARCH_X86_64" */
	unsigned long flags;	 /* SECCOMP_FILTER_FLAG_* */
	const char *listener_path, *listener_metadata;
	bool notifies; /* SCMP_ACT_NOTIFY is among the actions: listener_path is there */
	struct spec_seccomp_rule *rules;
	size_t n_rules;
};

struct spec_annotation {
	const char *name, *value;
};

struct spec_time_offset {
	bool present;
	int64_t sec;
	uint32_t nsec;
};

struct spec {
	struct arena arena;
	const char *bundle; /* absolute, resolved */
	const char *oci_version;
	const char *rootfs; /* absolute */
	bool rootfs_readonly;
	const char *rootfs_propagation_name;
	unsigned long rootfs_propagation; /* MS_*; 0: default (private/slave as runc) */
	const char *hostname, *domainname;
	struct spec_process *process; /* may be NULL: create is then an error, as the spec says of start */
	struct spec_mount *mounts;
	size_t n_mounts;
	struct spec_namespace namespaces[NS_COUNT];
	struct id_maps ids; /* of the user namespace */
	struct spec_device *devices;
	size_t n_devices;
	struct spec_time_offset time_monotonic, time_boottime; /* of the time namespace */
	bool has_personality;
	unsigned long personality;		  /* PER_* */
	struct spec_memory_policy *memory_policy; /* NULL: leave */
	struct spec_intel_rdt *intel_rdt;	  /* NULL: resctrl is not touched */
	struct spec_net_device *net_devices;
	size_t n_net_devices;
	const char *cgroups_path; /* NULL: "/<id>" or the systemd default */
	struct spec_resources resources;
	struct spec_sysctl *sysctl;
	size_t n_sysctl;
	struct spec_seccomp *seccomp;	       /* NULL: none */
	char **masked_paths, **readonly_paths; /* NULL-terminated */
	const char *mount_label;
	struct spec_hook_list hooks[HOOK_COUNT];
	struct spec_annotation *annotations;
	size_t n_annotations;
};

/* Reads bundle/config.json. Errors name the JSON path ("process.user.uid: ...") or, for broken JSON, the line and
 * column. Returns 0 and *ret (free with spec_free), or a negative errno. */
int spec_load(const char *bundle, struct spec **ret, struct error *e) _must_check_;
/* The same of a text in memory ("bundle" absolute; used by tests, fuzzing and restore). */
int spec_parse(
	const char *bundle, const char *json, size_t len, struct spec **ret, struct error *e) _must_check_;
/* A process.json for exec; lives in *ret->arena of a spec that has only .process. */
int spec_parse_process(const char *json, size_t len, struct spec **ret, struct error *e) _must_check_;
/* The resources of the update command, {"memory": {...}, ...}; a spec that has only .resources. */
int spec_parse_resources(const char *json, size_t len, struct spec **ret, struct error *e) _must_check_;
/* The array "mounts" of a config.json; a spec that has only .mounts. Sources are relative to the bundle. */
int spec_parse_mounts(
	const char *bundle, const char *json, size_t len, struct spec **ret, struct error *e) _must_check_;
void spec_free(struct spec *s);
static inline void spec_free_p(struct spec **s)
{
	spec_free(*s);
}

/* "pid", "network", ... and the CLONE_NEW* flag, by enum ns_type; the name in /proc/PID/ns. */
const char *ns_oci_name(enum ns_type t);
const char *ns_proc_name(enum ns_type t);
int ns_clone_flag(enum ns_type t);

/* Which namespace keeps a sysctl to the container; NS_COUNT: none, the value would be the host's. */
enum ns_type spec_sysctl_namespace(const char *name);

/* Whether resctrl can have a group of this name: of a container without closID it is the id. */
bool spec_rdt_name_valid(const char *name);

/* The value of an annotation, or NULL. */
const char *spec_annotation(const struct spec *s, const char *name);

/* What config.json may say, as `features` prints it. NULL: there is no i-th name of this kind. */
enum spec_names {
	SPEC_NAMESPACES,
	SPEC_SECCOMP_ACTIONS,
	SPEC_SECCOMP_OPERATORS,
	SPEC_SECCOMP_ARCHITECTURES,
	SPEC_SECCOMP_FLAGS,
	SPEC_MEMORY_POLICY_MODES,
	SPEC_MEMORY_POLICY_FLAGS,
	SPEC_MOUNT_OPTIONS,
	SPEC_CAPABILITIES,
};
const char *spec_name(enum spec_names what, size_t i);

/* The config.json that `stasis spec` prints (the content of `runc spec`), for root or for an unprivileged user (whose
 * ids the --rootless variant maps). Caller frees *ret. 0 or -ENOMEM. */
int spec_default_json(bool rootless, char **ret) _must_check_;

/* The version of the runtime-spec that we implement. */
#define OCI_VERSION "1.3.0"

/* The OCI state that hooks get on stdin and that `state` prints. */
struct oci_state {
	const char *oci_version; /* NULL: the one we implement */
	const char *id, *status, *bundle;
	pid_t pid; /* 0 when stopped */
	const struct spec_annotation *annotations;
	size_t n_annotations;
	/* What runc's `state` and `list` print besides; NULL: left out (hooks). */
	const char *rootfs, *created, *owner;
};
/* pretty: two-space indentation as `runc state` prints it, else one line. Caller frees *ret. 0 or -ENOMEM. */
int oci_state_json(const struct oci_state *state, bool pretty, char **ret) _must_check_;
/* What a seccomp agent gets with the listener's descriptor ("containerProcessState"), on one line. metadata: NULL is "". */
int oci_process_state_json(
	const struct oci_state *state, pid_t pid, const char *metadata, char **ret) _must_check_;
