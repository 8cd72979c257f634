/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels in plain C for every CPU: the vector of 16 is an array, and fused multiply-add is fmaf(),
 * which keeps the bits of the other tables where the CPU has no such instruction, slowly.
 */
#include "client/worker/dot.h"

#include <math.h>
#include <string.h>

typedef struct {
	float lane[16];
} v16;

#define EACH_LANE for (int i = 0; i < 16; i++)

static inline v16 v16_set1(float x)
{
	v16 r;

	EACH_LANE r.lane[i] = x;
	return r;
}

static inline v16 v16_zero(void)
{
	return v16_set1(0.0f);
}

static inline v16 v16_load(const float *p)
{
	v16 r;

	memcpy(&r, p, sizeof(r));
	return r;
}

static inline void v16_store(float *p, v16 a)
{
	memcpy(p, &a, sizeof(a));
}

static inline v16 v16_add(v16 a, v16 b)
{
	EACH_LANE a.lane[i] += b.lane[i];
	return a;
}

static inline v16 v16_sub(v16 a, v16 b)
{
	EACH_LANE a.lane[i] -= b.lane[i];
	return a;
}

static inline v16 v16_mul(v16 a, v16 b)
{
	EACH_LANE a.lane[i] *= b.lane[i];
	return a;
}

static inline v16 v16_div(v16 a, v16 b)
{
	EACH_LANE a.lane[i] /= b.lane[i];
	return a;
}

static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
	EACH_LANE a.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
	return a;
}

static inline v16 v16_max(v16 a, v16 b)
{
	EACH_LANE a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
	return a;
}

static inline v16 v16_round(v16 a)
{
	EACH_LANE a.lane[i] = rintf(a.lane[i]);
	return a;
}

static inline v16 v16_pow2(v16 n)
{
	EACH_LANE {
		uint32_t bits = (uint32_t)((int32_t)n.lane[i] + 127) << 23;

		memcpy(&n.lane[i], &bits, sizeof(bits));
	}
	return n;
}

static inline float v16_fold_sum(v16 a)
{
	for (int width = 8; width > 0; width /= 2)
		for (int i = 0; i < width; i++)
			a.lane[i] += a.lane[i + width];
	return a.lane[0];
}

/*
 * Shifts exponent and mantissa into place and rebias by a multiplication, which is exact,
 * subnormals too.
 */
static inline float from_half(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16;
	uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
	float value;

	memcpy(&value, &bits, sizeof(value));
	value *= 0x1p112f;
	memcpy(&bits, &value, sizeof(bits));
	if ((half & 0x7c00) == 0x7c00)
		bits = 0x7f800000 | (uint32_t)(half & 0x3ff) << 13;
	bits |= sign;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static inline v16 v16_from_f16(const void *p)
{
	uint16_t half[16];
	v16 r;

	memcpy(half, p, sizeof(half));
	EACH_LANE r.lane[i] = from_half(half[i]);
	return r;
}

static inline v16 v16_from_i8(const void *p)
{
	const int8_t *code = p;
	v16 r;

	EACH_LANE r.lane[i] = (float)code[i];
	return r;
}

static inline v16 v16_from_low_nibbles(const void *p)
{
	const uint8_t *byte = p;
	v16 r;

	EACH_LANE r.lane[i] = (float)(byte[i] & 15);
	return r;
}

static inline v16 v16_from_high_nibbles(const void *p)
{
	const uint8_t *byte = p;
	v16 r;

	EACH_LANE r.lane[i] = (float)(byte[i] >> 4);
	return r;
}

#define TILE_ROWS 1
#define TILE_VECTORS 1
#define KERNELS dot_kernels_scalar
#define KERNELS_NAME "scalar"
#include "client/worker/dot-template.h"
