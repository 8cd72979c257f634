/* SPDX-License-Identifier: Apache-2.0 */
/* Records, the rate and the forecast, each alone. */
#include "daemon/tier/pace.h"
#include "daemon/tier/record.h"
#include "tests/lib/harness.h"

#include <string.h>

#define S UINT64_C(1000000000)

static void block_item(struct tier_item *item, const uint64_t *checksums)
{
	*item = (struct tier_item){
		.kind = TIER_BLOCK,
		.offset = 8192,
		.block = {
			.space = { { 1, 2, 3 } },
			.key = { (const uint8_t *)"key", 3 },
			.parent = { (const uint8_t *)"parent", 6 },
			.tokens = 128,
			.page_count = 2,
			.page_bytes = 1000,
			.slot_bytes = 1024,
		},
		.checksums = checksums,
	};
}

static void test_item(void **state)
{
	const uint64_t checksums[2] = { 7, UINT64_MAX };
	_Alignas(8) uint8_t bytes[256];
	struct tier_item item, got;
	size_t n;

	block_item(&item, checksums);
	n = tier_item_bytes(&item);
	assert_int_equal(n % 8, 0);
	tier_item_write(bytes, &item);
	assert_int_equal(tier_item_read(bytes, n, &got), n);
	assert_int_equal(got.offset, 8192);
	assert_int_equal(got.checksums[1], UINT64_MAX);
	assert_memory_equal(got.block.key.bytes, "key", 3);
	assert_memory_equal(got.block.parent.bytes, "parent", 6);
	assert_int_equal(got.block.slot_bytes, 1024);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(tier_item_read(bytes, cut, &got), 0);
}

/* Each field that could lead astray, set to what it must not be. */
static void test_item_refused(void **state)
{
	const uint64_t checksums[2] = { 0 };
	_Alignas(8) uint8_t bytes[256];
	struct tier_item_record *record = (struct tier_item_record *)(void *)bytes, good;
	struct tier_item item, got;
	size_t n;

	block_item(&item, checksums);
	n = tier_item_bytes(&item);
	tier_item_write(bytes, &item);
	good = *record;
#define REFUSED(field, value)                                                                                          \
	do {                                                                                                           \
		*record = good;                                                                                        \
		record->field = (value);                                                                               \
		assert_int_equal(tier_item_read(bytes, n, &got), 0);                                                   \
	} while (0)
	REFUSED(bytes, good.bytes + 8);
	REFUSED(bytes, 0);
	REFUSED(kind, TIER_SEGMENT);
	REFUSED(kind, TIER_REMOVALS);
	REFUSED(key_bytes, 0);
	REFUSED(key_bytes, KVP_KEY_BYTES_MAX + 1);
	REFUSED(parent_bytes, KVP_KEY_BYTES_MAX + 1);
	REFUSED(offset, 8193);
	REFUSED(tokens, 0);
	REFUSED(tokens, KVP_BLOCK_TOKENS_MAX + 1);
	REFUSED(page_count, 0);
	REFUSED(page_count, 3);
	REFUSED(page_count, UINT32_MAX);
	REFUSED(page_bytes, 0);
	REFUSED(page_bytes, KVP_PAGE_BYTES_MAX + 1);
	REFUSED(slot_bytes, 1536);
#undef REFUSED
	*record = good;
	assert_int_equal(tier_item_read(bytes, n, &got), n);
}

static void test_record(void **state)
{
	_Alignas(4096) uint8_t bytes[TIER_ALIGN];
	const struct tier_life life = { 5, 77 }, later = { 6, 77 }, other = { 5, 78 };

	memset(bytes, 0xab, sizeof(bytes));
	tier_record_finish(bytes, TIER_REMOVALS, &life, 4096, 100, 1);
	assert_int_equal(bytes[100], 0);
	assert_int_equal(bytes[TIER_ALIGN - 1], 0);
	assert_true(tier_record_check(bytes, TIER_ALIGN, &life, 4096));
	assert_false(tier_record_check(bytes, TIER_ALIGN, &later, 4096));
	assert_false(tier_record_check(bytes, TIER_ALIGN, &other, 4096));
	assert_false(tier_record_check(bytes, TIER_ALIGN, &life, 8192));
	assert_false(tier_record_check(bytes, 99, &life, 4096));
	for (unsigned i = 0; i < 100; i++) {
		bytes[i] ^= 1;
		assert_false(tier_record_check(bytes, TIER_ALIGN, &life, 4096));
		bytes[i] ^= 1;
	}
}

