/* SPDX-License-Identifier: Apache-2.0 */
/* cr: options=--file-locks modes=once,cycles,again,userns */
/* Leases: their type, signal and owner; and they work: who opens the file has to wait until the holder gives it up. */
#include "cr.h"

#include <sys/fsuid.h>

static int write_lease, read_lease;
static volatile int broken;

static void on_break(int sig, siginfo_t *info, void *context CR_UNUSED)
{
	if (sig == SIGUSR1 && info->si_fd == write_lease)
		broken++;
	fcntl(write_lease, F_SETLEASE, F_UNLCK);
}

/* To give a lease up takes owner and signal from the description. */
static void take_write_lease(void)
{
	must(fcntl(write_lease, F_SETSIG, SIGUSR1));
	must(fcntl(write_lease, F_SETLEASE, F_WRLCK));
}

/* Another process opens the file, and gets it once the handler has given the lease up. */
static void check_break(void)
{
	int status;
	pid_t pid;

	broken = 0;
	pid = must(fork());
	if (pid == 0) {
		close(write_lease);
		_exit(open("/tmp/write-lease", O_RDONLY) < 0);
	}
	while (waitpid(pid, &status, 0) < 0)
		check(errno == EINTR, "wait: %m");
	check(status == 0 && broken == 1, "the holder was asked %d times", broken);
	take_write_lease();
}

int main(void)
{
	struct sigaction a = {.sa_sigaction = on_break, .sa_flags = SA_SIGINFO};

	sigaction(SIGUSR1, &a, NULL);
	write_lease = must(open("/tmp/write-lease", O_RDWR | O_CREAT, 0600));
	take_write_lease();
	close(must(open("/tmp/read-lease", O_RDWR | O_CREAT, 0600)));
	must(chown("/tmp/read-lease", 7, 7));
	read_lease = must(open("/tmp/read-lease", O_RDONLY));
	setfsuid(7); /* only the owner of a file may have a lease on it */
	must(fcntl(read_lease, F_SETLEASE, F_RDLCK));
	setfsuid(0);
	while (cr_wait()) {
		check(fcntl(write_lease, F_GETLEASE) == F_WRLCK, "the write lease is gone");
		check(fcntl(read_lease, F_GETLEASE) == F_RDLCK, "the read lease is gone");
		check_break();
	}
	return 0;
}
