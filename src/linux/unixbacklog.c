/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of a listener has a packet for each connection, to which the socket belongs that accept(2) will hand out; what was sent is in the
 * queue of that one. Nothing is taken out: the kernel's memory is read (bpfpeek.h).
 *
 * The first 4 KiB of what was sent at once lie at an address, the rest in pages (struct page). Where the contents of a page are, a kernel that
 * was put at a random place does not say; but the two numbers that are unknown are multiples of 1 GiB, so they are found by something that we send
 * to ourselves.
 */
#include "linux/unixbacklog.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/bpfpeek.h"
#include "linux/bpfwalk.h"

enum {
	ARRIVALS_MAX = 4096, /* SOMAXCONN */
	SENT_MAX = 65536,
	BYTES_MAX = 256 << 20,
	FRAGMENTS_MAX = 45, /* MAX_SKB_FRAGS is never more */
	LEVELS_MAX = 32,
	NGROUPS = 65536,
	PAGE_BITS = 12,
	STRUCT_PAGE_BITS = 6,
	GIB_BITS = 30,
};

enum place {
	FILE_PRIVATE,
	SOCKET_SK,
	SK_QUEUE,
	SK_SOCKET,
	SK_PEER_PID,
	SK_PEER_CRED,
	UNIX_PEER,
	UNIX_ADDRESS,
	ADDRESS_LEN,
	ADDRESS_NAME,
	SKB_NEXT,
	SKB_SK,
	SKB_CB,
	SKB_LEN,
	SKB_DATA_LEN,
	SKB_DATA,
	SKB_HEAD,
	SKB_END,
	SHARED_FRAGMENTS,
	SHARED_N,
	SHARED_LIST,
	PARMS_PID,
	PARMS_UID,
	PARMS_GID,
	PARMS_FILES,
	CRED_EUID,
	CRED_EGID,
	CRED_GROUPS,
	GROUPS_N,
	GROUPS_GID,
	PID_LEVEL,
	PID_NUMBERS,
	UPID_NS,
	PIDNS_NS,
	NS_INUM,
	N_NEEDED,
	UNIX_URGENT = N_NEEDED, /* not every kernel has them */
	SK_RECEIVES,
	N_PLACES,
};

static struct bpf_place at[N_PLACES] = {
	[FILE_PRIVATE] = {"file", "private_data", 0},
	[SOCKET_SK] = {"socket", "sk", 0},
	[SK_QUEUE] = {"sock", "sk_receive_queue", 0},
	[SK_SOCKET] = {"sock", "sk_socket", 0},
	[SK_PEER_PID] = {"sock", "sk_peer_pid", 0},
	[SK_PEER_CRED] = {"sock", "sk_peer_cred", 0},
	[UNIX_PEER] = {"unix_sock", "peer", 0},
	[UNIX_ADDRESS] = {"unix_sock", "addr", 0},
	[ADDRESS_LEN] = {"unix_address", "len", 0},
	[ADDRESS_NAME] = {"unix_address", "name", 0},
	[SKB_NEXT] = {"sk_buff", "next", 0},
	[SKB_SK] = {"sk_buff", "sk", 0},
	[SKB_CB] = {"sk_buff", "cb", 0},
	[SKB_LEN] = {"sk_buff", "len", 0},
	[SKB_DATA_LEN] = {"sk_buff", "data_len", 0},
	[SKB_DATA] = {"sk_buff", "data", 0},
	[SKB_HEAD] = {"sk_buff", "head", 0},
	[SKB_END] = {"sk_buff", "end", 0},
	[SHARED_FRAGMENTS] = {"skb_shared_info", "frags", 0},
	[SHARED_N] = {"skb_shared_info", "nr_frags", 0},
	[SHARED_LIST] = {"skb_shared_info", "frag_list", 0},
	[PARMS_PID] = {"unix_skb_parms", "pid", 0},
	[PARMS_UID] = {"unix_skb_parms", "uid", 0},
	[PARMS_GID] = {"unix_skb_parms", "gid", 0},
	[PARMS_FILES] = {"unix_skb_parms", "fp", 0},
	[CRED_EUID] = {"cred", "euid", 0},
	[CRED_EGID] = {"cred", "egid", 0},
	[CRED_GROUPS] = {"cred", "group_info", 0},
	[GROUPS_N] = {"group_info", "ngroups", 0},
	[GROUPS_GID] = {"group_info", "gid", 0},
	[PID_LEVEL] = {"pid", "level", 0},
	[PID_NUMBERS] = {"pid", "numbers", 0},
	[UPID_NS] = {"upid", "ns", 0},
	[PIDNS_NS] = {"pid_namespace", "ns", 0},
	[NS_INUM] = {"ns_common", "inum", 0},
	[UNIX_URGENT] = {"unix_sock", "oob_skb", 0},
	[SK_RECEIVES] = {"sock", "sk_scm_recv_flags", 0},
};

