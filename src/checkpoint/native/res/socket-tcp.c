/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections, the dump side (socket-tcp-restore.c is the other one).
 *
 * A connection goes on by itself while its process stands still: what the peer sends is acknowledged and could be lost. So
 * the socket first gets a filter that drops all that comes in; the peer sends it again later. Then repair mode
 * (TCP_REPAIR) shows sequence numbers and both queues, and makes the end of the socket a silent one: neither FIN nor RST
 * tells the peer. A journal knows all sockets that are in this state; tcp_undo() leads out of it.
 *
 * Every state but SYN_RECV can be kept, also that of a socket whose connection has ended, perhaps with data that was not
 * read yet. What has no descriptor (TIME_WAIT, a socket that was closed with data to send) belongs to the kernel.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/filter.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "linux/sockdiag.h"

enum { QUEUE_MAX = 24 << 20, /* a record has at most 64 MiB */ NO_WINDOW_PROBE = -1 };

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int get_int(int fd, int level, int name, void *ret)
{
	return getsockopt(fd, level, name, ret, &(socklen_t){sizeof(int)}) < 0 ? -errno : 0;
}

static bool has_filter(int fd)
{
	socklen_t n = 0;

	return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0 || n > 0;
}

static bool has_upper_protocol(int fd)
{
	char name[16] = "";
	socklen_t len = sizeof(name);

	return getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &len) == 0 && len > 0 && name[0];
}

static bool is_bound_to_device(int fd)
{
	char name[16];
	socklen_t len = sizeof(name);

	return getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len) == 0 && len > 1;
}

const char *tcp_obstacle(int fd, const struct tcp_info *info, const char **remedy)
{
	struct pollfd p = {.fd = fd, .events = POLLPRI};

	*remedy = REMEDY_OPENED;
	if (info->tcpi_state == STATE_SYN_RECV)
		return "it is being opened from both sides";
	*remedy = REMEDY_READ;
	if (info->tcpi_state == STATE_CLOSE && !info->tcpi_bytes_acked && !info->tcpi_bytes_received)
		return "its attempt to connect has failed, which the program has yet to learn";
	*remedy = "close the connection before the checkpoint, or use --tcp-close";
	if (has_upper_protocol(fd))
		return "an upper layer protocol (TLS in the kernel) works on it";
	if (has_filter(fd))
		return "a socket filter is attached to the connection";
	if (info->tcpi_state != STATE_ESTABLISHED && info->tcpi_state != STATE_SYN_SENT &&
		is_bound_to_device(fd))
		return "it is bound to a device, and half closed";
	*remedy = REMEDY_READ;
	if (poll(&p, 1, 0) > 0 && p.revents & POLLERR)
		return "an error waits in it, or a message in its error queue";
	if (p.revents & POLLPRI)
		return "urgent data waits in it";
	return NULL;
}

/* As root of the machine. */
static bool may_force_buffers(const struct dump *d)
{
	const struct id_map *m = d->ids.uid;

	return d->ids.n_uid == 0 ||
	       (d->ids.n_uid == 1 && !m->container_id && !m->host_id && m->size == UINT32_MAX);
}

/* The largest buffer of who may not; the kernel takes twice net.core.wmem_max, as it counts by pages. */
static int modest_buffer(void)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int size = INT32_MAX;

	if (fd < 0 || set_int(fd, SOL_SOCKET, SO_SNDBUF, size) < 0 ||
		get_int(fd, SOL_SOCKET, SO_SNDBUF, &size) < 0)
		return INT32_MAX;
	return size / 2;
}

const char *tcp_send_obstacle(const struct dump *d, int fd, const char **remedy)
{
	int waiting = 0, unsent = 0;

	if (may_force_buffers(d) || ioctl(fd, SIOCOUTQ, &waiting) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent) < 0)
		return NULL;
	if (!d->unprivileged)
		waiting -= unsent; /* which is sent from outside, where root may */
	*remedy = REMEDY_PEER;
	return waiting <= modest_buffer()
		       ? NULL
		       : "more data waits to be sent than could be put back in a user namespace";
}

