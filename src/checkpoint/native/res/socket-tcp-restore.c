/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections, the restore side (socket-tcp.c is the dump). In repair mode connect() just declares a connection to
 * be there, and what is written to a queue is taken for received or sent. The states behind ESTABLISHED are reached as
 * they were the first time: by shutdown(2), and by segments in the name of the peer.
 *
 * Until the processes run, a filter on the socket drops what the network brings, so that nothing is acknowledged that a
 * failing restore would lose; and as long as it is in repair mode its end would not be noticed by the peer.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/filter.h>
#include <linux/tcp.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "linux/nflock.h"

enum {
	ROOM = 64 << 20, /* beside what a queue holds: memory is accounted by pages */
	MSS_MIN = 88,
	MSS_SETTABLE = 32767,
	SCALE_MAX = 14,
	OPT_SO_BUF_LOCK = 72,
	/* of TCP_REPAIR_OPTIONS */
	OPTION_MSS = 2,
	OPTION_WINDOW = 3,
	OPTION_SACK = 4,
	OPTION_TIMESTAMP = 8,
};

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int option_of(const St__Socket *m, int level, int name)
{
	int value = 0;

	for (size_t i = 0; i < m->n_options; i++)
		if (m->options[i]->level == level && m->options[i]->name == name &&
			m->options[i]->value.len == sizeof(value))
			memcpy(&value, m->options[i]->value.data, sizeof(value));
	return value;
}

static int check_connection(const St__Socket *m, struct error *e)
{
	const St__TcpConnection *t = m->tcp;
	struct sockaddr_storage a;
	socklen_t len;

	if (m->protocol != IPPROTO_TCP || t->state < STATE_ESTABLISHED || t->state > STATE_CLOSING ||
		t->state == STATE_SYN_RECV || t->state == STATE_TIME_WAIT || t->state == STATE_LISTEN ||
		t->unsent > t->out.len || t->send_scale > SCALE_MAX || t->receive_scale > SCALE_MAX ||
		t->send_buffer > INT32_MAX || t->receive_buffer > INT32_MAX ||
		!socket_address(&m->local, m->family, &a, &len) ||
		(t->state != STATE_CLOSE && !socket_address(&m->remote, m->family, &a, &len)))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "a TCP connection is malformed");
	return 0;
}

/* Only what we send in the name of the peer comes in. */
static int drop_others(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_MARK),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NFLOCK_MARK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = {ARRAY_SIZE(code), code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

int tcp_open(const St__Socket *m, int fd, struct error *e)
{
	struct sockaddr_storage local;
	socklen_t len;
	int r = check_connection(m, e);

	if (r < 0)
		return r;
	/* It also lets several connections have the port of one listener. */
	r = set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	if (r < 0)
		return error_errno(e, r, "put a TCP socket into repair mode%s",
			r == -EPERM ? " (the network namespace is not the container's own?)" : "");
	r = drop_others(fd);
	if (r < 0)
		return error_errno(e, r, "hold a TCP connection");
	if (!socket_address(&m->local, m->family, &local, &len) ||
		bind(fd, (struct sockaddr *)&local, len) < 0)
		return error_errno(e, -errno,
			"a TCP connection needs its old address in the container's network namespace: bind");
	return 0;
}

/* The end of a connection that is over: to whom it was is not known any more, and does not matter. */
static void invent_peer(int fd, const struct sockaddr_storage *local, struct sockaddr_storage *peer)
{
	uint16_t port = htons(1024 + fd % 60000);

	*peer = *local;
	if (local->ss_family == AF_INET)
		((struct sockaddr_in *)peer)->sin_port = port;
	else
		((struct sockaddr_in6 *)peer)->sin6_port = port;
}

static int set_sequence(int fd, int queue, uint32_t seq)
{
	int r = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);

	return r < 0 ? r : set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq);
}

