/* SPDX-License-Identifier: Apache-2.0 */
/* The engine where io_uring is refused: as many threads as transfers may be under way, each of which waits for one. */
#include "daemon/host/disk-engine.h"

#include "daemon/host/disk-crew.h"

#include <errno.h>
#include <stdlib.h>

struct disk_threads {
	struct disk_engine engine;
	struct disk_crew *crew;
};

static struct disk_threads *threads_of(const struct disk *disk)
{
	return list_entry(disk_engine_of(disk), struct disk_threads, engine);
}

static void submit(struct disk *disk, struct disk_io *io)
{
	struct disk_threads *threads = threads_of(disk);

	if (!disk_engine_refuses(&threads->engine, io))
		disk_crew_submit(threads->crew, io);
}

static unsigned depth(const struct disk *disk)
{
	return disk_crew_size(threads_of(disk)->crew);
}

static const struct disk_ops disk_ops = {
	.engine = "threads",
	.submit = submit,
	.files = disk_engine_files,
	.depth = depth,
	.buffers = disk_engine_buffers,
};

static void on_ended(void *context, struct disk_io *io, int result)
{
	io->done(io, result);
}

static void on_gone(void *context)
{
	disk_engine_free(context);
}

static void finish(struct disk_engine *engine)
{
	struct disk_threads *threads = list_entry(engine, struct disk_threads, engine);

	disk_crew_stop(threads->crew, &engine->cancelled, on_gone);
}

/* The crew's end, which finish() began, is all there is. */
static void release(struct disk_engine *engine)
{
}

static const struct disk_engine_ops engine_ops = {
	.finish = finish,
	.release = release,
};

int disk_threads_new(const struct disk_options *options, struct disk_files *files, struct disk_engine **ret_engine,
		     const char **ret_step)
{
	struct disk_threads *threads = calloc(1, sizeof(*threads));
	unsigned n = options->depth < DISK_THREADS_MAX ? options->depth : DISK_THREADS_MAX;
	int r;

	*ret_step = "starting threads";
	if (!threads)
		return -ENOMEM;
	r = disk_crew_start(options->loop, &threads->engine.files, n, on_ended, threads, &threads->crew);
	if (r < 0) {
		free(threads);
		return r;
	}
	disk_engine_init(&threads->engine, options, files, &disk_ops, &engine_ops);
	*ret_engine = &threads->engine;
	return 0;
}
