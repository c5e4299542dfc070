/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restore in progress. The parent (the stasis command) parses the image and lays out the shared area before it
 * creates the container; the stubs are forks of it, so that all of this is theirs too.
 */
#pragma once

#include <signal.h>
#include <time.h>

#include "base/arena.h"
#include "checkpoint/engine.h"
#include "checkpoint/stream.h"
#include "checkpoint/native/batch.h"
#include "checkpoint/native/homes.h"
#include "checkpoint/native/network.h"
#include "image.pb-c.h"
#include "image/image.h"
#include "linux/clocks.h"

/* At the start of the shared area, which is mapped at the same address in the parent and in every stub. */
struct restore_control {
	struct batch_control batch;
	uint32_t n_forked, n_led, n_joined, n_opened, n_fetched; /* barriers of the stubs */
	uint32_t n_ready; /* threads that are built, and wait for "armed" */
	uint32_t armed; /* set by the parent once it has seized them (or at once, if nothing asks for that) */
	uint32_t n_finished; /* threads that wait for their registers */
	uint32_t park;	     /* never changes: waiting on it never ends */
	uint32_t nobody;     /* nobody waits on it: FUTEX_WAKE_OP wakes one even if told to wake none */
	uint32_t cgroups_made, cgroups_placed; /* set by the parent, if there are Cgroup records */
	uint32_t veths_made;		       /* likewise, if any were asked for */
	uint32_t at, may;		       /* restore-wait.c: where init waits, and how far it may go */
	uint32_t clocks_set;		       /* by the parent: these are valid */
	struct timens_offset clocks;
	uint32_t n_mapped, filled;		/* restore-outside.c, if anything is filled from there */
	uint32_t failing, failed;		/* failed: error is valid */
	struct timespec time[2];		/* an argument of a call (restore-time.c) */
	uint32_t n_asked;			/* tickets (restore-home.h) */
	uint32_t n_gone_there, n_gone_seen;	/* barriers of restore-gone.c */
	int helper_fd, helper_pid, helper_root; /* of who makes a namespace (restore-nested.c) */
	struct error error;
};

/* A process that is there for a moment, with a pid of the container's, in a user namespace. */
struct restore_gone {
	int pid;
	uint64_t home;
};

/* Of a process that shares its descriptor table with one before it: it opens no more files; it needs no more of ours. Of one
 * that has made a time namespace for its children: its number in our /proc. */
struct restore_sharer {
	uint32_t in_loop, done, time_maker;
};

/* Where one process's batch lies in the area. */
struct restore_slot {
	uint64_t address, size;
	uint64_t data_size; /* at the end of it, behind the ops */
};

struct restore_shm {
	const St__SharedMemory *msg;
	uint64_t address;   /* where it is mapped in every stub, until placed */
	uint64_t read_only; /* a segment: where it is attached with SHM_RDONLY; 0: nobody has it so */
	int fd;		    /* memfd: its descriptor in init; -EBADF */
	bool given;	    /* which a process has, too */
};

/* Both directions of a pipe, until its records are opened; by the index of the pipe's first record. */
struct restore_pipe {
	uint64_t pipe;
	int read_fd, write_fd;
};

/* A pseudo terminal; the descriptors are open in the stubs until they unmap themselves. */
struct restore_pty {
	const St__Pty *msg;
	int master, slave; /* -EBADF: hung up, not opened yet */
	int foreground; /* a process group to make, in the place of one whose processes are gone; 0: none; or: */
#define RESTORE_ANY_GROUP (-1)
};
/* What a process lacks (restore-outside.h), and its pid here. */
struct restore_lack {
	uint64_t address, n;
	pid_t pid;
};
/* Who is about to load a filter with a listener (listeners.h). turn: by the parent, it may. */
struct restore_watch {
	uint32_t asked, turn;
	uint32_t loaded, sent; /* by the stub, it has; by the parent: the agent has the listener */
	int32_t listener;      /* its number in the stub, then */
	int32_t pid;	       /* as the parent sees it */
};
struct restore_unit;
struct restore_layer;
/* A namespace that the container's processes had made, and its descriptor in the stubs (-EBADF: none). */
struct restore_nested {
	const St__Namespace *msg;
	int fd;
	int root_fd; /* of a mount namespace */
};
enum { RESTORE_OWN_NAMESPACES = 8 };
/* What a stub reads at a time of an image that is arriving. */
enum { RESTORE_FEED_BYTES = 4 * IMAGE_FEED_UNIT };

