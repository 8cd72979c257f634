/* SPDX-License-Identifier: Apache-2.0 */
/*
 * marks[block] is twice the number of the scan that last saw the block pinned, plus 1 if that pin shields it from
 * eviction. Resting blocks are a list through free_next, oldest first.
 */
#include "daemon/core/hazard.h"

#include "base/contract.h"
#include "base/units.h"
#include "daemon/core/curve.h"
#include "daemon/core/stats.h"
#include "daemon/core/tiering.h"
#include "daemon/core/verbs.h"

#include <errno.h>
#include <stdlib.h>

/* What the last scan saw is good enough to choose a victim for so long. */
#define MARKS_FRESH_NS NS_PER_MS

/* Records that cost a scan about as much as a block's removal does. */
#define RECORDS_PER_REMOVAL 8
#define HAZARD_BATCH_MAX 64

/* What one touch may stand for in the miss-ratio curve: a long prompt read between two scans. */
#define USES_PER_TOUCH_MAX 16

/* Blocks in limbo that one scan is followed up for. */
#define LIMBO_LOOK_MAX 512

/* A client's figures grow by less than this between two scans. */
#define TALLY_GROWTH_MAX (UINT64_C(1) << 42)

/* When to look again while something rests or somebody is silent. */
#define SCAN_SOON_MS 20

/* Between scans that only fetch touches: the shorter while there are any. */
#define DRAIN_MS_MIN 100
#define DRAIN_MS_MAX 1600

/* ---- Sessions ---- */

static uint32_t records_allowed(const struct core_session *session, uint32_t wanted)
{
	const struct core_limits *limits = &session->core->limits;
	uint32_t max = limits->pins_max / KVP_HAZARDS;
	uint32_t left = limits->pins_per_uid_max / KVP_HAZARDS;

	left = left > session->user->records ? left - session->user->records : 0;
	if (max > KVP_RECORDS_MAX)
		max = KVP_RECORDS_MAX;
	if (max > left)
		max = left;
	return wanted < max ? wanted : max;
}

/* The memory and the private half of it. Results: 0 or -ENOMEM. */
static int control_create(struct core_session *session, uint32_t records, uint64_t bytes)
{
	struct core *core = session->core;
	struct control *control = &session->control;
	struct record_seen *seen = calloc(records, sizeof(*seen));
	void *memory;
	int r = seen ? core->host->memory_create(core->context, session->peer, CORE_MEMORY_CONTROL, bytes, &memory)
		     : -ENOMEM;

	if (r < 0) {
		free(seen);
		return r;
	}
	*control = (struct control){
		.header = memory,
		.records = records,
		.bytes = bytes,
		.seen = seen,
	};
	list_init(&control->link);
	control->header->magic = KVP_CONTROL_MAGIC;
	control->header->version = KVP_CONTROL_VERSION;
	control->header->records_count = records;
	return 0;
}

void hazard_give(struct core_session *session, uint32_t records_wanted)
{
	struct core *core = session->core;
	uint32_t records = records_allowed(session, records_wanted);
	uint64_t bytes = kvp_control_bytes(records);

	if (records == 0)
		return;
	/* Armed as long as there are sessions with control memory: later it only moves, which cannot fail. */
	if (!deadline_armed(&core->scan_due) &&
	    deadline_arm(&core->deadlines, &core->scan_due, core->now_ns + DRAIN_MS_MIN * NS_PER_MS) < 0)
		return;
	if (!account_charge(&session->user->staging_bytes, bytes, core->limits.staging_bytes_per_uid_max))
		return;
	if (control_create(session, records, bytes) < 0) {
		account_discharge(&session->user->staging_bytes, bytes);
		return;
	}
	session->user->records += records;
	list_push_back(&core->controls, &session->control.link);
	counter_add(core, control_bytes, bytes);
}

/* As the client says, at most as many as there are. */
static uint32_t records_used(const struct control *control)
{
	uint32_t used = atomic_load_explicit(&control->header->records_used, memory_order_acquire);

	return used < control->records ? used : control->records;
}

/* Marks the blocks of n touches as used, and leaves those that were uses in used. Returns how many. */
static unsigned touches_take(struct core *core, const uint32_t *touched, uint32_t n, uint32_t *used)
{
	unsigned n_used = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t block = touched[i] & ~KVP_TOUCH_ASIDE;

		if (block < 1 || block > core->arena.blocks_count || core->blocks[block].state != BLOCK_LIVE)
			continue;
		block_touch(core, block);
		if (touched[i] & KVP_TOUCH_ASIDE)
			continue;
		tiering_read(core, block);
		used[n_used++] = block;
	}
	return n_used;
}

