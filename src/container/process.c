/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process of the container gets before its program is executed: limits, ids, capabilities, no_new_privs,
 * seccomp, working directory. Shared by init and exec.
 *
 * Order matters. The bounding set goes before the user id (needs CAP_SETPCAP); permitted capabilities are kept over the
 * change of user id; the seccomp filter is loaded last, so that it need not allow what we do ourselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"
#include "linux/caps.h"
#include "linux/clone.h"
#include "linux/procfd.h"
#include "linux/seccomp-load.h"

void process_reset_signals(void)
{
	struct sigaction act = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			sigaction(sig, &act, NULL); /* libc refuses its own two; they are default */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int process_raise_rlimits(const struct spec_process *p, struct error *e)
{
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct spec_rlimit *l = &p->rlimits[i];
		struct rlimit now;

		if (getrlimit(l->resource, &now) < 0)
			return error_errno(e, -errno, "read limit %s", l->name);
		if (now.rlim_max >= l->hard)
			continue;
		now.rlim_max = l->hard;
		if (setrlimit(l->resource, &now) < 0)
			return error_errno(e, -errno,
				"error setting rlimits: raise the hard limit %s to %llu", l->name,
				(unsigned long long)l->hard);
	}
	return 0;
}

void process_limit_capabilities(struct spec_process *p)
{
	struct spec_capabilities *c = &p->capabilities;
	uint64_t *const sets[] = {&c->bounding, &c->effective, &c->inheritable, &c->permitted, &c->ambient};
	uint64_t missing = 0;
	struct caps own;
	const char *name;

	if (!p->has_capabilities || caps_get(&own) < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		missing |= *sets[i] & ~own.permitted;
		*sets[i] &= own.permitted;
	}
	for (size_t i = 0; missing && (name = spec_name(SPEC_CAPABILITIES, i)); i++)
		if (missing >> i & 1)
			log_warning(
				"process.capabilities: %s is ignored: stasis does not have it itself", name);
}

int process_set_rlimits(const struct spec_process *p, struct error *e)
{
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct spec_rlimit *l = &p->rlimits[i];
		struct rlimit limit = {.rlim_cur = l->soft, .rlim_max = l->hard};

		if (setrlimit(l->resource, &limit) < 0)
			return error_errno(e, -errno, "error setting rlimits: set %s to %llu:%llu", l->name,
				(unsigned long long)l->soft, (unsigned long long)l->hard);
	}
	return 0;
}

int process_set_oom_score(const struct spec_process *p, int proc, struct error *e)
{
	char text[16], now[16];
	int r;

	if (!p->has_oom_score_adj)
		return 0;
	snprintf(text, sizeof(text), "%d", p->oom_score_adj);
	r = procfs_write(proc, "self/oom_score_adj", text);
	if (r == -EACCES && read_small_file_at(proc, "self/oom_score_adj", now, sizeof(now)) > 0 &&
		!strncmp(now, text, strlen(text)) && now[strlen(text)] == '\n')
		return 0; /* may not be lowered, but is what was asked for */
	return r < 0 ? error_errno(e, r, "set oom_score_adj to %s", text) : 0;
}

