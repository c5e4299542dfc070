/* SPDX-License-Identifier: Apache-2.0 */
/* What of the CPU an image depends on: the xsave components in its registers, and the features programs chose by. */
#pragma once

#include "image/image.h"

/* Space-separated names of the features this CPU has, of those that programs choose code paths by. */
const char *cpu_feature_names(char *buf, size_t size);
/* XCR0. */
enum { CPU_GET_PERMISSIONS = 0x1022, CPU_REQUEST_PERMISSION = 0x1023 }; /* of arch_prctl(2), 5.16 */
uint64_t cpu_xfeatures(void);
/* Those that a process may use which has asked for none (AMX has to be asked for). All, where the kernel does not know of such. */
uint64_t cpu_usual_xfeatures(void);
/* Those that are in use in a register set. */
uint64_t cpu_used_xfeatures(const void *xstate, size_t len);
/* Does the CPU have protection keys, and the kernel use them? */
bool cpu_has_keys(void);
/* The register that says what they allow, of NT_X86_XSTATE. 0: everything. */
uint32_t cpu_key_rights(const void *xstate, size_t len);
/* Where this CPU has its xsave components behind the second: "NUMBER:OFFSET:SIZE ...". Vendors differ. */
const char *cpu_layout(char *buf, size_t size);
/* Bytes of NT_X86_XSTATE. */
size_t cpu_xstate_size(void);
/* REFUSED if this CPU lacks something that the image's had, or arranges its registers in another way. Lenient: warns, and
 * leaves the registers to cpu_convert(). */
int cpu_check(const struct image_manifest *m, bool lenient, struct error *e) _must_check_;
/* Has the image's CPU the registers where ours are? Images of older versions do not say: yes. */
bool cpu_has_layout(const struct image_manifest *m);
/* NT_X86_XSTATE of one layout into that of another, "size" zeroed bytes. -EOPNOTSUPP: components in use, *ret_missing, have no
 * place in it; -EBADMSG: the record is no such thing. Pure. */
int cpu_convert(const char *from, const void *xstate, size_t len, const char *to, void *buf, size_t size,
	uint64_t *ret_missing) _must_check_;
