/* SPDX-License-Identifier: Apache-2.0 */
/* Counting forks; see forks.h. */
#include "client/forks.h"

#include <pthread.h>
#include <stdatomic.h>

static _Atomic uint32_t forks;
static int watching;

static void in_child(void)
{
	atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void watch(void)
{
	watching = -pthread_atfork(NULL, NULL, in_child);
}

int forks_watch(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int r = pthread_once(&once, watch);

	return r != 0 ? -r : watching;
}

uint32_t forks_count(void)
{
	return atomic_load_explicit(&forks, memory_order_relaxed);
}
