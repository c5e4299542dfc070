/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN modes=once,cycles,running,again */
/*
 * BPF maps that only the container has: hashes and arrays, also with values per CPU, an LPM trie, one that is frozen, an
 * empty one, one with three descriptions of which one is read-only and one write-only.
 */
#include "cr.h"

#include <linux/bpf.h>

enum { ELEMENTS = 1000, VALUE = 24 };

struct prefix {
	uint32_t bits;
	uint8_t address[4];
};

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int make(uint32_t type, uint32_t key, uint32_t value, uint32_t entries, uint32_t flags)
{
	union bpf_attr attr = {.map_type = type,
		.key_size = key,
		.value_size = value,
		.max_entries = entries,
		.map_flags = flags,
		.map_name = "stasis_test"};
	int fd = bpf(BPF_MAP_CREATE, &attr);

	if (fd < 0 && errno == ENOSYS) {
		cr_say("unavailable", 1, "", "bpf");
		for (;;)
			pause();
	}
	return must(fd);
}

static int element(int command, int fd, const void *key, const void *value)
{
	union bpf_attr attr = {.map_fd = (uint32_t)fd, .key = (uintptr_t)key, .value = (uintptr_t)value};

	return bpf(command, &attr);
}

static struct bpf_map_info describe(int fd)
{
	struct bpf_map_info info = {};
	union bpf_attr attr = {
		.info = {.bpf_fd = (uint32_t)fd, .info_len = sizeof(info), .info = (uintptr_t)&info}};

	must(bpf(BPF_OBJ_GET_INFO_BY_FD, &attr));
	return info;
}

static int by_id(int fd, uint32_t flags)
{
	union bpf_attr attr = {.map_id = describe(fd).id, .open_flags = flags};

	return must(bpf(BPF_MAP_GET_FD_BY_ID, &attr));
}

static int cpus(void)
{
	int from = 0, to = 0, fd = must(open("/sys/devices/system/cpu/possible", O_RDONLY));
	char text[64] = "";

	must(read(fd, text, sizeof(text) - 1));
	close(fd);
	return sscanf(text, "%d-%d", &from, &to) == 2 ? to + 1 : 1;
}

static void expect_shape(int fd, uint32_t type, uint32_t flags)
{
	struct bpf_map_info m = describe(fd);

	check(m.type == type && m.map_flags == flags && !strcmp(m.name, "stasis_test"),
		"type %u, flags %#x, name %s", m.type, m.map_flags, m.name);
}

static void value_of(uint32_t i, int turn, char v[VALUE])
{
	memset(v, 0, VALUE);
	snprintf(v, VALUE, "%u in turn %d", i * 7, turn);
}

static void fill(int fd, uint32_t n, int turn)
{
	char v[VALUE];

	for (uint32_t i = 0; i < n; i++) {
		value_of(i, turn, v);
		must(element(BPF_MAP_UPDATE_ELEM, fd, &i, v));
	}
}

static void expect(int fd, uint32_t n, int turn)
{
	char v[VALUE], got[VALUE];

	for (uint32_t i = 0; i < n; i++) {
		value_of(i, turn, v);
		check(element(BPF_MAP_LOOKUP_ELEM, fd, &i, got) == 0, "element %u: %m", i);
		check(memcmp(v, got, VALUE) == 0, "element %u is \"%.24s\"", i, got);
	}
}

static int frozen(int fd)
{
	char path[64], text[1024] = "";
	int info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = must(open(path, O_RDONLY));
	must(read(info, text, sizeof(text) - 1));
	close(info);
	return strstr(text, "frozen:\t1") != NULL;
}