struct restore {
	struct arena arena;
	struct image *image;
	struct container_config config; /* the bundle's, until create takes it */
	const char *layout; /* of this CPU's registers, if the image's were in other places; NULL */
	struct image_verification
		*verification; /* of its page data, while the stubs are at work; NULL: done */
	const struct restore_options *options;
	struct image_statistics *stats;
	struct progress progress;
	struct beat beat;
	struct watchdog watchdog;
	struct stream_feed *feed; /* its .feed is NULL: all of the image is there */
	uint64_t feed_flags;	  /* where its flags are in the area; 0: there are none */
	bool reads_once;	  /* no page of it is wanted twice */
	const St__Container *container;
	const St__File **files;
	size_t n_files;
	const St__Process **procs; /* parents before children, init first */
	size_t n_procs;
	size_t n_threads;  /* of all that live */
	uint64_t bounding; /* capabilities that any of them has in its bounding set */
	struct restore_shm *shm;
	size_t n_shm;
	const St__Tmpfs **tmpfs;
	size_t n_tmpfs;
	struct network_image net; /* of its own network namespace; .network NULL: the image has none */
	const char **labels;	  /* by process: its AppArmor profile, NULL: the runtime's */
	const St__Cgroup **cgroups;
	size_t n_cgroups;
	const St__Mount **mounts;
	size_t n_mounts;
	struct restore_nested *nested;
	size_t n_nested;
	int own_ns[RESTORE_OWN_NAMESPACES];			    /* the container's (restore-nested.c) */
	const struct restore_nested *in_ns[RESTORE_OWN_NAMESPACES]; /* where this stub is */
	struct homes homes;
	size_t n_clerk_tickets;
	struct restore_ticket *tickets; /* in the area; restore-home.h */
	struct tree_plan *tree;
	bool own_uts;	 /* the container has a host name of its own */
	bool own_net;	 /* it has a network namespace that it shares with nobody */
	bool own_user;	 /* it has a user namespace */
	bool own_ipc;	 /* it has an ipc namespace that it shares with nobody */
	uint32_t n_cpus; /* that this machine may have; 0: not known */
	bool unprivileged; /* we have power only in the container's user namespace: filters can't be suspended */
	bool may_set_sysctls, may_make_devices; /* config.json lets the container do it */
	bool clocks_later;			/* in the stubs: the container has not got its clocks yet */
	int64_t clock_start; /* what CLOCK_MONOTONIC was, here or in the stubs, when the container's time went on */
	const St__Ipc **ipc;
	size_t n_ipc;
	char *sysctls[16]; /* of the ipc namespace, to be written once its objects are there (ipc-sysctl.c) */

	struct restore_unit *units; /* see restore-share.h */
	struct restore_layer *layers;
	size_t n_units, n_layers, max_layers;
	size_t *unit_of,
		*first_vma; /* of all mappings: 1 + its unit or 0; of each process: the number of its first one */

	uint64_t area, area_len; /* the shared area */
	struct restore_control *control;
	uint64_t loop;			/* address of the batch loop in it */
	struct restore_slot *slots;	/* by process */
	struct restore_sharer *sharers; /* by process, behind the control block */
	struct restore_lack *outside;	/* by process, likewise */
	struct restore_watch *watches;	/* by process, likewise */
	size_t n_loads;			/* of filters with a listener that are yet to come */
	pid_t *traced;			/* by the parent, because of these; in the arena */
	size_t n_traced, max_traced;
	bool is_traced; /* in a stub: it is */
	bool fills_outside;
	bool huge_fill; /* see restore-thp.h */
	struct timespec
		*times; /* of each thread, in the area as well: until when it sleeps (restore-time.c) */