/*
 * Those uses that are known stand for all, up to a limit: the number is only what the client says. Without any they
 * wait for the next scan.
 */
static void uses_count(struct core *core, struct record_seen *seen, const uint32_t *used, unsigned n)
{
	double weight = n > 0 ? (double)seen->uses / n : 0;

	if (n == 0)
		return;
	seen->uses = 0;
	if (weight > USES_PER_TOUCH_MAX)
		weight = USES_PER_TOUCH_MAX;
	for (unsigned i = 0; i < n; i++)
		curve_use(core, used[i], weight);
	stats_later(core);
}

/* Marks what was read since the last scan as used, as far as the ring still tells. */
static void touches_drain(struct core *core, struct kvp_record *record, struct record_seen *seen)
{
	uint32_t now = atomic_load_explicit(&record->touches, memory_order_acquire);
	uint32_t asides = atomic_load_explicit(&record->asides, memory_order_relaxed);
	uint32_t fresh = now - seen->touches;
	uint32_t fresh_asides = asides - seen->asides;
	uint32_t touched[KVP_TOUCHES], used[KVP_TOUCHES];
	unsigned n_used;

	seen->touches = now;
	seen->asides = asides;
	seen->uses += fresh_asides < fresh ? fresh - fresh_asides : 0;
	counter_add(core, local_reads_total, fresh);
	core->touches_fresh += fresh;
	if (fresh > KVP_TOUCHES)
		fresh = KVP_TOUCHES;
	for (uint32_t i = 0; i < fresh; i++)
		touched[i] = atomic_load_explicit(&record->touched[(now - fresh + i) % KVP_TOUCHES],
						  memory_order_relaxed);
	n_used = touches_take(core, touched, fresh, used);
	uses_count(core, seen, used, n_used);
}

/* What grew since it was seen; a value that shrank is a lie, and so is one that grew beyond reason. */
static uint64_t growth(_Atomic uint64_t *word, uint64_t *seen)
{
	uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
	uint64_t fresh = now > *seen ? now - *seen : 0;

	*seen = now;
	return fresh <= TALLY_GROWTH_MAX ? fresh : 0;
}

static void tally_drain(struct core *core, struct kvp_codec_tally *tally, struct tally_seen *seen)
{
	counter_add(core, encode_bytes_total, growth(&tally->encode_bytes, &seen->encode_bytes));
	counter_add(core, encode_us_total, growth(&tally->encode_ns, &seen->encode_ns) / 1000);
	counter_add(core, decode_bytes_total, growth(&tally->decode_bytes, &seen->decode_bytes));
	counter_add(core, decode_us_total, growth(&tally->decode_ns, &seen->decode_ns) / 1000);
}

/* What a client's thread left word of since the last scan. */
static void record_drain(struct core *core, struct kvp_record *record, struct record_seen *seen)
{
	uint32_t misses = atomic_load_explicit(&record->misses, memory_order_relaxed);

	touches_drain(core, record, seen);
	counter_add(core, local_misses_total, misses - seen->misses);
	seen->misses = misses;
}

