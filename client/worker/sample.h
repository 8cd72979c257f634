/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing the next token from its logits: the likeliest, or by chance at a temperature. */
#pragma once

#include <stdint.h>

#define SAMPLE_TOP_K_MAX 1024

struct sampler {
	float temperature; /* 0: always the likeliest */
	uint32_t top_k;    /* candidates, 1..SAMPLE_TOP_K_MAX */
	uint64_t state;    /* of the random numbers; equal seeds give equal texts */
};

/* The likeliest of n > 0 tokens; the lowest among equals. */
uint32_t sample_likeliest(const float *logits, uint32_t n);

/* The next token, as the sampler is set. */
uint32_t sample_next(struct sampler *sampler, const float *logits, uint32_t n);
