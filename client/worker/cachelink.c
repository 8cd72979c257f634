/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call into libkvclient that returns a negative errno kills the link; positive outcomes are
 * the block's business. Appends are submitted and their completions reaped at the next occasion.
 */
#include "client/worker/cachelink.h"

#include "base/contract.h"
#include "client/kvclient.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define SPACE_NAME_BYTES_MAX 128
#define SPACE_MODEL_BYTES_MAX 64
#define REPLY_TIMEOUT_MS 5000
#define REAP_BATCH 16
#define PIN_BATCH 16
/* Blocks that take longer are computed: a processor does one of 128 tokens of a small model in about this. */
#define BLOCK_LOAD_US_MAX 100000
#define STAGING_BYTES_MIN (UINT64_C(8) << 20)

struct cachelink {
	kvc_client *client;
	kvc_space *space;
	kvc_reader *reader; /* NULL: reading asks the daemon */
	char name[SPACE_NAME_BYTES_MAX + 1];
	void (*notice)(void *context, const char *text);
	void *notice_context;
	bool alive;
	bool chain_broken; /* a block of this sequence is not there, so none behind it can be */
	uint64_t sequence; /* tags submissions, so that a late refusal breaks the right chain */
	uint64_t n_pending;
	struct cachelink_counts counts;
};

struct cache_key cache_key_next(const struct cache_key *parent, const uint32_t *tokens, uint32_t n)
{
	struct {
		struct cache_key parent; /* zero: none */
		uint32_t tokens[CODEC_TOKENS_MAX];
	} hashed = { 0 };
	XXH128_canonical_t hash;
	struct cache_key key;

	kvp_assert(n <= CODEC_TOKENS_MAX);
	if (parent)
		hashed.parent = *parent;
	memcpy(hashed.tokens, tokens, n * sizeof(tokens[0]));
	XXH128_canonicalFromHash(&hash,
				 XXH3_128bits(&hashed, sizeof(hashed.parent) + n * sizeof(tokens[0])));
	memcpy(key.bytes, hash.digest, sizeof(key.bytes));
	return key;
}

/* --- Opening ---------------------------------------------------------------------------------- */

/* Lower case; what is not a letter, a digit or a dot becomes one '-'. */
static void sanitise(const char *name, char *out, size_t size)
{
	size_t n = 0;

	for (; *name && n + 1 < size; name++) {
		unsigned char c = (unsigned char)*name;

		if (c < 0x80 && (isalnum(c) || c == '.'))
			out[n++] = (char)tolower(c);
		else if (n > 0 && out[n - 1] != '-')
			out[n++] = '-';
	}
	while (n > 0 && out[n - 1] == '-')
		n--;
	out[n] = '\0';
}

static void name_space(struct cachelink *link, const struct model *model, const struct kvstore *shape)
{
	char name[SPACE_MODEL_BYTES_MAX];

	sanitise(model->name, name, sizeof(name));
	(void)snprintf(link->name, sizeof(link->name), "%s-%016" PRIx64 "-%s-%s-b%" PRIu32 "-%s",
		       name[0] ? name : "model", model->identity, codec_name(shape->codec_k),
		       codec_name(shape->codec_v), shape->block_tokens, kvstore_form(shape));
}

static int connect_client(struct cachelink *link, const char *socket_path, const struct kvstore *shape,
			  struct fault *fault)
{
	uint64_t wanted = 2 * (uint64_t)kvstore_block_bytes(shape);
	struct kvc_options options = {
		.struct_bytes = sizeof(options),
		.socket_path = socket_path,
		.client_name = "kvworker",
		.staging_bytes = wanted > STAGING_BYTES_MIN ? wanted : STAGING_BYTES_MIN,
		.timeout_ms = REPLY_TIMEOUT_MS,
		.flags = KVC_NO_RECONNECT,
	};
	char text[256] = "";
	int r = kvc_open(&options, &link->client, text, sizeof(text));

	if (r == 0)
		return 0;
	return fault_set(fault, r < 0 ? r : -ECONNREFUSED, "cannot reach kvpaged: %s",
			 text[0] ? text : kvc_strerror(r));
}

