/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds GGUF files in memory for tests: keys and tensors one by one, or a whole small llama whose
 * weights are pseudo-random and whose vocabulary is the 256 bytes, some merges and two special
 * tokens.
 */
#pragma once

#include "client/worker/gguf.h"
#include "client/worker/tensor.h"

#include "tests/lib/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct file {
	uint8_t *bytes;
	size_t n;
	size_t capacity;
};

static inline void file_put(struct file *file, const void *bytes, size_t n)
{
	if (file->n + n > file->capacity) {
		file->capacity = 2 * (file->n + n);
		file->bytes = realloc(file->bytes, file->capacity);
		assert_non_null(file->bytes);
	}
	memcpy(file->bytes + file->n, bytes, n);
	file->n += n;
}

static inline void file_u32(struct file *file, uint32_t value)
{
	file_put(file, &value, sizeof(value));
}

static inline void file_u64(struct file *file, uint64_t value)
{
	file_put(file, &value, sizeof(value));
}

static inline void file_string(struct file *file, const char *text)
{
	file_u64(file, strlen(text));
	file_put(file, text, strlen(text));
}

static inline void file_header(struct file *file, uint64_t n_tensors, uint64_t n_keys)
{
	file_put(file, "GGUF", 4);
	file_u32(file, 3);
	file_u64(file, n_tensors);
	file_u64(file, n_keys);
}

static inline void file_key_u32(struct file *file, const char *key, uint32_t value)
{
	file_string(file, key);
	file_u32(file, GGUF_U32);
	file_u32(file, value);
}

static inline void file_key_f32(struct file *file, const char *key, float value)
{
	file_string(file, key);
	file_u32(file, GGUF_F32);
	file_put(file, &value, sizeof(value));
}

static inline void file_key_string(struct file *file, const char *key, const char *value)
{
	file_string(file, key);
	file_u32(file, GGUF_STRING);
	file_string(file, value);
}

static inline void file_key_array(struct file *file, const char *key, uint32_t type, uint64_t count)
{
	file_string(file, key);
	file_u32(file, GGUF_ARRAY);
	file_u32(file, type);
	file_u64(file, count);
}

/* A record; returns where the next tensor's bytes begin. */
static inline uint64_t file_tensor(struct file *file, const char *name, uint64_t rows, uint64_t cols, uint64_t offset)
{
	file_string(file, name);
	file_u32(file, rows > 1 ? 2 : 1);
	file_u64(file, cols);
	if (rows > 1)
		file_u64(file, rows);
	file_u32(file, TENSOR_F32);
	file_u64(file, offset);
	return offset + (rows * cols * sizeof(float) + 31) / 32 * 32;
}

static inline void file_pad(struct file *file)
{
	static const uint8_t zeroes[32];

	file_put(file, zeroes, (32 - file->n % 32) % 32);
}

/* --- A small llama ---------------------------------------------------------------------------- */

#define LLAMA_LAYERS 2
#define LLAMA_WIDTH 32
#define LLAMA_HEADS 4
#define LLAMA_KV_HEADS 2
#define LLAMA_HEAD_DIM 16
#define LLAMA_FF 48
#define LLAMA_CONTEXT 256
#define LLAMA_BYTES 256

static const char *const llama_merges[][2] = {
	{ "h", "e" }, { "l", "l" }, { "he", "ll" }, { "hell", "o" }, { "\xc4\xa0", "w" },
};
static const char *const llama_special[] = { "<|end|>", "<|im_start|>" };

#define LLAMA_MERGES (sizeof(llama_merges) / sizeof(llama_merges[0]))
#define LLAMA_SPECIAL (sizeof(llama_special) / sizeof(llama_special[0]))
#define LLAMA_VOCAB (LLAMA_BYTES + LLAMA_MERGES + LLAMA_SPECIAL)

