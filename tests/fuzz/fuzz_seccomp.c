/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target of the reader of kept seccomp filters: as given, and with a right checksum. The key is the one of the seeds. */
#include <stdlib.h>
#include <string.h>

#include "container/container-priv.h"

#define KEY "the key"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_one(const char *file, size_t size)
{
	struct sock_fprog program = {0};
	int r = seccomp_cache_parse(file, size, KEY, strlen(KEY), &program);

	if (r == 0 && (program.len == 0 || program.len > SECCOMP_INSTRUCTIONS_MAX ||
			      memcmp(program.filter, file + size - program.len * sizeof(*program.filter),
				      program.len * sizeof(*program.filter)) != 0))
		abort();
	if (r != 0 && program.filter)
		abort();
	free(program.filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t behind = SECCOMP_CACHE_CHECKSUM + sizeof(uint64_t);
	char *copy = malloc(size + 1);
	uint64_t sum;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	read_one(copy, size);
	if (size >= behind) {
		sum = seccomp_cache_hash(copy + behind, size - behind);
		memcpy(copy + SECCOMP_CACHE_CHECKSUM, &sum, sizeof(sum));
		read_one(copy, size);
	}
	free(copy);
	return 0;
}
