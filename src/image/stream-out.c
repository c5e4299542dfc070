/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writing end of a stream: frames with checksums into a descriptor whose reader may be slow, stand still, or go.
 *
 * Invariants: a frame's checksum is seeded with that of the frame before it, so that none can be missing or in another
 * place. After an error nothing more is written: the stream has no end frame then, and is no checkpoint.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/fd.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"

/* What an unprivileged process may have at most (/proc/sys/fs/pipe-max-size). */
enum { PIPE_SIZE = 1 << 20, ONE_WRITE = 4096, DRAIN_POLL_MS = 5 };

struct image_out {
	int fd;	    /* borrowed */
	int own_fd; /* of the same pipe, but never blocking; -EBADF: none */
	int cancel_fd;
	unsigned stall_s;
	bool waits;  /* a pipe, socket or device: has to be asked whether it takes bytes */
	bool socket; /* takes flags with each write */
	bool failed;
	uint32_t version;
	uint64_t checksum, frames, bytes;
	uint8_t *held; /* not written yet: see image_out_hold() */
	size_t n_held, held_size, held_max;
	struct image_compressor *compressor;	  /* NULL: page data leaves as it is */
	int (*go_on)(void *arg, struct error *e); /* NULL: nobody is asked */
	void *go_on_arg;
};

int image_out_new(int fd, int cancel_fd, unsigned stall_s, struct image_out **ret, struct error *e)
{
	struct image_out *o;
	struct stat st;
	char path[48];

	if (fstat(fd, &st) < 0)
		return error_errno(e, -errno, "image stream");
	o = calloc(1, sizeof(*o));
	if (!o)
		return error_errno(e, -ENOMEM, "image stream");
	*o = (struct image_out){.fd = fd,
		.own_fd = -EBADF,
		.cancel_fd = cancel_fd,
		.stall_s = stall_s,
		.version = STREAM_VERSION_PLAIN};
	o->socket = S_ISSOCK(st.st_mode);
	o->waits = !S_ISREG(st.st_mode);
	if (S_ISFIFO(st.st_mode)) {
		/* Opened anew: O_NONBLOCK is of the open file description, and this one is also our caller's. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		o->own_fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		(void)!fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE); /* the fewer turns, the faster */
	}
	*ret = o;
	return 0;
}

void image_out_free(struct image_out *o)
{
	if (!o)
		return;
	image_compressor_free(o->compressor);
	close_p(&o->own_fd);
	free(o->held);
	free(o);
}

void image_out_ask(struct image_out *o, int (*go_on)(void *arg, struct error *e), void *arg)
{
	o->go_on = go_on;
	o->go_on_arg = arg;
}

