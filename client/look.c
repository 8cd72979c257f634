/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics without asking: counters, histograms and the space table are read where the daemon writes them. What it
 * may change at any time is copied once and checked in the copy. A snapshot is one allocation: struct kvc_stats,
 * spaces, counters, histograms, texts.
 */
#include "client/look.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "client/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An entry that changes under the copying is read again; one that goes on changing is left for the next look. */
#define READS_MAX 3

_Static_assert(KVC_HISTOGRAM_BUCKETS == KVP_HISTOGRAM_BUCKETS, "public and shared layout");

static const char *const counter_names[KVP_COUNTERS] = {
#define VALUE(field, labels, sentence) #field,
#include "proto/metrics.def"
};

/* One row of struct kvp_counters' histograms: where it lies, and how its members are told apart. */
static const struct row {
	const char *name;
	size_t offset;
	unsigned n;
	const char *(*label)(unsigned i);
} rows[] = {
#define HISTOGRAM(field, label, n, name) { #field, offsetof(struct kvp_counters, field), n, name },
#include "proto/metrics.def"
};

enum {
	HISTOGRAMS = 0
#define HISTOGRAM(field, label, n, name) +(n)
#include "proto/metrics.def"
};

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static bool entry_is_live(const struct kvp_space_entry *entry)
{
	return atomic_load_explicit(&entry->state, memory_order_acquire) == KVP_SPACE_LIVE;
}

/* What is constant while a space lives. */
static bool entry_same(const struct kvp_space_entry *a, const struct kvp_space_entry *b)
{
	size_t begin = offsetof(struct kvp_space_entry, dtype);

	return memcmp((const uint8_t *)a + begin, (const uint8_t *)b + begin,
		      offsetof(struct kvp_space_entry, blocks) - begin) == 0;
}

static bool entry_makes_sense(const struct kvp_space_entry *copy)
{
	return copy->name_bytes > 0 && copy->name_bytes <= KVP_NAME_BYTES_MAX &&
	       copy->model_bytes <= KVP_MODEL_BYTES_MAX && copy->revision_bytes <= KVP_REVISION_BYTES_MAX &&
	       text_is_clean(copy->name, copy->name_bytes) && text_is_clean(copy->model, copy->model_bytes) &&
	       text_is_clean(copy->revision, copy->revision_bytes);
}

/* Copies what is there; false when no space was there afterwards. */
static bool entry_copy(const struct kvp_space_entry *entry, struct kvp_space_entry *copy)
{
	memcpy(copy, entry, sizeof(*copy));
	atomic_thread_fence(memory_order_acquire);
	return entry_is_live(entry);
}

/*
 * Copies an entry as it was at one time. Returns whether a space is there. Another space may have taken the place of
 * the first while it was copied, and state be the same again: so there are two copies, and a space between them, which
 * is not written while it is there.
 */
static bool entry_read(const struct kvp_space_entry *entry, struct kvp_space_entry *copy)
{
	struct kvp_space_entry again;

	for (unsigned i = 0; i < READS_MAX && entry_is_live(entry); i++)
		if (entry_copy(entry, copy) && entry_copy(entry, &again) && entry_same(copy, &again))
			return entry_makes_sense(copy);
	return false;
}

static size_t entry_texts_bytes(const struct kvp_space_entry *copy)
{
	return (size_t)copy->name_bytes + copy->model_bytes + copy->revision_bytes + 3;
}

static const char *text_put(char **pool, const char *text, size_t n)
{
	char *copy = *pool;

	memcpy(copy, text, n);
	copy[n] = '\0';
	*pool += n + 1;
	return copy;
}

static void space_fill(struct kvc_space_stats *space, const struct kvp_space_entry *copy, char **pool)
{
	*space = (struct kvc_space_stats){
		.name = text_put(pool, copy->name, copy->name_bytes),
		.schema = {
			.model = text_put(pool, copy->model, copy->model_bytes),
			.revision = text_put(pool, copy->revision, copy->revision_bytes),
			.dtype = copy->dtype,
			.layers = copy->layers,
			.kv_heads = copy->kv_heads,
			.head_dim_k = copy->head_dim_k,
			.head_dim_v = copy->head_dim_v,
			.block_tokens = copy->block_tokens,
			.codec_k = copy->codec_k,
			.codec_v = copy->codec_v,
			.page_heads = copy->page_heads,
		},
		.blocks = load(&copy->blocks),
		.blocks_partial = load(&copy->blocks_partial),
		.pages = load(&copy->pages),
		.tokens = load(&copy->tokens),
		.logical_f16_bytes = load(&copy->logical_f16_bytes),
		.logical_f32_bytes = 2 * load(&copy->logical_f16_bytes),
		.stored_bytes = load(&copy->stored_bytes),
		.overhead_bytes = load(&copy->overhead_bytes),
		.sessions = (uint32_t)load(&copy->sessions),
	};
}

