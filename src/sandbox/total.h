/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of several containers together, in the form that those of one have ("data" of runc's events): numbers are added up. A
 * limit is none if one of them has none; the sum of what each had at most ("max") is more than they ever had together. Pressure
 * (psi) and resctrl are left out: shares of time can't be added.
 */
#pragma once

#include <json-c/json.h>

/* "one" is left as it is. */
void total_add(struct json_object *total, struct json_object *one);
