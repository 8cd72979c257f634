/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass: tokens to hidden states to logits, a batch of up to FORWARD_BATCH_MAX following
 * tokens at a time. What a token gets does not depend on the batch that it came in, nor on the
 * number of threads (see dot.h), only on the tokens before it and the values in the K/V store.
 * Attention on a packed store is codec_attend()'s, whose answers do not depend on them either.
 */
#pragma once

#include "base/cleanup.h"
#include "client/worker/dot.h"
#include "client/worker/kvstore.h"
#include "client/worker/model.h"
#include "client/worker/pool.h"

#include <stdint.h>

#define FORWARD_BATCH_MAX 256

struct forward;

/*
 * Scratch for one sequence at a time in stores of this shape and form; model, kernels and pool are
 * borrowed. Results: 0 and *ret_forward, freed with forward_free(); -ENOMEM.
 */
int forward_new(const struct model *model, const struct dot_kernels *kernels, struct pool *pool,
		const struct kvstore *shape, struct forward **ret_forward);

struct forward *forward_free(struct forward *forward);

DEFINE_CLEANUP(struct forward *, forward_free);

/*
 * Appends n tokens (1..FORWARD_BATCH_MAX, each < n_vocab) to the sequence in the store, which must
 * have room: writes their K and V and counts them in. In a packed store they must fit the open
 * block. Their hidden states stay for forward_logits() until the next call.
 */
void forward_run(struct forward *forward, struct kvstore *store, const uint32_t *tokens, uint32_t n);

/*
 * Logits of tokens [first, first + n) of the last forward_run(): n rows of model->n_vocab values.
 */
void forward_logits(struct forward *forward, uint32_t first, uint32_t n, float *logits);