static int set_options(int fd, const St__TcpConnection *t)
{
	struct tcp_repair_opt options[4] = {{OPTION_MSS, t->mss}};
	size_t n = 1;

	if (t->options & TCPI_OPT_WSCALE)
		options[n++] = (struct tcp_repair_opt){OPTION_WINDOW, t->send_scale | t->receive_scale << 16};
	if (t->options & TCPI_OPT_SACK)
		options[n++] = (struct tcp_repair_opt){OPTION_SACK, 0};
	if (t->options & TCPI_OPT_TIMESTAMPS)
		options[n++] = (struct tcp_repair_opt){OPTION_TIMESTAMP, 0};
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, n * sizeof(*options)) < 0)
		return -errno;
	return t->options & TCPI_OPT_TIMESTAMPS ? set_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, t->timestamp) : 0;
}

/* connect() derives what the connection will send in one segment from this; the program does not see it. */
static int limit_segment(int fd, uint32_t mss)
{
	return mss < MSS_MIN ? 0 : set_int(fd, IPPROTO_TCP, TCP_MAXSEG, MIN(mss, (uint32_t)MSS_SETTABLE));
}

static int establish(const St__Socket *m, int fd, struct error *e)
{
	struct sockaddr_storage local, peer;
	const St__TcpConnection *t = m->tcp;
	socklen_t len;
	int r;

	if (!socket_address(&m->local, m->family, &local, &len))
		return -EBADMSG;
	if (t->state == STATE_CLOSE)
		invent_peer(fd, &local, &peer);
	else if (!socket_address(&m->remote, m->family, &peer, &len))
		return -EBADMSG;
	r = set_sequence(fd, TCP_SEND_QUEUE, t->out_seq);
	if (r == 0)
		r = set_sequence(fd, TCP_RECV_QUEUE, t->in_seq);
	if (r == 0)
		r = limit_segment(fd, t->mss);
	if (r == 0 && connect(fd, (struct sockaddr *)&peer, len) < 0)
		r = -errno;
	if (r == 0)
		r = set_options(fd, t);
	if (r == 0)
		r = set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 0);
	return r < 0 ? error_errno(e, r, "connect a TCP socket again") : 0;
}

static int fill_queue(int fd, int queue, const uint8_t *data, size_t len, struct error *e)
{
	int r = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue);
	size_t done = 0;

	while (r == 0 && done < len) {
		ssize_t n = send(fd, data + done, MIN(len - done, (size_t)65536), MSG_DONTWAIT);

		if (n <= 0)
			r = n < 0 ? -errno : -EIO;
		else
			done += n;
	}
	return r < 0 ? error_errno(e, r, "put %zu bytes into a queue of a TCP connection", len) : 0;
}

/* "fin": the peer's FIN is still to come, which may have been acknowledged already. */
static int set_window(int fd, const St__TcpConnection *t, bool fin, struct error *e)
{
	uint32_t received = t->in_seq + t->in.len;
	struct tcp_repair_window w = {.snd_wl1 = t->send_window_seq,
		.snd_wnd = t->send_window,
		.max_window = t->max_window,
		.rcv_wnd = t->receive_window,
		.rcv_wup = t->receive_window_seq};

	if (fin && (int32_t)(w.rcv_wup - received) > 0)
		w.rcv_wup = received;
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) < 0)
		return error_errno(e, -errno, "window of a TCP connection");
	return 0;
}

static int state_of(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ? -errno : info.tcpi_state;
}

/* What the peer says at this point; until the socket is in that state. */
static int hear(
	const St__Socket *m, int fd, uint32_t received, uint32_t acked, bool fin, int state, struct error *e)
{
	struct tcp_segment s = {.seq = m->tcp->in_seq + received, .ack = m->tcp->out_seq + acked, .fin = fin};
	uint32_t window = m->tcp->send_window >> (m->tcp->options & TCPI_OPT_WSCALE ? m->tcp->send_scale : 0);
	socklen_t len = sizeof(s.from);
	int r = 0, now = 0;

	s.window = MIN(window, (uint32_t)UINT16_MAX);
	if (getpeername(fd, (struct sockaddr *)&s.from, &len) < 0)
		return error_errno(e, -errno, "peer of a TCP connection");
	len = sizeof(s.to);
	if (getsockname(fd, (struct sockaddr *)&s.to, &len) < 0)
		return error_errno(e, -errno, "address of a TCP connection");
	for (int i = 0; i < 1000; i++) {
		if (i % 100 == 0 && (r = tcp_send_segment(&s)) < 0)
			return error_errno(e, r, "bring a TCP connection to its state");
		now = state_of(fd);
		if (now == state)
			return 0;
		nanosleep(&(struct timespec){0, i < 100 ? 10000 : 1000000}, NULL);
	}
	return error_set(e, -ETIMEDOUT, ERROR_SYSTEM,
		"a TCP connection does not come to state %d, but stays in %d (is the loopback device up?)",
		state, now);
}

