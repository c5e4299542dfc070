/* SPDX-License-Identifier: Apache-2.0 */
/* What the program does for the library: everything that makes processes or runs hooks. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "lib/lib-priv.h"
#include "linux/procfd.h"

/* A status without an error in the log is a bug of the program's. */
static int run(const struct program *p, struct error *e)
{
	int r = program_run(p, e);

	return r <= 0 ? r
		      : error_set(e, -EIO, ERROR_INTERNAL, "%s %s: exit status %d, and no error",
				p->s->program, p->args[0], r);
}

static void add_create(struct program *p, const struct stasis_create_options *o)
{
	p->stdio = o->stdio;
	program_add_option(p, "--bundle", o->bundle);
	program_add_option(p, "--console-socket", o->console_socket);
	program_add_flag(p, "--no-pivot", o->no_pivot);
	program_add_flag(p, "--no-new-keyring", o->no_new_keyring);
}

/* The end of the options: an id may look like one. */
static void add_id(struct program *p, const char *id)
{
	program_add(p, "--");
	program_add(p, id);
}

/* The handle of what p makes. */
static int make(
	struct stasis *s, const char *id, struct program *p, struct stasis_container **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct stasis_container *c = lib_container_new(s, id);
	int r;

	if (!c)
		return error_errno(e, -ENOMEM, "container %s", id);
	p->s = s;
	add_id(p, id);
	r = container_id_check(id, e);
	if (r == 0)
		r = run(p, e);
	if (r == 0)
		r = lib_record(c, false, &record, e);
	if (r < 0)
		stasis_free(c);
	else
		*ret = c;
	return r;
}

EXPORT int stasis_create(struct stasis *s, const char *id, const struct stasis_create_options *options,
	struct stasis_container **ret, struct stasis_error *ret_error)
{
	struct program p = {.args = {"create"}, .n = 1};
	struct stasis_create_options o;
	struct error e;
	int r = lib_options(&o, sizeof(o), options, &e);

	if (r == 0) {
		add_create(&p, &o);
		r = make(s, id, &p, ret, &e);
	}
	return lib_error(r, &e, ret_error);
}

/* One whose value must be in the same word. */
static void add_mode(struct program *p, const char *name, const char *value, char buf[64])
{
	if (!value)
		return;
	snprintf(buf, 64, "%s=%s", name, value);
	program_add(p, buf);
}

static int no_image(struct error *e)
{
	return error_set(e, -EINVAL, ERROR_USAGE, "image_path is missing");
}

EXPORT int stasis_restore(struct stasis *s, const char *id, const struct stasis_restore_options *options,
	struct stasis_container **ret, struct stasis_error *ret_error)
{
	struct program p = {.args = {"restore", "--detach"}, .n = 2};
	struct stasis_restore_options o;
	char lazy[64];
	struct error e;
	int r = lib_options(&o, sizeof(o), options, &e);

	if (r == 0 && !o.image_path)
		r = no_image(&e);
	if (r == 0) {
		add_create(&p, &o.create);
		program_add_option(&p, "--image-path", o.image_path);
		program_add_option(&p, "--work-path", o.work_path);
		program_add_flag(&p, "--tcp-established", o.tcp_established);
		program_add_flag(&p, "--tcp-close", o.tcp_close);
		program_add_option(&p, "--manage-cgroups-mode", o.manage_cgroups_mode);
		program_add_option(&p, "--empty-ns", o.empty_ns);
		program_add_option(&p, "--lsm-profile", o.lsm_profile);
		add_mode(&p, "--lazy", o.lazy, lazy);
		program_add_option(&p, "--spec-check", o.spec_check);
		r = make(s, id, &p, ret, &e);
	}
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_checkpoint(struct stasis_container *c, const struct stasis_checkpoint_options *options,
	struct stasis_error *ret_error)
{
	struct program p = {.s = &c->runtime, .args = {"checkpoint"}, .n = 1};
	struct stasis_checkpoint_options o;
	char pre_copy[64];
	struct error e;
	int r = lib_options(&o, sizeof(o), options, &e);

	if (r == 0 && !o.image_path)
		r = no_image(&e);
	if (r == 0) {
		program_add_option(&p, "--image-path", o.image_path);
		program_add_option(&p, "--work-path", o.work_path);
		program_add_flag(&p, "--leave-running", o.leave_running);
		program_add_flag(&p, "--tcp-established", o.tcp_established);
		program_add_flag(&p, "--tcp-close", o.tcp_close);
		program_add_flag(&p, "--tcp-skip-in-flight", o.tcp_skip_in_flight);
		program_add_flag(&p, "--ext-unix-sk", o.ext_unix_sk);
		program_add_flag(&p, "--file-locks", o.file_locks);
		program_add_option(&p, "--manage-cgroups-mode", o.manage_cgroups_mode);
		program_add_option(&p, "--empty-ns", o.empty_ns);
		program_add_option(&p, "--compress", o.compress);
		program_add_flag(&p, "--dedup", o.dedup);
		add_mode(&p, "--pre-copy", o.pre_copy, pre_copy);
		program_add_option(&p, "--patience", o.patience);
		add_id(&p, c->id);
		r = run(&p, &e);
	}
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_wait_restore(struct stasis_container *c, int timeout_ms, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, false, &record, &e);

