// SPDX-License-Identifier: Apache-2.0
/*
 * library PROGRAM ROOT BUNDLE DIR: what libstasis promises, beyond the life that examples/embed.c shows. DIR is the test's
 * own, with bundles t0 to t3 for containers at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stasis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program, *root, *bundle, *dir;
static _Thread_local struct stasis_error error;

#define CHECK(condition, ...)                                                                                \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			fprintf(stderr, "library.c:%d: %s: ", __LINE__, #condition);                         \
			fprintf(stderr, __VA_ARGS__);                                                        \
			fprintf(stderr, " (%d: %s)\n", error.code, error.message);                           \
			exit(1);                                                                             \
		}                                                                                            \
	} while (0)
#define OK(call) CHECK((call) == 0, "failed")
/* fails with this errno and kind, and a message with these words */
#define FAILS(call, number, what, words)                                                                     \
	do {                                                                                                 \
		memset(&error, 0, sizeof(error));                                                            \
		int result = (call);                                                                         \
		CHECK(result == (number) && error.code == (number), "returned %d", result);                  \
		CHECK(error.kind == (what), "kind %d", (int)error.kind);                                     \
		CHECK(strstr(error.message, words), "message without \"%s\"", words);                        \
	} while (0)

static struct stasis *opened(void)
{
	struct stasis *s;

	OK(stasis_open(STASIS_OPTIONS(stasis_options, .program = program, .root = root), &s, &error));
	return s;
}

static struct stasis_container *started(struct stasis *s, const char *id)
{
	struct stasis_container *c;

