/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing by table. Long options may have one dash or two, and their value after "=" or as the next word, because the
 * callers of OCI runtimes write all four (docs: interfaces of podman, containerd). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"

int cli_parse_number(const char *s, uint64_t max, uint64_t *ret)
{
	unsigned long long v;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

int cli_parse_watchdog(const char *option, const char *text, unsigned *ret, struct error *e)
{
	uint64_t n = 0;

	if (text && cli_parse_number(text, 1000000, &n) < 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"invalid --%s \"%.40s\": seconds are needed, up to 1000000 (0: never)", option, text);
	*ret = !text ? 0 : n ? (unsigned)n : UINT32_MAX;
	return 0;
}

int cli_parse_moment(const char *option, const char *s, unsigned *ret_ms, struct error *e)
{
	char number[16];
	size_t len = s ? strlen(s) : 0;
	bool is_ms = len > 2 && !strcmp(s + len - 2, "ms");
	uint64_t n = 0;

	if (!s)
		return 0;
	snprintf(number, sizeof(number), "%.*s", (int)(is_ms ? len - 2 : len), s);
	if (len > 12 || cli_parse_number(number, is_ms ? 86400000 : 86400, &n) < 0 || n == 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"invalid --%s \"%.40s\": a number of seconds, or of milliseconds as in 500ms", option,
			s);
	*ret_ms = is_ms ? n : n * 1000;
	return 0;
}

int cli_parse_signal(const char *s, struct error *e)
{
	const char *name = s;
	uint64_t n;

	if (cli_parse_number(s, NSIG - 1, &n) == 0) /* 0: only asks whether it is there */
		return n;
	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	for (int sig = 1; sig < NSIG; sig++) {
		const char *known = sigabbrev_np(sig);

		if (known && !strcasecmp(known, name))
			return sig;
	}
	n = 0;
	if (!strncasecmp(name, "RTMIN", 5) &&
		(!name[5] || (name[5] == '+' && cli_parse_number(name + 6, SIGRTMAX - SIGRTMIN, &n) == 0)))
		return SIGRTMIN + (int)n;
	if (!strncasecmp(name, "RTMAX", 5) &&
		(!name[5] || (name[5] == '-' && cli_parse_number(name + 6, SIGRTMAX - SIGRTMIN, &n) == 0)))
		return SIGRTMAX - (int)n;
	return error_set(e, -EINVAL, ERROR_USAGE, "unknown signal \"%s\"", s);
}

static const struct cli_option *find(const struct cli_option *options, const char *word, size_t len)
{
	for (const struct cli_option *o = options; o->name; o++) {
		if (strlen(o->name) == len && !strncmp(o->name, word, len))
			return o;
		if (len == 1 && o->letter && o->letter == *word)
			return o;
	}
	return NULL;
}

int cli_parse_bool(const char *s, bool *ret)
{
	if (!strcasecmp(s, "true") || !strcmp(s, "1") || !strcasecmp(s, "t"))
		*ret = true;
	else if (!strcasecmp(s, "false") || !strcmp(s, "0") || !strcasecmp(s, "f"))
		*ret = false;
	else
		return -EINVAL;
	return 0;
}

static int add_to_list(struct cli_list *list, const char *value)
{
	/* room for the next power of two */
	if ((list->n & (list->n - 1)) == 0) {
		const char **more = reallocarray(list->v, list->n ? list->n * 2 : 1, sizeof(*more));

		if (!more)
			return -ENOMEM;
		list->v = more;
	}
	list->v[list->n++] = value;
	return 0;
}

static int store(const struct cli_option *o, const char *value, void *out, struct error *e)
{
	void *to = (char *)out + o->offset;
	struct cli_list *list = to;
	uint64_t n;

	switch (o->kind) {
	case CLI_FLAG:
		*(bool *)to = true;
		if (value && cli_parse_bool(value, to) < 0)
			return error_set(e, -EINVAL, ERROR_USAGE, "invalid boolean value \"%s\" for -%s",
				value, o->name);
		return 0;
	case CLI_STRING:
	case CLI_MODE:
		*(const char **)to = value ? value : "yes";
		return 0;
	case CLI_NUMBER:
		if (cli_parse_number(value, INT32_MAX, &n) < 0)
			return error_set(
				e, -EINVAL, ERROR_USAGE, "invalid value \"%s\" for flag -%s", value, o->name);
		*(int *)to = n;
		return 0;
	case CLI_LIST:
		return add_to_list(list, value) < 0 ? error_errno(e, -ENOMEM, "-%s", o->name) : 0;
	default:
		return 0;
	}
}

static bool is_flag(const struct cli_option *o)
{
	return o->kind == CLI_FLAG || o->kind == CLI_IGNORED_FLAG || o->kind == CLI_MODE;
}

/* One word that begins with a dash; *i moves on when it takes the next word as its value. 1: --help. */
static int parse_option(
	const struct cli_option *options, char **argv, int argc, int *i, void *out, struct error *e)
{
	const char *word = argv[*i] + (argv[*i][1] == '-' ? 2 : 1), *value = strchr(word, '=');
	size_t len = value ? (size_t)(value - word) : strlen(word);
	const struct cli_option *o = find(options, word, len);

	if (value)
		value++;
	if (!o && (!strcmp(word, "help") || !strcmp(word, "h")))
		return 1;
	if (!o)
		return error_set(
			e, -EINVAL, ERROR_USAGE, "flag provided but not defined: -%.*s", (int)len, word);
	if (!is_flag(o) && !value) {
		if (*i + 1 >= argc)
			return error_set(e, -EINVAL, ERROR_USAGE, "flag needs an argument: -%s", o->name);
		value = argv[++*i];
	}
	return store(o, value, out, e);
}

/* "-it": letters of flags in one word. */
static bool is_letters(const struct cli_option *options, const char *word)
{
	if (word[1] == '-' || strlen(word) < 3 || find(options, word + 1, strcspn(word + 1, "=")))
		return false;
	for (const char *p = word + 1; *p; p++) {
		const struct cli_option *o = find(options, p, 1);

		if (!o || o->letter != *p || !is_flag(o))
			return false;
	}
	return true;
}

int cli_parse(const struct cli_option *options, bool options_first, int argc, char **argv, void *out,
	char **ret_args, int *ret_n, struct error *e)
{
	int n = 0;

	for (int i = 0; i < argc; i++) {
		int r = 0;

		if (!strcmp(argv[i], "--") || (options_first && n > 0)) {
			i += !strcmp(argv[i], "--") && !(options_first && n > 0);
			while (i < argc)
				ret_args[n++] = argv[i++];
			break;
		}
		if (argv[i][0] != '-' || !argv[i][1])
			ret_args[n++] = argv[i];
		else if (is_letters(options, argv[i]))
			for (const char *p = argv[i] + 1; *p && r == 0; p++)
				r = store(find(options, p, 1), NULL, out, e);
		else
			r = parse_option(options, argv, argc, &i, out, e);
		if (r != 0)
			return r;
	}
	ret_args[n] = NULL;
	*ret_n = n;
	return 0;
}

void cli_done(const struct cli_option *options, void *out)
{
	for (const struct cli_option *o = options; o->name; o++)
		if (o->kind == CLI_LIST) {
			struct cli_list *list = (void *)((char *)out + o->offset);

			free(list->v);
			*list = (struct cli_list){0};
		}
}

static void print_options(const struct cli_option *options)
{
	for (const struct cli_option *o = options; o && o->name; o++) {
		char left[80], letter[8] = "    ";

		if (o->kind == CLI_IGNORED_FLAG || o->kind == CLI_IGNORED_STRING)
			continue;
		if (o->letter)
			snprintf(letter, sizeof(letter), "-%c, ", o->letter);
		snprintf(left, sizeof(left), o->kind == CLI_MODE ? "%s--%s%s[=%s]" : "%s--%s%s%s", letter,
			o->name, o->argument && o->kind != CLI_MODE ? " " : "",
			o->argument ? o->argument : "");
		printf("   %-34s %s\n", left, o->help ? o->help : "");
	}
	printf("   %-34s %s\n", "-h, --help", "show help");
}

void cli_print_help(const struct cli_command *c)
{
	printf("NAME:\n   stasis %s - %s\n\nUSAGE:\n   stasis %s [options] %s\n\nOPTIONS:\n", c->name,
		c->summary, c->name, c->arguments);
	print_options(c->options);
}

void cli_print_global_help(void)
{
	printf("NAME:\n   stasis - run, checkpoint and restore OCI containers\n\n"
	       "USAGE:\n   stasis [global options] COMMAND [options] [arguments...]\n\nVERSION:\n  "
	       " " STASIS_VERSION "\n\nCOMMANDS:\n");
	for (size_t i = 0; cli_commands[i]; i++)
		if (!cli_commands[i]->hidden)
			printf("   %-12s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	printf("\nGLOBAL OPTIONS:\n");
	print_options(cli_global_options);
}