/* The printable character of a byte, as UTF-8, terminated. */
static inline void llama_byte_token(unsigned byte, char text[3])
{
	unsigned code = byte;

	if (!((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae)) {
		/*
		 * The bytes that do not print are 0..32, 127..160 and 173, numbered in this order.
		 */
		code = 0x100 + (byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7f + 33 : 67);
	}
	memset(text, 0, 3);
	if (code < 0x80) {
		text[0] = (char)code;
	} else {
		text[0] = (char)(0xc0 | code >> 6);
		text[1] = (char)(0x80 | (code & 0x3f));
	}
}

static inline void llama_vocabulary(struct file *file)
{
	char text[64];

	file_key_string(file, "tokenizer.ggml.model", "gpt2");
	file_key_string(file, "tokenizer.ggml.pre", "gpt-2");
	file_key_u32(file, "tokenizer.ggml.eos_token_id", LLAMA_VOCAB - LLAMA_SPECIAL);
	file_key_array(file, "tokenizer.ggml.tokens", GGUF_STRING, LLAMA_VOCAB);
	for (unsigned byte = 0; byte < LLAMA_BYTES; byte++) {
		llama_byte_token(byte, text);
		file_string(file, text);
	}
	for (size_t i = 0; i < LLAMA_MERGES; i++) {
		(void)snprintf(text, sizeof(text), "%s%s", llama_merges[i][0], llama_merges[i][1]);
		file_string(file, text);
	}
	for (size_t i = 0; i < LLAMA_SPECIAL; i++)
		file_string(file, llama_special[i]);
	file_key_array(file, "tokenizer.ggml.token_type", GGUF_I32, LLAMA_VOCAB);
	for (size_t i = 0; i < LLAMA_VOCAB; i++)
		file_u32(file, i < LLAMA_VOCAB - LLAMA_SPECIAL ? 1 : 3);
	file_key_array(file, "tokenizer.ggml.merges", GGUF_STRING, LLAMA_MERGES);
	for (size_t i = 0; i < LLAMA_MERGES; i++) {
		(void)snprintf(text, sizeof(text), "%s %s", llama_merges[i][0], llama_merges[i][1]);
		file_string(file, text);
	}
}

static inline uint64_t llama_tensors(struct file *file)
{
	static const struct {
		const char *name;
		uint64_t rows;
		uint64_t cols;
	} parts[] = {
		{ "attn_norm", 1, LLAMA_WIDTH },
		{ "ffn_norm", 1, LLAMA_WIDTH },
		{ "attn_q", LLAMA_HEADS * LLAMA_HEAD_DIM, LLAMA_WIDTH },
		{ "attn_k", LLAMA_KV_HEADS * LLAMA_HEAD_DIM, LLAMA_WIDTH },
		{ "attn_v", LLAMA_KV_HEADS * LLAMA_HEAD_DIM, LLAMA_WIDTH },
		{ "attn_output", LLAMA_WIDTH, LLAMA_HEADS * LLAMA_HEAD_DIM },
		{ "ffn_gate", LLAMA_FF, LLAMA_WIDTH },
		{ "ffn_up", LLAMA_FF, LLAMA_WIDTH },
		{ "ffn_down", LLAMA_WIDTH, LLAMA_FF },
	};
	uint64_t offset = file_tensor(file, "token_embd.weight", LLAMA_VOCAB, LLAMA_WIDTH, 0);

	offset = file_tensor(file, "output_norm.weight", 1, LLAMA_WIDTH, offset);
	for (unsigned layer = 0; layer < LLAMA_LAYERS; layer++)
		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			char name[64];

			(void)snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, parts[i].name);
			offset = file_tensor(file, name, parts[i].rows, parts[i].cols, offset);
		}
	return offset;
}

/* The whole file. *ret_header is the length of what comes before the tensors' bytes. */
static inline struct file llama_file(size_t *ret_header)
{
	struct file file = { 0 };
	uint32_t state = 1;
	uint64_t n_bytes;

	file_header(&file, 2 + LLAMA_LAYERS * 9, 18);
	file_key_string(&file, "general.architecture", "llama");
	file_key_string(&file, "general.name", "Test llama");
	file_key_u32(&file, "general.alignment", 32);
	file_key_u32(&file, "llama.block_count", LLAMA_LAYERS);
	file_key_u32(&file, "llama.context_length", LLAMA_CONTEXT);
	file_key_u32(&file, "llama.embedding_length", LLAMA_WIDTH);
	file_key_u32(&file, "llama.feed_forward_length", LLAMA_FF);
	file_key_u32(&file, "llama.attention.head_count", LLAMA_HEADS);
	file_key_u32(&file, "llama.attention.head_count_kv", LLAMA_KV_HEADS);
	file_key_u32(&file, "llama.attention.key_length", LLAMA_HEAD_DIM);
	file_key_f32(&file, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	file_key_f32(&file, "llama.rope.freq_base", 10000.0f);
	llama_vocabulary(&file);
	n_bytes = llama_tensors(&file);
	if (ret_header)
		*ret_header = file.n;
	file_pad(&file);
	for (uint64_t i = 0; i < n_bytes; i += sizeof(float)) {
		float value;

		state = state * 1664525u + 1013904223u;
		value = ((float)(state >> 8) / 8388608.0f - 1.0f) * 0.5f;
		file_put(&file, &value, sizeof(value));
	}
	return file;
}
