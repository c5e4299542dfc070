/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's heap, where every page that is touched for the first time costs a page fault. */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* What malloc() gives out next is there already, some "size" bytes (8 MiB at most); what is large (1 MiB) comes from elsewhere, and is not cleared
 * by touching it. For processes that do not live long: what they free stays theirs. */
void heap_prepare(size_t size);

/* The main thread's stack grows when it is used; where it may not, the program dies of SIGSEGV. So a limit of the stack that is too low is an
 * error here, and where the address space is limited, the stack grows now. */
int stack_prepare(struct error *e) _must_check_;
