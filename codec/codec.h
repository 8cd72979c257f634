/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codecs: how one head's K or V of a block is packed into bytes.
 *
 * A tile is `tokens x head_dim` values of one head. A raw codec (f32, f16, bf16) stores the values.
 * A grouped codec (q8 .. q4) stores small integer codes, and for each group of values an f16 scale
 * and an f16 min; a value is min + code * scale. A group of K is one channel over all tokens; a
 * group of V is one token over all channels. A trellis codec (t8 .. t4) stores as many bits, of
 * which one a value steers a trellis along the tokens, so that twice as many levels can be told
 * apart; t*g32 and t*g16 give V an 8-bit scale for every 32 or 16 channels of a token. The size of
 * a tile depends on codec, role and shape only, never on the data. docs/codecs.md gives the format
 * byte by byte.
 *
 * The bytes are the same whatever instruction set made them, and every instruction set reads them
 * to the same values and computes the same scores and sums from them. The functions assume the
 * default floating-point environment. They keep no state but the instruction set, chosen at first
 * use, and may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODEC_TOKENS_MAX 256u
#define CODEC_HEAD_DIM_MAX 256u
#define CODEC_HEAD_DIM_MULTIPLE 8u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "tiles are little-endian and are mapped, not converted");

/* Changes when bytes that some codec made would be decoded to other values: stored pages are of another world then. */
#define CODEC_FORMAT_VERSION 1

/* Numbers on the wire and in shared memory: never reused. */
enum codec_id {
	CODEC_F32 = 1,
	CODEC_F16 = 2,
	CODEC_BF16 = 3,
	CODEC_Q8 = 16,
	CODEC_Q6 = 17,
	CODEC_Q5 = 18,
	CODEC_Q4 = 19,
	CODEC_T8 = 32,
	CODEC_T6 = 33,
	CODEC_T5 = 34,
	CODEC_T4 = 35,
	CODEC_T8G32 = 40,
	CODEC_T6G32 = 41,
	CODEC_T5G32 = 42,
	CODEC_T4G32 = 43,
	CODEC_T8G16 = 48,
	CODEC_T6G16 = 49,
	CODEC_T5G16 = 50,
	CODEC_T4G16 = 51,
};

enum codec_role {
	CODEC_ROLE_K = 0,
	CODEC_ROLE_V = 1,
};
#define CODEC_ROLE_COUNT 2

/* The type of values outside tiles. Numbers on the wire. */
enum codec_dtype {
	CODEC_DTYPE_F32 = 1,
	CODEC_DTYPE_F16 = 2,
	CODEC_DTYPE_BF16 = 3,
};

/*
 * Positive results of codec_encode(). The largest magnitude is that of the type for f32 and bf16,
 * and 65504, the largest f16, for all others.
 */
enum {
	CODEC_NONFINITE = 1, /* a value is NaN or infinite */
	CODEC_RANGE = 2,     /* a finite value is beyond the codec's largest */
};

/* The first value, in token-major order, that a tile cannot hold. */
struct codec_fault {
	uint32_t token;
	uint32_t channel;
};

/* Where the parts of a tile lie, in bytes from its start. */
struct codec_layout {
	uint32_t tokens;
	uint32_t head_dim;
	uint32_t row_bytes;	/* one token's codes or raw values */
	uint32_t groups;	/* with an f16 scale and min each; 0: raw, or V of t*g32 and t*g16 */
	uint32_t scales_offset; /* groups x f16, or tokens x token_scales log scales of a byte; in
				   raw tiles the end of the tile */
	uint32_t mins_offset;	/* groups x f16; the end of the tile when there are none */
	uint32_t scale_channels; /* channels that share a log scale: 32 or 16; 0: none */
	uint32_t token_scales;	/* log scales of one token */
	uint32_t tile_bytes;
};

/* One instruction set's kernels; opaque here. */
struct codec_isa;

/* Whether this build knows the codec. Any number may be asked. */
bool codec_valid(uint32_t id);

/* "q8"; NULL when the codec is not known. The string is static. */
const char *codec_name(uint32_t id);

/* The codec of that exact name, in *ret_id. False, and nothing written, when there is none. */
bool codec_from_name(const char *name, enum codec_id *ret_id);

/* Bytes of one value: 4 or 2; 0 when the type is not known. Any number may be asked. */
uint32_t codec_dtype_bytes(uint32_t dtype);

/*
 * The layout of a tile, in *ret_layout. False, and nothing written, when codec or role is not
 * known, tokens is not in 1..CODEC_TOKENS_MAX, or head_dim is not a multiple of 8
 * in 8..CODEC_HEAD_DIM_MAX. Any numbers may be asked.
 */
bool codec_layout_of(uint32_t id, uint32_t role, uint32_t tokens, uint32_t head_dim,
		     struct codec_layout *ret_layout);

/* The size of a tile; 0 for head_dim 0 (an absent V) and for what codec_layout_of() refuses. */
uint32_t codec_tile_bytes(uint32_t id, uint32_t role, uint32_t tokens, uint32_t head_dim);

/*
 * Encodes one tile.
 *
 * @src: value (0, 0); the values of a token are contiguous, of type @dtype, at any alignment
 * @stride_token_elements: from a token to the next, in values; may be negative or 0
 * @dst_tile: codec_tile_bytes() bytes, any alignment, not overlapping the source
 * @ret_fault: the position when the result is positive; untouched otherwise; may be NULL
 *
 * Returns 0; or CODEC_NONFINITE or CODEC_RANGE, and then the tile's content is unspecified. Nothing
 * outside the tile is written. A head_dim of 0 does nothing. It is the caller's bug (an assertion)
 * when codec_layout_of() refuses the shape or the type is not known. A source that changes during
 * the call gives an unspecified tile, and no more harm than that.
 */
