/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewrites: 32 MiB, of which every sixteenth page is written anew when there is a file /cr/write, which is said by /cr/written, and never again.
 * When there is /cr/check, whether all is as it must be is said by /cr/verdict.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORDS = (32 << 20) / 8, PAGE_WORDS = 512 };

static uint64_t *memory;

static bool is_anew(size_t i)
{
	return i / PAGE_WORDS % 16 == 0;
}

static uint64_t value(size_t i, uint64_t version)
{
	return (i + 1) * 0x9e3779b97f4a7c15ull ^ version << 56;
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

int main(void)
{
	size_t wrong = 0;

	memory = mmap(NULL, WORDS * 8ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < WORDS; i++)
		memory[i] = value(i, 1);
	say("/cr/ready", "ready");
	await("/cr/write");
	for (size_t i = 0; i < WORDS; i++)
		if (is_anew(i))
			memory[i] = value(i, 2);
	say("/cr/written", "written");
	await("/cr/check");
	for (size_t i = 0; i < WORDS; i++)
		wrong += memory[i] != value(i, is_anew(i) ? 2 : 1);
	say("/cr/verdict", wrong ? "wrong" : "right");
	for (;;)
		pause();
}
