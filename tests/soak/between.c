/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One container of a sandbox that is made at random from a seed: what joins it with the others. Every container runs the
 * same program and draws the same links from the seed; a link has one end in one container and one in another (or the same).
 *
 *	between SEED INDEX CONTAINERS LINKS [KIND...]
 *
 * What goes through a link is a stream of bytes, or of messages, that both ends can compute, so that one that is lost, comes
 * twice or is changed is found by its reader. State that both sides of a link have (memory, a semaphore) goes back and forth in turns.
 * Nobody waits for another one, so that a checkpoint may come at any instruction. /shared/stop ends the writing; "/cr/count" has the
 * turns, "/cr/through" what has been written and read.
 */
#include "../cr/cr.h"

#include <mqueue.h>
#include <netinet/in.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { MAX_LINKS = 64, CHUNK = 3000, SLICES = 3 };

struct link;
/* make: both ends; the one whose turn it is to open first (the listener) is `to`. step: one that writes or reads, without waiting. */
struct kind {
	const char *name;
	void (*make)(struct link *l);
	void (*step)(struct link *l);
	bool messages; /* with boundaries */
};

struct link {
	const struct kind *kind;
	int number, from, to;
	bool writes, reads; /* this container's part */
	int fd;
	uint64_t *memory;
	uint64_t sent, received; /* bytes, or messages, or turns */
};

static struct link links[MAX_LINKS];
static int n_links, self, n_containers;
static bool stopping;
static uint64_t seed, link_state;

static uint64_t draw(uint64_t below)
{
	link_state = cr_mix(link_state);
	return link_state % below;
}

/* Which moment of it all this process is in is chance. */
static unsigned chance(unsigned below)
{
	static uint64_t state;

	state = cr_mix(state ? state : seed + self + cr_now_ns(CLOCK_MONOTONIC));
	return state % below;
}

static uint8_t byte_at(const struct link *l, uint64_t message, uint64_t at)
{
	return cr_mix(seed + l->number * 1000003ULL + message * 7919 + at / 8) >> at % 8 * 8;
}

static size_t length_of(const struct link *l, uint64_t message)
{
	return 1 + cr_mix(seed + l->number + message * 31) % 900;
}

/* Streams --------------------------------------------------------------------------------------------------------- */

static void stream_step(struct link *l)
{
	uint8_t buf[CHUNK];
	size_t want = 1 + chance(CHUNK);
	ssize_t n;

	if (l->writes && !stopping) {
		for (size_t i = 0; i < want; i++)
			buf[i] = byte_at(l, 0, l->sent + i);
		n = write(l->fd, buf, want);
		check(n > 0 || errno == EAGAIN || errno == EINTR, "%s %d: write: %m", l->kind->name,
			l->number);
		l->sent += n > 0 ? n : 0;
	}
	if (!l->reads)
		return;
	n = read(l->fd, buf, want);
	check(n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)), "%s %d: read after %lu: %zd %m",
		l->kind->name, l->number, l->received, n);
	for (ssize_t i = 0; i < n; i++)
		check(buf[i] == byte_at(l, 0, l->received + i), "%s %d: byte %lu is wrong", l->kind->name,
			l->number, l->received + i);
	l->received += n > 0 ? n : 0;
}

static void message_step(struct link *l)
{
	uint8_t buf[1000];
	ssize_t n;

	if (l->writes && !stopping) {
		size_t length = length_of(l, l->sent);

		for (size_t i = 0; i < length; i++)
			buf[i] = byte_at(l, l->sent, i);
		n = send(l->fd, buf, length, MSG_DONTWAIT);
		check(n == (ssize_t)length || errno == EAGAIN || errno == EINTR || errno == ENOBUFS,
			"%s %d: send: %m", l->kind->name, l->number);
		l->sent += n > 0;
	}
	if (!l->reads)
		return;
	n = recv(l->fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	check(n == (ssize_t)length_of(l, l->received), "%s %d: message %lu has %zd bytes: %m", l->kind->name,
		l->number, l->received, n);
	for (ssize_t i = 0; i < n; i++)
		check(buf[i] == byte_at(l, l->received, i), "%s %d: message %lu is wrong", l->kind->name,
			l->number, l->received);
	l->received++;
}

static void nonblocking(struct link *l)
{
	must(fcntl(l->fd, F_SETFL, fcntl(l->fd, F_GETFL) | O_NONBLOCK));
}

static void make_fifo(struct link *l)
{
	char path[64];

	snprintf(path, sizeof(path), "/shared/fifo.%d", l->number);
	if (mkfifo(path, 0600) < 0)
		check(errno == EEXIST, "mkfifo: %m");
	if (l->number % 2) { /* for both: who never waits for the other end, nor sees its end */
		l->fd = must(open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC));
		return;
	}
	l->fd = must(open(path, (l->writes ? O_WRONLY : O_RDONLY) | O_CLOEXEC)); /* waits for the other one */
	nonblocking(l);
}

