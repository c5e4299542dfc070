/* SPDX-License-Identifier: Apache-2.0 */
/* Named FIFOs: both ends in two processes, data in them, one end only. */
#include "cr.h"

int main(void)
{
	char b[64];
	int rw, w, r, lone;

	must(mkfifo("/tmp/fifo", 0600));
	must(mkfifo("/tmp/lone", 0600));
	rw = must(open("/tmp/fifo", O_RDWR));
	r = must(open("/tmp/fifo", O_RDONLY | O_NONBLOCK));
	w = must(open("/tmp/fifo", O_WRONLY));
	lone = must(open("/tmp/lone", O_RDONLY | O_NONBLOCK));
	must(write(w, "before", 6));
	if (cr_fork("child") == 0) {
		close(rw);
		close(r);
		while (cr_wait())
			must(write(w, "child", 5));
		return 0;
	}
	while (cr_wait()) {
		cr_await("done", cr_n, ".child");
		check(read(r, b, 6) == 6 && !memcmp(b, "before", 6), "what was in the FIFO");
		check(read(rw, b, 5) == 5 && !memcmp(b, "child", 5), "what the child wrote");
		check(read(r, b, 1) == -1 && errno == EAGAIN, "the empty FIFO: %m");
		must(write(w, "before", 6));
		check(read(lone, b, 1) == 0, "a FIFO without a writer: %m");
		int more = must(open("/tmp/lone", O_WRONLY | O_NONBLOCK)); /* a reader is there */
		must(write(more, "x", 1));
		check(read(lone, b, 5) == 1, "through the name");
		close(more);
	}
	return 0;
}