static struct {
	bool known;
	int problem;
	/* Where contents and descriptions of pages begin; 0: not known yet. */
	uint64_t contents, pages;
} here;

static int find_out(void)
{
	if (here.known)
		return here.problem;
	here.known = true;
	for (size_t i = 0; i < N_PLACES; i++)
		at[i].at = -1;
	here.problem = bpf_places(at, N_PLACES);
	if (here.problem != -EOPNOTSUPP)
		return here.problem;
	here.problem = 0;
	for (size_t i = 0; i < N_NEEDED; i++)
		if (at[i].at < 0)
			here.problem = -EOPNOTSUPP;
	return here.problem;
}

bool unix_backlog_is_readable(void)
{
	uint64_t file;

	return find_out() == 0 && bpf_peek_file(0, &file) == 0;
}

/* A member of what lies at an address. */
static int get(uint64_t object, enum place member, void *ret, size_t size)
{
	return object ? bpf_peek(object + (uint64_t)at[member].at, ret, size) : -EFAULT;
}

static int get_pointer(uint64_t object, enum place member, uint64_t *ret)
{
	return get(object, member, ret, sizeof(*ret));
}

/* --- pieces of a packet --- */

struct fragment { /* skb_frag_t, bio_vec before Linux 6.8 */
	uint64_t page;
	uint32_t len, offset;
};

static uint64_t contents_of(const struct fragment *f, uint64_t contents, uint64_t pages)
{
	return contents + ((f->page - pages) >> STRUCT_PAGE_BITS << PAGE_BITS) + f->offset;
}

static int get_fragments(uint64_t skb, struct fragment *f, size_t *ret_n)
{
	uint64_t head, list;
	uint32_t end;
	uint8_t n = 0;
	int r = get_pointer(skb, SKB_HEAD, &head);

	if (r == 0)
		r = get(skb, SKB_END, &end, sizeof(end));
	if (r == 0)
		r = get(head + end, SHARED_N, &n, sizeof(n));
	if (r == 0)
		r = get_pointer(head + end, SHARED_LIST, &list);
	if (r == 0 && (list || n > FRAGMENTS_MAX))
		r = -EOPNOTSUPP;
	if (r == 0)
		r = get(head + end, SHARED_FRAGMENTS, f, n * sizeof(*f));
	*ret_n = n;
	return r;
}

static int sk_of(int fd, uint64_t *ret)
{
	uint64_t file = 0, socket = 0;
	int r = bpf_peek_file(fd, &file);

	if (r == 0)
		r = get_pointer(file, FILE_PRIVATE, &socket);
	return r < 0 ? r : get_pointer(socket, SOCKET_SK, ret);
}

/* Tries what is possible: the head of a packet lies in the memory whose beginning is looked for, its pages are described in the other. */
static int search(uint64_t head, const struct fragment *f, const char *expected)
{
	enum { COMPARED = 64, SPARE = 66 /* GiB: not all addresses have memory */ };
	uint64_t gib = ((uint64_t)sysconf(_SC_PHYS_PAGES) >> (GIB_BITS - PAGE_BITS)) + SPARE;
	uint64_t step = 1ull << GIB_BITS;
	char seen[COMPARED];

	for (uint64_t k = 0; k <= gib >> STRUCT_PAGE_BITS; k++) {
		for (uint64_t i = 0; i <= gib; i++) {
			uint64_t contents = (head & ~(step - 1)) - i * step,
				 pages = (f->page & ~(step - 1)) - k * step;

			if (bpf_peek(contents_of(f, contents, pages), seen, COMPARED) < 0 ||
				memcmp(seen, expected, COMPARED) != 0)
				continue;
			here.contents = contents;
			here.pages = pages;
			return 0;
		}
	}
	return -EOPNOTSUPP;
}

