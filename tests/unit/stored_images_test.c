/* SPDX-License-Identifier: Apache-2.0 */
/* Images of all format versions that were ever released stay readable: stored_images_test tests/images/stored */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "image/inspect.h"
#include "tap.h"

static const char *folder;

/* Each line of "expect" that is not empty and no comment stands in the text. */
static void check_lines(const char *version, char *expect, const char *text)
{
	unsigned n = 0;
	char *line;

	while ((line = strsep(&expect, "\n"))) {
		if (!*line || *line == '#')
			continue;
		CHECK(strstr(text, line), "%s: no \"%s\"", version, line);
		n++;
	}
	CHECK(n > 0, "%s: expect is empty", version);
}

static void check_image(int dirfd, const char *version)
{
	_cleanup_close_ int fd = openat(dirfd, version, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *expect = NULL, *text = NULL;
	_cleanup_(image_free_p) struct image *i = NULL;
	struct error e;
	size_t size;
	FILE *out;

	if (!CHECK(fd >= 0) || !CHECK(image_open(fd, &i, &e) == 0, "%s: %s", version, e.message))
		return;
	CHECK(image_verify_pages(i, &e) == 0, "%s: %s", version, e.message);
	out = open_memstream(&text, &size);
	CHECK(image_inspect(i, IMAGE_INSPECT_TEXT, out, &e) == 0, "%s: %s", version, e.message);
	fclose(out);
	if (CHECK(read_file_at(fd, "expect", 1 << 20, &expect, NULL) == 0))
		check_lines(version, expect, text);
}

static void test_stored(void)
{
	DIR *d = opendir(folder);
	struct dirent *ent;
	unsigned n = 0;

	if (!CHECK(d != NULL, "%s", folder))
		return;
	while ((ent = readdir(d))) {
		if (ent->d_name[0] == '.')
			continue;
		check_image(dirfd(d), ent->d_name);
		n++;
	}
	closedir(d);
	CHECK(n >= IMAGE_FORMAT_VERSION, "an image of each version");
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {{"stored images are readable", test_stored}};

	folder = argc > 1 ? argv[1] : "tests/images/stored";
	return tap_main(tests, ARRAY_SIZE(tests));
}
