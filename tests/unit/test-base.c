/* SPDX-License-Identifier: Apache-2.0 */
/* Units, text, JSON, checked arithmetic, the list, and when to spin: what every other part stands on. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/list.h"
#include "base/spin.h"
#include "base/text.h"
#include "base/units.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static void test_units_bytes(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "1", 0, 1 },
		{ "1B", 0, 1 },
		{ "4K", 0, 4096 },
		{ "4KiB", 0, 4096 },
		{ "64MiB", 0, 64 * MIB },
		{ "3G", 0, 3 * GIB },
		{ "1TiB", 0, GIB << 10 },
		{ "16777215TiB", 0, UINT64_C(16777215) << 40 },
		{ "16777216TiB", -ERANGE, 0 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999", -ERANGE, 0 },
		{ "16EiB", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "MiB", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1 MiB", -EINVAL, 0 },
		{ "1.5GiB", -EINVAL, 0 },
		{ "1mib", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 77;

		print_message("%s\n", cases[i].text);
		assert_int_equal(units_parse_bytes(cases[i].text, &bytes), cases[i].result);
		assert_int_equal(bytes, cases[i].result ? 77 : cases[i].bytes);
	}
}

static void test_units_ms(void **state)
{
	uint64_t ms = 77;

	assert_int_equal(units_parse_ms("250", &ms), 0);
	assert_int_equal(ms, 250);
	assert_int_equal(units_parse_ms("250ms", &ms), 0);
	assert_int_equal(ms, 250);
	assert_int_equal(units_parse_ms("30s", &ms), 0);
	assert_int_equal(ms, 30000);
	assert_int_equal(units_parse_ms("2min", &ms), 0);
	assert_int_equal(ms, 120000);
	assert_int_equal(units_parse_ms("24h", &ms), 0);
	assert_int_equal(ms, 86400000);
	assert_int_equal(units_parse_ms("2m", &ms), -EINVAL);
	assert_int_equal(units_parse_ms("5124095576030431h", &ms), -ERANGE);
	assert_int_equal(ms, 86400000);
}

static void test_units_u64(void **state)
{
	uint64_t value = 77;

	assert_int_equal(units_parse_u64("18446744073709551615", &value), 0);
	assert_int_equal(value, UINT64_MAX);
	assert_int_equal(units_parse_u64("12B", &value), -EINVAL);
	assert_int_equal(units_parse_u64("", &value), -EINVAL);
	assert_int_equal(value, UINT64_MAX);
}

static void test_units_format(void **state)
{
	char buffer[16];

	assert_string_equal(units_format_bytes(0, buffer, sizeof(buffer)), "0 B");
	assert_string_equal(units_format_bytes(1023, buffer, sizeof(buffer)), "1023 B");
	assert_string_equal(units_format_bytes(1536, buffer, sizeof(buffer)), "1.5 KiB");
	assert_string_equal(units_format_bytes(GIB, buffer, sizeof(buffer)), "1.0 GiB");
	assert_string_equal(units_format_bytes(UINT64_MAX, buffer, sizeof(buffer)), "16.0 EiB");
}

static void test_text_clean(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		bool clean;
	} cases[] = {
		{ "", 0, true },
		{ "plain name-1.0/x", 16, true },
		{ "caf\xc3\xa9", 5, true },
		{ "\xf0\x9f\x90\xb9", 4, true },
		{ "a\0b", 3, false },
		{ "line\n", 5, false },
		{ "\x1b[31m", 5, false },
		{ "\x7f", 1, false },
		{ "\xc2\x85", 2, false },         /* a C1 control character */
		{ "\xc0\xaf", 2, false },         /* '/' in two bytes */
		{ "\xe0\x80\xaf", 3, false },     /* '/' in three bytes */
		{ "\xed\xa0\x80", 3, false },     /* a surrogate */
		{ "\xf4\x90\x80\x80", 4, false }, /* beyond U+10FFFF */
		{ "\xc3", 1, false },             /* cut */
		{ "\xe2\x82", 2, false },
		{ "\xc3(", 2, false },
		{ "\x80", 1, false },
		{ "\xff", 1, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("case %zu\n", i);
		assert_int_equal(text_is_clean(cases[i].bytes, cases[i].n), cases[i].clean);
	}
}

