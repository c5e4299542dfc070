/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/cpus.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/fd.h"

/* "0-3,8" */
uint32_t cpus_possible(bool *ret_in_a_row)
{
	char text[256], *p = text;
	uint32_t n = 0;
	bool in_a_row = true;

	if (read_small_file_at(AT_FDCWD, "/sys/devices/system/cpu/possible", text, sizeof(text)) <= 0)
		return 0;
	for (;;) {
		unsigned long from = strtoul(p, &p, 10), to = *p == '-' ? strtoul(p + 1, &p, 10) : from;

		if (to < from || to > 1 << 16)
			return 0;
		in_a_row &= from == n;
		n += to - from + 1;
		if (*p != ',')
			break;
		p++;
	}
	if (ret_in_a_row)
		*ret_in_a_row = in_a_row;
	return n;
}