static socklen_t address_of(const struct link *l, struct sockaddr_un *a, bool abstract, const char *side)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (abstract)
		return offsetof(struct sockaddr_un, sun_path) + 1 +
		       snprintf(a->sun_path + 1, sizeof(a->sun_path) - 1, "between.%d%s", l->number, side);
	snprintf(a->sun_path, sizeof(a->sun_path), "/shared/socket.%d%s", l->number, side);
	return sizeof(*a);
}

static void connect_patiently(int fd, const void *address, socklen_t len)
{
	for (int i = 0; connect(fd, address, len) < 0; i++) {
		check(i < 10000 && (errno == ENOENT || errno == ECONNREFUSED), "connect: %m");
		cr_msleep(2);
	}
}

/* A connection of the two ends: the listener's side is `to`; if both are here, the listener is first. */
static void join_stream(struct link *l, int family, int type, const void *address, socklen_t len)
{
	int listener = -1;

	if (l->to == self) {
		listener = must(socket(family, type | SOCK_CLOEXEC, 0));
		must(bind(listener, address, len));
		must(listen(listener, 5));
		l->fd = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
		/* some listeners stay, as those of servers do */
		if (l->number % 2)
			close(listener);
	} else {
		l->fd = must(socket(family, type | SOCK_CLOEXEC, 0));
		connect_patiently(l->fd, address, len);
	}
	nonblocking(l);
	l->writes = l->reads = true; /* both ways */
}

static void make_unix(struct link *l)
{
	struct sockaddr_un a;
	socklen_t len = address_of(l, &a, false, "");

	join_stream(l, AF_UNIX, SOCK_STREAM, &a, len);
}

static void make_abstract(struct link *l)
{
	struct sockaddr_un a;
	socklen_t len = address_of(l, &a, true, "");

	join_stream(l, AF_UNIX, SOCK_STREAM, &a, len);
}

static void make_seqpacket(struct link *l)
{
	struct sockaddr_un a;
	socklen_t len = address_of(l, &a, false, "");

	join_stream(l, AF_UNIX, SOCK_SEQPACKET, &a, len);
}

static void make_tcp(struct link *l)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons(7000 + l->number),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	join_stream(l, AF_INET, SOCK_STREAM, &a, sizeof(a));
}

static void make_dgram(struct link *l)
{
	struct sockaddr_un mine, other;
	bool first = l->to == self;
	socklen_t len = address_of(l, &mine, false, first ? ".to" : ".from");
	socklen_t other_len = address_of(l, &other, false, first ? ".from" : ".to");

	l->fd = must(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	must(bind(l->fd, (struct sockaddr *)&mine, len));
	connect_patiently(l->fd, &other, other_len);
	nonblocking(l);
	l->writes = l->reads = true;
}

/* A descriptor from one container to the other, through a connection that ends then. */
static void pass(struct link *l, int fd)
{
	char data = 'x', space[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v = {&data, 1};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	struct sockaddr_un a;
	socklen_t len = address_of(l, &a, true, ".pass");
	struct cmsghdr *c;
	int s = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

	if (l->to == self) {
		int listener = s;

		must(bind(listener, (struct sockaddr *)&a, len));
		must(listen(listener, 1));
		s = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
		close(listener);
		must(recvmsg(s, &m, MSG_CMSG_CLOEXEC));
		c = CMSG_FIRSTHDR(&m);
		check(c && c->cmsg_type == SCM_RIGHTS, "no descriptor has come");
		memcpy(&l->fd, CMSG_DATA(c), sizeof(int));
	} else {
		connect_patiently(s, &a, len);
		c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
		must(sendmsg(s, &m, 0));
		/* until it has been taken, so that it is never in flight later */
		must(read(s, &data, 1));
	}
	close(s);
}

static void make_pipe(struct link *l)
{
	int p[2] = {-1, -1};

	if (l->from == self) {
		must(pipe2(p, O_NONBLOCK | O_CLOEXEC));
		l->fd = p[1];
	}
	pass(l, p[0]);
	if (l->from == self)
		close(p[0]);
}

static void make_pair(struct link *l)
{
	int p[2] = {-1, -1};

	if (l->from == self) {
		must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p));
		l->fd = p[1];
	}
	pass(l, p[0]);
	if (l->from == self)
		close(p[0]);
	l->writes = l->reads = true;
}

