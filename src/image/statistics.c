/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of one operation: their names in manifest.json and in what --print-stats prints. */
#include <stdio.h>

#include "image/image-priv.h"

#define FIELD(name, in)                                                                                      \
	{                                                                                                    \
#name, offsetof(struct image_statistics, name), in                                           \
	}

enum {
	DUMP = IMAGE_STATISTIC_DUMP,
	RESTORE = IMAGE_STATISTIC_RESTORE,
	BOTH = DUMP | RESTORE,
	OLD = IMAGE_STATISTIC_MANIFEST, /* in manifests since the first version */
	NEW = IMAGE_STATISTIC_MANIFEST | IMAGE_STATISTIC_OPTIONAL,
};

const struct image_statistic image_statistic_table[] = {
	FIELD(total_us, BOTH | OLD),
	FIELD(frozen_us, DUMP | OLD),
	FIELD(preflight_us, DUMP | OLD),
	FIELD(freeze_us, DUMP | OLD),
	FIELD(collect_us, DUMP | OLD),
	FIELD(files_us, DUMP | NEW),
	FIELD(open_us, RESTORE),
	FIELD(create_us, RESTORE),
	FIELD(memory_us, BOTH | OLD),
	FIELD(image_us, DUMP | OLD),
	FIELD(commit_us, DUMP),
	FIELD(pack_us, DUMP | NEW),
	FIELD(end_us, DUMP),
	FIELD(resume_us, RESTORE),
	FIELD(processes, BOTH | OLD),
	FIELD(threads, BOTH | OLD),
	FIELD(files, BOTH | OLD),
	FIELD(pages_data, BOTH | OLD),
	FIELD(pages_zero, BOTH | OLD),
	FIELD(pages_shared, BOTH | NEW),
	FIELD(pages_parent, BOTH | NEW),
	FIELD(pages_repeated, BOTH | NEW),
	FIELD(pages_late, DUMP | NEW),
	FIELD(bytes, BOTH | OLD),
	{NULL, 0, 0},
};

uint64_t *image_statistic(const struct image_statistics *s, const struct image_statistic *of)
{
	return (uint64_t *)((char *)s + of->offset);
}

void image_statistics_join(struct image_statistics *sum, const struct image_statistics *one)
{
	for (const struct image_statistic *f = image_statistic_table; f->name; f++) {
		uint64_t *to = image_statistic(sum, f), n = *image_statistic(one, f);
		size_t len = strlen(f->name);

		*to = len > 3 && !strcmp(f->name + len - 3, "_us") ? MAX(*to, n) : *to + n;
	}
}

void image_statistics_print(const struct image_statistics *s, enum image_operation operation, FILE *out)
{
	unsigned in = operation == IMAGE_DUMP ? DUMP : RESTORE;
	const char *before = "{";

	for (const struct image_statistic *f = image_statistic_table; f->name; f++)
		if (f->in & in) {
			fprintf(out, "%s\"%s\": %llu", before, f->name,
				(unsigned long long)*image_statistic(s, f));
			before = ", ";
		}
	fprintf(out, "}\n");
}