	OK(stasis_create(s, id, STASIS_OPTIONS(stasis_create_options, .bundle = bundle), &c, &error));
	OK(stasis_start(c, &error));
	return c;
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 200; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_errors(struct stasis *s)
{
	struct stasis_container *c = NULL;
	struct stasis_process *p;
	struct {
		struct stasis_options o;
		int unknown;
	} newer = {{.size = sizeof(newer)}, 1};
	const char *const nothing[] = {"/no/such/program", NULL};
	struct stasis *other;

	FAILS(stasis_open(STASIS_OPTIONS(stasis_options, .root = "relative"), &other, &error), -EINVAL,
		STASIS_ERROR_USAGE, "absolute");
	FAILS(stasis_open(&newer.o, &other, &error), -EINVAL, STASIS_ERROR_USAGE, "older than");
	newer.unknown = 0;
	OK(stasis_open(&newer.o, &other, &error));
	stasis_close(other);
	stasis_close(NULL);

	FAILS(stasis_load(s, "nobody", &c, &error), -ENOENT, STASIS_ERROR_STATE, "does not exist");
	FAILS(stasis_load(s, "../x", &c, &error), -EINVAL, STASIS_ERROR_USAGE, "invalid id");
	FAILS(stasis_create(s, "--help", STASIS_OPTIONS(stasis_create_options, .bundle = dir), &c, &error),
		-ENOENT, STASIS_ERROR_CONFIG, "config.json");
	FAILS(stasis_create(s, "x", STASIS_OPTIONS(stasis_create_options, .bundle = "/nowhere"), &c, &error),
		-ENOENT, STASIS_ERROR_SYSTEM, "/nowhere");
	CHECK(!c, "an out-parameter was touched");

	c = started(s, "errors");
	FAILS(stasis_start(c, &error), -EINVAL, STASIS_ERROR_STATE, "running");
	FAILS(stasis_resume(c, &error), -EINVAL, STASIS_ERROR_STATE, "not paused");
	FAILS(stasis_delete(c, false, &error), -EBUSY, STASIS_ERROR_STATE, "running");
	FAILS(stasis_exec(c, STASIS_OPTIONS(stasis_exec_options, .args = nothing), &p, &error), -ENOENT,
		STASIS_ERROR_CONFIG, "/no/such/program");
	FAILS(stasis_exec(c, NULL, &p, &error), -EINVAL, STASIS_ERROR_USAGE, "neither");
	FAILS(stasis_checkpoint(c, NULL, &error), -EINVAL, STASIS_ERROR_USAGE, "image_path");
	FAILS(stasis_update(c, "{\"memory\": 7}", &error), -EINVAL, STASIS_ERROR_CONFIG, "memory");
	OK(stasis_delete(c, true, &error));
	FAILS(stasis_signal(c, SIGTERM, false, &error), -ENOENT, STASIS_ERROR_STATE, "does not exist");
	stasis_free(c);
	stasis_free(NULL);
}

static void test_program_missing(void)
{
	struct stasis *s;
	struct stasis_container *c;

	OK(stasis_open(
		STASIS_OPTIONS(stasis_options, .program = "/nowhere/stasis", .root = root), &s, &error));
	FAILS(stasis_create(s, "x", STASIS_OPTIONS(stasis_create_options, .bundle = bundle), &c, &error),
		-ENOENT, STASIS_ERROR_SYSTEM, "/nowhere/stasis");
	stasis_close(s);
}

static void test_looks(struct stasis *s)
{
	struct stasis_container *c = started(s, "looks"), *again;
	enum stasis_status status;
	char **ids, *text;
	pid_t pid, *pids;
	size_t n;

	OK(stasis_list(s, &ids, &n, &error));
	CHECK(n == 1 && !strcmp(ids[0], "looks") && !ids[1], "%zu containers", n);
	free(ids);
	OK(stasis_load(s, "looks", &again, &error));
	OK(stasis_status(again, &status, &error));
	CHECK(status == STASIS_RUNNING, "status %d", (int)status);
	OK(stasis_pid(again, &pid, &error));
	OK(stasis_processes(again, &pids, &n, &error));
	CHECK(n >= 1 && pids[0] == pid, "%zu processes, init %d", n, (int)pid);
	free(pids);
	OK(stasis_state_json(again, &text, &error));
	CHECK(strstr(text, "\"running\"") && strstr(text, bundle), "state: %s", text);
	free(text);
	OK(stasis_stats_json(again, &text, &error));
	CHECK(strstr(text, "\"memory\""), "statistics: %s", text);
	free(text);
	OK(stasis_update(again, "{\"pids\": {\"limit\": 77}}", &error));
	CHECK(stasis_check(again, &text, &error) == 0, "checkpointable");
	CHECK(strstr(text, "\"obstacles\""), "check: %s", text);
	free(text);
	OK(stasis_delete(c, true, &error));
	CHECK(stasis_wait(again, 1000, &(int){0}, &error) == 0, "wait for a deleted one");
	stasis_free(again);
	stasis_free(c);
}

/* Nobody's parent, and with the kernel's help all the same; then as the parent. */
static void test_wait(struct stasis *s)
{
	struct stasis_container *c = started(s, "wait");
	int status = -1;

	CHECK(stasis_wait(c, 50, &status, &error) == 1, "it runs");
	OK(stasis_signal(c, SIGKILL, false, &error));
	OK(stasis_wait(c, 5000, &status, &error));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
	OK(stasis_delete(c, false, &error));
	stasis_free(c);

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	c = started(s, "wait");
	OK(stasis_signal(c, SIGKILL, true, &error));
	OK(stasis_wait(c, 5000, &status, &error));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child is left");
	OK(stasis_delete(c, false, &error));
	stasis_free(c);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}

/* stdio that is crossed, closed and of our own making */
static void test_exec(struct stasis *s)
{
	const char *const args[] = {
		"/bin/sh", "-c", "read line; echo \"$line $X $(id -u) $(pwd)\"; echo err >&2; exit 9", NULL};
	const char *const env[] = {"X=y", NULL};
	struct stasis_container *c = started(s, "exec");
	struct stasis_process *p;
	int in[2], out[2], stdio[3], status;
	char text[200];
	ssize_t n;

	CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0, "pipes");
	stdio[0] = in[0];
	stdio[1] = out[1];
	stdio[2] = -1;
	OK(stasis_exec(c,
		STASIS_OPTIONS(stasis_exec_options, .args = args, .env = env, .cwd = "/cr", .user = "12:34",
			.stdio = stdio),
		&p, &error));
	close(out[1]);
	CHECK(stasis_process_pid(p) > 1, "pid %d", stasis_process_pid(p));
	CHECK(stasis_process_wait(p, 0, &status, &error) == 1, "it waits for input");
	CHECK(write(in[1], "hello\n", 6) == 6, "write");
	n = read(out[0], text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = '\0';
	CHECK(!strcmp(text, "hello y 12 /cr\n"), "it said \"%s\"", text);
	OK(stasis_process_wait(p, 5000, &status, &error));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9, "status %x", status);
	stasis_process_free(p);
	close(in[0]);
	close(in[1]);
	close(out[0]);
	OK(stasis_delete(c, true, &error));
	stasis_free(c);
}

