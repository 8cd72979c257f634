/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shape first, then the tensors by name; a tensor that is left over means that the file is
 * something else.
 */
#include "client/worker/model.h"

#include "base/contract.h"
#include "base/text.h"
#include "client/worker/dot.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* A file being read into a model. */
struct loader {
	const struct gguf *gguf;
	struct model *model;
	struct fault *fault;
	size_t n_used;       /* tensors taken */
	float *next_vector;  /* in model->vectors */
};

/* --- Shape ------------------------------------------------------------------------------------ */

/* A whole number in [least, most]; `fallback` when the file lacks the key, 0: it must be there. */
static int read_number(struct loader *loader, const char *key, uint64_t least, uint64_t most,
		       uint32_t fallback, uint32_t *ret)
{
	uint64_t value = fallback;
	int r = gguf_get_u64(loader->gguf, key, &value, loader->fault);

	if (r < 0)
		return r;
	if (r > 0 && fallback == 0)
		return fault_set(loader->fault, -EBADMSG, "the model file lacks the key %s", key);
	if (value < least || value > most)
		return fault_set(loader->fault, -EBADMSG,
				 "%s is %" PRIu64 ", not in %" PRIu64 " to %" PRIu64, key, value, least,
				 most);
	*ret = (uint32_t)value;
	return 0;
}

static int read_architecture(struct loader *loader)
{
	struct gguf_string name;
	int r = gguf_get_string(loader->gguf, "general.architecture", &name, loader->fault);

	if (r < 0)
		return r;
	if (r > 0 || !gguf_string_is(name, "llama"))
		return fault_set(loader->fault, -ENOTSUP, "the model's architecture is not llama");
	return 0;
}

static int read_name(struct loader *loader)
{
	struct gguf_string name = { "", 0 };
	int r = gguf_get_string(loader->gguf, "general.name", &name, loader->fault);

	if (r < 0)
		return r;
	if (name.length > MODEL_NAME_MAX || !text_is_clean(name.bytes, name.length))
		return fault_set(loader->fault, -EBADMSG, "general.name is not text of at most %d bytes",
				 MODEL_NAME_MAX);
	memcpy(loader->model->name, name.bytes, name.length);
	return 0;
}

/* Head dimensions: from their own keys, else the width divided among the heads. */
static int read_heads(struct loader *loader)
{
	struct model *m = loader->model;
	uint32_t shared;
	uint32_t value_length;
	int r = read_number(loader, "llama.attention.head_count", 1, MODEL_HEADS_MAX, 0, &m->n_heads);

	if (r == 0)
		r = read_number(loader, "llama.attention.head_count_kv", 1, m->n_heads, m->n_heads,
				&m->n_kv_heads);
	if (r < 0)
		return r;
	shared = m->width / m->n_heads;
	r = read_number(loader, "llama.attention.key_length", 1, MODEL_HEAD_DIM_MAX, shared ? shared : 1,
			&m->head_dim);
	if (r == 0)
		r = read_number(loader, "llama.attention.value_length", 1, MODEL_HEAD_DIM_MAX, m->head_dim,
				&value_length);
	if (r == 0)
		r = read_number(loader, "llama.rope.dimension_count", 2, m->head_dim, m->head_dim,
				&m->rope_dim);
	if (r < 0)
		return r;
	if (m->n_heads % m->n_kv_heads != 0 || m->head_dim % DOT_LANES != 0 || m->rope_dim % 2 != 0 ||
	    value_length != m->head_dim)
		return fault_set(loader->fault, -ENOTSUP,
				 "%" PRIu32 " heads on %" PRIu32 " K/V heads of dimension %" PRIu32 "/%" PRIu32
				 " (K and V alike, a multiple of %d), rotary %" PRIu32 " are not supported",
				 m->n_heads, m->n_kv_heads, m->head_dim, value_length, DOT_LANES,
				 m->rope_dim);
	return 0;
}

