/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsers of /proc files. Each takes text in memory (so that it can be fuzzed) and fills plain structs; none
 * allocates beyond the caller's arena. A line that is not understood is -EBADMSG, never skipped silently, except
 * unknown keys of status and fdinfo, which new kernels add. Sources: proc(5), Documentation/filesystems/proc.rst.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/error.h"

/* /proc/PID/stat, fields by their names in proc(5). */
struct proc_stat {
	int pid, ppid, pgrp, session, tty_nr, tpgid;
	char comm[64];
	char state;
	unsigned flags;
	unsigned long long start_time; /* clock ticks since boot, field 22 */
	unsigned long long cpu_time;   /* user and system, in clock ticks */
	int num_threads, exit_signal;
	int nice, priority;
	unsigned long start_code, end_code, start_stack, start_data, end_data, start_brk;
	unsigned long arg_start, arg_end, env_start, env_end;
	int exit_code; /* as wait status */
};
int proc_parse_stat(const char *text, struct proc_stat *ret) _must_check_;

struct proc_status {
	char name[64];
	unsigned umask;
	char state;
	int tgid, pid, ppid, tracer_pid;
	uint32_t uid[4], gid[4]; /* real, effective, saved, fs */
	uint32_t *groups;	 /* in the arena */
	size_t n_groups;
	int ns_pid[32], ns_tgid[32], ns_pgid[32], ns_sid[32]; /* outermost first */
	size_t n_ns;					      /* levels, at least 1 */
	int threads;
	unsigned fd_size; /* numbers that the descriptor table has room for; 0: a zombie */
	uint64_t sig_pnd, shd_pnd, sig_blk, sig_ign, sig_cgt;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	int no_new_privs, seccomp, seccomp_filters;
	bool thp_enabled;
	unsigned long vm_rss_kib, vm_locked_kib;
};
int proc_parse_status(const char *text, struct arena *a, struct proc_status *ret) _must_check_;

/* VmFlags of smaps, as bits. */
enum vma_flag {
	VMA_RD = 1 << 0,
	VMA_WR = 1 << 1,
	VMA_EX = 1 << 2,
	VMA_SH = 1 << 3,
	VMA_GD = 1 << 4 /* growsdown */,
	VMA_PF = 1 << 5 /* raw pfn */,
	VMA_IO = 1 << 6,
	VMA_SR = 1 << 7,
	VMA_RR = 1 << 8,
	VMA_DC = 1 << 9 /* dontfork */,
	VMA_DE = 1 << 10 /* dontexpand */,
	VMA_LO = 1 << 11 /* locked */,
	VMA_NR = 1 << 12 /* noreserve */,
	VMA_HT = 1 << 13 /* hugetlb */,
	VMA_DD = 1 << 14 /* dontdump */,
	VMA_WF = 1 << 15 /* wipeonfork */,
	VMA_MM = 1 << 16 /* mixedmap */,
	VMA_HG = 1 << 17 /* hugepage */,
	VMA_NH = 1 << 18 /* nohugepage */,
	VMA_MG = 1 << 19 /* mergeable */,
	VMA_UM = 1 << 20 /* uffd missing */,
	VMA_UW = 1 << 21 /* uffd wp */,
	VMA_UI = 1 << 22 /* uffd minor */,
	VMA_SL = 1 << 23 /* sealed */,
	VMA_GU = 1 << 24 /* has guard regions */,
	VMA_SS = 1 << 25 /* shadow stack */,
	VMA_LF = 1 << 26 /* lock on fault */,
	VMA_SF = 1 << 27 /* sync fault (dax) */,
	VMA_DP = 1 << 28 /* droppable (6.11) */,
	VMA_WC = 1 << 29 /* wipe on copy */,
	VMA_MW = 1 << 30,      /* may be made writable; mr me ms ac are there nearly always, and not kept */
	VMA_UNKNOWN = 1u << 31 /* a flag this list does not know: refuse */
};

