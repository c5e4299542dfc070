/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint in progress. dump_collect() looks at every process of the container through /proc; it is run once
 * before the freeze (preflight: obstacles are listed, nothing is stopped) and once within it. What it finds becomes the
 * messages of proto/image.proto, which live in the arena.
 */
#pragma once

#include <linux/filter.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "base/arena.h"
#include "base/crew.h"
#include "base/progress.h"
#include "checkpoint/engine.h"
#include "checkpoint/native/batch.h"
#include "checkpoint/native/nftables.h"
#include "checkpoint/native/queues.h"
#include "checkpoint/native/task.h"
#include "image.pb-c.h"
#include "image/image.h"
#include "linux/procfs.h"
#include "linux/tty-data.h"
#include "linux/vma-flags.h"

struct dump_thread {
	struct task task;
	pid_t tid, ns_tid, own_tid; /* as of dump_proc */
	struct proc_status status;
	pid_t *children;
	size_t n_children;
	St__Thread *msg;
	uint64_t ops, frame; /* where its batch lies in the task */
	uint64_t patience;   /* and how long it waits for the guard */
	size_t n_ops;
	int64_t wait_end; /* when its call's time is over, by our CLOCK_MONOTONIC; 0: it does not wait for a time */
};

/* What one of the links of /proc/PID says and leads to. */
struct dump_link {
	const char *text;
	struct stat st;
};

struct dump_proc {
	pid_t pid, ns_pid; /* on the host, in the container */
	pid_t own_pid; /* as it sees itself: in a pid namespace of the container's own another than ns_pid */
	pid_t shown; /* the thread of which /proc/TID shows what the process has: its leader, or another if that has ended */
	int pidfd; /* -EBADF: not needed yet */
	bool zombie;
	bool by_exec;	/* of an exec session, or begun by one (exec-sessions.c) */
	bool shares_fs; /* with another process */
	bool by_proc;	/* its descriptors are looked at in /proc/PID (view.c) */
	struct proc_stat stat;
	struct proc_status status;
	struct dump_thread *threads;	  /* those that live, leader first */
	struct dump_thread *ended_leader; /* NULL: it lives, or the process is a zombie */
	size_t n_threads;
	pid_t *children; /* of all threads */
	size_t n_children;
	struct proc_vma *vmas;
	size_t n_vmas;
	bool sizes_unknown;		/* what they say of pages that are there is a limit only */
	const struct track_mm *watched; /* its memory (track.h); NULL: it is not */
	unsigned other_namespaces;	/* bit n: not that of init (collect.c) */
	const char *
		split_namespace; /* the kind of which one of its threads has another than the process; NULL: none */
	struct dump_link exe, cwd, root;
	uint64_t listener; /* File.id: of a seccomp filter that all of its threads have; 0: none */
	struct proc_posix_timer *timers; /* from here on only when stopped */
	size_t n_timers;
	struct timespec timers_read_at; /* the container's CLOCK_MONOTONIC then */
	long oom_score_adj, coredump_filter, loginuid, autogroup_nice;
	void *auxv;
	size_t auxv_len;
	St__Process *msg;
	uint64_t
		syscall_insn; /* address of a syscall instruction in it; 0: not looked for yet, or there is none */
	uint64_t area, area_len; /* what we mapped into it; 0: nothing */
	size_t area_head;	 /* what of it is the loop's, and never written by the task */
	bool *late; /* of each of vmas: copied while the program runs on, from the snapshot; NULL: none (snapshot.c) */
	struct snapshot *snapshot;
};

/* An open file description (or a mapped file without one) and one descriptor by which it can be reached. */
struct dump_file {
	uint64_t id;
	struct dump_proc *proc;
	int fd;		     /* in proc; -1: not a descriptor */
	const char *by_name; /* then: "exe", "cwd", "map_files/A-B" below /proc/PID */
	int local;	     /* our duplicate, by pidfd_getfd; -EBADF: not needed (yet) */
	struct stat st;
	const char *link;			/* what /proc/PID/fd/N points to */
	St__PressureTrigger *trigger;		/* of a file for pressure; NULL: none */
	struct seccomp_listener_seen *listener; /* what it listens to (listeners.c); NULL: nothing */
	const char *other_name;	 /* of a file that has been deleted under the name of the link (regular.c) */
	const char *protocol;	 /* of a socket: "UNIX-STREAM"; NULL: it is none */
	struct proc_fdinfo info; /* without O_CLOEXEC: ask.c asks for that */
	uint64_t
		mnt_ns; /* Namespace.id of the mount namespace in which it has its path; 0: the container's */
	const struct resource *resource;
	St__File *msg;
	St__Socket *queued; /* of a unix socket with descriptors in its queue: that, already copied */
};

