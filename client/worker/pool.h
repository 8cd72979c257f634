/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed set of threads that run the items 0..n of one task at a time, the caller among them.
 * Items are taken from a shared counter, so which thread runs which is not fixed: an item must not
 * depend on it.
 */
#pragma once

#include "base/cleanup.h"

#include <stddef.h>

#define POOL_THREADS_MAX 256

struct pool;

/* Runs one item; worker < pool_threads() is the same for no two threads at a time. */
typedef void (*pool_item_fn)(void *context, size_t item, unsigned worker);

/*
 * Starts n_threads - 1 threads (1 <= n_threads <= POOL_THREADS_MAX). Results: 0 and *ret_pool,
 * which the caller frees; -ENOMEM, or what pthread_create(3) said.
 */
int pool_new(unsigned n_threads, struct pool **ret_pool);

/* Ends the threads; NULL is fine. No task may be running. Returns NULL. */
struct pool *pool_free(struct pool *pool);

DEFINE_CLEANUP(struct pool *, pool_free);

unsigned pool_threads(const struct pool *pool);

/* Runs all items and returns when the last has ended. One caller at a time. */
void pool_run(struct pool *pool, size_t n_items, pool_item_fn run, void *context);
