/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN,SYS_PTRACE,SYS_TIME,IPC_LOCK,NET_ADMIN modes=odd */
/*
 * Kernel objects that an engine may not know: each is set up by the name in argv[1], and must either be refused before
 * anything is stopped, or come back faithfully (harness.py: odd). "Not understood" must never mean "silently lost".
 */
#include "notify.h"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <pty.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/mount.h>
#include <asm/ldt.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <termios.h>

static int fd = -1, fd2 = -1, id = -1;
static pid_t child;
static char *memory, *second;
static volatile int *shared;

/* This kernel (or machine) does not have the thing: the harness skips. */
static bool unavailable(const char *what)
{
	cr_say("unavailable", 1, "", what);
	return false;
}

#define have(call)                                                                                           \
	({                                                                                                   \
		__typeof__(call) _have = (call);                                                             \
		if ((long)_have == -1)                                                                       \
			return unavailable(#call);                                                           \
		_have;                                                                                       \
	})

static bool set_inotify(void)
{
	fd = have(inotify_init1(IN_NONBLOCK));
	must(inotify_add_watch(fd, "/tmp", IN_CREATE));
	return true;
}

static void check_inotify(void)
{
	char b[1000];

	close(must(open("/tmp/new", O_CREAT | O_WRONLY | O_TRUNC, 0600)));
	check(read(fd, b, sizeof(b)) > 0, "the watch is gone: %m");
	unlink("/tmp/new");
}

static bool set_inotify_queued(void)
{
	set_inotify();
	close(must(open("/tmp/new", O_CREAT | O_WRONLY | O_TRUNC, 0600)));
	return true;
}

static void check_inotify_queued(void)
{
	char b[1000];

	check(read(fd, b, sizeof(b)) > 0, "the event is lost: %m");
}

static bool set_flock(void)
{
	fd = must(open("/tmp/lock", O_CREAT | O_RDWR, 0600));
	must(flock(fd, LOCK_EX));
	return true;
}

static void check_flock(void)
{
	int other = must(open("/tmp/lock", O_RDWR));

	check(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the lock is gone");
	close(other);
}

static bool set_fcntl_lock(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_start = 5, .l_len = 10};

	fd = must(open("/tmp/lock", O_CREAT | O_RDWR, 0600));
	must(fcntl(fd, F_SETLK, &l));
	return true;
}

static void check_fcntl_lock(void)
{
	int status;
	pid_t pid = must(fork());

	if (pid == 0) {
		struct flock l = {.l_type = F_WRLCK, .l_start = 0, .l_len = 100};

		_exit(fcntl(fd, F_GETLK, &l) < 0 || l.l_type != F_WRLCK || l.l_start != 5 || l.l_len != 10 ||
			l.l_pid != getppid());
	}
	must(waitpid(pid, &status, 0));
	check(status == 0, "the lock is gone");
}

static bool set_ofd_lock(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_start = 5, .l_len = 10};

	fd = must(open("/tmp/lock", O_CREAT | O_RDWR, 0600));
	must(fcntl(fd, F_OFD_SETLK, &l));
	return true;
}

static void check_ofd_lock(void)
{
	int other = must(open("/tmp/lock", O_RDWR));
	struct flock l = {.l_type = F_WRLCK, .l_start = 0, .l_len = 100};

	must(fcntl(other, F_OFD_GETLK, &l));
	check(l.l_type == F_WRLCK && l.l_start == 5, "the lock is gone");
	close(other);
}

static bool set_flock_memfd(void)
{
	fd = must(memfd_create("locked", 0));
	must(flock(fd, LOCK_EX));
	return true;
}

