/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint and restore, as every engine offers it. The CLI calls checkpoint_run() and restore_run(); they check
 * states and paths, choose the engine, run preflight and hand over.
 */
#pragma once

#include <stdio.h>

#include "base/error.h"
#include "base/progress.h"
#include "checkpoint/watchdog.h"
#include "container/container.h"
#include "image/image.h"

/* One thing that stands in the way of a faithful checkpoint. Strings in the report's arena. */
struct obstacle {
	pid_t pid;	    /* as the container sees it; 0: the container as a whole */
	int fd;		    /* -1: not about a descriptor */
	const char *kind;   /* kind of kernel object: a row name of docs/support.md ("inotify", "mapping") */
	const char *object; /* which one: "inotify fd watching 3 paths", "/dev/nvidia0" */
	const char *reason;
	const char *remedy; /* what the user can do */
};

/* Remedies that programs and the kernel see to by themselves, as a rule in a moment: an obstacle with one of them passes, and is
 * waited for. */
#define REMEDY_READ "let the program read it, then checkpoint"
#define REMEDY_EVENTS "let the program read them, then checkpoint"
#define REMEDY_POLL "let the program poll for it, then checkpoint"
#define REMEDY_RECEIVER "let the receiver read it, then checkpoint"
#define REMEDY_RECEIVE "let some be received first"
#define REMEDY_ACCEPT "let the server accept them, or use --tcp-skip-in-flight or --tcp-close (they are lost)"
#define REMEDY_CORK "let the program end UDP_CORK or MSG_MORE, then checkpoint"
#define REMEDY_LEASE "let the program give it up, then checkpoint"
#define REMEDY_VFORK "wait until it executes a program or ends"
#define REMEDY_AIO "let them end, then checkpoint"
#define REMEDY_WAIT "let that one wait for its children"
#define REMEDY_ACCEPT_IT "let the server accept it, then checkpoint"
#define REMEDY_PEER "let the peer receive it, or raise net.core.wmem_max"
#define REMEDY_AGAIN "try again"
#define REMEDY_OPENED "let the peer answer, or use --tcp-close"

struct preflight_report {
	struct arena arena;
	struct obstacle *obstacles;
	size_t n, allocated;
};
void preflight_report_done(struct preflight_report *r);
/* Adds an obstacle; object is formatted. -ENOMEM is remembered as an obstacle of its own. */
void preflight_add(struct preflight_report *r, pid_t pid, int fd, const char *kind, const char *reason,
	const char *remedy, const char *object_format, ...) _printf_(7, 8);

/* Leaves in r what the other one has, too. */
void preflight_keep_common(struct preflight_report *r, const struct preflight_report *other);

/* Whether there are obstacles, and all of them pass by themselves. */
bool preflight_is_passing(const struct preflight_report *r);

/* One error (REFUSED) for a report that is not empty: the first obstacle, and how many more there are. */
int preflight_refuse(const struct preflight_report *r, struct error *e);

/* What comes back of cgroups: soft: sub-cgroups with all that is set in them, the container's own as config.json says; full
 * (strict): also the container's own as it was; ignore: none, all processes are in the container's own. */
enum cgroups_mode { CGROUPS_SOFT, CGROUPS_FULL, CGROUPS_STRICT, CGROUPS_IGNORE };
/* NULL: soft. */
int cgroups_mode_parse(const char *name, enum cgroups_mode *ret, struct error *e) _must_check_;

enum { CHECKPOINT_PATIENCE_MS = 1000 };
enum { CHECKPOINT_MEMBERS_MAX = 64 }; /* containers at one moment */

struct clocks;
struct gate;
/* Containers that are checkpointed at one moment, as the surgeon (or preflight) of one of them knows them. */
struct commit_watch {
	int guard_fd; /* whose other end is closed when the checkpoint is cancelled */
	int (*go_on)(void *arg, struct error *e);
	void *arg;
};

struct together {
	struct gate *gate; /* where the surgeons meet (gate.h); NULL: preflight */
	struct container **containers;
	unsigned n, self;		  /* "self" is ours */
	struct clocks *clocks;		  /* of all, as they stood still: in memory that the surgeons share */
	struct progress_shares *progress; /* likewise; NULL: preflight */
	/* Makes one image of the complete ones, before any container that is to end is killed. May take long: then it asks whether to
	 * go on. */
	int (*commit)(void *arg, const struct commit_watch *w, struct error *e);
	void *arg;
	bool to_stream;	     /* which is sent by commit() */
	struct peers *peers; /* what they have (native/peers.h); preflight finds it out for itself */
};

