/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection is a request: a line comes, a line goes, and that is its end. Who asked for a checkpoint is answered when it has
 * been made, by a "stasis checkpoint" that we start; in what is restored of it later it finds another answer, which is in the
 * image (checkpoint/native/res/socket-unix.c).
 */
#include "sandbox/application.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"

enum {
	REQUESTS_MAX = 8, /* connections of one container */
	ACCEPTS_MAX = 32, /* in a window of so many milliseconds */
	WINDOW_MS = 1000,
	SAID_MAX = 4096, /* of what "checkpoint" says */
};

#define TEMPORARY "." CONTAINER_APPLICATION_SOCKET
#define LAST_REQUEST "last-request" /* in the state directory: how it ended, in full */

struct request {
	struct request *next;
	struct application_server *server;
	struct loop_fd io;
	int fd;
	char line[APPLICATION_LINE_MAX];
	size_t len;
	bool taken; /* its line has come */
};

struct application_server {
	struct supervisor *s;
	struct member *m;
	ino_t directory;
	struct loop_fd listener;
	int fd;
	struct loop_timer pause;
	int64_t window_ms;
	unsigned accepted; /* since then */
	struct request *requests;
	unsigned n_requests;
	/* what the operator has said */
	struct application says;
	struct arena arena;
	/* the checkpoint that is being made */
	pid_t pid;	       /* 0: none */
	struct request *asker; /* NULL: it has gone */
	struct loop_fd output;
	int output_fd;
	char said[SAID_MAX + 1];
	size_t n_said;
	bool begun;	  /* there was one already, */
	int64_t begun_ms; /* then */
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

/* ---- listening ---- */

static void pause_listening(struct application_server *a, int64_t ms)
{
	loop_forget(a->s->loop, &a->listener);
	if (ms >= 0)
		loop_set_timer(a->s->loop, &a->pause, ms);
}

static void listen_again(struct application_server *a)
{
	if (a->listener.fd < 0 && a->n_requests < REQUESTS_MAX && !a->pause.set)
		(void)!loop_watch(a->s->loop, &a->listener, a->fd, EPOLLIN);
}

static void pause_is_over(void *arg)
{
	listen_again(arg);
}

/* ---- a request ---- */

static void request_free(struct request *q)
{
	struct application_server *a = q->server;
	char rest[4096];

	for (struct request **p = &a->requests; *p; p = &(*p)->next)
		if (*p == q) {
			*p = q->next;
			break;
		}
	if (a->asker == q)
		a->asker = NULL;
	loop_forget(a->s->loop, &q->io);
	/* What is not read would make our end an error for the other one. */
	(void)!recv(q->fd, rest, sizeof(rest), MSG_DONTWAIT);
	close_p(&q->fd);
	free(q);
	a->n_requests--;
}

/* It fits into an empty socket. */
static void answer(struct request *q, const char *word, const char *text)
{
	struct application_server *a = q->server;
	char line[APPLICATION_ANSWER_MAX + 40];

	snprintf(line, sizeof(line), "%s %.*s\n", word, APPLICATION_ANSWER_MAX, text);
	(void)!send(q->fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
	request_free(q);
	listen_again(a);
}

static void answer_status(struct request *q)
{
	struct application_server *a = q->server;
	struct container *c = a->m->c;
	char text[APPLICATION_ANSWER_MAX];

	container_read_attempts(c);
	snprintf(text, sizeof(text),
		"id=%.200s name=%.200s generation=%llu restored=%d checkpoints=%llu failed=%llu", a->m->id,
		a->m->name, (unsigned long long)c->generation, c->generation > 0,
		(unsigned long long)c->attempts.checkpoints, (unsigned long long)c->attempts.failed);
	answer(q, "status", text);
}

/* ---- a checkpoint ---- */

static _Noreturn void run_checkpoint(const struct application_server *a, bool whole, int output)
{
	const struct application *says = &a->says;
	const char *argv[APPLICATION_OPTIONS_MAX + 16];
	int n = 0, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	argv[n++] = "stasis";
	argv[n++] = "--root";
	argv[n++] = a->s->root;
	argv[n++] = "--log-format";
	argv[n++] = "json";
	argv[n++] = "checkpoint";
	argv[n++] = "--image-path";
	argv[n++] = whole ? says->sandbox_image_path : says->image_path;
	if (says->leave_running)
		argv[n++] = "--leave-running";
	for (char **o = says->options; o && *o; o++)
		argv[n++] = *o;
	if (whole)
		argv[n++] = "--sandbox";
	argv[n++] = "--";
	argv[n++] = a->m->id;
	argv[n] = NULL;
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
		dup2(output, STDERR_FILENO) >= 0 && close_range(STDERR_FILENO + 1, ~0U, 0) == 0)
		execv("/proc/self/exe", (char **)argv);
	_exit(127);
}

/* What it says last counts; of more there is the end. */
static ssize_t hear_some(struct application_server *a)
{
	ssize_t n;

	if (a->n_said > SAID_MAX / 2) {
		memmove(a->said, a->said + SAID_MAX / 4, a->n_said - SAID_MAX / 4);
		a->n_said -= SAID_MAX / 4;
	}
	n = read(a->output_fd, a->said + a->n_said, SAID_MAX - a->n_said);
	if (n > 0)
		a->n_said += n;
	else if (n == 0 || errno != EAGAIN)
		loop_forget(a->s->loop, &a->output);
	return n;
}

static void hear(void *arg, uint32_t events)
{
	(void)hear_some(arg);
}

static int start_checkpoint(struct application_server *a, bool whole)
{
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	a->n_said = 0;
	a->output_fd = ends[0];
	a->output = (struct loop_fd){-EBADF, hear, a};
	r = loop_watch(a->s->loop, &a->output, a->output_fd, EPOLLIN);
	a->pid = r < 0 ? r : fork();
	if (a->pid == 0)
		run_checkpoint(a, whole, ends[1]);
	if (a->pid < 0) {
		r = r < 0 ? r : -errno;
		a->pid = 0;
		loop_forget(a->s->loop, &a->output);
		close_p(&a->output_fd);
	} else {
		supervisor_hold(a->s);
	}
	close_p(&ends[1]);
	return r;
}

static void answer_checkpoint(struct request *q, bool whole)
{
	struct application_server *a = q->server;
	int64_t now = now_ms(), next = a->begun_ms + a->says.interval * INT64_C(1000);
	char text[80];
	int r;

	if (!(whole ? a->says.sandbox_image_path : a->says.image_path)) {
		answer(q, "refused", "nothing says where the image is to go");
		return;
	}
	if (a->pid) {
		answer(q, "refused", "another one is being made");
		return;
	}
	if (a->begun && now < next) {
		snprintf(text, sizeof(text), "too soon: wait %lld ms", (long long)(next - now));
		answer(q, "refused", text);
		return;
	}
	a->begun = true;
	a->begun_ms = now;
	a->asker = q;
	r = start_checkpoint(a, whole);
	if (r < 0)
		answer(q, "failed", error_text(r).s);
}

/* For the operator. */
static void note_end(struct application_server *a, const char *outcome, const char *text)
{
	char line[SAID_MAX + 100], stamp[40];
	time_t t = time(NULL);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(line, sizeof(line), "%s %s %s\n", stamp, outcome, text);
	if (a->m->c)
		(void)!write_file_replace_at(a->m->c->dir_fd, LAST_REQUEST, line, strlen(line), 0600);
}

static void checkpoint_ended(struct application_server *a, int status)
{
	char text[APPLICATION_ANSWER_MAX] = "internal: it ended without saying why", *line, *rest = a->said;
	bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	while (a->output.fd >= 0 && hear_some(a) > 0)
		;
	loop_forget(a->s->loop, &a->output);
	close_p(&a->output_fd);
	a->said[a->n_said] = '\0';
	note_end(a, done ? "done" : "failed", a->said);
	if (done)
		snprintf(text, sizeof(text), "%llu", (unsigned long long)(a->m->c ? a->m->c->generation : 0));
	while (!done && (line = strsep(&rest, "\n")))
		(void)!application_explain(line, strlen(line), text, sizeof(text));
	a->pid = 0;
	if (a->asker)
		answer(take_ptr(a->asker), done ? "checkpointed" : "failed", text);
}

bool application_reaped(struct supervisor *s, pid_t pid, int status)
{
	for (struct member *m = s->members; m; m = m->next)
		if (m->application && m->application->pid == pid) {
			checkpoint_ended(m->application, status);
			s->holds--; /* who calls us looks whether that was the last */
			return true;
		}
	return false;
}

/* ---- connections ---- */

static void take_request(struct request *q, size_t len)
{
	enum application_request what = application_parse(q->line, len);

	/* From here on only its end matters. */
	q->taken = true;
	if (loop_change(q->server->s->loop, &q->io, 0) < 0) {
		request_free(q);
		return;
	}
	switch (what) {
	case REQUEST_CHECKPOINT:
	case REQUEST_CHECKPOINT_SANDBOX:
		answer_checkpoint(q, what == REQUEST_CHECKPOINT_SANDBOX);
		break;
	case REQUEST_STATUS:
		answer_status(q);
		break;
	case REQUEST_WAIT: /* what is restored finds its answer in the image */
		break;
	case REQUEST_NONE:
		answer(q, "error", "unknown request");
		break;
	}
}

static void request_ready(void *arg, uint32_t events)
{
	struct request *q = arg;
	struct application_server *a = q->server;
	const char *end;
	ssize_t n;

	if (q->taken) {
		request_free(q);
		listen_again(a);
		return;
	}
	n = recv(q->fd, q->line + q->len, sizeof(q->line) - q->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		request_free(q);
		listen_again(a);
		return;
	}
	q->len += n;
	end = memchr(q->line, '\n', q->len);
	if (end)
		take_request(q, end - q->line);
	else if (q->len == sizeof(q->line))
		answer(q, "error", "the line is too long");
}

static void add_request(struct application_server *a, int fd)
{
	struct request *q = calloc(1, sizeof(*q));

	if (!q) {
		close(fd);
		return;
	}
	*q = (struct request){.server = a, .fd = fd, .io = {-EBADF, request_ready, q}, .next = a->requests};
	a->requests = q;
	a->n_requests++;
	if (loop_watch(a->s->loop, &q->io, fd, EPOLLIN) < 0)
		request_free(q);
}

static void listener_ready(void *arg, uint32_t events)
{
	struct application_server *a = arg;
	int64_t now = now_ms();
	int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		add_request(a, fd);
	if (now - a->window_ms >= WINDOW_MS) {
		a->window_ms = now;
		a->accepted = 0;
	}
	if (++a->accepted >= ACCEPTS_MAX)
		pause_listening(a, WINDOW_MS);
	else if (a->n_requests >= REQUESTS_MAX)
		pause_listening(a, -1);
}

/* ---- the server ---- */

/* As whom the container knows it; -1: it knows no such one, or we do not. */
static int64_t host_id(const struct id_map *map, size_t n, bool mapped, uint32_t id)
{
	if (!mapped)
		return id;
	for (size_t i = 0; i < n; i++)
		if (id >= map[i].container_id && id - map[i].container_id < map[i].size)
			return (int64_t)map[i].host_id + (id - map[i].container_id);
	return -1;
}

/* For the user of the container's own process, and its root. */
static int admit_user(int dir, const struct spec *s)
{
	bool mapped = s->namespaces[NS_USER].present;
	int64_t uid = s->process ? host_id(s->ids.uid, s->ids.n_uid, mapped, s->process->uid) : 0,
		gid = s->process ? host_id(s->ids.gid, s->ids.n_gid, mapped, s->process->gid) : 0;
	bool owned = uid >= 0 && gid >= 0 &&
		     fchownat(dir, TEMPORARY, (uid_t)uid, (gid_t)gid, AT_SYMLINK_NOFOLLOW) == 0;

	return fchmodat(dir, TEMPORARY, owned ? 0600 : 0666, 0) < 0 ? -errno : 0;
}

static int start_listening(struct application_server *a, int dir, const struct spec *spec)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int r;

