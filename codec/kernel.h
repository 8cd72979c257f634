/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the front (codec.c) and the kernels: what a kernel is given, and the table in which an
 * instruction set lists its kernels by codec and role. A new operation is a new member of struct
 * codec_ops; a new instruction set is a new table in the list of its processor family (isa-x86.c,
 * isa-arm.c, isa-generic.c).
 */
#pragma once

#include "codec/codec.h"

/* Dense numbers of the codecs, for tables. */
enum codec_index {
	CODEC_INDEX_F32,
	CODEC_INDEX_F16,
	CODEC_INDEX_BF16,
	CODEC_INDEX_Q8,
	CODEC_INDEX_Q6,
	CODEC_INDEX_Q5,
	CODEC_INDEX_Q4,
	CODEC_INDEX_T8,
	CODEC_INDEX_T6,
	CODEC_INDEX_T5,
	CODEC_INDEX_T4,
	CODEC_INDEX_T8G32,
	CODEC_INDEX_T6G32,
	CODEC_INDEX_T5G32,
	CODEC_INDEX_T4G32,
	CODEC_INDEX_T8G16,
	CODEC_INDEX_T6G16,
	CODEC_INDEX_T5G16,
	CODEC_INDEX_T4G16,
	CODEC_INDEX_COUNT,
};

struct codec_format {
	enum codec_id id;
	const char *name;
	uint32_t bits;	      /* of one code, or of one raw value */
	enum codec_dtype raw; /* type of raw values; 0: grouped */
	float magnitude_max;  /* larger values are refused */
	bool trellis;
	uint32_t scale_channels; /* of V: channels that share a log scale; 0: one scale a token */
};

extern const struct codec_format codec_formats[CODEC_INDEX_COUNT];

/* The dense number of a codec; CODEC_INDEX_COUNT when it is not known. */
enum codec_index codec_index_of(uint32_t id);

/* Values outside a tile. Token t starts t * stride_bytes after base. */
struct codec_source {
	const uint8_t *base;
	ptrdiff_t stride_bytes;
	enum codec_dtype dtype;
};

struct codec_target {
	uint8_t *base;
	ptrdiff_t stride_bytes;
	enum codec_dtype dtype;
};

static inline const uint8_t *source_row(const struct codec_source *src, uint32_t token)
{
	return src->base + (ptrdiff_t)token * src->stride_bytes;
}

static inline uint8_t *target_row(const struct codec_target *dst, uint32_t token)
{
	return dst->base + (ptrdiff_t)token * dst->stride_bytes;
}

static inline uint8_t *tile_row(const struct codec_layout *layout, uint8_t *tile, uint32_t token)
{
	return tile + (size_t)token * layout->row_bytes;
}

static inline const uint8_t *tile_row_const(const struct codec_layout *layout, const uint8_t *tile,
					    uint32_t token)
{
	return tile + (size_t)token * layout->row_bytes;
}

/*
 * Calls fn with the type as a constant first argument, so that an inlined kernel is compiled once
 * for each type.
 */
#define DTYPE_CONSTANT(dtype, fn, ...)                                                             \
	((dtype) == CODEC_DTYPE_F32   ? fn(CODEC_DTYPE_F32, __VA_ARGS__)                           \
	 : (dtype) == CODEC_DTYPE_F16 ? fn(CODEC_DTYPE_F16, __VA_ARGS__)                           \
				      : fn(CODEC_DTYPE_BF16, __VA_ARGS__))

/*
 * Encode returns false when the source holds a value that is not finite or beyond the format's
 * magnitude_max; finding which is left to the caller. Neither touches a byte outside tile and rows.
 */
typedef bool codec_encode_fn(const struct codec_layout *layout, const struct codec_source *src,
			     uint8_t *tile);
typedef void codec_decode_fn(const struct codec_layout *layout, const uint8_t *tile,
			     const struct codec_target *dst);

/* @n rows of f32, @stride values apart: queries, weights, and where results go. */
struct codec_rows {
	const float *values;
	ptrdiff_t stride;
};

struct codec_results {
	float *values;
	ptrdiff_t stride;
};

/* One row of results a query; see codec_scores() and codec_accumulate(). */
typedef void codec_scores_fn(const struct codec_layout *layout, const uint8_t *tile,
			     const struct codec_rows *queries, uint32_t n,
			     const struct codec_results *scores);
typedef void codec_accumulate_fn(const struct codec_layout *layout, const uint8_t *tile,
				 const struct codec_rows *weights, uint32_t n,
				 const struct codec_results *out);

