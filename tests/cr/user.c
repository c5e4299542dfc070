/* SPDX-License-Identifier: Apache-2.0 */
/* cr: user=1000:1001:5,6 ids=1 */
/* A container whose first process is not root: ids, files it owns, no capabilities. */
#include "cr.h"

int main(void)
{
	int fd = must(open("/tmp/mine", O_RDWR | O_CREAT, 0600));
	gid_t groups[8];
	struct stat st;

	must(write(fd, "mine", 4));
	while (cr_wait()) {
		check(getuid() == 1000 && geteuid() == 1000 && getgid() == 1001 && getegid() == 1001, "ids");
		check(getgroups(8, groups) == 2 && groups[0] == 5 && groups[1] == 6, "groups");
		must(fstat(fd, &st));
		check(st.st_uid == 1000 && st.st_size == 4, "the file is of %d", st.st_uid);
		check(access("/etc/passwd", W_OK) == -1 && errno == EACCES, "I can write what is not mine");
		check(chown("/tmp/mine", 0, 0) == -1 && errno == EPERM, "I have capabilities");
		check(lseek(fd, 0, SEEK_CUR) == 4, "offset");
	}
	return 0;
}
