/* SPDX-License-Identifier: Apache-2.0 */
/* Contracts of the disk are asserted: alignment, ranges, what must be open, and that nothing is done after a crash. */
#include "tests/lib/disk-memory.h"

#include "base/contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
	struct list link;
	void *memory;
};

uint64_t disk_memory_random(uint64_t *seed)
{
	*seed += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = *seed;

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static struct disk_memory *disk_of(struct disk *disk)
{
	return list_entry(disk, struct disk_memory, disk);
}

static void check(const struct disk_memory *disk, const struct disk_io *io)
{
	const struct disk_memory_file *file = &disk->files[io->file];

	kvp_assert(io->file < disk->disk.files_max && io->done);
	kvp_implies(io->verb != DISK_CREATE && io->verb != DISK_REMOVE, file->open);
	if (io->verb != DISK_READ && io->verb != DISK_WRITE)
		return;
	kvp_assert(io->bytes > 0 && io->bytes <= DISK_IO_BYTES_MAX && io->bytes % DISK_ALIGN == 0);
	kvp_assert(io->offset % DISK_ALIGN == 0 && (uintptr_t)io->memory % DISK_ALIGN == 0);
	kvp_assert(io->offset <= disk->disk.file_bytes && io->bytes <= disk->disk.file_bytes - io->offset);
}

static void submit(struct disk *base, struct disk_io *io)
{
	struct disk_memory *disk = disk_of(base);

	check(disk, io);
	if (io->verb == DISK_REMOVE)
		list_for_each(node, &disk->queue)
			kvp_assert(list_entry(node, struct disk_io, link)->file != io->file);
	list_push_back(&disk->queue, &io->link);
	disk->queued++;
}

static const uint8_t *files(const struct disk *base)
{
	return disk_of((struct disk *)(uintptr_t)base)->existed;
}

static unsigned depth(const struct disk *base)
{
	return disk_of((struct disk *)(uintptr_t)base)->depth;
}

static void *buffers(struct disk *base, size_t bytes)
{
	struct disk_memory *disk = disk_of(base);
	struct buffer *buffer = malloc(sizeof(*buffer));

	kvp_assert(buffer);
	buffer->memory = calloc(1, bytes + 4096); /* zeroed without being touched: most of it never is */
	kvp_assert(buffer->memory);
	list_push_back(&disk->buffers, &buffer->link);
	return (uint8_t *)buffer->memory + (4096 - (uintptr_t)buffer->memory % 4096);
}

static void buffers_free(struct disk_memory *disk)
{
	list_for_each_safe(node, after, &disk->buffers) {
		struct buffer *buffer = list_entry(node, struct buffer, link);

		list_unlink(node);
		free(buffer->memory);
		free(buffer);
	}
}

static const struct disk_ops ops = {
	.engine = "memory",
	.submit = submit,
	.files = files,
	.depth = depth,
	.buffers = buffers,
};

void disk_memory_init(struct disk_memory *disk, uint64_t file_bytes, uint32_t files_max, unsigned depth_max)
{
	*disk = (struct disk_memory){
		.disk = { .ops = &ops, .file_bytes = file_bytes, .files_max = files_max },
		.depth = depth_max,
		.now_ns = 1000,
		.ns_per_transfer = 1000,
		.ns_per_byte_q10 = 1024,
		.files_possible = files_max,
	};
	list_init(&disk->queue);
	list_init(&disk->buffers);
	disk->files = calloc(files_max, sizeof(*disk->files));
	disk->existed = calloc(files_max, 1);
	kvp_assert(disk->files && disk->existed);
}

void disk_memory_file_remove(struct disk_memory *disk, uint32_t file)
{
	free(disk->files[file].bytes);
	disk->files[file] = (struct disk_memory_file){ 0 };
}

void disk_memory_deinit(struct disk_memory *disk)
{
	buffers_free(disk);
	for (uint32_t i = 0; i < disk->disk.files_max; i++)
		disk_memory_file_remove(disk, i);
	free(disk->files);
	free(disk->existed);
}

static uint32_t files_count(const struct disk_memory *disk)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < disk->disk.files_max; i++)
		n += disk->files[i].bytes != NULL;
	return n;
}