struct checkpoint_options {
	const char *image_path; /* default "checkpoint"; "-" or "fd:N": a stream */
	const char *work_path;	/* logs; default: the image path */
	bool leave_running;
	bool tcp_established, tcp_close, tcp_skip_in_flight, ext_unix_sk, file_locks;
	const char *empty_ns; /* "network": its interfaces and routes are left out; NULL */
	const char *parent_path;
	bool pre_dump;
	bool pre_copy;		/* memory is copied in rounds before the last freeze */
	int pre_copy_rounds;	/* so many; 0: until that freeze is as short as it will get, or */
	int pre_copy_target_ms; /* as short as this; 0: a default */
	bool print_stats;
	enum progress_mode progress;
	enum cgroups_mode cgroups;
	struct image_packing packing; /* of its page data; without go_on() */
	unsigned stream_timeout;      /* seconds without a byte taken by who reads the stream; 0: no limit */
	unsigned deadline_ms;	      /* of several at one moment: until their image is complete; 0: none */
	unsigned
		patience_ms; /* what passes by itself is waited for: before anything is stopped, and after that; 0: CHECKPOINT_PATIENCE_MS */
	struct watchdog_allowance watchdog; /* only "running" */
	/* Set by checkpoint_run(): */
	struct beat *beat; /* the guard's, in memory that surgeons share */
	bool to_stream;
	int stream_fd;
	const struct together *together; /* NULL: a container alone */
};

/* Whether a restore lets the program run before its memory is there. Auto: when there is so much that it is worth it. */
enum lazy_mode { LAZY_AUTO, LAZY_NO, LAZY_YES };
/* NULL: auto. */
int lazy_mode_parse(const char *name, enum lazy_mode *ret, struct error *e) _must_check_;

/* An interface of the container, and what is at the other end of it. */
struct veth_pair {
	const char *in, *out, *bridge; /* bridge: that "out" becomes a port of; NULL: of none */
};

/* Huge pages for what is filled from end to end: AUTO: where that is faster. */
enum thp_mode { THP_AUTO, THP_YES, THP_NO };

/* Whether config.json must be the one that the container had: of a sandbox's image (sandbox/spec-check.h), of others its kinds of
 * namespaces. */
enum spec_check { SPEC_CHECK_ENFORCE, SPEC_CHECK_WARNING, SPEC_CHECK_IGNORE };
/* NULL: enforce. */
int spec_check_parse(const char *name, enum spec_check *ret, struct error *e) _must_check_;

struct meeting;

struct restore_options {
	const char *image_path, *work_path;
	int exchange_fd; /* to the other containers of a sandbox that is restored (native/exchange.h); 0: alone */
	struct container_create_options create;
	bool tcp_established, tcp_close;
	const char *empty_ns; /* as of the checkpoint */
	const struct veth_pair *veth_pairs;
	size_t n_veth_pairs;
	const char *lsm_profile; /* "apparmor:NAME" instead of config.json's; NULL */
	enum progress_mode progress;
	bool any_cpu; /* that has the registers in use; else one that has all that the image's had */
	enum cgroups_mode cgroups;
	enum lazy_mode lazy;
	enum thp_mode thp;
	enum spec_check spec_check;
	struct watchdog_allowance watchdog;
	bool ends_exec;		 /* processes that came by exec do not go on */
	struct meeting *meeting; /* meeting.h: with whom it waits before it goes on; NULL: it doesn't */
};

/* Whether an image path means a stream: 1 and its descriptor ("-": the standard one), 0: a directory. */
int checkpoint_stream_fd(const char *path, int standard, int *ret, struct error *e) _must_check_;
/* Fills *r with what stands in the way. Stops nothing, changes nothing. 0 also when there are obstacles. */
int checkpoint_preflight(struct container *c, const struct checkpoint_options *o, struct preflight_report *r,
	struct error *e) _must_check_;
/* The whole checkpoint. On failure the container runs on as before and no file is left. Obstacles: -EOPNOTSUPP with
 * ERROR_REFUSED and all of them in *r (if not NULL). The container is gone from the machine afterwards (its processes
 * are dead and it is stopped) unless leave_running. */
int checkpoint_run(struct container *c, const struct checkpoint_options *o, struct preflight_report *r,
	struct image_statistics *stats, struct error *e) _must_check_;
/* One of several that are checkpointed at one moment. */
struct checkpoint_member {
	struct container *c; /* with its name in the sandbox; locked */
	struct preflight_report report;
	struct image_statistics stats;
};
/* As checkpoint_run(), of all of them: one image (image/sandbox.h) in o->image_path, and no container stands still before all
 * do, or runs on before all have been read. When one fails all run on. *ret: of the whole; times are the longest, or the
 * wall clock's, numbers are sums. o->deadline_ms is for this only. */
int checkpoint_run_together(const char *sandbox, struct checkpoint_member *m, unsigned n,
	const struct checkpoint_options *o, struct image_statistics *ret, struct error *e) _must_check_;
/* The whole restore: creates the container from its bundle and puts the state back. *ret is the running container. On
 * failure all that was made is removed; the image stays. */
int restore_run(const struct restore_options *o, struct container **ret, struct image_statistics *stats,
	struct error *e) _must_check_;

/* Every kind of kernel object and what the native engine does with it: group, kind, "supported", "refused" or
 * "created" (made anew from config.json), and a note, separated by tabs. docs/support.md is made from it. */
void support_print(FILE *out);
