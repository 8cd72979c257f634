/* SPDX-License-Identifier: Apache-2.0 */
/* The phases of resize.h, one function each, which returns when the next step is due. */
#include "daemon/core/resize.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/core/evict.h"
#include "daemon/core/hazard.h"
#include "daemon/core/move.h"
#include "daemon/core/stats.h"
#include "daemon/core/verbs.h"

#define EVICT_SLICE 32

/* What a step says of the next one. */
#define AT_ONCE UINT64_C(0)
#define NEVER UINT64_MAX

static uint32_t extents_least(const struct arena *arena)
{
	return arena->extents_count < RESIZE_EXTENTS_MIN ? arena->extents_count : RESIZE_EXTENTS_MIN;
}

static uint32_t extents_of(const struct arena *arena, uint64_t bytes)
{
	uint64_t extents = bytes > arena->extents_offset ? (bytes - arena->extents_offset) / KVP_EXTENT_BYTES : 0;

	if (extents < extents_least(arena))
		return extents_least(arena);
	return extents < arena->extents_count ? (uint32_t)extents : arena->extents_count;
}

static uint64_t bytes_of(const struct arena *arena, uint32_t extents)
{
	return arena->extents_offset + extents * KVP_EXTENT_BYTES;
}

/* ---- Who waits ---- */

void resize_answer(struct core_session *session, uint64_t id)
{
	const struct core *core = session->core;
	const struct resize *resize = &core->resize;
	Kvpaged__V1__ResizeReply answer = KVPAGED__V1__RESIZE_REPLY__INIT;
	Kvpaged__V1__Reply reply = KVPAGED__V1__REPLY__INIT;

	answer.bytes = bytes_of(&core->arena, core->arena.extents_limit);
	answer.held_bytes = arena_held_bytes(&core->arena);
	answer.done = resize->phase == RESIZE_REST;
	answer.asked_bytes = bytes_of(&core->arena, resize->asked);
	answer.evicted_blocks = resize->sums.evicted_blocks;
	answer.evicted_bytes = resize->sums.evicted_bytes;
	answer.moved_bytes = resize->sums.moved_bytes;
	answer.discarded_bytes = resize->sums.discarded_bytes;
	reply.id = id;
	reply.verb_case = KVPAGED__V1__REPLY__VERB_RESIZE;
	reply.resize = &answer;
	reply_send(session, &reply, 0);
}

void resize_forget(struct core_session *session)
{
	list_unlink(&session->resize.link);
	deadline_disarm(&session->core->deadlines, &session->resize.over);
}

bool resize_waits(const struct core_session *session, uint64_t id)
{
	return !list_empty(&session->resize.link) && session->resize.id == id;
}

static void wait_answer(struct core_session *session)
{
	resize_forget(session);
	resize_answer(session, session->resize.id);
}

static void wait_over(struct core *core, struct deadline *deadline)
{
	wait_answer(list_entry(deadline, struct resize_wait, over)->session);
}

int resize_wait(struct core_session *session, uint64_t id, uint32_t wait_ms)
{
	struct core *core = session->core;
	struct resize_wait *wait = &session->resize;
	int r;

	wait->session = session;
	wait->id = id;
	wait->over.expire = wait_over;
	r = deadline_arm(&core->deadlines, &wait->over, core->now_ns + wait_ms * NS_PER_MS);
	if (r == 0)
		list_push_back(&core->resize.waits, &wait->link);
	return r;
}

/* ---- Phases ---- */

static uint64_t rest(struct core *core)
{
	core->resize.phase = RESIZE_REST;
	core->resize.pause_ms = 0;
	list_for_each_safe(node, after, &core->resize.waits)
		wait_answer(list_entry(node, struct resize_wait, link)->session);
	return NEVER;
}

static uint64_t phase_begin(struct core *core, enum resize_phase phase)
{
	core->resize.phase = phase;
	core->resize.cursor = 1;
	return AT_ONCE;
}

/* The host refuses to give more, or to take any: the limit becomes what there is, until somebody asks again. */
static uint64_t give_up(struct core *core)
{
	struct arena *arena = &core->arena;

	arena->extents_limit = arena_extents_used(arena) + arena->extents_free;
	return rest(core);
}

/* After a round that came to nothing, one that may come to more when readers have let go. */
static uint64_t round_begin(struct core *core)
{
	struct resize *resize = &core->resize;
	uint32_t used = arena_extents_used(&core->arena);
	bool fruitless = resize->used_begin <= used;

	resize->used_begin = used;
	(void)phase_begin(core, RESIZE_SURVEY);
	arena_unstick(&core->arena);
	if (!fruitless) {
		resize->pause_ms = 0;
		return AT_ONCE;
	}
	resize->pause_ms = resize->pause_ms ? 2 * resize->pause_ms : RESIZE_PAUSE_MS_MIN;
	if (resize->pause_ms > RESIZE_PAUSE_MS_MAX)
		resize->pause_ms = RESIZE_PAUSE_MS_MAX;
	return core->now_ns + resize->pause_ms * NS_PER_MS;
}

