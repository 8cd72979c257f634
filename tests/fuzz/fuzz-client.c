/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client library against a daemon that lies: in its answers (liar.h), in the arena (arena-model.h), in both. Every
 * call must end, with a documented result, and touch nothing but its own memory and what the mappings hold.
 *
 * Input: two bytes (how much of the rest the daemon takes, the client's flags), the daemon's part, the client's calls.
 */
#include "client/kvclient.h"
#include "tests/fuzz/arena-model.h"
#include "tests/fuzz/liar.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/contract.h"

#define CALLS_MAX 32u
#define KEYS_MAX 4u
#define DATA_BYTES_MAX (UINT64_C(1) << 20)

#define RECONNECT 0x40u /* in the client's flags of the input */

struct caller {
	struct take take;
	kvc_client *client;
	kvc_space *space;   /* NULL: none */
	kvc_reader *reader; /* NULL: none */
	kvc_block *blocks[KEYS_MAX];
	struct kvc_key keys[KEYS_MAX];
	size_t n_keys;
	int statuses[KEYS_MAX];
};

static void result_check(int r)
{
	kvp_assert(r <= UINT8_MAX); /* a daemon may have statuses that this library does not know */
	kvp_assert(kvc_strerror(r)[0]);
}

static void keys_take(struct caller *caller)
{
	caller->n_keys = 1 + take_below(&caller->take, KEYS_MAX);
	for (size_t i = 0; i < caller->n_keys; i++)
		caller->keys[i] = (struct kvc_key){ &model_keys[take_below(&caller->take, 10)], 1 };
}

static void space_call(struct caller *caller)
{
	struct kvc_schema schema = {
		.model = "m",
		.dtype = 1,
		.layers = MODEL_LAYERS,
		.kv_heads = 1,
		.head_dim_k = MODEL_HEAD_DIM,
		.head_dim_v = MODEL_HEAD_DIM,
		.block_tokens = MODEL_TOKENS,
		.codec_k = MODEL_CODEC,
		.codec_v = MODEL_CODEC,
	};
	bool known; /* to the daemon: it tells the schema */

	caller->space = kvc_space_close(caller->space);
	known = take_below(&caller->take, 2);
	result_check(kvc_space_open(caller->client, "a", known ? NULL : &schema, &caller->space));
}

/* Numbers of one block by the schema that the daemon told; 0: too many, or no space. */
static size_t values_of(const struct caller *caller)
{
	const struct kvc_schema *s = caller->space ? kvc_space_schema(caller->space) : NULL;
	uint64_t dim;

	if (!s)
		return 0;
	dim = s->head_dim_k > s->head_dim_v ? s->head_dim_k : s->head_dim_v;
	dim *= (uint64_t)s->layers * s->kv_heads * s->block_tokens;
	return dim * sizeof(float) <= DATA_BYTES_MAX ? (size_t)dim : 0;
}

static struct kvc_tensor tensor_of(const struct kvc_schema *s, uint32_t dim, float *data)
{
	return (struct kvc_tensor){
		.data = data,
		.dtype = KVC_F32,
		.stride_layer = (int64_t)s->kv_heads * s->block_tokens * dim,
		.stride_head = (int64_t)s->block_tokens * dim,
		.stride_token = dim,
	};
}

static void append_call(struct caller *caller, bool submitted)
{
	size_t n = values_of(caller);
	_cleanup_free_ float *data = calloc(n ? n : 1, sizeof(*data));
	const struct kvc_schema *s;
	struct kvc_append block = { 0 };

	kvp_assert(data);
	if (n == 0)
		return;
	s = kvc_space_schema(caller->space);
	keys_take(caller);
	block.key = caller->keys[0];
	block.tokens = s->block_tokens;
	block.k = tensor_of(s, s->head_dim_k, data);
	block.v = tensor_of(s, s->head_dim_v, data);
	result_check(submitted ? kvc_submit(caller->space, &block, 1) : kvc_append(caller->space, &block, 1));
}

static void reap_call(struct caller *caller)
{
	struct kvc_completion completions[2];
	size_t n = 0;

	result_check(kvc_reap(caller->client, completions, 2, 0, &n));
	kvp_assert(n <= 2);
}

/* Values of some blocks, all to the same place. */
struct fetching {
	struct kvc_fetch blocks[KEYS_MAX];
	float *k;
	float *v;
};

/* Whether there is a space that fits. */
static bool fetching_init(struct fetching *fetching, struct caller *caller)
{
	const struct kvc_schema *s;
	size_t n = values_of(caller);

	*fetching = (struct fetching){ 0 };
	if (n == 0)
		return false;
	fetching->k = calloc(n, sizeof(float));
	fetching->v = calloc(n, sizeof(float));
	kvp_assert(fetching->k && fetching->v);
	s = kvc_space_schema(caller->space);
	keys_take(caller);
	for (size_t i = 0; i < caller->n_keys; i++) {
		fetching->blocks[i].key = caller->keys[i];
		fetching->blocks[i].k = tensor_of(s, s->head_dim_k, fetching->k);
		fetching->blocks[i].v = tensor_of(s, s->head_dim_v, fetching->v);
	}
	return true;
}

static void fetching_deinit(struct fetching *fetching)
{
	free(fetching->k);
	free(fetching->v);
}

static void fetched_check(const struct caller *caller, const struct kvc_fetch *blocks)
{
	uint32_t most = kvc_space_schema(caller->space)->block_tokens;

	for (size_t i = 0; i < caller->n_keys; i++)
		kvp_implies(blocks[i].status == KVC_OK, blocks[i].tokens <= most);
}

static void fetch_call(struct caller *caller)
{
	kvc_reader *reader = take_below(&caller->take, 2) ? caller->reader : NULL;
	struct fetching fetching;

	if (!fetching_init(&fetching, caller))
		return;
	result_check(kvc_fetch(caller->space, reader, fetching.blocks, caller->n_keys));
	fetched_check(caller, fetching.blocks);
	fetching_deinit(&fetching);
}

/* To the last layer, or given up before it. */
static void layers_take(struct caller *caller, kvc_fetching *layers)
{
	const struct kvc_schema *s = kvc_space_schema(caller->space);
	unsigned steps = take_below(&caller->take, 8);

	for (unsigned i = 0; i < steps; i++) {
		uint32_t layer;
		int r = kvc_fetch_next(layers, &layer);

		result_check(r);
		kvp_implies(r == KVC_OK, layer < s->layers);
		if (r == KVC_RANGE)
			break;
	}
}

static void layers_call(struct caller *caller)
{
	kvc_reader *reader = take_below(&caller->take, 2) ? caller->reader : NULL;
	struct fetching fetching;
	kvc_fetching *layers;
	int r;

	if (!fetching_init(&fetching, caller))
		return;
	r = kvc_fetch_begin(caller->space, reader, fetching.blocks, caller->n_keys, &layers);
	result_check(r);
	if (r == KVC_OK) {
		layers_take(caller, layers);
		(void)kvc_fetch_end(layers);
		fetched_check(caller, fetching.blocks);
	}
	fetching_deinit(&fetching);
}

static void ahead_call(struct caller *caller)
{
	struct kvc_forecast forecast = { 0 };

	keys_take(caller);
	result_check(kvc_prefetch(caller->space, caller->keys, caller->n_keys, NULL, caller->statuses));
	result_check(kvc_forecast(caller->space, caller->keys, caller->n_keys, NULL, &forecast));
	kvp_assert(forecast.resident + forecast.loadable <= caller->n_keys);
}

static void whole_call(struct caller *caller)
{
	struct kvc_resized resized;

	if (take_below(&caller->take, 2))
		result_check(kvc_space_drop(caller->client, "a"));
	else
		result_check(kvc_resize(caller->client, take_number(&caller->take), 1, &resized));
}

static void blocks_drop(struct caller *caller)
{
	for (size_t i = 0; i < KEYS_MAX; i++)
		caller->blocks[i] = kvc_unpin(caller->blocks[i]);
}

static void block_read(const kvc_block *block)
{
	float values[256 * 256];
	struct kvc_tile tile;

	if (!block)
		return;
	(void)kvc_block_tokens(block);
	for (unsigned i = 0; i < 4; i++)
		if (kvc_block_tile(block, i & 1 ? 'V' : 'K', i / 2, 0, &tile) == KVC_OK)
			result_check(kvc_tile_decode(&tile, i & 1 ? 'V' : 'K', values, KVC_F32, tile.head_dim));
	result_check(kvc_block_check(block));
}

static void pin_call(struct caller *caller)
{
	blocks_drop(caller);
	keys_take(caller);
	if (take_below(&caller->take, 2))
		result_check(kvc_pin(caller->space, caller->reader, caller->keys, caller->n_keys, NULL, caller->blocks,
				     caller->statuses));
	else
		result_check(kvc_lease(caller->space, caller->keys, caller->n_keys, NULL, 1000, caller->blocks,
				       caller->statuses));
	for (size_t i = 0; i < KEYS_MAX; i++)
		block_read(caller->blocks[i]);
}

static void find_call(struct caller *caller)
{
	size_t matched = 0;

	keys_take(caller);
	result_check(kvc_find(caller->space, caller->reader, caller->keys, NULL));
	result_check(kvc_match(caller->space, take_below(&caller->take, 2) ? caller->reader : NULL, caller->keys,
			       caller->n_keys, NULL, &matched));
	kvp_assert(matched <= caller->n_keys);
}

static void items_call(struct caller *caller)
{
	uint64_t blocks, bytes;

	keys_take(caller);
	switch (take_below(&caller->take, 5)) {
	case 0:
		result_check(kvc_delete(caller->space, caller->keys, caller->n_keys, caller->statuses));
		break;
	case 1:
		result_check(kvc_touch(caller->space, caller->keys, caller->n_keys, caller->statuses));
		break;
	case 2:
		result_check(kvc_keep(caller->space, caller->keys, caller->n_keys, 1, 1000, caller->statuses));
		break;
	case 3:
		result_check(kvc_unkeep(caller->space, caller->keys, caller->n_keys, caller->statuses));
		break;
	default:
		result_check(kvc_evict(caller->client, caller->space, 1, 1, &blocks, &bytes));
		break;
	}
}

static void stats_call(struct caller *caller)
{
	struct kvc_stats *stats = NULL;
	int r = take_below(&caller->take, 2) ? kvc_stats_get(caller->client, &stats) :
					       kvc_stats_look(caller->client, &stats);

	result_check(r);
	if (r != KVC_OK)
		return;
	for (size_t i = 0; i < stats->n_spaces; i++)
		kvp_assert(strlen(stats->spaces[i].name) <= KVC_NAME_BYTES_MAX);
	(void)kvc_stats_counter(stats, "sessions");
	(void)kvc_stats_free(stats);
}

static void tell_call(struct caller *caller)
{
	struct kvc_event_cursor cursor = { 0 };
	struct kvc_list_item items[4];
	struct kvc_event events[4];
	struct kvc_config_item *config = NULL;
	struct kvc_why why;
	uint64_t place = 0;
	size_t n = 0;

	keys_take(caller);
	switch (take_below(&caller->take, 4)) {
	case 0:
		result_check(kvc_list(caller->space, &place, items, 4, &n));
		kvp_assert(n <= 4);
		break;
	case 1:
		result_check(kvc_why(caller->space, &caller->keys[0], &why));
		break;
	case 2:
		result_check(kvc_events(caller->client, &cursor, events, 4, 0, &n));
		kvp_assert(n <= 4);
		break;
	default:
		result_check(kvc_config(caller->client, &config, &n));
		free(config);
		break;
	}
}

static void call(struct caller *caller)
{
	struct kvc_info info;

	switch (take_below(&caller->take, 19)) {
	case 0:
		space_call(caller);
		break;
	case 1:
		append_call(caller, false);
		break;
	case 2:
		append_call(caller, true);
		break;
	case 3:
		reap_call(caller);
		break;
	case 4:
	case 5:
		fetch_call(caller);
		break;
	case 6:
	case 7:
		pin_call(caller);
		break;
	case 8:
		find_call(caller);
		break;
	case 9:
		items_call(caller);
		break;
	case 10:
		stats_call(caller);
		break;
	case 11:
		tell_call(caller);
		break;
	case 12:
		if (!caller->reader)
			result_check(kvc_reader_open(caller->client, &caller->reader));
		break;
	case 13:
		result_check(kvc_client_info(caller->client, &info));
		break;
	case 14:
		layers_call(caller);
		break;
	case 15:
		ahead_call(caller);
		break;
	case 16:
		whole_call(caller);
		break;
	default:
		model_spoil(&caller->take);
		break;
	}
	kvp_assert(kvc_error(caller->client));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kvc_options options = { .struct_bytes = sizeof(options), .pins_max = 64 };
	struct caller caller = { 0 };
	struct liar liar;
	size_t split;
	char why[256];

	if (size < 3)
		return 0;
	split = (size - 2) * data[0] / 256;
	liar_start(&liar, data + 2, split);
	caller.take = (struct take){ .bytes = data + 2 + split, .left = size - 2 - split };
	options.socket_path = liar.path;
	options.staging_bytes = LIAR_STAGING_BYTES;
	options.flags = KVC_NO_SPIN | (data[1] & KVC_READ_ONLY) | (data[1] & RECONNECT ? 0 : KVC_NO_RECONNECT);
	options.timeout_ms = data[1] & RECONNECT ? 20 : 200; /* it is looked for so long when it is gone */
	options.verify = (data[1] >> 1) % 3;
	if (kvc_open(&options, &caller.client, why, sizeof(why)) == KVC_OK) {
		for (unsigned calls = 0; caller.take.left > 0 && calls < CALLS_MAX; calls++)
			call(&caller);
		blocks_drop(&caller);
		(void)kvc_reader_close(caller.reader);
		(void)kvc_space_close(caller.space);
		(void)kvc_close(caller.client);
	}
	liar_stop(&liar);
	model_restore();
	return 0;
}
