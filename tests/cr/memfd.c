/* SPDX-License-Identifier: Apache-2.0 */
/* memfd: contents, size, offset, seals, mappings (also without the descriptor), two processes, opened again by /proc. */
#include "cr.h"

#define PAGE 4096UL

int main(void)
{
	int plain = must(memfd_create("plain", MFD_CLOEXEC)),
	    sealed = must(memfd_create("sealed", MFD_ALLOW_SEALING));
	int mapped = must(memfd_create("a name with spaces", 0)), ro;
	uint64_t word = 0;
	char *map, *only_mapped, b[64], path[64], link[128];
	bool child;
	ssize_t n;

	must(write(plain, "contents of the memfd", 21));
	must(lseek(plain, 12, SEEK_SET));
	must(ftruncate(plain, 5 * PAGE));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", plain);
	ro = must(open(path, O_RDONLY));
	must(write(sealed, "sealed", 6));
	must(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
	must(ftruncate(mapped, 8 * PAGE));
	map = must(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0));
	cr_fill(map, 4 * PAGE, 61);
	only_mapped = must(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 4 * PAGE));
	child = cr_fork("child") == 0;
	if (child)
		close(mapped); /* keeps the mapping only */
	while (cr_wait()) {
		struct stat st;

		word++;
		check(cr_differs(map, 4 * PAGE, 61) < 0, "the mapping differs");
		if (child) {
			*(volatile uint64_t *)(map + 5 * PAGE) = word;
		} else {
			for (int ms = 0; *(volatile uint64_t *)(only_mapped + PAGE) != word; ms++) {
				check(ms < 3000, "the mappings of parent and child are not one");
				cr_msleep(1);
			}
			check(pread(mapped, b, 8, 5 * PAGE) == 8 && !memcmp(b, &word, 8),
				"mapping and descriptor are not one");
			check(lseek(plain, 0, SEEK_CUR) == 12, "offset");
			check(pread(plain, b, 21, 0) == 21 && !memcmp(b, "contents of the memfd", 21),
				"contents");
			must(fstat(plain, &st));
			check(st.st_size == 5 * PAGE, "size %ld", (long)st.st_size);
			must(pwrite(plain, "CONTENTS", 8, 0));
			check(pread(ro, b, 8, 0) == 8 && !memcmp(b, "CONTENTS", 8),
				"the description opened again is another file");
			must(pwrite(plain, "contents", 8, 0));
			check(write(ro, b, 1) == -1 && errno == EBADF, "the read-only one can write");
			check(fcntl(plain, F_GETFD) == FD_CLOEXEC && fcntl(sealed, F_GETFD) == 0,
				"close-on-exec");
			check(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL, "seals of plain: %x",
				fcntl(plain, F_GET_SEALS));
			check(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
				"seals: %x", fcntl(sealed, F_GET_SEALS));
			check(pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM,
				"the sealed one can be written");
			check(pread(sealed, b, 10, 0) == 6 && !memcmp(b, "sealed", 6),
				"contents of the sealed one");
			snprintf(path, sizeof(path), "/proc/self/fd/%d", mapped);
			n = must(readlink(path, link, sizeof(link) - 1));
			link[n] = 0;
			check(strstr(link, "/memfd:a name with spaces"), "its name is %s", link);
		}
	}
	return 0;
}
