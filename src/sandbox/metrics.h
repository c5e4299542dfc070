/* SPDX-License-Identifier: Apache-2.0 */
/* What containers use and how they are, as OpenMetrics text (openmetrics.io), which Prometheus reads. */
#pragma once

#include <stdio.h>

#include "base/error.h"

/* Of one sandbox, or of all containers of the root (sandbox NULL). One that goes meanwhile is left out. */
int metrics_print(const char *root, const char *sandbox, FILE *out, struct error *e) _must_check_;
