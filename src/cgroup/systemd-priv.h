/* SPDX-License-Identifier: Apache-2.0 */
/* What systemd.c and systemd-properties.c share. */
#pragma once

#include "cgroup/bus.h"
#include "cgroup/cgroup-priv.h"

/* "a-b.slice" is below "a.slice": its path, "/a.slice/a-b.slice"; "-.slice": "". */
int systemd_slice_path(const char *slice, char *buf, size_t size, struct error *e) _must_check_;

/* One (sv) of an array of properties, by the type of the value. */
void property_string(struct bus_message *m, const char *name, const char *value);
void property_bool(struct bus_message *m, const char *name, bool value);
void property_u64(struct bus_message *m, const char *name, uint64_t value);

/* The limits as properties, so that systemd, when it writes all it knows again, writes the same. */
int properties_put_limits(struct bus_message *m, const struct cgroup *cg, const struct spec_resources *res,
	struct error *e) _must_check_;
void properties_put_devices(struct bus_message *m, const struct spec_resources *res);
/* Those of the annotations org.systemd.property.NAME, whose values are in GVariant's text format. */
int properties_put_annotations(
	struct bus_message *m, const struct spec_resources *res, struct error *e) _must_check_;