int process_open_attr(const struct spec_process *p, int proc, int *ret, struct error *e)
{
	if (!p->apparmor_profile && !p->selinux_label)
		return 0;
	*ret = openat(proc, "self/attr", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? error_errno(e, -errno, "open /proc/self/attr") : 0;
}

int process_close_others(int preserve_fds, const int *keep, size_t n_keep, struct error *e)
{
	unsigned int from = 3 + preserve_fds;

	log_setup(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR); /* its file is the host's, too */
	for (;;) {
		unsigned int next = ~0U;

		for (size_t i = 0; i < n_keep; i++)
			if (keep[i] >= 0 && (unsigned int)keep[i] >= from && (unsigned int)keep[i] < next)
				next = keep[i];
		if (next != from && close_range(from, next == ~0U ? next : next - 1, 0) < 0)
			return error_errno(e, -errno, "close descriptors");
		if (next == ~0U)
			return 0;
		from = next + 1;
	}
}

int process_hide(struct error *e)
{
	/* an ordinary user's process has no rights that a container could want, and needs its own files in /proc */
	if (geteuid() == 0 && prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_errno(e, -errno, "prctl");
	return 0;
}

pid_t process_host_pid(int proc)
{
	char text[16];
	ssize_t n = readlinkat(proc, "self", text, sizeof(text) - 1);
	long pid;
	char *end;

	text[MAX(n, 0)] = '\0';
	pid = strtol(text, &end, 10);
	return pid > 0 && !*end ? (pid_t)pid : getpid();
}

static int write_label(const struct process_context *x, const char *what, const char *file, const char *value,
	struct error *e)
{
	int r = write_string_at(x->attr_fd, file, value);

	return r < 0 ? error_errno(e, r,
			       "process.%s: write \"%s\" to `/proc/self/attr/%s` (does this kernel have the "
			       "security module, and the module the label?)",
			       what, value, file)
		     : 0;
}

#define KEY_USR_SEARCH 0x00080000 /* keyutils.h */

/* A session keyring of its own, so that the container never sees the caller's keys. SELinux labels it as the process (the
 * exec takes the setting back). */
int process_join_keyring(const struct process_context *x, struct error *e)
{
	const char *label = x->p->selinux_label;
	char name[300], text[400];
	unsigned permissions;
	long ring, n;
	int r = label ? write_label(x, "selinuxLabel", "keycreate", label, e) : 0;

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "_ses.%s", x->state->id);
	ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name);
	if (ring < 0)
		return errno == ENOSYS || errno == EPERM ? 0
							 : error_errno(e, -errno, "join a session keyring");
	/* exec joins it by its name, which takes this right; "type;uid;gid;permissions;name" */
	n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, ring, text, sizeof(text) - 1);
	text[n > 0 && n < (long)sizeof(text) ? n : 0] = '\0';
	if (sscanf(text, "%*[^;];%*d;%*d;%x;", &permissions) == 1)
		(void)!syscall(SYS_keyctl, KEYCTL_SETPERM, ring, permissions | KEY_USR_SEARCH);
	return 0;
}

/* In a user namespace of an ordinary user nobody may drop groups: what he is in he stays in. */
static int set_groups(const struct process_context *x, struct error *e)
{
	const struct spec_process *p = x->p;

	if (thread_setgroups(p->n_additional_gids, p->additional_gids) == 0)
		return 0;
	if (errno != EPERM || !x->userns)
		return error_errno(e, -errno, "set the supplementary groups");
	if (p->n_additional_gids == 0)
		return 0;
	return error_set(e, -EPERM, ERROR_CONFIG,
		"process.user.additionalGids: a user namespace whose only mapped group is its owner's can't "
		"have others");
}

static int set_ids(const struct process_context *x, struct error *e)
{
	const struct spec_process *p = x->p;
	struct caps caps;
	int r;

	r = set_groups(x, e);
	if (r < 0)
		return r;
	if (thread_setresgid(p->gid) < 0)
		return error_errno(e, -errno, "set the group id to %u", p->gid);
	if (p->uid == geteuid() && p->uid == getuid())
		return 0;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || thread_setresuid(p->uid) < 0)
		return error_errno(e, -errno, "set the user id to %u", p->uid);
	/* a change from uid 0 empties the effective set; we still need what is permitted */
	r = caps_get(&caps);
	if (r == 0) {
		caps.effective = caps.permitted;
		r = caps_set(&caps);
	}
	if (r < 0 || prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return error_errno(e, r < 0 ? r : -errno, "keep the capabilities over the change of user id");
	return 0;
}

/* As runc: it has to be open to us or to the program's user. */
static int enter_cwd(const struct spec_process *p, bool entered, struct error *e)
{
	char buf[4096];
	long n;

	if (!entered && chdir(p->cwd) < 0)
		return error_errno(e, -errno, "chdir to cwd (\"%s\") set in config.json failed", p->cwd);
	/* CVE-2024-21626: a cwd through a leaked descriptor of the host is not below our root; the kernel says so */
	n = syscall(SYS_getcwd, buf, sizeof(buf));
	if (n < 0 || buf[0] != '/')
		return error_set(e, -EPERM, ERROR_CONFIG,
			"current working directory is outside of container mount namespace root");
	return 0;
}

static const char *get_env(const struct spec_process *p, const char *name)
{
	size_t n = strlen(name);

	for (char **s = p->env; s && *s; s++)
		if (!strncmp(*s, name, n) && (*s)[n] == '=')
			return *s + n + 1;
	return NULL;
}