/* A descriptor table that one thread has for itself. "as": its process as the thread shows it, with descriptors of its own. */
struct dump_table {
	struct dump_proc as;
	struct dump_table *next;
};

/* A seccomp filter (where the kernel has it) that the agent outside listens to, and what stands for its listener. */
struct dump_agents {
	uint64_t filter, id;
	struct dump_agents *next;
};

/* Where a thread slept before the freeze (waits.c). */
struct dump_wait {
	pid_t tid;
	long nr;
	uint64_t args[7];  /* and the stack pointer */
	const char *stack; /* in restart_syscall; "": it could not be read */
	bool was_earlier;  /* that was seen, and it is not asleep just now */
};

/* A file lock, and a descriptor of who holds it (locks.c). */
struct dump_lock {
	struct dump_proc *proc;
	int fd;
	uint64_t file;
	struct proc_lock lock;
};

enum { DUMP_NAMESPACES = 10, DUMP_TASKS_AT_ONCE = 8 /* threads, for one helper */ };

struct dump {
	struct arena arena;
	struct arena helper_arenas[CREW_HELPERS];
	struct crew *crew; /* reads /proc ahead, and copies pages */
	size_t fd_room;	   /* so many descriptors our table has room for */
	struct container *c;
	const struct checkpoint_options *options;
	struct preflight_report *report;
	struct image_writer *writer; /* NULL in preflight */
	struct page_job *pages;	     /* who shares the writer (pages.c) */
	struct vma_flags *vma_flags; /* of large processes; NULL: smaps tells */
	struct snapshots *snapshots; /* NULL: memory is copied while the tasks are stopped */
	struct track *track;	     /* whose writing is watched (track.h); NULL: nobody's */
	struct dump_stream *stream;  /* the writer's is one; NULL: it writes into a directory */
	bool stopped;		     /* the tasks are stopped: dump for real */
	bool unprivileged; /* an ordinary user's: we are in its user namespace, and have power only there */
	struct sock_fprog kept_filter; /* then: the one that its processes have loaded, if any (filters.c) */
	struct stopped_task *unfrozen; /* stop-unfrozen.c */
	struct dump_proc *procs;       /* parents before children, init first */
	size_t n_procs;
	struct dump_table *tables;
	struct dump_file *files;
	size_t n_files, max_files;
	struct file_index *file_index;
	struct mapped_index *mapped; /* files by what maps tells of them (mappings.c) */
	struct dump_view *views;     /* how each worker looks at descriptors (view.c) */
	struct dump_parent {
		int fd;
		int root;
		const char *path;
	} parent;	  /* see dump_path_is() */
	int pipe_copy[2]; /* see pipe.c */
	char *message;	  /* room for one, see socket.c */
	St__SharedMemory **shm;
	uint64_t *shm_inode; /* SYSV_INODE(): of a segment */
	size_t n_shm, max_shm;
	St__Tmpfs **tmpfs;
	size_t n_tmpfs;
	St__Network *network; /* of the container's own network namespace; NULL: it has none */
	struct nft_tables packet_tables;
	St__Ipc **ipc;
	size_t n_ipc, max_ipc;
	bool has_members;	      /* processes share memory */
	bool ipc_is_used, has_queues; /* there is something to record in the ipc namespace; POSIX queues */
	int mqueue_folder;	      /* all queues of the namespace; -EBADF: not opened yet */
	uint64_t next_id;	      /* File, SharedMemory and address space ids */
	struct id_maps ids;	      /* of the container's user namespace, which may be the host's */
	struct proc_mount *mounts;    /* of init */
	size_t n_mounts;
	int64_t frozen_at;    /* CLOCK_MONOTONIC, in nanoseconds */
	int64_t clock_offset; /* of the container's CLOCK_MONOTONIC, likewise */
	St__Cgroup **cgroups; /* its sub-cgroups (cgroups.c) */
	size_t n_cgroups;
	St__Mount **mount_msgs; /* all of them, if the container has changed any (mounts-dump.c) */
	size_t n_mount_msgs;
	struct dump_tmpfs_view {
		uint32_t mount;			  /* Mount.id */
		const struct proc_mount *view;	  /* shows all of it, */
		const struct dump_nested *nested; /* in that namespace; NULL: the container's */
		bool covered;			  /* by others */
	} * contents;				  /* of tmpfs mounts, if there are Mount records */
	size_t n_contents;
	struct dump_wait *waits;
	size_t n_waits;
	struct {
		size_t pids, tids, fds;
	} likely; /* how many there will be, counted before the freeze */
	int usual_buffers
		[2]; /* SO_SNDBUF, SO_RCVBUF of a new unix socket; 0: not asked yet (res/socket-options.c) */
	struct dump_lock *locks;
	size_t n_locks, max_locks;
	char namespaces[DUMP_NAMESPACES][64]; /* of init */
	int root_fd;			      /* the container's "/", O_PATH */
	struct dump_proc *self;		      /* us, who have what is on its way (dump_own_file()) */
	bool is_prepared;		      /* dump_prepare_look(): the next two are there */
	int cgroup_dirs[CGROUP_MAX_DIRS];
	const char *own_label;		 /* of us, as dump_read_label() says it */
	struct unix_cache *unix_cache;	 /* what socket-unix.c looks up often */
	struct unix_makers *unix_makers; /* socket-unix-makers.c */
	struct dump_pty *ptys;		 /* res/tty.c */
	size_t n_ptys;
	int holds_packets;		 /* 1, -1: whether it can; 0: not asked yet (socket-inet.c) */
	struct tcp_unowned *unowned;	 /* of the container's network namespace (socket-inet.c) */
	struct multicast_groups *groups; /* of the container's network namespace (res/socket-multicast.c) */
	struct bpf_row *udp_errors; /* of the sockets of that network namespace (res/socket-udp-error.c) */
	size_t n_udp_errors;
	ino_t udp_errors_namespace;
	bool has_unix_backlogs, has_socket_errors, has_pressure_triggers, has_mq_notify, has_aio, has_dnotify,
		has_listeners, has_permissions; /* the image has */
	struct dump_agents *agents;		/* listeners-dump.c */
	bool may_notify;			/* a seccomp filter may ask a listener */
	struct bpf_users *bpf_users;		/* of all maps of the machine; NULL until asked for */
	size_t n_bpf_users;
	struct sockdiag *sockets; /* of the container's network namespace; NULL until asked for */
	St__Container *container;
	struct dump_nested *nested; /* namespaces made by the container's processes (nested.c) */
	size_t n_nested, max_nested;
	int may_make_userns;		 /* a process of the container: 1, -1: no; 0: not asked yet */
	size_t pid_level;		 /* of the container's pid namespace, in proc_status.ns_pid */
	struct task_call *calls;	 /* one for each process (ask.c) */
	struct peers *peers;		 /* what the containers of the sandbox have (peers.h); NULL: alone */
	struct peers_index *peers_index; /* of the others */
	int ipc_role;			 /* enum ipc_role of res/ipc.h */
	int pids_role;			 /* enum pids_role of shared-pids.h; then: */
	pid_t reaper;		/* the first process of the pid namespace, if it is in another container; 0 */
	unsigned reaper_member; /* that container */
	struct pids_other *others; /* processes of all others there; NULL: not read yet */
	size_t n_others;
	bool looks_again; /* preflight: not for the first time */
	bool shares;	  /* the image has objects that are in several containers */
	int guard_fd;	  /* see dump_guard_is_alive() */
	struct dump_journal *journal;
	struct image_statistics *stats;
	const int *packing_guard; /* asked while page data is packed */
	struct progress
		progress; /* while pages are copied under the lock of d->pages, else the main thread's */
};

