/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/util.h"

/* The UTF-8 character at the beginning of s: its length in bytes (1 to 4) and its code point; 0 if there is none (no
 * UTF-8, an overlong form, a surrogate, not complete within len). */
size_t utf8_decode(const void *s, size_t len, uint32_t *ret);
