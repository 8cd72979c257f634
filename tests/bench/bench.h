/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvbench: one verb a file. A verb measures, and gives each number to report(), which prints a table line for people or
 * one JSON object for scripts. Every ratio is against something measured in the same run, interleaved with it.
 *
 * Bytes are named in the unit: "f32" are the bytes that the values take as f32, "stored" the encoded ones. GB are 10^9
 * bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/kvclient.h"

#define ROUNDS_DEFAULT 7
#define ROUNDS_MAX 1000

struct bench_options {
	bool json;
	bool help;
	unsigned given; /* BENCH_TAKES_...: the options that were named */
	uint64_t rounds;
	uint64_t arena_bytes;
	const char *shape; /* NULL: all */
	const char *codec; /* NULL: all */
	const char *isa;   /* NULL: all, or the best */
	const char *kv;	   /* a file of kvworker --dump-kv; NULL: none */
	uint64_t page_bytes; /* 0: all */
	bool quick;
	const char *directory; /* NULL: the verb's default */
	const char *part;      /* of the verb; NULL: all */
};

/* What a verb takes beside --json. */
enum {
	BENCH_TAKES_ROUNDS = 1 << 0,
	BENCH_TAKES_ARENA_BYTES = 1 << 1,
	BENCH_TAKES_SHAPE = 1 << 2,
	BENCH_TAKES_CODEC = 1 << 3,
	BENCH_TAKES_ISA = 1 << 4,
	BENCH_TAKES_KV = 1 << 5,
	BENCH_TAKES_QUICK = 1 << 6,
	BENCH_TAKES_PAGE = 1 << 7,
	BENCH_TAKES_DIRECTORY = 1 << 8,
	BENCH_TAKES_PART = 1 << 9,
};

struct bench_verb {
	const char *name;
	const char *summary;
	unsigned takes;	 /* BENCH_TAKES_... */
	bool all_codecs; /* any codec, not only those of bench_codecs */
	int (*run)(const struct bench_options *options); /* 0, or 1 after a line on stderr */
};

extern const struct bench_verb bench_codec_verb;
extern const struct bench_verb bench_disk;
extern const struct bench_verb bench_error_verb;
extern const struct bench_verb bench_fetch;
extern const struct bench_verb bench_memory;
extern const struct bench_verb bench_restart;
extern const struct bench_verb bench_roundtrip;
extern const struct bench_verb bench_scale;
extern const struct bench_verb bench_scrape;
extern const struct bench_verb bench_tier;

/* A model's K and V, as far as a cache of it has to know. */
struct bench_shape {
	const char *name;
	const char *model;
	uint32_t layers;
	uint32_t kv_heads;
	uint32_t head_dim;
	uint32_t batch; /* blocks appended or fetched with one call */
};

#define BENCH_BLOCK_TOKENS 128

struct bench_codec {
	const char *name;
	uint32_t codec; /* enum kvc_codec */
};

#define BENCH_SHAPES 2
#define BENCH_CODECS 4
extern const struct bench_shape bench_shapes[BENCH_SHAPES];
extern const struct bench_codec bench_codecs[BENCH_CODECS];

/* Whether bench_tier has this part. */
bool bench_tier_part(const char *name);

/* Whether bench_fetch measures pages of this size. */
bool bench_fetch_page(uint64_t bytes);

/* Whether the options want this name: all when they name none. */
bool bench_wants(const char *wanted, const char *name);

/* The schema of a space for the shape with the codec for K and V. */
struct kvc_schema bench_schema(const struct bench_shape *shape, uint32_t codec);

/* Values of K (or V) in one block of the shape, and the bytes of K and V together as f32. */
size_t bench_plane_values(const struct bench_shape *shape);
uint64_t bench_block_f32_bytes(const struct bench_shape *shape);

/* The tensor of one block at data, [layers, heads, tokens, head_dim] of f32. */
struct kvc_tensor bench_tensor(const struct bench_shape *shape, float *data);

/* Fills values with numbers as K and V have them: normally distributed, a few channels ten times as large. */
void bench_fill(float *values, size_t n, uint32_t head_dim, uint64_t seed);

/* Says what went wrong on stderr. Returns 1. */
__attribute__((format(printf, 1, 2))) int bench_error(const char *format, ...);
