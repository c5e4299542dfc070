/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repeats: memory that is much the same after a file /cr/write is there, though all of it was written or is not watched: 8 MiB that are written
 * with what they have, 8 MiB of shared memory, 8 MiB that move to another address, one word further on in each 64th page. When there is /cr/check, whether
 * all is as it must be is said by /cr/verdict.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BYTES = 8 << 20, WORDS = BYTES / 8, PAGE_WORDS = 512 };

static uint64_t value(size_t i, uint64_t what)
{
	return (i + 1) * 0x9e3779b97f4a7c15ull ^ what << 56;
}

static int is_anew(size_t i)
{
	return i % (64 * PAGE_WORDS) == 0;
}

static void say(const char *path, const char *text)
{
	char tmp[64];
	int fd;

	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) < 0 || rename(tmp, path) < 0)
		_exit(1);
}

static void await(const char *path)
{
	while (access(path, F_OK) < 0)
		usleep(2000);
}

static volatile uint64_t *map(int flags, uint64_t what)
{
	volatile uint64_t *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		_exit(1);
	for (size_t i = 0; i < WORDS; i++)
		p[i] = value(i, what);
	return p;
}

int main(void)
{
	volatile uint64_t *same = map(MAP_PRIVATE, 1), *shared = map(MAP_SHARED, 2),
			  *from = map(MAP_PRIVATE, 3), *to;
	size_t wrong = 0;

	say("/cr/ready", "ready");
	await("/cr/write");
	for (size_t i = 0; i < WORDS; i++)
		same[i] = value(i, 1);
	to = map(MAP_PRIVATE, 4);
	for (size_t i = 0; i < WORDS; i++)
		to[i] = is_anew(i) ? value(i, 5) : from[i];
	munmap((void *)from, BYTES);
	say("/cr/written", "written");
	await("/cr/check");
	for (size_t i = 0; i < WORDS; i++)
		wrong += same[i] != value(i, 1) || shared[i] != value(i, 2) ||
			 to[i] != value(i, is_anew(i) ? 5 : 3);
	say("/cr/verdict", wrong ? "wrong" : "right");
	for (;;)
		pause();
}