void tcp_undo(const struct dump_tcp *t)
{
	_cleanup_close_ int pidfd = dump_open_pidfd(t->pid), fd = -EBADF;
	struct stat st;

	if (pidfd >= 0)
		fd = syscall(SYS_pidfd_getfd, pidfd, t->fd, 0);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != t->ino || !S_ISSOCK(st.st_mode))
		return; /* the program has closed it */
	(void)set_int(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
	(void)set_int(fd, IPPROTO_TCP, TCP_REPAIR, NO_WINDOW_PROBE);
	(void)set_int(fd, SOL_SOCKET, SO_REUSEADDR, t->reuse); /* repair mode has changed it */
}

static int drop_all(int fd)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {1, &drop};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

static int hold(struct dump *d, struct dump_file *f, struct error *e)
{
	struct dump_journal *j = d->journal;
	struct dump_tcp *t = &j->tcp[j->n_tcp];
	int r;

	if (j->n_tcp == ARRAY_SIZE(j->tcp))
		return error_set(e, -EMFILE, ERROR_REFUSED, "more than %d TCP connections", DUMP_TCP_MAX);
	*t = (struct dump_tcp){.pid = f->proc->shown, .fd = f->fd, .ino = f->st.st_ino};
	r = get_int(f->local, SOL_SOCKET, SO_REUSEADDR, &t->reuse);
	j->n_tcp++;
	if (r == 0)
		r = drop_all(f->local);
	if (r == 0)
		r = set_int(f->local, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	return r < 0 ? error_errno(e, r, "hold a TCP connection") : 0;
}

/* Copies what is in a queue, which stays as it is. */
static int copy_queue(struct dump *d, int fd, int n, ProtobufCBinaryData *ret, struct error *e)
{
	int offset = -1, none = -1;
	ssize_t have;

	if (n == 0)
		return 0;
	if (n < 0 || n > QUEUE_MAX)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"%d bytes wait in a TCP connection, which is too much: let the program read, then "
			"try again",
			n);
	ret->data = arena_array(&d->arena, n, 1);
	if (!ret->data)
		return error_errno(e, -ENOMEM, "queue of a TCP connection");
	(void)get_int(fd, SOL_SOCKET, SO_PEEK_OFF, &offset);
	if (offset >= 0)
		(void)set_int(fd, SOL_SOCKET, SO_PEEK_OFF, none);
	have = recv(fd, ret->data, n, MSG_PEEK | MSG_DONTWAIT);
	if (have < 0)
		have = -errno;
	if (offset >= 0)
		(void)set_int(fd, SOL_SOCKET, SO_PEEK_OFF, offset);
	if (have < 0)
		return error_errno(e, have, "read the queue of a TCP connection");
	if (have != n)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"%d bytes wait in a TCP connection, but %zd can be read (urgent data?): let the "
			"program read, then try again",
			n, have);
	ret->len = n;
	return 0;
}

static bool has_received_fin(int state)
{
	return state == STATE_CLOSE_WAIT || state == STATE_LAST_ACK || state == STATE_CLOSING;
}

/* It counts as a byte of the queue until it is acknowledged. */
static bool fin_is_queued(int state)
{
	return state == STATE_FIN_WAIT1 || state == STATE_LAST_ACK || state == STATE_CLOSING;
}

static int dump_incoming(struct dump *d, int fd, St__TcpConnection *t, struct error *e)
{
	int waiting = 0, r;

	r = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
	if (r == 0)
		r = get_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &t->in_seq);
	if (r == 0 && ioctl(fd, SIOCINQ, &waiting) < 0)
		r = -errno;
	if (r < 0)
		return error_errno(e, r, "receive queue of a TCP connection");
	t->in_seq -= waiting + has_received_fin(t->state);
	return copy_queue(d, fd, waiting, &t->in, e);
}

static int dump_outgoing(struct dump *d, int fd, St__TcpConnection *t, struct error *e)
{
	int waiting = 0, unsent = 0, fin = fin_is_queued(t->state), r;

	r = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
	if (r == 0)
		r = get_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &t->out_seq);
	if (r == 0 && (ioctl(fd, SIOCOUTQ, &waiting) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent) < 0))
		r = -errno;
	if (r < 0)
		return error_errno(e, r, "send queue of a TCP connection");
	if (t->state == STATE_SYN_SENT) { /* what is in the queue is the SYN */
		t->out_seq--;
		return 0;
	}
	t->fin_unsent = fin && unsent > 0;
	t->unsent = unsent - t->fin_unsent;
	t->out_seq -= waiting + (t->state == STATE_FIN_WAIT2);
	return copy_queue(d, fd, waiting - fin, &t->out, e);
}

