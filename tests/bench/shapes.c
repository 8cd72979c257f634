/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes and codecs that are measured, and blocks of them. */
#include "tests/bench/bench.h"

#include "tests/bench/normal.h"

#include <math.h>
#include <string.h>

/* One head in so many channels of K is an outlier, as in real models. */
#define OUTLIER_EVERY 16
#define OUTLIER_FACTOR 10.0f

const struct bench_shape bench_shapes[BENCH_SHAPES] = {
	{ "smollm2", "SmolLM2-135M", 30, 3, 64, 8 },
	{ "llama8b", "Llama-3-8B", 32, 8, 128, 2 },
};

const struct bench_codec bench_codecs[BENCH_CODECS] = {
	{ "q8", KVC_CODEC_Q8 },
	{ "q6", KVC_CODEC_Q6 },
	{ "q4", KVC_CODEC_Q4 },
	{ "f16", KVC_CODEC_F16 },
};

bool bench_wants(const char *wanted, const char *name)
{
	return !wanted || strcmp(wanted, name) == 0;
}

struct kvc_schema bench_schema(const struct bench_shape *shape, uint32_t codec)
{
	return (struct kvc_schema){
		.model = shape->model,
		.dtype = KVC_F32,
		.layers = shape->layers,
		.kv_heads = shape->kv_heads,
		.head_dim_k = shape->head_dim,
		.head_dim_v = shape->head_dim,
		.block_tokens = BENCH_BLOCK_TOKENS,
		.codec_k = codec,
		.codec_v = codec,
	};
}

size_t bench_plane_values(const struct bench_shape *shape)
{
	return (size_t)shape->layers * shape->kv_heads * BENCH_BLOCK_TOKENS * shape->head_dim;
}

uint64_t bench_block_f32_bytes(const struct bench_shape *shape)
{
	return 2 * bench_plane_values(shape) * sizeof(float);
}

struct kvc_tensor bench_tensor(const struct bench_shape *shape, float *data)
{
	int64_t row = shape->head_dim;

	return (struct kvc_tensor){
		.data = data,
		.dtype = KVC_F32,
		.stride_token = row,
		.stride_head = row * BENCH_BLOCK_TOKENS,
		.stride_layer = row * BENCH_BLOCK_TOKENS * shape->kv_heads,
	};
}

/* The sum of four uniform numbers, scaled to variance 1: close enough to normal, and quick. */
static float random_normal(uint64_t *state)
{
	uint64_t bits = random_u64(state);
	float sum = 0;

	for (unsigned i = 0; i < 4; i++)
		sum += (float)(bits >> (16 * i) & 0xffff);
	return (sum / 65536.0f - 2.0f) * sqrtf(3.0f);
}

void bench_fill(float *values, size_t n, uint32_t head_dim, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		float factor = i % head_dim % OUTLIER_EVERY == 0 ? OUTLIER_FACTOR : 1.0f;

		values[i] = factor * random_normal(&seed);
	}
}