static void check_flock_memfd(void)
{
	char path[64];
	int other;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = must(open(path, O_RDWR));
	check(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the lock is gone");
	close(other);
}

static bool set_lease(void)
{
	fd = must(open("/tmp/lease", O_CREAT | O_RDWR, 0600));
	have(fcntl(fd, F_SETLEASE, F_WRLCK));
	return true;
}

static void check_lease(void)
{
	check(fcntl(fd, F_GETLEASE) == F_WRLCK, "the lease is gone");
}

static bool set_pidfd(void)
{
	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	fd = have(syscall(SYS_pidfd_open, child, 0));
	return true;
}

static void check_pidfd(void)
{
	check(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0, "the pidfd is not the child's: %m");
}

static bool set_mqueue(void)
{
	struct mq_attr a = {.mq_maxmsg = 5, .mq_msgsize = 64};

	fd = have(mq_open("/queue", O_CREAT | O_RDWR | O_NONBLOCK, 0600, &a));
	must(mq_send(fd, "message", 8, 2));
	return true;
}

static void check_mqueue(void)
{
	char b[64];
	unsigned priority;

	check(mq_receive(fd, b, 64, &priority) == 8 && priority == 2 && !strcmp(b, "message"),
		"the message is gone: %m");
	must(mq_send(fd, "message", 8, 2));
}

/* Who waits for the next message, while one is there. */
static bool set_mqueue_notified(void)
{
	struct sigevent how = {.sigev_notify = SIGEV_NONE};

	set_mqueue();
	must(mq_notify(fd, &how));
	return true;
}

static void check_mqueue_notified(void)
{
	struct sigevent how = {.sigev_notify = SIGEV_NONE};

	check(mq_notify(fd, &how) == -1 && errno == EBUSY, "nobody is registered: %m");
}

/* The file of a queue in /dev/mqueue that nobody has open. */
static bool set_mqueue_unopened(void)
{
	set_mqueue();
	must(close(fd));
	return true;
}

static void check_mqueue_unopened(void)
{
	fd = mq_open("/queue", O_RDWR | O_NONBLOCK);
	check(fd >= 0, "the queue is gone");
	check_mqueue();
	close(fd);
}

static bool set_netlink(void)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};

	fd = have(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	must(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	return true;
}

static void check_netlink(void)
{
	struct sockaddr_nl a;
	socklen_t len = sizeof(a);
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} ask = {{sizeof(ask), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
	char b[16384];

	must(getsockname(fd, (struct sockaddr *)&a, &len));
	check(a.nl_groups == RTMGRP_LINK, "groups %x", a.nl_groups);
	check(send(fd, &ask, sizeof(ask), 0) > 0 && recv(fd, b, sizeof(b), 0) > 0, "no answer: %m");
	while (recv(fd, b, sizeof(b), MSG_DONTWAIT) > 0)
		;
}

static bool set_raw(void)
{
	fd = have(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	return true;
}

static void check_raw(void)
{
	int protocol;
	socklen_t len = sizeof(protocol);

	must(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len));
	check(protocol == IPPROTO_ICMP, "protocol %d", protocol);
}

static void lo_up(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int s = must(socket(AF_INET, SOCK_DGRAM, 0));

	must(ioctl(s, SIOCGIFFLAGS, &r));
	if (!(r.ifr_flags & IFF_UP)) {
		r.ifr_flags |= IFF_UP;
		must(ioctl(s, SIOCSIFFLAGS, &r));
	}
	close(s);
}

/* A socket of a protocol that is not recorded. */
static bool set_vsock(void)
{
	fd = have(socket(AF_VSOCK, SOCK_STREAM, 0));
	return true;
}

static void check_vsock(void)
{
	int family;
	socklen_t len = sizeof(family);

	must(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len));
	check(family == AF_VSOCK, "family %d", family);
}

/* Both ends speak MPTCP. */
static bool set_mptcp(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(7789), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = have(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));

	lo_up();
	must(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	must(listen(listener, 5));
	fd = must(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));
	must(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	fd2 = must(accept(listener, NULL, NULL));
	return true;
}

static void check_mptcp(void)
{
	int protocol;
	socklen_t len = sizeof(protocol);
	char b[8];

	must(getsockopt(fd2, SOL_SOCKET, SO_PROTOCOL, &protocol, &len));
	check(protocol == IPPROTO_MPTCP, "protocol %d", protocol);
	must(send(fd, "hello", 5, 0));
	check(recv(fd2, b, sizeof(b), 0) == 5, "%m");
}

static bool set_tcp(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(7777), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = must(socket(AF_INET, SOCK_STREAM, 0));

	lo_up();
	must(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	must(listen(listener, 5));
	fd = must(socket(AF_INET, SOCK_STREAM, 0));
	must(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	fd2 = must(accept(listener, NULL, NULL));
	must(send(fd, "sent before", 11, 0));
	close(listener);
	return true;
}

static void check_tcp(void)
{
	char b[64];

	check(recv(fd2, b, 64, MSG_DONTWAIT) == 11 && !memcmp(b, "sent before", 11),
		"what was sent before is lost: %m");
	must(send(fd2, "there", 5, 0));
	check(recv(fd, b, 64, 0) == 5, "the other way: %m");
	must(send(fd, "sent before", 11, 0));
}

/* A connection that nobody has accepted, with data in it; fd listens. */
static bool set_tcp_backlog(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(7790), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	lo_up();
	fd = must(socket(AF_INET, SOCK_STREAM, 0));
	must(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	must(listen(fd, 5));
	fd2 = must(socket(AF_INET, SOCK_STREAM, 0));
	must(connect(fd2, (struct sockaddr *)&a, sizeof(a)));
	must(send(fd2, "waiting", 7, 0));
	return true;
}

static void check_tcp_backlog(void)
{
	int accepted = must(accept(fd, NULL, NULL));
	char b[64];

	check(recv(accepted, b, 64, 0) == 7 && !memcmp(b, "waiting", 7), "what waited is lost: %m");
}

/* A UDP socket of port 7788 in fd, and fd2 connected to it. */
static void set_udp(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(7788), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	lo_up();
	fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	fd2 = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(connect(fd2, (struct sockaddr *)&a, sizeof(a)));
}

/* A datagram of which a part has been sent. */
static bool set_udp_cork(void)
{
	set_udp();
	must(send(fd2, "half and ", 9, MSG_MORE));
	return true;
}

static void check_udp_cork(void)
{
	char b[64];

	check(recv(fd, b, sizeof(b), MSG_DONTWAIT) == -1, "it has been sent");
	must(send(fd2, "half", 4, 0));
	check(recv(fd, b, sizeof(b), 0) == 13 && !memcmp(b, "half and half", 13), "the first half is lost");
	must(send(fd2, "half and ", 9, MSG_MORE));
}

/* An ICMP error that nobody has asked for yet. */
static bool set_udp_error(void)
{
	set_udp();
	close(fd);
	must(send(fd2, "nobody", 6, 0));
	return true;
}

static void check_udp_error(void)
{
	char b[64];

	check(recv(fd2, b, sizeof(b), MSG_DONTWAIT) == -1 && errno == ECONNREFUSED, "%m");
	must(send(fd2, "nobody", 6, 0));
}

/* The same with the datagram that caused it. */
static bool set_udp_error_queue(void)
{
	set_udp();
	close(fd);
	must(setsockopt(fd2, IPPROTO_IP, IP_RECVERR, &(int){1}, sizeof(int)));
	must(send(fd2, "nobody", 6, 0));
	return true;
}

static void check_udp_error_queue(void)
{
	char b[64];

	check(recv(fd2, b, sizeof(b), MSG_ERRQUEUE | MSG_DONTWAIT) == 6 && !memcmp(b, "nobody", 6), "%m");
	must(send(fd2, "nobody", 6, 0));
}

/* Datagrams that could only come again by a device which is down. */
static bool set_udp_lo_down(void)
{
	struct ifreq r = {.ifr_name = "lo"};

	set_udp();
	must(send(fd2, "before", 6, 0));
	must(ioctl(fd, SIOCGIFFLAGS, &r));
	r.ifr_flags &= ~IFF_UP;
	must(ioctl(fd, SIOCSIFFLAGS, &r));
	return true;
}

static void check_udp_lo_down(void)
{
	char b[64];

	check(recv(fd, b, sizeof(b), MSG_DONTWAIT | MSG_PEEK) == 6, "what waited is lost: %m");
}

/* A key, which the kernel charges to the socket and does not show. */
static void set_md5_key(int length)
{
	struct tcp_md5sig key = {.tcpm_keylen = length, .tcpm_key = "secret"};
	struct sockaddr_in *a = (struct sockaddr_in *)&key.tcpm_addr;

	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	must(setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof(key)));
}

static bool set_tcp_md5(void)
{
	fd = must(socket(AF_INET, SOCK_STREAM, 0));
	if (setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, "", 1) < 0 && errno == ENOPROTOOPT)
		return unavailable("TCP_MD5SIG");
	set_md5_key(6);
	return true;
}

static void check_tcp_md5(void)
{
	set_md5_key(0); /* takes it away: ENOENT if there is none */
	set_md5_key(6);
}

/* A descriptor in flight in a unix socket: fd is one end, fd2 the other. */
static void put_in_flight(int file)
{
	char c = 'x';
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec v = {&c, 1};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	*h = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(h), &file, sizeof(int));
	must(sendmsg(fd, &m, 0));
	close(file);
}

static int take_in_flight(void)
{
	char c;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec v = {&c, 1};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	int file;

	must(recvmsg(fd2, &m, 0));
	check(m.msg_controllen == sizeof(control), "the descriptor in flight is lost");
	memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	return file;
}

static void make_flight(void)
{
	int s[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	fd = s[0];
	fd2 = s[1];
}

static bool set_fd_in_flight(void)
{
	make_flight();
	put_in_flight(must(open("/etc/passwd", O_RDONLY)));
	return true;
}

static void check_fd_in_flight(void)
{
	int file = take_in_flight();
	char c;

	check(read(file, &c, 1) == 1, "the file in flight: %m");
	must(lseek(file, 0, SEEK_SET));
	put_in_flight(file);
}

/* A descriptor that has come before who sent it was accepted; "id": the listener. */
static void connect_early(void)
{
	static const struct sockaddr_un a = {AF_UNIX, "\0early"};

	if (id < 0) {
		id = must(socket(AF_UNIX, SOCK_STREAM, 0));
		must(bind(id, (const struct sockaddr *)&a, 8));
		must(listen(id, 4));
	}
	fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(connect(fd, (const struct sockaddr *)&a, 8));
	put_in_flight(must(open("/etc/passwd", O_RDONLY)));
	must(shutdown(fd, SHUT_WR));
}

static bool set_fd_early(void)
{
	connect_early();
	return true;
}

static void check_fd_early(void)
{
	int file;
	char c;

	fd2 = must(accept(id, NULL, NULL));
	file = take_in_flight();
	check(read(file, &c, 1) == 1, "the file that had come early: %m");
	close(file);
	close(fd2);
	close(fd);
	connect_early();
}

/* Urgent data, and behind it an error that is told once. */
static bool set_unix_urgent(void)
{
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	fd = pair[0];
	must(send(pair[0], "never read", 10, 0));
	must(send(pair[1], "abc", 3, 0));
	have(send(pair[1], "!", 1, MSG_OOB));
	must(close(pair[1]));
	return true;
}

static void check_unix_urgent(void)
{
	char text[8] = "";

	check(recv(fd, text, sizeof(text), MSG_OOB) == 1 && text[0] == '!', "urgent data: %m");
	check(recv(fd, text, sizeof(text), 0) == 3 && !memcmp(text, "abc", 3), "data: %m");
	check(recv(fd, text, 1, 0) == -1 && errno == ECONNRESET, "the error behind it: %m");
	must(close(fd));
	set_unix_urgent();
}

/* Of a process that a restore would have to make first. */
static bool set_pidfd_in_flight(void)
{
	make_flight();
	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	put_in_flight(must(syscall(SYS_pidfd_open, child, 0)));
	return true;
}

static void check_pidfd_in_flight(void)
{
	int file = take_in_flight();

	check(syscall(SYS_pidfd_send_signal, file, 0, NULL, 0) == 0, "the pidfd in flight: %m");
	put_in_flight(file);
}

static bool set_proc_in_flight(void)
{
	char path[64];

	make_flight();
	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	snprintf(path, sizeof(path), "/proc/%d/stat", child);
	put_in_flight(must(open(path, O_RDONLY)));
	return true;
}

static void check_proc_in_flight(void)
{
	int file = take_in_flight();
	char text[256] = "";

	check(pread(file, text, sizeof(text) - 1, 0) > 0 && atoi(text) == child, "it says \"%s\"", text);
	put_in_flight(file);
}

static bool set_io_uring(void)
{
	struct io_uring_params p = {0};

	fd = have(syscall(SYS_io_uring_setup, 8, &p));
	return true;
}

static void check_io_uring(void)
{
	check(syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0) == 0, "io_uring: %m");
}

static aio_context_t aio;

static bool set_aio(void)
{
	have(syscall(SYS_io_setup, 16, &aio));
	fd = must(open("/tmp/aio", O_CREAT | O_RDWR, 0600));
	return true;
}

static void check_aio(void)
{
	struct iocb io = {.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = fd,
		.aio_buf = (uint64_t) "data",
		.aio_nbytes = 4};
	struct iocb *list[] = {&io};
	struct io_event e;

	check(syscall(SYS_io_submit, aio, 1, list) == 1, "io_submit: %m");
	check(syscall(SYS_io_getevents, aio, 1, 1, &e, NULL) == 1 && e.res == 4, "io_getevents");
}

/* A request that is in flight until something is written. */
static bool set_aio_poll(void)
{
	int p[2];
	struct iocb io = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = 1 /* POLLIN */};
	struct iocb *list[] = {&io};

	have(syscall(SYS_io_setup, 16, &aio));
	must(pipe(p));
	fd = io.aio_fildes = p[0];
	fd2 = p[1];
	have(syscall(SYS_io_submit, aio, 1, list));
	return true;
}

