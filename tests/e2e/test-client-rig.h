/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the client library's end-to-end tests share: a client on a daemon, spaces, and tensors of known values
 * in any layout. Values are multiples of 1/128 in [-1, 1], so f32, f16 and bf16 all hold them exactly.
 * Everything fails the test when it does not work.
 */
#pragma once

#include "client/kvclient.h"
#include "tests/lib/daemon.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A tensor's order in memory. */
enum layout {
	LAYOUT_HEAD_MAJOR,  /* layer, head, token, channel; no gaps */
	LAYOUT_TOKEN_MAJOR, /* token, layer, head, channel; gaps of 8 channels between rows */
	LAYOUT_BACKWARDS,   /* as the first, with all three strides negative */
	LAYOUT_COUNT
};

/* A tensor over some layers and heads, with its memory. */
struct box {
	struct kvc_tensor tensor;
	uint32_t layers;
	uint32_t heads;
	uint32_t tokens;
	uint32_t head_dim;
	size_t bytes;
	uint8_t *memory;
};

/* Memory filled with a pattern. freed by box_free(). head_dim 0: no tensor. */
void box_new(struct box *box, enum layout layout, uint32_t dtype, uint32_t layers, uint32_t heads,
	     uint32_t tokens, uint32_t head_dim);
void box_free(struct box *box);

float box_get(const struct box *box, uint32_t layer, uint32_t head, uint32_t token, uint32_t channel);
void box_set(struct box *box, uint32_t layer, uint32_t head, uint32_t token, uint32_t channel, float value);

/* The value that a block of this seed has at a place of the model; which is 'K' or 'V'. */
float value_at(uint32_t seed, char which, uint32_t layer, uint32_t head, uint32_t token, uint32_t channel);

/* Fills the box, whose first layer and head are these of the model. */
void box_fill(struct box *box, uint32_t seed, char which, uint32_t layer_begin, uint32_t head_begin);

/* Compares the first tokens of the box with the block's values. */
void box_expect(const struct box *box, uint32_t seed, char which, uint32_t layer_begin, uint32_t head_begin,
		uint32_t tokens, float error_max);

/* The largest error of a codec on such values. */
float codec_error_max(uint32_t codec);

/* A small schema: 3 layers of 4 heads of 64 and 64, 32 tokens a block, q8, 2 heads a page. */
struct kvc_schema schema_small(void);

/* 2 MiB a block: 8 layers of 8 heads of 64 and 64, 64 tokens, f32, 1 head a page. */
struct kvc_schema schema_large(void);

kvc_client *open_client(const struct test_daemon *daemon, uint32_t flags);
kvc_client *open_client_timeout(const struct test_daemon *daemon, uint32_t flags, uint32_t timeout_ms);
kvc_space *open_space(kvc_client *client, const char *name, const struct kvc_schema *schema);

struct kvc_key key_of(const char *text);

/* Appends a whole block of this seed; parent NULL: a root. Returns its status. */
int append_block(kvc_space *space, const char *key, const char *parent, uint32_t seed, uint32_t tokens);

/* The same with kvc_submit(); returns its result. */
int submit_block(kvc_space *space, const char *key, const char *parent, uint32_t seed, uint32_t tokens,
		 uint64_t user_data);

/* Fetches a whole block and compares its values; returns the status of the fetch. */
int fetch_block(kvc_space *space, const char *key, uint32_t seed);

/* Blocks of the keys, from the first on, that are there. */
size_t match_keys(kvc_space *space, const char *const *keys, size_t n);

/* A counter of the daemon. */
uint64_t counter_of(kvc_client *client, const char *name);

void pause_ms(long ms);
