/* SPDX-License-Identifier: Apache-2.0 */
/* PAGEMAP_SCAN, as in linux/fs.h of 6.7 and later. */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>

struct page_region {
	uint64_t start, end, categories;
};
struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask,
		category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_IOCTL _IOWR('f', 16, struct pm_scan_arg)
enum {
	PM_WPALLOWED = 1 << 0,
	PM_WRITTEN = 1 << 1,
	PM_FILE = 1 << 2,
	PM_PRESENT = 1 << 3,
	PM_SWAPPED = 1 << 4,
	PM_PFNZERO = 1 << 5,
	PM_GUARD = 1 << 8, /* 6.15 */
};
/* Flags. */
enum { PM_SCAN_WP_MATCHING = 1 << 0, PM_SCAN_CHECK_WPASYNC = 1 << 1 };
