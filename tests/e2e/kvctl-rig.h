/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl as a program in a test: a daemon, runs with what they printed, and .npy files made byte by byte. Everything
 * fails the test when it does not work.
 *
 *	struct shell *shell = shell_open();
 *	write_pair();
 *	assert_int_equal(kvctl(shell, "put s key --k k.npy --v v.npy --model m"), 0);
 *	shell_close(shell);
 */
#pragma once

#include "tests/lib/daemon.h"
#include "tests/lib/harness.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Of the arrays that write_pair() makes. */
#define LAYERS 3u
#define HEADS 2u
#define TOKENS 20u
#define DIM 16u
#define VALUES (LAYERS * HEADS * TOKENS * DIM)
#define SHAPE_HEADER "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 20, 16), }"

#define OUTPUT_BYTES (64u << 10)

struct shell {
	struct test_daemon daemon;
	char out[OUTPUT_BYTES];
	char err[OUTPUT_BYTES];
};

/* A daemon, named by $KVPAGED_SOCKET, and the test's directory as the working directory. */
struct shell *shell_open(void);
void shell_close(struct shell *shell);

/* The same without a daemon, which may be started later; freed with free(). */
struct shell *shell_alone(void);

/* Runs kvctl with these words, split at blanks; returns its exit status. */
int kvctl(struct shell *shell, const char *words);

/* Runs any program. */
int shell_run(struct shell *shell, char *const argv[]);

#define assert_contains(text, part)                                                                                    \
	do {                                                                                                           \
		if (!strstr(text, part))                                                                               \
			fail_msg("no \"%s\" in: %s", part, text);                                                      \
	} while (0)

void write_file(const char *path, const void *head, size_t n_head, const void *tail, size_t n_tail);

/* A .npy file with this version byte, header text and elements. */
void write_npy(const char *path, char version, const char *header, const void *data, size_t n);

/* The i-th element of what write_pair() makes; which 0: of K, 1: of V. */
float value_at(size_t i, unsigned which);

/* k.npy and v.npy of the usual shape. */
void write_pair(void);