	/* In the stubs: */
	uint64_t here;			/* the user namespace that it has settled in; 0: the container's */
	const St__Credentials *born_as; /* with what ids; NULL: as all stubs are */
	pid_t clerk;			/* in init; 0: none */
	struct restore_pipe *pipes;	/* n_files of them, fds -EBADF */
	bool *opened;	     /* by file, while they are opened: it has been, for another container */
	pid_t *helpers;	     /* by file: stands in for a process that is gone (pidfd.c) */
	char *made_dirs[64]; /* directories that had to be there for a moment, outermost first */
	size_t n_made_dirs;
	struct restore_pty *ptys;
	size_t n_ptys;
	struct {
		size_t n;		  /* processes with such memory; 0: all is read before they run */
		bool **vmas;		  /* by process and mapping; NULL: none of its */
		uint8_t **checked_before; /* by layer, bits: chunks of page data that are read before */
		int device;		  /* /dev/userfaultfd */
		int offer, offers;	  /* a socket pair: userfaultfds of the stubs */
		int image_dir;		  /* borrowed */
		pid_t starter;		  /* to be waited for */
	} lazy;				  /* restore-lazy.h */
	int cgroup_roots
		[2]; /* a socket pair for cgroup-roots.c, if the image has some: the command's end, init's */
	int exchange_fd;		     /* ours of options->exchange_fd; -EBADF: alone */
	int console_master;		     /* of the terminal that create has made; -EBADF: none */
	int fd_base;			     /* file i of "files" is descriptor fd_base + i until placed */
	long oom_score_adj, coredump_filter; /* what they are born with */
	int root_fd;			     /* O_PATH of the container's "/" */
	int proc_fd;			     /* O_PATH of the host's /proc, to open descriptors again */
	int zero_fd;			     /* /dev/zero */
	bool has_late_files;		     /* see restore-late.c */
	struct restore_gone *gone;	     /* helpers, see restore-gone.c */
	size_t n_gone;
	int late_sockets[64][2]; /* likewise */
	size_t n_late_sockets;
	int init_pidfd; /* then */
};

/* The descriptor of a File.id in the stubs, before placing; -EBADF: unknown id. */
int restore_fd(const struct restore *r, uint64_t id);
const St__File *restore_file(const struct restore *r, uint64_t id);
const St__Process *restore_process(const struct restore *r, int pid);

/* How many share the descriptor table of p. */
size_t restore_sharers_of(const struct restore *r, const St__Process *p);

/* Moves a descriptor of our own out of the way of the container's: to be closed when they are placed. */
int restore_move_fd(const struct restore *r, int *fd) _must_check_;
/* restore-files.c: in init. First the numbers of descriptors: then restore_move_fd() can be used. */
/* cgroup-roots.c: what an image says of roots of cgroup namespaces can be made. By the command, once the cgroups are there: hands init
 * what it needs. By who makes the namespace: goes there. */