struct codec_ops {
	codec_encode_fn *encode;
	codec_decode_fn *decode;
	codec_scores_fn *scores;	 /* of K; NULL for V */
	codec_accumulate_fn *accumulate; /* of V; NULL for K */
};

/* What attention does beside tiles; see packed.h for the arithmetic. */
struct codec_softmax_ops {
	/* The largest of count > 0 scores. */
	float (*largest)(const float *scores, uint32_t count);

	/* scores[i] = exp(scores[i] * scale - shift); their sum in sixteen lanes. */
	float (*exponentials)(float *scores, uint32_t count, float scale, float shift);

	/* values[i] *= factor */
	void (*multiply)(float *values, uint32_t count, float factor);
};

struct codec_isa {
	const char *name;
	struct codec_ops ops[CODEC_INDEX_COUNT][CODEC_ROLE_COUNT];
	struct codec_softmax_ops softmax;
};

/* --- What the files of an instruction set define --------------------------------------------- */

/* raw-ISA.c */
#define CODEC_RAW_DECLARE(isa)                                                                     \
	codec_encode_fn raw_f32_encode_##isa, raw_f16_encode_##isa, raw_bf16_encode_##isa;         \
	codec_decode_fn raw_f32_decode_##isa, raw_f16_decode_##isa, raw_bf16_decode_##isa

/* quant-ISA.c; trellis-ISA.c has the same for its codecs */
#define CODEC_GROUPED_DECLARE(codec, isa)                                                          \
	codec_encode_fn codec##_encode_k_##isa, codec##_encode_v_##isa;                            \
	codec_decode_fn codec##_decode_k_##isa, codec##_decode_v_##isa

