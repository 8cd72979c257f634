/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vocabulary of a byte-level BPE model: token strings, their bytes, and the merges with ranks.
 *
 * In the file each of the 256 bytes is written as one printable character (bytes that print stand
 * for themselves, the others for U+0100 and up, in order), so that token strings are text. Strings
 * belong to the file's bytes, which must outlive the vocabulary; nothing changes after loading.
 */
#pragma once

#include "base/cleanup.h"
#include "client/worker/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOCAB_TOKENS_MAX (1u << 20)
#define VOCAB_NONE UINT32_MAX

struct vocab;

/*
 * Reads the tokenizer.ggml.* keys. Results: 0 and *ret_vocab, which the caller frees; -ENOTSUP for
 * a model other than "gpt2"; -EBADMSG; -ENOMEM.
 */
int vocab_new(const struct gguf *gguf, struct vocab **ret_vocab, struct fault *fault);

struct vocab *vocab_free(struct vocab *vocab);

DEFINE_CLEANUP(struct vocab *, vocab_free);

uint32_t vocab_size(const struct vocab *vocab);

/* The token with exactly this string as the file writes it, or VOCAB_NONE. */
uint32_t vocab_find(const struct vocab *vocab, const void *string, size_t length);

/* The token of one byte, or VOCAB_NONE where the model has none. */
uint32_t vocab_byte(const struct vocab *vocab, uint8_t byte);

/*
 * What merging two neighbours gives, and its rank (lower merges first). False: they do not merge.
 */
bool vocab_merge(const struct vocab *vocab, uint32_t left, uint32_t right, uint32_t *ret_merged,
		 uint32_t *ret_rank);

/* The bytes of text that a token stands for; none for a control token. token < vocab_size(). */
const uint8_t *vocab_bytes(const struct vocab *vocab, uint32_t token, size_t *ret_n);

/*
 * The longest token at the front of text[0..n) that is recognised before any splitting (control and
 * user-defined ones, such as <|im_start|>), or VOCAB_NONE.
 */
uint32_t vocab_match_special(const struct vocab *vocab, const void *text, size_t n,
			     size_t *ret_length);
