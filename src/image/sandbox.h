/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image of a sandbox: a directory with a manifest.json of its own (the last file that is written), and for each
 * container that ran a directory containers/NAME: an image like any other, and the container's config.json. NAME is the
 * container's name in the sandbox.
 */
#pragma once

#include "image/image.h"

#define IMAGE_CONTAINERS "containers"
#define IMAGE_CONFIG "config.json" /* of a container, beside its image */

struct image_sandbox_member {
	const char *name, *id; /* the id that it had */
	uint64_t generation;
	uint64_t checksum; /* of its image's manifest.json, as image_manifest.checksum */
};

/* What the manifest says. Strings are the arena's. */
struct image_sandbox {
	struct arena arena;
	const char *id; /* that it had */
	const char *stasis_version, *architecture, *kernel;
	unsigned page_size;
	const char *created; /* RFC 3339 */
	uint64_t
		stopped_us; /* from the first container that stood still to the last one that ran on, or was read */
	uint64_t total_us;
	struct image_sandbox_member
		*members; /* container_count; names and ids are valid ones, and no two are the same */
	size_t n_members;
	uint64_t checksum; /* of this manifest; by the reader */
};

/* Is there the image of a sandbox, whole or damaged? False also for one of a container, and for none at all. */
bool image_is_sandbox(int dirfd);
/* Reads and checks the manifest. -ENOENT, ERROR_STATE: there is none. Of a container: ERROR_USAGE. */
int image_sandbox_open(int dirfd, struct image_sandbox **ret, struct error *e) _must_check_;
void image_sandbox_free(struct image_sandbox *s);
const struct image_sandbox_member *image_sandbox_find(const struct image_sandbox *s, const char *name);
/* The names, separated by ", ", for messages. */
void image_sandbox_names(const struct image_sandbox *s, char *buf, size_t size);
/* The directory of a member's image, or -1: *e says why. Whoever reads that image holds its manifest's checksum against
 * m->checksum. */
int image_sandbox_directory(int dirfd, const struct image_sandbox_member *m, struct error *e) _must_check_;

/* Opens a member's image, and checks that it is the one that the manifest means; ERROR_CORRUPT. */
int image_sandbox_open_member(image_open_fn *open_image, int dirfd, const struct image_sandbox_member *m,
	struct image **ret, struct error *e) _must_check_;

/* All of it, each image checked against the manifest. */
struct image_whole {
	struct image_sandbox *sandbox;
	struct image **images; /* of each member */
};
int image_whole_open(
	image_open_fn *open_image, int dirfd, struct image_whole *ret, struct error *e) _must_check_;
void image_whole_done(struct image_whole *w);
/* All page data as well, and that each container has its config.json. */
int image_whole_verify(const struct image_whole *w, int dirfd, struct error *e) _must_check_;

/* By who makes one. The members' directories, made anew; then, with all of them complete, the manifest. */
int image_sandbox_make_directory(int dirfd, const char *name, struct error *e) _must_check_;
int image_sandbox_commit(int dirfd, const struct image_sandbox *s, struct error *e) _must_check_;
/* The checksum of the manifest in a complete image of a container. */
int image_read_checksum(int dirfd, uint64_t *ret, struct error *e) _must_check_;
/* Removes one member's image, finished or not; the last one takes the folder of all with it. */
void image_sandbox_remove_member(int dirfd, const char *name);

/* Names become names of directories. */
bool image_sandbox_is_name(const char *s);

/* sandbox-stream.c: all of it as one stream (docs/formats/stream.md), and back, into an empty directory. The unpacking one
 * takes streams of a container as well. */
struct image_sandbox_out {
	int fd; /* as of image_out_new() (stream.h), likewise the next two; -EBADF, 0: nobody cancels, it waits for ever */
	int cancel_fd;
	unsigned stall_s;
	struct image_packing packing; /* go_on is asked before each frame */
};
int image_sandbox_pack(image_open_fn *open_image, int dirfd, const struct image_sandbox_out *to,
	struct error *e) _must_check_;
int image_unpack(image_open_fn *open_image, int fd, int dirfd, struct error *e) _must_check_;

/* The text of a manifest: for fuzzing and tests. */
int image_sandbox_parse(
	const char *text, size_t len, struct image_sandbox **ret, struct error *e) _must_check_;

static inline void image_sandbox_free_p(struct image_sandbox **s)
{
	image_sandbox_free(*s);
}