void hazard_void(struct core_session *session)
{
	struct control *control = &session->control;
	struct core *core = session->core;
	uint32_t used;

	if (!control->header || list_empty(&control->link))
		return;
	used = records_used(control); /* once: the client may write it meanwhile */
	for (uint32_t i = 0; i < used; i++)
		record_drain(core, &kvp_control_records(control->header)[i], &control->seen[i]);
	tally_drain(core, &control->header->tally, &control->tally_seen);
	atomic_store_explicit(&control->header->over, 1, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
	list_unlink(&control->link);
	core->scanned_ns = 0; /* what it found is not so any more */
	if (core->limbo_first)
		(void)deadline_arm(&core->deadlines, &core->scan_due, core->now_ns);
}

void hazard_take_back(struct core_session *session)
{
	struct control *control = &session->control;

	if (!control->header)
		return;
	kvp_assert(list_empty(&control->link));
	account_discharge(&session->user->staging_bytes, control->bytes);
	session->user->records -= control->records;
	counter_sub(session->core, control_bytes, control->bytes);
	free(control->seen);
	*control = (struct control){ 0 };
}

bool hazard_grace(const struct core *core)
{
	return core->now_ns < core->grace_end_ns;
}

bool hazard_possible(const struct core *core)
{
	return !list_empty(&core->controls) || hazard_grace(core);
}

int hazard_grace_begin(struct core *core)
{
	uint64_t end_ns = core->now_ns + core->limits.restart_grace_ms * NS_PER_MS;
	int r = deadline_arm(&core->deadlines, &core->scan_due, core->now_ns + SCAN_SOON_MS * NS_PER_MS);

	if (r == 0)
		core->grace_end_ns = end_ns;
	return r;
}

/* ---- Scan ---- */

static uint64_t grace_ns(const struct core *core)
{
	return core->limits.pin_grace_ms * NS_PER_MS;
}

/*
 * Somebody would have this block's memory if it were not pinned. A victim that was passed over is not looked at again
 * for long; until a silent session has had its time it counts as wanted.
 */
static bool wanted(const struct core *core, const struct block *b)
{
	if (b->state == BLOCK_LIMBO)
		return b->leases == 0 && b->ties == 0;
	return b->wanted_ns != 0 && core->now_ns - b->wanted_ns <= 2 * grace_ns(core);
}

static void block_mark(struct core *core, struct core_session *session, uint32_t block)
{
	const struct block *b = &core->blocks[block];
	struct user *user = session->user;

	if (b->state == BLOCK_FREE)
		return;
	if (core->marks[block] >> 1 != core->scan) {
		core->marks[block] = core->scan << 1;
		core->blocks_named++;
	}
	/* The first who may pin it shields it, for all; nobody is greedy by the measure of another. */
	if (!(core->marks[block] & 1)) {
		user->hazard_bytes += block_pin_cost(core, block);
		if (user->hazard_bytes + user->pinned_bytes <= core->limits.pinned_bytes_per_uid_max)
			core->marks[block] |= 1;
		else
			session->control.greedy = true;
	}
	session->control.wanted |= wanted(core, b);
}

static void record_scan(struct core *core, struct core_session *session, struct kvp_record *record,
			struct record_seen *seen)
{
	for (unsigned i = 0; i < KVP_HAZARDS; i++) {
		uint32_t block = atomic_load_explicit(&record->hazard[i], memory_order_acquire);

		if (block >= 1 && block <= core->arena.blocks_count)
			block_mark(core, session, block);
	}
	record_drain(core, record, seen);
	session->control.life_now += seen->touches + atomic_load_explicit(&record->beats, memory_order_relaxed);
}

static void session_scan(struct core *core, struct core_session *session)
{
	struct control *control = &session->control;
	uint32_t used = records_used(control);
	struct kvp_record *records = kvp_control_records(control->header);

	control->wanted = false;
	control->greedy = false;
	control->life_now = 0;
	for (uint32_t i = 0; i < used; i++)
		record_scan(core, session, &records[i], &control->seen[i]);
	tally_drain(core, &control->header->tally, &control->tally_seen);
	core->records_used += used;
}

/* Ends the session if it is stuck. Returns whether it must be watched. */
static bool session_judge(struct core *core, struct core_session *session)
{
	struct control *control = &session->control;
	bool alive = control->life_now != control->life || control->asked;

	control->life = control->life_now;
	control->asked = false;
	if (!control->wanted) {
		control->silent_since_ns = 0;
		return false;
	}
	if (control->silent_since_ns == 0 || (alive && !control->greedy)) {
		control->silent_since_ns = core->now_ns;
	} else if (core->now_ns - control->silent_since_ns >= grace_ns(core)) {
		counter_add(core, sessions_stuck_total, 1);
		session_end(session, control->greedy ? "it pins more than its user may, and the memory is wanted"
						     : "it pins memory that is wanted and shows no sign of life");
	}
	return true;
}

static void scan_begin(struct core *core)
{
	core->scan++;
	if (core->scan > UINT32_MAX >> 1) {
		for (uint32_t block = 0; block <= core->arena.blocks_count; block++)
			core->marks[block] = 0;
		core->scan = 1;
	}
	core->scanned_ns = core->now_ns;
	core->records_used = 0;
	core->blocks_named = 0;
	core->touches_fresh = 0;
	list_for_each(node, &core->users)
		list_entry(node, struct user, link)->hazard_bytes = 0;
	/* What was removed before this is seen as removed by every reader whose hazard is not seen below. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* Returns whether a session must be watched. */
static bool scan(struct core *core)
{
	bool watch = false;

	scan_begin(core);
	list_for_each(node, &core->controls)
		session_scan(core, list_entry(node, struct core_session, control.link));
	list_for_each_safe(node, after, &core->controls)
		watch |= session_judge(core, list_entry(node, struct core_session, control.link));
	counter_add(core, hazard_scans_total, 1);
	counter_set(core, blocks_pinned, core->blocks_named);
	counter_set(core, reader_records, core->records_used);
	return watch;
}

static bool named(const struct core *core, uint32_t block)
{
	return core->marks[block] >> 1 == core->scan;
}

void hazard_look(struct core *core)
{
	if (hazard_possible(core) && (core->scanned_ns == 0 || core->now_ns - core->scanned_ns > MARKS_FRESH_NS))
		(void)scan(core);
}

void hazard_scan(struct core *core)
{
	if (hazard_possible(core))
		(void)scan(core);
}

bool hazard_names(const struct core *core, uint32_t block)
{
	return hazard_possible(core) && named(core, block);
}

bool hazard_shields(struct core *core, uint32_t block)
{
	if (!hazard_possible(core) || !named(core, block) || !(core->marks[block] & 1))
		return false;
	core->blocks[block].wanted_ns = core->now_ns;
	return true;
}

unsigned hazard_batch(const struct core *core)
{
	uint32_t batch = 1 + core->records_used / RECORDS_PER_REMOVAL;

	return batch < HAZARD_BATCH_MAX ? batch : HAZARD_BATCH_MAX;
}

/* ---- Limbo ---- */

/* To the end of the list. */
static void limbo_push(struct core *core, uint32_t block)
{
	core->blocks[block].free_next = 0;
	if (core->limbo_last)
		core->blocks[core->limbo_last].free_next = block;
	else
		core->limbo_first = block;
	core->limbo_last = block;
}

static uint32_t limbo_pop(struct core *core)
{
	uint32_t block = core->limbo_first;

	core->limbo_first = core->blocks[block].free_next;
	if (!core->limbo_first)
		core->limbo_last = 0;
	return block;
}

void limbo_add(struct core *core, uint32_t block)
{
	kvp_assert(core->blocks[block].state == BLOCK_LIMBO && core->blocks[block].leases == 0 &&
		   core->blocks[block].ties == 0);
	limbo_push(core, block);
	if (core->scan_due.when_ns > core->now_ns + SCAN_SOON_MS * NS_PER_MS)
		(void)deadline_arm(&core->deadlines, &core->scan_due, core->now_ns + SCAN_SOON_MS * NS_PER_MS);
}

/* Those that are still named go to the end, so that many of them cost no more at a time than LIMBO_LOOK_MAX. */
static bool limbo_bury(struct core *core)
{
	uint32_t last = core->limbo_last;
	bool buried = false;

	if (hazard_grace(core))
		return false;
	for (unsigned looked = 0; core->limbo_first && looked < LIMBO_LOOK_MAX; looked++) {
		uint32_t block = limbo_pop(core);

		if (named(core, block)) {
			limbo_push(core, block);
		} else {
			block_leave_limbo(core, block);
			buried = true;
		}
		if (block == last)
			break;
	}
	return buried;
}

/* Whether to watch goes to ret_watch. */
static bool collect(struct core *core, bool *ret_watch)
{
	*ret_watch = scan(core);
	return limbo_bury(core);
}

bool limbo_collect(struct core *core)
{
	bool watch;

	return core->limbo_first && collect(core, &watch);
}

static uint64_t drain_pause_ms(struct core *core)
{
	if (core->touches_fresh > 0 || core->drain_ms == 0)
		core->drain_ms = DRAIN_MS_MIN;
	else if (core->drain_ms < DRAIN_MS_MAX)
		core->drain_ms *= 2;
	return core->drain_ms;
}

static void scan_expire(struct core *core, struct deadline *deadline)
{
	bool watch;
	uint64_t pause_ms;

	(void)collect(core, &watch);
	pause_ms = drain_pause_ms(core);
	if (!hazard_possible(core) && !core->limbo_first)
		return;
	if ((watch || core->limbo_first) && pause_ms > SCAN_SOON_MS)
		pause_ms = SCAN_SOON_MS;
	(void)deadline_arm(&core->deadlines, deadline, core->now_ns + pause_ms * NS_PER_MS);
}

void hazard_init(struct core *core)
{
	list_init(&core->controls);
	core->scan_due.expire = scan_expire;
}
