/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every metric of proto/metrics.def as text: Prometheus 0.0.4, or OpenMetrics 1.0. Pure: what is not in the shared
 * counters is given to it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/host/usage.h"
#include "proto/layout.h"

/* Far above what KVP_SPACES_MAX spaces with the longest names make. */
#define EXPOSITION_BYTES_MAX (2u << 20)

enum exposition_format { EXPOSITION_TEXT, EXPOSITION_OPENMETRICS };

struct exposition_source {
	const struct kvp_counters *counters;
	const struct kvp_space_entry *spaces; /* KVP_SPACES_MAX */
	const char *version;
	const char *restart_kind;
	struct usage usage; /* what is not known in it is left out */
};

/* The media type. */
const char *exposition_type(enum exposition_format format);

/*
 * *ret_text is the caller's, to be freed, not terminated. A family of which nothing is known has no lines. Results: 0;
 * -ENOMEM; -E2BIG (above EXPOSITION_BYTES_MAX).
 */
int exposition_render(const struct exposition_source *source, enum exposition_format format, char **ret_text,
		      size_t *ret_n);