static void check_aio_poll(void)
{
	struct io_event e;

	must(write(fd2, "x", 1));
	check(syscall(SYS_io_getevents, aio, 1, 1, &e, NULL) == 1 && (e.res & 1), "io_getevents: %#llx",
		(unsigned long long)e.res);
}

/* Made by the parent, mapped by the child. */
static bool set_aio_fork(void)
{
	have(syscall(SYS_io_setup, 16, &aio));
	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	return true;
}

static void check_aio_fork(void)
{
	fd = must(open("/tmp/aio", O_CREAT | O_RDWR, 0600));
	check_aio();
}

static bool set_userfaultfd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register r = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	fd = have(syscall(SYS_userfaultfd, O_NONBLOCK));
	must(ioctl(fd, UFFDIO_API, &api));
	memory = must(mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	r.range.start = (uint64_t)memory;
	r.range.len = 16384;
	must(ioctl(fd, UFFDIO_REGISTER, &r));
	return true;
}

static void check_userfaultfd(void)
{
	char page[4096] __attribute__((aligned(4096))) = "filled";
	struct uffdio_copy c = {.dst = (uint64_t)memory, .src = (uint64_t)page, .len = 4096};

	if (ioctl(fd, UFFDIO_COPY, &c) < 0)
		check(errno == EEXIST, "userfaultfd: %m");
	check(!strcmp(memory, "filled"), "userfaultfd memory");
}

static bool set_perf(void)
{
	struct perf_event_attr a = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(a), .config = PERF_COUNT_SW_TASK_CLOCK};

	a.exclude_kernel = 1;
	fd = have(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
	return true;
}

static void check_perf(void)
{
	uint64_t v = 0;

	check(read(fd, &v, 8) == 8 && v > 0, "the counter is gone: %m");
}

static bool set_memfd_secret(void)
{
	fd = have(syscall(SYS_memfd_secret, 0));
	must(ftruncate(fd, 8192));
	memory = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	cr_fill(memory, 8192, 3);
	return true;
}

static void check_memory_3(void)
{
	check(cr_differs(memory, 8192, 3) < 0, "contents");
}

static int same_memory(void *arg)
{
	for (;;) {
		*(volatile int *)arg += 1;
		cr_msleep(1);
	}
	return 0;
}

static bool set_clone(int flags, int (*f)(void *))
{
	char *stack = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	child = have(clone(f, stack + 65536, flags | SIGCHLD, (void *)shared));
	return true;
}

static bool set_clone_vm(void)
{
	set_clone(CLONE_VM, same_memory);
	memory = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	return true;
}

static void check_clone_vm(void)
{
	char path[64], a[8192], b[8192];
	int before = *shared;

	while (*shared == before)
		cr_msleep(1);
	memory = must(
		mmap(NULL, 3 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); /* seen in the other */
	snprintf(path, sizeof(path), "/proc/%d/maps", child);
	must(cr_read(path, a, sizeof(a)));
	must(cr_read("/proc/self/maps", b, sizeof(b)));
	check(!strcmp(a, b), "the two processes have memory of their own now");
}

/* It has a child that has a memory of its own. */
static int with_child(void *arg)
{
	if (fork() == 0)
		for (;;)
			cr_msleep(10);
	return same_memory(arg);
}

static bool set_clone_vm_child(void)
{
	set_clone(CLONE_VM, with_child);
	memory = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	while (!*shared)
		cr_msleep(1);
	return true;
}

static bool set_clone_vm_pidfd(void)
{
	set_clone_vm();
	fd = have(syscall(SYS_pidfd_open, child, 0));
	return true;
}

static void check_clone_vm_pidfd(void)
{
	must(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	check_clone_vm();
}

static int open_files(void *arg)
{
	volatile int *s = arg;

	for (;;) {
		if (s[1]) {
			s[2] = open("/dev/null", O_RDONLY);
			s[1] = 0;
		}
		cr_msleep(1);
	}
	return 0;
}

static bool set_clone_files(void)
{
	return set_clone(CLONE_FILES, open_files);
}

static void check_clone_files(void)
{
	shared[2] = -1;
	shared[1] = 1;
	while (shared[1])
		cr_msleep(1);
	check(shared[2] >= 0 && fcntl(shared[2], F_GETFD) >= 0,
		"the two processes have tables of their own now");
	close(shared[2]);
}

static int change_directory(void *arg)
{
	volatile int *s = arg;

	for (;;) {
		if (s[1]) {
			chdir(s[1] == 1 ? "/tmp" : "/");
			s[1] = 0;
		}
		cr_msleep(1);
	}
	return 0;
}

static bool set_clone_fs(void)
{
	return set_clone(CLONE_FS, change_directory);
}

static void check_clone_fs(void)
{
	char b[256];

	for (int i = 1; i <= 2; i++) {
		shared[1] = i;
		while (shared[1])
			cr_msleep(1);
		check(getcwd(b, sizeof(b)) && !strcmp(b, i == 1 ? "/tmp" : "/"),
			"directories of their own now: %s", b);
	}
}

static int semaphores;

/* What two processes have taken from a semaphore together is given back when both have ended. */
static bool set_clone_sysvsem(void)
{
	semaphores = must(semget(IPC_PRIVATE, 1, 0600));
	must(semctl(semaphores, 0, SETVAL, 5));
	must(semop(semaphores, &(struct sembuf){0, -1, SEM_UNDO}, 1));
	child = syscall(SYS_clone, CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0);
	check(child >= 0, "clone: %m");
	if (child == 0) {
		must(semop(semaphores, &(struct sembuf){0, -1, SEM_UNDO}, 1));
		for (;;)
			pause();
	}
	while (must(semctl(semaphores, 0, GETVAL)) != 3)
		cr_msleep(1);
	return true;
}

static void check_clone_sysvsem(void)
{
	int status;

	check(must(semctl(semaphores, 0, GETVAL)) == 3, "before");
	if (!child)
		return;
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, 0));
	child = 0;
	check(must(semctl(semaphores, 0, GETVAL)) == 3, "given back too early");
}

