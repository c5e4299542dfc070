/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors on their way in unix sockets (SCM_RIGHTS): in streams between bytes, in datagrams and packets, several at
 * once, beside credentials; files that nobody has but the queue, also a socket with such a queue itself.
 */
#include "sockets.h"

#include <sys/eventfd.h>

static void pass(int to, const char *text, const int *fds, int n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = {0};
	struct iovec iov = {(void *)text, strlen(text)};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	check(sendmsg(to, &h, 0) == (ssize_t)strlen(text), "pass: %m");
}

/* Reads up to "max" bytes; the text, and how many descriptors, must be these. */
static void take(int from, size_t max, const char *text, int *fds, int n, int credentials)
{
	_Alignas(struct cmsghdr) char control[400];
	char b[100];
	struct iovec iov = {b, max};
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(from, &h, MSG_DONTWAIT);
	int have = 0, has_credentials = 0;

	check(got == (ssize_t)strlen(text) && !memcmp(b, text, got), "\"%s\": %zd bytes \"%.*s\": %m", text,
		got, got > 0 ? (int)got : 0, b);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_type == SCM_RIGHTS) {
			have = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			check(have == n, "\"%s\": %d descriptors", text, have);
			memcpy(fds, CMSG_DATA(c), have * sizeof(int));
		} else if (c->cmsg_type == SCM_CREDENTIALS) {
			has_credentials = 1;
			check(((struct ucred *)CMSG_DATA(c))->pid == getpid(), "pid");
		}
	}
	check(have == n && has_credentials == credentials, "\"%s\": %d descriptors, credentials %d", text,
		have, has_credentials);
}

static int stream[2], dgram[2], packets[2], nested_end;

static void set_up(void)
{
	int event = must(eventfd(7, EFD_NONBLOCK)),
	    file = must(open("/cr/passed", O_RDWR | O_CREAT | O_APPEND, 0644)), p[2], s[2], both[2];

	must(write(file, "contents", 8));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	sk_send(stream[0], "ab");
	pass(stream[0], "cd", &event, 1);
	pass(stream[0], "ef", &file, 1);
	sk_send(stream[0], "gh");
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	sk_set(dgram[1], SOL_SOCKET, SO_PASSCRED, 1);
	must(pipe(p));
	must(write(p[1], "in the pipe", 11));
	both[0] = p[0];
	both[1] = p[1];
	pass(dgram[0], "both ends", both, 2);
	/* The same file three times: in the table, and in two messages. */
	pass(dgram[0], "own", &dgram[0], 1);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	pass(s[0], "within", &event, 1);
	pass(packets[0], "a socket", &s[1], 1);
	nested_end = s[0];
	close(s[1]);
	close(p[0]);
	close(p[1]);
	close(event);
	close(file);
	unlink("/cr/passed");
}

static void check_event(int fd, uint64_t want)
{
	uint64_t v;

	check(read(fd, &v, sizeof(v)) == sizeof(v) && v == want, "eventfd: %m");
	check(read(fd, &v, sizeof(v)) == -1 && errno == EAGAIN, "it is another file");
	must(write(fd, &want, sizeof(want)));
}

static void verify(void)
{
	int event, file, ends[2], own, inner, event2;
	char b[64];

	take(stream[1], 1, "a", NULL, 0, 0);
	take(stream[1], 50, "bcd", &event, 1, 0);
	check_event(event, 7);
	take(stream[1], 1, "e", &file, 1, 0);
	take(stream[1], 50, "fgh", NULL, 0, 0);
	check(pread(file, b, sizeof(b), 0) == 8 && !memcmp(b, "contents", 8), "contents of the file");
	check(fcntl(file, F_GETFL) & O_APPEND && lseek(file, 0, SEEK_CUR) == 8,
		"flags or offset of the file");
	take(dgram[1], 50, "both ends", ends, 2, 1);
	check(read(ends[0], b, sizeof(b)) == 11 && !memcmp(b, "in the pipe", 11), "data of the pipe");
	must(write(ends[1], "more", 4));
	check(read(ends[0], b, sizeof(b)) == 4, "the pipe");
	take(dgram[1], 50, "own", &own, 1, 1);
	check(syscall(SYS_kcmp, getpid(), getpid(), 0, own, dgram[0]) == 0, "it is not the same file: %m");
	take(packets[1], 50, "a socket", &inner, 1, 0);
	take(inner, 50, "within", &event2, 1, 0);
	check(syscall(SYS_kcmp, getpid(), getpid(), 0, event, event2) == 0, "it is not the same eventfd: %m");
	sk_send(nested_end, "still connected");
	sk_expect(inner, "still connected");
	for (int i = 0; i < 2; i++) {
		close(stream[i]);
		close(dgram[i]);
		close(packets[i]);
		close(ends[i]);
	}
	close(nested_end);
	close(event);
	close(event2);
	close(file);
	close(own);
	close(inner);
}

int main(void)
{
	for (;;) {
		set_up();
		if (!cr_wait())
			return 0;
		verify();
	}
}
