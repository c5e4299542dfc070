/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled seccomp filters, kept below the state root: libseccomp needs milliseconds for a default profile, which is more
 * than all the rest of a create.
 *
 * A file holds the whole key beside the program, and the key is compared byte by byte: the hash in the file's name only
 * finds it, so that nobody can make a profile that gets another one's filter. The key is everything that the program
 * depends on: the profile as parsed, libseccomp's version, the kernel (which says what actions it has) and our own
 * form. What is found is used only if the directory and the file are ours alone (owner, mode, no link) and the checksum
 * holds; else the filter is compiled as if there were no cache. The cache is never an error.
 */
#include <dirent.h>
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"

/* No container can be called so: ':' is not in an id. */
#define CACHE_DIR ".seccomp:cache"
#define MAGIC "stasis seccomp 1"

enum { KEY_MAX = 1 << 20, ENTRIES_MAX = 64 };

struct header {
	char magic[16];
	uint32_t key_len;
	uint32_t instructions;
	uint64_t checksum; /* of all that follows */
};
_Static_assert(offsetof(struct header, checksum) == SECCOMP_CACHE_CHECKSUM, "the fuzz target puts it right");

/* FNV-1a: finds files and damage; it protects from nobody. */
uint64_t seccomp_cache_hash(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

static void put_number(FILE *f, uint64_t n)
{
	fwrite(&n, sizeof(n), 1, f);
}

/* Counted, so that no two lists have the same bytes. */
static void put_strings(FILE *f, char **list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	put_number(f, n);
	for (size_t i = 0; i < n; i++)
		fwrite(list[i], strlen(list[i]) + 1, 1, f);
}

static int make_key(const struct spec_seccomp *s, char **ret, size_t *ret_len)
{
	const struct scmp_version *v = seccomp_version();
	struct utsname u;
	FILE *f;
	bool ok;

	if (!v || uname(&u) < 0)
		return -ENOTSUP;
	f = open_memstream(ret, ret_len);
	if (!f)
		return -ENOMEM;
	fprintf(f, "%u.%u.%u %s %s %s %d", v->major, v->minor, v->micro, u.release, u.version, u.machine,
		SECCOMP_FORM);
	put_number(f, s->default_action);
	put_strings(f, s->architectures);
	put_number(f, s->n_rules);
	for (size_t i = 0; i < s->n_rules; i++) {
		const struct spec_seccomp_rule *r = &s->rules[i];

		put_strings(f, r->names);
		put_number(f, r->action);
		put_number(f, r->n_args);
		for (size_t k = 0; k < r->n_args; k++) {
			put_number(f, r->args[k].index);
			put_number(f, r->args[k].op);
			put_number(f, r->args[k].value);
			put_number(f, r->args[k].value_two);
		}
	}
	ok = !ferror(f);
	if (fclose(f) == 0 && ok && *ret_len <= KEY_MAX)
		return 0;
	free(*ret);
	*ret = NULL;
	return -ENOMEM;
}

/* Nobody else can have written it: the type, our own, no other name, no rights for others. */
static bool ours_alone(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type && st.st_uid == geteuid() &&
	       !(st.st_mode & 077) && (type == S_IFDIR || st.st_nlink == 1);
}

static int open_dir(int state_dir, bool make)
{
	_cleanup_close_ int dir = -EBADF;

	if (make && mkdirat(state_dir, "../" CACHE_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	dir = openat(state_dir, "../" CACHE_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	return ours_alone(dir, S_IFDIR) ? take_fd(&dir) : -EPERM;
}

int seccomp_cache_parse(const char *data, size_t len, const char *key, size_t key_len, struct sock_fprog *ret)
{
	struct header h;
	size_t size;

	if (len < sizeof(h))
		return -EBADMSG;
	memcpy(&h, data, sizeof(h));
	data += sizeof(h);
	len -= sizeof(h);
	if (memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 || h.instructions == 0 ||
		h.instructions > SECCOMP_INSTRUCTIONS_MAX)
		return -EBADMSG;
	size = h.instructions * sizeof(struct sock_filter);
	if (len != h.key_len + size || seccomp_cache_hash(data, len) != h.checksum)
		return -EBADMSG;
	if (h.key_len != key_len || memcmp(data, key, key_len) != 0)
		return -ENOENT; /* another profile with the same hash */
	ret->filter = malloc(size);
	if (!ret->filter)
		return -ENOMEM;
	memcpy(ret->filter, data + key_len, size);
	ret->len = h.instructions;
	return 0;
}

static int look_up(int state_dir, const char *name, const char *key, size_t key_len, struct sock_fprog *ret)
{
	_cleanup_close_ int dir = open_dir(state_dir, false), fd = -EBADF;
	_cleanup_free_ char *data = NULL;
	struct stat st;
	int r;

	if (dir < 0)
		return dir;
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!ours_alone(fd, S_IFREG) || fstat(fd, &st) < 0)
		return -EPERM;
	if ((size_t)st.st_size >
		KEY_MAX + sizeof(struct header) + SECCOMP_INSTRUCTIONS_MAX * sizeof(struct sock_filter))
		return -EFBIG;
	data = malloc(MAX(st.st_size, 1));
	if (!data)
		return -ENOMEM;
	r = pread_exact(fd, data, st.st_size, 0);
	return r < 0 ? r : seccomp_cache_parse(data, st.st_size, key, key_len, ret);
}

/* There are as many profiles as a host's configuration has. Who makes a new one for every container starts anew. */
static void make_room(int dir)
{
	_cleanup_close_ int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *ent;
	size_t n = 0;

	if (!list)
		return;
	copy = -EBADF;
	while (readdir(list))
		n++;
	rewinddir(list);
	while (n >= ENTRIES_MAX + 2 && (ent = readdir(list)))
		if (ent->d_name[0] != '.')
			unlinkat(dir, ent->d_name, 0);
	closedir(list);
}

static int store(
	int state_dir, const char *name, const char *key, size_t key_len, const struct sock_fprog *program)
{
	size_t code = program->len * sizeof(struct sock_filter), len = sizeof(struct header) + key_len + code;
	_cleanup_close_ int dir = open_dir(state_dir, true);
	_cleanup_free_ char *data = malloc(len);
	struct header h = {.key_len = key_len, .instructions = program->len};

	if (dir < 0)
		return dir;
	if (!data)
		return -ENOMEM;
	memcpy(data + sizeof(h), key, key_len);
	memcpy(data + sizeof(h) + key_len, program->filter, code);
	memcpy(h.magic, MAGIC, sizeof(h.magic));
	h.checksum = seccomp_cache_hash(data + sizeof(h), len - sizeof(h));
	memcpy(data, &h, sizeof(h));
	make_room(dir);
	return write_file_replace_at(dir, name, data, len, 0600);
}

int seccomp_program(int state_dir, const struct spec_seccomp *s, struct sock_fprog *program, struct error *e)
{
	_cleanup_free_ char *key = NULL;
	size_t key_len = 0;
	char name[24];
	int r;

	r = make_key(s, &key, &key_len);
	if (r == 0) {
		snprintf(name, sizeof(name), "%016llx", (unsigned long long)seccomp_cache_hash(key, key_len));
		r = look_up(state_dir, name, key, key_len, program);
		if (r == 0)
			return 0;
		if (r != -ENOENT)
			log_debug("seccomp: the kept filter is not used: %s", strerror(-r));
	}
	r = seccomp_compile(s, program, e);
	if (r < 0 || !key)
		return r;
	r = store(state_dir, name, key, key_len, program);
	if (r < 0)
		log_debug("seccomp: the filter is not kept: %s", strerror(-r));
	return 0;
}
