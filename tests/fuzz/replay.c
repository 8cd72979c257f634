/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without a fuzzer, as a test: on the files named on the command line and those in directories named
 * there, and on so many inputs of a seeded generator, of which every other one is a file with some bytes changed. So
 * every build with any compiler runs it a little.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX 4096u
#define FILE_BYTES_MAX (1u << 20)
#define FILES_MAX 16384u
#define CHANGES_MAX 8u
#define INPUTS_DEFAULT 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t *bytes;
	size_t n;
};

static struct input files[FILES_MAX];
static unsigned n_files;

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint8_t *memory(size_t n)
{
	uint8_t *bytes = malloc(n ? n : 1);

	if (!bytes)
		abort();
	return bytes;
}

/* A copy whose end is the end of its memory. */
static void run(const uint8_t *bytes, size_t n)
{
	uint8_t *copy = memory(n);

	if (n > 0)
		memcpy(copy, bytes, n);
	(void)LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static void random_input(uint64_t seed)
{
	const struct input *file = n_files > 0 && seed % 2 ? &files[seed / 2 % n_files] : NULL;
	uint64_t state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	size_t n = file ? file->n : random_next(&state) % INPUT_BYTES_MAX;
	size_t changes = file && n > 0 ? 1 + random_next(&state) % CHANGES_MAX : 0;
	uint8_t *bytes = memory(n);

	if (file && n > 0)
		memcpy(bytes, file->bytes, n);
	for (size_t i = 0; !file && i < n; i++)
		bytes[i] = (uint8_t)random_next(&state);
	for (size_t i = 0; i < changes; i++)
		bytes[random_next(&state) % n] = (uint8_t)random_next(&state);
	run(bytes, n);
	free(bytes);
}

static bool file_take(const char *path)
{
	FILE *file = fopen(path, "rbe");
	uint8_t *bytes;

	if (!file || n_files == FILES_MAX) {
		(void)fprintf(stderr, "replay: %s: %s\n", path, file ? "too many files" : strerror(errno));
		if (file)
			(void)fclose(file);
		return false;
	}
	bytes = memory(FILE_BYTES_MAX);
	files[n_files].n = fread(bytes, 1, FILE_BYTES_MAX, file);
	files[n_files].bytes = memory(files[n_files].n);
	memcpy(files[n_files].bytes, bytes, files[n_files].n);
	n_files++;
	free(bytes);
	(void)fclose(file);
	return true;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* A file, or the files in a directory, by name. */
static bool path_take(const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, by_name);
	bool good = true;

	if (n < 0)
		return file_take(path);
	for (int i = 0; i < n; i++) {
		char file[4096];

		(void)snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
		good = good && (entries[i]->d_name[0] == '.' || file_take(file));
		free(entries[i]);
	}
	free(entries);
	return good;
}

int main(int argc, char **argv)
{
	const char *wanted = getenv("KVP_FUZZ_INPUTS");
	const unsigned long inputs = wanted ? strtoul(wanted, NULL, 10) : INPUTS_DEFAULT;

	(void)printf("1..1\n");
	for (int i = 1; i < argc; i++)
		if (!path_take(argv[i]))
			return EXIT_FAILURE;
	for (unsigned i = 0; i < n_files; i++)
		run(files[i].bytes, files[i].n);
	for (unsigned long i = 0; i < inputs; i++)
		random_input(i);
	for (unsigned i = 0; i < n_files; i++)
		free(files[i].bytes);
	(void)printf("ok 1 - %u files, %lu generated inputs\n", n_files, inputs);
	return EXIT_SUCCESS;
}
