/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 caps=SETUID,SETGID tmpfs=/mnt also=streamed */
/*
 * Mount namespaces that belong to user namespaces of the container's processes: as unshare -Urm makes one, in which what came
 * from outside is locked; and as a sandbox (bwrap) makes one, with a root of its own out of parts of the container's.
 */
#include "cr.h"

#include <sys/mount.h>

static void write_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CREAT, 0644));

	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write \"%s\" to %s: %m", text, path);
	close(fd);
}

static void enter(void)
{
	unsigned uid = getuid(), gid = getgid();
	char text[64];

	must(unshare(CLONE_NEWUSER | CLONE_NEWNS));
	prctl(PR_SET_DUMPABLE, 1);
	write_file("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "0 %u 1\n", uid);
	write_file("/proc/self/uid_map", text);
	snprintf(text, sizeof(text), "0 %u 1\n", gid);
	write_file("/proc/self/gid_map", text);
}

/* Whether it could be unmounted, without doing so. */
static bool is_locked(const char *path)
{
	int r = umount2(path, MNT_EXPIRE | UMOUNT_NOFOLLOW), code = errno;

	check(r < 0 && (code == EINVAL || code == EAGAIN || code == EBUSY), "umount %s: %d, %s", path, r,
		strerror(code));
	return code == EINVAL;
}

static void has(const char *path, const char *expected)
{
	char text[256] = "";

	check(cr_read(path, text, sizeof(text)) >= 0, "%s: %m", path);
	check(!strcmp(text, expected), "%s has \"%s\", not \"%s\"", path, text, expected);
}

/* unshare --user --map-root-user --mount */
static void shell(void)
{
	enter();
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(mount("own", "/mnt", "tmpfs", MS_NOSUID, "mode=750,size=1m"));
	write_file("/mnt/file", "in its own");
	must(mkdir("/mnt/bound", 0700));
	must(mount("/dev", "/mnt/bound", NULL, MS_BIND | MS_REC, NULL));
	must(mkdir("/mnt/ro", 0700));
	must(mount("/bin", "/mnt/ro", NULL, MS_BIND, NULL));
	must(mount(NULL, "/mnt/ro", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	while (cr_wait()) {
		has("/mnt/file", "in its own");
		check(is_locked("/proc") && is_locked("/dev"), "mounts of the container are not locked");
		check(!is_locked("/mnt/bound") && !is_locked("/mnt/ro"), "its own mounts are locked");
		check(is_locked("/mnt/bound/pts"), "what came with a bind mount is not locked");
		check(open("/mnt/ro/x", O_WRONLY | O_CREAT, 0600) < 0 && errno == EROFS,
			"/bin is not read-only");
		check(access("/mnt/bound/null", F_OK) == 0, "/dev/null: %m");
	}
	_exit(0);
}

/* As bwrap does it. */
static void sandbox(void)
{
	int fd;

	enter();
	must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	must(mount("tmpfs", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, NULL));
	must(chdir("/mnt"));
	must(mkdir("newroot", 0755));
	must(mount("newroot", "newroot", NULL, MS_BIND | MS_REC, NULL));
	must(mkdir("oldroot", 0755));
	must(syscall(SYS_pivot_root, "/mnt", "oldroot"));
	must(chdir("/"));
	must(mkdir("newroot/cr", 0755));
	must(mount("oldroot/cr", "newroot/cr", NULL, MS_BIND | MS_REC, NULL));
	must(mkdir("newroot/dev", 0755));
	must(mount("oldroot/dev", "newroot/dev", NULL, MS_BIND | MS_REC, NULL));
	must(mkdir("newroot/bin", 0755));
	must(mount("oldroot/bin", "newroot/bin", NULL, MS_BIND, NULL));
	must(mkdir("newroot/tmp", 01777));
	must(mount("tmpfs", "newroot/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700"));
	write_file("newroot/tmp/file", "temporary");
	must(umount2("oldroot", MNT_DETACH));
	fd = must(open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC));
	must(chdir("newroot"));
	must(syscall(SYS_pivot_root, ".", "."));
	must(fchdir(fd));
	must(umount2(".", MNT_DETACH));
	must(chdir("/"));
	close(fd);
	fd = must(open("/tmp/file", O_RDWR));
	while (cr_wait()) {
		char text[32] = "";

		has("/tmp/file", "temporary");
		check(pread(fd, text, sizeof(text), 0) == 9 && !strcmp(text, "temporary"), "descriptor: %s",
			text);
		check(!is_locked("/cr") && !is_locked("/dev") && !is_locked("/bin") && !is_locked("/tmp"),
			"its mounts are locked");
		check(is_locked("/dev/pts"), "/dev/pts is not locked");
		check(access("/proc", F_OK) < 0, "/proc is there");
		check(access("/bin/ns_user_mounts", X_OK) == 0, "/bin: %m");
	}
	_exit(0);
}

int main(void)
{
	if (cr_fork("shell") == 0)
		shell();
	if (cr_fork("sandbox") == 0)
		sandbox();
	cr_idle();
	return 0;
}