/* A TCP socket that was put into repair mode (res/socket-tcp.c). */
struct dump_tcp {
	pid_t pid;
	int fd;
	ino_t ino; /* by which it is known again */
	int reuse; /* its SO_REUSEADDR */
};

enum { DUMP_TCP_MAX = 16384, DUMP_DISPATCHED_MAX = 1024, DUMP_SLEEPERS_MAX = 16384, DUMP_SNAPSHOTS_MAX = 64 };

/* Syscall user dispatch, as struct ptrace_sud_config of Linux 6.4. */
struct state_dispatch {
	uint64_t mode, selector, offset, len;
};

/* A pseudo terminal whose data is out of it just now: descriptors by which the guard reaches it. */
struct dump_tty_journal {
	bool taken;
	pid_t pid, master_pid; /* 0: none */
	int fd, master_fd;
	struct tty_data data;
};

/* A process whose limits of memory are raised for a moment (limits.c). */
struct dump_raised {
	pid_t pid; /* 0: none */
	struct rlimit limits[3];
};

/* What the guard needs to undo if the surgeon dies: in shared memory. */
struct dump_journal {
	struct dump_queue_journal *queue; /* in shared memory, too (queues.h) */
	struct dump_tty_journal tty;
	bool paused; /* the user had paused it: it must be frozen again */
	bool frozen; /* the freezer was written */
	struct task_notes calls;
	struct dump_raised raised;
	unsigned n;
	struct {
		pid_t pid;
		uint64_t area, len, syscall_insn;
	} mapped[4096];
	unsigned n_watching;
	struct {
		pid_t pid;
		uint64_t syscall_insn;
	} watching[4096];      /* which may have a userfaultfd of ours (track.c) */
	uint64_t network_lock; /* of packets, in the network namespace of init; 0: none */
	unsigned n_tcp;
	struct dump_tcp tcp[DUMP_TCP_MAX];
	unsigned n_dispatched;
	struct dump_dispatched {
		pid_t tid;
		struct state_dispatch dispatch;
	} dispatched[DUMP_DISPATCHED_MAX]; /* whose calls go to the kernel for the time being (states.c) */
	unsigned n_asleep;
	struct dump_asleep {
		pid_t tid;
		uint64_t sigmask;    /* its own */
	} asleep[DUMP_SLEEPERS_MAX]; /* who sleeps with all signals blocked (waits.c) */
	unsigned n_forking;
	struct dump_forking {
		pid_t pid;
		uint64_t syscall_insn;
		uint64_t since;	       /* clock ticks since boot */
	} forking[DUMP_SNAPSHOTS_MAX]; /* who may have a child of ours, dead or dying (snapshot.c) */
};

