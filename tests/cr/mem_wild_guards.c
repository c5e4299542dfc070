/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all seed=1 seconds=120 modes=once,cycles,running,again,lazy,packed,userns */
/* As mem_wild.c, with guard regions that come and go. */
#define GUARDS 1
#include "mem_wild.c"
