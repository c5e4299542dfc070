/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints and limits of MPTCP in a network namespace: recorded as the attributes that make them. */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "image.pb-c.h"

/* Negative errno; a kernel without it has none. */
int network_read_mptcp(int netns, struct arena *a, St__Network *n) _must_check_;
bool network_has_mptcp(const St__Network *n);
bool network_mptcp_is_wrong(const St__Network *n);
/* In the namespace of this process; may: config.json lets the container do so; current: the number of an interface now. */
int restore_mptcp(const St__Network *n, bool may, int (*current)(int index, void *arg), void *arg,
	struct error *e) _must_check_;
