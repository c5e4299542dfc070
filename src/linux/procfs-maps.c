/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/maps and smaps: the memory mappings of a process. Mappings come in ascending order and never
 * overlap, which is checked here, so that callers may bisect.
 *
 * In a name only the newline is escaped ("\012"), not the backslash: a file whose name really contains
 * those four characters reads the same. Whoever opens a mapped file by name compares device and inode.
 */
#include "linux/procfs-priv.h"

#include <sys/mman.h>

#define CODE(a, b) ((unsigned)(unsigned char)(a) << 8 | (unsigned char)(b))

/* clang-format off */
static uint32_t vma_flag_of(char a, char b)
{
	switch (CODE(a, b)) {
	case CODE('r', 'd'): return VMA_RD;
	case CODE('w', 'r'): return VMA_WR;
	case CODE('e', 'x'): return VMA_EX;
	case CODE('s', 'h'): return VMA_SH;
	case CODE('m', 'w'): return VMA_MW;
	case CODE('m', 'r'):
	case CODE('m', 'e'):
	case CODE('m', 's'):
	case CODE('a', 'c'): return 0;
	case CODE('g', 'd'): return VMA_GD;
	case CODE('p', 'f'): return VMA_PF;
	case CODE('i', 'o'): return VMA_IO;
	case CODE('s', 'r'): return VMA_SR;
	case CODE('r', 'r'): return VMA_RR;
	case CODE('d', 'c'): return VMA_DC;
	case CODE('d', 'e'): return VMA_DE;
	case CODE('d', 'p'): return VMA_DP;
	case CODE('l', 'o'): return VMA_LO;
	case CODE('l', 'f'): return VMA_LF;
	case CODE('n', 'r'): return VMA_NR;
	case CODE('h', 't'): return VMA_HT;
	case CODE('d', 'd'): return VMA_DD;
	case CODE('w', 'f'): return VMA_WF;
	case CODE('w', 'c'): return VMA_WC;
	case CODE('m', 'm'): return VMA_MM;
	case CODE('h', 'g'): return VMA_HG;
	case CODE('n', 'h'): return VMA_NH;
	case CODE('m', 'g'): return VMA_MG;
	case CODE('u', 'm'): return VMA_UM;
	case CODE('u', 'w'): return VMA_UW;
	case CODE('u', 'i'): return VMA_UI;
	case CODE('s', 'l'): return VMA_SL;
	case CODE('g', 'u'): return VMA_GU;
	case CODE('s', 's'): return VMA_SS;
	case CODE('s', 'f'): return VMA_SF;
	case CODE('s', 'd'): return 0; /* soft-dirty: about the past, nothing to keep */
	default: return VMA_UNKNOWN;
	}
}
/* clang-format on */

/* "rd wr mr mw me ac \n" */
static bool parse_flags(struct scan *s, uint32_t *ret)
{
	uint32_t flags = 0;

	for (;;) {
		scan_blank(s);
		if (*s->p == '\n')
			break;
		if (!s->p[0] || !s->p[1] || (s->p[2] != ' ' && s->p[2] != '\n'))
			return false;
		flags |= vma_flag_of(s->p[0], s->p[1]);
		s->p += 2;
	}
	*ret = flags;
	return scan_char(s, '\n');
}

static bool parse_prot(struct scan *s, struct proc_vma *v)
{
	if (*s->p != 'r' && *s->p != '-')
		return false;
	v->prot |= *s->p++ == 'r' ? PROT_READ : 0;
	if (*s->p != 'w' && *s->p != '-')
		return false;
	v->prot |= *s->p++ == 'w' ? PROT_WRITE : 0;
	if (*s->p != 'x' && *s->p != '-')
		return false;
	v->prot |= *s->p++ == 'x' ? PROT_EXEC : 0;
	if (*s->p != 's' && *s->p != 'p')
		return false;
	v->shared = *s->p++ == 's';
	return true;
}

/* The name runs to the end of the line, blanks in it included. Neighbours often have the same: then it is
 * shared. */
