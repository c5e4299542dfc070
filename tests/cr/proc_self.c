/* SPDX-License-Identifier: Apache-2.0 */
/* cr: args=one,two */
/*
 * What /proc says of a process: exe, command line (also one that the program wrote over), environment, auxv, the
 * addresses of code, data, heap, stack, arguments; and a process whose executable was deleted.
 */
#include "cr.h"

#include <sys/auxv.h>

static const char *const files[] = {"cmdline", "environ", "auxv", "comm"};

struct facts {
	char text[4][4096];
	ssize_t len[4];
	char exe[256];
	unsigned long numbers[12];
};

static void collect(struct facts *f)
{
	static const int fields[] = {26, 27, 28, 45, 46, 47, 48, 49, 50, 51};
	char path[64], stat[2048], *p;
	ssize_t n;

	memset(f, 0, sizeof(*f));
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "/proc/self/%s", files[i]);
		f->len[i] = must(cr_read(path, f->text[i], sizeof(f->text[i])));
	}
	n = must(readlink("/proc/self/exe", f->exe, sizeof(f->exe) - 1));
	f->exe[n] = 0;
	must(cr_read("/proc/self/stat", stat, sizeof(stat)));
	p = strrchr(stat, ')') + 2;
	for (int field = 3, i = 0; p && i < 10; field++) {
		if (field == fields[i])
			f->numbers[i++] = strtoul(p, NULL, 10);
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
}

static void rounds(void)
{
	struct facts was, is;
	unsigned long page = getauxval(AT_PAGESZ), random = *(unsigned long *)getauxval(AT_RANDOM);

	collect(&was);
	while (cr_wait()) {
		collect(&is);
		for (int i = 0; i < 4; i++)
			check(was.len[i] == is.len[i] && !memcmp(was.text[i], is.text[i], was.len[i]),
				"%s: %s differs: %s", cr_tag, files[i], is.text[i]);
		check(!strcmp(was.exe, is.exe), "%s: exe was %s, is %s", cr_tag, was.exe, is.exe);
		for (int i = 0; i < 10; i++)
			check(was.numbers[i] == is.numbers[i], "%s: number %d of stat was %lx, is %lx",
				cr_tag, i, was.numbers[i], is.numbers[i]);
		check(getauxval(AT_PAGESZ) == page && *(unsigned long *)getauxval(AT_RANDOM) == random,
			"auxv");
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "copy")) { /* in the copy of this program */
		snprintf(cr_tag, sizeof(cr_tag), ".copy");
		must(unlink("/tmp/copy"));
		rounds();
	}
	check(argc == 3, "arguments");
	if (cr_fork("title") == 0) {
		memset(argv[0], 't', strlen(argv[0])); /* as programs that set a title do */
		rounds();
	}
	if (cr_fork("copy") == 0) {
		static char b[1 << 20];
		int in = must(open("/proc/self/exe", O_RDONLY)),
		    out = must(open("/tmp/copy", O_WRONLY | O_CREAT, 0755));
		ssize_t n;

		while ((n = read(in, b, sizeof(b))) > 0)
			must(write(out, b, n));
		close(in);
		close(out);
		execl("/tmp/copy", "a-copy", "copy", "x", NULL);
		fail("exec: %m");
	}
	rounds();
}
