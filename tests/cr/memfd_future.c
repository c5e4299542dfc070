/* SPDX-License-Identifier: Apache-2.0 */
/*
 * F_SEAL_FUTURE_WRITE: a mapping from before can write, one from after can't, and there are no new ones that can. The latter
 * comes back as that of a descriptor for reading: smaps shows another flag then, which nothing else does.
 */
/* cr: ignore=maps */
#include "cr.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#define PAGE 4096UL

int main(void)
{
	const int seals = F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SEAL;
	int fd = must(memfd_create("future", MFD_ALLOW_SEALING)), ro, round = 0;
	char *writable, *readable, path[64], b[8];
	bool child;

	must(ftruncate(fd, 2 * PAGE));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = must(open(path, O_RDONLY));
	writable = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	must(fcntl(fd, F_ADD_SEALS, seals));
	readable = must(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0));
	child = cr_fork("child") == 0;
	if (child) /* has the mappings only */
		close(fd), close(ro);
	while (cr_wait()) {
		volatile char *to = writable + 7 + child, *from = readable + 7 + child;

		*to = (char)++round;
		check(*from == (char)round, "the two mappings are not one");
		check(mprotect(readable, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
			"the later mapping is writable");
		if (child)
			continue;
		check(fcntl(fd, F_GET_SEALS) == seals, "seals: %x", fcntl(fd, F_GET_SEALS));
		check(write(fd, b, 1) == -1 && errno == EPERM, "it can be written");
		check(pread(ro, b, 1, 7) == 1 && b[0] == (char)round, "the file is another one");
		check(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED &&
				errno == EPERM,
			"it can be mapped for writing");
		check(ftruncate(fd, 3 * PAGE) == -1 && errno == EPERM, "it can grow");
	}
	return 0;
}
