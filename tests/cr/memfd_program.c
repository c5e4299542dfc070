/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,lazy,streamed,userns,rootless */
/*
 * Programs that are run from memfds: whose descriptor is closed, or still there, open for writing (as exec lets it be for what memfd_create
 * gave); sealed ones; two that run the same.
 */
#include "cr.h"

#include <sys/sendfile.h>

static void copy_program(int to)
{
	int from = must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
	struct stat st;

	must(fstat(from, &st));
	while (st.st_size > 0)
		st.st_size -= must(sendfile(to, from, NULL, st.st_size));
	close(from);
}

/* Which goes on here. */
static void run_as(const char *tag)
{
	char exe[256] = "", want[64];

	snprintf(cr_tag, sizeof(cr_tag), ".%s", tag);
	snprintf(want, sizeof(want), "/memfd:%s (deleted)", tag);
	while (cr_wait()) {
		must(readlink("/proc/self/exe", exe, sizeof(exe) - 1));
		check(!strcmp(exe, want), "exe is %s", exe);
	}
	_exit(0);
}

static void start(int fd, const char *tag)
{
	char *args[] = {"memfd_program", (char *)tag, NULL}, *none[] = {NULL};

	if (cr_fork(tag) == 0) {
		must(fexecve(fd, args, none));
		_exit(1);
	}
}

int main(int argc, char **argv)
{
	int closed, open_one, sealed;

	if (argc > 1)
		run_as(argv[1]);
	closed = must(memfd_create("closed", MFD_CLOEXEC));
	open_one = must(memfd_create("open", 0));
	sealed = must(memfd_create("sealed", MFD_ALLOW_SEALING));
	copy_program(closed);
	copy_program(open_one);
	copy_program(sealed);
	must(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	start(closed, "closed");
	close(closed);
	start(open_one, "open");
	start(sealed, "sealed");
	while (cr_wait()) {
		char text[4];

		check(pread(open_one, text, 4, 0) == 4 && !memcmp(text, "\177ELF", 4), "contents");
		must(pwrite(open_one, text, 4, 0));
		check(pwrite(sealed, text, 4, 0) == -1 && errno == EPERM, "the seals are gone");
	}
	return 0;
}
