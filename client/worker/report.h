/* SPDX-License-Identifier: Apache-2.0 */
/* What a run says about itself: a line for people on stderr, or a JSON object on stdout. */
#pragma once

#include "client/worker/cachelink.h"
#include "client/worker/generate.h"
#include "client/worker/perplexity.h"

#include <stdint.h>

/* What all reports of a run have in common. */
struct report_frame {
	const struct model *model;
	const struct kvstore *store;
	const char *isa;
	unsigned threads;
	const char *space; /* NULL: without cache */
};

/* Blocks that one prompt gave to the cache. */
struct report_blocks {
	uint64_t stored;
	uint64_t present;
	uint64_t refused;
};

void report_generation_text(const struct report_frame *frame, const struct generation *generation,
			    const struct report_blocks *blocks);

void report_generation_json(const struct report_frame *frame, const struct generation *generation,
			    const struct report_blocks *blocks, const struct textout *out);

void report_perplexity_text(const struct report_frame *frame, const struct perplexity *perplexity);

void report_perplexity_json(const struct report_frame *frame, const struct perplexity *perplexity);