static void *own_table(void *arg CR_UNUSED)
{
	shared[0] = unshare(CLONE_FILES) < 0 ? -1 : 1;
	for (;;) {
		if (shared[1]) {
			shared[2] = open("/dev/null", O_RDONLY);
			close(shared[2]);
			shared[1] = 0;
		}
		cr_msleep(1);
	}
	return NULL;
}

/* A thread with a table of its own: what it opens nobody else sees. */
static bool set_thread_files(void)
{
	pthread_t t;

	shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	check(pthread_create(&t, NULL, own_table, NULL) == 0, "pthread_create");
	while (!shared[0])
		cr_msleep(1);
	fd = must(open("/dev/zero", O_RDONLY));
	return shared[0] == 1 ? true : unavailable("unshare");
}

static void check_thread_files(void)
{
	shared[1] = 1;
	while (shared[1])
		cr_msleep(1);
	check(shared[2] == fd, "the thread's next descriptor is %d, not %d", shared[2], fd);
}

static bool set_vfork(void)
{
	if (must(fork()) == 0) {
		if (vfork() == 0)
			for (;;)
				cr_msleep(1000);
		_exit(0);
	}
	cr_msleep(20);
	return true;
}

static void check_vfork(void)
{
	check(waitpid(-1, NULL, WNOHANG) == 0, "who waits in vfork is gone: %m");
}

static bool set_ptrace(void)
{
	child = must(fork());
	if (child == 0)
		for (;;)
			cr_msleep(1);
	have(ptrace(PTRACE_SEIZE, child, 0, 0));
	must(ptrace(PTRACE_INTERRUPT, child, 0, 0));
	must(waitpid(child, NULL, 0));
	return true;
}

static void check_ptrace(void)
{
	check(ptrace(PTRACE_PEEKDATA, child, &fd, 0) != -2 && ptrace(PTRACE_CONT, child, 0, 0) == 0,
		"no tracer any more: %m");
	must(ptrace(PTRACE_INTERRUPT, child, 0, 0));
	must(waitpid(child, NULL, 0));
}

/* A child in a namespace of its own. */
static bool set_namespace(int flag)
{
	int p[2];
	char c;

	must(pipe(p));
	child = must(fork());
	if (child == 0) {
		c = unshare(flag) == 0;
		if (c && flag == CLONE_NEWPID && must(fork()) == 0)
			for (;;)
				cr_msleep(10);
		if (c && flag == CLONE_NEWUTS)
			sethostname("another", 7);
		must(write(p[1], &c, 1));
		for (;;)
			cr_msleep(10);
	}
	must(read(p[0], &c, 1));
	close(p[0]);
	close(p[1]);
	cr_msleep(10);
	return c ? true : unavailable("unshare");
}

static void check_namespace(const char *name)
{
	char path[64], a[64] = "", b[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", child, name);
	must(readlink(path, a, 63));
	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	must(readlink(path, b, 63));
	check(strcmp(a, b) != 0, "the child is in our %s namespace now", name);
}

static bool set_ns_uts(void)
{
	return set_namespace(CLONE_NEWUTS);
}

static void check_ns_uts(void)
{
	check_namespace("uts");
}

static bool set_ns_net(void)
{
	return set_namespace(CLONE_NEWNET);
}

static void check_ns_net(void)
{
	check_namespace("net");
}

static bool set_ns_mount(void)
{
	return set_namespace(CLONE_NEWNS);
}

static void check_ns_mount(void)
{
	check_namespace("mnt");
}

static bool set_ns_pid(void)
{
	return set_namespace(CLONE_NEWPID);
}

static void check_ns_pid(void)
{
	check_namespace("pid_for_children");
}

static bool set_ns_ipc(void)
{
	return set_namespace(CLONE_NEWIPC);
}

static void check_ns_ipc(void)
{
	check_namespace("ipc");
}

/* Made by somebody with a capability that nobody has any more. */
static void give_up(int cap)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	must(prctl(PR_CAPBSET_DROP, cap));
	must(syscall(SYS_capget, &head, data));
	for (int i = 0; i < 2; i++) {
		uint32_t left = ~(cap / 32 == i ? 1u << cap % 32 : 0);

		data[i].effective &= left;
		data[i].permitted &= left;
		data[i].inheritable &= left;
	}
	must(syscall(SYS_capset, &head, data));
}

static bool set_ns_left(void)
{
	int p[2];
	char c = 0;

	must(pipe(p));
	child = must(fork());
	if (child == 0) {
		c = unshare(CLONE_NEWUTS) == 0;
		give_up(CAP_SYS_ADMIN);
		must(write(p[1], &c, 1));
		for (;;)
			cr_msleep(10);
	}
	must(read(p[0], &c, 1));
	close(p[0]);
	close(p[1]);
	give_up(CAP_SYS_ADMIN);
	return c ? true : unavailable("unshare");
}

static bool set_ns_time(void)
{
	return set_namespace(CLONE_NEWTIME);
}

static void check_ns_time(void)
{
	check_namespace("time_for_children");
}

static bool set_ns_time_owned(void)
{
	return set_namespace(CLONE_NEWUSER | CLONE_NEWTIME);
}

/* Whose clocks nobody could set any more. */
static bool set_ns_time_left(void)
{
	volatile int *done =
		must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

	child = must(fork());
	if (child == 0) {
		int r = unshare(CLONE_NEWTIME), set = open("/proc/self/timens_offsets", O_WRONLY);

		*done = r == 0 ? 1 : 2;
		if (*done == 1)
			must(write(set, "boottime 77 0\n", 14));
		close(set);
		give_up(CAP_SYS_TIME);
		*done += 2;
		for (;;)
			cr_msleep(10);
	}
	while (*done < 3)
		cr_msleep(1);
	give_up(CAP_SYS_TIME);
	return *done == 3 ? true : unavailable("unshare");
}

/* What the kernel shows are the machine's: by how much it differs from ours is the container's. */
static void check_ns_time_left(void)
{
	char path[64], text[2][256];
	long long ahead[2];

	check_namespace("time_for_children");
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/timens_offsets", i ? child : getpid());
		must(cr_read(path, text[i], sizeof(text[i])));
		check(sscanf(text[i], "monotonic %*d %*d boottime %lld", &ahead[i]) == 1, "\"%s\"", text[i]);
	}
	check(ahead[1] - ahead[0] == 77, "%lld s ahead, and %lld", ahead[1], ahead[0]);
}

static bool set_ns_cgroup(void)
{
	return set_namespace(CLONE_NEWCGROUP);
}

static void check_ns_cgroup(void)
{
	check_namespace("cgroup");
}

/* A namespace with something in it, which somebody must have in it from the beginning. */
static bool set_ns_ipc_used(void)
{
	int p[2];
	char c = 0;

	must(pipe(p));
	child = must(fork());
	if (child == 0) {
		c = unshare(CLONE_NEWIPC) == 0 && msgget(0x1234, IPC_CREAT | 0600) >= 0;
		must(write(p[1], &c, 1));
		for (;;)
			cr_msleep(10);
	}
	must(read(p[0], &c, 1));
	close(p[0]);
	close(p[1]);
	return c ? true : unavailable("unshare");
}

