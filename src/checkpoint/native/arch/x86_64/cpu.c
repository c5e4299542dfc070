/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/cpu.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

enum { CPU_LAYOUT_MAX = 512 };
enum reg { EAX, EBX, ECX, EDX };

static const struct {
	const char *name;
	unsigned leaf;
	enum reg reg;
	unsigned bit;
} features[] = {
	{"sse3", 1, ECX, 0},
	{"pclmulqdq", 1, ECX, 1},
	{"ssse3", 1, ECX, 9},
	{"fma", 1, ECX, 12},
	{"cx16", 1, ECX, 13},
	{"sse4_1", 1, ECX, 19},
	{"sse4_2", 1, ECX, 20},
	{"movbe", 1, ECX, 22},
	{"popcnt", 1, ECX, 23},
	{"aes", 1, ECX, 25},
	{"avx", 1, ECX, 28},
	{"f16c", 1, ECX, 29},
	{"rdrand", 1, ECX, 30},
	{"fsgsbase", 7, EBX, 0},
	{"bmi1", 7, EBX, 3},
	{"avx2", 7, EBX, 5},
	{"bmi2", 7, EBX, 8},
	{"erms", 7, EBX, 9},
	{"rtm", 7, EBX, 11},
	{"avx512f", 7, EBX, 16},
	{"avx512dq", 7, EBX, 17},
	{"rdseed", 7, EBX, 18},
	{"adx", 7, EBX, 19},
	{"clflushopt", 7, EBX, 23},
	{"clwb", 7, EBX, 24},
	{"avx512cd", 7, EBX, 28},
	{"sha", 7, EBX, 29},
	{"avx512bw", 7, EBX, 30},
	{"avx512vl", 7, EBX, 31},
	{"avx512vbmi", 7, ECX, 1},
	{"gfni", 7, ECX, 8},
	{"vaes", 7, ECX, 9},
	{"vpclmulqdq", 7, ECX, 10},
	{"avx512_vnni", 7, ECX, 11},
	{"fsrm", 7, EDX, 4},
	{"amx_tile", 7, EDX, 24},
	{"lzcnt", 0x80000001, ECX, 5},
	{"rdtscp", 0x80000001, EDX, 27},
};

/* CPUID traps in a virtual machine, and takes ten microseconds then: each leaf once. */
struct leaves {
	unsigned basic[4], extended[4], amd[4];
};

static void read_leaves(struct leaves *l)
{
	unsigned max, r[4];

	*l = (struct leaves){};
	__cpuid(0, max, r[1], r[2], r[3]);
	if (max >= 1)
		__cpuid_count(1, 0, l->basic[EAX], l->basic[EBX], l->basic[ECX], l->basic[EDX]);
	if (max >= 7)
		__cpuid_count(7, 0, l->extended[EAX], l->extended[EBX], l->extended[ECX], l->extended[EDX]);
	/* Every x86-64 processor has this one: long mode is reported there. */
	__cpuid_count(0x80000001, 0, l->amd[EAX], l->amd[EBX], l->amd[ECX], l->amd[EDX]);
}

static bool has(const struct leaves *l, size_t i)
{
	const unsigned *r = features[i].leaf == 1 ? l->basic : features[i].leaf == 7 ? l->extended : l->amd;

	return r[features[i].reg] & (1u << features[i].bit);
}

const char *cpu_feature_names(char *buf, size_t size)
{
	struct leaves l;
	size_t n = 0;

	read_leaves(&l);
	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (has(&l, i) && n < size)
			n += snprintf(buf + n, size - n, "%s%s", n ? " " : "", features[i].name);
	return buf;
}

uint64_t cpu_xfeatures(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo | (uint64_t)hi << 32;
}

enum { XFEATURE_PKRU = 9, XSTATE_HEADER = 512 };

uint64_t cpu_usual_xfeatures(void)
{
	uint64_t permitted;

	/* We have asked for none. */
	return syscall(SYS_arch_prctl, CPU_GET_PERMISSIONS, &permitted) < 0 ? ~0ull : permitted;
}

uint64_t cpu_used_xfeatures(const void *xstate, size_t len)
{
	uint64_t used = 0;

	if (len >= XSTATE_HEADER + sizeof(used))
		memcpy(&used, (const char *)xstate + XSTATE_HEADER, sizeof(used));
	return used;
}

bool cpu_has_keys(void)
{
	return cpu_xfeatures() & 1u << XFEATURE_PKRU;
}

uint32_t cpu_key_rights(const void *xstate, size_t len)
{
	unsigned size, offset, unused;
	uint32_t rights;
	uint64_t present;

	if (!cpu_has_keys() || len < XSTATE_HEADER + sizeof(present))
		return 0;
	memcpy(&present, (const char *)xstate + XSTATE_HEADER, sizeof(present));
	__cpuid_count(0xd, XFEATURE_PKRU, size, offset, unused, unused);
	if (!(present & 1u << XFEATURE_PKRU) || size < sizeof(rights) || offset > len - sizeof(rights))
		return 0;
	memcpy(&rights, (const char *)xstate + offset, sizeof(rights));
	return rights;
}

const char *cpu_layout(char *buf, size_t size)
{
	uint64_t have = cpu_xfeatures();
	unsigned len, offset, unused;
	size_t n = 0;

	buf[0] = '\0';
	/* AVX is where the header ends, on all of them. */
	for (unsigned i = 3; i < 63 && n < size; i++) {
		if (!(have & 1ull << i))
			continue;
		__cpuid_count(0xd, i, len, offset, unused, unused);
		n += snprintf(buf + n, size - n, "%s%u:%u:%u", n ? " " : "", i, offset, len);
	}
	return buf;
}

size_t cpu_xstate_size(void)
{
	unsigned size, unused;

	__cpuid_count(0xd, 0, unused, size, unused, unused);
	return size;
}

bool cpu_has_layout(const struct image_manifest *m)
{
	char mine[CPU_LAYOUT_MAX];

	return !m->cpu_layout || !strcmp(m->cpu_layout, cpu_layout(mine, sizeof(mine)));
}

/* What can't be had is an error, or only worth a warning. */
static int lacks(bool lenient, struct error *e, const char *what, int len)
{
	if (lenient) {
		log_warning("this CPU lacks %.*s, which the image's had: programs that use it will fail", len,
			what);
		return 0;
	}
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"this CPU lacks %.*s, which the image's CPU had: restore on a CPU like the one it was made "
		"on, "
		"or use --cpu-check lenient if the programs do not need it",
		len, what);
}

int cpu_check(const struct image_manifest *m, bool lenient, struct error *e)
{
	const char *want = m->cpu_features ? m->cpu_features : "";
	char mine[1024], what[64];
	uint64_t missing = m->xfeatures & ~cpu_xfeatures();
	int r = 0;

	snprintf(what, sizeof(what), "register state %#llx", (unsigned long long)missing);
	if (missing)
		r = lacks(lenient, e, what, sizeof(what));
	if (r == 0 && !missing && !lenient && !cpu_has_layout(m))
		r = error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"this CPU has its registers in another order than the image's, also those that "
			"programs "
			"keep while they handle a signal: restore on a CPU like the one it was made on, or "
			"use "
			"--cpu-check lenient");
	if (r < 0)
		return r;
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
			r = lacks(lenient, e, want, (int)n);
		if (r < 0)
			return r;
		want += n + (want[n] == ' ');
	}
	return 0;
}
