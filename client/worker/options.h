/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of kvworker: one table gives the parser and the help. */
#pragma once

#include "client/worker/fault.h"
#include "codec/codec.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3,
	EXIT_UNREACHABLE = 69,
};

struct options {
	const char *model;
	const char *prompt;
	const char *prompt_file;
	const char *prompts_file;
	const char *perplexity_file;
	const char *follow_file;
	const char *dump_kv_file;
	bool chat;
	const char *system;

	uint32_t n_tokens;
	bool ignore_eos;
	float temperature;
	uint32_t top_k;
	uint32_t seed;

	uint32_t codec_k; /* enum codec_id */
	uint32_t codec_v;
	bool packed; /* --attend */
	uint32_t block_tokens;
	bool no_cache;
	bool require_cache;
	const char *socket;
	const char *space;

	uint32_t context; /* of --perplexity */
	uint32_t threads; /* 0: as many as processors */
	bool json;
	bool quiet;
	bool help;
	bool version;
};

/*
 * Reads the command line into *ret, whose strings are those of argv. Results: 0; -EINVAL with the
 * reason in the fault.
 */
int options_parse(int argc, char **argv, struct options *ret, struct fault *fault);

/* What --help prints. */
void options_print_help(FILE *stream);