static void test_text_escape(void **state)
{
	char buffer[64];

	assert_string_equal(text_escape("a b~", 4, buffer, sizeof(buffer)), "a b~");
	assert_string_equal(text_escape("a\\\n\x1b\xff\0z", 7, buffer, sizeof(buffer)), "a\\x5c\\x0a\\x1b\\xff\\x00z");
	assert_string_equal(text_escape("", 0, buffer, sizeof(buffer)), "");
	/* What does not fit whole is left out. */
	assert_string_equal(text_escape("ab\n", 3, buffer, 6), "ab");
	assert_string_equal(text_escape("ab\n", 3, buffer, 7), "ab\\x0a");
	assert_string_equal(text_escape("abc", 3, buffer, 3), "ab");
	assert_string_equal(text_escape("abc", 3, buffer, 1), "");
}

static void test_text_hex(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x9f, 0xab, 0xff };
	uint8_t back[4];
	char hex[9];
	size_t n = 99;

	assert_string_equal(text_hex(bytes, sizeof(bytes), hex, sizeof(hex)), "009fabff");
	assert_string_equal(text_hex(bytes, sizeof(bytes), hex, 6), "009f");
	assert_int_equal(text_unhex("009FabFF", back, sizeof(back), &n), 0);
	assert_int_equal(n, 4);
	assert_memory_equal(back, bytes, sizeof(bytes));
	n = 99;
	assert_int_equal(text_unhex("009fabff00", back, sizeof(back), &n), -ERANGE);
	assert_int_equal(text_unhex("", back, sizeof(back), &n), -EINVAL);
	assert_int_equal(text_unhex("abc", back, sizeof(back), &n), -EINVAL);
	assert_int_equal(text_unhex("ag", back, sizeof(back), &n), -EINVAL);
	assert_int_equal(text_unhex("0x12", back, sizeof(back), &n), -EINVAL);
	assert_int_equal(n, 99);
}

static void test_json_document(void **state)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	struct json json;

	assert_non_null(stream);
	json_init(&json, stream);
	json_object_begin(&json);
	json_kv_string(&json, "name", "quote \" slash \\ caf\xc3\xa9");
	json_key(&json, "hostile");
	json_bytes(&json, "\n\x1b\xff\0", 4);
	json_kv_u64(&json, "big", UINT64_MAX);
	json_key(&json, "small");
	json_i64(&json, INT64_MIN);
	json_kv_double(&json, "nan", (double)NAN);
	json_kv_double(&json, "half", 0.5);
	json_kv_bool(&json, "yes", true);
	json_key(&json, "list");
	json_array_begin(&json);
	json_u64(&json, 1);
	json_object_begin(&json);
	json_object_end(&json);
	json_bool(&json, false);
	json_array_end(&json);
	json_object_end(&json);
	json_finish(&json);
	assert_int_equal(fclose(stream), 0);
	assert_string_equal(text, "{\"name\":\"quote \\\" slash \\\\ caf\xc3\xa9\","
				  "\"hostile\":\"\\u000a\\u001b\\u00ff\\u0000\",\"big\":18446744073709551615,"
				  "\"small\":-9223372036854775808,\"nan\":null,\"half\":0.5,"
				  "\"yes\":true,\"list\":[1,{},false]}\n");
}

/* Nine digits: every f32 comes back as it was. */
static void test_json_floats_survive(void **state)
{
	static const float values[] = { 0.1f, 1.17549435e-38f, 3.40282347e38f, -3.00000024f };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char text[64] = "";
		FILE *stream = fmemopen(text, sizeof(text), "w");
		struct json json;
		float back;

		assert_non_null(stream);
		json_init(&json, stream);
		json_double(&json, (double)values[i]);
		assert_int_equal(fclose(stream), 0);
		back = strtof(text, NULL);
		assert_memory_equal(&back, &values[i], sizeof(back));
	}
}

