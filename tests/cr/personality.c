/* SPDX-License-Identifier: Apache-2.0 */
/* Personality flags of each process. */
#include "cr.h"

#include <sys/personality.h>

int main(void)
{
	unsigned long expected = ADDR_NO_RANDOMIZE;

	if (cr_fork("child") == 0)
		expected = ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | UNAME26;
	must(personality(expected));
	while (cr_wait())
		check((unsigned long)personality(0xffffffff) == expected, "personality is %x",
			personality(0xffffffff));
	return 0;
}
