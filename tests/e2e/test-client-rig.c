/* SPDX-License-Identifier: Apache-2.0 */
/* See test-client-rig.h. */
#include "tests/e2e/test-client-rig.h"

#include "tests/lib/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GAP_CHANNELS 8
#define UNTOUCHED 0xa5

static uint32_t dtype_bytes(uint32_t dtype)
{
	return dtype == KVC_F32 ? 4 : 2;
}

void box_new(struct box *box, enum layout layout, uint32_t dtype, uint32_t layers, uint32_t heads,
	     uint32_t tokens, uint32_t head_dim)
{
	int64_t row = head_dim, first = 0;
	struct kvc_tensor *tensor = &box->tensor;

	*box = (struct box){ .layers = layers, .heads = heads, .tokens = tokens, .head_dim = head_dim };
	tensor->dtype = dtype;
	if (head_dim == 0)
		return;
	if (layout == LAYOUT_TOKEN_MAJOR) {
		row += GAP_CHANNELS;
		tensor->stride_head = row;
		tensor->stride_layer = row * heads;
		tensor->stride_token = row * heads * layers;
	} else {
		tensor->stride_token = row;
		tensor->stride_head = row * tokens;
		tensor->stride_layer = row * tokens * heads;
	}
	box->bytes = (size_t)row * layers * heads * tokens * dtype_bytes(dtype);
	box->memory = malloc(box->bytes);
	assert_non_null(box->memory);
	memset(box->memory, UNTOUCHED, box->bytes);
	if (layout == LAYOUT_BACKWARDS) {
		first = row * ((int64_t)layers * heads * tokens - 1);
		tensor->stride_token = -tensor->stride_token;
		tensor->stride_head = -tensor->stride_head;
		tensor->stride_layer = -tensor->stride_layer;
	}
	tensor->data = box->memory + first * dtype_bytes(dtype);
}

void box_free(struct box *box)
{
	free(box->memory);
	box->memory = NULL;
	box->tensor.data = NULL;
}

static uint8_t *element(const struct box *box, uint32_t layer, uint32_t head, uint32_t token, uint32_t channel)
{
	const struct kvc_tensor *tensor = &box->tensor;
	int64_t at = layer * tensor->stride_layer + head * tensor->stride_head + token * tensor->stride_token + channel;

	return (uint8_t *)tensor->data + at * dtype_bytes(box->tensor.dtype);
}

float box_get(const struct box *box, uint32_t layer, uint32_t head, uint32_t token, uint32_t channel)
{
	const uint8_t *at = element(box, layer, head, token, channel);
	uint32_t bits = 0;
	_Float16 half;
	float value;

	switch (box->tensor.dtype) {
	case KVC_F16:
		memcpy(&half, at, 2);
		return (float)half;
	case KVC_BF16:
		memcpy((uint8_t *)&bits + 2, at, 2);
		memcpy(&value, &bits, 4);
		return value;
	default:
		memcpy(&value, at, 4);
		return value;
	}
}

void box_set(struct box *box, uint32_t layer, uint32_t head, uint32_t token, uint32_t channel, float value)
{
	uint8_t *at = element(box, layer, head, token, channel);
	_Float16 half = (_Float16)value;

	switch (box->tensor.dtype) {
	case KVC_F16:
		memcpy(at, &half, 2);
		break;
	case KVC_BF16:
		memcpy(at, (uint8_t *)&value + 2, 2);
		break;
	default:
		memcpy(at, &value, 4);
	}
}

float value_at(uint32_t seed, char which, uint32_t layer, uint32_t head, uint32_t token, uint32_t channel)
{
	uint32_t mix = seed * 2654435761u + (uint32_t)which * 40503u + layer * 97u + head * 1009u + token * 10007u +
		       channel * 100003u;

	mix ^= mix >> 15;
	mix *= 2246822519u;
	mix ^= mix >> 13;
	return (float)((int)(mix % 257) - 128) / 128;
}

