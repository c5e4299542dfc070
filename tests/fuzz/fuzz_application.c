/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target of the application's socket: a container's line, and what is said to it of an error; and of the annotations. */
#include "sandbox/application.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void answers(const char *text, size_t size)
{
	char line[APPLICATION_ANSWER_MAX];

	for (size_t room = 1; room <= sizeof(line); room = room < 8 ? room + 1 : room * 4) {
		application_clean(line, room, text);
		check(strlen(line) < room);
		for (const char *p = line; *p; p++)
			check((unsigned char)*p >= ' ' && *p != 0x7f);
	}
	if (application_explain(text, size, line, sizeof(line)) == 0)
		check(strlen(line) < sizeof(line) && !strchr(line, '\n'));
}

/* As the value of each annotation that is more than a word. */
static void annotations(const char *text)
{
	static const char *const names[] = {"io.stasis.hooks.save", "io.stasis.application.options",
		"io.stasis.application.interval", "io.stasis.application.image-path"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct spec_annotation one = {.name = (char *)names[i], .value = (char *)text};
		struct spec s = {.annotations = &one, .n_annotations = 1};
		_cleanup_(arena_done) struct arena a = {};
		struct application ret;
		struct error e;

		if (container_application(&s, &a, &ret, &e) == 0)
			check(ret.timeout > 0 && ret.interval > 0 && (!ret.hooks[0] || ret.hooks[0][0][0]));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size + 1);

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	copy[size] = '\0';
	if (application_parse(copy, size) == REQUEST_CHECKPOINT)
		check(size <= strlen("checkpoint\r"));
	answers(copy, strlen(copy));
	annotations(copy);
	free(copy);
	return 0;
}
