/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetches that wait for the tier. A Fetch whose blocks are not all resident, but some of them on the tier, becomes
 * one of these: its keys are looked at in order, in slices; what is resident is tied, what is not is loaded, its
 * ancestors first. When every load that it waits for has brought the pages in its range, it is answered, and the
 * leases are taken.
 *
 * core.fetches (to be prepared, first come first served) --all keys looked at--> waiting --last page--> answered
 *
 * A Fetch that only wishes to have blocks brought up (prefetch) is answered when its loads have begun.
 *
 * Ownership: a fetching is its session's and goes with it, its loads go on. A part that waits is in its load's list.
 * Between ties, any block can be removed: then the part is a miss.
 */
#pragma once

#include "daemon/core/loading.h"

/* Takes the request over, which is checked. VERB_QUEUED; or VERB_REPLY, failed for want of memory. */
enum verb_result fetching_begin(struct core_session *session, const Request *request, const struct page_range *range,
				uint32_t ttl_ms, Reply *reply);

/* Looks at some keys. Returns whether more can be done now. */
bool fetching_step(struct core *core);

/* The page was published. */
void fetching_page(struct load *load, uint32_t page);

/* The load ended, or its block is going. */
void fetching_load_over(struct load *load, enum kvp_status status);

/* The session is going. */
void fetching_forget(struct core_session *session);

/* Whether the session waits by a request of this id. */
bool fetching_waits(const struct core_session *session, uint64_t id);
