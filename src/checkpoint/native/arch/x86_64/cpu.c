/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/cpu.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

enum reg { EAX, EBX, ECX, EDX };

static const struct {
	const char *name;
	unsigned leaf, subleaf;
	enum reg reg;
	unsigned bit;
} features[] = {
	{ "sse3", 1, 0, ECX, 0 }, { "pclmulqdq", 1, 0, ECX, 1 }, { "ssse3", 1, 0, ECX, 9 }, { "fma", 1, 0, ECX, 12 },
	{ "cx16", 1, 0, ECX, 13 }, { "sse4_1", 1, 0, ECX, 19 }, { "sse4_2", 1, 0, ECX, 20 }, { "movbe", 1, 0, ECX, 22 },
	{ "popcnt", 1, 0, ECX, 23 }, { "aes", 1, 0, ECX, 25 }, { "avx", 1, 0, ECX, 28 }, { "f16c", 1, 0, ECX, 29 },
	{ "rdrand", 1, 0, ECX, 30 }, { "fsgsbase", 7, 0, EBX, 0 }, { "bmi1", 7, 0, EBX, 3 }, { "avx2", 7, 0, EBX, 5 },
	{ "bmi2", 7, 0, EBX, 8 }, { "erms", 7, 0, EBX, 9 }, { "rtm", 7, 0, EBX, 11 }, { "avx512f", 7, 0, EBX, 16 },
	{ "avx512dq", 7, 0, EBX, 17 }, { "rdseed", 7, 0, EBX, 18 }, { "adx", 7, 0, EBX, 19 }, { "clflushopt", 7, 0, EBX, 23 },
	{ "clwb", 7, 0, EBX, 24 }, { "avx512cd", 7, 0, EBX, 28 }, { "sha", 7, 0, EBX, 29 }, { "avx512bw", 7, 0, EBX, 30 },
	{ "avx512vl", 7, 0, EBX, 31 }, { "avx512vbmi", 7, 0, ECX, 1 }, { "gfni", 7, 0, ECX, 8 }, { "vaes", 7, 0, ECX, 9 },
	{ "vpclmulqdq", 7, 0, ECX, 10 }, { "avx512_vnni", 7, 0, ECX, 11 }, { "fsrm", 7, 0, EDX, 4 }, { "amx_tile", 7, 0, EDX, 24 },
	{ "lzcnt", 0x80000001, 0, ECX, 5 }, { "rdtscp", 0x80000001, 0, EDX, 27 },
};

static bool has(size_t i)
{
	unsigned r[4];

	if (!__get_cpuid_count(features[i].leaf, features[i].subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]))
		return false;
	return r[features[i].reg] & (1u << features[i].bit);
}

const char *cpu_feature_names(char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (has(i) && n < size)
			n += snprintf(buf + n, size - n, "%s%s", n ? " " : "", features[i].name);
	return buf;
}

uint64_t cpu_xfeatures(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo | (uint64_t)hi << 32;
}

int cpu_check(const struct image_manifest *m, struct error *e)
{
	const char *want = m->cpu_features ? m->cpu_features : "";
	char mine[1024];
	uint64_t missing = m->xfeatures & ~cpu_xfeatures();

	if (missing)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"this CPU lacks register state %#llx that the image holds: restore on a CPU like the one it was made on",
			(unsigned long long)missing);
	cpu_feature_names(mine, sizeof(mine));
	while (*want) {
		size_t n = strcspn(want, " ");
		const char *at = mine;
		bool found = false;

		while (*at && !found) {
			size_t k = strcspn(at, " ");

			found = k == n && memcmp(at, want, n) == 0;
			at += k + (at[k] == ' ');
		}
		if (n && !found)
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"this CPU lacks the feature \"%.*s\" that the image's CPU had: restore on a CPU like the one it was made on",
				(int)n, want);
		want += n + (want[n] == ' ');
	}
	return 0;
}
