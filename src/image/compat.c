/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that podman, CRI-O and containerd look for in a checkpoint directory, whoever wrote it: CRIU's inventory.img
 * (podman checks that it exists), stats-dump and stats-restore (--print-stats) and runc's descriptors.json. The numbers are facts of
 * CRIU's image format. We never read these files.
 */
#include <json-c/json.h>

#include "criu.pb-c.h"
#include "image/image-priv.h"

enum {
	CRIU_INVENTORY_MAGIC = 0x58313116, /* stands first, as in no other CRIU file */
	CRIU_SERVICE_MAGIC = 0x55105940,
	CRIU_STATS_MAGIC = 0x57093306,
	CRIU_IMAGES_V1_1 = 2,
};

/* u32 size, message */
static int add_message(struct image_buffer *b, const ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	uint8_t *p = image_buffer_room(b, 4 + len);

	if (!p)
		return -ENOMEM;
	put_le32(p, len);
	protobuf_c_message_pack(m, p + 4);
	b->len += 4 + len;
	return 0;
}

static int add_u32(struct image_buffer *b, uint32_t v)
{
	uint8_t *p = image_buffer_room(b, 4);

	if (!p)
		return -ENOMEM;
	put_le32(p, v);
	b->len += 4;
	return 0;
}

int image_compat_inventory(struct image_buffer *b)
{
	Criu__InventoryEntry m = CRIU__INVENTORY_ENTRY__INIT;
	int r = add_u32(b, CRIU_INVENTORY_MAGIC);

	m.img_version = CRIU_IMAGES_V1_1;
	m.has_ns_per_id = true;
	m.ns_per_id = true;
	return r < 0 ? r : add_message(b, &m.base);
}

static uint32_t clamp32(uint64_t v)
{
	return MIN(v, (uint64_t)UINT32_MAX);
}

int image_compat_stats(
	struct image_buffer *b, enum image_operation operation, const struct image_statistics *s)
{
	Criu__DumpStatsEntry dump = CRIU__DUMP_STATS_ENTRY__INIT;
	Criu__RestoreStatsEntry restore = CRIU__RESTORE_STATS_ENTRY__INIT;
	Criu__StatsEntry m = CRIU__STATS_ENTRY__INIT;
	int r;

	dump.freezing_time = clamp32(s->freeze_us);
	dump.frozen_time = clamp32(s->frozen_us);
	dump.memdump_time = clamp32(s->memory_us);
	dump.memwrite_time = clamp32(s->image_us);
	dump.pages_scanned = s->pages_data + s->pages_zero;
	dump.pages_written = s->pages_data;
	restore.restore_time = clamp32(s->total_us);
	restore.has_pages_restored = true;
	restore.pages_restored = s->pages_data;
	if (operation == IMAGE_DUMP)
		m.dump = &dump;
	else
		m.restore = &restore;
	r = add_u32(b, CRIU_SERVICE_MAGIC);
	if (r == 0)
		r = add_u32(b, CRIU_STATS_MAGIC);
	return r < 0 ? r : add_message(b, &m.base);
}

static void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}

int image_compat_descriptors(struct image_buffer *b, const char *const stdio[3])
{
	_cleanup_(json_put_p) struct json_object *a = json_object_new_array();
	const char *text;
	size_t len;
	void *p;

	if (!a)
		return -ENOMEM;
	for (int i = 0; i < 3; i++) {
		struct json_object *s = json_object_new_string(stdio[i] ? stdio[i] : "");

		if (!s || json_object_array_add(a, s) < 0) {
			json_object_put(s);
			return -ENOMEM;
		}
	}
	text = json_object_to_json_string_length(
		a, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	p = text ? image_buffer_room(b, len) : NULL;
	if (!p)
		return -ENOMEM;
	memcpy(p, text, len);
	b->len += len;
	return 0;
}
