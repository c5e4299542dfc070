/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pipes: data in them, capacity, ends shared by processes, one end closed, flags (O_NONBLOCK, O_DIRECT packets), an end
 * opened again through /proc.
 */
#include "cr.h"

struct pair {
	int r, w;
};

static struct pair make(int flags)
{
	int p[2];

	must(pipe2(p, flags));
	return (struct pair){p[0], p[1]};
}

static void put(int fd, size_t n, uint64_t seed)
{
	uint64_t *b = malloc(n);

	cr_fill(b, n, seed);
	check(write(fd, b, n) == (ssize_t)n, "write of %zu: %m", n);
	free(b);
}

static void get(int fd, size_t n, uint64_t seed, const char *what)
{
	char *b = malloc(n);
	size_t got = 0;
	ssize_t r;

	while (got < n && (r = read(fd, b + got, n - got)) > 0)
		got += r;
	check(got == n, "%s: only %zu of %zu bytes", what, got, n);
	check(cr_differs(b, n, seed) < 0, "%s: other data at %zd", what, cr_differs(b, n, seed));
	free(b);
}

int main(void)
{
	struct pair plain = make(0), full = make(O_NONBLOCK), no_writer = make(O_CLOEXEC),
		    no_reader = make(0);
	struct pair packets = make(O_DIRECT), grown = make(0), to_child = make(0), to_parent = make(0);
	char b[4096];
	size_t filled = 0;
	int again;

	put(plain.w, 5000 / 8 * 8, 1);
	while (write(full.w, b, 1) == 1)
		filled++;
	check(errno == EAGAIN && filled == 65536, "fill: %zu, %m", filled);
	put(no_writer.w, 64, 3);
	close(no_writer.w);
	close(no_reader.r);
	must(write(packets.w, "one", 3));
	must(write(packets.w, "three", 5));
	must(fcntl(grown.w, F_SETPIPE_SZ, 256 << 10));
	put(grown.w, 200 << 10, 4);
	signal(SIGPIPE, SIG_IGN);
	again = must(open(
		"/proc/self/fd/3", O_RDONLY | O_NONBLOCK)); /* of plain: another description, the same pipe */
	check(plain.r == 3, "fd numbers");
	if (cr_fork("child") == 0) {
		close(to_child.w);
		close(to_parent.r);
		for (uint64_t round = 0; cr_wait(); round++) {
			get(to_child.r, 4096, 100 + round, "from the parent");
			put(to_parent.w, 4096, 200 + round);
		}
		return 0;
	}
	close(to_child.r);
	close(to_parent.w);
	for (uint64_t round = 0;; round++) {
		if (!cr_wait())
			break;
		get(plain.r, 2496, 1, "plain");
		get(again, 2504, 1 + 2496 / 8, "plain, by the other description");
		check(read(again, b, 1) == -1 && errno == EAGAIN,
			"plain should be empty and non-blocking: %m");
		put(plain.w, 5000, 1);
		check(fcntl(full.w, F_GETPIPE_SZ) == 65536, "capacity");
		check(write(full.w, b, 1) == -1 && errno == EAGAIN, "the full pipe is not full: %m");
		for (size_t left = filled; left > 0;) {
			ssize_t r = read(full.r, b, left < sizeof(b) ? left : sizeof(b));

			check(r > 0, "the full pipe ends %zu too early: %m", left);
			left -= r;
		}
		check(read(full.r, b, 1) == -1 && errno == EAGAIN, "the full pipe had more: %m");
		for (filled = 0; write(full.w, b, 1) == 1;)
			filled++;
		if (round == 0)
			get(no_writer.r, 64, 3, "no_writer");
		check(read(no_writer.r, b, 1) == 0, "no end of file without a writer");
		check(write(no_reader.w, b, 1) == -1 && errno == EPIPE, "no EPIPE without a reader: %m");
		check(read(packets.r, b, 100) == 3 && !memcmp(b, "one", 3), "first packet");
		check(read(packets.r, b, 100) == 5 && !memcmp(b, "three", 5), "second packet");
		must(write(packets.w, "one", 3));
		must(write(packets.w, "three", 5));
		check(fcntl(packets.w, F_GETFL) & O_DIRECT, "O_DIRECT is gone");
		check(fcntl(grown.r, F_GETPIPE_SZ) == 256 << 10, "capacity: %d",
			fcntl(grown.r, F_GETPIPE_SZ));
		get(grown.r, 200 << 10, 4, "grown");
		put(grown.w, 200 << 10, 4);
		put(to_child.w, 4096, 100 + round);
		get(to_parent.r, 4096, 200 + round, "from the child");
	}
	return 0;
}
