/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What index and tables of an arena take of the pages that it holds, at 24 KiB a page. metadata_bytes is what the arena
 * sets aside at the start for as many blocks as it is told; it is told as many as fit. Page maps lie with the pages and
 * are shown beside. A block of one page is the worst case; models have tens of pages in a block.
 */
#include "tests/bench/fetch.h"

#include "base/units.h"
#include "tests/bench/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Tables take whole extents of 2 MiB: in a small arena that rounding would be most of it. */
#define ARENA_BYTES (4 * GIB)
#define QUICK_ARENA_BYTES (32 * MIB)
#define TOKENS (FETCH_PAGE_BYTES / (2 * STORE_HEAD_DIM * 2))
#define TABLES_TARGET 0.007

/* Blocks are appended so many at a time, which fill at most this share of the arena; then it is looked at. */
#define FILL_BLOCKS_MAX 64
#define FILL_SHARE 64

struct held {
	double metadata;
	double overhead;
	double stored;
};

static int look(kvc_client *client, struct held *held, bool *ret_full)
{
	struct kvc_stats *stats;
	int r = kvc_stats_get(client, &stats);

	if (r != KVC_OK)
		return bench_error("stats: %s", kvc_strerror(r));
	*ret_full = kvc_stats_counter(stats, "evictions_capacity_total") > 0;
	if (!*ret_full)
		*held = (struct held){
			.metadata = (double)kvc_stats_counter(stats, "metadata_bytes"),
			.overhead = (double)kvc_stats_counter(stats, "overhead_bytes"),
			.stored = (double)kvc_stats_counter(stats, "stored_bytes"),
		};
	(void)kvc_stats_free(stats);
	return 0;
}

static int append(kvc_space *space, const struct kvc_tensor *tensor, uint64_t first, uint32_t n)
{
	struct kvc_append blocks[FILL_BLOCKS_MAX];
	uint64_t keys[FILL_BLOCKS_MAX];
	int r;

	for (uint32_t i = 0; i < n; i++) {
		keys[i] = first + i;
		blocks[i] = (struct kvc_append){
			.key = { &keys[i], sizeof(keys[i]) }, .tokens = TOKENS, .k = *tensor, .v = *tensor
		};
	}
	r = kvc_append(space, blocks, n);
	for (uint32_t i = 0; r == KVC_OK && i < n; i++)
		r = blocks[i].status;
	return r == KVC_OK ? 0 : bench_error("append: %s", kvc_strerror(r));
}

/* Blocks of so many layers, a page each, until the first is evicted. */
static int fill(kvc_client *client, kvc_space *space, uint32_t layers, uint64_t arena_bytes, struct held *held)
{
	size_t bytes = (size_t)layers * FETCH_PAGE_BYTES;
	uint64_t n = arena_bytes / FILL_SHARE / bytes;
	uint8_t *zeros = calloc(1, bytes);
	struct kvc_tensor tensor = { zeros, KVC_F16, TOKENS * STORE_HEAD_DIM, TOKENS * STORE_HEAD_DIM, STORE_HEAD_DIM };
	bool full = false;
	int status = zeros ? 0 : bench_error("out of memory");

	n = n < 1 ? 1 : n > FILL_BLOCKS_MAX ? FILL_BLOCKS_MAX : n;
	for (uint64_t key = 1; status == 0 && !full; key += n) {
		status = append(space, &tensor, key, (uint32_t)n);
		if (status == 0)
			status = look(client, held, &full);
	}
	free(zeros);
	return status;
}

static int measure(uint32_t layers, uint64_t arena_bytes, struct held *held)
{
	struct kvc_schema schema = { .model = "kvbench", .dtype = KVC_F16, .layers = layers, .kv_heads = 1,
				     .head_dim_k = STORE_HEAD_DIM, .head_dim_v = STORE_HEAD_DIM, .block_tokens = TOKENS,
				     .codec_k = KVC_CODEC_F16, .codec_v = KVC_CODEC_F16 };
	struct bench_server_options server_options = {
		.arena_bytes = arena_bytes,
		.blocks = arena_bytes / ((uint64_t)layers * FETCH_PAGE_BYTES),
	};
	struct kvc_options options = { .struct_bytes = sizeof(options) };
	struct bench_server server;
	kvc_client *client = NULL;
	kvc_space *space;
	char reason[256] = "";
	int status = bench_server_start(&server, &server_options);

	options.socket_path = server.socket_path;
	if (status == 0 && kvc_open(&options, &client, reason, sizeof(reason)) != KVC_OK)
		status = bench_error("cannot connect: %s", reason);
	if (status == 0 && kvc_space_open(client, "tables", &schema, &space) != KVC_OK)
		status = bench_error("space: %s", kvc_error(client));
	if (status == 0)
		status = fill(client, space, layers, arena_bytes, held);
	(void)kvc_close(client);
	bench_server_stop(&server);
	return status;
}

static void report_share(const struct bench_options *options, const char *what, uint32_t layers, double share)
{
	char name[64];
	char text[112];
	struct report number = { .bench = "fetch", .name = name, .value = { share, share, share },
				 .unit = "of the pages' bytes", .reference = text, .ratio = share / TABLES_TARGET };

	(void)snprintf(name, sizeof(name), "target.%s.pages%" PRIu32, what, layers);
	(void)snprintf(text, sizeof(text), "target: at most %.3g, %s", TABLES_TARGET,
		       share <= TABLES_TARGET ? "met" : "missed");
	if (options->json)
		report(&number, true);
	else
		(void)printf("%-34s %8.4g of %-44s %s\n", name, share, "the pages' bytes, in a full arena", text);
}

int fetch_report_tables(const struct bench_options *options)
{
	static const uint32_t layers[] = { 1, 32 };

	for (unsigned i = 0; i < 2; i++) {
		struct held held = { 0 };

		if (measure(layers[i], options->quick ? QUICK_ARENA_BYTES : ARENA_BYTES, &held) != 0)
			return 1;
		report_share(options, "tables", layers[i], held.metadata / held.stored);
		report_share(options, "tables_and_maps", layers[i], (held.metadata + held.overhead) / held.stored);
	}
	return 0;
}