static int find_pages(void)
{
	enum { SIZE = 64 << 10 };
	static char pattern[SIZE];
	_cleanup_close_ int a = -EBADF, b = -EBADF;
	struct fragment f[FRAGMENTS_MAX];
	uint64_t sk, skb, head;
	uint32_t len, rest;
	size_t n = 0;
	int fds[2], r;

	if (here.contents)
		return 0;
	if (getrandom(pattern, SIZE, 0) != SIZE ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	a = fds[0];
	b = fds[1];
	if (send(a, pattern, SIZE, MSG_DONTWAIT) != SIZE)
		return -EAGAIN;
	r = sk_of(b, &sk);
	if (r == 0)
		r = get_pointer(sk, SK_QUEUE, &skb);
	if (r == 0)
		r = get_pointer(skb, SKB_HEAD, &head);
	if (r == 0)
		r = get(skb, SKB_LEN, &len, sizeof(len));
	if (r == 0)
		r = get(skb, SKB_DATA_LEN, &rest, sizeof(rest));
	if (r == 0)
		r = get_fragments(skb, f, &n);
	if (r == 0 && (n == 0 || len != SIZE || rest >= len))
		r = -EOPNOTSUPP;
	return r < 0 ? r : search(head, f, pattern + len - rest);
}

static int get_data(uint64_t skb, char *to, uint32_t len, uint32_t rest)
{
	struct fragment f[FRAGMENTS_MAX];
	uint64_t data;
	size_t n = 0, done = len - rest;
	int r = get_pointer(skb, SKB_DATA, &data);

	if (r == 0)
		r = bpf_peek(data, to, done);
	if (r < 0 || rest == 0)
		return r;
	r = find_pages();
	if (r == 0)
		r = get_fragments(skb, f, &n);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (f[i].page & 1 || f[i].len > len - done)
			return -EOPNOTSUPP; /* memory of a device */
		r = bpf_peek(contents_of(&f[i], here.contents, here.pages), to + done, f[i].len);
		done += f[i].len;
	}
	return r < 0 ? r : done == len ? 0 : -EAGAIN;
}

/* --- who it was --- */

/* Its number in that namespace; 0: it has none there. */
static int number_in(uint64_t pid, uint32_t pidns, pid_t *ret)
{
	struct { /* struct upid */
		int32_t nr, padding;
		uint64_t ns;
	} number;
	uint32_t level = 0, inum;
	int r = pid ? get(pid, PID_LEVEL, &level, sizeof(level)) : 0;

	*ret = 0;
	if (level >= LEVELS_MAX || at[UPID_NS].at != 8)
		return -EOPNOTSUPP;
	for (uint32_t i = 0; pid && i <= level && r == 0; i++) {
		r = bpf_peek(
			pid + (uint64_t)at[PID_NUMBERS].at + i * sizeof(number), &number, sizeof(number));
		if (r == 0)
			r = get(number.ns + (uint64_t)at[PIDNS_NS].at, NS_INUM, &inum, sizeof(inum));
		if (r == 0 && inum == pidns)
			*ret = number.nr;
	}
	return r;
}

static int get_groups(uint64_t cred, struct arena *a, struct unix_arrival *x)
{
	uint64_t groups;
	int32_t n = 0;
	int r = get_pointer(cred, CRED_GROUPS, &groups);

	if (r == 0)
		r = get(groups, GROUPS_N, &n, sizeof(n));
	if (r == 0 && (n < 0 || n > NGROUPS))
		r = -EAGAIN;
	if (r < 0)
		return r;
	x->groups = arena_array(a, (size_t)n + 1, sizeof(*x->groups));
	x->n_groups = (size_t)n;
	return x->groups ? get(groups, GROUPS_GID, x->groups, x->n_groups * sizeof(*x->groups)) : -ENOMEM;
}

static int get_client(uint64_t sk, uint32_t pidns, struct arena *a, struct unix_arrival *x)
{
	uint64_t cred, pid;
	int r = get_pointer(sk, SK_PEER_CRED, &cred);

	if (r == 0)
		r = get_pointer(sk, SK_PEER_PID, &pid);
	if (r == 0)
		r = number_in(pid, pidns, &x->client.pid);
	if (r == 0)
		r = get(cred, CRED_EUID, &x->client.uid, sizeof(x->client.uid));
	if (r == 0)
		r = get(cred, CRED_EGID, &x->client.gid, sizeof(x->client.gid));
	x->client.known = true;
	return r < 0 ? r : get_groups(cred, a, x);
}

static int get_name(uint64_t peer, struct arena *a, struct unix_arrival *x)
{
	enum { LONGEST = 110 };
	uint64_t address;
	uint16_t family;
	int32_t len;
	int r = get_pointer(peer, UNIX_ADDRESS, &address);

	if (r < 0 || !address)
		return r;
	r = get(address, ADDRESS_LEN, &len, sizeof(len));
	if (r < 0 || len < (int)sizeof(family) || len > LONGEST)
		return r < 0 ? r : -EAGAIN;
	x->name_len = (size_t)len - sizeof(family);
	x->name = arena_alloc(a, LONGEST);
	return x->name ? bpf_peek(address + (uint64_t)at[ADDRESS_NAME].at + sizeof(family), x->name,
				 x->name_len)
		       : -ENOMEM;
}

/* --- what was sent --- */

