/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of layers and heads, and the caller's strided tensors over them. */
#pragma once

#include "client/kvclient.h"
#include "client/space.h"

#include <stdbool.h>
#include <stdint.h>

/* A range with its ends, within the space and along page borders. */
struct range {
	uint32_t layer_begin;
	uint32_t layer_end;
	uint32_t head_begin;
	uint32_t head_end;
};

/* wanted NULL: everything. NULL, or static text that says what is out of range. */
const char *range_resolve(const struct kvc_space *space, const struct kvc_range *wanted, struct range *ret_range);

bool range_equal(const struct range *a, const struct range *b);

/* Pages in the range, and the index within the block of the n-th of them. */
uint32_t range_pages(const struct kvc_space *space, const struct range *range);
uint32_t range_page_index(const struct kvc_space *space, const struct range *range, uint32_t n);

/*
 * Whether a tensor can be read (destination false) or written: NULL, or static text. head_dim is its number
 * of channels. data must not be NULL. Rows of a destination must not overlap.
 */
const char *tensor_check(const struct kvc_tensor *tensor, uint32_t head_dim, bool destination);

/* Element (layer, head, 0, 0); layer and head count from the beginning of the range. */
void *tensor_rows(const struct kvc_tensor *tensor, uint32_t layer, uint32_t head);