static void test_segment_and_end(void **state)
{
	_Alignas(4096) uint8_t bytes[TIER_ALIGN] = { 0 };
	const struct tier_life life = { 5, 77 };
	struct tier_life got;
	uint64_t footer;
	uint32_t chunks;

	assert_false(tier_segment_read(bytes, 3, 1 << 20, &got));
	tier_segment_write(bytes, &life, 3, 1 << 20);
	assert_true(tier_segment_read(bytes, 3, 1 << 20, &got));
	assert_int_equal(got.salt, 77);
	assert_false(tier_segment_read(bytes, 4, 1 << 20, &got)); /* another file's */
	assert_false(tier_segment_read(bytes, 3, 1 << 21, &got));
	tier_end_write(bytes, &life, 1 << 20, 8192, 2);
	assert_true(tier_end_read(bytes, &life, 1 << 20, &footer, &chunks));
	assert_int_equal(footer, 8192);
	assert_int_equal(chunks, 2);
	tier_end_write(bytes, &life, 1 << 20, 1 << 20, 2);
	assert_false(tier_end_read(bytes, &life, 1 << 20, &footer, &chunks));
}

static void test_rate(void **state)
{
	struct tier_rate rate;

	tier_rate_init(&rate, 0, 0);
	tier_rate_take(&rate, UINT64_MAX / 2);
	assert_true(tier_rate_open(&rate, 0));
	tier_rate_init(&rate, 1000, 0);
	assert_true(tier_rate_open(&rate, 0));
	tier_rate_take(&rate, 1500); /* one second's worth was there: half a second is owed */
	assert_false(tier_rate_open(&rate, 0));
	assert_false(tier_rate_open(&rate, S / 2));
	assert_true(tier_rate_open(&rate, S / 2 + S / 1000));
	(void)tier_rate_open(&rate, 1000 * S); /* no more than a second's worth is saved */
	tier_rate_take(&rate, 1000);
	assert_false(tier_rate_open(&rate, 1000 * S));
	assert_false(tier_rate_open(&rate, 0)); /* time that runs backwards */
}

/* In steps that are too short for one byte nothing may be lost. */
static void test_rate_slow(void **state)
{
	struct tier_rate rate;

	tier_rate_init(&rate, 10, 0);
	tier_rate_take(&rate, 10);
	for (uint64_t ns = 0; ns <= S / 5; ns += S / 1000)
		(void)tier_rate_open(&rate, ns);
	assert_true(tier_rate_open(&rate, S / 5));
}

static void test_forecast(void **state)
{
	struct tier_forecast forecast;
	uint64_t now = 1000, guess;

	tier_forecast_init(&forecast);
	guess = tier_forecast_ns(&forecast, 0, 1 << 20);
	assert_true(guess > TIER_GUESS_LATENCY_NS && guess < S);
	assert_true(tier_forecast_ns(&forecast, 1 << 30, 1 << 20) > guess);
	/* 4 GiB/s, eight reads of 64 KiB at a time. */
	for (unsigned i = 0; i < 1000; i++) {
		for (unsigned j = 0; j < 8; j++)
			tier_forecast_begun(&forecast, now);
		now += 8 * 65536 * S / (UINT64_C(4) << 30);
		for (unsigned j = 0; j < 8; j++)
			tier_forecast_ended(&forecast, now - 100, now, 65536);
	}
	assert_in_range(forecast.bytes_per_s, UINT64_C(3) << 30, UINT64_C(5) << 30);
	/* Single slow reads are about latency. */
	for (unsigned i = 0; i < 100; i++) {
		tier_forecast_begun(&forecast, now);
		tier_forecast_ended(&forecast, now, now + 5000000, 4096);
		now += 5000000;
	}
	assert_in_range(forecast.latency_ns, 4900000, 5000000);
	assert_in_range(forecast.bytes_per_s, UINT64_C(3) << 30, UINT64_C(5) << 30);
	assert_true(tier_forecast_ns(&forecast, UINT64_MAX, UINT64_MAX) > S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_item),      cmocka_unit_test(test_item_refused),
		cmocka_unit_test(test_record),    cmocka_unit_test(test_segment_and_end),
		cmocka_unit_test(test_rate),      cmocka_unit_test(test_rate_slow),
		cmocka_unit_test(test_forecast),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