static int read_epsilon(struct loader *loader)
{
	float epsilon = 0.0f;
	int r = gguf_get_f32(loader->gguf, "llama.attention.layer_norm_rms_epsilon", &epsilon,
			     loader->fault);

	if (r < 0)
		return r;
	if (r > 0 || !(epsilon > 0.0f && epsilon < 1.0f))
		return fault_set(loader->fault, -EBADMSG,
				 "llama.attention.layer_norm_rms_epsilon is missing or not in (0, 1)");
	loader->model->norm_epsilon = epsilon;
	return 0;
}

static int read_shape(struct loader *loader)
{
	struct model *m = loader->model;
	uint32_t experts = 1;
	int r = read_number(loader, "llama.block_count", 1, MODEL_LAYERS_MAX, 0, &m->n_layers);

	if (r == 0)
		r = read_number(loader, "llama.embedding_length", 1, MODEL_WIDTH_MAX, 0, &m->width);
	if (r == 0)
		r = read_number(loader, "llama.feed_forward_length", 1, MODEL_WIDTH_MAX, 0, &m->n_ff);
	if (r == 0)
		r = read_number(loader, "llama.context_length", 1, MODEL_CONTEXT_MAX, 0, &m->n_context);
	if (r == 0)
		r = read_number(loader, "llama.expert_count", 0, UINT32_MAX, 1, &experts);
	if (r == 0)
		r = read_heads(loader);
	if (r == 0)
		r = read_epsilon(loader);
	if (r < 0)
		return r;
	if (experts > 1)
		return fault_set(loader->fault, -ENOTSUP, "models of experts are not supported");
	if (m->width % DOT_LANES != 0 || m->n_ff % DOT_LANES != 0)
		return fault_set(loader->fault, -ENOTSUP, "width %" PRIu32 " or feed-forward width %" PRIu32
				 " is not a multiple of %d", m->width, m->n_ff, DOT_LANES);
	return 0;
}

/* --- Tensors ---------------------------------------------------------------------------------- */

/* The tensor of this name, its shape checked; NULL with the fault set otherwise. */
static const struct gguf_tensor *take_tensor(struct loader *loader, const char *name, uint64_t rows,
					     uint64_t cols)
{
	const struct gguf_tensor *tensor = gguf_tensor_find(loader->gguf, name);

	if (!tensor) {
		(void)fault_set(loader->fault, -EBADMSG, "the model file lacks the tensor %s", name);
		return NULL;
	}
	if (tensor->dims[0] != cols || tensor->dims[1] != rows || tensor->dims[2] != 1 ||
	    tensor->dims[3] != 1) {
		(void)fault_set(loader->fault, -EBADMSG,
				"tensor %s is %" PRIu64 " x %" PRIu64 ", not %" PRIu64 " x %" PRIu64, name,
				tensor->dims[1], tensor->dims[0], rows, cols);
		return NULL;
	}
	loader->n_used++;
	return tensor;
}

static int take_matrix(struct loader *loader, const char *name, uint32_t rows, uint32_t cols,
		       struct matrix *ret)
{
	const struct gguf_tensor *tensor = take_tensor(loader, name, rows, cols);

	if (!tensor)
		return -EBADMSG;
	*ret = (struct matrix){
		.bytes = tensor->bytes,
		.format = tensor->format,
		.rows = rows,
		.cols = cols,
		.row_bytes = (size_t)(tensor->n_bytes / rows),
	};
	return 0;
}

/* Copies an F32 vector of the model's width to the next place in model->vectors. */
static int take_vector(struct loader *loader, const char *name, const float **ret)
{
	uint32_t n = loader->model->width;
	const struct gguf_tensor *tensor = take_tensor(loader, name, 1, n);

	if (!tensor)
		return -EBADMSG;
	if (tensor->format->type != TENSOR_F32)
		return fault_set(loader->fault, -ENOTSUP, "tensor %s is %s, not F32", name,
				 tensor->format->name);
	memcpy(loader->next_vector, tensor->bytes, n * sizeof(float));
	*ret = loader->next_vector;
	loader->next_vector += n;
	return 0;
}

