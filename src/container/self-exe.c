/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/exe of init or of an exec'ed process, before its exec, is our own program on the host. A container that gets
 * hold of it (by "#!/proc/self/exe" as its program, or by ptrace rights) could write to it as host root. So we run from
 * a detached, read-only mount of the program file: opening it for writing is EROFS, and nobody in the container has a
 * way to change that mount. Cost: one exec of a static program, docs/adr/0013. On x86_64 src/cli/early.c has done it
 * before libc's start; here is what says why it could not, and the other builds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"
#include "linux/mountfd.h"

static const char guard[] = "_STASIS_PROTECTED";

static int execute_read_only(char **argv)
{
	_cleanup_close_ int file = open("/proc/self/exe", O_PATH | O_CLOEXEC), mount_fd = -EBADF;
	int r;

	if (file < 0)
		return -errno;
	mount_fd = mount_clone(file, "", false);
	if (mount_fd < 0)
		return mount_fd;
	r = mount_change(mount_fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, MS_PRIVATE, false);
	if (r < 0)
		return r;
	if (setenv(guard, "1", 1) < 0)
		return -errno;
	execveat(mount_fd, "", argv, environ, AT_EMPTY_PATH);
	return -errno;
}

int container_protect_runtime(char **argv, struct error *e)
{
	struct statfs fs;
	bool again = getenv(guard) != NULL;
	int r;

	unsetenv(guard);
	if (statfs("/proc/self/exe", &fs) < 0)
		return error_errno(e, -errno, "/proc/self/exe");
	if (fs.f_flags & ST_RDONLY) {
		/* the exec through a descriptor has named us after its number */
		prctl(PR_SET_NAME, "stasis");
		return 0;
	}
	/* An ordinary user's container can't write to root's file, and he may not mount. */
	if (again || geteuid() != 0)
		return 0;
	r = execute_read_only(argv);
	log_debug("can't run from a read-only mount of this program: %s", strerrorname_np(-r));
	unsetenv(guard);
	return 0;
}
