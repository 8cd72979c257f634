/* SPDX-License-Identifier: Apache-2.0 */
/* Range and tensor arithmetic; see tensor.h. */
#include "client/tensor.h"

#include "codec/codec.h"

/* With it, no sum of layer and head strides in bytes overflows 64 bits. */
#define STRIDE_ELEMENTS_MAX (INT64_C(1) << 44)

/* Replaces a count of 0 by "up to the end". Returns whether the part lies in [0, total) and is not empty. */
static bool part_resolve(uint32_t begin, uint32_t count, uint32_t total, uint32_t *ret_end)
{
	if (begin >= total || count > total - begin)
		return false;
	*ret_end = count ? begin + count : total;
	return true;
}

/* The usual case, for which no division is needed. */
static bool is_everything(const struct kvc_range *wanted)
{
	return (wanted->layer_begin | wanted->layer_count | wanted->head_begin | wanted->head_count) == 0;
}

const char *range_resolve(const struct kvc_space *space, const struct kvc_range *wanted, struct range *ret_range)
{
	uint32_t page_heads = space->geometry.page_heads;
	struct range range;

	if (!wanted || is_everything(wanted)) {
		*ret_range = (struct range){
			.layer_end = space->geometry.layers,
			.head_end = space->geometry.kv_heads,
		};
		return NULL;
	}
	range.layer_begin = wanted->layer_begin;
	range.head_begin = wanted->head_begin;
	if (!part_resolve(wanted->layer_begin, wanted->layer_count, space->geometry.layers, &range.layer_end))
		return "the layers are not in the space's";
	if (!part_resolve(wanted->head_begin, wanted->head_count, space->geometry.kv_heads, &range.head_end))
		return "the heads are not in the space's";
	if (range.head_begin % page_heads != 0 || range.head_end % page_heads != 0)
		return "the heads do not cover whole pages: begin and count must be multiples of page_heads";
	*ret_range = range;
	return NULL;
}

bool range_equal(const struct range *a, const struct range *b)
{
	return a->layer_begin == b->layer_begin && a->layer_end == b->layer_end && a->head_begin == b->head_begin &&
	       a->head_end == b->head_end;
}

static uint32_t range_groups(const struct kvc_space *space, const struct range *range)
{
	return (range->head_end - range->head_begin) / space->geometry.page_heads;
}

uint32_t range_pages(const struct kvc_space *space, const struct range *range)
{
	return (range->layer_end - range->layer_begin) * range_groups(space, range);
}

uint32_t range_page_index(const struct kvc_space *space, const struct range *range, uint32_t n)
{
	uint32_t groups = range_groups(space, range);

	return (range->layer_begin + n / groups) * space->head_groups + range->head_begin / space->geometry.page_heads +
	       n % groups;
}

static bool stride_valid(int64_t stride)
{
	return stride >= -STRIDE_ELEMENTS_MAX && stride <= STRIDE_ELEMENTS_MAX;
}

const char *tensor_check(const struct kvc_tensor *tensor, uint32_t head_dim, bool destination)
{
	int64_t token = tensor->stride_token;

	if (codec_dtype_bytes(tensor->dtype) == 0)
		return "a tensor's dtype is not a known type";
	if (!stride_valid(token) || !stride_valid(tensor->stride_layer) || !stride_valid(tensor->stride_head))
		return "a tensor's stride is out of range";
	if (destination && token > -(int64_t)head_dim && token < (int64_t)head_dim)
		return "a destination's stride_token makes rows overlap";
	return NULL;
}

void *tensor_rows(const struct kvc_tensor *tensor, uint32_t layer, uint32_t head)
{
	int64_t elements = (int64_t)layer * tensor->stride_layer + (int64_t)head * tensor->stride_head;

	return (uint8_t *)tensor->data + elements * (int64_t)codec_dtype_bytes(tensor->dtype);
}
