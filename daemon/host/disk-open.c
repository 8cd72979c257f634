/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which engine it is, and what all engines do alike. Closing waits, since the arena is unmapped after it; transfers
 * under way take milliseconds.
 */
#include "daemon/host/disk-open.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "daemon/host/disk-engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* --- For all engines ------------------------------------------------------------------------------ */

void disk_engine_init(struct disk_engine *engine, const struct disk_options *options, struct disk_files *files,
		      const struct disk_ops *disk_ops, const struct disk_engine_ops *ops)
{
	engine->disk = (struct disk){ .ops = disk_ops,
				      .file_bytes = options->file_bytes,
				      .files_max = options->files_max };
	engine->ops = ops;
	engine->log = options->log;
	engine->files = *files;
	*files = (struct disk_files)DISK_FILES_NULL;
	list_init(&engine->cancelled);
}

static bool is_aligned(const struct disk_io *io)
{
	return io->bytes % DISK_ALIGN == 0 && io->offset % DISK_ALIGN == 0 && (uintptr_t)io->memory % DISK_ALIGN == 0;
}

bool disk_engine_refuses(struct disk_engine *engine, struct disk_io *io)
{
	bool transfers = io->verb == DISK_READ || io->verb == DISK_WRITE;

	kvp_assert(io->file < engine->disk.files_max);
	kvp_implies(transfers, io->bytes > 0 && io->bytes <= DISK_IO_BYTES_MAX && is_aligned(io));
	kvp_implies(io->verb == DISK_WRITE, io->offset <= engine->disk.file_bytes &&
						    io->bytes <= engine->disk.file_bytes - io->offset);
	if (engine->closing)
		list_push_back(&engine->cancelled, &io->link);
	return engine->closing;
}

const uint8_t *disk_engine_files(const struct disk *disk)
{
	return disk_engine_of(disk)->files.there;
}

void *disk_engine_buffers(struct disk *disk, size_t bytes)
{
	struct disk_engine *engine = disk_engine_of(disk);
	void *memory;

	if (engine->n_buffers == DISK_BUFFERS_MAX || bytes == 0)
		return NULL;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	engine->buffers[engine->n_buffers++] = (struct disk_buffer){ memory, bytes };
	if (engine->ops->know)
		engine->ops->know(engine, memory, bytes);
	return memory;
}

void disk_engine_free(struct disk_engine *engine)
{
	free(engine);
}

/* --- Opening -------------------------------------------------------------------------------------- */

static int open_threads(const struct disk_options *options, struct disk_files *files, struct disk_engine **ret_engine,
			struct host_error *error)
{
	const char *step;
	int r = disk_threads_new(options, files, ret_engine, &step);

	if (r == 0)
		return 0;
	return host_error_set(error, HOST_EXIT_FAILURE, "%s: %s: %s", options->directory, step, strerror(-r));
}

static int open_uring(const struct disk_options *options, struct disk_files *files, struct disk_engine **ret_engine,
		      struct host_error *error)
{
	const char *step;
	int r = disk_uring_new(options, files, ret_engine, &step);

	if (r == 0)
		return 0;
	if (options->engine == DISK_ENGINE_IO_URING)
		return host_error_set(error, HOST_EXIT_NOT_CONFIGURED,
				      "%s: io_uring is demanded and refused: %s: %s; allow it "
				      "(kernel.io_uring_disabled=0; LimitMEMLOCK= or ulimit -l; a seccomp profile with "
				      "io_uring_setup, io_uring_enter and io_uring_register), or let threads do it",
				      options->directory, step, strerror(-r));
	log_message(options->log, MESSAGE_IO_URING_REFUSED, "%s: threads instead of io_uring: %s: %s",
		    options->directory, step, strerror(-r));
	return open_threads(options, files, ret_engine, error);
}

int disk_open(const struct disk_options *options, struct disk **ret_disk, struct host_error *error)
{
	struct disk_files files = DISK_FILES_NULL;
	struct disk_engine *engine;
	int r;

	kvp_assert(options->file_bytes > 0 && options->file_bytes % DISK_ALIGN == 0);
	kvp_assert(options->files_max > 0 && options->files_max <= DISK_FILES_MAX);
	kvp_assert(options->depth > 0 && options->depth <= DISK_DEPTH_MAX);
	r = disk_files_open(options, &files, error);
	if (r < 0)
		return r;
	if (options->engine == DISK_ENGINE_THREADS)
		r = open_threads(options, &files, &engine, error);
	else
		r = open_uring(options, &files, &engine, error);
	disk_files_close(&files);
	if (r < 0)
		return r;
	if (options->memory && options->register_memory && engine->ops->know)
		engine->ops->know(engine, options->memory, options->memory_bytes);
	log_message(options->log, MESSAGE_DISK_OPENED, "%s: %s, %s", options->directory, engine->disk.ops->engine,
		    engine->files.direct ? "past the page cache" : "through the page cache");
	*ret_disk = &engine->disk;
	return 0;
}

/* --- Closing -------------------------------------------------------------------------------------- */

static void cancel_all(struct disk_engine *engine)
{
	struct list *node;

	while ((node = list_first(&engine->cancelled))) {
		struct disk_io *io = list_entry(node, struct disk_io, link);

		list_unlink(node);
		io->ended_ns = uv_hrtime();
		io->done(io, -ECANCELED);
	}
}

void disk_unregister(struct disk *disk, const void *memory)
{
	struct disk_engine *engine = disk_engine_of(disk);

	if (engine->ops->unknow)
		engine->ops->unknow(engine, memory);
}

void disk_close(struct disk *disk)
{
	struct disk_engine *engine = disk_engine_of(disk);

	kvp_assert(!engine->closing);
	engine->closing = true;
	engine->ops->finish(engine);
	cancel_all(engine);
	for (unsigned i = 0; i < engine->n_buffers; i++)
		(void)munmap(engine->buffers[i].memory, engine->buffers[i].bytes);
	disk_files_close(&engine->files);
	engine->ops->release(engine);
}
