/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN hostname=from-config */
/* The host name and the domain name, also when the container changed them. */
#include "cr.h"

#include <sys/utsname.h>

int main(void)
{
	char expected[64] = "from-config", domain[65];
	struct utsname u;

	must(sethostname(expected, strlen(expected)));
	must(getdomainname(domain, sizeof(domain)));
	for (int round = 1; cr_wait(); round++) {
		must(uname(&u));
		check(!strcmp(u.nodename, expected), "host name is %s", u.nodename);
		check(!strcmp(u.domainname, domain), "domain name is %s", u.domainname);
		snprintf(expected, sizeof(expected), "changed-%d", round);
		must(sethostname(expected, strlen(expected)));
		snprintf(domain, sizeof(domain), "domain-%d", round);
		must(setdomainname(domain, strlen(domain)));
	}
	return 0;
}
