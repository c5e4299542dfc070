// SPDX-License-Identifier: Apache-2.0
/*
 * embed PROGRAM ROOT BUNDLE IMAGE: the life of a container by libstasis. PROGRAM is the stasis to use, ROOT the directory for
 * its state, BUNDLE has a config.json whose program runs until it gets SIGTERM, IMAGE is a directory that is not there yet.
 *
 *   cc embed.c $(pkg-config --cflags --libs stasis)
 */
#include <signal.h>
#include <stasis.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static struct stasis_error error;

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "embed: %s: %s\n", what, error.message);
	exit(1);
}

static void say(struct stasis_container *c)
{
	static const char *const names[] = {"creating", "created", "running", "paused", "stopped"};
	enum stasis_status status;

	must(stasis_status(c, &status, &error), "status");
	printf("%s: %s\n", stasis_id(c), names[status]);
}

/* a further process, and what became of it */
static void run_in(struct stasis_container *c)
{
	const char *const args[] = {"/bin/sh", "-c", "exit 42", NULL};
	struct stasis_process *p;
	int status;

	must(stasis_exec(c, STASIS_OPTIONS(stasis_exec_options, .args = args), &p, &error), "exec");
	must(stasis_process_wait(p, -1, &status, &error), "wait");
	printf("exec: exit status %d\n", WEXITSTATUS(status));
	stasis_process_free(p);
}

static void end(struct stasis_container *c)
{
	int status;

	must(stasis_signal(c, SIGTERM, false, &error), "signal");
	must(stasis_wait(c, 10000, &status, &error), "wait");
	if (WIFSIGNALED(status))
		printf("ended by signal %d\n", WTERMSIG(status));
	else
		printf("ended with status %d\n", WEXITSTATUS(status));
	must(stasis_delete(c, false, &error), "delete");
}

int main(int argc, char **argv)
{
	struct stasis *s;
	struct stasis_container *c;
	char *text;

	if (argc != 5) {
		fprintf(stderr, "usage: embed PROGRAM ROOT BUNDLE IMAGE\n");
		return 2;
	}
	must(stasis_open(STASIS_OPTIONS(stasis_options, .program = argv[1], .root = argv[2]), &s, &error),
		"open");

	must(stasis_create(
		     s, "embedded", STASIS_OPTIONS(stasis_create_options, .bundle = argv[3]), &c, &error),
		"create");
	say(c);
	must(stasis_start(c, &error), "start");
	say(c);
	run_in(c);
	must(stasis_stats_json(c, &text, &error), "statistics");
	free(text);

	must(stasis_pause(c, &error), "pause");
	say(c);
	must(stasis_resume(c, &error), "resume");

	must(stasis_checkpoint(c, STASIS_OPTIONS(stasis_checkpoint_options, .image_path = argv[4]), &error),
		"checkpoint");
	stasis_free(c);

	must(stasis_restore(s, "embedded-again",
		     STASIS_OPTIONS(stasis_restore_options, .create.bundle = argv[3], .image_path = argv[4]),
		     &c, &error),
		"restore");
	say(c);
	end(c);
	stasis_free(c);
	stasis_close(s);
	return 0;
}