bool restore_has_cgroup_roots(const struct restore *r);
int restore_check_cgroup_roots(const struct restore *r, struct error *e) _must_check_;
int restore_send_cgroup_roots(const struct restore *r, const struct cgroup *cg, struct error *e) _must_check_;
int restore_stand_in_cgroups(const struct restore *r, const St__Namespace *m) _must_check_;
int restore_make_room(struct restore *r, struct error *e) _must_check_;
/* Likewise, when the mounts are as they were. */
int restore_open_root(struct restore *r, struct error *e) _must_check_;
int restore_open_file(struct restore *r, size_t index, struct error *e) _must_check_;
int restore_open_files(struct restore *r, struct error *e) _must_check_;
int restore_tmpfs(struct restore *r, struct error *e) _must_check_;
int restore_check_tmpfs(const struct restore *r, const struct spec *s, struct error *e) _must_check_;
/* restore-late.c: files that want all processes to exist: opened by init, then fetched by the others. */
void restore_find_late_files(struct restore *r);
bool restore_waits_for_process(const St__File *m); /* says the record alone */
bool restore_is_late(const struct restore *r, const St__File *m);
int restore_late_files(struct restore *r, bool init, struct error *e) _must_check_;
/* In init, before it forks. */
int restore_late_begin(struct restore *r, struct error *e) _must_check_;
/* restore-stub.c: a process that stands in for one that is gone, with its pid (0: any), until it ends, as that had ended. */
pid_t restore_fork_helper(pid_t pid, int status);
int restore_end_helper(pid_t pid, struct error *e) _must_check_;
/* Ends the stub; the first failure is what the restore reports. */
void restore_barrier(struct restore *r, uint32_t *counter, uint32_t total);
/* restore-gone.c: roots and working directories that are of processes which have ended. */
bool restore_is_gone(const struct restore *r, uint64_t file);
int restore_find_gone(struct restore *r, struct error *e) _must_check_;
int restore_go_where_gone(struct restore *r, const St__Process *p, struct error *e) _must_check_;
_Noreturn void restore_stub_fail(struct restore *r, const struct error *e);
/* The mount, open for reading, gets the contents. */
/* volumes.c */
int restore_volumes(struct restore *r, struct error *e) _must_check_;
int restore_tmpfs_at(struct restore *r, const St__Tmpfs *m, int fd, struct error *e) _must_check_;
/* labels.c: r->labels, if config.json allows them; in a stub: where it writes its own. */
int restore_check_labels(struct restore *r, const struct spec *s, struct error *e) _must_check_;
int restore_open_label(struct restore *r, const char *label, struct error *e) _must_check_;
/* cgroups.c: sub-cgroups, by the parent: before init opens files; when all processes exist. */
/* Sets such a word of restore_control (restore.c). */
void restore_tell(uint32_t *word);
/* Interfaces with an end outside (restore-veth.c): can what was asked for be made; make it. */
int restore_check_veths(const struct restore *r, struct error *e) _must_check_;
int restore_make_veths(struct restore *r, pid_t init_pid, struct error *e) _must_check_;
int restore_make_cgroups(struct restore *r, struct container *c, struct error *e) _must_check_;
int restore_place_cgroups(struct restore *r, struct container *c, struct error *e) _must_check_;
int restore_validate_cgroups(const struct restore *r, struct error *e) _must_check_;
int restore_check_cgroups(const struct restore *r, const struct spec *s, struct error *e) _must_check_;
/* mounts-restore.c: the tree of Mount records, in init, with the contents of its tmpfs mounts. */
int restore_mounts(struct restore *r, struct error *e) _must_check_;
/* The same in a mount namespace that the container's processes had made; *ret_root: its root, O_PATH. */
int restore_nested_mounts(struct restore *r, uint64_t ns, int *ret_root, struct error *e) _must_check_;
/* The same of one that belongs to a user namespace of theirs (mounts-owned.c), in a helper, for good; "enter": into that. Its
 * descriptors are left in r->control. */
typedef int restore_enter_t(const struct restore *r, const St__Namespace *m);
int restore_owned_mounts(
	struct restore *r, const St__Namespace *m, restore_enter_t *enter, struct error *e) _must_check_;
/* A proc of a nested pid namespace, or a part of one (mounts-late.c): mounted by the stub of the first process there, before it
 * enters its namespaces. */
bool restore_mount_is_late(const struct restore *r, const St__Mount *m);
int restore_late_mounts(struct restore *r, const St__Process *p, struct error *e) _must_check_;
bool restore_mounts_late(const struct restore *r, const St__Process *p);
bool restore_has_mounts(const struct restore *r, uint64_t ns);
/* Whether the records make sense; and whether config.json allows the container to mount. */
int restore_validate_mounts(const struct restore *r, struct error *e) _must_check_;
int restore_check_mounts(const struct restore *r, const struct spec *s, struct error *e) _must_check_;
/* In the parent, at the end: by what ids the mounts of create are found at the next checkpoint. */
int restore_remember_mounts(struct restore *r, struct container *c, struct error *e) _must_check_;
/* In each stub: descriptors to their numbers. */
int restore_place_files(struct restore *r, const St__Process *p, struct error *e) _must_check_;
/* In init, once all processes exist: who gets the signals of files. */
int restore_owners(struct restore *r, struct error *e) _must_check_;
/* locks.c: what the process takes once its descriptors are final: closing one would drop its POSIX locks. */
bool restore_lock_is_valid(const St__Process *p, const St__FileLock *l);
void restore_locks(struct restore *r, const St__Process *p, struct batch *b);
/* xattrs.c */
int restore_xattrs(St__Xattr *const *list, size_t n, int fd, const char *what, struct error *e) _must_check_;
/* Contents of an address space into fd. */
int restore_contents(struct restore *r, uint64_t space, int fd, uint64_t size, struct error *e) _must_check_;