int main(void)
{
	int hash = make(BPF_MAP_TYPE_HASH, 4, VALUE, 2 * ELEMENTS, 0),
	    sparse = make(BPF_MAP_TYPE_HASH, 4, VALUE, 1 << 20, BPF_F_NO_PREALLOC),
	    array = make(BPF_MAP_TYPE_ARRAY, 4, VALUE, ELEMENTS, BPF_F_MMAPABLE),
	    constant = make(BPF_MAP_TYPE_ARRAY, 4, VALUE, 4, BPF_F_RDONLY_PROG),
	    each = make(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 12, 4, 0),
	    each_hash = make(BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 4, 0),
	    trie = make(BPF_MAP_TYPE_LPM_TRIE, sizeof(struct prefix), 4, 16, BPF_F_NO_PREALLOC),
	    empty = make(BPF_MAP_TYPE_HASH, 8, 8, 16, 0), reader = by_id(hash, BPF_F_RDONLY),
	    writer = by_id(hash, BPF_F_WRONLY), copy = must(dup(hash)), only_read, n = cpus(), turn = 0;
	const struct prefix wide = {8, {10}}, narrow = {16, {10, 1}}, one = {32, {10, 1, 2, 3}},
			    two = {32, {10, 2, 0, 0}};
	uint64_t values[256], got[256], absent = 7;
	uint32_t zero = 0, three = 3, key = 77777, number = 1, answer;
	union bpf_attr freeze = {.map_fd = (uint32_t)constant};

	check(n <= 128, "%d CPUs", n);
	fill(hash, ELEMENTS, 0);
	fill(array, ELEMENTS, 0);
	fill(constant, 4, 0);
	must(bpf(BPF_MAP_FREEZE, &freeze));
	must(element(BPF_MAP_UPDATE_ELEM, sparse, &key, "sparse\0----------------"));
	for (int i = 0; i < 256; i++)
		values[i] = 0x100000000ull * (i + 1);
	must(element(BPF_MAP_UPDATE_ELEM, each_hash, &three, values));
	for (int i = 0; i < 256; i++)
		values[i] = i % 2 ? 5 : 0x1234567800000000ull + i; /* of 16 bytes 12 count */
	must(element(BPF_MAP_UPDATE_ELEM, each, &three, values));
	must(element(BPF_MAP_UPDATE_ELEM, trie, &wide, &number));
	number = 2;
	must(element(BPF_MAP_UPDATE_ELEM, trie, &narrow, &number));
	only_read = make(BPF_MAP_TYPE_HASH, 4, 4, 4, BPF_F_RDONLY);
	while (cr_wait()) {
		char v[VALUE];

		expect_shape(hash, BPF_MAP_TYPE_HASH, 0);
		expect_shape(array, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE);
		expect_shape(constant, BPF_MAP_TYPE_ARRAY, BPF_F_RDONLY_PROG);
		expect_shape(each, BPF_MAP_TYPE_PERCPU_ARRAY, 0);
		check(describe(sparse).max_entries == 1 << 20, "%u entries", describe(sparse).max_entries);
		expect(hash, ELEMENTS, turn);
		expect(reader, ELEMENTS, turn);
		expect(copy, ELEMENTS, turn);
		expect(array, ELEMENTS, turn);
		expect(constant, 4, 0);
		check(frozen(constant) && !frozen(array), "frozen: %d %d", frozen(constant), frozen(array));
		check(element(BPF_MAP_UPDATE_ELEM, constant, &zero, v) == -1 && errno == EPERM, "not frozen");
		check(element(BPF_MAP_UPDATE_ELEM, reader, &zero, v) == -1 && errno == EPERM,
			"it can be written");
		check(element(BPF_MAP_LOOKUP_ELEM, writer, &zero, v) == -1 && errno == EPERM,
			"it can be read");
		check(element(BPF_MAP_UPDATE_ELEM, only_read, &zero, v) == -1 && errno == EPERM,
			"it can be written");
		check(element(BPF_MAP_LOOKUP_ELEM, sparse, &key, v) == 0 && !strcmp(v, "sparse"),
			"sparse: %m");
		check(element(BPF_MAP_LOOKUP_ELEM, sparse, &zero, v) == -1 && errno == ENOENT,
			"one too many");
		check(element(BPF_MAP_LOOKUP_ELEM, empty, &absent, got) == -1 && errno == ENOENT,
			"not empty");
		must(element(BPF_MAP_LOOKUP_ELEM, each, &three, got));
		for (int i = 0; i < n; i++)
			check(got[2 * i] == values[2 * i] && (uint32_t)got[2 * i + 1] == 5,
				"CPU %d: %#lx %#lx", i, (unsigned long)got[2 * i],
				(unsigned long)got[2 * i + 1]);
		must(element(BPF_MAP_LOOKUP_ELEM, each_hash, &three, got));
		for (int i = 0; i < n; i++)
			check(got[i] == 0x100000000ull * (i + 1), "CPU %d: %#lx", i, (unsigned long)got[i]);
		check(element(BPF_MAP_LOOKUP_ELEM, trie, &one, &answer) == 0 && answer == 2, "narrow");
		check(element(BPF_MAP_LOOKUP_ELEM, trie, &two, &answer) == 0 && answer == 1, "wide");
		/* All descriptions are of one map. */
		turn++;
		fill(writer, ELEMENTS, turn);
		fill(array, ELEMENTS, turn);
		expect(reader, ELEMENTS, turn);
	}
	return 0;
}