static int send_fin(int fd, struct error *e)
{
	int r = set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);

	if (r == 0 && shutdown(fd, SHUT_WR) < 0)
		r = -errno;
	return r < 0 ? error_errno(e, r, "half close a TCP connection") : 0;
}

/* The FINs. One that is still behind data not sent goes its way later, in tcp_send_rest(). */
static int close_halves(const St__Socket *m, int fd, struct error *e)
{
	const St__TcpConnection *t = m->tcp;
	uint32_t in = t->in.len, out = t->out.len;
	int state = t->state, r = 0;

	if (t->fin_unsent)
		state = state == STATE_FIN_WAIT1 ? STATE_ESTABLISHED : STATE_CLOSE_WAIT;
	if (state == STATE_CLOSE_WAIT || state == STATE_LAST_ACK || state == STATE_CLOSE)
		r = hear(m, fd, in, 0, true, STATE_CLOSE_WAIT, e);
	if (r == 0 && (state == STATE_FIN_WAIT1 || state == STATE_FIN_WAIT2 || state == STATE_CLOSING ||
			      state == STATE_LAST_ACK || state == STATE_CLOSE))
		r = send_fin(fd, e);
	if (r == 0 && state == STATE_FIN_WAIT2)
		r = hear(m, fd, in, out + 1, false, STATE_FIN_WAIT2, e);
	if (r == 0 && state == STATE_CLOSING)
		r = hear(m, fd, in, 0, true, STATE_CLOSING, e);
	if (r == 0 && state == STATE_CLOSE)
		r = hear(m, fd, in + 1, out + 1, false, STATE_CLOSE, e);
	return r;
}

/* Within net.core.wmem_max and rmem_max, as in a user namespace nobody is above them. But who wants to be woken by no less
 * than half of the buffer gets one up to tcp_rmem[2], which is also what the kernel lets it grow to. */
static int set_modest_buffers(int fd, uint32_t send_size, uint32_t receive_size)
{
	int lowat = 1, r;
	socklen_t len = sizeof(lowat);

	r = set_int(fd, SOL_SOCKET, SO_SNDBUF, send_size / 2);
	if (r == 0)
		r = set_int(fd, SOL_SOCKET, SO_RCVBUF, receive_size / 2);
	if (r == 0)
		r = set_int(fd, SOL_SOCKET, OPT_SO_BUF_LOCK, 0);
	if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, &len) < 0)
		r = -errno;
	if (r == 0)
		r = set_int(fd, SOL_SOCKET, SO_RCVLOWAT, receive_size / 2);
	return r < 0 ? r : set_int(fd, SOL_SOCKET, SO_RCVLOWAT, lowat);
}

/* As large as they had grown by themselves, and growing on if they were. */
static int set_buffers(int fd, const St__Socket *m, uint32_t send_size, uint32_t receive_size)
{
	int lock = 0, r;

	r = set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, send_size / 2);
	if (r == 0)
		r = set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, receive_size / 2);
	if (r == -EPERM)
		r = set_modest_buffers(fd, send_size, receive_size);
	lock = (option_of(m, SOL_SOCKET, SO_SNDBUF) ? 1 : 0) | (option_of(m, SOL_SOCKET, SO_RCVBUF) ? 2 : 0);
	return r < 0 ? r : set_int(fd, SOL_SOCKET, OPT_SO_BUF_LOCK, lock);
}

