/* SPDX-License-Identifier: Apache-2.0 */
/* What is in a file follows from its number and the offset, so that a transfer to a wrong place is seen. */
#include "tests/lib/disk-rig.h"

#include "tests/lib/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOG_BYTES 65536

static uint8_t *make_memory(void)
{
	void *memory = mmap(NULL, DISK_RIG_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

void disk_rig_warm(void)
{
	uv_loop_t loop;

	if (uv_loop_init(&loop) < 0 || uv_loop_close(&loop) < 0)
		abort();
}

void disk_rig_init(struct disk_rig *rig, enum disk_engine_choice engine)
{
	*rig = (struct disk_rig){ .log_fd = -1 };
	assert_int_equal(uv_loop_init(&rig->loop), 0);
	rig->log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(rig->log_fd >= 0);
	log_init(&rig->log, rig->log_fd, LOG_LEVEL_DEBUG);
	(void)snprintf(rig->directory, sizeof(rig->directory), "%s/tier", harness_directory());
	rig->arena = make_memory();
	rig->foreign = make_memory();
	rig->options = (struct disk_options){
		.directory = rig->directory,
		.file_bytes = DISK_RIG_FILE_BYTES,
		.files_max = DISK_RIG_FILES,
		.loop = &rig->loop,
		.log = &rig->log,
		.memory = rig->arena,
		.memory_bytes = DISK_RIG_ARENA_BYTES,
		.register_memory = true,
		.engine = engine,
		.depth = 32,
	};
}

int disk_rig_try(struct disk_rig *rig)
{
	return disk_open(&rig->options, &rig->disk, &rig->error);
}

void disk_rig_open(struct disk_rig *rig)
{
	if (disk_rig_try(rig) < 0)
		fail_msg("%s", rig->error.text);
}

struct one {
	struct disk_io io;
	bool done;
	int result;
};

static void on_done(struct disk_io *io, int result)
{
	struct one *one = list_entry(io, struct one, io);

	assert_false(one->done);
	one->done = true;
	one->result = result;
}

int disk_rig_do(struct disk_rig *rig, enum disk_verb verb, uint32_t file, uint64_t offset, void *memory, uint32_t bytes)
{
	struct one one = { .io = { .verb = verb, .file = file, .offset = offset, .memory = memory, .bytes = bytes,
				   .done = on_done } };

	rig->disk->ops->submit(rig->disk, &one.io);
	assert_false(one.done);
	while (!one.done)
		(void)uv_run(&rig->loop, UV_RUN_ONCE);
	return one.result;
}

void disk_rig_must(struct disk_rig *rig, enum disk_verb verb, uint32_t file, uint64_t offset, void *memory,
		   uint32_t bytes)
{
	assert_int_equal(disk_rig_do(rig, verb, file, offset, memory, bytes), 0);
}

void disk_rig_close(struct disk_rig *rig)
{
	if (rig->disk)
		disk_close(rig->disk);
	rig->disk = NULL;
	assert_int_equal(uv_run(&rig->loop, UV_RUN_DEFAULT), 0);
}

void disk_rig_deinit(struct disk_rig *rig)
{
	disk_rig_close(rig);
	assert_int_equal(uv_loop_close(&rig->loop), 0);
	(void)munmap(rig->arena, DISK_RIG_ARENA_BYTES);
	(void)munmap(rig->foreign, DISK_RIG_ARENA_BYTES);
	(void)close(rig->log_fd);
}

unsigned disk_rig_logged(struct disk_rig *rig, const char *text)
{
	static char log[LOG_BYTES];
	ssize_t n = pread(rig->log_fd, log, sizeof(log) - 1, 0);
	unsigned times = 0;

	assert_true(n >= 0);
	log[n] = '\0';
	for (const char *found = log; (found = strstr(found, text)); found++)
		times++;
	if (times == 0)
		(void)printf("the log:\n%s", log);
	return times;
}

const char *disk_rig_path(const struct disk_rig *rig, uint32_t file)
{
	static char path[256];

	(void)snprintf(path, sizeof(path), "%s/segment-%06u", rig->directory, file);
	return path;
}

static uint64_t word_at(uint32_t file, uint64_t offset, uint64_t seed)
{
	uint64_t word = (seed << 48) ^ ((uint64_t)file << 40) ^ offset;

	word *= UINT64_C(0x9e3779b97f4a7c15);
	return word ^ word >> 29;
}

void disk_rig_fill(void *memory, uint32_t bytes, uint32_t file, uint64_t offset, uint64_t seed)
{
	uint64_t *words = memory;

	for (uint32_t i = 0; i < bytes / 8; i++)
		words[i] = word_at(file, offset + (uint64_t)i * 8, seed);
}

bool disk_rig_holds(const void *memory, uint32_t bytes, uint32_t file, uint64_t offset, uint64_t seed)
{
	const uint64_t *words = memory;

	for (uint32_t i = 0; i < bytes / 8; i++)
		if (words[i] != word_at(file, offset + (uint64_t)i * 8, seed))
			return false;
	return true;
}