/* Turns ----------------------------------------------------------------------------------------------------------- */

/* The writer makes the first number one greater when the second has followed; both remember where they were. */
static void turn(struct link *l, volatile uint64_t *there, volatile uint64_t *back)
{
	if (l->writes) {
		uint64_t at = *back;

		check(*there == l->sent, "%s %d: %lu is there, it was %lu", l->kind->name, l->number, *there,
			l->sent);
		check(at == l->sent || at + 1 == l->sent, "%s %d: the other is at %lu, this at %lu",
			l->kind->name, l->number, at, l->sent);
		if (at == l->sent && !stopping)
			*there = ++l->sent;
	} else {
		uint64_t at = *there;

		check(*back == l->received, "%s %d: %lu is there, it was %lu", l->kind->name, l->number,
			*back, l->received);
		check(at == l->received || at == l->received + 1, "%s %d: the other is at %lu, this at %lu",
			l->kind->name, l->number, at, l->received);
		*back = l->received = at;
	}
}

static void memory_step(struct link *l)
{
	turn(l, &l->memory[0], &l->memory[512]);
}

static void map(struct link *l)
{
	must(ftruncate(l->fd, 8192));
	l->memory = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0));
}

static void make_shm_file(struct link *l)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/shm/memory.%d", l->number);
	l->fd = must(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	map(l);
	close(l->fd);
}

static void make_memfd(struct link *l)
{
	if (l->from == self)
		l->fd = must(memfd_create("between", MFD_CLOEXEC));
	pass(l, l->fd);
	map(l);
}

static void make_sysv_shm(struct link *l)
{
	l->fd = must(shmget(5000 + l->number, 8192, IPC_CREAT | 0600));
	l->memory = must(shmat(l->fd, NULL, 0));
}

static void make_sysv_msg(struct link *l)
{
	l->fd = must(msgget(5000 + l->number, IPC_CREAT | 0600));
}

static void sysv_msg_step(struct link *l)
{
	struct {
		long type;
		uint64_t number;
	} m = {1 + (long)(l->sent % 5), l->sent};

	if (l->writes && !stopping) {
		if (msgsnd(l->fd, &m, sizeof(m.number), IPC_NOWAIT) == 0)
			l->sent++;
		else
			check(errno == EAGAIN || errno == EINTR, "msgsnd: %m");
	}
	if (!l->reads)
		return;
	if (msgrcv(l->fd, &m, sizeof(m.number), 0, IPC_NOWAIT) < 0) {
		check(errno == ENOMSG || errno == EINTR, "msgrcv: %m");
		return;
	}
	check(m.number == l->received && m.type == 1 + (long)(m.number % 5), "message %lu is number %lu",
		l->received, m.number);
	l->received++;
}

static void make_sysv_sem(struct link *l)
{
	l->fd = must(semget(5000 + l->number, 2, IPC_CREAT | 0600));
}

/* Two semaphores: what is on the way there, and back; the sum never exceeds one. */
static void sysv_sem_step(struct link *l)
{
	struct sembuf take = {l->writes ? 1 : 0, -1, IPC_NOWAIT}, give = {l->writes ? 0 : 1, 1, 0};

	if (l->writes && l->sent == 0) {
		must(semop(l->fd, &give, 1));
		l->sent = 1;
		return;
	}
	if (l->writes && stopping)
		return;
	if (semop(l->fd, &take, 1) < 0) {
		check(errno == EAGAIN || errno == EINTR, "semop: %m");
		return;
	}
	check(semctl(l->fd, 0, GETVAL) + semctl(l->fd, 1, GETVAL) == 0, "one too many is on its way");
	must(semop(l->fd, &give, 1));
	l->sent += l->writes;
	l->received += l->reads;
}