int tcp_connect(const St__Socket *m, int fd, struct error *e)
{
	const St__TcpConnection *t = m->tcp;
	int r;

	if (t->state == STATE_SYN_SENT) {
		r = set_sequence(fd, TCP_SEND_QUEUE, t->out_seq);
		return r < 0 ? error_errno(e, r, "sequence number of a TCP connection") : 0;
	}
	r = set_buffers(fd, m, MIN(2 * t->out.len + ROOM, (size_t)INT32_MAX),
		MIN(2 * t->in.len + ROOM, (size_t)INT32_MAX));
	if (r < 0)
		return error_errno(e, r, "buffers of a TCP connection");
	r = establish(m, fd, e);
	if (r == 0)
		r = fill_queue(fd, TCP_RECV_QUEUE, t->in.data, t->in.len, e);
	if (r == 0)
		r = fill_queue(fd, TCP_SEND_QUEUE, t->out.data, t->out.len - t->unsent, e);
	if (r == 0 && t->state != STATE_CLOSE)
		r = set_window(fd, t, true, e);
	if (r == 0)
		r = close_halves(m, fd, e);
	if (r == 0 && t->state != STATE_CLOSE)
		r = set_window(fd, t, false, e);
	if (r == 0 && m->shutdown & SOCKET_SHUT_RECEIVE && shutdown(fd, SHUT_RD) < 0)
		r = error_errno(e, -errno, "half close a TCP connection");
	if (r < 0)
		return r;
	(void)set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	r = set_buffers(fd, m, t->send_buffer, t->receive_buffer);
	return r < 0 ? error_errno(e, r, "buffers of a TCP connection") : 0;
}

int tcp_release(const St__Socket *m, int fd, struct error *e)
{
	int r = set_int(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);

	/* The kernel asks the peer for its window then, so both know at once where they are. */
	if (r == 0)
		r = set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
	if (r == 0)
		r = set_int(fd, SOL_SOCKET, SO_REUSEADDR, option_of(m, SOL_SOCKET, SO_REUSEADDR));
	return r < 0 ? error_errno(e, r, "let a TCP connection go on") : 0;
}

/* The SYN once more, with the same number: an answer to the first one may be on its way. */
static int ask_again(const St__Socket *m, int fd, struct error *e)
{
	int flags = fcntl(fd, F_GETFL), r = 0;
	struct sockaddr_storage peer;
	socklen_t len;

	if (flags < 0 || !socket_address(&m->remote, m->family, &peer, &len))
		return error_errno(e, -EBADMSG, "peer of a TCP connection");
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_errno(e, -errno, "flags of a TCP connection");
	/* A refusal that comes at once waits in the socket. */
	if (connect(fd, (struct sockaddr *)&peer, len) < 0 && errno != EINPROGRESS)
		r = error_errno(e, -errno, "connect a TCP socket");
	if (fcntl(fd, F_SETFL, flags) < 0 && r == 0)
		r = error_errno(e, -errno, "flags of a TCP connection");
	return r;
}

int tcp_send_rest(const St__Socket *m, int fd, struct error *e)
{
	const St__TcpConnection *t = m->tcp;
	size_t done = t->out.len - t->unsent;
	int big = t->send_buffer;
	bool grown = false;

	if (t->state == STATE_SYN_SENT)
		return ask_again(m, fd, e);
	while (done < t->out.len) {
		ssize_t n = send(fd, t->out.data + done, t->out.len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			done += n;
		} else if (n < 0 && errno == EAGAIN && big < INT32_MAX / 4) {
			big = MAX(big * 2, 1 << 20);
			if (set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, big / 2) < 0)
				return error_errno(e, -ENOBUFS,
					"send %zu bytes that waited in a TCP connection", t->out.len - done);
			grown = true;
		} else {
			/* The peer has ended it by now: that is for the program to find out. */
			break;
		}
	}
	if (grown && set_buffers(fd, m, t->send_buffer, t->receive_buffer) < 0)
		return error_errno(e, -errno, "buffers of a TCP connection");
	if (t->fin_unsent)
		(void)!shutdown(fd, SHUT_WR);
	return 0;
}
