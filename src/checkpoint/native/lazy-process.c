/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two processes of a lazy restore. The worker fills memory; the guard does nothing but hold the descriptors, with which it
 * shares the table: also the userfaultfds that forks of the container bring. Either kills the container when the other
 * one is gone before all is there, and lets go of the descriptors only when the container is dead.
 *
 * They belong to nobody: a session of their own, no descriptor of the caller, whatever cgroup the caller is in.
 */
#include "checkpoint/native/lazy.h"

#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "image/stream.h"
#include "linux/procfd.h"

enum { DEATH_TIMEOUT_MS = 30000 };

struct processes {
	struct lazy *l;
	int worker, guard; /* pidfds */
	uint32_t *done;	   /* shared: nothing more is to be guarded */
};

/* Everything that is not ours: stdio becomes /dev/null. */
static int close_others(const struct lazy *l)
{
	unsigned n_layers = image_n_layers(l->image);
	struct image_feed *feed = image_feed_of(l->image);
	_cleanup_free_ int *keep = calloc(2 * l->n_memories + n_layers + 16, sizeof(*keep));
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	size_t n = 0;

	if (!keep || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		return -errno;
	for (size_t i = 0; i < l->n_memories; i++) {
		keep[n++] = l->memories[i]->uffd;
		keep[n++] = l->memories[i]->pagemap;
	}
	for (unsigned i = 0; i < n_layers; i++)
		keep[n++] = image_stored_fd(l->image, i);
	if (feed) {
		keep[n++] = image_feed_pages_fd(l->image);
		keep[n++] = image_feed_alive_fd(feed);
		keep[n++] = image_feed_wanted_fd(feed);
	}
	keep[n++] = l->image_dir;
	keep[n++] = l->dir_fd;
	keep[n++] = l->state_fd;
	keep[n++] = l->init_pidfd;
	keep[n++] = l->poll_fd;
	keep[n++] = l->wake_fd;
	fds_close_others(3, keep, n);
	return 0;
}

/* Whose memory is not what it was must not run on. What is missing stays so until it is dead. */
static void kill_container(struct processes *p, const struct error *why)
{
	container_filling_end(p->l->dir_fd, p->l->state_fd, why);
	(void)!pidfd_kill(p->l->init_pidfd, SIGKILL);
	if (p->l->joins_pids)
		(void)!cgroup_signal(p->l->cgroup, SIGKILL, NULL);
	(void)!cgroup_thaw_killed(p->l->cgroup, NULL);
	(void)!pidfd_wait_exit(p->l->init_pidfd, DEATH_TIMEOUT_MS);
}

static _Noreturn void guard(struct processes *p)
{
	struct pollfd pfd = {.fd = p->worker, .events = POLLIN};
	struct error e;

	prctl(PR_SET_NAME, "stasis-guard");
	if (fault_point("lazy-guard", &e) < 0)
		_exit(1);
	while (poll(&pfd, 1, -1) < 0 && errno == EINTR)
		;
	if (!__atomic_load_n(p->done, __ATOMIC_SEQ_CST)) {
		error_set(&e, -ECHILD, ERROR_SYSTEM,
			"the process that filled its memory was killed before all of it was there");
		kill_container(p, &e);
	}
	_exit(0);
}

static int start_guard(struct processes *p, struct error *e)
{
	struct clone_args args = {
		.flags = CLONE_FILES | CLONE_PIDFD, .pidfd = (uint64_t)&p->guard, .exit_signal = SIGCHLD};
	pid_t pid;

	p->done = mmap(NULL, sizeof(*p->done), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	p->worker = pidfd_open(getpid(), 0);
	if (p->done == MAP_FAILED || p->worker < 0)
		return error_errno(e, -errno, "guard of a lazy restore");
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		guard(p);
	return pid < 0 ? error_errno(e, -errno, "fork") : 0;
}

/* Threads with small stacks. They are not waited for: the end of the process is theirs. */
static int start_threads(struct lazy *l, struct lazy_thread *threads, struct error *e)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r == 0)
		r = pthread_attr_setstacksize(&attr, 256 << 10);
	for (size_t i = 0; i < LAZY_THREADS && r == 0; i++) {
		threads[i] = (struct lazy_thread){.l = l, .claim = &l->claims[i]};
		r = pthread_create(&threads[i].thread, &attr, lazy_fill_thread, &threads[i]);
	}
	return r ? error_errno(e, -r, "threads of a lazy restore") : 0;
}

static int prepare(struct lazy *l, struct error *e)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&l->events, &attr);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->more, NULL);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return error_errno(e, -errno, "eventfd");
	if (l->image_dir < 0)
		return 0;
	/* Without order and without notes it works, too. */
	if (image_working_set_read(l->image, l->image_dir, &l->order, &l->n_order, e) < 0)
		l->n_order = 0;
	l->touched = calloc(IMAGE_TOUCHED_MAX, sizeof(*l->touched));
	if (l->touched && l->n_order) {
		memcpy(l->touched, l->order, l->n_order * sizeof(*l->order));
		l->n_touched = l->n_order;
	}
	return 0;
}

/* Of an image on a read-only file system there is none. */
static void keep_order(struct lazy *l)
{
	struct error ignored;

	if (l->touched && l->n_touched > l->n_order)
		(void)!image_working_set_write(l->image, l->image_dir, l->touched, l->n_touched, &ignored);
}

/* Forks of the container bring descriptors. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)!setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static _Noreturn void worker(struct lazy *l)
{
	struct lazy_thread threads[LAZY_THREADS];
	struct processes p = {.l = l, .worker = -EBADF, .guard = -EBADF};
	sigset_t all;
	struct error e;
	int r;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "stasis-lazy");
	log_setup(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	raise_limit();
	if (image_feed_of(l->image))
		image_feed_adopt(image_feed_of(l->image));
	r = close_others(l);
	r = r < 0 || chdir("/") < 0 ? error_errno(&e, r < 0 ? r : -errno, "lazy restore") : prepare(l, &e);
	if (r == 0)
		r = start_guard(&p, &e);
	if (r == 0)
		r = start_threads(l, threads, &e);
	if (r == 0)
		r = lazy_serve(l, p.guard, &e);
	/* A stream that did not come to its end is no checkpoint. */
	if (r == 0 && image_feed_of(l->image))
		r = image_feed_finish(image_feed_of(l->image), &e);
	if (r == 0)
		r = fault_point("lazy-end", &e);
	if (r < 0) {
		kill_container(&p, &e);
	} else {
		keep_order(l);
		container_filling_end(l->dir_fd, l->state_fd, NULL);
	}
	if (p.done && p.done != MAP_FAILED)
		__atomic_store_n(p.done, 1, __ATOMIC_SEQ_CST);
	_exit(r < 0);
}

/* The one between is waited for by the command; the worker is nobody's child then. */
int lazy_start(struct lazy *l, pid_t *ret_pid, struct error *e)
{
	pid_t pid = fork();

	if (pid < 0)
		return error_errno(e, -errno, "fork");
	if (pid > 0) {
		*ret_pid = pid;
		return 0;
	}
	setsid();
	pid = fork();
	if (pid == 0)
		worker(l);
	_exit(pid < 0);
}

int lazy_started(pid_t pid, struct error *e)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "wait for a process of the lazy restore");
	return status ? error_set(
				e, -EAGAIN, ERROR_SYSTEM, "a process for the lazy restore could not be made")
		      : 0;
}
