/* SPDX-License-Identifier: Apache-2.0 */
/* A key is the text of a number that looks random and is another for every value and version. */
#include "tests/bench/store.h"

#include "tests/bench/bench.h"
#include "tests/bench/normal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CALLER_ALIGN 4096

static void write_key(char key[STORE_KEY_BYTES], uint32_t index, uint32_t version)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t state = (uint64_t)version << 32 | index;
	uint64_t number = random_u64(&state);

	for (unsigned i = 0; i < STORE_KEY_BYTES; i++)
		key[i] = digits[number >> (4 * i) & 0xf];
}

void store_item(const struct store *store, uint32_t index, struct store_item *ret_item)
{
	uint32_t version = 0;

	if (store->versions)
		version = atomic_load_explicit(&store->versions[index], memory_order_relaxed);
	write_key(ret_item->key, index, version);
	write_key(ret_item->next, index, store->versions ? version + 1 : 0);
	ret_item->index = index;
	ret_item->bare = store->bare ? store->bare[index] : NULL;
}

uint32_t store_op_items(const struct store *store, enum store_op op)
{
	return op == STORE_PUT_BATCH || op == STORE_FIND_BATCH ? store->set->batch : 1;
}

uint32_t store_caller_bytes(const struct store *store)
{
	const struct store_shape *shape = &store->shape;

	if (!store->class->lossy)
		return store->set->value_bytes;
	return shape->heads * shape->tokens * 2 * STORE_HEAD_DIM * (uint32_t)sizeof(uint16_t);
}

int store_missing(const char *name, const char *why)
{
	(void)fprintf(stderr, "kvbench: %s is left out: %s\n", name, why);
	return STORE_MISSING;
}

static size_t versions_bytes(const struct store *store)
{
	return store->set->count * sizeof(*store->versions);
}

int store_start(struct store *store, const struct store_class *class, const struct workset *set,
		const struct store_shape *shape)
{
	int result;

	*store = (struct store){ .class = class, .set = set, .fds = { -1, -1 } };
	if (shape)
		store->shape = *shape;
	if (class->immutable) {
		void *memory = mmap(NULL, versions_bytes(store), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				    -1, 0);

		if (memory == MAP_FAILED)
			return bench_error("out of memory");
		store->versions = memory;
	}
	result = class->start ? class->start(store) : STORE_STARTED;
	if (result != STORE_STARTED)
		store_stop(store);
	return result;
}

void store_stop(struct store *store)
{
	if (store->class && store->class->stop)
		store->class->stop(store);
	if (store->versions)
		(void)munmap(store->versions, versions_bytes(store));
	*store = (struct store){ 0 };
}

int store_open(struct store *store, unsigned client)
{
	size_t bytes = (store_caller_bytes(store) + CALLER_ALIGN - 1) / CALLER_ALIGN * CALLER_ALIGN;

	store->client = client;
	store->out = aligned_alloc(CALLER_ALIGN, bytes);
	if (!store->out)
		return bench_error("out of memory");
	memset(store->out, 0, bytes);
	return store->class->open ? store->class->open(store) : 0;
}

void store_close(struct store *store)
{
	if (store->class->close)
		store->class->close(store);
	free(store->bare);
	free(store->out);
	store->bare = NULL;
	store->out = NULL;
}
