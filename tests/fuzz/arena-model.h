/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena as an honest daemon would lay it out, for targets whose daemon then lies: one space "a" and a few blocks,
 * every page there, in a memfd with the seals that clients ask for. The input changes single words of it; what a run
 * changed is put back for the next.
 */
#pragma once

#include "proto/layout.h"
#include "tests/fuzz/take.h"

#include <stddef.h>
#include <stdint.h>

#define MODEL_INCARNATION 7u
#define MODEL_BLOCKS 6u
#define MODEL_LAYERS 2u
#define MODEL_HEAD_DIM 8u
#define MODEL_TOKENS 4u
#define MODEL_CODEC 1u /* f32 */
#define MODEL_PAGE_BYTES (2 * MODEL_TOKENS * MODEL_HEAD_DIM * 4)

/* The keys of blocks are the first letters. */
static const char model_keys[] = "abcdefghij";

/* The one arena of this process: its descriptor, and where the daemon has it mapped. Made at the first call. */
int model_fd(void);
uint8_t *model_memory(void);

/* Changes a word of it as the input says. */
void model_spoil(struct take *take);

/* Undoes all changes. */
void model_restore(void);
