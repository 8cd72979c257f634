/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file on tmpfs with every value at its place. pread and pwrite of it are what a cache without an index could do
 * through the kernel; reading and copying where it is mapped are the limits of this memory. The file has no name, so
 * that nothing is left of it.
 */
#include "tests/bench/store.h"

#include "base/cleanup.h"
#include "tests/bench/bench.h"
#include "tests/bench/peer.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t file_bytes(const struct store *store)
{
	return (size_t)store->set->count * store->set->value_bytes;
}

static off_t offset_of(const struct store *store, uint32_t index)
{
	return (off_t)index * store->set->value_bytes;
}

static int start(struct store *store)
{
	store->fds[0] = memfd_create("kvbench", MFD_CLOEXEC);
	if (store->fds[0] < 0 || ftruncate(store->fds[0], (off_t)file_bytes(store)) < 0)
		return bench_error("the file of %zu bytes: %s", file_bytes(store), strerror(errno));
	return STORE_STARTED;
}

static void stop(struct store *store)
{
	store->fds[0] = close_fd(store->fds[0]);
}

static int open_store(struct store *store)
{
	void *memory = mmap(NULL, file_bytes(store), PROT_READ | PROT_WRITE, MAP_SHARED, store->fds[0], 0);

	if (memory == MAP_FAILED)
		return bench_error("mapping the file: %s", strerror(errno));
	store->state = memory;
	store->bare = malloc(store->set->count * sizeof(*store->bare));
	for (uint32_t i = 0; store->bare && i < store->set->count; i++)
		store->bare[i] = (uint8_t *)memory + offset_of(store, i);
	return store->bare ? 0 : bench_error("out of memory");
}

static void close_store(struct store *store)
{
	if (store->state)
		(void)munmap(store->state, file_bytes(store));
	store->state = NULL;
}

static int get(struct store *store, const struct store_item *item)
{
	ssize_t n = pread(store->fds[0], store->out, store->set->value_bytes, offset_of(store, item->index));

	return n == (ssize_t)store->set->value_bytes ? 0 : bench_error("pread: %s", strerror(errno));
}

static int touch(struct store *store, const struct store_item *item)
{
	if (get(store, item) != 0)
		return 1;
	store->sum += peer_read(store->out, store->set->value_bytes);
	return 0;
}

static int put(struct store *store, const struct store_item *item)
{
	ssize_t n = pwrite(store->fds[0], store->set->source, store->set->value_bytes, offset_of(store, item->index));

	return n == (ssize_t)store->set->value_bytes ? 0 : bench_error("pwrite: %s", strerror(errno));
}

static int bare(struct store *store, const struct store_item *item)
{
	store->sum += peer_read(item->bare, store->set->value_bytes);
	return 0;
}

static int move_out(struct store *store, const struct store_item *item)
{
	memcpy(store->out, item->bare, store->set->value_bytes);
	__asm__ volatile("" : : "r"(store->out) : "memory");
	return 0;
}

static int move_in(struct store *store, const struct store_item *item)
{
	memcpy((uint8_t *)store->state + offset_of(store, item->index), store->set->source, store->set->value_bytes);
	__asm__ volatile("" : : "r"(store->state) : "memory");
	return 0;
}

const struct store_class store_file = {
	.name = "pread",
	.memory = true,
	.ops = { [STORE_FIND] = get,
		 [STORE_TOUCH] = touch,
		 [STORE_COPY] = get,
		 [STORE_PUT] = put,
		 [STORE_BARE] = bare,
		 [STORE_MOVE_OUT] = move_out,
		 [STORE_MOVE_IN] = move_in },
	.start = start,
	.stop = stop,
	.open = open_store,
	.close = close_store,
};
