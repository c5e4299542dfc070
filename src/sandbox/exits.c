/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How members ended: exits/ID in the sandbox's directory, so that the next supervisor knows it too. It goes with the
 * container. A file names the process that it speaks of: a container that was made anew under the id has another one.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "sandbox/supervisor-priv.h"
#include "sandbox/varlink.h"

static int open_exits(const struct supervisor *s, bool make)
{
	int fd;

	if (make && mkdirat(s->dir_fd, CONTAINER_EXITS, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(s->dir_fd, CONTAINER_EXITS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void exit_save(struct supervisor *s, const struct member *m)
{
	_cleanup_close_ int dir = open_exits(s, true);
	_cleanup_json_ struct json_object *o = json_object_new_object();
	const struct process *p = &m->process;
	const char *text;
	int r = dir;

	json_object_object_add(o, "pid", json_object_new_int(p->pid));
	json_object_object_add(o, "start", json_object_new_uint64(p->start_time));
	json_object_object_add(o, "status", p->status_known ? json_object_new_int(p->status) : NULL);
	json_object_object_add(o, "time", json_object_new_int64(p->exited_at_ns));
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	if (dir >= 0)
		r = text ? write_file_replace_at(dir, m->id, text, strlen(text), 0600) : -ENOMEM;
	if (r < 0)
		log_warning("exit status of %s: %s", m->id, error_text(r).s);
}

static bool get(struct json_object *o, const char *key, int64_t *ret)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_int))
		return false;
	*ret = json_object_get_int64(v);
	return true;
}

bool exit_read(int sandbox_fd, const char *id, pid_t pid, uint64_t start_time, struct exit_kept *ret)
{
	_cleanup_close_ int dir =
		openat(sandbox_fd, CONTAINER_EXITS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_json_ struct json_object *o = NULL;
	int64_t its_pid, start, status;
	char text[512];

	if (dir < 0 || read_small_file_at(dir, id, text, sizeof(text)) < 0)
		return false;
	o = json_tokener_parse(text);
	if (!json_object_is_type(o, json_type_object) || !get(o, "pid", &its_pid) ||
		!get(o, "start", &start) || !get(o, "time", &ret->at_ns) || its_pid != pid ||
		start != (int64_t)start_time)
		return false;
	ret->known = get(o, "status", &status);
	ret->status = ret->known ? (int)status & 0xffff : 0;
	return true;
}

bool exit_load(struct supervisor *s, struct member *m)
{
	struct process *p = &m->process;
	struct exit_kept kept;

	if (!exit_read(s->dir_fd, m->id, p->pid, p->start_time, &kept))
		return false;
	p->status_known = kept.known;
	p->status = kept.status;
	p->exited_at_ns = kept.at_ns;
	return true;
}

void exit_forget(struct supervisor *s, const char *id)
{
	_cleanup_close_ int dir = open_exits(s, false);

	if (dir >= 0)
		unlinkat(dir, id, 0);
}