#define FOR_EACH_VALUE(box, n_tokens)                                                               \
	for (uint32_t l = 0; l < (box)->layers; l++)                                                \
		for (uint32_t h = 0; h < (box)->heads; h++)                                         \
			for (uint32_t t = 0; t < (n_tokens); t++)                                   \
				for (uint32_t c = 0; c < (box)->head_dim; c++)

void box_fill(struct box *box, uint32_t seed, char which, uint32_t layer_begin, uint32_t head_begin)
{
	FOR_EACH_VALUE(box, box->tokens)
		box_set(box, l, h, t, c, value_at(seed, which, layer_begin + l, head_begin + h, t, c));
}

void box_expect(const struct box *box, uint32_t seed, char which, uint32_t layer_begin, uint32_t head_begin,
		uint32_t tokens, float error_max)
{
	FOR_EACH_VALUE(box, tokens) {
		float wanted = value_at(seed, which, layer_begin + l, head_begin + h, t, c);
		float got = box_get(box, l, h, t, c);

		if (!(fabsf(got - wanted) <= error_max))
			fail_msg("%c layer %u head %u token %u channel %u: %g, wanted %g within %g", which, l,
				 h, t, c, (double)got, (double)wanted, (double)error_max);
	}
}

/*
 * Half a step of a group that spans [-1, 1], and the rounding of scale, min and result to 16 bits. A path through a
 * trellis may take three of its steps, which are half as large and grow with the scale by a sixteenth of an octave.
 */
float codec_error_max(uint32_t codec)
{
	switch (codec) {
	case KVC_CODEC_Q8:
		return 1.0f / 255 + 0.01f;
	case KVC_CODEC_Q6:
		return 1.0f / 63 + 0.01f;
	case KVC_CODEC_Q5:
		return 1.0f / 31 + 0.01f;
	case KVC_CODEC_T6G32:
		return 3.5f / 63 + 0.01f;
	case KVC_CODEC_Q4:
		return 1.0f / 15 + 0.01f;
	default:
		return 0;
	}
}

struct kvc_schema schema_small(void)
{
	return (struct kvc_schema){
		.model = "test-model",
		.revision = "r1",
		.dtype = KVC_F32,
		.layers = 3,
		.kv_heads = 4,
		.head_dim_k = 64,
		.head_dim_v = 64,
		.block_tokens = 32,
		.codec_k = KVC_CODEC_Q8,
		.codec_v = KVC_CODEC_Q8,
		.page_heads = 2,
	};
}

struct kvc_schema schema_large(void)
{
	return (struct kvc_schema){
		.model = "test-model",
		.dtype = KVC_F32,
		.layers = 8,
		.kv_heads = 8,
		.head_dim_k = 64,
		.head_dim_v = 64,
		.block_tokens = 64,
		.codec_k = KVC_CODEC_F32,
		.codec_v = KVC_CODEC_F32,
		.page_heads = 1,
	};
}

kvc_client *open_client_timeout(const struct test_daemon *daemon, uint32_t flags, uint32_t timeout_ms)
{
	struct kvc_options options = {
		.struct_bytes = sizeof(options),
		.socket_path = daemon->socket_path,
		.client_name = "test",
		.staging_bytes = 2 << 20,
		.timeout_ms = timeout_ms,
		.flags = flags,
	};
	kvc_client *client = NULL;
	char why[256] = "";
	int r = kvc_open(&options, &client, why, sizeof(why));

	if (r != KVC_OK)
		fail_msg("kvc_open: %d (%s)", r, why);
	return client;
}

kvc_client *open_client(const struct test_daemon *daemon, uint32_t flags)
{
	return open_client_timeout(daemon, flags, 10000);
}

