/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's parser: the four ways to write an option, and every way to get it wrong. */
#include <signal.h>
#include <string.h>

#include "cli/cli.h"
#include "tap.h"

/* options.c prints the help from these; here there is none. */
const struct cli_command *const cli_commands[] = {NULL};
const struct cli_option cli_global_options[] = {{NULL}};

struct values {
	const char *string;
	int number;
	bool flag, other;
	struct cli_list list;
};

static const struct cli_option table[] = {
	{"string", 's', CLI_STRING, offsetof(struct values, string), "S", NULL},
	{"number", 'n', CLI_NUMBER, offsetof(struct values, number), "N", NULL},
	{"flag", 'f', CLI_FLAG, offsetof(struct values, flag), NULL, NULL},
	{"other", 'o', CLI_FLAG, offsetof(struct values, other), NULL, NULL},
	{"list", 'l', CLI_LIST, offsetof(struct values, list), "L", NULL},
	{"ignored", 0, CLI_IGNORED_STRING, 0, "X", NULL},
	{NULL},
};

enum { MAX_WORDS = 200 };

static struct values v;
static struct error e;
static char *rest[MAX_WORDS];
static int n_rest;

static int parse_words(bool options_first, int n, const char *const *words)
{
	cli_done(table, &v);
	v = (struct values){0};
	e = (struct error){0};
	n_rest = -1;
	return cli_parse(table, options_first, n, (char **)words, &v, rest, &n_rest, &e);
}

#define PARSE(first, ...)                                                                                    \
	({                                                                                                   \
		const char *const _words[] = {__VA_ARGS__};                                                  \
		parse_words(first, ARRAY_SIZE(_words), _words);                                              \
	})

static void test_forms(void)
{
	CHECK(PARSE(false, "--string", "a", "id") == 0 && !strcmp(v.string, "a") && n_rest == 1);
	CHECK(PARSE(false, "--string=b", "id") == 0 && !strcmp(v.string, "b"));
	CHECK(PARSE(false, "-string", "c") == 0 && !strcmp(v.string, "c") && n_rest == 0);
	CHECK(PARSE(false, "-string=d=e") == 0 && !strcmp(v.string, "d=e"));
	CHECK(PARSE(false, "-s", "--flag") == 0 && !strcmp(v.string, "--flag") && !v.flag);
	CHECK(PARSE(false, "-fo") == 0 && v.flag && v.other);
	CHECK(PARSE(false, "--flag=false", "--other=1") == 0 && !v.flag && v.other);
	CHECK(PARSE(false, "-l", "a", "--list=b") == 0 && v.list.n == 2 && !strcmp(v.list.v[1], "b"));
	CHECK(PARSE(false, "--ignored", "x", "-f") == 0 && v.flag && n_rest == 0);
	CHECK(PARSE(false, "--flag", "--flag") == 0 && v.flag);
	CHECK(PARSE(false, "--help") == 1);
	CHECK(PARSE(false, "id", "-h") == 1);
}

static void test_order(void)
{
	CHECK(PARSE(false, "id", "--flag", "x") == 0 && v.flag && n_rest == 2 && !strcmp(rest[1], "x") &&
		!rest[2]);
	CHECK(PARSE(true, "--flag", "id", "--other", "-z") == 0 && v.flag && !v.other && n_rest == 3);
	CHECK(PARSE(true, "id", "--", "-z") == 0 && n_rest == 3 && !strcmp(rest[1], "--"));
	CHECK(PARSE(false, "--", "--flag") == 0 && !v.flag && n_rest == 1);
	CHECK(PARSE(false, "-") == 0 && n_rest == 1);
}

static void test_errors(void)
{
	char *many[MAX_WORDS];

	CHECK(PARSE(false, "--zork", "a") == -EINVAL && strstr(e.message, "not defined: -zork") &&
		e.kind == ERROR_USAGE);
	CHECK(PARSE(false, "-fz") == -EINVAL && strstr(e.message, "-fz"));
	CHECK(PARSE(false, "id", "--string") == -EINVAL &&
		strstr(e.message, "flag needs an argument: -string"));
	CHECK(PARSE(false, "--number", "-1") == -EINVAL);
	CHECK(PARSE(false, "--number=99999999999") == -EINVAL);
	CHECK(PARSE(false, "--number=") == -EINVAL);
	CHECK(PARSE(false, "--number=1x") == -EINVAL);
	CHECK(PARSE(false, "--flag=maybe") == -EINVAL);
	for (int i = 0; i < 2 * 65; i += 2) {
		many[i] = (char *)"-l";
		many[i + 1] = (char *)"x";
	}
	CHECK(parse_words(false, 2 * 65, (const char *const *)many) == 0 && v.list.n == 65);
	CHECK(!strcmp(v.list.v[0], "x") && !strcmp(v.list.v[64], "x"));
}

static void test_signals(void)
{
	CHECK(cli_parse_signal("KILL", &e) == SIGKILL);
	CHECK(cli_parse_signal("sigterm", &e) == SIGTERM);
	CHECK(cli_parse_signal("15", &e) == 15);
	CHECK(cli_parse_signal("RTMIN+3", &e) == SIGRTMIN + 3);
	CHECK(cli_parse_signal("SIGRTMAX-2", &e) == SIGRTMAX - 2);
	CHECK(cli_parse_signal("rtmax", &e) == SIGRTMAX);
	CHECK(cli_parse_signal("0", &e) == 0);
	CHECK(cli_parse_signal("65", &e) == -EINVAL);
	CHECK(cli_parse_signal("-9", &e) == -EINVAL);
	CHECK(cli_parse_signal("", &e) == -EINVAL);
	CHECK(cli_parse_signal("SIG", &e) == -EINVAL);
	CHECK(cli_parse_signal("RTMIN+99", &e) == -EINVAL);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"every form of an option", test_forms},
		{"options and arguments in any order", test_order},
		{"errors name the option", test_errors},
		{"signals by name and number", test_signals},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
