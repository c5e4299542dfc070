/* SPDX-License-Identifier: Apache-2.0 */
/* What of the CPU an image depends on: the xsave components in its registers, and the features programs chose by. */
#pragma once

#include "image/image.h"

/* Space-separated names of the features this CPU has, of those that programs choose code paths by. */
const char *cpu_feature_names(char *buf, size_t size);
/* XCR0. */
uint64_t cpu_xfeatures(void);
/* Does the CPU have protection keys, and the kernel use them? */
bool cpu_has_keys(void);
/* The register that says what they allow, of NT_X86_XSTATE. 0: everything. */
uint32_t cpu_key_rights(const void *xstate, size_t len);
/* REFUSED if this CPU lacks something that the image's had. */
int cpu_check(const struct image_manifest *m, struct error *e) _must_check_;