kvc_space *open_space(kvc_client *client, const char *name, const struct kvc_schema *schema)
{
	kvc_space *space = NULL;
	int r = kvc_space_open(client, name, schema, &space);

	if (r != KVC_OK)
		fail_msg("kvc_space_open: %d (%s)", r, kvc_error(client));
	return space;
}

struct kvc_key key_of(const char *text)
{
	return (struct kvc_key){ .bytes = text, .n = text ? strlen(text) : 0 };
}

/* A whole block of this seed as an append, with boxes that the caller frees. */
static struct kvc_append whole_block(kvc_space *space, const char *key, const char *parent, uint32_t seed,
				     uint32_t tokens, struct box *k, struct box *v)
{
	const struct kvc_schema *schema = kvc_space_schema(space);

	box_new(k, LAYOUT_HEAD_MAJOR, KVC_F32, schema->layers, schema->kv_heads, tokens, schema->head_dim_k);
	box_new(v, LAYOUT_HEAD_MAJOR, KVC_F32, schema->layers, schema->kv_heads, tokens, schema->head_dim_v);
	box_fill(k, seed, 'K', 0, 0);
	box_fill(v, seed, 'V', 0, 0);
	return (struct kvc_append){
		.key = key_of(key),
		.parent = key_of(parent),
		.tokens = tokens,
		.k = k->tensor,
		.v = v->tensor,
		.status = -1,
	};
}

int append_block(kvc_space *space, const char *key, const char *parent, uint32_t seed, uint32_t tokens)
{
	struct box k, v;
	struct kvc_append block = whole_block(space, key, parent, seed, tokens, &k, &v);
	int r = kvc_append(space, &block, 1);

	box_free(&k);
	box_free(&v);
	return r != 0 ? r : block.status;
}

int submit_block(kvc_space *space, const char *key, const char *parent, uint32_t seed, uint32_t tokens,
		 uint64_t user_data)
{
	struct box k, v;
	struct kvc_append block = whole_block(space, key, parent, seed, tokens, &k, &v);
	int r = kvc_submit(space, &block, user_data);

	box_free(&k);
	box_free(&v);
	return r;
}

int fetch_block(kvc_space *space, const char *key, uint32_t seed)
{
	const struct kvc_schema *schema = kvc_space_schema(space);
	struct kvc_fetch block = { .key = key_of(key), .status = -1 };
	struct box k, v;
	int r;

	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, schema->layers, schema->kv_heads, schema->block_tokens,
		schema->head_dim_k);
	box_new(&v, LAYOUT_HEAD_MAJOR, KVC_F32, schema->layers, schema->kv_heads, schema->block_tokens,
		schema->head_dim_v);
	block.k = k.tensor;
	block.v = v.tensor;
	r = kvc_fetch(space, NULL, &block, 1);
	if (r == 0 && block.status == KVC_OK) {
		assert_in_range(block.tokens, 1, schema->block_tokens);
		box_expect(&k, seed, 'K', 0, 0, block.tokens, codec_error_max(schema->codec_k));
		box_expect(&v, seed, 'V', 0, 0, block.tokens, codec_error_max(schema->codec_v));
	}
	box_free(&k);
	box_free(&v);
	return r != 0 ? r : block.status;
}

size_t match_keys(kvc_space *space, const char *const *keys, size_t n)
{
	struct kvc_key list[16];
	size_t matched = 99;

	assert_true(n <= 16);
	for (size_t i = 0; i < n; i++)
		list[i] = key_of(keys[i]);
	assert_int_equal(kvc_match(space, NULL, list, n, NULL, &matched), KVC_OK);
	return matched;
}

uint64_t counter_of(kvc_client *client, const char *name)
{
	struct kvc_stats *stats = NULL;
	uint64_t value;

	assert_int_equal(kvc_stats_get(client, &stats), KVC_OK);
	value = kvc_stats_counter(stats, name);
	kvc_stats_free(stats);
	return value;
}

void pause_ms(long ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&pause, NULL);
}
