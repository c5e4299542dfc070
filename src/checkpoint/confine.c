/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/confine.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/trace.h"
#include "linux/confine.h"

/* Only what is touched takes memory. */
#define FILES_SIZE (UINT64_C(9) << 30)
#define RESULT_SIZE (UINT64_C(8) << 30)
enum { PATH_SIZE = 1024, PAGE = 4096 };

/* In memory that both have, and the reader may write whatever it likes there. */
struct verdict {
	uint32_t done;
	int result;
	struct error error;
	const struct image *image;
	size_t used; /* of the memory */
	/* What it asks for: the next layer; */
	char parent[PATH_SIZE];
	/* and what it gets. */
	struct {
		int result;
		struct error error;
		struct image_layer layer;
	} answer;
};

struct confined {
	struct image_source *source;
	struct arena files;	 /* what they hold; "used" is not in that memory */
	struct verdict *verdict; /* at the beginning of the result's memory */
	size_t files_size, result_size;
	int channel;
	pid_t pid;
};

/* ---- who reads ---- */

struct reader {
	struct confined *c;
	bool begun;
};

static int next_layer(void *arg, const char *parent, struct image_layer *ret, struct error *e)
{
	struct reader *r = arg;
	struct verdict *v = r->c->verdict;
	char byte = 0;

	/* The first one is there. */
	if (parent) {
		if (strlen(parent) >= sizeof(v->parent))
			return error_set(
				e, -EBADMSG, ERROR_CORRUPT, "the path of the image's parent is too long");
		memcpy(v->parent, parent, strlen(parent) + 1);
		if (write(0, &byte, 1) != 1 || read(0, &byte, 1) != 1)
			return error_errno(e, -EPIPE, "read the image's parent");
	}
	if (v->answer.result < 0)
		*e = v->answer.error;
	else
		*ret = v->answer.layer;
	return v->answer.result;
}

static _Noreturn void read_image(struct confined *c, int channel, pid_t parent)
{
	struct verdict *v = c->verdict;
	struct arena memory = {.fixed = (char *)v,
		.fixed_size = c->result_size,
		.fixed_used = ALIGN_UP(sizeof(*v), (size_t)16)};
	struct reader reader = {.c = c};
	struct image_opener opener = {next_layer, &reader};
	const struct image *image = NULL;
	int r;

	prctl(PR_SET_NAME, "stasis-image");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || dup2(channel, 0) < 0 || close_range(1, UINT32_MAX, 0) < 0)
		_exit(1);
	r = confine_self(CONFINE_PARSER, &v->error);
	if (r == 0)
		r = fault_point("restore-confined", &v->error);
	if (r == 0)
		r = image_read_into(&opener, &memory, &image, &v->error);
	v->result = r;
	v->image = image;
	v->used = memory.fixed_used;
	v->done = 1;
	_exit(0);
}

/* ---- who wants to know ---- */

/* Within what the caller may have, if that is limited. */
static size_t room(uint64_t wanted)
{
	struct rlimit file = {RLIM_INFINITY, RLIM_INFINITY}, memory = {RLIM_INFINITY, RLIM_INFINITY};

	getrlimit(RLIMIT_FSIZE, &file);
	getrlimit(RLIMIT_AS, &memory);
	wanted = MIN(wanted, (uint64_t)file.rlim_cur);
	if (memory.rlim_cur != RLIM_INFINITY)
		wanted = MIN(wanted, (uint64_t)memory.rlim_cur / 4);
	return wanted / PAGE * PAGE;
}

