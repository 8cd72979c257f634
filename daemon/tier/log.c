/* SPDX-License-Identifier: Apache-2.0 */
/* The log as a tier: what the core calls, and how all parts are set going. */
#include "daemon/tier/log.h"

#include "base/contract.h"
#include "daemon/tier/internal.h"
#include "proto/status.h"

#include <errno.h>
#include <stdlib.h>

static struct tier_log *log_of(struct tier *tier)
{
	return list_entry(tier, struct tier_log, tier);
}

static const struct tier_log *log_of_const(const struct tier *tier)
{
	return (const struct tier_log *)(const void *)((const char *)tier - offsetof(struct tier_log, tier));
}

static void now_set(struct tier_log *log, uint64_t now_ns)
{
	if (now_ns > log->now_ns)
		log->now_ns = now_ns;
}

static void transfer_count(struct tier_log *log, const struct tier_transfer *transfer, int result)
{
	bool reads = transfer->io.verb == DISK_READ;

	if (result < 0 && reads)
		log->stats.read_errors_total++;
	else if (result < 0 && transfer->io.verb != DISK_REMOVE)
		log->stats.write_errors_total++;
	else if (reads)
		log->stats.read_bytes_total += transfer->io.bytes;
	else if (transfer->io.verb == DISK_WRITE)
		log->stats.written_bytes_total += transfer->io.bytes;
}

static void transfer_done(struct disk_io *io, int result)
{
	struct tier_transfer *transfer = list_entry(io, struct tier_transfer, io);
	struct tier_log *log = transfer->log;

	kvp_assert(log->under_way > 0);
	log->under_way--;
	now_set(log, io->ended_ns);
	transfer_count(log, transfer, result);
	if (io->verb == DISK_READ && log->ready)
		tier_forecast_ended(&log->forecast, transfer->begun_ns, log->now_ns, io->bytes);
	if (log->stopping && !log->ready)
		return; /* it found out nothing, and need not any more */
	transfer->done(log, transfer, result);
	tier_work(log);
}

void tier_submit(struct tier_log *log, struct tier_transfer *transfer, enum disk_verb verb, uint32_t segment,
		 uint64_t offset, void *memory, uint32_t bytes)
{
	transfer->io = (struct disk_io){
		.verb = verb,
		.file = segment,
		.offset = offset,
		.memory = memory,
		.bytes = bytes,
		.done = transfer_done,
	};
	list_init(&transfer->io.link);
	transfer->begun_ns = log->now_ns;
	log->under_way++;
	if (verb == DISK_READ && log->ready)
		tier_forecast_begun(&log->forecast, log->now_ns);
	log->disk->ops->submit(log->disk, &transfer->io);
}

bool tier_ending(const struct tier_log *log)
{
	return log->stopping && tier_removals_idle(log);
}

/* When the last store has ended the head is closed, so that the next start finds a footer. */
static void stop_work(struct tier_log *log)
{
	if (log->stopping && log->head != TIER_NONE && log->stores_n == 0 && tier_removals_idle(log) &&
	    log->segments[log->head].end > TIER_ALIGN)
		tier_head_close(log);
}

void tier_work(struct tier_log *log)
{
	if (!log->ready)
		return;
	kvp_assert(!log->working);
	log->working = true;
	tier_removals_work(log);
	tier_loads_work(log);
	tier_stores_work(log);
	stop_work(log);
	tier_seal_work(log);
	tier_reclaim_work(log);
	tier_segments_work(log);
	log->working = false;
}

static void log_bind(struct tier *tier, const struct tier_client *client, void *context)
{
	struct tier_log *log = log_of(tier);

	kvp_assert(!log->client);
	log->client = client;
	log->context = context;
	tier_rebuild_begin(log);
	tier_work(log);
}

static bool log_find(struct tier *tier, const struct tier_space *space, struct block_key key,
		     struct tier_block *ret_block)
{
	const struct tier_log *log = log_of(tier);
	const struct tier_entry *entry = log->ready ? tier_index_find(&log->index, space, key) : NULL;
	struct tier_item item;

	if (!entry)
		return false;
	tier_entry_describe(entry, TIER_BLOCK, &item);
	*ret_block = item.block;
	return true;
}

static int log_store(struct tier *tier, const struct tier_block *block, const struct tier_page *pages, uint64_t cookie,
		     uint64_t now_ns)
{
	struct tier_log *log = log_of(tier);
	int result;

	now_set(log, now_ns);
	result = tier_store(log, block, pages, cookie);
	tier_work(log);
	return result;
}