static void test_leave_running(struct stasis *s)
{
	struct stasis_container *c = started(s, "one"), *two;
	char image[4096];

	snprintf(image, sizeof(image), "%s/image", dir);
	OK(stasis_checkpoint(c,
		STASIS_OPTIONS(stasis_checkpoint_options, .image_path = image, .leave_running = true,
			.compress = "lz4", .dedup = true),
		&error));
	OK(stasis_delete(c, true, &error));
	stasis_free(c);
	OK(stasis_restore(s, "two",
		STASIS_OPTIONS(stasis_restore_options, .create.bundle = bundle, .image_path = image), &two,
		&error));
	FAILS(stasis_restore(s, "two",
		      STASIS_OPTIONS(stasis_restore_options, .create.bundle = bundle, .image_path = image),
		      &c, &error),
		-EEXIST, STASIS_ERROR_STATE, "exists");
	OK(stasis_wait_restore(two, 0, &error));
	OK(stasis_delete(two, true, &error));
	stasis_free(two);
}

/* That the words arrive is seen by what is said of others. */
static void test_lazy(struct stasis *s)
{
	struct stasis_container *c = started(s, "one"), *two;
	char image[4096];

	if (access("/dev/userfaultfd", W_OK) < 0) {
		OK(stasis_delete(c, true, &error));
		stasis_free(c);
		return;
	}
	snprintf(image, sizeof(image), "%s/lazy-image", dir);
	FAILS(stasis_checkpoint(c,
		      STASIS_OPTIONS(stasis_checkpoint_options, .image_path = image, .patience = "long"),
		      &error),
		-EINVAL, STASIS_ERROR_USAGE, "invalid --patience");
	FAILS(stasis_checkpoint(c,
		      STASIS_OPTIONS(stasis_checkpoint_options, .image_path = image, .pre_copy = "often"),
		      &error),
		-EINVAL, STASIS_ERROR_USAGE, "rounds");
	OK(stasis_checkpoint(c,
		STASIS_OPTIONS(
			stasis_checkpoint_options, .image_path = image, .pre_copy = "2", .patience = "200ms"),
		&error));
	stasis_free(c);
	FAILS(stasis_restore(s, "two",
		      STASIS_OPTIONS(stasis_restore_options, .create.bundle = bundle, .image_path = image,
			      .spec_check = "perhaps"),
		      &c, &error),
		-EINVAL, STASIS_ERROR_USAGE, "spec-check");
	FAILS(stasis_restore(s, "two",
		      STASIS_OPTIONS(stasis_restore_options, .create.bundle = bundle, .image_path = image,
			      .lazy = "perhaps"),
		      &c, &error),
		-EINVAL, STASIS_ERROR_USAGE, "yes, no or auto");
	OK(stasis_restore(s, "two",
		STASIS_OPTIONS(
			stasis_restore_options, .create.bundle = bundle, .image_path = image, .lazy = "yes"),
		&two, &error));
	OK(stasis_wait_restore(two, 20000, &error));
	OK(stasis_delete(two, true, &error));
	stasis_free(two);
}

static void *several(void *arg)
{
	char id[32], own[4096];
	struct stasis *s = opened();

	snprintf(id, sizeof(id), "thread-%d", *(int *)arg);
	snprintf(own, sizeof(own), "%s/t%d", dir, *(int *)arg);
	for (int i = 0; i < 5; i++) {
		struct stasis_container *c;

		OK(stasis_create(s, id, STASIS_OPTIONS(stasis_create_options, .bundle = own), &c, &error));
		OK(stasis_start(c, &error));
		OK(stasis_delete(c, true, &error));
		stasis_free(c);
	}
	stasis_close(s);
	return NULL;
}

