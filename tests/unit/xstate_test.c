/* SPDX-License-Identifier: Apache-2.0 */
/* Extended registers of one CPU for another, whose components lie elsewhere. */
#include <errno.h>
#include <string.h>

#include "checkpoint/native/cpu.h"
#include "tap.h"

/* opmask, ZMM_Hi256, Hi16_ZMM and PKRU as Intel's manual and as AMD's have them */
static const char intel[] = "5:1088:64 6:1152:512 7:1664:1024 9:2688:8",
		  amd[] = "5:832:64 6:896:512 7:1408:1024 9:2432:8", small[] = "";

static unsigned char a[2696], b[2440], c[2696];

static void fill(uint64_t used)
{
	for (size_t i = 0; i < sizeof(a); i++)
		a[i] = i * 7 + 3;
	memset(a + 512, 0, 64);
	memcpy(a + 512, &used, sizeof(used));
	memset(b, 0, sizeof(b));
	memset(c, 0, sizeof(c));
}

static void there_and_back(void)
{
	uint64_t missing;

	fill(0x2e7);
	CHECK(cpu_convert(intel, a, sizeof(a), amd, b, sizeof(b), &missing) == 0 && missing == 0, "to AMD's");
	CHECK(!memcmp(b, a, 832) && !memcmp(b + 832, a + 1088, 64) && !memcmp(b + 1408, a + 1664, 1024) &&
			!memcmp(b + 2432, a + 2688, 8),
		"each component in its place");
	CHECK(cpu_convert(amd, b, sizeof(b), intel, c, sizeof(c), &missing) == 0, "back");
	CHECK(!memcmp(c, a, 832) && !memcmp(c + 1088, a + 1088, sizeof(a) - 1088), "and nothing is lost");
}

static void in_use(void)
{
	uint64_t missing;

	fill(0x7);
	CHECK(cpu_convert(intel, a, sizeof(a), small, b, 832, &missing) == 0,
		"what is not in use may be missing");
	fill(0x87);
	CHECK(cpu_convert(intel, a, sizeof(a), small, b, 832, &missing) == -EOPNOTSUPP && missing == 1u << 7,
		"what is in use may not");
	fill(0x7);
	CHECK(cpu_convert(intel, a, sizeof(a), small, b, 576, &missing) == -EOPNOTSUPP && missing == 1u << 2,
		"AVX neither");
}

static void nonsense(void)
{
	static const char *const layouts[] = {"5:1088", "5:100:64", "2:576:256", "63:1088:8", "5:16380:64",
		"5:1088:0", "5:1088:64 5:1088:64", "x", "5:-1:64"};
	uint64_t missing;

	fill(0x7);
	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++)
		CHECK(cpu_convert(layouts[i], a, sizeof(a), amd, b, sizeof(b), &missing) == -EBADMSG,
			"\"%s\"", layouts[i]);
	fill(0x27);
	CHECK(cpu_convert(intel, a, 1100, amd, b, sizeof(b), &missing) == -EBADMSG,
		"a record that ends early");
	CHECK(cpu_convert(intel, a, 500, amd, b, sizeof(b), &missing) == -EBADMSG, "or has no header");
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"to another CPU and back", there_and_back},
		{"only what is in use is needed", in_use},
		{"nonsense is refused", nonsense},
	};

	return tap_main(tests, sizeof(tests) / sizeof(*tests));
}