static int log_load(struct tier *tier, const struct tier_space *space, struct block_key key, const uint32_t *order,
		    void *const *memory, uint32_t n, uint64_t cookie, uint64_t now_ns)
{
	struct tier_log *log = log_of(tier);
	struct tier_entry *entry = log->ready ? tier_index_find(&log->index, space, key) : NULL;
	int result;

	now_set(log, now_ns);
	result = entry && !log->stopping ? tier_load(log, entry, order, memory, n, cookie) : KVP_MISS;
	tier_work(log);
	return result;
}

static void log_remove(struct tier *tier, const struct tier_space *space, struct block_key key, uint64_t now_ns)
{
	struct tier_log *log = log_of(tier);

	now_set(log, now_ns);
	if (!log->ready) {
		tier_remove_later(log, space, key);
		return;
	}
	tier_remove(log, space, key);
	tier_removals_expand(log, TIER_SLICE);
	tier_work(log);
}

static void log_forget(struct tier *tier, const struct tier_space *space, struct block_key key)
{
	struct tier_log *log = log_of(tier);
	struct tier_entry *entry = log->ready ? tier_index_find(&log->index, space, key) : NULL;

	if (entry)
		tier_entry_drop(log, entry);
}

static uint64_t log_forecast_ns(const struct tier *tier, uint64_t bytes)
{
	const struct tier_log *log = log_of_const(tier);

	return tier_forecast_ns(&log->forecast, log->load_bytes, bytes);
}

static void log_stats(const struct tier *tier, struct tier_stats *ret_stats)
{
	const struct tier_log *log = log_of_const(tier);

	*ret_stats = log->stats;
	ret_stats->engine = log->disk->ops->engine;
	ret_stats->ready = log->ready;
	ret_stats->capacity_bytes = log->segment_bytes * log->segments_n;
	ret_stats->blocks = log->index.entries;
	ret_stats->segments = 0;
	for (uint32_t i = 0; i < log->segments_n; i++)
		ret_stats->segments += log->segments[i].open;
}

static bool slices_due(const struct tier_log *log)
{
	return log->ready && (!list_empty(&log->removals.expanding) || tier_reclaim_due(log));
}

/* What could not be done when it was due waits for the end of a transfer, not for time. */
static uint64_t log_deadline_ns(const struct tier *tier)
{
	const struct tier_log *log = log_of_const(tier);
	uint64_t segments = tier_segments_due_ns(log), removals = log->removals.due_ns;

	if (slices_due(log))
		return 0;
	if (removals <= log->now_ns)
		removals = UINT64_MAX;
	return removals < segments ? removals : segments;
}

static void log_tick(struct tier *tier, uint64_t now_ns)
{
	struct tier_log *log = log_of(tier);

	now_set(log, now_ns);
	if (log->ready) {
		tier_removals_expand(log, TIER_SLICE);
		tier_reclaim_slice(log);
	}
	tier_work(log);
}

static bool log_stop(struct tier *tier)
{
	struct tier_log *log = log_of(tier);

	log->stopping = true;
	tier_removals_expand(log, UINT32_MAX);
	tier_work(log);
	/* What was removed must not come back, even if older blocks have to go for it to be written. */
	while (log->ready && tier_reclaim_due(log))
		tier_reclaim_slice(log);
	tier_work(log);
	return log->under_way == 0;
}

static const struct tier_ops ops = {
	.bind = log_bind,
	.find = log_find,
	.store = log_store,
	.load = log_load,
	.remove = log_remove,
	.forget = log_forget,
	.forecast_ns = log_forecast_ns,
	.stats = log_stats,
	.deadline_ns = log_deadline_ns,
	.tick = log_tick,
	.stop = log_stop,
};

static void lists_init(struct tier_log *log)
{
	list_init(&log->full);
	list_init(&log->stores);
	list_init(&log->heads_waiting);
	list_init(&log->stores_under_way);
	list_init(&log->loads);
	list_init(&log->loads_under_way);
	list_init(&log->free_writes);
	list_init(&log->free_reads);
	list_init(&log->removals.early);
	list_init(&log->removals.expanding);
	list_init(&log->removals.emitting);
	for (uint32_t i = 0; i < log->segments_n; i++) {
		list_init(&log->segments[i].link);
		list_init(&log->segments[i].entries);
		list_init(&log->segments[i].removals);
	}
}

static uint8_t *take(uint8_t **at, size_t bytes)
{
	uint8_t *taken = *at;

	*at += bytes;
	return taken;
}