static void test_checked(void **state)
{
	uint64_t value = 77;

	assert_true(checked_add_u64(UINT64_MAX - 1, 1, &value));
	assert_int_equal(value, UINT64_MAX);
	value = 77;
	assert_false(checked_add_u64(UINT64_MAX, 1, &value));
	assert_true(checked_mul_u64(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &value));
	value = 77;
	assert_false(checked_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &value));
	assert_false(checked_align_u64(UINT64_MAX - 510, 512, &value));
	assert_int_equal(value, 77);
	assert_true(checked_align_u64(UINT64_MAX - 511, 512, &value));
	assert_int_equal(value, UINT64_MAX - 511);
	assert_int_equal(align_up_u64(513, 512), 1024);
	assert_int_equal(div_up_u64(0, 7), 0);
	assert_int_equal(div_up_u64(7, 7), 1);
	assert_int_equal(div_up_u64(8, 7), 2);
	assert_int_equal(div_up_u64(UINT64_MAX, 2), UINT64_C(1) << 63);
}

static void test_checked_range(void **state)
{
	assert_true(checked_range(0, 10, 10));
	assert_true(checked_range(10, 0, 10));
	assert_false(checked_range(11, 0, 10));
	assert_false(checked_range(5, 6, 10));
	assert_false(checked_range(UINT64_MAX, 2, 10));
	assert_false(checked_range(2, UINT64_MAX, 10));
	assert_true(checked_range(0, UINT64_MAX, UINT64_MAX));
}

struct item {
	int number;
	struct list node;
};

static void test_list(void **state)
{
	struct list head = LIST_INIT(head);
	struct item items[4];
	int expected = 0;

	assert_true(list_empty(&head));
	assert_null(list_first(&head));
	for (int i = 0; i < 4; i++) {
		items[i].number = i;
		list_push_back(&head, &items[i].node);
	}
	assert_ptr_equal(list_entry(list_first(&head), struct item, node), &items[0]);
	list_for_each(node, &head)
		assert_int_equal(list_entry(node, struct item, node)->number, expected++);
	assert_int_equal(expected, 4);
	list_for_each_safe(node, after, &head)
		if (list_entry(node, struct item, node)->number % 2 == 0)
			list_unlink(node);
	assert_true(list_empty(&items[0].node));
	assert_ptr_equal(list_first(&head), &items[1].node);
	assert_ptr_equal(head.prev, &items[3].node);
	list_unlink(&items[1].node);
	list_unlink(&items[3].node);
	list_unlink(&items[3].node);
	assert_true(list_empty(&head));
}

static unsigned trials(struct spin *spin, unsigned waits, bool come)
{
	unsigned tried = 0;

	for (unsigned i = 0; i < waits; i++) {
		if (!spin_pays(spin))
			continue;
		tried++;
		spin_note(spin, come);
	}
	return tried;
}

static bool is_between(unsigned value, unsigned least, unsigned most)
{
	return value >= least && value <= most;
}

/* Spinning goes on while it pays, and ends when it does not; it is tried more and more seldom, and begins again. */
static void test_spin(void **state)
{
	struct spin spin;

	spin_init(&spin, 50);
	if (spin.limit_ns == 0)
		harness_skip("this test may use only one processor");
	assert_int_equal(trials(&spin, 1000, true), 1000);
	assert_int_equal(trials(&spin, 1, false), 1);
	assert_int_equal(trials(&spin, 1000, true), 1000); /* once in vain is no reason */
	assert_true(is_between(trials(&spin, 10000, false), 3, 20));
	assert_true(is_between(trials(&spin, 10 * SPIN_SKIP_MAX, false), 8, 12));
	assert_true(is_between(trials(&spin, 2 * SPIN_SKIP_MAX, true), SPIN_SKIP_MAX, 2 * SPIN_SKIP_MAX));
	assert_int_equal(trials(&spin, 1000, true), 1000);
}

static void test_spin_is_off(void **state)
{
	struct spin spin;
	cpu_set_t one;

	spin_init(&spin, 0);
	assert_int_equal(trials(&spin, 10000, true), 0);
	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	spin_init(&spin, 50);
	assert_int_equal(trials(&spin, 10000, true), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_units_bytes),
	cmocka_unit_test(test_units_ms),
	cmocka_unit_test(test_units_u64),
	cmocka_unit_test(test_units_format),
	cmocka_unit_test(test_text_clean),
	cmocka_unit_test(test_text_escape),
	cmocka_unit_test(test_text_hex),
	cmocka_unit_test(test_json_document),
	cmocka_unit_test(test_json_floats_survive),
	cmocka_unit_test(test_checked),
	cmocka_unit_test(test_checked_range),
	cmocka_unit_test(test_list),
	cmocka_unit_test(test_spin),
	cmocka_unit_test(test_spin_is_off),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
