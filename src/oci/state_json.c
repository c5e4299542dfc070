/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI state document (runtime.md, "State"), with the members that runc adds for its own users. */
#include <stdio.h>
#include <string.h>

#include "oci/json-priv.h"
#include "oci/spec-priv.h"

static bool add(struct json_object *o, const char *key, struct json_object *value)
{
	if (value && json_object_object_add(o, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

static bool add_string(struct json_object *o, const char *key, const char *s)
{
	return add(o, key, json_object_new_string(s));
}

static bool fill(struct json_object *o, const struct oci_state *s)
{
	struct json_object *annotations;
	bool ok = add_string(o, "ociVersion", s->oci_version ? s->oci_version : OCI_VERSION) &&
		  add_string(o, "id", s->id) && add(o, "pid", json_object_new_int(s->pid)) &&
		  add_string(o, "status", s->status) && (!s->bundle || add_string(o, "bundle", s->bundle)) &&
		  (!s->rootfs || add_string(o, "rootfs", s->rootfs)) &&
		  (!s->created || add_string(o, "created", s->created));

	if (ok && s->n_annotations) {
		annotations = json_object_new_object();
		ok = annotations != NULL;
		for (size_t i = 0; ok && i < s->n_annotations; i++)
			ok = add_string(annotations, s->annotations[i].name, s->annotations[i].value);
		if (!ok) {
			json_object_put(annotations);
			return false;
		}
		ok = add(o, "annotations", annotations);
	}
	return ok && (!s->owner || add_string(o, "owner", s->owner));
}

static int to_text(struct json_object *o, bool pretty, char **ret)
{
	const char *text = json_object_to_json_string_ext(o,
		JSON_C_TO_STRING_NOSLASHESCAPE | (pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
							 : JSON_C_TO_STRING_PLAIN));
	char *copy = text ? strdup(text) : NULL;

	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return 0;
}

int oci_state_json(const struct oci_state *state, bool pretty, char **ret)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();

	return o && fill(o, state) ? to_text(o, pretty, ret) : -ENOMEM;
}

int oci_process_state_json(const struct oci_state *state, pid_t pid, const char *metadata, char **ret)
{
	_cleanup_json_ struct json_object *o = json_object_new_object(), *fds = json_object_new_array(),
					  *inner = json_object_new_object();

	if (!o || !fds || !inner || !fill(inner, state) ||
		json_object_array_add(fds, json_object_new_string("seccompFd")) < 0)
		return -ENOMEM;
	if (!add_string(o, "ociVersion", OCI_VERSION) || !add(o, "fds", take_ptr(fds)) ||
		!add(o, "pid", json_object_new_int(pid)) ||
		!add_string(o, "metadata", metadata ? metadata : "") || !add(o, "state", take_ptr(inner)))
		return -ENOMEM;
	return to_text(o, false, ret);
}
