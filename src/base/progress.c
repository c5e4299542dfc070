/* SPDX-License-Identifier: Apache-2.0 */
#include "base/progress.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
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

int progress_mode_parse(const char *text, enum progress_mode *ret, struct error *e)
{
	static const char *const names[] = {[PROGRESS_AUTO] = "auto",
		[PROGRESS_NONE] = "none",
		[PROGRESS_TTY] = "tty",
		[PROGRESS_JSON] = "json"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!text || !strcmp(text, names[i])) {
			*ret = (enum progress_mode)i;
			return 0;
		}
	return error_set(
		e, -EINVAL, ERROR_USAGE, "invalid --progress \"%.40s\": json, tty, none or auto", text);
}

struct progress progress_to(int fd, enum progress_mode mode)
{
	bool shown = mode == PROGRESS_AUTO ? isatty(fd) : mode != PROGRESS_NONE;

	return (struct progress){.fd = shown ? fd : -EBADF, .json = mode == PROGRESS_JSON};
}

bool progress_is_shown(const struct progress *p)
{
	return p->fd >= 0;
}

static void put(const struct progress *p, const char *line, size_t len)
{
	struct pollfd f = {p->fd, POLLOUT, 0};
	struct timespec no_time = {};
	sigset_t pipe, old;

	/* A pipe that can be written to has room for PIPE_BUF bytes. If nobody reads it any more we do not die of that. */
	if (poll(&f, 1, 0) != 1 || !(f.revents & POLLOUT) || (f.revents & POLLERR))
		return;
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &old);
	if (write(p->fd, line, len) < 0 && errno == EPIPE)
		sigtimedwait(&pipe, NULL, &no_time);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void put_json(const struct progress *p, uint64_t now, bool done)
{
	char line[400];
	double seconds = (now - p->start_ns) / 1e9;
	int n = snprintf(line, sizeof(line), "{\"phase\": \"%.40s\", \"bytes\": %llu", p->phase,
		(unsigned long long)p->done);

	if (p->container)
		n += snprintf(line + n, sizeof(line) - n, ", \"container\": \"%.64s\"", p->container);
	if (p->total)
		n += snprintf(line + n, sizeof(line) - n, ", \"total\": %llu", (unsigned long long)p->total);
	if (p->done && seconds > 0)
		n += snprintf(line + n, sizeof(line) - n, ", \"rate\": %.0f", p->done / seconds);
	if (p->done && p->total >= p->done)
		n += snprintf(line + n, sizeof(line) - n, ", \"left_us\": %.0f",
			done ? 0 : seconds * 1e6 / p->done * (p->total - p->done));
	n += snprintf(line + n, sizeof(line) - n, ", \"us\": %.0f, \"done\": %s}\n", seconds * 1e6,
		done ? "true" : "false");
	put(p, line, n);
}

static bool anybody_active(const struct progress_shares *s)
{
	for (unsigned i = 0; i < PROGRESS_SHARES_MAX; i++)
		if (__atomic_load_n(&s->of[i].active, __ATOMIC_RELAXED))
			return true;
	return false;
}

static void start_share(struct progress *p, uint64_t total)
{
	struct progress_shares *s = p->shares;

	if (!anybody_active(s)) {
		memset(s->of, 0, sizeof(s->of));
		__atomic_store_n(&s->next_ns, p->next_ns, __ATOMIC_RELAXED);
	}
	s->of[p->self] = (struct progress_share){.total = total, .active = true};
}

/* Who has come to the end counts as done as long as others have not. */
static void stop_share(struct progress *p)
{
	struct progress_share *own = &p->shares->of[p->self];

	own->total = own->done;
	__atomic_store_n(&own->active, false, __ATOMIC_RELAXED);
	p->drawn = !p->json && !anybody_active(p->shares);
}

/* One of them shows it, for all. */
static bool is_our_turn(struct progress *p, uint64_t now)
{
	uint64_t next = p->shares ? __atomic_load_n(&p->shares->next_ns, __ATOMIC_RELAXED) : p->next_ns;

	if (now < next)
		return false;
	return !p->shares || __atomic_compare_exchange_n(&p->shares->next_ns, &next, now + INTERVAL_MS * MS,
				     false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void progress_start(struct progress *p, const char *phase, const char *title, uint64_t total)
{
	beat_phase(p->beat, phase);
	if (p->fd < 0)
		return;
	progress_stop(p);
	p->phase = phase;
	p->title = title;
	p->done = 0;
	p->total = total;
	p->start_ns = now_ns();
	p->next_ns = p->start_ns + (p->json ? INTERVAL_MS : DELAY_MS) * MS;
	if (p->json)
		put_json(p, p->start_ns, false);
	else if (p->shares && title)
		start_share(p, total);
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

static void put_line(struct progress *p, uint64_t now)
{
	char line[160], size[24], total[24], rate[24], left[32];
	double seconds = (now - p->start_ns) / 1e9;
	uint64_t done = p->done, all = p->total;
	int n;

	for (unsigned i = 0; p->shares && i < PROGRESS_SHARES_MAX; i++) {
		done += i == p->self ? 0 : p->shares->of[i].done;
		all += i == p->self ? 0 : p->shares->of[i].total;
	}
	put_size(size, sizeof(size), done);
	put_size(total, sizeof(total), all);
	put_size(rate, sizeof(rate), done / seconds);
	if (all == 0 || done == 0 || done > all) {
		n = snprintf(line, sizeof(line), "\r%.40s: %s, %s/s\033[K", p->title, size, rate);
	} else {
		put_time(left, sizeof(left), seconds / done * (all - done));
		n = snprintf(line, sizeof(line), "\r%.40s: %2u%%, %s of %s, %s/s, %s left\033[K", p->title,
			(unsigned)(done * 100.0 / all), size, total, rate, left);
	}
	p->drawn = true;
	put(p, line, MIN((size_t)n, sizeof(line) - 1));
}

void progress_update(struct progress *p, uint64_t done)
{
	uint64_t now;

	beat_go_on(p->beat);
	if (p->fd < 0 || !p->phase)
		return;
	p->done = done;
	if (p->total && p->total < done) /* it was an estimate */
		p->total = done;
	if (p->shares && p->title && !p->json) {
		p->shares->of[p->self].done = done;
		p->shares->of[p->self].total = p->total;
	}
	now = now_ns();
	if (p->json ? now < p->next_ns : !is_our_turn(p, now))
		return;
	p->next_ns = now + INTERVAL_MS * MS;
	if (p->json)
		put_json(p, now, false);
	else if (p->title)
		put_line(p, now);
}

void progress_stop(struct progress *p)
{
	if (p->fd < 0 || !p->phase)
		return;
	if (p->shares && p->title && !p->json)
		stop_share(p);
	if (p->json)
		put_json(p, now_ns(), true);
	else if (p->drawn)
		put(p, "\r\033[K", 4);
	p->phase = NULL;
	p->drawn = false;
}