/* The home directory of a uid by the container's /etc/passwd ("/" if it is not there), malloc'ed. */
static char *home_of(uid_t uid)
{
	/* the image's: it may be a FIFO, a device, endless */
	_cleanup_close_ int fd = open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	char *rest, *line;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || read_fd(fd, 1 << 20, &text, NULL) < 0)
		return strdup("HOME=/");
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		char *field[7] = {NULL}, *home;
		size_t n = 0;

		while (line && n < ARRAY_SIZE(field))
			field[n++] = strsep(&line, ":");
		if (n < 6 || !*field[2] || strtoull(field[2], &home, 10) != uid || *home ||
			field[5][0] != '/')
			continue;
		return asprintf(&home, "HOME=%s", field[5]) < 0 ? NULL : home;
	}
	return strdup("HOME=/");
}

/* Of a variable that is given twice the later one counts, as to runc; getenv(3) would find the earlier one. */
static void put_env(char **env, size_t *n, char *entry)
{
	size_t name = strcspn(entry, "=") + 1;

	for (size_t i = 0; i < *n; i++)
		if (!strncmp(env[i], entry, name)) {
			memmove(&env[i], &env[i + 1], (*n - i - 1) * sizeof(char *));
			--*n;
			break;
		}
	env[(*n)++] = entry;
}

/* 0, or -ENOMEM when the entry is NULL: it could not be made. */
static int put_made(char **env, size_t *n, char *entry)
{
	if (!entry)
		return -ENOMEM;
	put_env(env, n, entry);
	return 0;
}

/* sd_listen_fds(3): LISTEN_PID is the program's own, and a container's first process is pid 1 there, as runc says. */
static int put_listen_fds(char **env, size_t *n, const struct listen_fds *l)
{
	char *fds = NULL, *names = NULL;

	if (asprintf(&fds, "LISTEN_FDS=%d", l->n) < 0)
		return -ENOMEM;
	put_env(env, n, fds);
	put_env(env, n, (char *)"LISTEN_PID=1");
	if (!l->names)
		return 0;
	return put_made(env, n, asprintf(&names, "LISTEN_FDNAMES=%s", l->names) < 0 ? NULL : names);
}

/* The environment, with HOME, which programs expect and config.json need not give. */
static int complete_env(struct process_context *x, struct error *e)
{
	size_t given = 0, n = 0;
	int r = 0;

	while (x->p->env && x->p->env[given])
		given++;
	x->env = calloc(given + 5, sizeof(char *)); /* HOME, three LISTEN_*, NULL */
	if (!x->env)
		return error_errno(e, -ENOMEM, "environment");
	for (size_t i = 0; i < given; i++)
		put_env(x->env, &n, x->p->env[i]);
	if (!get_env(x->p, "HOME"))
		r = put_made(x->env, &n, home_of(x->p->uid));
	if (r == 0 && x->listen_fds.n)
		r = put_listen_fds(x->env, &n, &x->listen_fds);
	x->env[n] = NULL;
	return r < 0 ? error_errno(e, r, "environment") : 0;
}

/* 0 or why this file can't be executed. */
static int check_executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EACCES;
	/* the effective ids and capabilities are those of the process by now, all but for DAC_OVERRIDE: check a mode bit */
	if (!(st.st_mode & 0111))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int find_executable(struct process_context *x, struct error *e)
{
	const char *name = x->p->args[0], *path = get_env(x->p, "PATH");
	int denied = 0, r;

	if (strchr(name, '/')) {
		if ((size_t)snprintf(x->executable, sizeof(x->executable), "%s", name) >=
			sizeof(x->executable))
			return error_errno(e, -ENAMETOOLONG, "exec");
		r = check_executable(name);
		if (r == -EACCES || r == -EISDIR)
			return error_set(e, r, ERROR_CONFIG, "exec: \"%s\": %s", name, error_text(r).s);
		if (r < 0)
			return error_set(
				e, r, ERROR_CONFIG, "exec: \"%s\": stat %s: %s", name, name, error_text(r).s);
		return 0;
	}
	if (!path)
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, ":");
		int len =
			snprintf(x->executable, sizeof(x->executable), "%.*s/%s", (int)n, n ? p : ".", name);

		r = (size_t)len < sizeof(x->executable) ? check_executable(x->executable) : -ENAMETOOLONG;
		if (r == 0)
			return 0;
		if (r == -EACCES)
			denied = 1;
		p += n;
		if (!*p)
			break;
	}
	if (denied)
		return error_set(e, -EACCES, ERROR_CONFIG, "exec: \"%s\": permission denied", name);
	return error_set(e, -ENOENT, ERROR_CONFIG, "exec: \"%s\": executable file not found in $PATH", name);
}