static uint64_t trim(struct core *core)
{
	const struct core_host *host = core->host;
	struct arena *arena = &core->arena;
	uint64_t surplus = arena_surplus(arena);
	uint64_t shortage = arena_shortage(arena);

	if (surplus) {
		if (host->discard(core->context, surplus, KVP_EXTENT_BYTES) < 0)
			return give_up(core);
		arena_retire(arena, surplus);
		core->resize.sums.discarded_bytes += KVP_EXTENT_BYTES;
		counter_add(core, discarded_bytes_total, KVP_EXTENT_BYTES);
		return AT_ONCE;
	}
	if (shortage) {
		if (host->restore(core->context, shortage, KVP_EXTENT_BYTES) < 0)
			return give_up(core);
		arena_unretire(arena, shortage);
		return AT_ONCE;
	}
	return arena_extents_used(arena) > arena->extents_limit ? round_begin(core) : rest(core);
}

static uint64_t survey(struct core *core)
{
	return move_survey(core, &core->resize.cursor) ? phase_begin(core, RESIZE_EVICT) : AT_ONCE;
}

/* Extents can be emptied by eviction as long as a class has more of them than stuck ones. */
static bool eviction_helps(const struct arena *arena)
{
	uint32_t stuck = 0;

	for (size_t i = 0; i < ARENA_CLASSES_MAX; i++)
		stuck += arena->classes[i].stuck;
	return arena_extents_needed(arena) > stuck;
}

static bool evict_some(struct core *core)
{
	struct resize *resize = &core->resize;
	const struct arena *arena = &core->arena;
	unsigned batch = hazard_batch(core);
	bool more = true;

	for (unsigned n = 0; more && n < batch; n++) {
		uint64_t bytes;

		more = arena_extents_needed(arena) > arena->extents_limit && eviction_helps(arena) &&
		       evict_one(core, 0, KVP_FATE_EVICTED, &bytes);
		if (!more)
			break;
		resize->sums.evicted_blocks++;
		resize->sums.evicted_bytes += bytes;
		counter_add(core, evictions_resize_total, 1);
	}
	(void)limbo_collect(core);
	return more;
}

static uint64_t evict(struct core *core)
{
	struct arena *arena = &core->arena;
	uint32_t used;

	for (unsigned n = 0; n < EVICT_SLICE; n++) {
		if (evict_some(core))
			continue;
		used = arena_extents_used(arena);
		if (used > arena->extents_limit && arena_drain_begin(arena, used - arena->extents_limit) > 0)
			return phase_begin(core, RESIZE_MOVE);
		return phase_begin(core, RESIZE_TRIM);
	}
	return AT_ONCE;
}

static uint64_t move(struct core *core)
{
	if (!move_slice(core, &core->resize.cursor, &core->resize.sums.moved_bytes))
		return AT_ONCE;
	arena_drain_end(&core->arena);
	return phase_begin(core, RESIZE_TRIM);
}

static uint64_t step(struct core *core)
{
	switch (core->resize.phase) {
	case RESIZE_TRIM:
		return trim(core);
	case RESIZE_SURVEY:
		return survey(core);
	case RESIZE_EVICT:
		return evict(core);
	case RESIZE_MOVE:
		return move(core);
	default:
		return NEVER;
	}
}

/* One step a turn of the host's loop: "at once" is later than the tick that is going on. */
static void step_expire(struct core *core, struct deadline *deadline)
{
	uint64_t due_ns = step(core);

	stats_later(core);
	if (due_ns != NEVER)
		(void)deadline_arm(&core->deadlines, deadline, due_ns == AT_ONCE ? core->now_ns + 1 : due_ns);
}

/* ---- The limit ---- */

static void begin(struct core *core)
{
	struct resize *resize = &core->resize;
	uint32_t limit = resize->asked < resize->pressed ? resize->asked : resize->pressed;

	if (limit != core->arena.extents_limit) {
		if (resize->phase == RESIZE_MOVE)
			arena_drain_end(&core->arena);
		core->arena.extents_limit = limit;
		core->mrc.capacity = limit * KVP_EXTENT_BYTES;
		resize->phase = RESIZE_REST;
	}
	if (resize->phase != RESIZE_REST && deadline_armed(&resize->step))
		return;
	resize->sums = (struct resize_sums){ 0 };
	resize->pause_ms = 0;
	resize->used_begin = UINT32_MAX;
	(void)phase_begin(core, RESIZE_TRIM);
	(void)deadline_arm(&core->deadlines, &resize->step, core->now_ns);
}

void resize_ask(struct core *core, uint64_t bytes)
{
	core->resize.asked = extents_of(&core->arena, bytes);
	begin(core);
}

void core_press(struct core *core, uint64_t bytes, uint64_t now_ns)
{
	uint32_t pressed = bytes == UINT64_MAX ? UINT32_MAX : extents_of(&core->arena, bytes);

	kvp_assert(!core->resize.fixed);
	core->now_ns = now_ns;
	if (pressed < core->resize.pressed && pressed < core->arena.extents_limit)
		counter_add(core, memory_pressures_total, 1);
	core->resize.pressed = pressed;
	begin(core);
}

void core_note_pressure(struct core *core, bool watched)
{
	counter_set(core, pressure_watched, watched);
}

uint64_t core_held_bytes(const struct core *core)
{
	return arena_held_bytes(&core->arena);
}

uint64_t core_asked_bytes(const struct core *core)
{
	return bytes_of(&core->arena, core->resize.asked);
}

void resize_init(struct core *core, bool fixed)
{
	struct resize *resize = &core->resize;

	*resize = (struct resize){
		.fixed = fixed,
		.asked = core->arena.extents_count,
		.pressed = UINT32_MAX,
		.phase = RESIZE_REST,
		.step = { .expire = step_expire },
	};
	list_init(&resize->waits);
}