static int fail(struct image_out *o, int r, struct error *e)
{
	o->failed = true;
	if (r == -EPIPE || r == -ECONNRESET)
		return error_set(e, r, ERROR_SYSTEM,
			"whoever reads the image stream has gone after %llu bytes: see why it ended, and "
			"repeat",
			(unsigned long long)o->bytes);
	return error_errno(e, r, "write the image stream (after %llu bytes)", (unsigned long long)o->bytes);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* Somebody holds the other end as long as we are wanted. */
static int check_cancelled(struct image_out *o, struct error *e)
{
	struct pollfd f = {.fd = o->cancel_fd};

	if (o->cancel_fd < 0 || poll(&f, 1, 0) <= 0 || !(f.revents & (POLLHUP | POLLERR)))
		return 0;
	o->failed = true;
	return error_set(e, -ECANCELED, ERROR_SYSTEM, "the checkpoint was cancelled: the container runs on");
}

static int stalled(struct image_out *o, struct error *e)
{
	o->failed = true;
	return error_set(e, -ETIMEDOUT, ERROR_SYSTEM,
		"whoever reads the image stream has taken nothing for %u s (%llu bytes are written): see "
		"what it "
		"waits for, or give it longer with --stream-timeout",
		o->stall_s, (unsigned long long)o->bytes);
}

/* Until there is room. */
static int wait_for_room(struct image_out *o, struct error *e)
{
	int64_t limit = now_ms() + o->stall_s * INT64_C(1000);

	for (;;) {
		struct pollfd f[2] = {{.fd = o->fd, .events = POLLOUT}, {.fd = o->cancel_fd}};
		int64_t left = o->stall_s ? MAX(limit - now_ms(), INT64_C(0)) : -1;
		int n = poll(f, 2, (int)MIN(left, (int64_t)INT32_MAX)), r = check_cancelled(o, e);

		if (r < 0)
			return r;
		if (n > 0 && f[0].revents)
			return 0;
		if (n == 0)
			return stalled(o, e);
		if (n < 0 && errno != EINTR)
			return fail(o, -errno, e);
	}
}

/* What it takes at once. */
static ssize_t write_some(struct image_out *o, struct iovec *v, int n)
{
	struct msghdr m = {.msg_iov = v, .msg_iovlen = n};
	struct pollfd f = {.fd = o->fd, .events = POLLOUT};

	if (o->socket)
		return sendmsg(o->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (o->own_fd >= 0)
		return writev(o->own_fd, v, n);
	if (!o->waits)
		return writev(o->fd, v, n);
	/* So much a pipe takes without blocking, if it takes anything. */
	if (poll(&f, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(o->fd, v->iov_base, MIN(v->iov_len, (size_t)ONE_WRITE));
}

static int put_now(struct image_out *o, struct iovec *v, int n, struct error *e)
{
	int r = o->failed ? error_set(e, -EPIPE, ERROR_INTERNAL, "the image stream has failed")
			  : check_cancelled(o, e);

	if (r == 0 && o->go_on)
		r = o->go_on(o->go_on_arg, e);

	while (n > 0 && r == 0) {
		ssize_t k = write_some(o, v, n);

		if (k < 0 && (errno == EAGAIN || errno == EINTR)) {
			r = wait_for_room(o, e);
			continue;
		}
		if (k < 0)
			return fail(o, -errno, e);
		o->bytes += k;
		while (n > 0 && (size_t)k >= v->iov_len) {
			k -= v->iov_len;
			v++;
			n--;
		}
		if (n > 0) {
			v->iov_base = (char *)v->iov_base + k;
			v->iov_len -= k;
		}
	}
	return r;
}

void image_out_hold(struct image_out *o, size_t max)
{
	o->held_max = max;
}

int image_out_let_go(struct image_out *o, struct error *e)
{
	struct iovec v = {o->held, o->n_held};
	int r = o->n_held ? put_now(o, &v, 1, e) : 0;

	free(o->held);
	o->held = NULL;
	o->n_held = o->held_size = o->held_max = 0;
	return r;
}

/* False: no room. */
static bool hold(struct image_out *o, const struct iovec *v, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += v[i].iov_len;
	if (o->n_held + len > o->held_max)
		return false;
	if (o->n_held + len > o->held_size) {
		size_t size = MIN(MAX(o->held_size * 2, o->n_held + len + (1 << 16)), o->held_max);
		uint8_t *more = realloc(o->held, size);

		if (!more)
			return false;
		o->held = more;
		o->held_size = size;
	}
	for (int i = 0; i < n; i++) {
		if (v[i].iov_len)
			memcpy(o->held + o->n_held, v[i].iov_base, v[i].iov_len);
		o->n_held += v[i].iov_len;
	}
	return true;
}

static int put(struct image_out *o, struct iovec *v, int n, struct error *e)
{
	int r = 0;

	if (o->held_max && hold(o, v, n))
		return 0;
	if (o->held_max)
		r = image_out_let_go(o, e);
	return r < 0 ? r : put_now(o, v, n, e);
}

/* What a frame is about, and the two parts of its payload. */
struct frame {
	uint32_t type, file;
	uint64_t at;
	const void *head, *data;
	size_t head_len, len;
};

static int put_frame(struct image_out *o, const struct frame *f, struct error *e)
{
	uint8_t header[STREAM_HEADER + STREAM_FRAME_HEADER], checksum[STREAM_CHECKSUM], *frame;
	struct iovec v[4];
	XXH3_state_t state;

	memcpy(header, stream_magic, sizeof(stream_magic));
	put_le32(header + 8, o->version);
	put_le32(header + 12, 0);
	frame = header + STREAM_HEADER;
	put_le32(frame, f->type);
	put_le32(frame + 4, f->file);
	put_le64(frame + 8, f->at);
	put_le64(frame + 16, f->head_len + f->len);
	XXH3_INITSTATE(&state);
	XXH3_64bits_reset_withSeed(&state, o->checksum);
	XXH3_64bits_update(&state, frame, STREAM_FRAME_HEADER);
	XXH3_64bits_update(&state, f->head, f->head_len);
	XXH3_64bits_update(&state, f->data, f->len);
	o->checksum = XXH3_64bits_digest(&state);
	put_le64(checksum, o->checksum);
	/* The stream's own header goes with the first frame: until there is one, nothing has been written. */
	v[0] = o->frames++ ? (struct iovec){frame, STREAM_FRAME_HEADER}
			   : (struct iovec){header, sizeof(header)};
	v[1] = (struct iovec){(void *)f->head, f->head_len};
	v[2] = (struct iovec){(void *)f->data, f->len};
	v[3] = (struct iovec){checksum, sizeof(checksum)};
	return put(o, v, ARRAY_SIZE(v), e);
}

static int put_compressed(void *arg, enum image_codec codec, uint64_t at, size_t len, const void *stored,
	size_t n, struct error *e)
{
	uint8_t head[STREAM_PACKED_HEADER];
	struct frame f = {STREAM_PIECE, IMAGE_STREAM_PAGES, at, .data = stored, .len = n};

	if (codec != IMAGE_CODEC_NONE) {
		put_le32(head, codec);
		put_le32(head + 4, (uint32_t)len);
		f.type = STREAM_PACKED;
		f.head = head;
		f.head_len = sizeof(head);
	}
	return put_frame(arg, &f, e);
}

int image_out_compress(struct image_out *o, const struct image_packing *how, struct error *e)
{
	if (how->codec == IMAGE_CODEC_NONE)
		return 0;
	o->version = STREAM_VERSION;
	return image_compressor_new(how, put_compressed, o, &o->compressor, e);
}

void image_out_forgets(struct image_out *o)
{
	o->version = STREAM_VERSION;
}

int image_out_forget(struct image_out *o, const struct image_range *ranges, size_t n, struct error *e)
{
	enum { MAX_RANGES = STREAM_PIECE_MAX / STREAM_RANGE };
	_cleanup_free_ uint8_t *payload = malloc(MIN(n + 1, (size_t)MAX_RANGES) * STREAM_RANGE);
	int r;

	if (!payload)
		return error_errno(e, -ENOMEM, "image stream");
	r = image_out_flush(o, e);
	for (size_t i = 0, k; i < n && r == 0; i += k) {
		struct frame f = {STREAM_FORGET, IMAGE_STREAM_PAGES, .data = payload};

		for (k = 0; k < MAX_RANGES && i + k < n; k++) {
			put_le64(payload + k * STREAM_RANGE, ranges[i + k].start);
			put_le64(payload + k * STREAM_RANGE + 8, ranges[i + k].end);
		}
		f.len = k * STREAM_RANGE;
		r = put_frame(o, &f, e);
	}
	return r;
}

int image_out_flush(struct image_out *o, struct error *e)
{
	return o->compressor ? image_compressor_flush(o->compressor, e) : 0;
}

int image_out_piece(struct image_out *o, enum image_stream_file file, uint64_t at, const void *data,
	size_t len, struct error *e)
{
	const uint8_t *p = data;
	size_t done = 0;
	int r;

	if (o->compressor && file == IMAGE_STREAM_PAGES && len > 0)
		return image_compressor_add(o->compressor, at, data, len, e);
	r = image_out_flush(o, e);
	while (r == 0) {
		size_t n = MIN(len - done, (size_t)STREAM_PIECE_MAX);
		struct frame f = {STREAM_PIECE, file, at + done, .data = p ? p + done : p, .len = n};

		r = put_frame(o, &f, e);
		done += n;
		if (done == len)
			break;
	}
	return r;
}

/* Bytes that the reader has not taken; 0 also where that cannot be asked. */
static int bytes_left(const struct image_out *o)
{
	int n = 0;

	return o->waits && ioctl(o->fd, o->socket ? SIOCOUTQ : FIONREAD, &n) == 0 ? n : 0;
}

int image_out_drain(struct image_out *o, struct error *e)
{
	int64_t limit = now_ms() + o->stall_s * INT64_C(1000);
	int left, before = 0, r = 0;

	while (r == 0 && (left = bytes_left(o)) > 0) {
		struct pollfd f = {.fd = o->fd};

		/* The reader may have taken the rest just before it closed its end. */
		if (poll(&f, 1, DRAIN_POLL_MS) > 0 && (f.revents & (POLLERR | POLLHUP))) {
			if (bytes_left(o) == 0)
				return 0;
			return fail(o, -EPIPE, e);
		}
		if (left != before)
			limit = now_ms() + o->stall_s * INT64_C(1000);
		else if (o->stall_s && now_ms() > limit)
			return stalled(o, e);
		before = left;
		r = check_cancelled(o, e);
	}
	return r;
}

int image_out_end(struct image_out *o, struct error *e)
{
	int r = image_out_flush(o, e);
	struct frame end = {STREAM_END, .at = o->frames};

	if (r == 0)
		r = put_frame(o, &end, e);
	return r < 0 ? r : image_out_drain(o, e);
}

int image_out_raw(struct image_out *o, const void *data, size_t len, struct error *e)
{
	struct iovec v = {(void *)data, len};

	return put_now(o, &v, 1, e);
}
