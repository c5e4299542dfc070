/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

int main(void)
{
	fputs("stasis " STASIS_VERSION "\n", stdout);
	return 0;
}