/* restore.c: everything that the parent does with r->image before the container exists. */
int restore_plan(struct restore *r, struct error *e) _must_check_;
/* restore-build.c: whether a POSIX timer may be made with an id of our choice. */
bool restore_kernel_gives_timer_ids(void);
/* How many POSIX timers have to be made and deleted to come to the ids of p's. 0 on newer kernels. */
size_t restore_skipped_timer_ids(const St__Process *p);

/* Exit signals that come back: 0 (none) or a standard one, but those that nobody can hold back. */
static inline bool process_exit_signal_is_kept(int signal)
{
	return signal >= 0 && signal < 32 && signal != SIGKILL && signal != SIGSTOP;
}

/* The extended registers of a thread as this CPU has them; borrowed. REFUSED if it lacks some that are in use. */
int restore_xstate(struct restore *r, const St__Thread *t, const void **ret, size_t *ret_len,
	struct error *e) _must_check_;
/* restore-validate.c: what later code relies on. */
int restore_validate(const struct restore *r, struct error *e) _must_check_;
/* restore-area.c: in the parent, before the container exists. */
int restore_lay_out(struct restore *r, struct error *e) _must_check_;
/* In an ordinary user's namespace groups can't be set, and what he is in his processes stay in. */
bool restore_has_groups(const uint32_t *groups, size_t n);
/* restore-build.c: in each stub; the ops of a process, then runs them. Does not return on success. */
int restore_build(struct restore *r, size_t index, struct error *e) _must_check_;
/* restore-stub.c: entry in init (container_create_options.restore_init). */
int restore_init(void *arg, struct error *e);
/* restore-wait.c: a restore that does not go on at once. In init, at such a point: */
enum restore_point {
	RESTORE_EMPTY = 1, /* nothing has been put back yet */
	RESTORE_FILES,	   /* files are open; then come the clocks, and what goes by them */
};
int restore_wait_at(struct restore *r, enum restore_point point, struct error *e) _must_check_;
/* In the parent, once the container is created: until it may go on. */
int restore_wait(struct restore *r, struct container *c, struct error *e) _must_check_;
/* restore.c: offsets that make the container's clocks go on from the checkpoint, and "ahead" ns after it. */
void restore_set_clocks(struct restore *r, const struct clocks *now, int64_t ahead, struct timens_offset *t);
/* restore-finish.c: until *word has reached n; fails when a stub does, or when nothing has changed for too long. */
int restore_wait_for_stubs(
	struct restore *r, struct container *c, uint32_t *word, uint32_t n, struct error *e) _must_check_;
/* restore-finish.c: in the parent: waits for the stubs, sets registers, lets go. */
int restore_coordinate(struct restore *r, struct container *c, struct error *e) _must_check_;

/* connections.c: TCP connections. Refuses an image that has some without an option that says what to do; */
int restore_check_network(const struct restore *r, const struct spec *s, struct error *e) _must_check_;
/* holds their packets back in a network namespace (nothing to do if there are none); */
uint64_t restore_now_us(void);
int restore_lock_network(const struct restore *r, int netns_fd, struct error *e) _must_check_;
/* lets go: each is held by a process of that pid on the host, descriptor fd. Just before the tasks run on. */
struct restore_connection {
	const St__File *file;
	pid_t pid;
	int fd;
};
int restore_release_network(const struct restore *r, struct restore_connection *all, size_t n, pid_t init_pid,
	struct error *e) _must_check_;
/* Whether it is a memfd that gets its seals when all have mapped it. */
bool restore_seals_late(const St__File *f);
/* Is this one of them? */
bool restore_is_connection(const struct restore *r, const St__File *f);

/* The image is in a directory, or comes by a feed. */
int native_restore(const struct restore_options *o, int image_dir, struct stream_feed *feed,
	struct container **ret, struct image_statistics *stats, struct error *e) _must_check_;