static void check_ns_ipc_used(void)
{
	check_namespace("ipc");
}

/* A segment is attached, and then the process goes to another ipc namespace, where one has the same id. */
static bool set_ns_ipc_left(void)
{
	shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	child = must(fork());
	if (child == 0) {
		char *at = must((char *)shmat(must(shmget(IPC_PRIVATE, 4096, 0600)), NULL, 0));

		strcpy(at, "outside");
		shared[0] = unshare(CLONE_NEWIPC) == 0 ? 1 : 2;
		strcpy(must((char *)shmat(must(shmget(IPC_PRIVATE, 4096, 0600)), NULL, 0)), "inside");
		shared[1] = 1;
		for (;;) {
			shared[2] = !strcmp(at, "outside");
			cr_msleep(5);
		}
	}
	while (!shared[1])
		cr_msleep(1);
	return shared[0] == 1 ? true : unavailable("unshare");
}

static void check_ns_ipc_left(void)
{
	shared[2] = 0;
	cr_msleep(100);
	check(shared[2] == 1, "the segment has changed");
	check_namespace("ipc");
}

/* A thread in another network namespace than its process, as programs of Go do. */
static volatile int split;

static void *in_another_network(void *arg CR_UNUSED)
{
	split = unshare(CLONE_NEWNET) == 0 ? (int)gettid() : -1;
	for (;;)
		cr_msleep(10);
	return NULL;
}

static bool set_ns_thread(void)
{
	pthread_t t;

	check(pthread_create(&t, NULL, in_another_network, NULL) == 0, "pthread_create");
	while (!split)
		cr_msleep(1);
	return split > 0 ? true : unavailable("unshare");
}

static void check_ns_thread(void)
{
	char path[64], a[64] = "", b[64] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%d/ns/net", split);
	must(readlink(path, a, 63));
	must(readlink("/proc/self/ns/net", b, 63));
	check(strcmp(a, b) != 0, "the thread is in its process's network namespace now");
}

static bool set_ns_user(void)
{
	return set_namespace(CLONE_NEWUSER);
}

static void check_ns_user(void)
{
	check_namespace("user");
}

/* A thread that is not the first of its process gets the signals of a file. */
static volatile int owner_tid;

static void *own_pipe(void *arg CR_UNUSED)
{
	struct f_owner_ex me = {F_OWNER_TID, gettid()};

	must(fcntl(fd, F_SETOWN_EX, &me));
	owner_tid = me.pid;
	for (;;)
		cr_msleep(10);
	return NULL;
}

static bool set_owner_thread(void)
{
	pthread_t t;
	int p[2];

	must(pipe(p));
	fd = p[0];
	check(pthread_create(&t, NULL, own_pipe, NULL) == 0, "pthread_create");
	while (!owner_tid)
		cr_msleep(1);
	return true;
}

static void check_owner_thread(void)
{
	struct f_owner_ex is;

	must(fcntl(fd, F_GETOWN_EX, &is));
	check(is.type == F_OWNER_TID && is.pid == owner_tid, "owner is %d of type %d", is.pid, is.type);
}

/* Two processes of a pid namespace whose parents are different ones: the second came by setns. */
static bool set_ns_entered(void)
{
	char path[64];
	int ns;

	shared = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (must(fork()) == 0) {
		have(unshare(CLONE_NEWPID));
		child = must(fork());
		if (child != 0)
			shared[0] = child;
		for (;;)
			pause();
	}
	for (int ms = 0; !shared[0] && ms < 2000; ms++)
		cr_msleep(1);
	if (!shared[0])
		return unavailable("unshare");
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", shared[0]);
	ns = must(open(path, O_RDONLY | O_CLOEXEC));
	must(setns(ns, CLONE_NEWPID));
	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	close(ns);
	ns = must(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
	must(setns(ns, CLONE_NEWPID));
	close(ns);
	return true;
}

static void check_ns_entered(void)
{
	char a[64] = "", b[64] = "", path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", child);
	must(readlink(path, a, 63));
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", shared[0]);
	must(readlink(path, b, 63));
	check(!strcmp(a, b), "%s, not %s", a, b);
}

/* Open in a mount that is no longer there. */
static bool set_detached_mount(void)
{
	must(mkdir("/tmp/mounted", 0755));
	have(mount("tmpfs", "/tmp/mounted", "tmpfs", 0, "size=1m"));
	fd = must(open("/tmp/mounted/file", O_CREAT | O_RDWR, 0600));
	must(write(fd, "detached", 8));
	must(umount2("/tmp/mounted", MNT_DETACH));
	return true;
}

static void check_detached_mount(void)
{
	char b[16];

	check(pread(fd, b, sizeof(b), 0) == 8 && !memcmp(b, "detached", 8), "the file has changed");
}

static bool set_deleted_mount(void)
{
	must(mkdir("/tmp/a", 0755));
	must(mkdir("/tmp/b", 0755));
	close(must(open("/tmp/a/file", O_CREAT | O_WRONLY, 0600)));
	have(mount("/tmp/a", "/tmp/b", NULL, MS_BIND, NULL));
	must(unlink("/tmp/a/file"));
	must(rmdir("/tmp/a"));
	return true;
}

static void check_deleted_mount(void)
{
	struct stat st;

	must(stat("/tmp/b", &st));
	check(st.st_nlink == 0, "it is a directory with a name");
}

static bool set_ramfs(void)
{
	must(mkdir("/tmp/mounted", 0755));
	have(mount("ramfs", "/tmp/mounted", "ramfs", 0, NULL));
	close(must(open("/tmp/mounted/file", O_CREAT | O_WRONLY, 0600)));
	return true;
}

static void check_ramfs(void)
{
	check(access("/tmp/mounted/file", F_OK) == 0, "what was mounted is gone");
}

static bool set_covered_tmpfs(void)
{
	set_ramfs();
	must(umount("/tmp/mounted"));
	have(mount("one", "/tmp/mounted", "tmpfs", 0, "size=1m"));
	close(must(open("/tmp/mounted/file", O_CREAT | O_WRONLY, 0600)));
	have(mount("two", "/tmp/mounted", "tmpfs", 0, "size=1m"));
	return true;
}

static void check_covered_tmpfs(void)
{
	check(access("/tmp/mounted/file", F_OK) == -1, "it is not covered");
	must(umount("/tmp/mounted"));
	check(access("/tmp/mounted/file", F_OK) == 0, "what was covered is gone");
	must(mount("two", "/tmp/mounted", "tmpfs", 0, "size=1m"));
}

static bool set_key(void)
{
	id = have(syscall(SYS_add_key, "user", "stasis-test", "secret", 6, -2 /* process keyring */));
	return true;
}

static void check_key(void)
{
	char b[16];

	check(syscall(SYS_keyctl, 11 /* read */, id, b, sizeof(b), 0) == 6 && !memcmp(b, "secret", 6),
		"the key is gone: %m");
}

static bool set_key_session(void)
{
	id = have(syscall(SYS_add_key, "user", "stasis-test", "secret", 6, -3 /* session keyring */));
	return true;
}

static bool set_ldt(void)
{
	struct user_desc desc = {.base_addr = 0x1000, .limit = 0xfff, .seg_32bit = 1, .useable = 1};

	have(syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)));
	return true;
}

static void check_ldt(void)
{
	uint64_t entry = 0;

	check(syscall(SYS_modify_ldt, 0, &entry, sizeof(entry)) == sizeof(entry) && entry, "no segment");
}

static bool set_mlockall(void)
{
	have(mlockall(MCL_FUTURE));
	return true;
}

