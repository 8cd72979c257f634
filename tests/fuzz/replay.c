/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without a fuzzer, as a test: on the files named on the command line, and on
 * so many inputs of a seeded generator, so that every build with any compiler runs it a little.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX 4096u
#define INPUTS_DEFAULT 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void random_input(uint64_t seed)
{
	uint8_t *bytes;
	size_t size;

	seed = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	size = random_next(&seed) % INPUT_BYTES_MAX;
	bytes = malloc(size ? size : 1);
	if (!bytes)
		abort();
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)random_next(&seed);
	(void)LLVMFuzzerTestOneInput(bytes, size);
	free(bytes);
}

static int file_input(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *file = fopen(path, "rbe");
	size_t size;

	if (!file) {
		(void)fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	size = fread(bytes, 1, sizeof bytes, file);
	(void)fclose(file);
	(void)LLVMFuzzerTestOneInput(bytes, size);
	return 0;
}

int main(int argc, char **argv)
{
	const char *wanted = getenv("KVP_FUZZ_INPUTS");
	const unsigned long inputs = wanted ? strtoul(wanted, NULL, 10) : INPUTS_DEFAULT;

	(void)printf("1..1\n");
	for (int i = 1; i < argc; i++)
		if (file_input(argv[i]) < 0)
			return EXIT_FAILURE;
	for (unsigned long i = 0; i < inputs; i++)
		random_input(i);
	(void)printf("ok 1 - %d files, %lu generated inputs\n", argc - 1, inputs);
	return EXIT_SUCCESS;
}
