/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/restore-join.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/sandbox.h"
#include "sandbox/client.h"
#include "sandbox/sandbox.h"

enum { CONFIG_MAX = 16 << 20 };

void restore_join_done(struct restore_join *j)
{
	free(j->sandbox);
	free(j->name);
	free(j->image_path);
	free(j->missing);
}

/* ---- which one it is ---- */

/* The same manifest as when the sandbox's was written. */
static int check_member(int dir, const struct image_sandbox_member *m, struct error *e)
{
	uint64_t checksum;

	if (image_read_checksum(dir, &checksum, e) < 0)
		return error_prefix(e, "container \"%s\"", m->name);
	if (checksum != m->checksum)
		return error_set(e, -EBADMSG, ERROR_CORRUPT,
			"the image of container \"%s\" is not the one that was made with the sandbox's",
			m->name);
	return 0;
}

static int check_config(int dir, const struct spec *bundle, enum spec_check how, struct error *e)
{
	_cleanup_(spec_free_p) struct spec *image = NULL;
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	if (how == SPEC_CHECK_IGNORE)
		return 0;
	r = read_file_at(dir, IMAGE_CONFIG, CONFIG_MAX, &text, &len);
	if (r < 0)
		return error_errno(e, r, "config.json of the image");
	r = spec_parse(bundle->bundle, text, len, &image, e);
	if (r < 0)
		return error_prefix(e, "config.json of the image");
	return spec_check(image, bundle, how, e);
}

static int find_member(const struct image_sandbox *image, const char *name,
	const struct image_sandbox_member **ret, struct error *e)
{
	char names[600];

	*ret = image_sandbox_find(image, name);
	if (*ret)
		return 0;
	image_sandbox_names(image, names, sizeof(names));
	return error_set(e, -ENOENT, ERROR_USAGE,
		"the image has no container \"%s\": there are %s (--container-name says which one it is)",
		name, names);
}

static int identify(const struct restore_options *o, const struct image_sandbox *image, int image_dir,
	struct restore_join *j, struct error *e)
{
	_cleanup_(spec_free_p) struct spec *spec = NULL;
	const struct image_sandbox_member *m;
	_cleanup_close_ int dir = -EBADF;
	int r = spec_load(o->create.bundle, &spec, e);

	if (r == 0)
		r = container_find_sandbox(&o->create, spec, &j->sandbox, &j->name, e);
	if (r < 0)
		return r;
	if (!j->sandbox)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"the image is of a sandbox: say with --sandbox ID (or by annotations) to which one "
			"the container "
			"comes, and with --container-name which one of the image it is");
	r = find_member(image, j->name, &m, e);
	if (r < 0)
		return r;
	dir = image_sandbox_directory(image_dir, m, e);
	if (dir < 0)
		return e->code;
	r = check_member(dir, m, e);
	if (r == 0)
		r = check_config(dir, spec, o->spec_check, e);
	if (r == 0 && asprintf(&j->image_path, "%s/" IMAGE_CONTAINERS "/%s", o->image_path, m->name) < 0)
		r = error_errno(e, -ENOMEM, "restore");
	return r;
}

/* ---- registering ---- */

static struct json_object *parameters(const struct restore_options *o, const struct image_sandbox *image,
	const struct restore_join *j, const struct meeting *m, unsigned deadline_s)
{
	struct json_object *p = json_object_new_object(), *names = json_object_new_array();
	char text[32];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)image->checksum);
	for (size_t i = 0; i < image->n_members; i++)
		json_object_array_add(names, json_object_new_string(image->members[i].name));
	json_add_string(p, "id", o->create.id);
	json_add_string(p, "name", j->name);
	json_add_string(p, "image", text);
	json_object_object_add(p, "names", names);
	json_object_object_add(p, "prepare", json_object_new_boolean(m->prepare));
	json_object_object_add(p, "deadline", json_object_new_int64(deadline_s));
	return p;
}

