/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stasis command does with an image before it makes a container: checks that go beyond a record, the plan of the
 * process tree, the layout of the shared area. This runs as root on the host, outside of the container.
 */
#include <sys/mman.h>

#include "checkpoint/native/restore.h"
#include "frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct restore_options o = {0};
	struct restore r = {
		.image = frame_image(data, size),
		.options = &o,
		.proc_fd = -EBADF,
		.zero_fd = -EBADF,
		.root_fd = -EBADF,
	};
	struct error e = {0};
	int result;

	if (!r.image)
		return 0;
	result = restore_plan(&r, &e);
	if (result < 0 && (e.code != result || !e.message[0]))
		abort();
	for (size_t i = 0; result == 0 && i < r.n_procs; i++)
		if (r.slots[i].address < r.area || r.slots[i].address + r.slots[i].size > r.area + r.area_len)
			abort();
	if (r.area)
		munmap((void *)r.area, r.area_len);
	image_free(r.image);
	arena_done(&r.arena);
	return 0;
}