/* at once in threads */
static void test_threads(void)
{
	pthread_t t[4];
	int number[4];

	for (int i = 0; i < 4; i++) {
		number[i] = i;
		CHECK(pthread_create(&t[i], NULL, several, &number[i]) == 0, "thread");
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

/* The control socket: a sandbox's first container made, asked about, watched and removed through it. */
static void test_control(struct stasis *s)
{
	struct stasis_control *c = NULL, *watch;
	char parameters[1000], *json;
	int fds[3], pipes[2], r, n = 0;
	char text[16] = "";

	FAILS(stasis_control_open(s, "nosuch", false, &c, &error), -ENOENT, STASIS_ERROR_STATE,
		"does not exist: nosuch");
	FAILS(stasis_control_open(s, "a/b", true, &c, &error), -EINVAL, STASIS_ERROR_USAGE, "sandbox");
	CHECK(c == NULL, "changed on failure");
	OK(stasis_control_open(s, "lib-pod", true, &c, &error));
	CHECK(stasis_control_fd(c) > 2 && !*stasis_control_error(c), "a new connection");
	snprintf(parameters, sizeof(parameters), "{\"id\": \"pod\", \"bundle\": \"%s\"}", bundle);
	OK(stasis_control_call(c, "io.stasis.Sandbox.StartRoot", parameters, NULL, &error));
	OK(stasis_control_call(c, "io.stasis.Sandbox.List", NULL, &json, &error));
	CHECK(strstr(json, "\"name\":\"POD\"") && strstr(json, "\"status\":\"running\""), "%s", json);
	free(json);
	FAILS(stasis_control_call(c, "io.stasis.Sandbox.State", "{\"id\": \"x\"}", NULL, &error), -ENOENT,
		STASIS_ERROR_STATE, "does not exist");
	CHECK(!strcmp(stasis_control_error(c), "io.stasis.Sandbox.ContainerNotFound"), "%s",
		stasis_control_error(c));
	FAILS(stasis_control_call(c, "io.stasis.Sandbox.State", NULL, NULL, &error), -EINVAL,
		STASIS_ERROR_USAGE, "id: is missing");
	FAILS(stasis_control_call(c, "io.stasis.Sandbox.State", "[]", NULL, &error), -EINVAL,
		STASIS_ERROR_USAGE, "no JSON object");
	FAILS(stasis_control_send(c, STASIS_OPTIONS(stasis_call_options, .more = true), &error), -EINVAL,
		STASIS_ERROR_USAGE, "no method");

	/* descriptors */
	CHECK(pipe(pipes) == 0, "pipe");
	fds[0] = fds[1] = fds[2] = pipes[1];
	OK(stasis_control_send(c,
		STASIS_OPTIONS(stasis_call_options, .method = "io.stasis.Sandbox.ExecuteAsync",
			.parameters = "{\"id\": \"pod\", \"args\": [\"echo\", \"hello\"]}", .fds = fds,
			.n_fds = 3),
		&error));
	CHECK(stasis_control_receive(c, NULL, &error) == 0, "exec");
	CHECK(read(pipes[0], text, sizeof(text) - 1) == 6 && !strcmp(text, "hello\n"), "\"%s\"", text);
	close(pipes[0]);
	close(pipes[1]);

	/* a stream, on a connection of its own */
	OK(stasis_control_open(s, "lib-pod", false, &watch, &error));
	OK(stasis_control_send(watch,
		STASIS_OPTIONS(stasis_call_options, .method = "io.stasis.Sandbox.Event",
			.parameters = "{\"id\": \"pod\", \"interval\": 10}", .more = true),
		&error));
	while ((r = stasis_control_receive(watch, &json, &error)) == 1) {
		CHECK(strstr(json, "stats"), "%s", json);
		free(json);
		if (++n == 3)
			OK(stasis_control_call(c, "io.stasis.Sandbox.Signal",
				"{\"id\": \"pod\", \"signal\": 9}", NULL, &error));
	}
	CHECK(r == 0 && strstr(json, "exit") && n >= 3, "%d: %d replies", r, n);
	free(json);
	stasis_control_close(watch);
	OK(stasis_control_call(c, "io.stasis.Sandbox.Destroy", "{\"id\": \"pod\"}", NULL, &error));
	stasis_control_close(c);
	stasis_control_close(NULL);
}

int main(int argc, char **argv)
{
	struct stasis *s;
	int before;

	if (argc != 5)
		return 2;
	program = argv[1];
	root = argv[2];
	bundle = argv[3];
	dir = argv[4];
	s = opened();
	before = descriptors();
	CHECK(!strcmp(stasis_version(), STASIS_VERSION), "version %s", stasis_version());
	test_errors(s);
	test_program_missing();
	test_looks(s);
	test_wait(s);
	test_exec(s);
	test_leave_running(s);
	test_lazy(s);
	test_control(s);
	CHECK(descriptors() == before, "%d descriptors, %d before", descriptors(), before);
	test_threads();
	stasis_close(s);
	return 0;
}
