/* SPDX-License-Identifier: Apache-2.0 */
/* What is stored is what was given, the checksum is that of what is stored, and nothing beside it is touched. */
#include "tests/lib/harness.h"

#include "daemon/core/intake.h"
#include "proto/layout.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_MAX (3 * 4096u)
#define AROUND 64

static void copy_and_compare(struct intake *intake, const uint8_t *src, size_t n)
{
	uint8_t *area = aligned_alloc(KVP_SLOT_ALIGN, BYTES_MAX + 2 * KVP_SLOT_ALIGN);
	uint8_t *dst;

	assert_non_null(area);
	dst = area + KVP_SLOT_ALIGN;
	memset(area, 0xa5, BYTES_MAX + 2 * KVP_SLOT_ALIGN);
	assert_true(intake_copy(intake, dst, src, n) == kvp_page_checksum(src, n));
	assert_memory_equal(dst, src, n);
	for (size_t i = 1; i <= AROUND; i++) {
		assert_int_equal(dst[-(ptrdiff_t)i], 0xa5);
		assert_int_equal(dst[n + i - 1], 0xa5);
	}
	free(area);
}

static void test_every_size(void **state)
{
	static uint8_t src[BYTES_MAX + 64];
	struct intake intake;

	(void)state;
	for (size_t i = 0; i < sizeof(src); i++)
		src[i] = (uint8_t)(i * 131 + (i >> 8) * 17);
	assert_int_equal(intake_init(&intake), 0);
	for (size_t n = 1; n <= BYTES_MAX; n += n % 64 == 1 ? 63 : 1)
		copy_and_compare(&intake, src + n % 64, n);
	intake_deinit(&intake);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_size),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
