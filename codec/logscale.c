/* SPDX-License-Identifier: Apache-2.0 */
/* The table of log scales, as constants: a decoder must not depend on anybody's exp2(). */
#include "base/contract.h"
#include "codec/half.h"
#include "codec/logscale.h"
#include "codec/trellis.h"

/* clang-format off */
#define EIGHTHS(p) \
	1024 * (p), 1117 * (p), 1218 * (p), 1328 * (p), 1448 * (p), 1579 * (p), 1722 * (p), 1878 * (p)
#define SIXTEENTHS(p) \
	1024 * (p), 1069 * (p), 1117 * (p), 1166 * (p), 1218 * (p), 1272 * (p), 1328 * (p), 1387 * (p), \
	1448 * (p), 1512 * (p), 1579 * (p), 1649 * (p), 1722 * (p), 1798 * (p), 1878 * (p), 1961 * (p)

const float trellis_log_scales[256] = {
	0,
	0x1p-16f, 0x1p-15f, 0x1p-14f, 0x1p-13f, 0x1p-12f, 0x1p-11f,
	EIGHTHS(0x1p-20f), EIGHTHS(0x1p-19f), EIGHTHS(0x1p-18f), EIGHTHS(0x1p-17f),
	SIXTEENTHS(0x1p-16f), SIXTEENTHS(0x1p-15f), SIXTEENTHS(0x1p-14f), SIXTEENTHS(0x1p-13f),
	SIXTEENTHS(0x1p-12f), SIXTEENTHS(0x1p-11f), SIXTEENTHS(0x1p-10f), SIXTEENTHS(0x1p-9f),
	SIXTEENTHS(0x1p-8f), SIXTEENTHS(0x1p-7f), SIXTEENTHS(0x1p-6f),
	EIGHTHS(0x1p-5f), EIGHTHS(0x1p-4f), EIGHTHS(0x1p-3f), EIGHTHS(0x1p-2f),
	0x1p9f, 0x1p10f, 0x1p11f, 0x1p12f, 0x1p13f, 0x1p14f, 0x1p15f, 0x1p16f, 0x1p17f,
};
/* clang-format on */

uint8_t trellis_log_scale_of(float amplitude)
{
	kvp_assert(!(amplitude > trellis_log_scales[255]));
	if (!(amplitude > 0))
		return 0;

	const float smallest = trellis_log_scales[1];
	const uint32_t bits = half_f32_bits(amplitude > smallest ? amplitude : smallest);
	const uint32_t octave = (bits >> 23) - LOG_SCALE_EXPONENT_MIN;
	const int32_t mantissa = (int32_t)(bits & 0x7fffff);
	const unsigned begin = (unsigned)mantissa >> 19;
	const int32_t sixteenths = log_scale_below[begin] +
				   (log_scale_among[0][begin] < mantissa) +
				   (log_scale_among[1][begin] < mantissa);
	const unsigned shift = log_scale_shift[octave];

	return (uint8_t)(log_scale_first[octave] + ((sixteenths + (1 << shift) - 1) >> shift));
}
