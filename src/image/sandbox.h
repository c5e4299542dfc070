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

/* By who makes one. The members' directories, made anew; then, with all of them complete, the manifest. */
int image_sandbox_make_directory(int dirfd, const char *name, struct error *e) _must_check_;
int image_sandbox_commit(int dirfd, const struct image_sandbox *s, struct error *e) _must_check_;
/* The checksum of the manifest in a complete image of a container. */
int image_read_checksum(int dirfd, uint64_t *ret, struct error *e) _must_check_;
/* Removes one member's image, finished or not; the last one takes the folder of all with it. */
void image_sandbox_remove_member(int dirfd, const char *name);

/* The text of a manifest: for fuzzing and tests. */
int image_sandbox_parse(
	const char *text, size_t len, struct image_sandbox **ret, struct error *e) _must_check_;

static inline void image_sandbox_free_p(struct image_sandbox **s)
{
	image_sandbox_free(*s);
}
