/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain is a pointer in what the credentials keep for the security modules, at a place that depends on which of them there are. A
 * thread of ours that takes a domain shows where: that is what tells its credentials from our own. (linux/bpfwalk.h reads them.)
 */
#include "linux/lldomain.h"

#include <errno.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/trace.h"
#include "linux/bpfwalk.h"

enum { PID, CREDENTIALS, SECURITY, WORDS, N_WORDS = BPF_WALK_FIELDS - WORDS };
#define FIRST_PID_NAMESPACE 0xEFFFFFFCu

/* What the first look has found out, once for this process. */
static struct {
	bool known;
	int problem; /* a negative errno: no look is possible */
	bool absent; /* the kernel has no Landlock */
	int link;    /* of the iterator; -EBADF */
	size_t word; /* that is a domain */
	bool begun;  /* by this thread */
	pthread_t finder;
} here = {.link = -EBADF};

/* A thread with a domain, until it is told to end. */
struct model {
	pthread_barrier_t taken, done;
	pid_t tid;
	int result;
};

static int take_domain(void)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK};
	_cleanup_close_ int ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (ruleset < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return -errno;
	return 0;
}

static void *model_thread(void *arg)
{
	struct model *m = arg;

	m->tid = gettid();
	m->result = take_domain();
	pthread_barrier_wait(&m->taken);
	pthread_barrier_wait(&m->done);
	return NULL;
}

static int walk(struct arena *a, struct bpf_row **ret, size_t *ret_n)
{
	return bpf_walk_read(here.link, a, ret, ret_n);
}

static const struct bpf_row *row_of(const struct bpf_row *rows, size_t n, pid_t tid)
{
	for (size_t i = 0; i < n; i++)
		if ((pid_t)rows[i].values[PID] == tid)
			return &rows[i];
	return NULL;
}

/* Pointers of the kernel are in the upper half. */
static int compare(const struct bpf_row *with, const struct bpf_row *without)
{
	if (!with || !without)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < N_WORDS; i++) {
		if (with->values[WORDS + i] == without->values[WORDS + i])
			continue;
		here.word = WORDS + i;
		return without->values[WORDS + i] == 0 && (int64_t)with->values[WORDS + i] < 0 ? 0
											       : -EOPNOTSUPP;
	}
	return -EOPNOTSUPP;
}

static int calibrate(struct arena *a, const struct model *m)
{
	struct bpf_row *rows;
	size_t n;
	int r = m->result < 0 ? -EOPNOTSUPP : walk(a, &rows, &n);

	return r < 0 ? r : compare(row_of(rows, n, m->tid), row_of(rows, n, gettid()));
}

static int open_walk(void)
{
	static const struct bpf_field fields[] = {
		[PID] = {"task_struct", "pid", 4},
		[CREDENTIALS] = {"task_struct", "cred", 8},
		[SECURITY] = {"cred", "security", 8, CREDENTIALS + 1},
		/* the beginning of any struct */
		[WORDS] = {"list_head", "next", 8 * N_WORDS, SECURITY + 1},
	};

	here.link = bpf_walk_open(&(struct bpf_objects){"task"}, fields, ARRAY_SIZE(fields));
	return MIN(here.link, 0);
}

static int find_out(struct arena *a)
{
	struct model m = {};
	pthread_t thread;
	struct stat st;
	int r;

	/* The ids that the walk tells are those of the first pid namespace. */
	if (stat("/proc/self/ns/pid", &st) < 0 || st.st_ino != FIRST_PID_NAMESPACE)
		return -EOPNOTSUPP;
	r = open_walk();
	if (r < 0)
		return r;
	pthread_barrier_init(&m.taken, NULL, 2);
	pthread_barrier_init(&m.done, NULL, 2);
	if (pthread_create(&thread, NULL, model_thread, &m) != 0)
		return -EAGAIN;
	pthread_barrier_wait(&m.taken);
	r = calibrate(a, &m);
	pthread_barrier_wait(&m.done);
	pthread_join(thread, NULL);
	return r;
}

static void *find_out_thread(void *arg _unused_)
{
	struct arena a = {};

	here.absent = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 0;
	here.problem = here.absent ? 0 : find_out(&a);
	arena_done(&a);
	return NULL;
}

void landlock_begin(void)
{
	if (!here.known && !here.begun)
		here.begun = pthread_create(&here.finder, NULL, find_out_thread, NULL) == 0;
}

static void learn(void)
{
	TRACE("find out about Landlock");

	if (here.begun)
		pthread_join(here.finder, NULL);
	else
		find_out_thread(NULL);
	here.begun = false;
	here.known = true;
}

void landlock_learn(void)
{
	if (!here.known)
		learn();
}

int landlock_find(struct arena *a, pid_t **ret, size_t *ret_n)
{
	struct bpf_row *rows;
	size_t n;
	int r;

	*ret = NULL;
	*ret_n = 0;
	landlock_learn();
	if (here.absent || here.problem < 0)
		return here.problem;
	r = walk(a, &rows, &n);
	if (r < 0)
		return r;
	*ret = arena_array(a, n + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (rows[i].values[here.word] != 0)
			(*ret)[(*ret_n)++] = (pid_t)rows[i].values[PID];
	return 0;
}