/* The members that are not zero to begin with. */
#define DUMP_INIT                                                                                            \
	.guard_fd = -EBADF, .mqueue_folder = -EBADF, .root_fd = -EBADF, .parent = {-EBADF},                  \
	.pipe_copy = {-EBADF, -EBADF}
/* For one call of it (pid: as /proc shows it); then what they were. */
int dump_raise_limits(struct dump_raised *j, pid_t pid) _must_check_;
void dump_lower_limits(struct dump_raised *j);
void dump_done(struct dump *d);
static inline uint64_t dump_new_id(struct dump *d)
{
	return ++d->next_id;
}

/* Adds an obstacle about a process; the caller goes on. */
#define dump_refuse(d, p, fd, kind, reason, remedy, ...)                                                     \
	preflight_add((d)->report, (p) ? (p)->ns_pid : 0, fd, kind, reason, remedy, __VA_ARGS__)

/* The same about what no process of the container has. One that has come meanwhile may have it: then it is for later, when all stand
 * still. */
#define dump_refuse_outside(d, ...)                                                                          \
	do {                                                                                                 \
		if (!dump_has_changed(d))                                                                    \
			dump_refuse(d, __VA_ARGS__);                                                         \
	} while (0)

/* What to do about another end that the container does not have. */
static inline const char *dump_outside_remedy(const struct dump *d, const char *remedy)
{
	return d->c->sandbox && !d->options->together ? "checkpoint all containers of its sandbox together "
							"(--sandbox), if one of them has it, "
							"or close it"
						      : remedy;
}

/* ids.c: by dump_collect(), then ids as the container sees them. */
int dump_read_ids(struct dump *d, struct error *e) _must_check_;
uint32_t dump_uid(const struct dump *d, uint32_t uid);
uint32_t dump_gid(const struct dump *d, uint32_t gid);
/* What the kernel shows as the host's id to everybody (options of mounts). */
uint32_t dump_host_uid(const struct dump *d, uint32_t uid);
uint32_t dump_host_gid(const struct dump *d, uint32_t gid);

/* Lists the processes and threads (collect.c). */
int dump_find_processes(struct dump *d, struct error *e) _must_check_;
/* Whether others have come since, or some of these have ended (preflight). */
bool dump_has_changed(struct dump *d);
/* A process whose leader thread has ended while others run: whether that is an obstacle. */
bool dump_leader_is_needed(struct dump *d, struct dump_proc *p);
/* exec-sessions.c: marks them; obstacles of one process; a terminal that hangs up, for the image only. */
void dump_find_exec_sessions(struct dump *d);
/* Who is to be the parent of one whose own is not in the container. */
const struct dump_proc *dump_parent_of_exec(const struct dump *d, const struct dump_proc *p);
void dump_check_exec_session(struct dump *d, const struct dump_proc *p);
int dump_hang_up(struct dump *d, struct dump_proc *p, struct error *e) _must_check_;
/* Processes that an ordinary user may not look at, although they are in his namespace: obstacles. */
#define HIDDEN_REASON                                                                                        \
	"it is not dumpable, and has been restored: its memory was made outside of the container's user "    \
	"namespace, so only root may look at it"
bool dump_refuse_hidden(struct dump *d);
/* Everything that /proc says, with obstacles (collect.c, mappings.c, files.c). */
int dump_collect(struct dump *d, struct error *e) _must_check_;

/* Whether the tree could be made again (tree-dump.c): obstacles. */
int dump_check_tree(struct dump *d, struct error *e) _must_check_;
/* As a status shows them, in the container's ids; NULL: no memory. */
St__Credentials *dump_credentials(struct dump *d, const struct proc_status *s);

