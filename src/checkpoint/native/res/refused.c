/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds that are recognised only in order to be refused with a reason. */
#include "checkpoint/native/res/res.h"

#include <string.h>
#include <sys/sysmacros.h>

#define REFUSED(ident, kind_name, what, reason, remedy)                                                      \
	static bool match_##ident(const struct dump *d, const struct dump_file *f);                          \
	extern const struct resource resource_##ident;                                                       \
	const struct resource resource_##ident = {                                                           \
		.kind = kind_name,                                                                           \
		.description = what,                                                                         \
		.refused_reason = reason,                                                                    \
		.refused_remedy = remedy,                                                                    \
		.match = match_##ident,                                                                      \
	};                                                                                                   \
	static bool match_##ident(const struct dump *d, const struct dump_file *f)

REFUSED(userfaultfd, "userfaultfd", "userfaultfd",
	"the kernel does not tell which memory belongs to which of them, nor what its "
	"handler has been asked and has not answered",
	"close the userfaultfd first")
{
	return link_is_anon_inode(f, "[userfaultfd]");
}

REFUSED(io_uring, "io_uring", "io_uring instances",
	"the kernel does not tell how it was set up, nor which requests are in flight",
	"let the program use epoll (for example UV_USE_IO_URING=0)")
{
	return link_is_anon_inode(f, "[io_uring]");
}

REFUSED(secret, "memfd_secret", "memory of memfd_secret(2)",
	"its contents are for nobody but the program itself, and would be in the image",
	"unmap and close it first")
{
	return strncmp(f->link, "/secretmem", 10) == 0;
}

REFUSED(bpf, "bpf", "BPF programs, links, tokens and type information",
	"what the kernel has compiled of a program it does not give back, and where a link is attached is "
	"outside of the container",
	"close them first")
{
	return strncmp(f->link, "anon_inode:bpf", 14) == 0 || strncmp(f->link, "anon_inode:[bpf", 15) == 0;
}

REFUSED(perf, "perf_event", "performance counters", "counters of another machine mean nothing",
	"stop profiling first")
{
	return link_is_anon_inode(f, "[perf_event]");
}

REFUSED(anon_other, "anonymous inode", "other anonymous files of the kernel",
	"this version does not know this kind", "close the descriptor first")
{
	return strncmp(f->link, "anon_inode:", 11) == 0;
}

REFUSED(device_other, "device", "other character devices, as fuse, kvm, dri, snd, input, rtc, watchdog",
	"what its driver knows of who has it open cannot be read", "close the device first")
{
	return S_ISCHR(f->st.st_mode) || S_ISBLK(f->st.st_mode);
}
