/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/net/igmp and igmp6: the multicast groups that the interfaces of a network namespace listen to. */
#include <netinet/in.h>
#include <stdio.h>

#include "linux/procfs-priv.h"

static bool skip_line(struct scan *s)
{
	while (*s->p && *s->p != '\n')
		s->p++;
	return scan_char(s, '\n');
}

static bool scan_device(struct scan *s, char ret[PROC_DEVICE_SIZE])
{
	size_t n = 0;

	for (; *s->p > ' ' && *s->p != ':'; s->p++) {
		if (n == PROC_DEVICE_SIZE - 1)
			return false;
		ret[n++] = *s->p;
	}
	ret[n] = '\0';
	return n > 0;
}

/* Eight digits, of either case. */
static bool scan_word(struct scan *s, uint32_t *ret)
{
	uint32_t v = 0;

	for (int i = 0; i < 8; i++, s->p++) {
		int d = *s->p >= 'A' && *s->p <= 'F' ? *s->p - 'A' + 10 : hex_digit(*s->p);

		if (d < 0)
			return false;
		v = v << 4 | (unsigned)d;
	}
	*ret = v;
	return true;
}

static int append(struct arena *a, const struct proc_group *g, size_t *allocated, struct proc_group **ret,
	size_t *ret_n)
{
	if (*ret_n == *allocated) {
		size_t want = *allocated ? *allocated * 2 : 16;
		struct proc_group *p = arena_array(a, want, sizeof(*p));

		if (!p)
			return -ENOMEM;
		if (*ret_n)
			memcpy(p, *ret, *ret_n * sizeof(*p));
		*ret = p;
		*allocated = want;
	}
	(*ret)[(*ret_n)++] = *g;
	return 0;
}

/* A line of an interface, and below it, behind tabs, one for each group: the four bytes of the address as a number. */
int proc_parse_igmp(const char *text, struct arena *a, struct proc_group **ret, size_t *ret_n)
{
	struct proc_group g = {.family = AF_INET};
	struct scan s = {text};
	size_t allocated = 0;
	int r = 0;

	*ret = NULL;
	*ret_n = 0;
	if (!*text)
		return 0;
	if (!skip_line(&s))
		return -EBADMSG;
	while (*s.p && r == 0) {
		if (*s.p == '\t') {
			uint32_t word;

			if (!g.device[0] || !scan_blank(&s) || !scan_word(&s, &word) || !skip_line(&s))
				return -EBADMSG;
			memcpy(g.address, &word, sizeof(word));
			r = append(a, &g, &allocated, ret, ret_n);
		} else {
			uint32_t index;

			if (!scan_u32(&s, &index) || !scan_blank(&s) || !scan_device(&s, g.device) ||
				!skip_line(&s))
				return -EBADMSG;
			g.ifindex = index;
		}
	}
	return r;
}

int proc_parse_igmp6(const char *text, struct arena *a, struct proc_group **ret, size_t *ret_n)
{
	struct scan s = {text};
	size_t allocated = 0;
	int r = 0;

	*ret = NULL;
	*ret_n = 0;
	while (*s.p && r == 0) {
		struct proc_group g = {.family = AF_INET6};

		if (!scan_u32(&s, &g.ifindex) || !scan_blank(&s) || !scan_device(&s, g.device) ||
			!scan_blank(&s))
			return -EBADMSG;
		for (size_t i = 0; i < sizeof(g.address); i += 4) {
			uint32_t word;

			if (!scan_word(&s, &word))
				return -EBADMSG;
			word = htonl(word);
			memcpy(&g.address[i], &word, sizeof(word));
		}
		if (!skip_line(&s))
			return -EBADMSG;
		r = append(a, &g, &allocated, ret, ret_n);
	}
	return r;
}
