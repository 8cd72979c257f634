/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A llama-family model: its shape and its weights, all of them checked against each other when it
 * is loaded. Matrices stay in the file's bytes, in the file's format; vectors are copied to f32.
 * Nothing changes after loading.
 */
#pragma once

#include "base/cleanup.h"
#include "client/worker/gguf.h"
#include "client/worker/tensor.h"

#include <stdint.h>

#define MODEL_LAYERS_MAX 1024
#define MODEL_HEADS_MAX 1024
#define MODEL_HEAD_DIM_MAX 256
#define MODEL_WIDTH_MAX (1u << 17)
#define MODEL_CONTEXT_MAX (1u << 24)
#define MODEL_NAME_MAX 128

struct model_layer {
	const float *attn_norm;
	const float *ffn_norm;
	struct matrix q;    /* n_heads * head_dim x width */
	struct matrix k;    /* n_kv_heads * head_dim x width */
	struct matrix v;
	struct matrix o;    /* width x n_heads * head_dim */
	struct matrix gate; /* n_ff x width */
	struct matrix up;
	struct matrix down; /* width x n_ff */
};

struct model {
	char name[MODEL_NAME_MAX + 1]; /* general.name, or "" */
	uint64_t identity;             /* XXH3-64 of the whole file */
	uint32_t n_layers;
	uint32_t width;
	uint32_t n_heads;
	uint32_t n_kv_heads;
	uint32_t head_dim;  /* of K and V; a multiple of 16 */
	uint32_t rope_dim;  /* even, at most head_dim: channels that turn with the position */
	uint32_t n_ff;
	uint32_t n_vocab;
	uint32_t n_context; /* that the model was made for */
	float norm_epsilon;
	double *rope_frequency; /* radians a position, one a pair of channels */
	struct matrix embedding; /* n_vocab x width */
	struct matrix output;
	const float *output_norm;
	struct model_layer *layers;
	float *vectors; /* storage of all norm weights */
};

/*
 * Reads a model from a file, which must outlive it. Results: 0 and *ret_model, freed with
 * model_free(); -ENOTSUP for what is not llama as the worker computes it (another architecture,
 * biases, experts, scaled rotary embeddings other than linear); -EBADMSG for a missing tensor or a
 * wrong shape, named in the fault; -ENOMEM.
 */
int model_new(const struct gguf *gguf, struct model **ret_model, struct fault *fault);

struct model *model_free(struct model *model);

DEFINE_CLEANUP(struct model *, model_free);
