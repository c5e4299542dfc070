/* SPDX-License-Identifier: Apache-2.0 */
#include "base/progress.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MS UINT64_C(1000000)
enum { DELAY_MS = 500, INTERVAL_MS = 100 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

void progress_start(struct progress *p, int fd, const char *title, uint64_t total)
{
	*p = (struct progress){
		.fd = isatty(fd) ? fd : -EBADF,
		.title = title,
		.total = total,
	};
	if (p->fd < 0)
		return;
	p->start_ns = now_ns();
	p->next_ns = p->start_ns + DELAY_MS * MS;
}

static void draw(const struct progress *p, const char *line, size_t len)
{
	struct pollfd f = {p->fd, POLLOUT, 0};

	if (poll(&f, 1, 0) == 1 && (f.revents & POLLOUT) && write(p->fd, line, len) < 0)
		return; /* it was only a courtesy */
}

/* "1.4 GiB" */
static int put_size(char *buf, size_t size, double v)
{
	static const char units[] = "KMGTPE";
	unsigned u = 0;

	for (v /= 1024; v >= 1000 && u < sizeof(units) - 2; u++)
		v /= 1024;
	return snprintf(buf, size, v < 10 ? "%.1f %ciB" : "%.0f %ciB", v, units[u]);
}

static int put_time(char *buf, size_t size, double seconds)
{
	if (seconds < 60)
		return snprintf(buf, size, "%.0f s", seconds);
	if (seconds < 3600)
		return snprintf(buf, size, "%d min %d s", (int)seconds / 60, (int)seconds % 60);
	return snprintf(buf, size, "%.1f h", seconds / 3600);
}

void progress_update(struct progress *p, uint64_t done)
{
	char line[160], size[24], total[24], rate[24], left[32];
	double seconds;
	uint64_t now;
	int n;

	if (p->fd < 0)
		return;
	now = now_ns();
	if (now < p->next_ns)
		return;
	p->next_ns = now + INTERVAL_MS * MS;
	seconds = (now - p->start_ns) / 1e9;
	put_size(size, sizeof(size), done);
	put_size(total, sizeof(total), p->total);
	put_size(rate, sizeof(rate), done / seconds);
	if (p->total == 0 || done == 0 || done > p->total) {
		n = snprintf(line, sizeof(line), "\r%.40s: %s, %s/s\033[K", p->title, size, rate);
	} else {
		put_time(left, sizeof(left), seconds / done * (p->total - done));
		n = snprintf(line, sizeof(line), "\r%.40s: %2u%%, %s of %s, %s/s, %s left\033[K", p->title,
			(unsigned)(done * 100.0 / p->total), size, total, rate, left);
	}
	p->drawn = true;
	draw(p, line, MIN((size_t)n, sizeof(line) - 1));
}

void progress_stop(struct progress *p)
{
	if (p->fd >= 0 && p->drawn)
		draw(p, "\r\033[K", 4);
	p->fd = -EBADF;
}
