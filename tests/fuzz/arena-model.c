/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, spaces, index and blocks lie one behind the other, far enough apart; see arena-model.h. */
#include "tests/fuzz/arena-model.h"

#include "base/contract.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BYTES KVP_ARENA_BYTES_MIN
#define BUCKETS 4u
#define BLOCKS_TABLE 64u
#define SPACES 2u
#define COUNTERS_OFFSET 4096u
#define SPACES_OFFSET 12288u
#define INDEX_OFFSET 16384u
#define BLOCKS_OFFSET 32768u
#define CHANGES_MAX 256u
_Static_assert(COUNTERS_OFFSET + sizeof(struct kvp_counters) <= SPACES_OFFSET, "counters have room");

struct change {
	uint64_t offset;
	uint64_t before;
};

static int fd = -1;
static uint8_t *memory;
static struct change changes[CHANGES_MAX];
static size_t n_changes;

static uint64_t map_offset(uint32_t number)
{
	return KVP_EXTENT_BYTES + (uint64_t)number * 2 * KVP_SLOT_ALIGN;
}

static uint64_t page_offset(uint32_t number, uint32_t page)
{
	return 2 * KVP_EXTENT_BYTES + ((uint64_t)number * MODEL_LAYERS + page) * KVP_SLOT_ALIGN;
}

static void header_fill(void)
{
	*(struct kvp_arena_header *)memory = (struct kvp_arena_header){
		.magic = KVP_ARENA_MAGIC,
		.version = KVP_LAYOUT_VERSION,
		.header_bytes = KVP_HEADER_BYTES,
		.arena_bytes = BYTES,
		.incarnation = MODEL_INCARNATION,
		.hash_seed = 12345,
		.counters_offset = COUNTERS_OFFSET,
		.spaces_offset = SPACES_OFFSET,
		.index_offset = INDEX_OFFSET,
		.blocks_offset = BLOCKS_OFFSET,
		.extents_offset = KVP_EXTENT_BYTES,
		.counters_count = KVP_COUNTERS,
		.spaces_count = SPACES,
		.buckets_count = BUCKETS,
		.blocks_count = BLOCKS_TABLE,
		.extents_count = (uint32_t)(BYTES / KVP_EXTENT_BYTES) - 1,
	};
}

static void space_fill(void)
{
	struct kvp_space_entry *space = (void *)(memory + SPACES_OFFSET);

	*space = (struct kvp_space_entry){
		.state = KVP_SPACE_LIVE,
		.dtype = 1,
		.layers = MODEL_LAYERS,
		.kv_heads = 1,
		.head_dim_k = MODEL_HEAD_DIM,
		.head_dim_v = MODEL_HEAD_DIM,
		.block_tokens = MODEL_TOKENS,
		.codec_k = MODEL_CODEC,
		.codec_v = MODEL_CODEC,
		.page_heads = 1,
		.head_groups = 1,
		.page_count = MODEL_LAYERS,
		.page_bytes = MODEL_PAGE_BYTES,
		.slot_bytes = KVP_SLOT_ALIGN,
		.map_bytes = KVP_SLOT_ALIGN,
		.name_bytes = 1,
		.model_bytes = 1,
		.name = "a",
		.model = "m",
		.blocks = MODEL_BLOCKS,
	};
}

static void block_fill(uint32_t number)
{
	struct kvp_block *block = (struct kvp_block *)(memory + BLOCKS_OFFSET) + (number - 1);
	struct kvp_page *pages = (void *)(memory + map_offset(number));
	uint64_t hash = kvp_key_hash(12345, 1, &model_keys[number - 1], 1);
	struct kvp_bucket *bucket = (struct kvp_bucket *)(memory + INDEX_OFFSET) + (hash & (BUCKETS - 1));
	unsigned entry = 0;

	*block = (struct kvp_block){
		.generation = 2,
		.key_hash = hash,
		.map_offset = map_offset(number),
		.space_id = 1,
		.page_count = MODEL_LAYERS,
		.pages_ready = MODEL_LAYERS,
		.tokens = MODEL_TOKENS,
		.key_bytes = 1,
		.key = { (uint8_t)model_keys[number - 1] },
	};
	for (uint32_t i = 0; i < MODEL_LAYERS; i++)
		pages[i] = (struct kvp_page){
			.slot = (uint32_t)(page_offset(number, i) / KVP_SLOT_ALIGN),
			.flags = KVP_PAGE_READY,
			.checksum = kvp_page_checksum(memory + page_offset(number, i), MODEL_PAGE_BYTES),
		};
	while (atomic_load(&bucket->tag[entry]) != 0)
		entry++;
	kvp_assert(entry < KVP_BUCKET_ENTRIES);
	atomic_store(&bucket->tag[entry], kvp_hash_tag(hash));
	atomic_store(&bucket->block[entry], number);
}

static void model_make(void)
{
	fd = memfd_create("model", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	kvp_assert(fd >= 0 && ftruncate(fd, (off_t)BYTES) == 0);
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	kvp_assert(memory != MAP_FAILED);
	header_fill();
	space_fill();
	for (uint32_t number = 1; number <= MODEL_BLOCKS; number++)
		block_fill(number);
	kvp_assert(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
}

int model_fd(void)
{
	if (fd < 0)
		model_make();
	return fd;
}

uint8_t *model_memory(void)
{
	(void)model_fd();
	return memory;
}

/* A place of one of the parts that readers believe something of. */
static uint64_t place_take(struct take *take)
{
	uint32_t part = take_below(take, 6);
	uint64_t at = take_u8(take);

	switch (part) {
	case 0:
		return at * 4 % sizeof(struct kvp_arena_header);
	case 1:
		return SPACES_OFFSET + at * 4;
	case 2:
		return INDEX_OFFSET + at * 4 % (BUCKETS * sizeof(struct kvp_bucket));
	case 3:
		return BLOCKS_OFFSET + at * 4 % (MODEL_BLOCKS * sizeof(struct kvp_block));
	case 4:
		return map_offset(1 + take_below(take, MODEL_BLOCKS)) + at * 4 % (2 * KVP_SLOT_ALIGN);
	default:
		return COUNTERS_OFFSET + at * 4;
	}
}

void model_spoil(struct take *take)
{
	uint64_t offset = place_take(take);
	uint64_t value = take_number(take);
	size_t bytes = 1u << take_below(take, 4); /* 1, 2, 4 or 8 */

	if (n_changes == CHANGES_MAX)
		return;
	changes[n_changes].offset = offset;
	memcpy(&changes[n_changes].before, model_memory() + offset, sizeof(uint64_t));
	memcpy(memory + offset, &value, bytes);
	n_changes++;
}

void model_restore(void)
{
	while (n_changes > 0) {
		n_changes--;
		memcpy(memory + changes[n_changes].offset, &changes[n_changes].before, sizeof(uint64_t));
	}
}