/* A file in memory: of such nothing is reserved, whatever the machine's policy is. */
static void *map(uint64_t wanted, size_t *ret_size)
{
	_cleanup_close_ int fd = memfd_create("stasis-image", MFD_CLOEXEC);
	void *p;

	*ret_size = room(wanted);
	if (*ret_size == 0)
		errno = EFBIG;
	if (fd < 0 || *ret_size == 0 || ftruncate(fd, *ret_size) < 0)
		return NULL; /* with errno */
	p = mmap(NULL, *ret_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void free_confined(struct confined *c)
{
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close_p(&c->channel);
	if (c->verdict)
		munmap(c->verdict, c->result_size);
	if (c->files.fixed)
		munmap(c->files.fixed, c->files_size);
	image_source_free(c->source);
	free(c);
}

void confined_drop(struct confined *c)
{
	if (c)
		free_confined(c);
}

static int start(struct confined *c, struct error *e)
{
	TRACE("start reader");
	_cleanup_close_ int its = -EBADF;
	pid_t parent = getpid();
	int ends[2], why, r;

	c->files.fixed = map(FILES_SIZE, &c->files_size);
	c->files.fixed_size = c->files_size;
	c->verdict = map(RESULT_SIZE, &c->result_size);
	why = errno > 0 ? -errno : -ENOMEM;
	if (!c->files.fixed || !c->verdict || c->result_size < 2 * sizeof(*c->verdict))
		return error_errno(e, why, "memory to read the image into");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(e, -errno, "read the image");
	c->channel = ends[0];
	its = ends[1];
	r = image_source_next(c->source, NULL, &c->files, &c->verdict->answer.layer, e);
	if (r < 0)
		return r;
	c->pid = fork();
	if (c->pid == 0)
		read_image(c, its, parent);
	return c->pid < 0 ? error_errno(e, -errno, "fork") : 0;
}

int confined_begin(struct image_source *source, struct confined **ret, struct error *e)
{
	struct confined *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		image_source_free(source);
		return error_errno(e, -ENOMEM, "image");
	}
	c->source = source;
	c->channel = -EBADF;
	r = start(c, e);
	if (r < 0) {
		free_confined(c);
		return r;
	}
	*ret = c;
	return 0;
}

/* The path is copied before it is looked at: the other one may go on writing. */
static void give_layer(struct confined *c)
{
	struct verdict *v = c->verdict;
	struct image_layer layer = {0};
	char path[PATH_SIZE];
	struct error e = {};
	int r;

	memcpy(path, v->parent, sizeof(path));
	path[sizeof(path) - 1] = 0;
	r = image_source_next(c->source, path, &c->files, &layer, &e);
	v->answer.error = e;
	v->answer.layer = layer;
	v->answer.result = r;
	(void)!send(c->channel, "", 1, MSG_NOSIGNAL);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until it has closed its end, which it does by ending. 0: it has; -ETIMEDOUT. */
static int serve(struct confined *c, int timeout_ms)
{
	int64_t until = now_ms() + timeout_ms;

	for (;;) {
		struct pollfd p = {.fd = c->channel, .events = POLLIN};
		int64_t left = timeout_ms < 0 ? -1 : MAX(until - now_ms(), INT64_C(0));
		int n = poll(&p, 1, (int)left);
		char byte;

		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (recv(c->channel, &byte, 1, 0) <= 0)
			return 0;
		give_layer(c);
	}
}

static int wait_for_end(struct confined *c, int timeout_ms, int *status, struct error *e)
{
	TRACE("wait for reader");
	int r = serve(c, timeout_ms);

	if (r == -ETIMEDOUT)
		return error_set(e, r, ERROR_CORRUPT,
			"the process that reads the image has not come to an end for %d seconds: it was "
			"killed, and "
			"nothing of the image was used (--watchdog-start gives it more time)",
			timeout_ms / 1000);
	if (r < 0)
		return error_errno(e, r, "read the image");
	while (waitpid(c->pid, status, 0) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "wait for the process that reads the image");
	c->pid = 0;
	return 0;
}

static int death(int status, struct error *e)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (sig == SIGSYS)
		return error_set(e, -EBADMSG, ERROR_CORRUPT,
			"the process that reads the image made a system call that it may not make, and was "
			"killed: "
			"the image attacks its reader, or has met a bug in it. Nothing of it was used");
	if (sig == SIGKILL || sig == 0)
		return error_set(e, -ECANCELED, ERROR_SYSTEM,
			"the process that reads the image was killed: nothing of the image was used");
	return error_set(e, -EBADMSG, ERROR_CORRUPT,
		"the process that reads the image died of signal %d (%s): the image attacks its reader, or "
		"has met "
		"a bug in it. Nothing of it was used",
		sig, sigdescr_np(sig) ? sigdescr_np(sig) : "?");
}

/* Its words, without what a terminal would make of them. */
static int its_error(const struct verdict *v, struct error *e)
{
	struct error its = v->error;

	its.message[sizeof(its.message) - 1] = 0;
	for (char *p = its.message; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (its.kind > ERROR_INTERNAL)
		its.kind = ERROR_CORRUPT;
	if (v->result >= 0 || v->result < -4095 || !its.message[0])
		return error_set(
			e, -EBADMSG, ERROR_CORRUPT, "the process that reads the image said nonsense");
	its.code = v->result;
	*e = its;
	return its.code;
}

/* Memory behind what is in use goes. */
static size_t shrink(void *memory, size_t size, size_t used)
{
	size_t keep = MIN(ALIGN_UP(MAX(used, (size_t)1), (size_t)PAGE), size);

	if (keep < size)
		munmap((char *)memory + keep, size - keep);
	return keep;
}

static int take_over(struct confined *c, struct image **ret, struct error *e)
{
	TRACE("check result");
	const struct image *image = c->verdict->image;
	size_t used = MIN(c->verdict->used, c->result_size);
	struct image_memory result = {c->verdict, c->result_size}, files = {c->files.fixed, c->files_size};
	int r;

	result.size = c->result_size = shrink(result.at, result.size, used);
	files.size = c->files_size = shrink(files.at, files.size, c->files.fixed_used);
	r = image_adopt(c->source, &result, &files, image, ret, e);
	if (r < 0)
		return r;
	/* Nobody has anything to write there any more. */
	mprotect(result.at, result.size, PROT_READ);
	mprotect(files.at, files.size, PROT_READ);
	image_take_memory(*ret, &result, &files);
	c->verdict = NULL;
	c->files.fixed = NULL;
	return 0;
}

int confined_end(struct confined *c, int timeout_ms, struct image **ret, struct error *e)
{
	int status = 0, r = wait_for_end(c, timeout_ms, &status, e);

	if (r == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !c->verdict->done))
		r = death(status, e);
	else if (r == 0)
		r = c->verdict->result == 0 ? take_over(c, ret, e) : its_error(c->verdict, e);
	free_confined(c);
	return r;
}

int confined_image_open(int dirfd, struct image **ret, struct error *e)
{
	struct image_source *source = NULL;
	struct confined *c = NULL;
	int r = image_source_new(dirfd, &source, e);

	if (r == 0)
		r = confined_begin(source, &c, e);
	return r < 0 ? r : confined_end(c, -1, ret, e);
}