/* The log's own memory for transfers, cut up. */
static int buffers_init(struct tier_log *log)
{
	size_t bytes = (TIER_HEADS + 1) * TIER_BLOCK_HEAD_MAX + TIER_CHUNK_BYTES + TIER_ALIGN +
		       2 * TIER_REMOVALS_BYTES + TIER_MOVES * KVP_PAGE_BYTES_MAX;
	uint8_t *at = log->disk->ops->buffers(log->disk, bytes);

	if (!at)
		return -ENOMEM;
	for (unsigned i = 0; i < TIER_MOVES; i++)
		log->reclaim.move.pages[i].memory = take(&at, KVP_PAGE_BYTES_MAX);
	for (unsigned i = 0; i < TIER_HEADS; i++)
		log->heads[i] = take(&at, TIER_BLOCK_HEAD_MAX);
	log->heads_n = TIER_HEADS;
	log->reclaim.move.head = take(&at, TIER_BLOCK_HEAD_MAX);
	log->seal.chunk = take(&at, TIER_CHUNK_BYTES);
	log->prepare.record = take(&at, TIER_ALIGN);
	log->removals.filling = take(&at, TIER_REMOVALS_BYTES);
	log->removals.writing = take(&at, TIER_REMOVALS_BYTES);
	log->removals.used = sizeof(struct tier_head);
	log->removals.due_ns = UINT64_MAX;
	return 0;
}

/* Loads may have all that the disk does at once, stores half: a load then waits for little. */
static int transfers_init(struct tier_log *log)
{
	unsigned depth = log->disk->ops->depth(log->disk);
	unsigned reads = depth < 1 ? 1 : depth > TIER_TRANSFERS_MAX ? TIER_TRANSFERS_MAX : depth;
	unsigned writes = reads > 1 ? reads / 2 : 1;

	log->transfers = calloc(reads + writes, sizeof(*log->transfers));
	if (!log->transfers)
		return -ENOMEM;
	for (unsigned i = 0; i < reads + writes; i++) {
		log->transfers[i].transfer.log = log;
		list_push_back(i < reads ? &log->free_reads : &log->free_writes, &log->transfers[i].link);
	}
	log->removals.transfer.log = log;
	log->seal.transfer.log = log;
	log->prepare.transfer.log = log;
	log->reclaim.move.head_transfer.log = log;
	for (unsigned i = 0; i < TIER_MOVES; i++)
		log->reclaim.move.pages[i].transfer.log = log;
	return 0;
}

static bool options_possible(const struct tier_log_options *options)
{
	const struct disk *disk = options->disk;

	return disk->files_max >= TIER_SEGMENTS_MIN && disk->files_max <= TIER_SEGMENTS_MAX &&
	       disk->file_bytes >= TIER_SEGMENT_BYTES_MIN && disk->file_bytes <= TIER_SEGMENT_BYTES_MAX &&
	       disk->file_bytes % TIER_ALIGN == 0 && options->blocks_max > 0;
}

static struct tier_log *log_make(const struct tier_log_options *options)
{
	struct tier_log *log = calloc(1, sizeof(*log));

	if (!log)
		return NULL;
	log->segments = calloc(options->disk->files_max, sizeof(*log->segments));
	if (!log->segments) {
		free(log);
		return NULL;
	}
	log->tier.ops = &ops;
	log->disk = options->disk;
	log->now_ns = options->now_ns;
	log->seed = options->seed;
	log->segment_bytes = options->disk->file_bytes;
	log->segments_n = options->disk->files_max;
	log->head = log->spare = TIER_NONE;
	log->prepare.segment = log->seal.segment = log->reclaim.segment = TIER_NONE;
	log->sequence_next = 1;
	lists_init(log);
	tier_rate_init(&log->rate, options->write_bytes_per_s, options->now_ns);
	tier_forecast_init(&log->forecast);
	return log;
}

int tier_log_new(const struct tier_log_options *options, struct tier **ret_tier)
{
	struct tier_log *log;

	if (!options_possible(options))
		return -EINVAL;
	log = log_make(options);
	if (!log)
		return -ENOMEM;
	if (tier_index_init(&log->index, options->blocks_max, options->seed) < 0 || buffers_init(log) < 0 ||
	    transfers_init(log) < 0 || tier_rebuild_new(log) < 0) {
		tier_log_free(&log->tier);
		return -ENOMEM;
	}
	*ret_tier = &log->tier;
	return 0;
}

void tier_log_free(struct tier *tier)
{
	struct tier_log *log = log_of(tier);

	tier_rebuild_deinit(log);
	tier_seal_deinit(log);
	tier_move_deinit(log);
	tier_removals_deinit(log);
	tier_stores_deinit(log);
	tier_loads_deinit(log);
	tier_index_deinit(&log->index);
	for (uint32_t i = 0; i < log->segments_n; i++)
		tier_segment_removals_free(&log->segments[i]);
	free(log->transfers);
	free(log->segments);
	free(log);
}
