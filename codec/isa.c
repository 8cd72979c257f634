/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of an instruction set: made at first use, kept for the life of the process. Two
 * threads that come first together compute the same answer, so a plain atomic pointer is enough.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "codec/kernel.h"

const struct codec_isa codec_isa_scalar = CODEC_KERNELS_TABLE(scalar, scalar, scalar, scalar);

static bool entry_supported(const struct codec_isa_entry *entry)
{
	return !entry->supported || entry->supported();
}

const struct codec_isa *codec_isa_get(const char *name)
{
	for (const struct codec_isa_entry *entry = codec_isas;; entry++) {
		if (strcmp(entry->isa->name, name) == 0)
			return entry_supported(entry) ? entry->isa : NULL;
		if (!entry->supported)
			return NULL;
	}
}

static const struct codec_isa *isa_choose(void)
{
	const char *wanted = getenv("KVC_ISA");
	const struct codec_isa *forced = wanted ? codec_isa_get(wanted) : NULL;
	const struct codec_isa_entry *entry = codec_isas;

	if (forced)
		return forced;
	while (!entry_supported(entry))
		entry++;
	return entry->isa;
}

static const struct codec_isa *isa_current(void)
{
	static _Atomic(const struct codec_isa *) chosen;
	const struct codec_isa *isa = atomic_load_explicit(&chosen, memory_order_relaxed);

	if (!isa) {
		isa = isa_choose();
		atomic_store_explicit(&chosen, isa, memory_order_relaxed);
	}
	return isa;
}

const char *codec_isa_name(void)
{
	return isa_current()->name;
}

int codec_encode(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim,
		 const void *src, enum codec_dtype dtype, ptrdiff_t stride_token_elements,
		 void *dst_tile, struct codec_fault *ret_fault)
{
	return codec_isa_encode(isa_current(), id, role, tokens, head_dim, src, dtype,
				stride_token_elements, dst_tile, ret_fault);
}

void codec_decode(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim,
		  const void *tile, void *dst, enum codec_dtype dtype,
		  ptrdiff_t stride_token_elements)
{
	codec_isa_decode(isa_current(), id, role, tokens, head_dim, tile, dst, dtype,
			 stride_token_elements);
}

void codec_scores(enum codec_id id, uint32_t tokens, uint32_t head_dim, const void *tile,
		  const float *queries, ptrdiff_t query_stride, uint32_t n, float *scores,
		  ptrdiff_t score_stride)
{
	codec_isa_scores(isa_current(), id, tokens, head_dim, tile, queries, query_stride, n,
			 scores, score_stride);
}

void codec_accumulate(enum codec_id id, uint32_t tokens, uint32_t head_dim, const void *tile,
		      const float *weights, ptrdiff_t weight_stride, uint32_t n, float *out,
		      ptrdiff_t out_stride)
{
	codec_isa_accumulate(isa_current(), id, tokens, head_dim, tile, weights, weight_stride, n,
			     out, out_stride);
}

void codec_attend(const struct codec_attention *attention, const struct codec_span *spans,
		  size_t n_spans)
{
	codec_isa_attend(isa_current(), attention, spans, n_spans);
}