static int open_space(struct cachelink *link, const struct model *model, const struct kvstore *shape,
		      struct fault *fault)
{
	char revision[32];
	struct kvc_schema schema = {
		.model = model->name[0] ? model->name : "model",
		.revision = revision,
		.dtype = KVC_F32,
		.layers = shape->n_layers,
		.kv_heads = shape->n_heads,
		.head_dim_k = shape->head_dim,
		.head_dim_v = shape->head_dim,
		.block_tokens = shape->block_tokens,
		.codec_k = (uint32_t)shape->codec_k,
		.codec_v = (uint32_t)shape->codec_v,
	};
	int r;

	(void)snprintf(revision, sizeof(revision), "%016" PRIx64 "-%s", model->identity,
		       kvstore_form(shape));
	r = kvc_space_open(link->client, link->name, &schema, &link->space);
	if (r == 0)
		return 0;
	return fault_set(fault, r < 0 ? r : -EINVAL, "cannot open the space %s: %s", link->name,
			 kvc_error(link->client));
}

/* Without a reader (the daemon's limits) it works too, with a request for each read. */
static int open_reader(struct cachelink *link, struct fault *fault)
{
	int r = kvc_reader_open(link->client, &link->reader);

	if (r >= 0)
		return 0;
	return fault_set(fault, r, "cannot open a reader: %s", kvc_error(link->client));
}

int cachelink_open(const struct cachelink_options *options, const struct model *model,
		   const struct kvstore *shape, struct cachelink **ret_link, struct fault *fault)
{
	_cleanup_(cachelink_freep) struct cachelink *link = calloc(1, sizeof(*link));
	int r;

	if (!link)
		return fault_set(fault, -ENOMEM, "no memory");
	link->notice = options->notice;
	link->notice_context = options->notice_context;
	if (options->space_name && strlen(options->space_name) > SPACE_NAME_BYTES_MAX)
		return fault_set(fault, -ENAMETOOLONG, "the space name has more than %d bytes",
				 SPACE_NAME_BYTES_MAX);
	if (options->space_name)
		(void)snprintf(link->name, sizeof(link->name), "%s", options->space_name);
	else
		name_space(link, model, shape);
	r = connect_client(link, options->socket_path, shape, fault);
	if (r == 0)
		r = open_space(link, model, shape, fault);
	if (r == 0)
		r = open_reader(link, fault);
	if (r < 0)
		return r;
	link->alive = true;
	*ret_link = take_ptr(link);
	return 0;
}

struct cachelink *cachelink_free(struct cachelink *link)
{
	if (!link)
		return NULL;
	cachelink_flush(link);
	(void)kvc_reader_close(link->reader);
	(void)kvc_space_close(link->space);
	(void)kvc_close(link->client);
	free(link);
	return NULL;
}

const char *cachelink_space(const struct cachelink *link)
{
	return link->name;
}

bool cachelink_alive(const struct cachelink *link)
{
	return link->alive;
}

void cachelink_begin(struct cachelink *link)
{
	link->sequence++;
	link->chain_broken = false;
}

/* The daemon is gone, or not to be trusted with more. What was not answered counts as refused. */
static void lose(struct cachelink *link, int r)
{
	char text[FAULT_TEXT_MAX];
	const char *reason = kvc_error(link->client);

	if (!link->alive)
		return;
	link->alive = false;
	link->counts.blocks_refused += link->n_pending;
	link->n_pending = 0;
	(void)snprintf(text, sizeof(text), "the cache is lost: %s", reason[0] ? reason : kvc_strerror(r));
	if (link->notice)
		link->notice(link->notice_context, text);
}

/* --- Fetching --------------------------------------------------------------------------------- */

static struct kvc_tensor block_tensor(const struct kvstore *store, float *values, uint32_t index)
{
	return (struct kvc_tensor){
		.data = values + kvstore_offset(store, 0, 0, index * store->block_tokens),
		.dtype = KVC_F32,
		.stride_layer = (int64_t)kvstore_head(store, 1, 0),
		.stride_head = (int64_t)kvstore_head(store, 0, 1),
		.stride_token = (int64_t)store->head_dim,
	};
}

/*
 * Has blocks brought up from the daemon's tier, as far as that is quicker than computing them: how many of the n are
 * resident then.
 */
