/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pieces of a text within which byte-pair merging takes place. The rule is part of a model:
 *
 *   PRETOKEN_GPT2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   PRETOKEN_SMOLLM  every number character is a piece of its own; the text between by the rule above
 *
 * Bytes that are not UTF-8 count as characters that are neither letter, number nor space.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pretoken_rule {
	PRETOKEN_GPT2,
	PRETOKEN_SMOLLM,
};

/* The pieces still to come. The text belongs to the caller. */
struct pretoken {
	enum pretoken_rule rule;
	const uint8_t *text;
	size_t n;
	size_t offset;
	size_t segment_end; /* the rule of GPT-2 sees the text end here */
};

void pretoken_init(struct pretoken *pretoken, enum pretoken_rule rule, const void *text, size_t n);

/* Takes the next piece, never empty. Returns false at the end of the text. */
bool pretoken_next(struct pretoken *pretoken, const uint8_t **ret_piece, size_t *ret_length);