static void check_mlockall(void)
{
	char text[8192], *p;
	long before, after;

	must(cr_read("/proc/self/status", text, sizeof(text)));
	p = strstr(text, "VmLck:");
	before = strtol(p + 6, NULL, 10);
	memory = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	must(cr_read("/proc/self/status", text, sizeof(text)));
	p = strstr(text, "VmLck:");
	after = strtol(p + 6, NULL, 10);
	check(after - before == 8, "new memory is not locked any more");
	must(munmap(memory, 8192));
}

static bool set_mseal(void)
{
	memory = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	cr_fill(memory, 8192, 3);
	have(syscall(462 /* mseal */, memory, 8192, 0));
	return true;
}

static void check_mseal(void)
{
	check(mprotect(memory, 8192, PROT_READ) == -1 && errno == EPERM, "the seal is gone");
	check(cr_differs(memory, 8192, 3) < 0, "contents");
}

static bool set_hugetlb(void)
{
	memory = have(mmap(
		NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0));
	cr_fill(memory, 8192, 3);
	return true;
}

static bool set_pkey(void)
{
	id = have(pkey_alloc(0, PKEY_DISABLE_WRITE));
	return true;
}

static void check_pkey(void)
{
	check(pkey_get(id) == PKEY_DISABLE_WRITE, "rights of the key");
}

/* Packet mode tells a change once: that of what nobody has read yet cannot be told again. */
static bool set_pty_status(void)
{
	int on = 1;

	if (openpty(&fd, &fd2, NULL, NULL, NULL) < 0)
		return unavailable("openpty");
	must(ioctl(fd, TIOCPKT, &on));
	must(tcflush(fd2, TCIOFLUSH));
	return true;
}

static void check_pty_status(void)
{
	char c;

	check(read(fd, &c, 1) == 1 && (c & TIOCPKT_FLUSHREAD), "the change is not told");
	must(tcflush(fd2, TCIOFLUSH));
}

static bool set_pty_extproc(void)
{
	struct termios t;

	if (openpty(&fd, &fd2, NULL, NULL, NULL) < 0)
		return unavailable("openpty");
	must(tcgetattr(fd2, &t));
	t.c_lflag |= EXTPROC;
	must(tcsetattr(fd2, TCSANOW, &t));
	return true;
}

static void check_pty_extproc(void)
{
	struct termios t;

	must(tcgetattr(fd2, &t));
	check(t.c_lflag & EXTPROC, "EXTPROC is gone");
}

/* A terminal that has hung up does not say which one /dev/tty was. */
static bool set_tty_hung_up(void)
{
	int status;

	if (openpty(&fd, &fd2, NULL, NULL, NULL) < 0)
		return unavailable("openpty");
	child = must(fork());
	if (child == 0) {
		signal(SIGHUP, SIG_IGN);
		must(setsid());
		must(ioctl(fd2, TIOCSCTTY, 0));
		close(fd);
		fd = must(open("/dev/tty", O_RDWR));
		close(fd2);
		kill(getpid(), SIGSTOP);
		for (;;)
			pause();
	}
	must(waitpid(child, &status, WUNTRACED));
	close(fd);
	close(fd2);
	must(kill(child, SIGCONT));
	cr_msleep(10);
	return true;
}

static void check_tty_hung_up(void)
{
	check(kill(child, 0) == 0, "the child is gone");
}

static void *outlive(void *arg CR_UNUSED)
{
	pid_t leader = getpid();
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", leader);
	do {
		cr_msleep(1);
		must(cr_read(path, text, sizeof(text)));
	} while (strrchr(text, ')')[2] != 'Z');
	while (cr_wait()) {
		check(getpid() == leader, "pid");
		must(cr_read(path, text, sizeof(text)));
		check(strrchr(text, ')')[2] == 'Z', "the dead leader is in state %c", strrchr(text, ')')[2]);
	}
	exit(0);
}

/* The first thread has ended, the others go on: the leader is a zombie among living threads. */
static bool set_dead_leader(void)
{
	pthread_t t;

	check(pthread_create(&t, NULL, outlive, NULL) == 0, "pthread_create");
	pthread_exit(NULL);
}

static bool set_tstp(void)
{
	child = must(fork());
	if (child == 0)
		for (;;)
			cr_msleep(1);
	must(setpgid(child, child)); /* in an orphaned group the signal would be ignored */
	must(kill(child, SIGTSTP));
	cr_msleep(20);
	return true;
}

static void check_tstp(void)
{
	siginfo_t info = {0};

	must(waitid(P_PID, child, &info, WSTOPPED | WNOHANG | WNOWAIT));
	check(info.si_pid == child && info.si_status == SIGTSTP, "stopped by signal %d", info.si_status);
}

static bool set_guard(void)
{
	memory = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	cr_fill(memory, 8192, 3);
	have(madvise(memory + 16384, 8192, 102 /* MADV_GUARD_INSTALL */));
	return true;
}

static void check_guard(void)
{
	int p[2];

	must(pipe(p));
	check(write(p[1], memory + 16384, 1) == -1 && errno == EFAULT, "the guard page is gone");
	check(write(p[1], memory + 32768, 1) == 1, "behind the guard pages: %m");
	close(p[0]);
	close(p[1]);
	check_memory_3();
}

/* In memory that is not the mapping's own, since Linux 6.15. */
static bool set_guard_shared(void)
{
	fd = must(memfd_create("guarded", 0));
	must(ftruncate(fd, 65536));
	memory = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	cr_fill(memory, 65536, 3);
	have(madvise(memory + 16384, 8192, 102 /* MADV_GUARD_INSTALL */));
	second = must(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	have(madvise(second + 4096, 4096, 102));
	return true;
}

static void check_guard_shared(void)
{
	char b[4096];
	int p[2];

	check_guard();
	must(pipe(p));
	check(pread(fd, b, 4096, 16384) == 4096, "the memfd: %m");
	check(write(p[1], second + 4096, 1) == -1 && errno == EFAULT,
		"the guard page of a private mapping is gone");
	check(write(p[1], second, 1) == 1 && write(p[1], second + 8192, 1) == 1, "beside it: %m");
	close(p[0]);
	close(p[1]);
}

static bool set_strict(void)
{
	int p[2], q[2];
	char c;

	must(pipe(p));
	must(pipe(q));
	child = must(fork());
	if (child == 0) {
		must(prctl(PR_SET_SECCOMP, 1 /* strict */));
		while (syscall(SYS_read, p[0], &c, 1) == 1)
			syscall(SYS_write, q[1], &c, 1);
		syscall(SYS_exit, 0);
	}
	fd = p[1];
	fd2 = q[0];
	return true;
}

static void check_strict(void)
{
	char c;

	must(write(fd, "s", 1));
	check(read(fd2, &c, 1) == 1 && c == 's', "the strict one does not answer");
}

/* An answer for each, by a thread that has no filter. */
static void *answers(void *arg CR_UNUSED)
{
	for (;;) {
		struct seccomp_notif n = {};

		if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &n) == 0) {
			cr_msleep(120);
			answer(fd, &n);
		}
	}
	return NULL;
}

static void start_answering(void)
{
	pthread_t thread;

	check(pthread_create(&thread, NULL, answers, NULL) == 0, "pthread_create");
}

/* Of one thread alone, which the leader answers. */
static volatile int asked, answered;

static void *asks_alone(void *arg CR_UNUSED)
{
	fd = load_notify(0);
	for (;;) {
		while (asked == answered)
			cr_msleep(1);
		ask("thread", 5);
		answered++;
	}
	return NULL;
}

static bool set_seccomp_thread(void)
{
	pthread_t thread;

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	check(pthread_create(&thread, NULL, asks_alone, NULL) == 0, "pthread_create");
	while (fd < 0)
		cr_msleep(1);
	return true;
}

static void check_seccomp_thread(void)
{
	asked++;
	serve(fd, 1);
	while (asked != answered)
		cr_msleep(1);
}

