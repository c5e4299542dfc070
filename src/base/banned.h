/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that the compiler refuses in this project (force-included by meson), after git's banned.h. */
#pragma once

#ifndef __ASSEMBLER__

#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <unistd.h>

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok atoi atol atoll gets mktemp tmpnam
/* They change all threads, and a child of clone_fork() takes its parent's for its own: linux/clone.h. */
#pragma GCC poison setuid setgid seteuid setegid setreuid setregid setresuid setresgid setgroups initgroups

#endif