static int get_sender(uint64_t cb, uint32_t pidns, struct unix_sender *ret)
{
	uint64_t pid;
	int r = get_pointer(cb, PARMS_PID, &pid);

	if (r == 0)
		r = get(cb, PARMS_UID, &ret->uid, sizeof(ret->uid));
	if (r == 0)
		r = get(cb, PARMS_GID, &ret->gid, sizeof(ret->gid));
	ret->known = pid || ret->uid != (uint32_t)-1 || ret->gid != (uint32_t)-1;
	return r < 0 ? r : number_in(pid, pidns, &ret->pid);
}

static int get_sent(uint64_t skb, uint32_t pidns, struct arena *a, size_t *total, struct unix_sent *ret)
{
	uint64_t cb = skb + (uint64_t)at[SKB_CB].at, files;
	uint32_t len, rest;
	int r = get(skb, SKB_LEN, &len, sizeof(len));

	if (r == 0)
		r = get(skb, SKB_DATA_LEN, &rest, sizeof(rest));
	if (r == 0)
		r = get_pointer(cb, PARMS_FILES, &files);
	if (r == 0)
		r = get_sender(cb, pidns, &ret->from);
	if (r < 0)
		return r;
	*total += len;
	if (rest > len || *total > BYTES_MAX)
		return rest > len ? -EAGAIN : -E2BIG;
	ret->has_files = files != 0;
	ret->len = len;
	ret->data = arena_alloc(a, (size_t)len + 1);
	return ret->data ? get_data(skb, ret->data, len, rest) : -ENOMEM;
}

/* The addresses of all packets in a queue. */
static int list_queue(uint64_t sk, size_t max, struct arena *a, uint64_t **ret, size_t *ret_n)
{
	uint64_t head = sk + (uint64_t)at[SK_QUEUE].at, p;
	size_t n = 0, room = 0;
	int r = bpf_peek(head, &p, sizeof(p)); /* sk_buff_head begins as sk_buff does */

	*ret = NULL;
	while (r == 0 && p != head) {
		if (n == max)
			return -E2BIG;
		*ret = arena_grow(a, *ret, n, &room, sizeof(**ret));
		if (!*ret)
			return -ENOMEM;
		(*ret)[n++] = p;
		r = get_pointer(p, SKB_NEXT, &p);
	}
	*ret_n = n;
	return r;
}

static int get_all_sent(uint64_t sk, uint32_t pidns, struct arena *a, struct unix_arrival *x)
{
	uint64_t *queue;
	size_t total = 0;
	int r = list_queue(sk, SENT_MAX, a, &queue, &x->n_sent);

	if (r < 0)
		return r;
	x->sent = arena_array(a, x->n_sent + 1, sizeof(*x->sent));
	if (!x->sent)
		return -ENOMEM;
	for (size_t i = 0; i < x->n_sent && r == 0; i++)
		r = get_sent(queue[i], pidns, a, &total, &x->sent[i]);
	return r;
}

static int get_arrival(uint64_t request, uint32_t pidns, struct arena *a, struct unix_arrival *x)
{
	uint64_t sk, peer, socket, urgent = 0;
	uint8_t receives = 0;
	int r = get_pointer(request, SKB_SK, &sk);

	if (r == 0)
		r = get_pointer(sk, UNIX_PEER, &peer);
	if (r == 0)
		r = get_pointer(peer, SK_SOCKET, &socket);
	if (r == 0 && at[UNIX_URGENT].at >= 0)
		r = get_pointer(sk, UNIX_URGENT, &urgent);
	if (r == 0 && at[SK_RECEIVES].at >= 0)
		r = get(sk, SK_RECEIVES, &receives, sizeof(receives));
	if (r < 0)
		return r;
	x->gone = socket == 0;
	x->urgent = urgent != 0;
	x->receives = at[SK_RECEIVES].at >= 0 ? receives & 15 : -1;
	r = get_client(sk, pidns, a, x);
	if (r == 0)
		r = get_name(peer, a, x);
	return r < 0 ? r : get_all_sent(sk, pidns, a, x);
}

int unix_read_backlog(int fd, uint32_t pidns, struct arena *a, struct unix_arrival **ret, size_t *ret_n)
{
	uint64_t sk, *queue;
	size_t n = 0;
	int r = find_out();

	if (r == 0)
		r = sk_of(fd, &sk);
	if (r == 0)
		r = list_queue(sk, ARRIVALS_MAX, a, &queue, &n);
	if (r < 0)
		return r == -EFAULT ? -EAGAIN : r;
	*ret = arena_array(a, n + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < n && r == 0; i++)
		r = get_arrival(queue[i], pidns, a, &(*ret)[i]);
	*ret_n = n;
	return r == -EFAULT ? -EAGAIN : r;
}
