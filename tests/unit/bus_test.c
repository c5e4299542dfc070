/* SPDX-License-Identifier: Apache-2.0 */
/* The D-Bus connection with a dbus-daemon of our own, on which nobody is systemd. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "cgroup/bus.h"
#include "tap.h"

static char path[] = "/tmp/bus-test-XXXXXX/bus";

static pid_t start_daemon(void)
{
	char address[80], text[512];
	int out[2];
	pid_t pid;

	snprintf(address, sizeof(address), "--address=unix:path=%s", path);
	if (pipe(out) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], 1);
		close(out[0]);
		close(out[1]);
		execlp("dbus-daemon", "dbus-daemon", "--session", "--nofork", "--nopidfile",
			"--print-address", address, NULL);
		_exit(127);
	}
	close(out[1]);
	/* It listens when it has said where; nothing is said when it could not be started. */
	if (read(out[0], text, sizeof(text)) <= 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(out[0]);
	return pid;
}

static void test_calls(void)
{
	struct bus_message body = {0};
	struct error e = {0};
	struct bus b;

	if (!CHECK(bus_connect(path, &b, &e) == 0, "%s", e.message))
		return;
	bus_put_string(&body, "a.scope");
	CHECK(bus_call(&b, "org.freedesktop.systemd1.Manager", "GetUnit", "s", &body, NULL, &e) == -EREMOTEIO,
		"a unit without systemd");
	CHECK(strstr(e.message, "systemd: GetUnit: ") && strstr(e.message, "org.freedesktop.systemd1"), "%s",
		e.message);
	/* And the connection is still good. */
	CHECK(bus_call(&b, "org.freedesktop.DBus.Peer", "Ping", "", NULL, NULL, &e) == -EREMOTEIO);
	bus_message_done(&body);
	bus_done(&b);
}

/* As root of a user namespace we are another for the daemon than for ourselves. */
static void test_user_namespace(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct error e = {0};
		struct bus b;

		if (unshare(CLONE_NEWUSER) < 0)
			_exit(77);
		if (bus_connect(path, &b, &e) < 0) {
			fprintf(stderr, "# %s\n", e.message);
			_exit(1);
		}
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && (status == 0 || WEXITSTATUS(status) == 77), "status %x",
		(unsigned)status);
}

static void test_failures(void)
{
	struct bus_message m = {0};
	struct bus_reply r;
	struct error e = {0};
	struct bus b;
	uint8_t small[16] = "l\2\0\1";
	char *large = malloc(BUS_MESSAGE_MAX + 1);

	CHECK(bus_connect("/nowhere/bus", &b, &e) == -ENOENT && strstr(e.message, "/nowhere/bus"), "%s",
		e.message);
	CHECK(bus_parse(small, sizeof(small), &r) == 0 && !bus_reply_string(&r));
	small[0] = 'B';
	CHECK(bus_message_size(small) == -EBADMSG);
	if (CHECK(large != NULL)) {
		memset(large, 'x', BUS_MESSAGE_MAX);
		large[BUS_MESSAGE_MAX] = 0;
		bus_put_string(&m, large);
		CHECK(m.failed, "a message without an end");
	}
	bus_message_done(&m);
	free(large);
}

static const struct tap_test tests[] = {
	{"what can't be connected or is no message", test_failures},
	{"calls and their errors", test_calls},
	{"from a user namespace", test_user_namespace},
};

int main(void)
{
	pid_t daemon;
	int bad;

	*strrchr(path, '/') = 0;
	if (!mkdtemp(path))
		return 1;
	path[strlen(path)] = '/';
	daemon = start_daemon();
	bad = tap_main(tests, ARRAY_SIZE(tests));
	if (daemon > 0) {
		kill(daemon, SIGKILL);
		waitpid(daemon, NULL, 0);
	}
	unlink(path);
	*strrchr(path, '/') = 0;
	rmdir(path);
	return bad;
}
