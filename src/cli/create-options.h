/* SPDX-License-Identifier: Apache-2.0 */
/* The options that create, run and restore share. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

struct create_options {
	const char *bundle, *config, *pid_file, *console_socket, *pidfd_socket;
	const char *sandbox, *name;
	int preserve_fds;
	bool no_pivot, no_new_keyring;
};

/* clang-format off */
#define CREATE_OPTIONS(type, member)                                                                         \
	{"bundle", 'b', CLI_STRING, offsetof(type, member.bundle), "DIR",                                    \
		"the bundle's directory (default: .)"},                                                      \
	{"pid-file", 0, CLI_STRING, offsetof(type, member.pid_file), "FILE",                                 \
		"write the pid of the container there"},                                                     \
	{"console-socket", 0, CLI_STRING, offsetof(type, member.console_socket), "SOCKET",                   \
		"unix socket that gets the master of the container's terminal"},                             \
	{"pidfd-socket", 0, CLI_STRING, offsetof(type, member.pidfd_socket), "SOCKET",                       \
		"unix socket that gets a pidfd of the container's first process"},                           \
	{"preserve-fds", 0, CLI_NUMBER, offsetof(type, member.preserve_fds), "N",                            \
		"pass N more descriptors than 0-2"},                                                         \
	{"sandbox", 0, CLI_STRING, offsetof(type, member.sandbox), "ID",                                     \
		"the sandbox that it joins (default: what annotations say)"},                                \
	{"container-name", 0, CLI_STRING, offsetof(type, member.name), "NAME",                               \
		"its name there (default: what annotations say, or ID)"},                                    \
	{"no-pivot", 0, CLI_FLAG, offsetof(type, member.no_pivot), NULL,                                     \
		"move the root instead of pivot_root"},                                                      \
	{"no-new-keyring", 0, CLI_FLAG, offsetof(type, member.no_new_keyring), NULL,                         \
		"keep the caller's session keyring"}
/* Not of restore: an image belongs to the bundle's own. */
#define CONFIG_OPTION(type, member)                                                                          \
	{"config", 'f', CLI_STRING, offsetof(type, member.config), "FILE",                                   \
		"the configuration, instead of config.json in the bundle"}
/* clang-format on */

static inline enum cgroup_manager cli_cgroup_manager(const struct cli_globals *g)
{
	const char *name = g->cgroup_manager ? g->cgroup_manager : "";

	if (strcmp(name, "disabled") == 0)
		return CGROUP_DISABLED;
	return g->systemd_cgroup || strcmp(name, "systemd") == 0 ? CGROUP_SYSTEMD : CGROUP_FS;
}

static inline int create_options_for(const struct cli_globals *g, const struct create_options *o,
	const char *id, struct container_create_options *ret, struct error *e)
{
	*ret = (struct container_create_options){
		.root = g->root,
		.id = id,
		.bundle = o->bundle ? o->bundle : ".",
		.config = o->config,
		.pid_file = o->pid_file,
		.console_socket = o->console_socket && *o->console_socket ? o->console_socket : NULL,
		.pidfd_socket = o->pidfd_socket && *o->pidfd_socket ? o->pidfd_socket : NULL,
		.sandbox = o->sandbox && *o->sandbox ? o->sandbox : NULL,
		.name = o->name && *o->name ? o->name : NULL,
		.notify = getenv("NOTIFY_SOCKET") != NULL,
		.preserve_fds = o->preserve_fds,
		.no_pivot = o->no_pivot,
		.no_new_keyring = o->no_new_keyring,
		.rootless = cli_is_rootless(g),
		.cgroup_manager = cli_cgroup_manager(g),
	};
	if (cli_listen_fds(&ret->listen_fds, e) < 0 ||
		cli_check_preserved(3 + ret->listen_fds.n, o->preserve_fds, e) < 0)
		return e->code;
	ret->preserve_fds += ret->listen_fds.n;
	return 0;
}