static int load_layer(struct loader *loader, uint32_t index)
{
	struct model *m = loader->model;
	struct model_layer *layer = &m->layers[index];
	uint32_t q_width = m->n_heads * m->head_dim;
	uint32_t kv_width = m->n_kv_heads * m->head_dim;
	const struct {
		const char *name;
		uint32_t rows;
		uint32_t cols;
		struct matrix *to;
	} matrices[] = {
		{ "attn_q", q_width, m->width, &layer->q },     { "attn_k", kv_width, m->width, &layer->k },
		{ "attn_v", kv_width, m->width, &layer->v },    { "attn_output", m->width, q_width, &layer->o },
		{ "ffn_gate", m->n_ff, m->width, &layer->gate }, { "ffn_up", m->n_ff, m->width, &layer->up },
		{ "ffn_down", m->width, m->n_ff, &layer->down },
	};
	char name[64];
	int r;

	(void)snprintf(name, sizeof(name), "blk.%" PRIu32 ".attn_norm.weight", index);
	r = take_vector(loader, name, &layer->attn_norm);
	(void)snprintf(name, sizeof(name), "blk.%" PRIu32 ".ffn_norm.weight", index);
	if (r == 0)
		r = take_vector(loader, name, &layer->ffn_norm);
	for (size_t i = 0; i < sizeof(matrices) / sizeof(matrices[0]) && r == 0; i++) {
		(void)snprintf(name, sizeof(name), "blk.%" PRIu32 ".%s.weight", index, matrices[i].name);
		r = take_matrix(loader, name, matrices[i].rows, matrices[i].cols, matrices[i].to);
	}
	return r;
}

/* The embedding decides how many tokens there are; the output matrix may be the same one. */
static int load_ends(struct loader *loader)
{
	struct model *m = loader->model;
	const struct gguf_tensor *embedding = gguf_tensor_find(loader->gguf, "token_embd.weight");
	int r;

	if (!embedding || embedding->dims[1] > UINT32_MAX)
		return fault_set(loader->fault, -EBADMSG, "the model file lacks the tensor token_embd.weight");
	m->n_vocab = (uint32_t)embedding->dims[1];
	r = take_matrix(loader, "token_embd.weight", m->n_vocab, m->width, &m->embedding);
	if (r < 0)
		return r;
	m->output = m->embedding;
	if (gguf_tensor_find(loader->gguf, "output.weight"))
		r = take_matrix(loader, "output.weight", m->n_vocab, m->width, &m->output);
	return r < 0 ? r : take_vector(loader, "output_norm.weight", &m->output_norm);
}

static int load_tensors(struct loader *loader)
{
	struct model *m = loader->model;
	size_t n_vectors = 2 * (size_t)m->n_layers + 1;
	int r;

	m->layers = calloc(m->n_layers, sizeof(m->layers[0]));
	m->vectors = calloc(n_vectors, m->width * sizeof(float));
	if (!m->layers || !m->vectors)
		return fault_set(loader->fault, -ENOMEM, "no memory for the model");
	loader->next_vector = m->vectors;
	r = load_ends(loader);
	for (uint32_t i = 0; i < m->n_layers && r == 0; i++)
		r = load_layer(loader, i);
	return r;
}

/* --- Rotary embedding ------------------------------------------------------------------------- */

/* Positions are divided by this; 1 without scaling. */
static int read_rope_scale(struct loader *loader, float *ret_scale)
{
	struct gguf_string type = { "none", 4 };
	int r = gguf_get_string(loader->gguf, "llama.rope.scaling.type", &type, loader->fault);

	*ret_scale = 1.0f;
	if (r < 0 || gguf_string_is(type, "none"))
		return r < 0 ? r : 0;
	if (!gguf_string_is(type, "linear"))
		return fault_set(loader->fault, -ENOTSUP,
				 "rotary scaling other than none and linear is not supported");
	r = gguf_get_f32(loader->gguf, "llama.rope.scaling.factor", ret_scale, loader->fault);
	if (r == 0 && !(*ret_scale >= 1.0f && *ret_scale <= 1e6f))
		return fault_set(loader->fault, -EBADMSG, "llama.rope.scaling.factor is not in 1 to 1e6");
	return r < 0 ? r : 0;
}