static void histogram_fill(struct kvc_histogram *histogram, const struct row *row, unsigned i,
			   const struct kvp_counters *counters)
{
	const struct kvp_histogram *from = (const void *)((const uint8_t *)counters + row->offset);

	histogram->name = row->name;
	histogram->label = row->label ? row->label(i) : "";
	for (unsigned bucket = 0; bucket < KVP_HISTOGRAM_BUCKETS; bucket++)
		histogram->buckets[bucket] = load(&from[i].buckets[bucket]);
	histogram->sum_ns = load(&from[i].sum_ns);
}

static void numbers_fill(struct kvc_counter *counters, struct kvc_histogram *histograms,
			 const struct kvp_counters *from)
{
	const _Atomic uint64_t *words = (const void *)from;

	for (size_t i = 0; i < KVP_COUNTERS; i++)
		counters[i] = (struct kvc_counter){ .name = counter_names[i], .value = load(&words[i]) };
	for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++)
		for (unsigned i = 0; i < rows[row].n; i++)
			histogram_fill(histograms++, &rows[row], i, from);
}

static struct kvc_stats *snapshot_new(const struct arena_layout *layout, const char *server_version,
				      const struct kvp_space_entry *entries, size_t n_spaces)
{
	size_t bytes = sizeof(struct kvc_stats) + n_spaces * sizeof(struct kvc_space_stats) +
		       KVP_COUNTERS * sizeof(struct kvc_counter) + HISTOGRAMS * sizeof(struct kvc_histogram) +
		       strlen(server_version) + 1;
	struct kvc_space_stats *spaces;
	struct kvc_counter *counters;
	struct kvc_histogram *histograms;
	struct kvc_stats *stats;
	char *pool;

	for (size_t i = 0; i < n_spaces; i++)
		bytes += entry_texts_bytes(&entries[i]);
	stats = calloc(1, bytes);
	if (!stats)
		return NULL;
	spaces = (void *)(stats + 1);
	counters = (void *)(spaces + n_spaces);
	histograms = (void *)(counters + KVP_COUNTERS);
	pool = (void *)(histograms + HISTOGRAMS);
	*stats = (struct kvc_stats){
		.incarnation = layout->incarnation,
		.server_version = text_put(&pool, server_version, strlen(server_version)),
		.n_counters = KVP_COUNTERS,
		.counters = counters,
		.n_spaces = n_spaces,
		.spaces = spaces,
		.n_histograms = HISTOGRAMS,
		.histograms = histograms,
	};
	numbers_fill(counters, histograms, layout->counters);
	for (size_t i = 0; i < n_spaces; i++)
		space_fill(&spaces[i], &entries[i], &pool);
	return stats;
}

int look_snapshot(const struct arena_layout *layout, const char *server_version, struct kvc_stats **ret_stats)
{
	_cleanup_free_ struct kvp_space_entry *entries = NULL;
	struct kvc_stats *stats;
	size_t n = 0;

	if (!layout->counters)
		return KVC_UNSUPPORTED;
	entries = calloc(layout->spaces_count + (size_t)1, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	for (uint32_t i = 0; i < layout->spaces_count; i++)
		n += entry_read(&layout->spaces[i], &entries[n]);
	stats = snapshot_new(layout, server_version, entries, n);
	if (!stats)
		return -ENOMEM;
	*ret_stats = stats;
	return 0;
}

static int look_op(struct kvc_client *client, void *data)
{
	struct connection *connection = &client->connection;
	struct kvc_stats **ret_stats = data;
	int r = rpc_collect(&connection->rpc); /* notices a daemon that is gone */

	if (r < 0)
		return r;
	if (!arena_session_stands(connection->arena)) {
		rpc_fail(&connection->rpc, -ECONNRESET);
		return -ECONNRESET;
	}
	r = look_snapshot(&connection->arena->layout, connection->server_version, ret_stats);
	if (r == KVC_UNSUPPORTED)
		words_set(&client->words, "the daemon's list of counters is of another version than this library's");
	return r;
}

int kvc_stats_look(kvc_client *client, struct kvc_stats **ret_stats)
{
	struct kvc_stats *stats = NULL;
	int r;

	if (!client || !ret_stats)
		return client_refuse(client, -EINVAL, "kvc_stats_look: an argument is NULL");
	r = client_run(client, look_op, &stats);
	if (r == 0)
		*ret_stats = stats;
	return r;
}
