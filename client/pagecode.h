/* SPDX-License-Identifier: Apache-2.0 */
/* Between a page's bytes and the caller's tensors: one layer of one head group at a time. */
#pragma once

#include "client/tensor.h"

#include <stdint.h>

/*
 * Encodes the page of this index from the block's tensors into page_bytes() bytes at dst. Results: KVC_OK;
 * KVC_NONFINITE or KVC_VALUE_RANGE, and the place in *ret_fault.
 */
int page_encode(const struct kvc_space *space, const struct range *range, const struct kvc_append *block,
		uint32_t index, uint8_t *dst, struct kvc_fault *ret_fault);

/* Decodes the page's tiles into those of the tensors that have data. */
void page_decode(const struct kvc_space *space, const struct range *range, uint32_t tokens, uint32_t index,
		 const uint8_t *src, const struct kvc_tensor *k, const struct kvc_tensor *v);