int codec_encode(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim,
		 const void *src, enum codec_dtype dtype, ptrdiff_t stride_token_elements,
		 void *dst_tile, struct codec_fault *ret_fault);

/*
 * Decodes one tile. Any bytes are a tile: scales that are NaN or infinite give such values, and
 * nothing else happens.
 *
 * @tile: codec_tile_bytes() bytes, any alignment; nothing beyond them is read
 * @dst: value (0, 0); parameters as above. Rows must not overlap each other or the tile. Between
 * rows nothing is written.
 *
 * Values are computed in f32 and rounded once (to nearest, ties to even) to f16 or bf16; beyond the
 * range they become infinite. A raw tile decoded to its own type is copied bit by bit.
 */
void codec_decode(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim,
		  const void *tile, void *dst, enum codec_dtype dtype,
		  ptrdiff_t stride_token_elements);

/*
 * Attention on packed tiles, for @n queries at once (1..CODEC_QUERIES_MAX), which share one pass
 * over the bytes.
 */
#define CODEC_QUERIES_MAX 32u

/*
 * Products of queries with every token of a K tile: scores[i * @score_stride + t] is the sum over
 * channels of queries[i * @query_stride + c] * K[t][c]. Strides count values. Exact products of raw
 * tiles, summed in f32; for the others the query, times the channel's scale, is rounded to 15 bits
 * (codec/packed.h says how), which is far below the error of the codes. Queries or scales that are
 * not finite give unspecified scores.
 */
void codec_scores(enum codec_id id, uint32_t tokens, uint32_t head_dim, const void *tile,
		  const float *queries, ptrdiff_t query_stride, uint32_t n, float *scores,
		  ptrdiff_t score_stride);

/*
 * Adds weighted tokens of a V tile: out[i * @out_stride + c] += sum over tokens of
 * weights[i * @weight_stride + t] * V[t][c]. Weights are rounded as queries are.
 */
void codec_accumulate(enum codec_id id, uint32_t tokens, uint32_t head_dim, const void *tile,
		      const float *weights, ptrdiff_t weight_stride, uint32_t n, float *out,
		      ptrdiff_t out_stride);

/*
 * Asks the processor for what the two functions above read first of a tile: its scales, which lie
 * at the end, and its first rows. For a caller that knows the tile it will read next, while it
 * still reads another one; codec_attend() does so by itself. Only a hint.
 */
void codec_prefetch(enum codec_id id, enum codec_role role, uint32_t tokens, uint32_t head_dim,
		    const void *tile);

/* The K and V tile of one head over a run of tokens. The open end of a sequence is a raw one. */
struct codec_span {
	enum codec_id codec_k;
	enum codec_id codec_v;
	uint32_t tokens;
	const void *k;
	const void *v;
};

/* Queries of one K/V head and where their answers go. Strides count values. */
struct codec_attention {
	uint32_t head_dim_k;
	uint32_t head_dim_v;
	uint32_t n_queries; /* 1..CODEC_QUERIES_MAX */
	const float *queries;
	ptrdiff_t query_stride;
	float scale; /* of scores before the exponential; usually 1 / sqrt(head_dim_k) */
	float *out;
	ptrdiff_t out_stride;
};

/*
 * Attention of the queries over all tokens of the spans, in order: out = sum of
 * exp(scale * score) * V / sum of exp(scale * score), by the online softmax (Milakov and
 * Gimelshein, arXiv 1805.02867): one pass, nothing decoded to memory. No spans: zeros. A result
 * depends on the spans and its query only, not on the other queries.
 */
void codec_attend(const struct codec_attention *attention, const struct codec_span *spans,
		  size_t n_spans);

/*
 * The instruction set in use: "avx512", "avx2", "neon" or "scalar". The best one that this processor has,
 * or the one named by the environment variable KVC_ISA when the processor has it (other values of
 * KVC_ISA are ignored). Settled at first use.
 */
const char *codec_isa_name(void);

/*
 * The kernels of one instruction set, for tests and benchmarks; NULL when unknown, not built or not
 * supported here.
 */
const struct codec_isa *codec_isa_get(const char *name);

/* As the functions above, on the kernels of @isa. */
int codec_isa_encode(const struct codec_isa *isa, enum codec_id id, enum codec_role role,
		     uint32_t tokens, uint32_t head_dim, const void *src, enum codec_dtype dtype,
		     ptrdiff_t stride_token_elements, void *dst_tile,
		     struct codec_fault *ret_fault);
void codec_isa_decode(const struct codec_isa *isa, enum codec_id id, enum codec_role role,
		      uint32_t tokens, uint32_t head_dim, const void *tile, void *dst,
		      enum codec_dtype dtype, ptrdiff_t stride_token_elements);
void codec_isa_scores(const struct codec_isa *isa, enum codec_id id, uint32_t tokens,
		      uint32_t head_dim, const void *tile, const float *queries,
		      ptrdiff_t query_stride, uint32_t n, float *scores, ptrdiff_t score_stride);
void codec_isa_accumulate(const struct codec_isa *isa, enum codec_id id, uint32_t tokens,
			  uint32_t head_dim, const void *tile, const float *weights,
			  ptrdiff_t weight_stride, uint32_t n, float *out, ptrdiff_t out_stride);
void codec_isa_attend(const struct codec_isa *isa, const struct codec_attention *attention,
		      const struct codec_span *spans, size_t n_spans);