static int take_reply(struct json_object *reply, struct meeting *m, struct restore_join *j, struct error *e)
{
	struct json_object *place, *count, *missing;
	size_t n = 0, size = 1;

	if (!json_object_object_get_ex(reply, "place", &place) ||
		!json_object_object_get_ex(reply, "count", &count) ||
		!json_object_object_get_ex(reply, "missing", &missing) ||
		!json_object_is_type(missing, json_type_array))
		return error_set(e, -EPROTO, ERROR_INTERNAL, "a reply of the supervisor that makes no sense");
	m->k = (unsigned)json_object_get_int64(place);
	m->n = (unsigned)json_object_get_int64(count);
	for (size_t i = 0; i < json_object_array_length(missing); i++)
		size += strlen(json_object_get_string(json_object_array_get_idx(missing, i))) + 2;
	j->missing = calloc(1, size);
	for (size_t i = 0; i < json_object_array_length(missing) && j->missing; i++)
		n += snprintf(j->missing + n, size - n, "%s%s", i ? ", " : "",
			json_object_get_string(json_object_array_get_idx(missing, i)));
	m->missing = j->missing && *j->missing ? j->missing : NULL;
	return j->missing ? 0 : error_errno(e, -ENOMEM, "restore");
}

/* The memory that all share comes first on the line. */
static int take_shared(struct meeting *m, struct error *e)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	_cleanup_close_ int fd = -EBADF;
	uint32_t type;
	struct iovec data = {&type, sizeof(type)};
	struct msghdr msg = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(m->session, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n <= 0 ? NULL : CMSG_FIRSTHDR(&msg);
	void *p;

	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return error_errno(e, n < 0 ? -errno : -EPROTO, "register with the sandbox's supervisor");
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	p = mmap(NULL, sizeof(*m->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return error_errno(e, -errno, "register with the sandbox's supervisor");
	m->shared = p;
	return 0;
}

static void close_pair(int pair[2])
{
	close_p(&pair[0]);
	close_p(&pair[1]);
}

static int call_supervisor(
	int fd, struct json_object *p, const int fds[2], struct json_object **reply, struct error *e)
{
	_cleanup_(client_done) struct client c = {.fd = fd};

	return client_call(&c,
		&(struct client_call){
			.method = "io.stasis.Sandbox.JoinRestore", .parameters = p, .fds = fds, .n_fds = 2},
		reply, e);
}

static int join(const struct restore_options *o, struct json_object *p, struct meeting *m,
	struct restore_join *j, struct error *e)
{
	int line[2] = {-EBADF, -EBADF}, exchange[2] = {-EBADF, -EBADF}, fd, r;
	_cleanup_json_ struct json_object *reply = NULL;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line) < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, exchange) < 0) {
		r = error_errno(e, -errno, "socketpair");
		close_pair(line);
		return r;
	}
	m->session = line[0];
	m->exchange = exchange[0];
	fd = sandbox_connect(o->create.root, j->sandbox, true, e);
	r = fd < 0 ? fd : call_supervisor(fd, p, (const int[]){line[1], exchange[1]}, &reply, e);
	close_p(&line[1]);
	close_p(&exchange[1]);
	if (r == 0)
		r = take_reply(reply, m, j, e);
	if (r == 0)
		r = take_shared(m, e);
	if (r < 0)
		meeting_close(m);
	return r;
}

int restore_join(struct restore_options *o, unsigned deadline_s, struct meeting *m, struct restore_join *j,
	struct error *e)
{
	_cleanup_(image_sandbox_free_p) struct image_sandbox *image = NULL;
	_cleanup_json_ struct json_object *p = NULL;
	_cleanup_close_ int dir = -EBADF;
	int r;

	if (!o->image_path)
		o->image_path = "checkpoint";
	dir = open(o->image_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || !image_is_sandbox(dir))
		return 0;
	r = container_id_check(o->create.id, e);
	if (r == 0)
		r = image_sandbox_open(dir, &image, e);
	if (r == 0)
		r = identify(o, image, dir, j, e);
	if (r < 0)
		return r;
	p = parameters(o, image, j, m, deadline_s);
	r = join(o, p, m, j, e);
	if (r < 0)
		return r;
	o->image_path = j->image_path;
	o->create.sandbox = j->sandbox;
	o->create.name = j->name;
	o->meeting = m;
	o->ends_exec = true;
	return 1;
}
