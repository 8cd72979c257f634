/* SPDX-License-Identifier: Apache-2.0 */
/* Opened before the core, which is given the tier; the disk is closed while the core is there, the tier freed after. */
#include "daemon/host/tier.h"

#include "daemon/host/disk-open.h"
#include "daemon/host/random.h"
#include "daemon/tier/log.h"

#include <errno.h>
#include <string.h>

static int open_disk(struct host_tier *tier, const struct config_fields *fields, const struct segment *arena,
		     uv_loop_t *loop, struct log *log, struct host_error *error)
{
	uint64_t segments = fields->tier_bytes / fields->tier_segment_bytes;
	struct disk_options options = {
		.directory = fields->tier_dir,
		.file_bytes = fields->tier_segment_bytes,
		.files_max = (uint32_t)(segments < TIER_SEGMENTS_MAX ? segments : TIER_SEGMENTS_MAX),
		.loop = loop,
		.log = log,
		.memory = arena->memory,
		.memory_bytes = arena->bytes,
		.register_memory = fields->arena_prefault || arena->huge,
		.engine = (enum disk_engine_choice)fields->tier_engine,
		.direct = (enum disk_direct)fields->tier_direct,
		.depth = (unsigned)fields->tier_depth,
	};

	return disk_open(&options, &tier->disk, error);
}

int host_tier_open(struct host_tier *tier, const struct config_fields *fields, const struct segment *arena,
		   uv_loop_t *loop, struct log *log, struct host_error *error)
{
	struct tier_log_options options = {
		.blocks_max = (uint32_t)fields->tier_blocks,
		.write_bytes_per_s = fields->tier_write_bytes_per_s,
		.now_ns = uv_hrtime(),
	};
	int r;

	*tier = (struct host_tier){ .disk = NULL };
	if (fields->tier_dir[0] == '\0')
		return 0;
	r = random_u64(&options.seed);
	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "no random numbers: %s", strerror(-r));
	r = open_disk(tier, fields, arena, loop, log, error);
	if (r < 0)
		return r;
	options.disk = tier->disk;
	r = tier_log_new(&options, &tier->tier);
	if (r == 0)
		return 0;
	host_tier_close(tier);
	return host_error_set(error, HOST_EXIT_FAILURE, "cannot make the tier in %s: %s", fields->tier_dir,
			      strerror(-r));
}

void host_tier_loosen(struct host_tier *tier, const struct segment *arena)
{
	if (tier->disk)
		disk_unregister(tier->disk, arena->memory);
}

void host_tier_close(struct host_tier *tier)
{
	if (tier->disk)
		disk_close(tier->disk);
	tier->disk = NULL;
}

void host_tier_free(struct host_tier *tier)
{
	if (tier->tier)
		tier_log_free(tier->tier);
	tier->tier = NULL;
}
