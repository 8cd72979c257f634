/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a model file of kvworker: opened, its tokenizer made and used on the file's own bytes, its model made.
 * What is taken must lie within the bytes; what is refused has words for it.
 */
#include "client/worker/gguf.h"
#include "client/worker/model.h"
#include "client/worker/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/contract.h"

#define TEXT_BYTES_MAX 200

static void fault_check(const struct fault *fault)
{
	kvp_assert(fault->text[0] && memchr(fault->text, '\0', sizeof(fault->text)));
}

static void tensors_check(const struct gguf *gguf, const uint8_t *bytes, size_t n)
{
	static const char *const names[] = { "token_embd.weight", "output.weight", "output_norm.weight",
					     "blk.0.attn_q.weight" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct gguf_tensor *tensor = gguf_tensor_find(gguf, names[i]);

		if (!tensor)
			continue;
		kvp_assert(tensor->bytes >= bytes && (size_t)(tensor->bytes - bytes) <= n);
		kvp_assert(tensor->n_bytes <= n - (size_t)(tensor->bytes - bytes));
		kvp_assert(tensor->format && tensor->dims[0] > 0);
	}
}

static void tokenizer_check(const struct gguf *gguf, const uint8_t *bytes, size_t n)
{
	_cleanup_(tokenizer_freep) struct tokenizer *tokenizer = NULL;
	_cleanup_(tokens_done) struct tokens tokens = { 0 };
	struct fault fault = { 0 };
	uint32_t special;

	if (tokenizer_new(gguf, &tokenizer, &fault) < 0) {
		fault_check(&fault);
		return;
	}
	n = n < TEXT_BYTES_MAX ? n : TEXT_BYTES_MAX;
	kvp_assert(tokenizer_encode(tokenizer, bytes, n, true, &tokens) == 0);
	for (size_t i = 0; i < tokens.n; i++) {
		size_t length;

		kvp_assert(tokens.ids[i] < tokenizer_size(tokenizer));
		(void)tokenizer_bytes(tokenizer, tokens.ids[i], &length);
		(void)tokenizer_is_end(tokenizer, tokens.ids[i]);
	}
	if (tokenizer_find_special(tokenizer, "<|im_start|>", &special))
		kvp_assert(special < tokenizer_size(tokenizer));
}

static void model_check(const struct gguf *gguf)
{
	_cleanup_(model_freep) struct model *model = NULL;
	struct fault fault = { 0 };

	if (model_new(gguf, &model, &fault) < 0) {
		fault_check(&fault);
		return;
	}
	kvp_assert(model->n_layers >= 1 && model->n_layers <= MODEL_LAYERS_MAX);
	kvp_assert(model->n_heads % model->n_kv_heads == 0 && model->head_dim <= MODEL_HEAD_DIM_MAX);
	kvp_assert(model->n_vocab > 0 && model->embedding.rows == model->n_vocab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(gguf_freep) struct gguf *gguf = NULL;
	_cleanup_free_ uint8_t *bytes = malloc(size + 1);
	struct fault fault = { 0 };
	uint8_t *end;

	/* Where the file ends its memory ends. */
	kvp_assert(bytes);
	end = realloc(bytes, size ? size : 1);
	kvp_assert(end);
	bytes = end;
	if (size > 0)
		memcpy(bytes, data, size);
	if (gguf_open_memory(bytes, size, &gguf, &fault) < 0) {
		fault_check(&fault);
		return 0;
	}
	tensors_check(gguf, bytes, size);
	tokenizer_check(gguf, bytes, size);
	model_check(gguf);
	return 0;
}
