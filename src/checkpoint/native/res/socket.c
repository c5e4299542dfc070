/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, until each family has its file: refused. */
#include "checkpoint/native/res/res.h"

static bool match(const struct dump *d, const struct dump_file *f)
{
	return S_ISSOCK(f->st.st_mode);
}

extern const struct resource resource_socket_other;
const struct resource resource_socket_other = {
	.kind = "socket",
	.description = "sockets of other families",
	.refused_reason = "this kind of socket is not supported yet",
	.refused_remedy = "close it before the checkpoint",
	.match = match,
};
