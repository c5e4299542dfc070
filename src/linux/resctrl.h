/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resctrl, the file system by which the kernel hands out caches and memory bandwidth (Intel's RDT). A directory below its
 * root is a group: "schemata" says what its tasks may use, a resource a line ("L3:0=ff;1=f0": of the cache 0 the ways of
 * the mask ff), and "tasks" who they are; their children are born in it. mon_groups/NAME in a group counts for some of
 * its tasks. Source: Documentation/filesystems/resctrl.rst.
 */
#pragma once

#include "base/util.h"

/* Where it is mounted, by the text of a mountinfo: 0 and *ret (the caller frees it), 1: nowhere, or a negative errno. */
int resctrl_mount_point(const char *mountinfo, char **ret) _must_check_;

/* The lines of schemata texts as they are written at once, each ended by a newline: those of l3 but its MB: lines, and
 * mb. Either may be NULL. NULL: out of memory. The caller frees it. */
char *resctrl_join(const char *l3, const char *mb) _must_check_;

/* Whether a group's schemata have all that is wanted, whatever they say of other resources and domains. Where "later"
 * (may be NULL) names the same domain, it counts instead: it would be written afterwards. */
bool resctrl_has(const char *schemata, const char *wanted, const char *later) _must_check_;

/* The first line of this resource ("L3" is also that of L3CODE), without the blanks around it. 0: there is none. */
size_t resctrl_line(const char *schemata, const char *resource, const char **ret) _must_check_;