/* A child with a filter, and its listener. */
static int make_asking(unsigned flags)
{
	int pair[2], listener;

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	make_pair(pair);
	child = must(fork());
	if (child == 0) {
		give(pair[1], load_notify(flags));
		for (;; cr_msleep(30))
			ask("child", 6);
	}
	listener = take(pair[0], 60);
	close(pair[1]);
	return listener;
}

static bool set_seccomp_in_flight(void)
{
	make_flight();
	put_in_flight(make_asking(0));
	return true;
}

static void check_seccomp_in_flight(void)
{
	int listener = take_in_flight();

	serve(listener, 3);
	put_in_flight(listener);
}

/* Nothing interrupts the call until it is answered, which is soon, again and again. */
static bool set_seccomp_killable(void)
{
	fd = make_asking(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	start_answering();
	return true;
}

static void check_seccomp_killable(void)
{
	check(kill(child, 0) == 0, "the child: %m");
}

static bool set_deleted_cwd(void)
{
	must(mkdir("/tmp/gone", 0755));
	must(chdir("/tmp/gone"));
	must(rmdir("/tmp/gone"));
	return true;
}

static void check_deleted_cwd(void)
{
	char b[256];

	check(syscall(SYS_getcwd, b, sizeof(b)) == -1 && errno == ENOENT, "the deleted directory: %m");
}

/* As chromium's zygote, whose root it is. */
static bool set_gone_cwd(void)
{
	char path[64];

	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", child);
	must(chdir(path));
	must(kill(child, SIGKILL));
	must(waitpid(child, NULL, 0));
	return true;
}

static void check_gone_cwd(void)
{
	char b[256] = "";

	must(readlink("/proc/self/cwd", b, sizeof(b) - 1));
	check(strstr(b, "/fdinfo") && access("0", F_OK) < 0, "it is in \"%s\"", b);
}

static bool set_deleted_dir(void)
{
	must(mkdir("/tmp/deleted", 0755));
	fd = must(open("/tmp/deleted", O_RDONLY | O_DIRECTORY));
	must(rmdir("/tmp/deleted"));
	return true;
}

static void check_deleted_dir(void)
{
	check(openat(fd, "x", O_CREAT | O_WRONLY, 0600) == -1 && errno == ENOENT,
		"the deleted directory lives: %m");
}

static bool set_deleted_fifo(void)
{
	must(mkfifo("/dev/shm/deleted", 0600));
	fd = must(open("/dev/shm/deleted", O_RDWR | O_NONBLOCK));
	must(unlink("/dev/shm/deleted"));
	must(write(fd, "nameless", 8));
	return true;
}

static void check_deleted_fifo(void)
{
	char b[16];

	check(read(fd, b, 8) == 8 && !memcmp(b, "nameless", 8), "the FIFO without a name: %m");
	must(write(fd, "nameless", 8));
}

/* The name it was opened by is gone, but it has another one. */
static bool set_renamed_link(void)
{
	fd = must(open("/tmp/linked", O_RDWR | O_CREAT, 0600));
	must(write(fd, "has another name", 16));
	must(link("/tmp/linked", "/tmp/other-name"));
	must(unlink("/tmp/linked"));
	return true;
}

static void check_renamed_link(void)
{
	struct stat st, other;

	must(fstat(fd, &st));
	must(stat("/tmp/other-name", &other));
	check(st.st_ino == other.st_ino && st.st_nlink == 1, "the other name is another file");
}

static bool set_droppable(void)
{
	memory = have(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | 8 /* MAP_DROPPABLE */, -1, 0));
	memory[0] = 1;
	return true;
}

static void check_droppable(void)
{
	check(memory[0] == 1 || memory[0] == 0, "droppable memory is %d", memory[0]);
	memory[0] = 1;
}

static bool set_fanotify(void)
{
	fd = have(syscall(SYS_fanotify_init, 0, O_RDONLY));
	have(syscall(SYS_fanotify_mark, fd, 1 /* FAN_MARK_ADD */, 0x20ULL /* FAN_OPEN */, AT_FDCWD, "/tmp"));
	return true;
}

static void check_fanotify(void)
{
	check(syscall(SYS_fanotify_mark, fd, 1, 0x20ULL, AT_FDCWD, "/tmp") == 0, "fanotify: %m");
}

static bool set_bpf(void)
{
	struct {
		uint32_t type, key, value, entries, flags;
		char rest[100];
	} attr = {2 /* array */, 4, 4, 4, 0, ""};

	fd = have(syscall(SYS_bpf, 0 /* BPF_MAP_CREATE */, &attr, sizeof(attr)));
	return true;
}

static void check_bpf(void)
{
	char link[64] = "";

	must(readlink("/proc/self/fd/3", link, sizeof(link) - 1));
	check(fd == 3 && strstr(link, "bpf-map"), "fd 3 is %s", link);
}

/* The map is a program's, which is attached to a socket and has no descriptor any more. */
static bool set_bpf_program(void)
{
	struct {
		uint32_t type, n;
		uint64_t code, license;
		char rest[100];
	} attr = {1 /* socket filter */, 0, 0, (uintptr_t) "GPL", ""};
	int program, sock = must(socket(AF_INET, SOCK_DGRAM, 0));
	uint64_t code[4];

	set_bpf();
	code[0] = 0x1118 | (uint64_t)fd << 32; /* r1 = the map */
	code[1] = 0;
	code[2] = 0xb7; /* r0 = 0 */
	code[3] = 0x95; /* exit */
	attr.code = (uintptr_t)code;
	attr.n = 4;
	program = have(syscall(SYS_bpf, 5 /* BPF_PROG_LOAD */, &attr, sizeof(attr)));
	must(setsockopt(sock, SOL_SOCKET, 50 /* SO_ATTACH_BPF */, &program, sizeof(program)));
	close(program);
	return true;
}

static void check_bpf_program(void)
{
	must(fcntl(fd, F_GETFD));
}

static bool set_bpf_queue(void)
{
	struct {
		uint32_t type, key, value, entries, flags;
		char rest[100];
	} attr = {22 /* queue */, 0, 4, 4, 0, ""};

	fd = have(syscall(SYS_bpf, 0 /* BPF_MAP_CREATE */, &attr, sizeof(attr)));
	return true;
}

static bool set_namespace_fd(void)
{
	fd = must(open("/proc/self/ns/uts", O_RDONLY));
	return true;
}

static void check_namespace_fd(void)
{
	struct stat a, b;

	must(fstat(fd, &a));
	must(stat("/proc/self/ns/uts", &b));
	check(a.st_ino == b.st_ino, "another namespace");
}

static bool set_dnotify(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	fd = must(open("/tmp", O_RDONLY | O_DIRECTORY));
	must(fcntl(fd, F_SETSIG, SIGRTMIN + 3));
	have(fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	return true;
}

static void check_dnotify(void)
{
	struct timespec second = {1, 0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	unlink("/tmp/new");
	close(must(open("/tmp/new", O_CREAT | O_WRONLY, 0600)));
	check(sigtimedwait(&set, NULL, &second) == SIGRTMIN + 3, "no signal for a new file");
}

enum { GET_PERMISSIONS = 0x1022, REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };

/* The permission to use AMX, which children inherit. */
static bool set_amx(void)
{
	have(syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA));
	return true;
}

static void check_amx(void)
{
	uint64_t permitted = 0;

	must(syscall(SYS_arch_prctl, GET_PERMISSIONS, &permitted));
	check(permitted & 1u << TILE_DATA, "permitted: %#lx", (long)permitted);
}

/* By a thread with a descriptor table of its own. */
static void *watch_alone(void *arg)
{
	must(unshare(CLONE_FILES));
	*(int *)arg = fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT) < 0 ? -errno : 1;
	for (;;)
		pause();
}