	if (r == 0)
		r = container_filling_wait(record, timeout_ms, &e);
	return r == -ETIMEDOUT ? 1 : lib_error(r, &e, ret_error);
}

EXPORT int stasis_check(struct stasis_container *c, char **ret_json, struct stasis_error *ret_error)
{
	_cleanup_free_ char *output = NULL;
	struct program p = {.s = &c->runtime,
		.args = {"check", "--format", "json", "--", c->id},
		.n = 5,
		.ret_output = &output};
	struct error e;
	int r = program_run(&p, &e);

	if (r > 1)
		r = error_set(&e, -EIO, ERROR_INTERNAL, "check: exit status %d", r);
	if (r >= 0)
		*ret_json = take_ptr(output);
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_start(struct stasis_container *c, struct stasis_error *ret_error)
{
	struct program p = {.s = &c->runtime, .args = {"start", "--", c->id}, .n = 3};
	struct error e;

	return lib_error(run(&p, &e), &e, ret_error);
}

EXPORT int stasis_delete(struct stasis_container *c, bool force, struct stasis_error *ret_error)
{
	struct program p = {.s = &c->runtime, .args = {"delete"}, .n = 1};
	struct error e;

	program_add_flag(&p, "--force", force);
	add_id(&p, c->id);
	return lib_error(run(&p, &e), &e, ret_error);
}

EXPORT int stasis_update(
	struct stasis_container *c, const char *resources_json, struct stasis_error *ret_error)
{
	struct program p = {.s = &c->runtime,
		.args = {"update", "--resources", "-", "--", c->id},
		.n = 5,
		.input = resources_json};
	struct error e;

	return lib_error(run(&p, &e), &e, ret_error);
}

/* A socket to which the program sends the pidfd of a process, in a directory that only we can enter. */
struct mailbox {
	char dir[64], path[96];
	int fd;
};

static void mailbox_done(struct mailbox *m)
{
	close_p(&m->fd);
	if (m->path[0])
		unlink(m->path);
	if (m->dir[0])
		rmdir(m->dir);
}

static int mailbox_open(struct mailbox *m, struct error *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(m->dir, sizeof(m->dir), "/tmp/stasis-XXXXXX");
	if (!mkdtemp(m->dir)) {
		m->dir[0] = '\0';
		return error_errno(e, -errno, "make a directory in /tmp");
	}
	snprintf(m->path, sizeof(m->path), "%s/pidfd", m->dir);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", m->path);
	m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->fd < 0 || bind(m->fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(m->fd, 1) < 0)
		return error_errno(e, -errno, "socket for the process");
	return 0;
}

/* After the program has ended: it has sent by then. */
static int mailbox_receive(const struct mailbox *m, struct error *e)
{
	_cleanup_close_ int connection = accept4(m->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char text[64];
	struct iovec iov = {text, sizeof(text)};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	int fd;

	if (connection < 0 || recvmsg(connection, &msg, MSG_CMSG_CLOEXEC) < 0)
		return error_errno(e, -errno, "receive the process");
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return error_set(e, -EPROTO, ERROR_INTERNAL, "no pidfd of the process");
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void add_exec(struct program *p, const struct stasis_exec_options *o, const char *id)
{
	p->stdio = o->stdio;
	program_add_option(p, "--process", o->process);
	program_add_option(p, "--cwd", o->cwd);
	program_add_option(p, "--user", o->user);
	for (const char *const *v = o->env; v && *v; v++)
		program_add_option(p, "--env", *v);
	program_add_flag(p, "--tty", o->tty);
	program_add_option(p, "--console-socket", o->console_socket);
	add_id(p, id);
	for (const char *const *a = o->args; a && *a; a++)
		program_add(p, *a);
}

static int process_new(int pidfd, struct stasis_process **ret, struct error *e)
{
	struct stasis_process *p = calloc(1, sizeof(*p));

	if (!p) {
		close(pidfd);
		return error_errno(e, -ENOMEM, "process");
	}
	p->pidfd = pidfd;
	p->pid = pidfd_pid(pidfd); /* -ESRCH: it has ended already */
	*ret = p;
	return 0;
}

EXPORT int stasis_exec(struct stasis_container *c, const struct stasis_exec_options *options,
	struct stasis_process **ret, struct stasis_error *ret_error)
{
	_cleanup_(mailbox_done) struct mailbox m = {.fd = -EBADF};
	struct program p = {.s = &c->runtime, .args = {"exec", "--detach"}, .n = 2};
	struct stasis_exec_options o;
	struct error e;
	int r = lib_options(&o, sizeof(o), options, &e);

	if (r == 0 && !o.args && !o.process)
		r = error_set(&e, -EINVAL, ERROR_USAGE, "neither args nor process is given");
	if (r == 0)
		r = mailbox_open(&m, &e);
	if (r == 0) {
		program_add_option(&p, "--pidfd-socket", m.path);
		add_exec(&p, &o, c->id);
		r = run(&p, &e);
	}
	if (r == 0)
		r = mailbox_receive(&m, &e);
	if (r >= 0)
		r = process_new(r, ret, &e);
	return lib_error(r, &e, ret_error);
}
