/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A round of work is one 64-bit word: its number, how many items it has, and the next one to take.
 * A thread takes an item by advancing the word with compare-and-swap, and reads what to run only
 * then: the caller starts no new round before every item taken has ended, so that cannot change
 * under it. A thread that was asleep, or held up by the system, is waited for only if it holds an
 * item.
 *
 * Rounds follow each other within microseconds while a token is computed, so both sides spin a
 * little before they sleep on the condition.
 */
#include "client/worker/pool.h"

#include "base/contract.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SPINS_BEFORE_SLEEP 2000

/* The word: 16 bits of round, 24 of count, 24 of next. */
#define ITEM_BITS 24
#define ITEM_MASK ((UINT64_C(1) << ITEM_BITS) - 1)

struct pool {
	unsigned n_threads;
	unsigned n_started;
	pthread_t threads[POOL_THREADS_MAX];

	_Atomic uint64_t word;
	_Atomic size_t n_done;
	pool_item_fn run;
	void *context;
	uint16_t round;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a new round, the end of one, or the end of the pool */
	atomic_uint n_asleep;
	atomic_bool ending;
};

struct pool_thread {
	struct pool *pool;
	unsigned worker;
};

static uint64_t word_count(uint64_t word)
{
	return word >> ITEM_BITS & ITEM_MASK;
}

static uint64_t word_next(uint64_t word)
{
	return word & ITEM_MASK;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	(void)sched_yield();
#endif
}

static void wake_sleepers(struct pool *pool)
{
	if (atomic_load(&pool->n_asleep) == 0)
		return;
	(void)pthread_mutex_lock(&pool->lock);
	(void)pthread_cond_broadcast(&pool->changed);
	(void)pthread_mutex_unlock(&pool->lock);
}

/* Returns once condition(pool) holds. Whoever makes it true calls wake_sleepers() afterwards. */
static void wait_until(struct pool *pool, bool (*condition)(struct pool *pool))
{
	for (int i = 0; i < SPINS_BEFORE_SLEEP; i++) {
		if (condition(pool))
			return;
		relax();
	}
	(void)pthread_mutex_lock(&pool->lock);
	atomic_fetch_add(&pool->n_asleep, 1);
	while (!condition(pool))
		(void)pthread_cond_wait(&pool->changed, &pool->lock);
	atomic_fetch_sub(&pool->n_asleep, 1);
	(void)pthread_mutex_unlock(&pool->lock);
}

static bool work_waits(struct pool *pool)
{
	uint64_t word = atomic_load(&pool->word);

	return word_next(word) < word_count(word) || atomic_load(&pool->ending);
}

static bool round_ended(struct pool *pool)
{
	return atomic_load(&pool->n_done) == word_count(atomic_load(&pool->word));
}

/* Runs items until none is left to take. */
static void take_items(struct pool *pool, unsigned worker)
{
	uint64_t word = atomic_load(&pool->word);

	while (word_next(word) < word_count(word)) {
		uint64_t count = word_count(word);

		if (!atomic_compare_exchange_weak(&pool->word, &word, word + 1))
			continue;
		pool->run(pool->context, (size_t)word_next(word), worker);
		if (atomic_fetch_add(&pool->n_done, 1) + 1 == count)
			wake_sleepers(pool);
		word = atomic_load(&pool->word);
	}
}

static void *thread_main(void *argument)
{
	struct pool_thread self = *(struct pool_thread *)argument;

	free(argument);
	for (;;) {
		wait_until(self.pool, work_waits);
		if (atomic_load(&self.pool->ending))
			return NULL;
		take_items(self.pool, self.worker);
	}
}

static int start_thread(struct pool *pool, unsigned worker)
{
	_cleanup_free_ struct pool_thread *thread = malloc(sizeof(*thread));
	int r;

	if (!thread)
		return -ENOMEM;
	*thread = (struct pool_thread){ pool, worker };
	r = pthread_create(&pool->threads[pool->n_started], NULL, thread_main, thread);
	if (r != 0)
		return -r;
	(void)take_ptr(thread); /* the thread frees it */
	pool->n_started++;
	return 0;
}

int pool_new(unsigned n_threads, struct pool **ret_pool)
{
	_cleanup_(pool_freep) struct pool *pool = calloc(1, sizeof(*pool));

	kvp_assert(n_threads >= 1 && n_threads <= POOL_THREADS_MAX);
	if (!pool)
		return -ENOMEM;
	pool->n_threads = n_threads;
	(void)pthread_mutex_init(&pool->lock, NULL);
	(void)pthread_cond_init(&pool->changed, NULL);
	for (unsigned worker = 1; worker < n_threads; worker++) {
		int r = start_thread(pool, worker);

		if (r < 0)
			return r;
	}
	*ret_pool = take_ptr(pool);
	return 0;
}

struct pool *pool_free(struct pool *pool)
{
	if (!pool)
		return NULL;
	atomic_store(&pool->ending, true);
	wake_sleepers(pool);
	for (unsigned i = 0; i < pool->n_started; i++)
		(void)pthread_join(pool->threads[i], NULL);
	(void)pthread_cond_destroy(&pool->changed);
	(void)pthread_mutex_destroy(&pool->lock);
	free(pool);
	return NULL;
}

unsigned pool_threads(const struct pool *pool)
{
	return pool->n_threads;
}

void pool_run(struct pool *pool, size_t n_items, pool_item_fn run, void *context)
{
	kvp_assert(n_items <= ITEM_MASK);
	if (pool->n_started == 0 || n_items <= 1) {
		for (size_t item = 0; item < n_items; item++)
			run(context, item, 0);
		return;
	}
	pool->run = run;
	pool->context = context;
	pool->round++;
	atomic_store(&pool->n_done, 0);
	atomic_store(&pool->word, (uint64_t)pool->round << 2 * ITEM_BITS | (uint64_t)n_items << ITEM_BITS);
	wake_sleepers(pool);
	take_items(pool, 0);
	wait_until(pool, round_ended);
}