/* Processes that share what others have for themselves (sharing.c). */
int dump_sharing(struct dump *d, struct error *e) _must_check_;
static inline bool dump_has_thread(const struct dump_proc *p, pid_t tid)
{
	for (size_t i = 0; i < p->n_threads; i++)
		if (p->threads[i].tid == tid)
			return true;
	return false;
}
/* It shares the memory of a process before it, by whose batch it is made. */
static inline bool dump_is_member(const struct dump_proc *p)
{
	return p->msg && p->msg->memory_with;
}
/* Who waits in vfork for a child: this thread, anyone. */
bool dump_waits_in_vfork(pid_t pid, pid_t tid, bool frozen);
bool dump_anyone_in_vfork(struct dump *d);
int dump_refuse_vfork(struct dump *d, struct error *e) _must_check_; /* 0: nobody does any more */

/* Before the freeze: where threads sleep. Then: puts the number of a call that goes by restart_syscall into orig_rax, or
 * refuses. */
int dump_remember_waits(struct dump *d, struct error *e) _must_check_;
int dump_back_into_call(struct task *t, struct error *e) _must_check_;
int dump_interrupted_call(struct dump *d, const struct dump_thread *t, struct user_regs_struct *regs,
	struct error *e) _must_check_;

/* When the threads are stopped and known: until when those that sleep would have slept. */
int dump_measure_waits(struct dump *d, struct error *e) _must_check_;

/* Freeze, seize, interrupt, thaw (stop.c). dump_resume puts the tasks back; safe on half-stopped ones. */
int dump_stop(struct dump *d, struct error *e) _must_check_;
int dump_resume(struct dump *d, struct error *e);
int dump_kill(struct dump *d, struct error *e) _must_check_;

/* Makes the registers of a stopped task those before its call, if that was one that a mere stop interrupts. */
bool dump_hide_interruption(struct task *t, const struct proc_status *status);
/* For the guard (cure.c): stops a task of a container that runs on already, to let it go again with task_detach(); puts tasks back that were
 * in a call of ours, and notes in the journal what these came to; unmaps what was mapped. */
int dump_stop_leftover(struct task *t, pid_t tid, struct arena *a) _must_check_;
void dump_cure(struct dump_journal *j);
/* Instead of the freezer, where there is none (stop-unfrozen.c): stops all tasks but who waits in vfork; are those that
 * dump_find_processes() has found since all stopped; makes them the stopped ones; lets go what has not been made so. */
int dump_stop_unfrozen(struct dump *d, struct error *e) _must_check_;
bool dump_all_stopped(const struct dump *d);
int dump_adopt_unfrozen(struct dump *d, struct error *e) _must_check_;
void dump_release_unfrozen(struct dump *d);

/* What only the tasks themselves can say (ask.c). */
int dump_ask(struct dump *d, struct error *e) _must_check_;
/* Where in the process a syscall instruction is, and where its first thread waits if we die in a call of ours. */
void dump_find_code(struct dump_proc *p);
/* After dump_ask(): signals that wait, with the moment for which times are recorded (signals.c). */
int dump_signals(struct dump *d, struct error *e) _must_check_;
/* The end of a batch in one of its threads: a signal by which we stop it (and if we are dead). */
void dump_end_batch(struct batch *b, const struct dump_proc *p, const struct dump_thread *t);
/* Takes away what dump_ask() mapped. */
int dump_unmap(struct dump *d, struct error *e);

/* What /proc says of one process (look.c): no obstacle is noted and nothing else is touched, so that helpers can do it.
 * First who it is, then, "item" being its index in d->procs, the rest. 1: it is gone. */
int dump_look_first(
	struct dump *d, pid_t pid, struct dump_proc *p, struct arena *a, struct error *e) _must_check_;
int dump_look(void *d, size_t item, unsigned worker, struct error *e) _must_check_;
/* Before the freeze: what makes looking at much memory quick. */
void dump_prepare_look(struct dump *d);
/* Of a process with many threads the first look finds their ids only: some at a time are looked at then, and at last put
 * together. 1: all are gone. */
static inline bool dump_has_many_threads(const struct dump_proc *p)
{
	return p->n_threads > 8;
}
int dump_look_threads(
	struct dump_proc *p, size_t from, size_t to, struct arena *a, struct error *e) _must_check_;
int dump_gather_threads(struct dump_proc *p, struct arena *a, struct error *e) _must_check_;
/* Namespaces that all of them must share with init. */
extern const char *const dump_namespaces[DUMP_NAMESPACES];
/* Helpers, if there is work for them; n_fds: descriptors that we shall have open at once. Between two jobs. */
int dump_hire(struct dump *d, size_t n_procs, size_t n_fds, struct error *e) _must_check_;
static inline struct arena *dump_arena(struct dump *d, unsigned worker)
{
	return worker ? &d->helper_arenas[worker - 1] : &d->arena;
}
/* Mappings to Vma messages (mappings.c). */
int dump_mappings(struct dump *d, struct dump_proc *p, struct error *e) _must_check_;
/* Page contents (pages.c). Prepare before the freeze; once all mappings are known helpers begin to copy, and finish sees to
 * it that all is copied but what is held by snapshots: that is for late, when the tasks run again. An error in between:
 * crew_drop(). */
