/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two lists under one lock: what waits for a thread, and what has ended and waits for the loop. The loop is woken when
 * the second one begins to fill; it takes a portion in a turn and wakes itself for the rest.
 */
#include "daemon/host/disk-crew.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/host/disk-engine.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define STACK_BYTES (256 * KIB)

struct disk_crew {
	struct disk_files *files;
	disk_crew_ended_fn ended_fn;
	disk_crew_gone_fn gone_fn;
	void *context;
	uv_async_t wake;

	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list waiting;
	struct list ended;
	bool stopping;

	unsigned n;
	pthread_t threads[DISK_THREADS_MAX];
};

/* --- The threads' side ---------------------------------------------------------------------------- */

/* What is next; NULL: no more will come. Called with the lock. */
static struct disk_io *next(struct disk_crew *crew)
{
	struct list *node;

	while (!(node = list_first(&crew->waiting)) && !crew->stopping)
		(void)pthread_cond_wait(&crew->more, &crew->lock);
	if (!node)
		return NULL;
	list_unlink(node);
	return list_entry(node, struct disk_io, link);
}

static void *work(void *argument)
{
	struct disk_crew *crew = argument;
	struct disk_io *io;

	(void)pthread_mutex_lock(&crew->lock);
	while ((io = next(crew))) {
		bool first;

		(void)pthread_mutex_unlock(&crew->lock);
		io->result = disk_files_do(crew->files, io);
		io->ended_ns = uv_hrtime();
		(void)pthread_mutex_lock(&crew->lock);
		first = list_empty(&crew->ended);
		list_push_back(&crew->ended, &io->link);
		if (first)
			(void)uv_async_send(&crew->wake);
	}
	(void)pthread_mutex_unlock(&crew->lock);
	return NULL;
}

/* --- The loop's side ------------------------------------------------------------------------------ */

static bool end_one(struct disk_crew *crew)
{
	struct list *node;
	struct disk_io *io;

	(void)pthread_mutex_lock(&crew->lock);
	node = list_first(&crew->ended);
	if (node)
		list_unlink(node);
	(void)pthread_mutex_unlock(&crew->lock);
	if (!node)
		return false;
	io = list_entry(node, struct disk_io, link);
	crew->ended_fn(crew->context, io, io->result);
	return true;
}

static void on_wake(uv_async_t *wake)
{
	struct disk_crew *crew = wake->data;
	struct disk_portion portion;

	disk_portion_begin(&portion);
	while (end_one(crew))
		if (disk_portion_over(&portion)) {
			(void)uv_async_send(&crew->wake); /* perhaps for nothing, which does no harm */
			return;
		}
}

unsigned disk_crew_size(const struct disk_crew *crew)
{
	return crew->n;
}

void disk_crew_submit(struct disk_crew *crew, struct disk_io *io)
{
	(void)pthread_mutex_lock(&crew->lock);
	list_push_back(&crew->waiting, &io->link);
	(void)pthread_mutex_unlock(&crew->lock);
	(void)pthread_cond_signal(&crew->more);
}

static void on_closed(uv_handle_t *handle)
{
	struct disk_crew *crew = handle->data;
	disk_crew_gone_fn gone = crew->gone_fn;
	void *context = crew->context;

	(void)pthread_cond_destroy(&crew->more);
	(void)pthread_mutex_destroy(&crew->lock);
	free(crew);
	gone(context);
}

void disk_crew_stop(struct disk_crew *crew, struct list *cancelled, disk_crew_gone_fn gone)
{
	struct list *node;

	(void)pthread_mutex_lock(&crew->lock);
	crew->stopping = true;
	while ((node = list_first(&crew->waiting))) {
		list_unlink(node);
		list_push_back(cancelled, node);
	}
	(void)pthread_cond_broadcast(&crew->more);
	(void)pthread_mutex_unlock(&crew->lock);
	for (unsigned i = 0; i < crew->n; i++)
		(void)pthread_join(crew->threads[i], NULL);
	while (end_one(crew))
		;
	crew->gone_fn = gone;
	uv_close((uv_handle_t *)&crew->wake, on_closed);
}

/* Signals are the loop's. */
static int start_threads(struct disk_crew *crew, unsigned n)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int r = pthread_attr_init(&attributes);

	if (r > 0)
		return -r;
	(void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	while (r == 0 && crew->n < n) {
		r = pthread_create(&crew->threads[crew->n], &attributes, work, crew);
		crew->n += r == 0;
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attributes);
	return crew->n > 0 ? 0 : -r; /* fewer will do */
}

static void free_unstarted(uv_handle_t *handle)
{
	free(handle->data);
}

int disk_crew_start(uv_loop_t *loop, struct disk_files *files, unsigned n, disk_crew_ended_fn ended, void *context,
		    struct disk_crew **ret_crew)
{
	struct disk_crew *crew = calloc(1, sizeof(*crew));
	int r = crew ? uv_async_init(loop, &crew->wake, on_wake) : -ENOMEM;

	kvp_assert(n > 0 && n <= DISK_THREADS_MAX);
	if (r < 0) {
		free(crew);
		return r;
	}
	crew->files = files;
	crew->ended_fn = ended;
	crew->context = context;
	crew->wake.data = crew;
	(void)pthread_mutex_init(&crew->lock, NULL);
	(void)pthread_cond_init(&crew->more, NULL);
	list_init(&crew->waiting);
	list_init(&crew->ended);
	r = start_threads(crew, n);
	if (r < 0) {
		uv_close((uv_handle_t *)&crew->wake, free_unstarted);
		return r;
	}
	*ret_crew = crew;
	return 0;
}
