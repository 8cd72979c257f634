/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be done for one append: which of its pages the daemon does not have yet. */
#pragma once

#include "client/kvclient.h"
#include "client/tensor.h"

#include <stdint.h>
#include <stdlib.h>

struct append_plan {
	struct range range;
	uint32_t page_bytes;   /* encoded, at the block's tokens */
	uint32_t stride_bytes; /* from page to page in the staging memory */
	uint32_t present;      /* pages that are there already */
	uint32_t n;
	uint32_t *pages;       /* indices of the n pages to send */
};

/*
 * Checks the append and looks its pages up in the shared index. That look is a saving, not a decision: the
 * daemon judges what is sent. Results: KVC_OK and the plan, for append_plan_deinit(); KVC_INVALID, KVC_RANGE,
 * in words; -ENOMEM. With the client's lock.
 */
int append_plan_init(struct append_plan *plan, const struct kvc_space *space, const struct kvc_append *block);

static inline void append_plan_deinit(struct append_plan *plan)
{
	free(plan->pages);
	plan->pages = NULL;
}
