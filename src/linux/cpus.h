/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUs that the machine may ever have: for so many the kernel has what it keeps of each CPU. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Their number; 0: not known. *ret_in_a_row (NULL: not wanted): their numbers are 0 to n - 1. */
uint32_t cpus_possible(bool *ret_in_a_row);
