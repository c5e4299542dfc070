/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over stored inputs, so that what a fuzzer found once is tested in every ordinary run and without
 * a fuzzer's compiler: replay FILE-OR-DIRECTORY... Each input is also cut short at some places.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

/* On the heap and exactly as long, so that a sanitizer sees a read behind its end. */
static void run(const char *data, size_t size)
{
	_cleanup_free_ uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	inputs++;
}

static void replay_file(const char *path)
{
	_cleanup_free_ char *data = NULL;
	size_t size;

	if (read_file_at(AT_FDCWD, path, 64 << 20, &data, &size) < 0) {
		perror(path);
		exit(1);
	}
	run(data, size);
	for (size_t cut = 1; cut < size; cut *= 2) {
		run(data, size - cut);
		run(data, cut);
	}
}

static void replay(const char *path)
{
	struct dirent *entry;
	DIR *dir = opendir(path);

	if (!dir) {
		replay_file(path);
		return;
	}
	while ((entry = readdir(dir))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >= (int)sizeof(name))
			abort();
		replay_file(name);
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%u inputs\n", inputs);
	return inputs ? 0 : 1;
}