int dump_pages_prepare(struct dump *d, struct error *e) _must_check_;
int dump_pages_start(struct dump *d, struct error *e) _must_check_;
int dump_pages_finish(struct dump *d, struct error *e) _must_check_;
void dump_pages_done(struct dump *d);
int dump_pages_late(struct dump *d, struct error *e) _must_check_;
/* Some of an address space, by whoever: goes into the image. */
int dump_write_pages(struct dump *d, uint64_t space, uint64_t address, const void *data, size_t n_pages,
	struct error *e) _must_check_;
/* Contents of a file (from fd, its holes left out) as address space "space". */
int dump_contents(struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e) _must_check_;

/* The descriptors of all processes (descriptors.c). */
int dump_descriptors(struct dump *d, struct error *e) _must_check_;
/* The message of one that was seen (files.c): finds or makes its File. Takes seen->local over. */
int dump_descriptor(struct dump *d, struct dump_file *seen, St__Descriptor *m, struct error *e) _must_check_;
/* A file that is held otherwise: "cwd", "root", "exe", "map_files/A-B" of /proc/PID; flags as for open. */
int dump_file_by_link(struct dump *d, struct dump_proc *p, const char *name, unsigned flags, uint64_t *ret_id,
	struct error *e) _must_check_;
/* In two steps: what the link says (-ENOENT: the process has ended), and the file of it. */
int dump_look_link(
	pid_t pid, const char *name, struct arena *a, struct dump_link *ret, struct error *e) _must_check_;
int dump_file_by_looked(struct dump *d, struct dump_proc *p, const char *name, unsigned flags,
	const struct dump_link *link, uint64_t *ret_id, struct error *e) _must_check_;
/* The file of a descriptor of ours, which came out of a queue: takes it over. */
int dump_own_file(struct dump *d, int fd, uint64_t *ret_id, struct error *e) _must_check_;
/* What is in the queues of unix sockets and nowhere else becomes known (res/socket-unix.c). When stopped. */
int dump_in_flight(struct dump *d, struct error *e) _must_check_;
/* Looks at a descriptor, as helpers do too: st, link, protocol and info; keep: perhaps also local. 1: it has been closed. */
int dump_view_fd(struct dump *d, struct dump_proc *p, int fd, bool keep, unsigned worker,
	struct dump_file *ret, struct error *e) _must_check_;
/* Before the first one: chooses the way. */
int dump_view_begin(struct dump *d, struct error *e) _must_check_;
/* Lets go of the last one. */
void dump_view_end(struct dump *d);
/* Obstacles among the files. */
int dump_check_files(struct dump *d, struct error *e) _must_check_;
/* All File records, completed: what can only be said when all descriptors are known. */
int dump_files(struct dump *d, struct error *e) _must_check_;
/* Is "path", as the file f has it (NULL: in the container), still this inode? */
bool dump_path_is(struct dump *d, const struct dump_file *f, const char *path, const struct stat *st);
/* A pidfd, also of a thread; -1. */
int dump_open_pidfd(pid_t tid) _must_check_;
/* The process's pidfd, opened when first needed; or a negative errno. */
int dump_pidfd(struct dump_proc *p) _must_check_;
/* Our own descriptor of one that a process has, or a negative errno. */
int dump_duplicate(const struct dump_file *f) _must_check_;
/* The file with that id; NULL: none. */
struct dump_file *dump_file_by_id(struct dump *d, uint64_t id);
/* The files with the inode of f, f among them, one after another; after NULL: the first. NULL: no more. */
struct dump_file *dump_same_inode(
	const struct dump *d, const struct dump_file *f, const struct dump_file *after);

/* The path in the container of what a watch is on, or of a file that has been deleted under the name we know; costly. NULL: none
 * was found (find-inode.c). */
const char *dump_find_marked(struct dump *d, const struct proc_mark *m, struct stat *ret_st);
const char *dump_find_name(struct dump *d, int mnt_id, const char *near, const struct stat *st);

/* Extended attributes of an open file (xattrs.c); "ret" and "ret_n" stay as they are if there are none. */
int dump_xattrs(struct arena *a, int fd, const char *what, St__Xattr ***ret, size_t *ret_n,
	struct error *e) _must_check_;

/* Locks that a descriptor shows; obstacles among all of them; into the messages of the processes (locks.c). */
int dump_note_locks(struct dump *d, struct dump_proc *p, const St__Descriptor *m,
	const struct proc_fdinfo *info, struct error *e) _must_check_;
void dump_check_locks(struct dump *d);
int dump_locks(struct dump *d, struct error *e) _must_check_;

