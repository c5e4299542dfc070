/* SPDX-License-Identifier: Apache-2.0 */
/* oom_score_adj of each process, coredump_filter, and who is logged in. */
#include "cr.h"

static void write_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC));

	must(write(fd, text, strlen(text)));
	close(fd);
}

static void rounds(const char *expected)
{
	char text[64], login[64];
	bool known;

	/* The first time is free; init's own is whoever's who runs us. */
	if (cr_tag[0] != 0 && access("/proc/self/loginuid", W_OK) == 0)
		write_file("/proc/self/loginuid", "0");
	known = cr_tag[0] != 0 && cr_read("/proc/self/loginuid", login, sizeof(login)) > 0;

	write_file("/proc/self/oom_score_adj", expected);
	write_file("/proc/self/coredump_filter", "0x25");
	while (cr_wait()) {
		must(cr_read("/proc/self/oom_score_adj", text, sizeof(text)));
		check(!strncmp(text, expected, strlen(expected)) && text[strlen(expected)] == '\n',
			"oom_score_adj is %s", text);
		must(cr_read("/proc/self/coredump_filter", text, sizeof(text)));
		check(strtoul(text, NULL, 16) == 0x25, "coredump_filter is %s", text);
		if (known) {
			must(cr_read("/proc/self/loginuid", text, sizeof(text)));
			check(!strcmp(text, login), "loginuid is %s", text);
		}
	}
	_exit(0);
}

int main(void)
{
	if (cr_fork("high") == 0)
		rounds("1000");
	if (cr_fork("middle") == 0)
		rounds("333");
	rounds("111");
}