static size_t load(struct cachelink *link, const struct kvc_key *keys, size_t n)
{
	_cleanup_free_ struct kvc_fetch *fetches = calloc(n, sizeof(*fetches));
	struct kvc_forecast forecast;
	size_t there = 0;
	int r;

	if (!fetches)
		return 0;
	r = kvc_forecast(link->space, keys, n, NULL, &forecast);
	if (r != KVC_OK || forecast.load_us > (forecast.resident + forecast.loadable) * BLOCK_LOAD_US_MAX) {
		if (r < 0)
			lose(link, r);
		return r == KVC_OK ? forecast.resident : 0;
	}
	n = forecast.resident + forecast.loadable;
	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		fetches[i].key = keys[i];
	r = kvc_fetch(link->space, link->reader, fetches, n); /* into no tensors: only waits */
	if (r < 0)
		lose(link, r);
	while (r == KVC_OK && there < n && fetches[there].status == KVC_OK)
		there++;
	return there;
}

/* How many of the keys are there; 0 when the daemon is lost. */
static size_t match(struct cachelink *link, const struct cache_key *keys, uint32_t n)
{
	_cleanup_free_ struct kvc_key *wanted = calloc(n, sizeof(*wanted));
	size_t matched = 0;
	int r;

	if (!wanted)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		wanted[i] = (struct kvc_key){ keys[i].bytes, sizeof(keys[i].bytes) };
	r = kvc_match(link->space, link->reader, wanted, n, NULL, &matched);
	if (r < 0)
		lose(link, r);
	if (r != 0)
		return 0;
	return matched < n ? matched + load(link, wanted + matched, n - matched) : matched;
}

/* The number of leading fetches that gave a whole block. */
static uint32_t leading_whole(const struct kvc_fetch *fetches, size_t n, const struct kvstore *store)
{
	uint32_t whole = 0;

	while (whole < n && fetches[whole].status == KVC_OK &&
	       fetches[whole].tokens == store->block_tokens)
		whole++;
	return whole;
}

static uint32_t fetch_decoded(struct cachelink *link, const struct cache_key *keys, uint32_t n,
			      struct kvstore *store)
{
	_cleanup_free_ struct kvc_fetch *fetches = calloc(n, sizeof(*fetches));
	int r;

	if (!fetches)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		fetches[i].key = (struct kvc_key){ keys[i].bytes, sizeof(keys[i].bytes) };
		fetches[i].k = block_tensor(store, store->k, i);
		fetches[i].v = block_tensor(store, store->v, i);
	}
	r = kvc_fetch(link->space, link->reader, fetches, n);
	if (r < 0) {
		lose(link, r);
		return 0;
	}
	return leading_whole(fetches, n, store);
}

/* Copies one tile of a pinned block. Whether it was there. */
static bool copy_tile(const kvc_block *block, enum codec_role role, uint32_t layer, uint32_t head,
		      const struct kvstore *store, uint32_t index)
{
	struct kvc_tile tile;

	if (kvc_block_tile(block, role == CODEC_ROLE_K ? 'K' : 'V', layer, head, &tile) != KVC_OK ||
	    tile.n != kvstore_tile_bytes(store, role))
		return false;
	memcpy(kvstore_tile(store, role, layer, head, index), tile.bytes, tile.n);
	return true;
}

/* Copies the pages of a pinned block. Whether what was copied is a whole block. */
static bool copy_block(const kvc_block *block, const struct kvstore *store, uint32_t index)
{
	if (!block || kvc_block_tokens(block) != store->block_tokens)
		return false;
	for (uint32_t layer = 0; layer < store->n_layers; layer++)
		for (uint32_t head = 0; head < store->n_heads; head++)
			if (!copy_tile(block, CODEC_ROLE_K, layer, head, store, index) ||
			    !copy_tile(block, CODEC_ROLE_V, layer, head, store, index))
				return false;
	return kvc_block_check(block) == KVC_OK;
}

/* Copies up to PIN_BATCH blocks to `index` and behind. Returns how many, from the first on. */
static uint32_t pin_and_copy(struct cachelink *link, const struct cache_key *keys, uint32_t n,
			     struct kvstore *store, uint32_t index)
{
	struct kvc_key wanted[PIN_BATCH] = { 0 };
	kvc_block *blocks[PIN_BATCH] = { NULL };
	int statuses[PIN_BATCH];
	uint32_t copied = 0;
	int r;

