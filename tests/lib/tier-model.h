/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tier must do, as a model beside it: which version of each block it has to give, which it may give, and which
 * never. Versions are numbered as they are stored and removed, all blocks together. A restart may bring back an older
 * version of a block (the newer one was being replaced, or was dropped), but none that was removed.
 */
#pragma once

#include "tests/lib/tier-rig.h"

#define MODEL_NUMBERS 256

struct model_block {
	uint32_t begun;   /* the last version whose store began and that was not removed; 0: none */
	uint32_t acked;   /* the last whose store ended well, and was not removed */
	uint32_t lowest;  /* versions below this were removed, and must not come back */
	uint32_t removed; /* versions up to this were removed */
	bool maybe;       /* it may have been dropped */
};

struct tier_model {
	struct tier_rig rig;
	struct model_block blocks[RIG_SPACES][MODEL_NUMBERS];
	uint32_t version;
	uint32_t durable; /* removals up to this version survive crashes */
	bool forgetful;   /* it may hold fewer blocks than its segments do: a restart may lose any */
	uint64_t loads_ok;
	uint64_t found_again;
	uint64_t restarts;
	/* Sums over all restarts. */
	uint64_t dropped;
	uint64_t moved;
	uint64_t broken;
};

void tier_model_init(struct tier_model *model, uint64_t segment_bytes, uint32_t segments);
void tier_model_deinit(struct tier_model *model);

/* Result of tier_ops.store(). */
int tier_model_store(struct tier_model *model, uint32_t space, uint32_t number);
void tier_model_load(struct tier_model *model, uint32_t space, uint32_t number);
void tier_model_remove(struct tier_model *model, uint32_t space, uint32_t number);
void tier_model_remove_space(struct tier_model *model, uint32_t space);

/* Runs until all is written, removals too. */
void tier_model_settle(struct tier_model *model);
void tier_model_crash(struct tier_model *model, bool torn);
void tier_model_restart(struct tier_model *model);

/* Finds and loads all blocks. */
void tier_model_check(struct tier_model *model);
