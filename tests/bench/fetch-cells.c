/* SPDX-License-Identifier: Apache-2.0 */
/* What kvbench fetch measures: a line each. */
#include "tests/bench/fetch.h"

#include <string.h>

#define PING "a 64-byte round trip, same placement"

/* clang-format off */
static const struct fetch_kind kinds[] = {
	{ "find_pin", FETCH_RAW, STORE_FIND, .reference = "lmdb_get",
	  .reference_text = "LMDB's mdb_get" },
	{ "find_pin_batch", FETCH_RAW, STORE_FIND_BATCH, .alone = true, .reference = "find_pin",
	  .reference_text = "one by one" },
	{ "touch", FETCH_RAW, STORE_TOUCH, .reference = "bare",
	  .reference_text = "the same reads without a look-up" },
	{ "decode", FETCH_PACKED, STORE_COPY, .reference = "move_out",
	  .reference_text = "memcpy of a page" },
	{ "append", FETCH_RAW, STORE_PUT, .server = true, .reference = "memcached_set",
	  .reference_text = "memcached's set, same placement" },
	{ "append_batch", FETCH_RAW, STORE_PUT_BATCH, .server = true, .alone = true, .reference = "move_in",
	  .reference_text = "memcpy to the same memory" },
	{ "rpc_fetch", FETCH_RAW, STORE_ASK, .server = true, .alone = true, .reference = "ping",
	  .reference_text = PING },
	{ "deliver", FETCH_TENSOR, STORE_COPY, .deliver = true, .reference = "lmdb_deliver",
	  .reference_text = "LMDB, raw f16 copied out" },
	{ "bare", FETCH_RAW, STORE_BARE },
	{ "find_pin.huge", FETCH_HUGE_RAW, STORE_FIND, .reference = "find_pin",
	  .reference_text = "the same with 4 KiB pages" },
	{ "touch.huge", FETCH_HUGE_RAW, STORE_TOUCH, .reference = "bare.huge",
	  .reference_text = "the same reads without a look-up" },
	{ "decode.huge", FETCH_HUGE_PACKED, STORE_COPY, .reference = "decode",
	  .reference_text = "the same with 4 KiB pages" },
	{ "bare.huge", FETCH_HUGE_RAW, STORE_BARE, .reference = "bare",
	  .reference_text = "the same with 4 KiB pages" },
	{ "lmdb_get", FETCH_LMDB, STORE_FIND },
	{ "lmdb_touch", FETCH_LMDB, STORE_TOUCH, .reference = "bare",
	  .reference_text = "the same reads without a look-up" },
	{ "lmdb_set", FETCH_LMDB, STORE_PUT, .reference = "move_in",
	  .reference_text = "memcpy to the same memory" },
	{ "lmdb_deliver", FETCH_LMDB, STORE_COPY, .deliver = true, .reference = "move_out",
	  .reference_text = "memcpy of a page" },
	{ "memcached_get", FETCH_MEMCACHED, STORE_FIND, .server = true, .reference = "ping", .reference_text = PING },
	{ "memcached_touch", FETCH_MEMCACHED, STORE_TOUCH, .server = true, .alone = true, .reference = "ping",
	  .reference_text = PING },
	{ "memcached_set", FETCH_MEMCACHED, STORE_PUT, .server = true, .reference = "ping", .reference_text = PING },
	{ "memcached_deliver", FETCH_MEMCACHED, STORE_COPY, .server = true, .deliver = true, .reference = "ping",
	  .reference_text = PING },
	{ "redis_get", FETCH_REDIS, STORE_FIND, .server = true, .reference = "ping", .reference_text = PING },
	{ "redis_touch", FETCH_REDIS, STORE_TOUCH, .server = true, .alone = true, .reference = "ping",
	  .reference_text = PING },
	{ "redis_set", FETCH_REDIS, STORE_PUT, .server = true, .reference = "ping", .reference_text = PING },
	{ "redis_deliver", FETCH_REDIS, STORE_COPY, .server = true, .deliver = true, .reference = "ping",
	  .reference_text = PING },
	{ "pread_get", FETCH_FILE, STORE_FIND, .reference = "move_out", .reference_text = "memcpy of a page" },
	{ "pread_touch", FETCH_FILE, STORE_TOUCH, .alone = true, .reference = "bare",
	  .reference_text = "the same reads without a look-up" },
	{ "pread_set", FETCH_FILE, STORE_PUT, .reference = "move_in",
	  .reference_text = "memcpy to the same memory" },
	{ "pread_deliver", FETCH_FILE, STORE_COPY, .deliver = true, .reference = "move_out",
	  .reference_text = "memcpy of a page" },
	{ "move_out", FETCH_FILE, STORE_MOVE_OUT },
	{ "move_in", FETCH_FILE, STORE_MOVE_IN },
	{ "ping", FETCH_PING, STORE_FIND, .server = true },
};
/* clang-format on */

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void add(struct fetch_setting *setting, const struct fetch_kind *kind, enum fetch_place place, unsigned clients)
{
	if (setting->n_cells < FETCH_CELLS_MAX)
		setting->cells[setting->n_cells++] = (struct fetch_cell){
			.kind = kind,
			.place = place,
			.clients = clients,
		};
}

void fetch_cells_make(struct fetch_setting *setting)
{
	for (size_t i = 0; i < N_KINDS; i++) {
		const struct fetch_kind *kind = &kinds[i];

		if (!setting->there[kind->store] ||
		    (kind->deliver && (!setting->big || setting->page_bytes != FETCH_DELIVER_BYTES)))
			continue;
		add(setting, kind, kind->server ? FETCH_SAME : FETCH_INSIDE, 1);
		if (kind->server && setting->processors > 1)
			add(setting, kind, FETCH_SPLIT, 1);
		if (!kind->alone && setting->processors > 1)
			add(setting, kind, FETCH_INSIDE, 2);
	}
}

const struct fetch_cell *fetch_cell_find(const struct fetch_setting *setting, const char *kind, enum fetch_place place,
					 unsigned clients)
{
	for (unsigned i = 0; i < setting->n_cells; i++) {
		const struct fetch_cell *cell = &setting->cells[i];

		if (strcmp(cell->kind->name, kind) == 0 && cell->place == place && cell->clients == clients)
			return cell;
	}
	return NULL;
}
