/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of methods, each of which ends with an empty row. */
#pragma once

#include "sandbox/call.h"

extern const struct method state_methods[]; /* methods-state.c */
