/* SPDX-License-Identifier: Apache-2.0 */
/* The top candidates are kept in a heap with the least of them on top. */
#include "client/worker/sample.h"

#include "base/contract.h"

#include <math.h>

struct candidate {
	float logit;
	uint32_t token;
};

uint32_t sample_likeliest(const float *logits, uint32_t n)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < n; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

/* SplitMix64: one multiply-and-shift hash of a counter a number. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void sift_down(struct candidate *heap, uint32_t n, uint32_t i)
{
	struct candidate moved = heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && heap[child + 1].logit < heap[child].logit)
			child++;
		if (heap[child].logit >= moved.logit)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moved;
}

/* The k tokens of the largest logits, in no order. */
static void take_top(const float *logits, uint32_t n, struct candidate *heap, uint32_t k)
{
	for (uint32_t i = 0; i < k; i++)
		heap[i] = (struct candidate){ logits[i], i };
	for (uint32_t i = k / 2; i-- > 0;)
		sift_down(heap, k, i);
	for (uint32_t i = k; i < n; i++) {
		if (!(logits[i] > heap[0].logit))
			continue;
		heap[0] = (struct candidate){ logits[i], i };
		sift_down(heap, k, 0);
	}
}

uint32_t sample_next(struct sampler *sampler, const float *logits, uint32_t n)
{
	struct candidate top[SAMPLE_TOP_K_MAX];
	double weights[SAMPLE_TOP_K_MAX];
	uint32_t k = sampler->top_k < n ? sampler->top_k : n;
	float most = logits[sample_likeliest(logits, n)];
	double sum = 0.0;
	double point;

	if (!(sampler->temperature > 0.0f))
		return sample_likeliest(logits, n);
	kvp_assert(k >= 1 && k <= SAMPLE_TOP_K_MAX);
	take_top(logits, n, top, k);
	for (uint32_t i = 0; i < k; i++) {
		weights[i] = exp(((double)top[i].logit - (double)most) / (double)sampler->temperature);
		sum += weights[i];
	}
	point = (double)(next_random(&sampler->state) >> 11) * 0x1p-53 * sum;
	for (uint32_t i = 0; i + 1 < k; i++) {
		point -= weights[i];
		if (point < 0.0)
			return top[i].token;
	}
	return top[k - 1].token;
}