static bool set_dnotify_thread(void)
{
	static volatile int done;
	pthread_t t;

	fd = must(open("/tmp", O_RDONLY | O_DIRECTORY));
	check(pthread_create(&t, NULL, watch_alone, (void *)&done) == 0, "pthread_create");
	while (!done)
		cr_msleep(1);
	check(done == 1, "F_NOTIFY: %s", strerror(-done));
	return true;
}

static void check_dnotify_thread(void)
{
	check(fcntl(fd, F_GETSIG) == 0, "signal %d", fcntl(fd, F_GETSIG));
}

/* The descriptor alone, not mapped. */
static bool set_secretmem_fd(void)
{
	fd = have(syscall(SYS_memfd_secret, 0));
	must(ftruncate(fd, 8192));
	return true;
}

static void check_secretmem_fd(void)
{
	struct stat st;

	must(fstat(fd, &st));
	check(st.st_size == 8192, "size %ld", (long)st.st_size);
}

static const struct object {
	const char *name;
	bool (*set)(void);
	void (*verify)(void);
} objects[] = {
	{"inotify", set_inotify, check_inotify},
	{"inotify_queued", set_inotify_queued, check_inotify_queued},
	{"flock", set_flock, check_flock},
	{"fcntl_lock", set_fcntl_lock, check_fcntl_lock},
	{"ofd_lock", set_ofd_lock, check_ofd_lock},
	{"flock_memfd", set_flock_memfd, check_flock_memfd},
	{"lease", set_lease, check_lease},
	{"pidfd", set_pidfd, check_pidfd},
	{"mqueue", set_mqueue, check_mqueue},
	{"mqueue_notified", set_mqueue_notified, check_mqueue_notified},
	{"mqueue_unopened", set_mqueue_unopened, check_mqueue_unopened},
	{"netlink", set_netlink, check_netlink},
	{"raw_socket", set_raw, check_raw},
	{"mptcp", set_mptcp, check_mptcp},
	{"vsock", set_vsock, check_vsock},
	{"tcp_established", set_tcp, check_tcp},
	{"udp_cork", set_udp_cork, check_udp_cork},
	{"tcp_backlog", set_tcp_backlog, check_tcp_backlog},
	{"udp_error", set_udp_error, check_udp_error},
	{"udp_error_queue", set_udp_error_queue, check_udp_error_queue},
	{"udp_lo_down", set_udp_lo_down, check_udp_lo_down},
	{"tcp_md5", set_tcp_md5, check_tcp_md5},
	{"fd_in_flight", set_fd_in_flight, check_fd_in_flight},
	{"fd_early", set_fd_early, check_fd_early},
	{"unix_urgent", set_unix_urgent, check_unix_urgent},
	{"pidfd_in_flight", set_pidfd_in_flight, check_pidfd_in_flight},
	{"proc_in_flight", set_proc_in_flight, check_proc_in_flight},
	{"io_uring", set_io_uring, check_io_uring},
	{"aio", set_aio, check_aio},
	{"aio_poll", set_aio_poll, check_aio_poll},
	{"aio_fork", set_aio_fork, check_aio_fork},
	{"userfaultfd", set_userfaultfd, check_userfaultfd},
	{"perf_event", set_perf, check_perf},
	{"memfd_secret", set_memfd_secret, check_memory_3},
	{"clone_vm", set_clone_vm, check_clone_vm},
	{"clone_vm_child", set_clone_vm_child, check_clone_vm},
	{"clone_vm_pidfd", set_clone_vm_pidfd, check_clone_vm_pidfd},
	{"clone_files", set_clone_files, check_clone_files},
	{"clone_fs", set_clone_fs, check_clone_fs},
	{"clone_sysvsem", set_clone_sysvsem, check_clone_sysvsem},
	{"thread_files", set_thread_files, check_thread_files},
	{"vfork", set_vfork, check_vfork},
	{"ptrace", set_ptrace, check_ptrace},
	{"ns_uts", set_ns_uts, check_ns_uts},
	{"ns_net", set_ns_net, check_ns_net},
	{"ns_mount", set_ns_mount, check_ns_mount},
	{"ns_pid", set_ns_pid, check_ns_pid},
	{"ns_ipc", set_ns_ipc, check_ns_ipc},
	{"ns_left", set_ns_left, check_ns_uts},
	{"ns_time", set_ns_time, check_ns_time},
	{"ns_time_owned", set_ns_time_owned, check_ns_time},
	{"ns_time_left", set_ns_time_left, check_ns_time_left},
	{"ns_cgroup", set_ns_cgroup, check_ns_cgroup},
	{"ns_ipc_used", set_ns_ipc_used, check_ns_ipc_used},
	{"ns_ipc_left", set_ns_ipc_left, check_ns_ipc_left},
	{"ns_thread", set_ns_thread, check_ns_thread},
	{"ns_user", set_ns_user, check_ns_user},
	{"owner_thread", set_owner_thread, check_owner_thread},
	{"ns_entered", set_ns_entered, check_ns_entered},
	{"detached_mount", set_detached_mount, check_detached_mount},
	{"deleted_mount", set_deleted_mount, check_deleted_mount},
	{"ramfs", set_ramfs, check_ramfs},
	{"covered_tmpfs", set_covered_tmpfs, check_covered_tmpfs},
	{"key", set_key, check_key},
	{"key_session", set_key_session, check_key},
	{"ldt", set_ldt, check_ldt},
	{"mlockall", set_mlockall, check_mlockall},
	{"mseal", set_mseal, check_mseal},
	{"hugetlb", set_hugetlb, check_memory_3},
	{"pkey", set_pkey, check_pkey},
	{"pty_status", set_pty_status, check_pty_status},
	{"pty_extproc", set_pty_extproc, check_pty_extproc},
	{"tty_hung_up", set_tty_hung_up, check_tty_hung_up},
	{"dead_leader", set_dead_leader, NULL},
	{"guard_pages", set_guard, check_guard},
	{"guard_shared", set_guard_shared, check_guard_shared},
	{"seccomp_strict", set_strict, check_strict},
	{"seccomp_thread", set_seccomp_thread, check_seccomp_thread},
	{"seccomp_in_flight", set_seccomp_in_flight, check_seccomp_in_flight},
	{"seccomp_killable", set_seccomp_killable, check_seccomp_killable},
	{"deleted_cwd", set_deleted_cwd, check_deleted_cwd},
	{"gone_cwd", set_gone_cwd, check_gone_cwd},
	{"deleted_dir", set_deleted_dir, check_deleted_dir},
	{"deleted_fifo", set_deleted_fifo, check_deleted_fifo},
	{"renamed_link", set_renamed_link, check_renamed_link},
	{"droppable", set_droppable, check_droppable},
	{"fanotify", set_fanotify, check_fanotify},
	{"bpf", set_bpf, check_bpf},
	{"bpf_program", set_bpf_program, check_bpf_program},
	{"bpf_queue", set_bpf_queue, check_bpf_program},
	{"amx", set_amx, check_amx},
	{"dnotify", set_dnotify, check_dnotify},
	{"dnotify_thread", set_dnotify_thread, check_dnotify_thread},
	{"namespace_fd", set_namespace_fd, check_namespace_fd},
	{"secretmem_fd", set_secretmem_fd, check_secretmem_fd},
	{"tstp", set_tstp, check_tstp},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(objects) / sizeof(objects[0]); i++) {
		if (strcmp(objects[i].name, argv[1]) != 0)
			continue;
		if (!objects[i].set())
			for (;;)
				pause();
		while (cr_wait())
			objects[i].verify();
		_exit(0);
	}
	fail("unknown object %s", argc == 2 ? argv[1] : "");
}