/* For those who may not follow the links of map_files (map-files.c). *ret_id 0: refused (noted). */
int dump_mapped_file(struct dump *d, struct dump_proc *p, const struct proc_vma *v, unsigned flags,
	uint64_t *ret_id, struct error *e) _must_check_;
int dump_mapped_object(
	struct dump *d, const struct proc_vma *v, uint64_t *ret_id, struct error *e) _must_check_;

/* Shared anonymous memory by inode (mappings.c): finds or adds. "fd" gives its contents. */
int dump_shm(struct dump *d, uint64_t inode, uint64_t size, bool memfd, int fd, uint64_t *ret_id,
	struct error *e) _must_check_;
/* The same of memory whose contents another container's image has. */
int dump_shm_elsewhere(struct dump *d, uint64_t inode, uint64_t size, bool memfd, int fd, uint64_t *ret_id,
	struct error *e) _must_check_;

/* A namespace that is not the container's. */
struct dump_nested {
	int fd;
	ino_t inode;
	St__Namespace *msg;
	struct id_maps maps; /* of a user namespace, to the host's ids */
	pid_t pid;	     /* of a mount namespace: a process in it, its mounts, its root */
	struct proc_mount *mounts;
	size_t n_mounts;
	bool *locked; /* by mount, if it belongs to a user namespace of the container's; else NULL */
	struct id_maps owner_maps; /* likewise: of that user namespace */
	int root_fd;
	int mqueue_folder;    /* of an ipc namespace: all its queues; -EBADF: there are none on this kernel */
	bool ipc_is_used;     /* there is something in it, or something leads to it */
	St__Sysctl **sysctls; /* that are not as in a new one */
	size_t n_sysctls;
};
/* mounts-locked.c: n->locked. 1: this cannot be found out. */
int dump_find_locked_mounts(struct dump *d, struct dump_nested *n, int user, struct error *e) _must_check_;
/* The mount namespace of a mount's id: 0 the container's, or Namespace.id; false: of neither. */
bool dump_mount_namespace(const struct dump *d, int mnt_id, uint64_t *ret);
uint64_t dump_mount_namespace_of(const struct dump *d, const struct dump_proc *p);
struct dump_nested *dump_nested_by_id(struct dump *d, uint64_t id);
/* In a child that has all that we have, until it returns: for what it may change of itself, its namespaces above all. */
void dump_in_child(int (*f)(void *arg), void *arg);
/* The one of that kind (CLONE_NEW*) that it is in: Namespace.id, 0: the container's. */
uint64_t dump_namespace_of(const struct dump *d, const struct dump_proc *p, uint32_t type);
/* The network namespace of a socket: Namespace.id, 0: the container's. 1: of neither. */
int dump_net_namespace(const struct dump *d, int socket, uint64_t *ret);
/* Its descriptor; -EBADF: the container's. */
int dump_net_namespace_fd(const struct dump *d, uint64_t id);
bool dump_has_nested(const struct dump *d, uint32_t type);
/* Where the path of a file (NULL: any) begins. */
int dump_root_of(const struct dump *d, const struct dump_file *f);
/* The namespaces of a process that has others than init (nested.c): to its record, or obstacles. */
int dump_nested_namespaces(struct dump *d, struct dump_proc *p, struct error *e) _must_check_;
/* One in which no process is (user, uts, ipc, net, cgroup): its record, or obstacles, which name p. */
int dump_add_held(struct dump *d, struct dump_proc *p, uint32_t type, int fd, struct error *e) _must_check_;
/* nested-held.c: those that mounts hold, before descriptors are looked at; those that descriptors hold, when they are known. */
int dump_mounted_namespaces(struct dump *d, struct error *e) _must_check_;
int dump_open_namespaces(struct dump *d, struct error *e) _must_check_;
/* "net:[4026531840]", as links and the roots of mounts have it. */
struct dump_ns_name {
	const char *kind; /* "net" */
	uint32_t type;	  /* CLONE_NEW* */
	ino_t inode;
};
bool dump_parse_namespace(const char *text, struct dump_ns_name *ret);
/* Why such a namespace, of which there is no record, cannot be one of the container's; NULL: nothing is known against it. */
const char *dump_why_not_held(struct dump *d, const struct dump_ns_name *name);
/* The record of it; NULL: none. */
const struct dump_nested *dump_nested_by_name(const struct dump *d, const struct dump_ns_name *name);
/* Is it one that the container itself is in? */
bool dump_is_containers(const struct dump *d, const struct dump_ns_name *name);
/* Is this file a namespace, and has it no path by which it comes back? Which one is it? */
bool dump_is_namespace(const struct dump *d, const struct dump_file *f);
bool dump_namespace_of_file(const struct dump_file *f, struct dump_ns_name *ret);
void dump_nested_done(struct dump *d);