struct proc_vma {
	uint64_t start, end, offset, inode;
	uint32_t dev_major, dev_minor;
	unsigned prot; /* PROT_* */
	bool shared;
	uint32_t flags;					       /* enum vma_flag; 0 when read from maps */
	uint64_t protection_key;			       /* smaps only */
	uint64_t page_kib;				       /* of hugetlb more than 4; smaps only */
	uint64_t anonymous_kib, rss_kib, shared_kib, swap_kib; /* smaps only */
	const char *name; /* unescaped, in the arena; "" if none; may end in " (deleted)" */
};
/* maps or smaps, told apart by what follows the first line. *ret in the arena, ordered by address. */
int proc_parse_maps(const char *text, struct arena *a, struct proc_vma **ret, size_t *ret_n) _must_check_;

struct proc_mount {
	int id, parent_id;
	uint32_t dev_major, dev_minor;
	const char *root, *target, *options, *optional, *fstype, *source,
		*super_options; /* unescaped, in the arena */
};
int proc_parse_mountinfo(
	const char *text, struct arena *a, struct proc_mount **ret, size_t *ret_n) _must_check_;

struct proc_epoll_target {
	int tfd;
	uint32_t events;
	uint64_t data;
	uint64_t pos, ino;
	uint32_t sdev;
	uint32_t toff; /* not in the text: how many with the same tfd are before it, as kcmp(2) counts */
};

/* A file lock as fdinfo and /proc/locks show it. POSIX: of the process whose fdinfo it is; the others belong to the open
 * file description. */
enum proc_lock_type {
	PROC_LOCK_POSIX,
	PROC_LOCK_OFD,
	PROC_LOCK_FLOCK,
	PROC_LOCK_LEASE,
	PROC_LOCK_OTHER, /* a delegation, or what this version does not know */
};

struct proc_lock {
	enum proc_lock_type type;
	bool write;
	bool breaking;	    /* a lease that its holder has been asked to give up */
	pid_t pid;	    /* who took it; OFD: -1 */
	int64_t start, end; /* INT64_MAX: the end of the file, wherever that comes to be */
};

/* An inotify watch or a fanotify mark. sdev is the kernel's own dev_t: major << 20 | minor. */
struct proc_mark {
	uint32_t wd;	 /* inotify */
	uint32_t mnt_id; /* fanotify: of a mount; else of an inode, or (ino 0) of a file system */
	uint64_t ino;
	uint32_t sdev, mask, ignored_mask, flags;
	uint32_t handle_bytes, handle_type; /* bytes 0: the file system has no file handles */
	uint8_t handle[128];
};

/* /proc/PID/fdinfo/N: the common part, then what each kind adds (has_ tells). */
struct proc_fdinfo {
	int64_t pos;
	unsigned flags; /* O_*, with O_CLOEXEC of the descriptor */
	int mnt_id;
	uint64_t ino;
	bool has_eventfd, has_signalfd, has_timerfd, has_pidfd, has_inotify, has_fanotify, has_epoll;
	uint64_t eventfd_count;
	int eventfd_semaphore; /* -1: this kernel does not say */
	int eventfd_id;
	uint64_t sigmask;
	int clockid;
	uint64_t ticks;
	int settime_flags;
	struct {
		int64_t sec, nsec;
	} it_value, it_interval;
	struct proc_epoll_target *epoll; /* in the arena */
	size_t n_epoll;
	struct proc_lock *locks; /* in the arena */
	size_t n_locks;
	struct proc_mark *marks; /* in the arena */
	size_t n_marks;
	uint32_t fanotify_flags, fanotify_event_flags;
	int pidfd_pid, pidfd_nspid;
	char tun[16]; /* IFNAMSIZ: the interface whose queue it is; "": none */
	uint32_t bpf_map_id;
	bool bpf_frozen;
	uint64_t scm_fds; /* descriptors that wait in the queue of a unix socket */
};
int proc_parse_fdinfo(const char *text, struct arena *a, struct proc_fdinfo *ret) _must_check_;

