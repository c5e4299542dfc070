/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

const char *const fault_names[] = {
	/* create */
	"create-start",
	"create-config",
	"create-dir",
	"create-state-dir",
	"create-cgroup",
	"create-seccomp",
	"create-sockets",
	"create-clone",
	"create-hooks",
	"create-ready",
	"create-mountinfo",
	"create-pid-file",
	"create-state",
	/* create, in init */
	"create-init",
	"create-joined",
	"create-namespaces",
	"create-root",
	"create-mounts",
	"create-devices",
	"create-container-hooks",
	"create-console",
	"create-protected",
	"create-pivot",
	"create-closed",
	"create-process",
	/* start */
	"start-start",
	"start-told",
	"start-end",
	/* start, in init */
	"start-go",
	"start-hooks",
	/* exec */
	"exec-start",
	"exec-prepared",
	"exec-clone",
	"exec-ready",
	"exec-pid-file",
	/* exec, in its process */
	"exec-namespaces",
	"exec-console",
	"exec-closed",
	"exec-process",
	/* delete */
	"delete-start",
	"delete-killed",
	"delete-cgroup",
	"delete-hooks",
	"delete-end",
	/* checkpoint */
	"checkpoint-saved",
	"checkpoint-start",
	"checkpoint-preflight",
	"checkpoint-directory",
	"checkpoint-ready",
	"checkpoint-frozen",
	"checkpoint-seized",
	"checkpoint-thawed",
	"checkpoint-raised",
	"checkpoint-asleep",
	"checkpoint-injected",
	"checkpoint-snapshot",
	"checkpoint-collected",
	"checkpoint-queue-taking",
	"checkpoint-queue-putting",
	"checkpoint-terminal",
	"checkpoint-files",
	"checkpoint-memory",
	"checkpoint-removed",
	"checkpoint-late",
	"checkpoint-image",
	"checkpoint-pack",
	"checkpoint-comparing",
	"checkpoint-packing",
	"checkpoint-packed",
	"checkpoint-stream",
	"checkpoint-manifest",
	"together-committed",
	"together-passed",
	"checkpoint-end",
	/* within a single system call of checkpoint's, or a batch of them: kill only (FAULT_CALL: in the call of that number) */
	"call-parked",
	"call-masked",
	"call-waiting",
	"call-stopped",
	"call-entered",
	"call-made",
	"call-unmasked",
	"call-over",
	"call-batch-placed",
	"call-batch",
	"call-batch-unmasked",
	/* checkpoint --pre-dump and --pre-copy, besides those of checkpoint */
	"predump-watched",
	"predump-tracked",
	/* restore */
	"restore-start",
	"restore-stream",
	"restore-confined",
	"restore-verified",
	"restore-created",
	"restore-prepared",
	"restore-started",
	"restore-mounts",
	"restore-files",
	"restore-tree",
	"restore-memory",
	"restore-failing",
	"restore-filled",
	"restore-threads",
	"restore-lazy",
	"restore-registers",
	"restore-end",
	"restore-told",
	/* the two processes of a lazy restore */
	"lazy-filling",
	"lazy-guard",
	"lazy-end",
	NULL,
};

/* Up to a colon. */
static int errno_from_name(const char *s)
{
	size_t n = strcspn(s, ":");

	for (int i = 1; i < 134; i++) {
		const char *name = strerrorname_np(i);

		if (name && strlen(name) == n && !strncmp(name, s, n))
			return i;
	}
	return EIO;
}

/* "ERROR:N", "ERROR:=N": not now. What happens at a fault point is all the same process's. */
static bool is_not_now(const char *s)
{
	static unsigned long times;
	const char *limit = strchr(s, ':');

	times++;
	if (!limit)
		return false;
	return limit[1] == '=' ? times != strtoul(limit + 2, NULL, 10) : times > strtoul(limit + 1, NULL, 10);
}

int fault_point(const char *name, struct error *e)
{
	const char *want = getenv("FAULT");
	size_t n = strlen(name);
	bool known = false;

	if (!want || strncmp(want, name, n) != 0 || (want[n] && want[n] != ':'))
		return 0;
	for (size_t i = 0; fault_names[i]; i++)
		known |= !strcmp(fault_names[i], name);
	if (!known)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "unknown fault point %s", name);
	if (!want[n]) {
		raise(SIGKILL);
		__builtin_trap(); /* the first process of a pid namespace takes none of its own */
	}
	if (!strcmp(want + n, ":stop")) {
		raise(SIGSTOP);
		return 0;
	}
	if (!strcmp(want + n, ":crash"))
		__builtin_trap();
	if (!strcmp(want + n, ":open"))
		return open("/dev/null", O_RDONLY | O_CLOEXEC) < 0 ? error_errno(e, -errno, "%s", name) : 0;
	while (!strcmp(want + n, ":hang"))
		;
	if (is_not_now(want + n + 1))
		return 0;
	return error_errno(e, -errno_from_name(want + n + 1), "fault point %s", name);
}