/* What belongs to the container's namespaces (namespaces.c). */
int dump_host_names(struct dump *d, St__Container *m, struct error *e) _must_check_;
int dump_check_ipc(struct dump *d, struct error *e) _must_check_;
/* Objects of the ipc namespace, once the tasks have their areas (ask.c). */
int dump_ipc(struct dump *d, struct error *e) _must_check_;

/* The container's own network namespace, with obstacles (network-dump.c). */
int dump_network(struct dump *d, struct error *e) _must_check_;
/* The same of one that processes of the container have made; pid: one of them. */
int dump_nested_network(struct dump *d, int netns, pid_t pid, St__Namespace *m, struct error *e) _must_check_;

/* The label of a security module, "" without one (labels.c): of "self" or PID; of a process. */
void dump_read_label(const char *task, char *buf, size_t size);
void dump_read_label_of(const struct dump_proc *p, char *buf, size_t size);
/* AppArmor's, into the processes' messages, with obstacles (labels.c). */
void dump_labels(struct dump *d);
/* listeners-dump.c: which listener is for which seccomp filter of whom. */
int dump_listeners(struct dump *d, struct error *e) _must_check_;
/* Obstacles (landlock.c). Begin: when the spec is known, and the tasks run. Prepare: what is not in the freeze any more. */
void dump_landlock_begin(const struct dump *d);
void dump_landlock_prepare(const struct dump *d);
int dump_landlock(struct dump *d, struct error *e) _must_check_;
/* Its sub-cgroups (cgroups.c): likewise. */
int dump_cgroups(struct dump *d, struct error *e) _must_check_;
/* cgroup-roots.c: the root of a cgroup namespace, by a process there; in it. outside: /proc/PID/cgroup as we see it elsewhere. */
int dump_cgroup_roots(struct dump *d, St__Namespace *m, pid_t pid, const char *outside,
	const char **ret_reason, struct error *e) _must_check_;
/* The container's own mounts (mounts-dump.c): records and obstacles. */
int dump_mounts(struct dump *d, struct error *e) _must_check_;
/* A detached copy of a mount, on which nothing else is mounted; or a negative errno (mounts-view.c). */
int dump_bare_mount(struct dump *d, const struct dump_tmpfs_view *v) _must_check_;

/* TCP connections (connections.c): names the lock of their packets, takes it before the tasks are killed, and undoes all of it
 * before they run on. */
int dump_name_lock(struct dump *d, struct error *e) _must_check_;
int dump_lock_network(struct dump *d, struct error *e) _must_check_;
void dump_release_network(struct dump_journal *j, pid_t init_pid);

/* tmpfs mounts (tmpfs.c). */
int dump_tmpfs(struct dump *d, struct error *e) _must_check_;
/* The contents of one, which is open. */
int dump_tmpfs_at(struct dump *d, int fd, const char *target, uint32_t mount, St__Tmpfs **ret,
	struct error *e) _must_check_;
/* Those that others gave the container, and several of the sandbox may have (volumes.c). */
int dump_volumes(struct dump *d, struct error *e) _must_check_;

/* Waits until the other containers of the sandbox have written down what they have, too (dump.c). */
int dump_meet_published(struct dump *d, struct error *e) _must_check_;
/* Has the process been asked to give up? (dump.c) */
int dump_guard_is_alive(int guard_fd, struct error *e) _must_check_;
/* Has the page data of d->writer compressed as was asked for; given up when the guard is gone. */
int dump_prepare_packing(struct dump *d, int *guard_fd, struct error *e) _must_check_;
/* The image is complete: writes its manifest. */
int dump_commit(struct dump *d, bool pre_dump, struct error *e) _must_check_;
/* --pre-dump (pre-dump.c). */
int native_pre_dump(struct container *c, const struct checkpoint_options *o, int image_dir,
	struct dump_journal *journal, int guard_fd, struct image_statistics *stats,
	struct error *e) _must_check_;
/* To stderr; with the other containers, if there are some (dump.c). */
struct progress dump_new_progress(const struct checkpoint_options *o);
/* The whole of it, in the surgeon process (dump.c). */
int native_dump(struct container *c, const struct checkpoint_options *o, int image_dir,
	struct dump_journal *journal, int guard_fd, struct preflight_report *r,
	struct image_statistics *stats, struct error *e) _must_check_;
int native_preflight(struct container *c, const struct checkpoint_options *o, struct preflight_report *r,
	struct error *e) _must_check_;

/* proto/image.proto messages in the arena, initialised: pb_new(a, Vma, vma) is a St__Vma *. */
#define pb_new(a, Type, type)                                                                                \
	({                                                                                                   \
		St__##Type *_m = arena_new(a, St__##Type);                                                   \
		if (_m)                                                                                      \
			st__##type##__init(_m);                                                              \
		_m;                                                                                          \
	})
St__TimeSpec *pb_timespec(struct arena *a, int64_t sec, int64_t nsec);
