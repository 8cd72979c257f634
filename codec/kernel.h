/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the front (codec.c) and the kernels: what a kernel is given, and the table in which an
 * instruction set lists its kernels by codec and role. A new operation is a new member of struct
 * codec_ops; a new instruction set is a new table in the list of its processor family (isa-x86.c,
 * isa-generic.c).
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
	CODEC_INDEX_Q4,
	CODEC_INDEX_COUNT,
};

struct codec_format {
	enum codec_id id;
	const char *name;
	uint32_t bits;	      /* of one code, or of one raw value */
	enum codec_dtype raw; /* type of raw values; 0: grouped */
	float magnitude_max;  /* larger values are refused */
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

struct codec_ops {
	codec_encode_fn *encode;
	codec_decode_fn *decode;
};

struct codec_isa {
	const char *name;
	struct codec_ops ops[CODEC_INDEX_COUNT][CODEC_ROLE_COUNT];
};

/* Every instruction set defines these (raw-ISA.c, quant-ISA.c). */
#define CODEC_KERNELS_DECLARE(isa)                                                                 \
	codec_encode_fn raw_f32_encode_##isa, raw_f16_encode_##isa, raw_bf16_encode_##isa;         \
	codec_decode_fn raw_f32_decode_##isa, raw_f16_decode_##isa, raw_bf16_decode_##isa;         \
	codec_encode_fn q8_encode_k_##isa, q6_encode_k_##isa, q4_encode_k_##isa;                   \
	codec_encode_fn q8_encode_v_##isa, q6_encode_v_##isa, q4_encode_v_##isa;                   \
	codec_decode_fn q8_decode_k_##isa, q6_decode_k_##isa, q4_decode_k_##isa;                   \
	codec_decode_fn q8_decode_v_##isa, q6_decode_v_##isa, q4_decode_v_##isa

/* Raw tiles do not depend on the role. */
#define CODEC_RAW_OPS(type, isa)                                                                   \
	{ { raw_##type##_encode_##isa, raw_##type##_decode_##isa },                                \
	  { raw_##type##_encode_##isa, raw_##type##_decode_##isa } }

#define CODEC_QUANT_OPS(codec, isa)                                                                \
	{ [CODEC_ROLE_K] = { codec##_encode_k_##isa, codec##_decode_k_##isa },                     \
	  [CODEC_ROLE_V] = { codec##_encode_v_##isa, codec##_decode_v_##isa } }

/* The initialiser of an instruction set's table. */
#define CODEC_KERNELS_TABLE(isa)                                                                   \
	{ .name = #isa,                                                                            \
	  .ops = { [CODEC_INDEX_F32] = CODEC_RAW_OPS(f32, isa),                                    \
		   [CODEC_INDEX_F16] = CODEC_RAW_OPS(f16, isa),                                    \
		   [CODEC_INDEX_BF16] = CODEC_RAW_OPS(bf16, isa),                                  \
		   [CODEC_INDEX_Q8] = CODEC_QUANT_OPS(q8, isa),                                    \
		   [CODEC_INDEX_Q6] = CODEC_QUANT_OPS(q6, isa),                                    \
		   [CODEC_INDEX_Q4] = CODEC_QUANT_OPS(q4, isa) } }

CODEC_KERNELS_DECLARE(scalar);
CODEC_KERNELS_DECLARE(avx2);
CODEC_KERNELS_DECLARE(avx512);

extern const struct codec_isa codec_isa_scalar;

/* The tables of this build, best first. The last entry's test is NULL: it runs everywhere. */
struct codec_isa_entry {
	const struct codec_isa *isa;
	bool (*supported)(void); /* by this processor and its operating system */
};

extern const struct codec_isa_entry codec_isas[];