/* K of t*g32 and t*g16 is that of t*. */
#define CODEC_TRELLIS_DECLARE(bits, isa)                                                           \
	CODEC_GROUPED_DECLARE(t##bits, isa);                                                       \
	codec_encode_fn t##bits##g32_encode_v_##isa, t##bits##g16_encode_v_##isa;                  \
	codec_decode_fn t##bits##g32_decode_v_##isa, t##bits##g16_decode_v_##isa

/* packed-ISA.c */
#define CODEC_PACKED_DECLARE(isa)                                                                  \
	codec_scores_fn f32_scores_##isa, f16_scores_##isa, bf16_scores_##isa;                     \
	codec_scores_fn q8_scores_##isa, q6_scores_##isa, q5_scores_##isa, q4_scores_##isa;        \
	codec_scores_fn t8_scores_##isa, t6_scores_##isa, t5_scores_##isa, t4_scores_##isa;        \
	codec_accumulate_fn f32_accumulate_##isa, f16_accumulate_##isa, bf16_accumulate_##isa;     \
	codec_accumulate_fn q8_accumulate_##isa, q6_accumulate_##isa;                              \
	codec_accumulate_fn q5_accumulate_##isa, q4_accumulate_##isa;                              \
	codec_accumulate_fn t8_accumulate_##isa, t6_accumulate_##isa;                              \
	codec_accumulate_fn t5_accumulate_##isa, t4_accumulate_##isa;                              \
	codec_accumulate_fn t8g_accumulate_##isa, t6g_accumulate_##isa;                            \
	codec_accumulate_fn t5g_accumulate_##isa, t4g_accumulate_##isa;                            \
	float softmax_largest_##isa(const float *scores, uint32_t count);                          \
	float softmax_exponentials_##isa(float *scores, uint32_t count, float scale, float shift); \
	void softmax_multiply_##isa(float *values, uint32_t count, float factor)

#define CODEC_KERNELS_DECLARE(isa)                                                                 \
	CODEC_RAW_DECLARE(isa);                                                                    \
	CODEC_GROUPED_DECLARE(q8, isa);                                                            \
	CODEC_GROUPED_DECLARE(q6, isa);                                                            \
	CODEC_GROUPED_DECLARE(q5, isa);                                                            \
	CODEC_GROUPED_DECLARE(q4, isa);                                                            \
	CODEC_TRELLIS_DECLARE(8, isa);                                                             \
	CODEC_TRELLIS_DECLARE(6, isa);                                                             \
	CODEC_TRELLIS_DECLARE(5, isa);                                                             \
	CODEC_TRELLIS_DECLARE(4, isa);                                                             \
	CODEC_PACKED_DECLARE(isa)

/* --- Tables ---------------------------------------------------------------------------------- */

/* Raw tiles do not depend on the role. */
#define CODEC_RAW_OPS(type, isa, packed)                                                           \
	{ [CODEC_ROLE_K] = { raw_##type##_encode_##isa, raw_##type##_decode_##isa,                 \
			     .scores = type##_scores_##packed },                                   \
	  [CODEC_ROLE_V] = { raw_##type##_encode_##isa, raw_##type##_decode_##isa,                 \
			     .accumulate = type##_accumulate_##packed } }

/* @name is how the K kernels are called, @value the V kernels, @sum the accumulation. */
#define CODEC_GROUPED_OPS(name, value, sum, isa, packed)                                           \
	{ [CODEC_ROLE_K] = { name##_encode_k_##isa, name##_decode_k_##isa,                         \
			     .scores = name##_scores_##packed },                                   \
	  [CODEC_ROLE_V] = { value##_encode_v_##isa, value##_decode_v_##isa,                       \
			     .accumulate = sum##_accumulate_##packed } }

/*
 * The initialiser of an instruction set's table. The last three arguments name the sets whose
 * quant, trellis and packed kernels it takes: its own, or another's that it lacks.
 */
#define CODEC_KERNELS_TABLE(isa, quant, trellis, packed)                                           \
	{ .name = #isa,                                                                            \
	  .ops = { [CODEC_INDEX_F32] = CODEC_RAW_OPS(f32, isa, packed),                            \
		   [CODEC_INDEX_F16] = CODEC_RAW_OPS(f16, isa, packed),                            \
		   [CODEC_INDEX_BF16] = CODEC_RAW_OPS(bf16, isa, packed),                          \
		   [CODEC_INDEX_Q8] = CODEC_GROUPED_OPS(q8, q8, q8, quant, packed),                \
		   [CODEC_INDEX_Q6] = CODEC_GROUPED_OPS(q6, q6, q6, quant, packed),                \
		   [CODEC_INDEX_Q5] = CODEC_GROUPED_OPS(q5, q5, q5, quant, packed),                \
		   [CODEC_INDEX_Q4] = CODEC_GROUPED_OPS(q4, q4, q4, quant, packed),                \
		   [CODEC_INDEX_T8] = CODEC_GROUPED_OPS(t8, t8, t8, trellis, packed),              \
		   [CODEC_INDEX_T6] = CODEC_GROUPED_OPS(t6, t6, t6, trellis, packed),              \
		   [CODEC_INDEX_T5] = CODEC_GROUPED_OPS(t5, t5, t5, trellis, packed),              \
		   [CODEC_INDEX_T4] = CODEC_GROUPED_OPS(t4, t4, t4, trellis, packed),              \
		   [CODEC_INDEX_T8G32] = CODEC_GROUPED_OPS(t8, t8g32, t8g, trellis, packed),       \
		   [CODEC_INDEX_T6G32] = CODEC_GROUPED_OPS(t6, t6g32, t6g, trellis, packed),       \
		   [CODEC_INDEX_T5G32] = CODEC_GROUPED_OPS(t5, t5g32, t5g, trellis, packed),       \
		   [CODEC_INDEX_T4G32] = CODEC_GROUPED_OPS(t4, t4g32, t4g, trellis, packed),       \
		   [CODEC_INDEX_T8G16] = CODEC_GROUPED_OPS(t8, t8g16, t8g, trellis, packed),       \
		   [CODEC_INDEX_T6G16] = CODEC_GROUPED_OPS(t6, t6g16, t6g, trellis, packed),       \
		   [CODEC_INDEX_T5G16] = CODEC_GROUPED_OPS(t5, t5g16, t5g, trellis, packed),       \
		   [CODEC_INDEX_T4G16] = CODEC_GROUPED_OPS(t4, t4g16, t4g, trellis, packed) },     \
	  .softmax = { softmax_largest_##packed, softmax_exponentials_##packed,                    \
		       softmax_multiply_##packed } }

CODEC_KERNELS_DECLARE(scalar);
CODEC_KERNELS_DECLARE(avx2);
CODEC_KERNELS_DECLARE(avx512);
CODEC_KERNELS_DECLARE(neon);

extern const struct codec_isa codec_isa_scalar;

/* The tables of this build, best first. The last entry's test is NULL: it runs everywhere. */
struct codec_isa_entry {
	const struct codec_isa *isa;
	bool (*supported)(void); /* by this processor and its operating system */
};

extern const struct codec_isa_entry codec_isas[];