/* /proc/PID/timers: POSIX timers. */
struct proc_posix_timer {
	int id, signo, notify; /* SIGEV_* */
	uint64_t sigval;
	int tid; /* SIGEV_THREAD_ID's target; 0 otherwise */
	int clockid;
};
int proc_parse_timers(
	const char *text, struct arena *a, struct proc_posix_timer **ret, size_t *ret_n) _must_check_;

/* /proc/timer_list: when the sleeps of all tasks of the machine end (their owners are not told). */
struct proc_sleep {
	int clock; /* CLOCK_MONOTONIC, _REALTIME, _BOOTTIME or _TAI */
	uint64_t ends_ns;
};
int proc_parse_timer_list(
	const char *text, struct arena *a, struct proc_sleep **ret, size_t *ret_n) _must_check_;

/* A multicast group that an interface listens to. */
enum { PROC_DEVICE_SIZE = 16 };
struct proc_group {
	int family;
	uint32_t ifindex;
	char device[PROC_DEVICE_SIZE];
	uint8_t address[16]; /* 4 of AF_INET */
};
/* /proc/PID/net/igmp, igmp6 */
int proc_parse_igmp(const char *text, struct arena *a, struct proc_group **ret, size_t *ret_n) _must_check_;
int proc_parse_igmp6(const char *text, struct arena *a, struct proc_group **ret, size_t *ret_n) _must_check_;

struct proc_limit {
	uint64_t soft, hard; /* RLIM_INFINITY: ~0 */
};
enum { PROC_LIMITS = 16 }; /* RLIM_NLIMITS */
/* /proc/PID/limits into the order of RLIMIT_*. */
int proc_parse_limits(const char *text, struct proc_limit ret[PROC_LIMITS]) _must_check_;

/* Reads and parses /proc/<pid>/NAME; the caller's convenience. */
int proc_read_stat(pid_t pid, struct proc_stat *ret) _must_check_;
int proc_read_task_stat(pid_t pid, pid_t tid, struct proc_stat *ret) _must_check_;
int proc_read_status(pid_t pid, pid_t tid, struct arena *a, struct proc_status *ret) _must_check_;
int proc_read_maps(pid_t pid, bool smaps, struct arena *a, struct proc_vma **ret, size_t *ret_n) _must_check_;
int proc_read_mountinfo(pid_t pid, struct arena *a, struct proc_mount **ret, size_t *ret_n) _must_check_;
int proc_read_fdinfo(pid_t pid, int fd, struct arena *a, struct proc_fdinfo *ret) _must_check_;
/* Of an open fdinfo file, from its beginning. */
int proc_read_fdinfo_fd(int fdinfo, struct arena *a, struct proc_fdinfo *ret) _must_check_;
int proc_read_timers(pid_t pid, struct arena *a, struct proc_posix_timer **ret, size_t *ret_n) _must_check_;
int proc_read_timer_list(struct arena *a, struct proc_sleep **ret, size_t *ret_n) _must_check_;
/* Of the process's network namespace. */
int proc_read_groups(
	pid_t pid, int family, struct arena *a, struct proc_group **ret, size_t *ret_n) _must_check_;
int proc_read_limits(pid_t pid, struct proc_limit ret[PROC_LIMITS]) _must_check_;
/* readlink of /proc/<pid>/<name> ("exe", "cwd", "fd/3"); -ENAMETOOLONG if it does not fit. Returns the length. */
ssize_t proc_readlink(pid_t pid, const char *name, char *buf, size_t size) _must_check_;
/* The thread ids of a process, ascending from the leader; *ret in the arena. */
int proc_read_tids(pid_t pid, struct arena *a, pid_t **ret, size_t *ret_n) _must_check_;
/* How many descriptors a process has open (Linux 6.2); -EOPNOTSUPP: this kernel does not tell. */
int proc_count_fds(pid_t pid, size_t *ret) _must_check_;
/* The open fds of a process, ascending. Makes proc entries for all of them, which the process's end has to remove. */
int proc_read_fds(pid_t pid, struct arena *a, int **ret, size_t *ret_n) _must_check_;
