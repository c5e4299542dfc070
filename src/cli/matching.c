/* SPDX-License-Identifier: Apache-2.0 */
/* delete and kill with --regex, as crun has it: the argument stands for every container whose id it matches. */
#include <dirent.h>
#include <errno.h>
#include <regex.h>

#include "base/log.h"
#include "cli/cli.h"

static int for_each(const regex_t *regex, const char *root,
	int (*f)(const char *id, void *arg, struct error *e), void *arg, struct error *e)
{
	struct dirent **names = NULL;
	int n = scandir(root, &names, NULL, alphasort), r = 0;

	if (n < 0)
		return errno == ENOENT ? 0 : error_errno(e, -errno, "read %s", root);
	for (int i = 0; i < n; i++) {
		const char *id = names[i]->d_name;
		struct error one = {0};

		/* the names in the directory that are no ids are none of containers */
		if (container_id_check(id, NULL) == 0 && regexec(regex, id, 0, NULL, 0) == 0 &&
			f(id, arg, &one) < 0) {
			/* the others are done all the same; the last error is our caller's */
			if (r < 0)
				log_error(e);
			r = one.code;
			*e = one;
		}
		free(names[i]);
	}
	free(names);
	return r;
}

int cli_for_matching(const char *root, const char *pattern,
	int (*f)(const char *id, void *arg, struct error *e), void *arg, struct error *e)
{
	char why[200];
	regex_t regex;
	int r = regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB);

	if (r != 0) {
		regerror(r, &regex, why, sizeof(why));
		return error_set(
			e, -EINVAL, ERROR_USAGE, "invalid regular expression \"%s\": %s", pattern, why);
	}
	r = for_each(&regex, root, f, arg, e);
	regfree(&regex);
	return r;
}