static int parse_name(struct scan *s, struct arena *a, const struct proc_vma *previous, struct proc_vma *v)
{
	const char *end = scan_find_newline(s);
	size_t len;

	if (!end)
		return -EBADMSG;
	len = end - s->p;
	if (previous && len && !strncmp(previous->name, s->p, len) && previous->name[len] == '\0' &&
		!memchr(s->p, '\\', len))
		v->name = previous->name;
	else
		v->name = proc_unescaped(a, s->p, len, '\n');
	if (!v->name)
		return -ENOMEM;
	s->p = end + 1;
	return 0;
}

/* "7f..-7f.. rw-p 00000000 fe:01 1234      /name" */
static int parse_vma(struct scan *s, struct arena *a, const struct proc_vma *previous, struct proc_vma *v)
{
	if (!scan_hex(s, &v->start) || !scan_char(s, '-') || !scan_hex(s, &v->end) || !scan_char(s, ' ') ||
		!parse_prot(s, v) || !scan_char(s, ' ') || !scan_hex(s, &v->offset) || !scan_char(s, ' ') ||
		!scan_hex32(s, &v->dev_major) || !scan_char(s, ':') || !scan_hex32(s, &v->dev_minor) ||
		!scan_char(s, ' ') || !scan_u64(s, &v->inode))
		return -EBADMSG;
	if (*s->p != ' ' && *s->p != '\n')
		return -EBADMSG;
	if (v->end <= v->start || (previous && v->start < previous->end))
		return -EBADMSG;
	scan_blank(s);
	return parse_name(s, a, previous, v);
}

static bool parse_kib(struct scan *s, uint64_t *ret)
{
	return scan_blank(s) && scan_u64(s, ret) && scan_literal(s, " kB\n");
}

/* One "Key: value" line below a mapping of smaps. New kernels add keys: unknown ones are skipped. */
static bool parse_detail(struct scan *s, struct proc_vma *v)
{
	if (*s->p == 'R' && !strncmp(s->p, "Rss:", 4)) {
		s->p += 4;
		return parse_kib(s, &v->rss_kib);
	}
	if (*s->p == 'A' && !strncmp(s->p, "Anonymous:", 10)) {
		s->p += 10;
		return parse_kib(s, &v->anonymous_kib);
	}
	if (*s->p == 'K' && !strncmp(s->p, "KernelPageSize:", 15)) {
		s->p += 15;
		return parse_kib(s, &v->page_kib);
	}
	if (*s->p == 'S' && (!strncmp(s->p, "Shared_Clean:", 13) || !strncmp(s->p, "Shared_Dirty:", 13) ||
				    !strncmp(s->p, "Shared_Hugetlb:", 15))) {
		uint64_t kib;

		s->p = strchr(s->p, ':') + 1;
		if (!parse_kib(s, &kib))
			return false;
		v->shared_kib += kib;
		return true;
	}
	if (*s->p == 'S' && !strncmp(s->p, "Swap:", 5)) {
		s->p += 5;
		return parse_kib(s, &v->swap_kib);
	}
	if (*s->p == 'P' && !strncmp(s->p, "ProtectionKey:", 14)) {
		s->p += 14;
		return scan_blank(s) && scan_u64(s, &v->protection_key) && scan_char(s, '\n');
	}
	if (*s->p == 'V' && !strncmp(s->p, "VmFlags:", 8)) {
		s->p += 8;
		return parse_flags(s, &v->flags);
	}
	return scan_skip_line(s);
}

int proc_parse_maps(const char *text, struct arena *a, struct proc_vma **ret, size_t *ret_n)
{
	struct scan s = {text};
	struct proc_vma *vmas = NULL;
	size_t n = 0, allocated = 0;
	int r;

	while (*s.p) {
		if (hex_digit(*s.p) < 0) {
			/* A detail: they begin with a capital letter, addresses are in lower case. */
			if (n == 0 || *s.p < 'A' || *s.p > 'Z' || !parse_detail(&s, &vmas[n - 1]))
				return -EBADMSG;
			continue;
		}
		vmas = proc_grow(a, vmas, n, &allocated, sizeof(*vmas));
		if (!vmas)
			return -ENOMEM;
		vmas[n] = (struct proc_vma){.name = ""};
		r = parse_vma(&s, a, n ? &vmas[n - 1] : NULL, &vmas[n]);
		if (r < 0)
			return r;
		n++;
	}
	*ret = vmas;
	*ret_n = n;
	return 0;
}
