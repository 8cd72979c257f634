/* SPDX-License-Identifier: Apache-2.0 */
/* f16 and bf16 conversions, judged by exact arithmetic in double. */
#include "tests/unit/test-codec.h"

/* The value of a finite f16 from its fields. */
static double half_value(uint16_t half)
{
	const int exponent = half >> 10 & 0x1f;
	const int fraction = half & 0x3ff;
	const double magnitude =
		exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);

	return half & 0x8000 ? -magnitude : magnitude;
}

static void test_half_to_f32(void **state)
{
	for (uint32_t half = 0; half < 0x10000; half++) {
		const float value = half_to_f32((uint16_t)half);

		if ((half & 0x7fff) > 0x7c00) {
			assert_true(isnan(value));
			/* Quiet, payload and sign kept: as the hardware does. */
			assert_int_equal(half_from_f32(value), half | 0x200);
		} else if ((half & 0x7fff) == 0x7c00) {
			assert_true(value == (half & 0x8000 ? -INFINITY : INFINITY));
			assert_int_equal(half_from_f32(value), half);
		} else {
			assert_true(value == half_value((uint16_t)half));
			assert_int_equal(half_from_f32(value), half);
			assert_int_equal(half_from_f32_rounded(value, HALF_DOWN), half);
			assert_int_equal(half_from_f32_rounded(value, HALF_UP), half);
		}
	}
}

/* The values are those of two neighbours among f16, infinity being 65536: low <= value < high. */
static void check_rounding(float value, uint16_t low, double low_value, double high_value)
{
	const uint16_t high = (uint16_t)(low + 1);
	const double below = value - low_value;
	const double above = high_value - value;
	const uint16_t nearest = below < above ? low : below > above ? high : low & 1 ? high : low;
	const bool exact = below == 0;

	assert_int_equal(half_from_f32(value), nearest);
	assert_int_equal(half_from_f32_rounded(value, HALF_DOWN), low);
	assert_int_equal(half_from_f32_rounded(value, HALF_UP), exact ? low : high);
	assert_int_equal(half_from_f32(-value), nearest | 0x8000);
	assert_int_equal(half_from_f32_rounded(-value, HALF_DOWN), (exact ? low : high) | 0x8000);
	assert_int_equal(half_from_f32_rounded(-value, HALF_UP), low | 0x8000);
}

/* At every f16, every middle between two, their f32 neighbours, and random places between. */
static void test_half_rounding(void **state)
{
	uint64_t seed = 1;

	for (uint16_t low = 0; low < 0x7c00; low++) {
		const double low_value = half_value(low);
		const double high_value = low == 0x7bff ? 65536 : half_value((uint16_t)(low + 1));
		const float middle = (float)((low_value + high_value) / 2);
		const float end = (float)high_value;
		const float values[] = {
			(float)low_value,
			nextafterf((float)low_value, INFINITY),
			nextafterf(middle, 0),
			middle,
			nextafterf(middle, INFINITY),
			nextafterf(end, 0),
			(float)(low_value + (high_value - low_value) * random_unit(&seed) * 0.999),
		};

		for (size_t i = 0; i < COUNT(values); i++)
			check_rounding(values[i], low, low_value, high_value);
	}
}

static void test_half_beyond_range(void **state)
{
	const float values[] = { 65536.0f, 65537.0f, 1e10f, 3.4e38f };

	for (size_t i = 0; i < COUNT(values); i++) {
		assert_int_equal(half_from_f32(values[i]), 0x7c00);
		assert_int_equal(half_from_f32_rounded(values[i], HALF_UP), 0x7c00);
		assert_int_equal(half_from_f32_rounded(values[i], HALF_DOWN), 0x7bff);
		assert_int_equal(half_from_f32(-values[i]), 0xfc00);
		assert_int_equal(half_from_f32_rounded(-values[i], HALF_DOWN), 0xfc00);
		assert_int_equal(half_from_f32_rounded(-values[i], HALF_UP), 0xfbff);
	}
	assert_int_equal(half_from_f32_rounded(INFINITY, HALF_DOWN), 0x7c00);
	assert_int_equal(half_from_f32_rounded(-INFINITY, HALF_UP), 0xfc00);
}

static void test_bf16(void **state)
{
	uint64_t seed = 2;

	for (uint32_t bf16 = 0; bf16 < 0x10000; bf16++) {
		const float value = bf16_to_f32((uint16_t)bf16);

		assert_int_equal(half_f32_bits(value), bf16 << 16);
		assert_int_equal(bf16_from_f32(value), isnan(value) ? bf16 | 0x40 : bf16);
	}
	for (unsigned i = 0; i < 1000000; i++) {
		const uint32_t bits = (uint32_t)random_u64(&seed) & 0x7effffff;
		const uint16_t low = (uint16_t)(bits >> 16);
		const double value = half_f32_of_bits(bits);
		const double below = value - bf16_to_f32(low);
		const double above = bf16_to_f32((uint16_t)(low + 1)) - value;
		const bool up = above < below || (above == below && (low & 1));

		assert_int_equal(bf16_from_f32((float)value), low + up);
		assert_int_equal(bf16_from_f32((float)-value), (low + up) | 0x8000);
	}
	assert_int_equal(bf16_from_f32(half_f32_of_bits(0x3f808000)), 0x3f80);
	assert_int_equal(bf16_from_f32(half_f32_of_bits(0x3f818000)), 0x3f82);
	assert_int_equal(bf16_from_f32(half_f32_of_bits(0x7f7fffff)), 0x7f80);
	assert_int_equal(bf16_from_f32(half_f32_of_bits(0x7f800001)), 0x7fc0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_half_to_f32),
	cmocka_unit_test(test_half_rounding),
	cmocka_unit_test(test_half_beyond_range),
	cmocka_unit_test(test_bf16),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