	n = n < PIN_BATCH ? n : PIN_BATCH;
	for (uint32_t i = 0; i < n; i++)
		wanted[i] = (struct kvc_key){ keys[i].bytes, sizeof(keys[i].bytes) };
	r = kvc_pin(link->space, link->reader, wanted, n, NULL, blocks, statuses);
	if (r < 0)
		lose(link, r);
	while (r == KVC_OK && copied < n && copy_block(blocks[copied], store, index + copied))
		copied++;
	for (uint32_t i = 0; i < n; i++)
		(void)kvc_unpin(blocks[i]);
	return copied;
}

/*
 * Tiles as they are in the pages. A batch may stop early because a quota lets no more blocks be
 * pinned at a time, so the end is a batch that gives nothing.
 */
static uint32_t fetch_packed(struct cachelink *link, const struct cache_key *keys, uint32_t n,
			     struct kvstore *store)
{
	uint32_t done = 0;
	uint32_t copied;

	do {
		copied = pin_and_copy(link, keys + done, n - done, store, done);
		done += copied;
	} while (copied > 0 && done < n);
	return done;
}

uint32_t cachelink_fetch(struct cachelink *link, const struct cache_key *keys, uint32_t n,
			 struct kvstore *store)
{
	size_t matched;

	kvp_assert(store->n_tokens == 0 && (uint64_t)n * store->block_tokens <= store->capacity);
	if (!link->alive || n == 0)
		return 0;
	matched = match(link, keys, n);
	kvp_assert(matched <= n);
	if (matched == 0)
		return 0;
	return store->packed ? fetch_packed(link, keys, (uint32_t)matched, store)
			     : fetch_decoded(link, keys, (uint32_t)matched, store);
}

/* --- Storing ---------------------------------------------------------------------------------- */

static void refuse(struct cachelink *link, uint64_t sequence)
{
	link->counts.blocks_refused++;
	if (sequence == link->sequence)
		link->chain_broken = true;
}

static void count_completion(struct cachelink *link, const struct kvc_completion *completion)
{
	link->n_pending--;
	if (completion->status == KVC_OK)
		link->counts.blocks_stored++;
	else if (completion->status == KVC_PRESENT)
		link->counts.blocks_present++;
	else
		refuse(link, completion->user_data);
	if (completion->status < 0)
		lose(link, completion->status);
}

/* Takes in what is answered, waiting up to wait_ms for the first. Returns whether any came. */
static bool reap(struct cachelink *link, uint32_t wait_ms)
{
	struct kvc_completion completions[REAP_BATCH];
	size_t n = 0;
	int r = kvc_reap(link->client, completions, REAP_BATCH, wait_ms, &n);

	if (r < 0) {
		lose(link, r);
		return false;
	}
	for (size_t i = 0; i < n && link->n_pending > 0; i++)
		count_completion(link, &completions[i]);
	return n > 0;
}

/* Submits, making room in the staging memory where needed. */
static int submit(struct cachelink *link, struct kvc_append *append)
{
	int r;

	do {
		r = kvc_submit(link->space, append, link->sequence);
	} while (r == -EAGAIN && link->n_pending > 0 && reap(link, REPLY_TIMEOUT_MS));
	return r;
}

void cachelink_store(struct cachelink *link, const struct cache_key *key,
		     const struct cache_key *parent, uint32_t index, const struct kvstore *store)
{
	struct kvc_append append = {
		.key = { key->bytes, sizeof(key->bytes) },
		.parent = { parent ? parent->bytes : NULL, parent ? sizeof(parent->bytes) : 0 },
		.tokens = store->block_tokens,
		.k = block_tensor(store, store->k, index),
		.v = block_tensor(store, store->v, index),
	};
	int r;

	if (!link->alive || link->chain_broken)
		return;
	if (link->n_pending > 0)
		(void)reap(link, 0);
	if (!link->alive || link->chain_broken)
		return;
	r = submit(link, &append);
	if (r == 0)
		link->n_pending++;
	else if (r > 0 || r == -EAGAIN)
		refuse(link, link->sequence);
	else
		lose(link, r);
}

void cachelink_flush(struct cachelink *link)
{
	while (link->alive && link->n_pending > 0)
		if (!reap(link, REPLY_TIMEOUT_MS))
			return;
}

struct cachelink_counts cachelink_counts(const struct cachelink *link)
{
	return link->counts;
}
