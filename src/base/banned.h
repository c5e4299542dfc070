/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that the compiler refuses in this project (force-included by meson), after git's banned.h. */
#pragma once

#ifndef __ASSEMBLER__

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok atoi atol atoll gets mktemp tmpnam

#endif
