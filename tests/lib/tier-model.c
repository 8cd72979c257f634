/* SPDX-License-Identifier: Apache-2.0 */
/* The model of one block at a time; the log's own questions (resident) tell which blocks may have been dropped. */
#include "tests/lib/tier-model.h"

#include "proto/status.h"
#include "tests/lib/harness.h"

#include <errno.h>
#include <string.h>

static struct tier_model *model_of(struct tier_rig *rig)
{
	return list_entry(rig, struct tier_model, rig);
}

static void on_stored(struct tier_rig *rig, const struct tier_rig_store *store, int result)
{
	struct tier_model *model = model_of(rig);
	struct model_block *block = &model->blocks[store->space][store->number];

	if (result == 0) {
		/* Otherwise it was removed or replaced meanwhile, which is -ECANCELED. */
		assert_int_equal(block->begun, store->version);
		block->acked = store->version;
	} else {
		assert_int_equal(result, -ECANCELED);
		assert_true(block->begun != store->version || block->maybe);
	}
}

static void on_loaded(struct tier_rig *rig, uint32_t space, uint32_t number, uint64_t tag,
		      struct tier_rig_outcome outcome)
{
	struct tier_model *model = model_of(rig);

	if (outcome.result == -ECANCELED) {
		assert_true(model->blocks[space][number].begun != tag || model->blocks[space][number].maybe);
		return;
	}
	assert_int_equal(outcome.result, 0);
	assert_int_equal(outcome.version, tag);
	model->loads_ok++;
}

static void on_asked_for(struct tier_rig *rig, uint32_t space, uint32_t number)
{
	model_of(rig)->blocks[space][number].maybe = true;
}

void tier_model_init(struct tier_model *model, uint64_t segment_bytes, uint32_t segments)
{
	memset(model, 0, sizeof(*model));
	tier_rig_init(&model->rig, segment_bytes, segments);
	model->rig.stored = on_stored;
	model->rig.loaded = on_loaded;
	model->rig.asked_for = on_asked_for;
}

void tier_model_deinit(struct tier_model *model)
{
	tier_rig_deinit(&model->rig);
}

int tier_model_store(struct tier_model *model, uint32_t space, uint32_t number)
{
	struct model_block *block = &model->blocks[space][number];
	struct model_block before = *block;
	int result;

	block->begun = ++model->version;
	block->maybe = false;
	result = tier_rig_store(&model->rig, space, number, model->version);
	if (result != 0) {
		assert_int_equal(result, KVP_NO_SPACE);
		before.maybe = before.maybe || block->maybe;
		*block = before;
	} else {
		assert_true(tier_rig_find(&model->rig, space, number));
	}
	return result;
}

static void check_found(const struct tier_model *model, uint32_t space, uint32_t number, bool found)
{
	const struct model_block *block = &model->blocks[space][number];

	if (block->begun > 0 && !block->maybe)
		assert_true(found);
	if (block->begun == 0)
		assert_false(found);
}

void tier_model_load(struct tier_model *model, uint32_t space, uint32_t number)
{
	int result;

	model->rig.tag = model->blocks[space][number].begun;
	result = tier_rig_load_begin(&model->rig, space, number);
	check_found(model, space, number, result == 0);
}

static void gone(struct tier_model *model, uint32_t space, uint32_t number)
{
	struct model_block *block = &model->blocks[space][number];

	block->begun = block->acked = 0;
	block->removed = model->version;
	block->maybe = false;
}

/* The tier reaches descendants as far as parents are there. */
static void descend(struct tier_model *model, uint32_t space, uint32_t number, bool *chosen)
{
	for (uint32_t child = 1; child < MODEL_NUMBERS; child++)
		if (!chosen[child] && tier_rig_parent(&model->rig, child) == number && number > 0 &&
		    tier_rig_find(&model->rig, space, child)) {
			chosen[child] = true;
			descend(model, space, child, chosen);
		}
}

void tier_model_remove(struct tier_model *model, uint32_t space, uint32_t number)
{
	bool chosen[MODEL_NUMBERS] = { false };

	chosen[number] = true;
	descend(model, space, number, chosen);
	tier_rig_remove(&model->rig, space, number);
	model->version++;
	for (uint32_t i = 0; i < MODEL_NUMBERS; i++)
		if (chosen[i]) {
			gone(model, space, i);
			assert_false(tier_rig_find(&model->rig, space, i));
		}
}

void tier_model_remove_space(struct tier_model *model, uint32_t space)
{
	tier_rig_remove_space(&model->rig, space);
	model->version++;
	for (uint32_t i = 0; i < MODEL_NUMBERS; i++) {
		gone(model, space, i);
		assert_false(tier_rig_find(&model->rig, space, i));
	}
}

void tier_model_settle(struct tier_model *model)
{
	tier_rig_run(&model->rig);
	tier_rig_wait(&model->rig, 200 * 1000 * 1000);
	model->durable = model->version;
}

/* After a crash: what is there tells which of the possible versions it is. */
static void learn(struct tier_model *model, uint32_t space, uint32_t number)
{
	struct model_block *block = &model->blocks[space][number];
	struct tier_rig_outcome outcome;

	if (block->removed <= model->durable && block->lowest <= block->removed)
		block->lowest = block->removed + 1;
	outcome = tier_rig_load(&model->rig, space, number);
	if (outcome.result == KVP_MISS) {
		/* A copy that was being replaced may be gone, and the new one not complete. */
		assert_true(block->acked != block->begun || block->begun == 0 || block->maybe || model->forgetful);
		block->begun = block->acked = block->removed = 0;
		return;
	}
	assert_int_equal(outcome.result, 0);
	if (outcome.version < block->lowest)
		fail_msg("block %u/%u: version %u is back, but those below %u were removed", space, number,
			 outcome.version, block->lowest);
	model->found_again++;
	block->begun = block->acked = outcome.version;
	block->removed = 0;
	block->maybe = false;
}

static void again(struct tier_model *model)
{
	struct tier_rig *rig = &model->rig;

	rig->loaded = NULL;
	tier_rig_start(rig);
	model->restarts++;
	for (uint32_t space = 0; space < RIG_SPACES; space++)
		for (uint32_t number = 0; number < MODEL_NUMBERS; number++)
			learn(model, space, number);
	tier_rig_run(rig);
	rig->loaded = on_loaded;
}

static void count(struct tier_model *model)
{
	struct tier_stats stats = tier_rig_stats(&model->rig);

	model->dropped += stats.dropped_blocks_total;
	model->moved += stats.moved_blocks_total;
	model->broken += stats.broken_total;
}

void tier_model_crash(struct tier_model *model, bool torn)
{
	count(model);
	tier_rig_crash(&model->rig, torn);
	again(model);
}

void tier_model_restart(struct tier_model *model)
{
	count(model);
	tier_rig_stop(&model->rig);
	model->durable = model->version;
	again(model);
}

void tier_model_check(struct tier_model *model)
{
	count(model);
	for (uint32_t space = 0; space < RIG_SPACES; space++)
		for (uint32_t number = 0; number < MODEL_NUMBERS; number++) {
			model->rig.tag = model->blocks[space][number].begun;
			check_found(model, space, number,
				    tier_rig_load(&model->rig, space, number).result != KVP_MISS);
		}
}
