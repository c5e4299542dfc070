/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/watchdog.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/taskreport.h"

enum { SIGNAL_FROM_MAX = 3, TICKS = 4, LAST_MS = 10000, TASKS_MAX = 1024, THREADS_SHOWN = 64 };

static int watch_signal(void)
{
	return SIGRTMAX - SIGNAL_FROM_MAX;
}

/* 0: as long as it takes. */
static unsigned allowance(const struct watchdog *w)
{
	unsigned s = w->starting ? w->allowance.start : w->allowance.running;

	if (s == WATCHDOG_NEVER)
		return 0;
	return s ? MIN(s, 1000000u) : w->starting ? WATCHDOG_START : WATCHDOG_RUNNING;
}

/* How long until it looks again; what it says is off by that much at most. */
static unsigned tick_ms(const struct watchdog *w)
{
	return w->after_s ? LAST_MS / TICKS : allowance(w) * 1000 / TICKS;
}

static void arm(const struct watchdog *w)
{
	unsigned ms = w->paused ? 0 : tick_ms(w);
	struct itimerspec t = {.it_value = {ms / 1000, ms % 1000 * 1000000L}};

	timer_settime(w->timer, 0, &t, NULL);
}

static void put(const struct watchdog *w, const char *text, size_t len)
{
	(void)!write_all(STDERR_FILENO, text, len);
	if (w->report >= 0)
		(void)!write_all(w->report, text, len);
}

static const char *kind_name(const struct watchdog *w)
{
	return w->kind == WATCHDOG_CHECKPOINT ? "checkpoint" : "restore";
}

/* What this process has begun, and what is in the container. */
static void report(struct watchdog *w, const pid_t *begun, size_t n_begun)
{
	static const char explain[] =
		"  (kernel stacks are shown as far as this kernel and our privileges allow)\n";
	pid_t inside[TASKS_MAX];
	char line[160];
	int fds[2] = {STDERR_FILENO};
	size_t n;

	if (w->work_dir >= 0)
		w->report = openat(w->work_dir, "watchdog.log",
			O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	fds[1] = w->report;
	n = snprintf(line, sizeof(line),
		"stasis: the %s has made no progress for %u s in its phase \"%s\":\n", kind_name(w),
		w->after_s, w->phase);
	put(w, line, n);
	for (size_t i = 0; i < n_begun; i++)
		task_report(begun[i], THREADS_SHOWN, fds, ARRAY_SIZE(fds));
	for (unsigned k = 0; k < w->n_init_pids && w->kind == WATCHDOG_CHECKPOINT; k++) {
		task_report(w->init_pids[k], THREADS_SHOWN, fds, ARRAY_SIZE(fds));
		n = task_descendants(w->init_pids[k], inside, ARRAY_SIZE(inside));
		for (size_t i = 0; i < n; i++)
			task_report(inside[i], THREADS_SHOWN, fds, ARRAY_SIZE(fds));
	}
	put(w, explain, sizeof(explain) - 1);
}

static void end_processes(struct watchdog *w)
{
	pid_t begun[TASKS_MAX];
	size_t n = task_descendants(w->owner, begun, ARRAY_SIZE(begun));

	report(w, begun, n);
	for (size_t i = 0; i < n; i++)
		kill(begun[i], SIGKILL);
}

/* It was not enough. A guard stays: what it undoes nobody else would. */
static void end_self(struct watchdog *w)
{
	static const char text[] = "stasis: the restore does not come to an end: it was killed (\"stasis "
				   "delete --force\" removes "
				   "what is left of the container)\n";

	w->ended_ms += LAST_MS / TICKS;
	if (w->kind == WATCHDOG_CHECKPOINT || w->ended_ms < LAST_MS)
		return;
	put(w, text, sizeof(text) - 1);
	kill(w->owner, SIGKILL);
}

static void look(struct watchdog *w)
{
	uint32_t now = __atomic_load_n(&w->beat->n, __ATOMIC_RELAXED);

	if (w->after_s) {
		end_self(w);
		return;
	}
	w->quiet_ms = now == w->seen ? w->quiet_ms + tick_ms(w) : 0;
	w->seen = now;
	if (w->quiet_ms < allowance(w) * 1000)
		return;
	memcpy(w->phase, w->beat->phase, sizeof(w->phase) - 1);
	w->after_s = allowance(w);
	end_processes(w);
}

static void on_tick(int sig, siginfo_t *info, void *context)
{
	struct watchdog *w = info->si_value.sival_ptr;
	int saved = errno;

	/* Children that have kept the handler have not kept the timer. */
	if (info->si_code == SI_TIMER && w->owner == getpid()) {
		look(w);
		arm(w);
	}
	errno = saved;
}

void watchdog_begin(struct watchdog *w, enum watchdog_kind kind, const struct watchdog_allowance *a,
	const struct beat *beat, const char *work_path)
{
	/* Calls that were interrupted go on. */
	struct sigaction act = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = watch_signal()};

	*w = (struct watchdog){.kind = kind,
		.allowance = *a,
		.beat = beat,
		.work_dir = -EBADF,
		.report = -EBADF,
		.owner = getpid(),
		.starting = kind == WATCHDOG_RESTORE};
	ev.sigev_value.sival_ptr = w;
	ev._sigev_un._tid = gettid();
	/* Without it all goes as it would have gone. */
	if (timer_create(CLOCK_MONOTONIC, &ev, &w->timer) < 0)
		return;
	if (work_path)
		w->work_dir = open(work_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sigfillset(&act.sa_mask);
	sigaction(watch_signal(), &act, &w->old);
	w->begun = true;
	arm(w);
}

void watchdog_started(struct watchdog *w, pid_t init_pid)
{
	if (w->n_init_pids < ARRAY_SIZE(w->init_pids))
		w->init_pids[w->n_init_pids++] = init_pid;
	w->starting = false;
	if (w->begun && !w->after_s)
		arm(w);
}

void watchdog_pause(struct watchdog *w, bool pause)
{
	w->paused = pause;
	w->quiet_ms = 0;
	if (w->begun && !w->after_s)
		arm(w);
}

int watchdog_end(struct watchdog *w, int r, struct error *e)
{
	if (!w->begun)
		return r;
	timer_delete(w->timer);
	sigaction(watch_signal(), &w->old, NULL);
	close_p(&w->report);
	close_p(&w->work_dir);
	w->begun = false;
	if (!w->after_s || r >= 0)
		return r;
	return error_set(e, -ETIMEDOUT, ERROR_SYSTEM,
		w->kind == WATCHDOG_CHECKPOINT
			? "the checkpoint made no progress for %u s in its phase \"%s\": it was undone, and "
			  "the "
			  "container runs on (where its tasks stood is on stderr, and in watchdog.log of "
			  "--work-path; "
			  "--watchdog gives it more time)"
			: "the restore made no progress for %u s in its phase \"%s\": all that it had made "
			  "is "
			  "removed (where its tasks stood is on stderr, and in watchdog.log of --work-path; "
			  "--watchdog and --watchdog-start give it more time)",
		w->after_s, w->phase);
}
