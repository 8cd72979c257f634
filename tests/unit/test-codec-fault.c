/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input that codecs refuse: NaN, infinity and numbers too large, of any type, at every place where
 * a kernel changes from one way of working to another. The position must be named exactly.
 */
#include "tests/unit/test-codec.h"

#define FAULT_TOKENS 37u
#define FAULT_DIM 104u

static uint8_t tile[FAULT_TOKENS * FAULT_DIM * 4];
static uint8_t fault_source[FAULT_TOKENS * FAULT_DIM * 4];

static int fault_encode(const struct codec_isa *isa, enum codec_id id, enum codec_role role,
			enum codec_dtype dtype, struct codec_fault *ret_fault)
{
	*ret_fault = (struct codec_fault){ 1000, 1000 };
	return codec_isa_encode(isa, id, role, FAULT_TOKENS, FAULT_DIM, fault_source, dtype,
				FAULT_DIM, tile, ret_fault);
}

/* Puts the value at each interesting place of a good source and expects the result. */
static void check_fault(enum codec_id id, enum codec_role role, enum codec_dtype dtype,
			const void *value, int expected)
{
	static const uint32_t tokens[] = { 0, 1, 7, 8, 15, 16, 31, 32, 36 };
	static const uint32_t channels[] = { 0,	 1,  7,	 8,  15, 16, 31, 32,
					     47, 48, 63, 64, 80, 95, 96, 103 };
	const size_t value_bytes = codec_dtype_bytes(dtype);

	for (size_t n = 0; n < COUNT(tokens) * COUNT(channels) * COUNT(isa_names); n++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[n % COUNT(isa_names)]);
		const uint32_t token = tokens[n / COUNT(isa_names) % COUNT(tokens)];
		const uint32_t channel = channels[n / COUNT(isa_names) / COUNT(tokens)];
		uint8_t *at = fault_source + (token * FAULT_DIM + channel) * value_bytes;
		struct codec_fault fault;
		uint8_t good[4];
		int r;

		if (!isa)
			continue;
		memcpy(good, at, value_bytes);
		memcpy(at, value, value_bytes);
		r = fault_encode(isa, id, role, dtype, &fault);
		memcpy(at, good, value_bytes);
		assert_int_equal(r, expected);
		assert_int_equal(fault.token, expected ? token : 1000);
		assert_int_equal(fault.channel, expected ? channel : 1000);
	}
}

static void fault_source_fill(enum codec_dtype dtype)
{
	uint64_t seed = 8;

	for (uint32_t i = 0; i < FAULT_TOKENS * FAULT_DIM; i++)
		value_put(fault_source, dtype, i, random_gaussian(&seed));
}

static void test_nonfinite(void **state)
{
	static const uint32_t f32[] = { 0x7fc00000, 0xffc00000, 0x7f800001,
					0x7f800000, 0xff800000, 0xffffffff };
	static const uint16_t f16[] = { 0x7e00, 0xfe00, 0x7c01, 0x7c00, 0xfc00, 0xffff };
	static const uint16_t bf16[] = { 0x7fc0, 0xffc0, 0x7f81, 0x7f80, 0xff80, 0xffff };

	for (size_t d = 0; d < COUNT(dtypes); d++) {
		fault_source_fill(dtypes[d]);
		for (size_t n = 0; n < COUNT(codec_ids) * CODEC_ROLE_COUNT * COUNT(f32); n++) {
			const size_t v = n % COUNT(f32);
			const void *value = dtypes[d] == CODEC_DTYPE_F32   ? (const void *)&f32[v]
					    : dtypes[d] == CODEC_DTYPE_F16 ? (const void *)&f16[v]
									   : (const void *)&bf16[v];

			check_fault(codec_ids[n / COUNT(f32) / CODEC_ROLE_COUNT],
				    n / COUNT(f32) % CODEC_ROLE_COUNT, dtypes[d], value,
				    CODEC_NONFINITE);
		}
	}
}

static void test_range(void **state)
{
	const float just_beyond = nextafterf(65504, INFINITY);
	const float beyond_bf16 = nextafterf(BF16_MAX, INFINITY);

	for (size_t n = 0; n < COUNT(codec_ids) * CODEC_ROLE_COUNT * 2; n++) {
		const enum codec_id id = codec_ids[n / 2 / CODEC_ROLE_COUNT];
		const enum codec_role role = n / 2 % CODEC_ROLE_COUNT;
		const float sign = n % 2 ? -1 : 1;
		const bool f16_limited = id != CODEC_F32 && id != CODEC_BF16;
		const float values_f32[] = { sign * 65504, sign * just_beyond, sign * BF16_MAX,
					     sign * beyond_bf16, sign * __FLT_MAX__ };
		const int beyond_f16 = f16_limited ? CODEC_RANGE : 0;
		const int beyond_all = id == CODEC_F32 ? 0 : CODEC_RANGE;
		const int expected[] = { 0, beyond_f16, beyond_f16, beyond_all, beyond_all };
		const uint16_t bf16_65536 = bf16_from_f32(sign * 65536);

		fault_source_fill(CODEC_DTYPE_F32);
		for (size_t v = 0; v < COUNT(expected); v++)
			check_fault(id, role, CODEC_DTYPE_F32, &values_f32[v], expected[v]);
		fault_source_fill(CODEC_DTYPE_BF16);
		check_fault(id, role, CODEC_DTYPE_BF16, &bf16_65536, beyond_f16);
	}
}

/* Of several refused values the first in token-major order is named, whatever its kind. */
static void test_first_fault(void **state)
{
	struct codec_fault fault;

	for (size_t n = 0; n < COUNT(codec_ids) * CODEC_ROLE_COUNT * COUNT(isa_names); n++) {
		const struct codec_isa *isa = codec_isa_get(isa_names[n % COUNT(isa_names)]);
		const enum codec_id id = codec_ids[n / COUNT(isa_names) / CODEC_ROLE_COUNT];
		const enum codec_role role = n / COUNT(isa_names) % CODEC_ROLE_COUNT;

		if (!isa)
			continue;
		fault_source_fill(CODEC_DTYPE_F32);
		value_put(fault_source, CODEC_DTYPE_F32, 20 * FAULT_DIM + 3, NAN);
		value_put(fault_source, CODEC_DTYPE_F32, 19 * FAULT_DIM + 101, -INFINITY);
		value_put(fault_source, CODEC_DTYPE_F32, 19 * FAULT_DIM + 102, NAN);
		assert_int_equal(fault_encode(isa, id, role, CODEC_DTYPE_F32, &fault),
				 CODEC_NONFINITE);
		assert_int_equal(fault.token, 19);
		assert_int_equal(fault.channel, 101);
		assert_int_equal(codec_isa_encode(isa, id, role, FAULT_TOKENS, FAULT_DIM,
						  fault_source, CODEC_DTYPE_F32, FAULT_DIM, tile,
						  NULL),
				 CODEC_NONFINITE);
		if (id == CODEC_F32 || id == CODEC_BF16)
			continue;
		value_put(fault_source, CODEC_DTYPE_F32, 18 * FAULT_DIM + 103, 1e6f);
		assert_int_equal(fault_encode(isa, id, role, CODEC_DTYPE_F32, &fault), CODEC_RANGE);
		assert_int_equal(fault.token, 18);
		assert_int_equal(fault.channel, 103);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_nonfinite),
	cmocka_unit_test(test_range),
	cmocka_unit_test(test_first_fault),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