	unlinkat(dir, TEMPORARY, 0);
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" TEMPORARY, dir);
	if (a->fd < 0 || bind(a->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	r = admit_user(dir, spec);
	if (r < 0)
		return r;
	if (listen(a->fd, REQUESTS_MAX) < 0 ||
		renameat(dir, TEMPORARY, dir, CONTAINER_APPLICATION_SOCKET) < 0)
		return -errno;
	return loop_watch(a->s->loop, &a->listener, a->fd, EPOLLIN);
}

static int begin(struct application_server *a, int dir, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL; /* its spec is large, and not for long */
	int r = container_load(a->s->root, a->m->id, false, &c, e);

	if (r == 0)
		r = container_load_spec(c, e);
	if (r == 0)
		r = container_application(c->spec, &a->arena, &a->says, e);
	if (r < 0)
		return r;
	r = start_listening(a, dir, c->spec);
	return r < 0 ? error_errno(e, r, "socket of the application") : 0;
}

void application_serve(struct supervisor *s, struct member *m)
{
	_cleanup_close_ int dir = m->c ? container_open_application(m->c) : -EBADF;
	struct application_server *a = NULL;
	struct stat st;
	struct error e;

	if (dir < 0 || fstat(dir, &st) < 0)
		return;
	/* The container may have been deleted and another one of that id made since, perhaps with the same inode. */
	if (m->application && m->application->directory == st.st_ino &&
		faccessat(dir, CONTAINER_APPLICATION_SOCKET, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return;
	application_free(take_ptr(m->application));
	a = calloc(1, sizeof(*a));
	if (!a)
		return;
	*a = (struct application_server){
		.s = s, .m = m, .fd = -EBADF, .output_fd = -EBADF, .directory = st.st_ino};
	a->listener = (struct loop_fd){-EBADF, listener_ready, a};
	a->output = (struct loop_fd){-EBADF, hear, a};
	a->pause = (struct loop_timer){.due = pause_is_over, .arg = a};
	m->application = a;
	if (begin(a, dir, &e) < 0) {
		log_warning("container %s: %s", m->id, e.message);
		application_free(take_ptr(m->application));
	}
}

void application_free(struct application_server *a)
{
	if (!a)
		return;
	while (a->requests)
		request_free(a->requests);
	if (a->pid) /* it goes on, or has ended the container itself */
		a->s->holds--;
	loop_clear_timer(a->s->loop, &a->pause);
	loop_forget(a->s->loop, &a->listener);
	loop_forget(a->s->loop, &a->output);
	close_p(&a->output_fd);
	close_p(&a->fd);
	arena_done(&a->arena);
	free(a);
}