static int create(struct disk_memory *disk, struct disk_memory_file *file)
{
	if (!file->bytes) {
		if (files_count(disk) >= disk->files_possible)
			return -ENOSPC;
		file->bytes = calloc(1, disk->disk.file_bytes);
		kvp_assert(file->bytes);
	}
	file->open = true;
	return 0;
}

static int perform(struct disk_memory *disk, const struct disk_io *io, uint32_t bytes)
{
	struct disk_memory_file *file = &disk->files[io->file];

	switch (io->verb) {
	case DISK_CREATE:
		return create(disk, file);
	case DISK_REMOVE:
		disk->removed++;
		disk_memory_file_remove(disk, io->file);
		return 0;
	case DISK_READ:
		memcpy(io->memory, file->bytes + io->offset, bytes);
		return 0;
	case DISK_WRITE:
		memcpy(file->bytes + io->offset, io->memory, bytes);
		return 0;
	case DISK_SYNC:
		return 0;
	}
	kvp_unreachable();
}

static bool fails(struct disk_memory *disk, const struct disk_io *io)
{
	const struct disk_memory_fault *fault = &disk->fault;

	if (!(fault->verbs & (1u << io->verb)))
		return false;
	disk->counted++;
	return fault->first > 0 && disk->counted >= fault->first && disk->counted - fault->first < fault->n;
}

static struct disk_io *take(struct disk_memory *disk)
{
	uint32_t skip = disk->seed ? (uint32_t)(disk_memory_random(&disk->seed) % disk->queued) : 0;
	struct list *node = disk->queue.next;

	while (skip-- > 0)
		node = node->next;
	list_unlink(node);
	disk->queued--;
	return list_entry(node, struct disk_io, link);
}

bool disk_memory_step(struct disk_memory *disk)
{
	struct disk_io *io;
	int result;

	if (disk->queued == 0)
		return false;
	io = take(disk);
	if (disk->closed) {
		result = -ECANCELED;
	} else if (fails(disk, io)) {
		result = disk->fault.result;
		if (io->verb == DISK_WRITE && disk->fault.half)
			(void)perform(disk, io, io->bytes / 2);
	} else {
		result = perform(disk, io, io->bytes);
	}
	disk->completed++;
	disk->now_ns += disk->ns_per_transfer + (io->bytes * disk->ns_per_byte_q10 >> 10);
	io->ended_ns = disk->now_ns;
	io->done(io, result);
	return true;
}

void disk_memory_tear(struct disk_memory *disk, bool torn)
{
	list_for_each(node, &disk->queue) {
		const struct disk_io *io = list_entry(node, struct disk_io, link);
		uint64_t part = torn && disk->seed ? disk_memory_random(&disk->seed) % 3 : 0;

		if (io->verb == DISK_WRITE && part > 0)
			(void)perform(disk, io, (uint32_t)(io->bytes / 512 * part / 2 * 512));
	}
}

void disk_memory_crash(struct disk_memory *disk, bool torn)
{
	disk_memory_tear(disk, torn);
	list_for_each_safe(node, after, &disk->queue)
		list_unlink(node);
	disk->queued = 0;
}

void disk_memory_reopen(struct disk_memory *disk)
{
	kvp_assert(disk->queued == 0);
	buffers_free(disk);
	disk->fault = (struct disk_memory_fault){ 0 };
	disk->counted = 0;
	disk->closed = false;
	for (uint32_t i = 0; i < disk->disk.files_max; i++) {
		disk->files[i].open = false;
		disk->existed[i] = disk->files[i].bytes != NULL;
	}
}