/*
 * Divisors of the frequencies, which some models carry as a tensor; *ret_factors is NULL without.
 */
static int take_rope_factors(struct loader *loader, const uint8_t **ret_factors)
{
	const struct gguf_tensor *tensor = gguf_tensor_find(loader->gguf, "rope_freqs.weight");

	*ret_factors = NULL;
	if (!tensor)
		return 0;
	if (tensor->format->type != TENSOR_F32 || tensor->dims[0] != loader->model->rope_dim / 2)
		return fault_set(loader->fault, -EBADMSG, "tensor rope_freqs.weight has a wrong shape or type");
	loader->n_used++;
	*ret_factors = tensor->bytes;
	return 0;
}

static int load_rope(struct loader *loader)
{
	struct model *m = loader->model;
	uint32_t n_pairs = m->rope_dim / 2;
	const uint8_t *factors;
	float base = 10000.0f;
	float scale = 1.0f;
	int r = gguf_get_f32(loader->gguf, "llama.rope.freq_base", &base, loader->fault);

	if (r >= 0)
		r = read_rope_scale(loader, &scale);
	if (r == 0)
		r = take_rope_factors(loader, &factors);
	if (r < 0)
		return r;
	if (!(base > 1.0f && base <= 1e12f))
		return fault_set(loader->fault, -EBADMSG, "llama.rope.freq_base is not in 1 to 1e12");
	m->rope_frequency = calloc(n_pairs, sizeof(m->rope_frequency[0]));
	if (!m->rope_frequency)
		return fault_set(loader->fault, -ENOMEM, "no memory for the rotary table");
	for (uint32_t i = 0; i < n_pairs; i++) {
		float factor = 1.0f;

		if (factors)
			memcpy(&factor, factors + i * sizeof(factor), sizeof(factor));
		if (!(factor > 0.0f))
			return fault_set(loader->fault, -EBADMSG, "rope_freqs.weight holds a wrong value");
		m->rope_frequency[i] = pow((double)base, -2.0 * i / m->rope_dim) / (double)factor /
				       (double)scale;
	}
	return 0;
}

/* --- Loading ---------------------------------------------------------------------------------- */

static int check_all_used(struct loader *loader)
{
	size_t n = gguf_tensor_count(loader->gguf);

	if (loader->n_used == n)
		return 0;
	return fault_set(loader->fault, -ENOTSUP,
			 "%zu of the file's %zu tensors are none that a llama model has (biases?)",
			 n - loader->n_used, n);
}

int model_new(const struct gguf *gguf, struct model **ret_model, struct fault *fault)
{
	_cleanup_(model_freep) struct model *model = calloc(1, sizeof(*model));
	struct loader loader = { .gguf = gguf, .model = model, .fault = fault };
	const void *bytes;
	size_t n_bytes;
	int r;

	if (!model)
		return fault_set(fault, -ENOMEM, "no memory");
	r = read_architecture(&loader);
	if (r == 0)
		r = read_name(&loader);
	if (r == 0)
		r = read_shape(&loader);
	if (r == 0)
		r = load_tensors(&loader);
	if (r == 0)
		r = load_rope(&loader);
	if (r == 0)
		r = check_all_used(&loader);
	if (r < 0)
		return r;
	gguf_bytes(gguf, &bytes, &n_bytes);
	model->identity = XXH3_64bits(bytes, n_bytes);
	*ret_model = take_ptr(model);
	return 0;
}

struct model *model_free(struct model *model)
{
	if (!model)
		return NULL;
	free(model->rope_frequency);
	free(model->layers);
	free(model->vectors);
	free(model);
	return NULL;
}