static int dump_parameters(int fd, St__TcpConnection *t, const struct tcp_info *info, struct error *e)
{
	struct tcp_repair_window w;
	int r = 0;

	if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, &(socklen_t){sizeof(w)}) < 0)
		r = -errno;
	if (r == 0)
		r = get_int(fd, IPPROTO_TCP, TCP_MAXSEG, &t->mss); /* in repair mode: what the peer said */
	if (r == 0)
		r = get_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, &t->timestamp);
	if (r == 0)
		r = get_int(fd, SOL_SOCKET, SO_SNDBUF, &t->send_buffer);
	if (r == 0)
		r = get_int(fd, SOL_SOCKET, SO_RCVBUF, &t->receive_buffer);
	if (r < 0)
		return error_errno(e, r, "parameters of a TCP connection");
	/* Until its end the socket may still send, with later ones. Where bit 0 is set, they are microseconds. */
	t->timestamp += t->timestamp & 1 ? 1 << 20 : 1 << 10;
	t->options = info->tcpi_options & (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE);
	t->send_scale = info->tcpi_snd_wscale;
	t->receive_scale = info->tcpi_rcv_wscale;
	t->send_window_seq = w.snd_wl1;
	t->send_window = w.snd_wnd;
	t->max_window = w.max_window;
	t->receive_window = w.rcv_wnd;
	t->receive_window_seq = w.rcv_wup;
	return 0;
}

static int dump_peer(struct dump *d, struct dump_file *f, St__Socket *m, struct error *e)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int r = 0;

	if (getpeername(f->local, (struct sockaddr *)&a, &len) < 0) { /* not connected yet */
		_cleanup_close_ int ns = -EBADF;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/ns/net", d->procs[0].pid);
		ns = open(path, O_RDONLY | O_CLOEXEC);
		r = ns < 0 ? -errno : sockdiag_tcp_peer(ns, m->family, f->st.st_ino, &a);
		len = m->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	}
	if (r < 0)
		return error_errno(e, r, "peer of a TCP connection");
	m->remote.data = arena_memdup(&d->arena, &a, len);
	m->remote.len = len;
	return m->remote.data ? 0 : error_errno(e, -ENOMEM, "peer of a TCP connection");
}

/* The program has shut down reading, which does not show in the state. */
static void dump_shutdown(int fd, St__Socket *m)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	if (!has_received_fin(m->tcp->state) && m->tcp->state != STATE_CLOSE && poll(&p, 1, 0) > 0 &&
		p.revents & POLLRDHUP)
		m->shutdown = SOCKET_SHUT_RECEIVE;
}

/* All that is left is what was received. */
static int dump_ended(struct dump *d, int fd, St__TcpConnection *t, struct error *e)
{
	int waiting = 0;

	if (ioctl(fd, SIOCINQ, &waiting) < 0)
		return error_errno(e, -errno, "receive queue of a TCP connection");
	return copy_queue(d, fd, waiting, &t->in, e);
}

int tcp_dump(struct dump *d, struct dump_file *f, St__Socket *m, struct error *e)
{
	St__TcpConnection *t = m->tcp = pb_new(&d->arena, TcpConnection, tcp_connection);
	socklen_t len = sizeof(struct tcp_info);
	struct tcp_info info = {};
	int r;

	if (!t)
		return error_errno(e, -ENOMEM, "TCP connection");
	m->state = SOCKET_CONNECTED;
	r = hold(d, f, e);
	if (r == 0 && getsockopt(f->local, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		r = error_errno(e, -errno, "TCP_INFO");
	if (r < 0)
		return r;
	/* Only now it is a state that stays. */
	t->state = info.tcpi_state;
	dump_shutdown(f->local, m);
	r = dump_parameters(f->local, t, &info, e);
	if (t->state == STATE_CLOSE && r == 0) {
		tcp_undo(&d->journal->tcp[--d->journal->n_tcp]);
		return dump_ended(d, f->local, t, e);
	}
	if (r == 0)
		r = dump_peer(d, f, m, e);
	if (r == 0)
		r = dump_incoming(d, f->local, t, e);
	if (r == 0)
		r = dump_outgoing(d, f->local, t, e);
	(void)set_int(f->local, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	return r;
}