static void make_posix_mq(struct link *l)
{
	struct mq_attr a = {.mq_maxmsg = 8, .mq_msgsize = 1000};
	char name[64];

	snprintf(name, sizeof(name), "/between.%d", l->number);
	l->fd = must((int)mq_open(name, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600, &a));
}

static void posix_mq_step(struct link *l)
{
	char buf[1000];
	ssize_t n;

	if (l->writes && !stopping) {
		size_t length = length_of(l, l->sent);

		for (size_t i = 0; i < length; i++)
			buf[i] = (char)byte_at(l, l->sent, i);
		if (mq_send(l->fd, buf, length, 3) == 0)
			l->sent++;
		else
			check(errno == EAGAIN || errno == EINTR, "mq_send: %m");
	}
	if (!l->reads)
		return;
	n = mq_receive(l->fd, buf, sizeof(buf), NULL);
	if (n < 0) {
		check(errno == EAGAIN || errno == EINTR, "mq_receive: %m");
		return;
	}
	check(n == (ssize_t)length_of(l, l->received), "queue %d: message %lu has %zd bytes", l->number,
		l->received, n);
	for (ssize_t i = 0; i < n; i++)
		check(buf[i] == (char)byte_at(l, l->received, i), "queue %d: message %lu is wrong", l->number,
			l->received);
	l->received++;
}

static const struct kind kinds[] = {
	{"fifo", make_fifo, stream_step, false},
	{"unix", make_unix, stream_step, false},
	{"abstract", make_abstract, stream_step, false},
	{"seqpacket", make_seqpacket, message_step, true},
	{"dgram", make_dgram, message_step, true},
	{"tcp", make_tcp, stream_step, false},
	{"pipe", make_pipe, stream_step, false},
	{"pair", make_pair, stream_step, false},
	{"shm-file", make_shm_file, memory_step, false},
	{"memfd", make_memfd, memory_step, false},
	{"sysv-shm", make_sysv_shm, memory_step, false},
	{"sysv-msg", make_sysv_msg, sysv_msg_step, true},
	{"sysv-sem", make_sysv_sem, sysv_sem_step, false},
	{"posix-mq", make_posix_mq, posix_mq_step, true},
};

static bool is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 5; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc <= 5;
}

static void draw_links(int wanted, int argc, char **argv)
{
	const struct kind *chosen[sizeof(kinds) / sizeof(*kinds)];
	unsigned n = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (is_wanted(kinds[i].name, argc, argv))
			chosen[n++] = &kinds[i];
	check(n > 0, "no kind of link is called so");
	for (int i = 0; i < wanted && i < MAX_LINKS; i++) {
		struct link l = {.number = i, .fd = -1};

		l.kind = chosen[draw(n)];
		l.from = (int)draw(n_containers);
		l.to = (int)((l.from + 1 + draw(n_containers - 1)) % n_containers);
		l.writes = l.from == self;
		l.reads = l.to == self;
		if (l.writes || l.reads)
			links[n_links++] = l;
	}
}

static void report(uint64_t turns)
{
	char text[4096];
	int n = 0, fd;

	for (int i = 0; i < n_links; i++)
		n += snprintf(text + n, sizeof(text) - n, "%d %s %d %lu %lu\n", links[i].number,
			links[i].kind->name, self, links[i].sent, links[i].received);
	fd = must(open("/cr/through", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	must(write(fd, text, n));
	close(fd);
	n = snprintf(text, sizeof(text), "%lu\n", turns);
	fd = must(open("/cr/count", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	must(write(fd, text, n));
	close(fd);
}

int main(int argc, char **argv)
{
	check(argc >= 5, "between SEED INDEX CONTAINERS LINKS [KIND...]");
	seed = link_state = cr_mix(strtoull(argv[1], NULL, 0));
	self = atoi(argv[2]);
	n_containers = atoi(argv[3]);
	signal(SIGPIPE, SIG_IGN);
	draw_links(atoi(argv[4]), argc, argv);
	/* In the order of their numbers, so that nobody waits for one who waits for him. */
	for (int i = 0; i < n_links; i++)
		links[i].kind->make(&links[i]);
	for (uint64_t turns = 1;; turns++) {
		stopping = access("/shared/stop", F_OK) == 0;
		for (int i = 0; i < n_links; i++)
			for (int k = 0; k < SLICES; k++)
				links[i].kind->step(&links[i]);
		report(turns);
		if (!chance(3))
			cr_msleep((int)chance(5));
	}
}