int process_prepare(struct process_context *x, struct error *e)
{
	const struct spec_process *p = x->p;
	bool entered;
	int r;

	if (!x->no_new_keyring) {
		r = process_join_keyring(x, e);
		if (r < 0)
			return r;
	}
	if (x->personality && personality(*x->personality) < 0)
		return error_errno(e, -errno, "set the personality");
	r = process_set_scheduling(p, e);
	if (r == 0)
		r = process_set_memory_policy(x->memory_policy, e);
	if (r == 0)
		r = process_set_rlimits(p, e);
	if (r < 0)
		return r;
	if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(e, -errno, "set no_new_privs");
	if (p->has_capabilities) {
		r = caps_limit_bounding(p->capabilities.bounding);
		if (r < 0)
			return error_errno(e, r, "limit the bounding set of capabilities");
	}
	entered = chdir(p->cwd) == 0;
	r = set_ids(x, e);
	if (r == 0)
		r = enter_cwd(p, entered, e);
	if (r < 0)
		return r;
	umask(p->has_umask ? p->umask : 0022);
	r = complete_env(x, e);
	return r < 0 ? r : find_executable(x, e);
}

static int load_seccomp(struct process_context *x, struct error *e)
{
	const struct spec_seccomp *s = x->seccomp_spec;
	int r;

	if (!x->seccomp || x->filtered)
		return 0;
	if (s->notifies)
		return seccomp_load_with_agent(x->seccomp, s, take_fd(&x->agent), x->state, x->host_pid, e);
	/* is about answers to a listener, and an error to the kernel where there is none */
	r = seccomp_install(x->seccomp, s->flags & ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	return r < 0 ? error_errno(e, r, "load the seccomp filter") : 0;
}

int process_load_notifying(struct process_context *x, struct error *e)
{
	int r;

	if (!x->seccomp || !x->seccomp_spec->notifies)
		return 0;
	r = load_seccomp(x, e);
	x->filtered = r == 0;
	return r;
}

/*
 * Without no_new_privs, loading a filter needs CAP_SYS_ADMIN. It is kept until the exec, which computes permitted and
 * effective anew, from the bounding, inheritable and ambient sets only; so nothing has to be done after the filter is
 * loaded that it could forbid. The others go now: they would let execve(2) open what the program's user may not.
 */
static int give_up_capabilities(const struct process_context *x, struct error *e)
{
	const struct spec_capabilities *c = &x->p->capabilities;
	struct caps caps = {c->effective, c->permitted, c->inheritable}, now;
	int r;

	if (!x->p->has_capabilities)
		return 0;
	if (x->seccomp && !x->filtered && !x->p->no_new_privileges && caps_get(&now) == 0) {
		caps.effective |= now.permitted & 1ULL << CAP_SYS_ADMIN;
		caps.permitted |= now.permitted & 1ULL << CAP_SYS_ADMIN;
	}
	r = caps_set(&caps);
	if (r < 0)
		return error_errno(e, r, "set the capabilities");
	r = caps_set_ambient(c->ambient);
	return r < 0 ? error_errno(e, r, "set the ambient capabilities") : 0;
}

static int set_labels(const struct process_context *x, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	bool stacked;
	int r = 0;

	if (x->p->selinux_label)
		r = write_label(x, "selinuxLabel", "exec", x->p->selinux_label, e);
	if (r < 0 || !x->p->apparmor_profile)
		return r;
	if (asprintf(&text, "exec %s", x->p->apparmor_profile) < 0)
		return error_errno(e, -ENOMEM, "process.apparmorProfile");
	stacked = faccessat(x->attr_fd, "apparmor/exec", F_OK, 0) == 0; /* 5.8 */
	return write_label(x, "apparmorProfile", stacked ? "apparmor/exec" : "exec", text, e);
}

int process_exec(struct process_context *x, struct error *e)
{
	int r = set_labels(x, e);

	if (r == 0)
		r = give_up_capabilities(x, e);
	/* whatever is still open, by us or by our caller, ends here */
	if (r == 0 && close_range(3 + x->preserve_fds, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		r = error_errno(e, -errno, "mark descriptors close-on-exec");
	/* last: the filter need not allow anything that we do ourselves, but execve */
	if (r == 0)
		r = load_seccomp(x, e);
	if (r < 0)
		return r;
	execve(x->executable, x->p->args, x->env);
	r = -errno;
	return error_set(e, r, ERROR_CONFIG, "exec %s: %s", x->executable, error_text(r).s);
}
