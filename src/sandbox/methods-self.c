/* SPDX-License-Identifier: Apache-2.0 */
/* Logging.Change, Profile.Begin, Profile.End: the supervisor about itself. */
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/trace.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"

static const char *const levels[] = {[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug"};

static int open_log(const char *path, int *ret, struct error *e)
{
	struct stat st;

	/* O_NONBLOCK: not a FIFO either, which would hold us. */
	*ret = open(
		path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (*ret >= 0 && fstat(*ret, &st) == 0 && S_ISREG(st.st_mode))
		return 0;
	if (*ret < 0)
		return error_errno(e, -errno, "log file %s", path);
	close_p(ret);
	return error_set(e, -EINVAL, ERROR_CONFIG, "log file %s: not a regular file", path);
}

static int change(struct call *c, struct error *e)
{
	const char *path, *wanted = call_string(c, "level");
	enum log_level before = log_max_level(), level = LOG_LEVEL_INFO;
	struct json_object *o;
	int fd = -EBADF, r = call_path(c, "file", &path, e);

	if (r == 0 && path)
		r = open_log(path, &fd, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (!strcmp(wanted, levels[i]))
			level = (enum log_level)i;
	if (fd >= 0)
		log_setup(fd, LOG_FORMAT_JSON, level);
	else
		log_set_level(level);
	log_info("the log level is %s", wanted);
	o = json_object_new_object();
	json_add_string(o, "before", levels[before]);
	return call_reply(c, o, false);
}

static int not_now(struct call *c, const char *message)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "message", message);
	return call_error(c, "io.stasis.Profile.NotNow", o);
}

static int begin(struct call *c, struct error *e)
{
	const char *path;
	int r = call_path(c, "file", &path, e);

	if (r < 0)
		return r;
	if (trace_is_on())
		return not_now(c, "there is a profile already: End ends it");
	r = trace_begin(path, "supervisor", e);
	return r < 0 ? r : call_reply(c, NULL, false);
}

static int64_t us(const struct timeval *t)
{
	return (int64_t)t->tv_sec * 1000000 + t->tv_usec;
}

static int end(struct call *c, struct error *e)
{
	struct json_object *o;
	struct rusage used;

	if (!trace_is_on())
		return not_now(c, "there is no profile: Begin begins one");
	trace_end();
	getrusage(RUSAGE_SELF, &used);
	o = json_object_new_object();
	json_object_object_add(o, "userTime", json_object_new_int64(us(&used.ru_utime)));
	json_object_object_add(o, "systemTime", json_object_new_int64(us(&used.ru_stime)));
	json_object_object_add(o, "maxRss", json_object_new_int64(used.ru_maxrss));
	return call_reply(c, o, false);
}

const struct method self_methods[] = {
	{"io.stasis.Logging", "Change", change},
	{"io.stasis.Profile", "Begin", begin},
	{"io.stasis.Profile", "End", end},
	{},
};
