/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page server's core under three clients that do anything: requests made of the input's choices, any bytes as
 * a message, noise in the memory that is shared with the daemon, connections that begin and end, time that passes.
 * All invariants are audited after each step, and nothing may be left when the last client has gone.
 *
 * Input: five bytes (limits, see world_start()), then steps.
 */
#include "tests/fuzz/core-world.h"

#include "base/contract.h"
#include "base/units.h"
#include "proto/limits.h"

#define STEPS_MAX 256u

enum step {
	STEP_REQUEST, /* many of these: see step_of() */
	STEP_RAW,
	STEP_CONNECT,
	STEP_DISCONNECT,
	STEP_RUN,
	STEP_TIME,
	STEP_STAGING,
	STEP_CONTROL,
	STEP_HOST,
	_STEP_MAX,
};

static enum step step_of(uint8_t byte)
{
	return byte < 0x90 ? STEP_REQUEST : STEP_RAW + byte % (_STEP_MAX - STEP_RAW);
}

static void raw_step(struct world_session *session, struct take *take)
{
	size_t n;
	const uint8_t *bytes = take_bytes(take, take_u8(take), &n);

	world_send(session, bytes, n);
}

static void time_step(struct world *world, struct take *take)
{
	static const uint64_t ms[] = { 0, 1, 99, 100, 1000, 10000, 30000, 60000, 600000, 86400000 };

	world->now_ns += ms[take_u8(take) % (sizeof(ms) / sizeof(ms[0]))] * NS_PER_MS;
	(void)core_deadline_ns(world->core);
	core_tick(world->core, world->now_ns);
}

static void staging_step(struct world_session *session, struct take *take)
{
	uint64_t offset = take_number(take);
	size_t n;
	const uint8_t *bytes = take_bytes(take, take_below(take, 16), &n);

	if (session->staging && n > 0 && offset < session->staging_bytes && n <= session->staging_bytes - offset)
		memcpy(session->staging + offset, bytes, n);
}

/* A hazard, a touch, or any word of the control memory. */
static void control_step(struct world_session *session, struct take *take)
{
	uint8_t choice = take_u8(take);
	uint32_t place = take_u8(take);
	uint32_t value = (uint32_t)take_number(take);
	struct kvp_record *record;

	if (!session->control)
		return;
	record = kvp_control_records(session->control);
	if (choice < 0x60) {
		atomic_store(&record->hazard[place % KVP_HAZARDS], value);
		atomic_store(&session->control->records_used, 1);
	} else if (choice < 0xc0) {
		atomic_store(&record->touched[atomic_load(&record->touches) % KVP_TOUCHES], value);
		atomic_fetch_add(&record->touches, 1);
		atomic_store(&session->control->records_used, 1);
	} else {
		memcpy((uint8_t *)session->control + (place * 4 + (choice & 3) * 1024) % session->control_bytes, &value,
		       sizeof(value));
	}
}

/* The tier does something, or will do it badly. */
static void tier_step(struct world *world, struct take *take)
{
	uint8_t choice = take_u8(take);

	if (!world->has_tier)
		return;
	if (choice < 0x80)
		(void)tier_memory_step(&world->tier, choice % 4);
	else if (choice < 0xa0)
		(void)tier_memory_drop(&world->tier, choice % 4);
	else if (choice < 0xc0)
		world->tier.fail_stores = choice % 4;
	else if (choice < 0xe0)
		world->tier.fail_pages = choice % 4;
	else
		world->tier.flip_pages = choice % 4;
}

/* The machine is short of memory, or gives none back, or none out. */
static void press_step(struct world *world, struct take *take)
{
	uint8_t choice = take_u8(take);

	if (choice < 0x40)
		world->refuse_discard = choice & 1;
	else if (choice < 0x80)
		world->refuse_restore = choice & 1;
	else if (!world->fixed)
		core_press(world->core, choice < 0xc0 ? UINT64_MAX : take_number(take), world->now_ns);
}

/* What the daemon itself does now and then. */
static void host_step(struct world *world, struct world_session *session, struct take *take)
{
	uint64_t turn_ns, cpu_ns;

	switch (take_below(take, 9)) {
	case 0:
		core_refresh(world->core, world->now_ns);
		break;
	case 1:
		turn_ns = take_number(take);
		cpu_ns = take_number(take);
		core_note_turn(world->core, turn_ns, cpu_ns);
		break;
	case 2:
		core_note_http(world->core, take_below(take, 2));
		break;
	case 3:
		if (session->session && !session->hung_up)
			core_session_fault(session->session, "a frame of bad length");
		break;
	case 4:
		world->refuse_memory = !world->refuse_memory;
		break;
	case 5:
		if (take_u8(take) == 0xff)
			core_stop(world->core);
		break;
	case 6:
		tier_step(world, take);
		break;
	case 7:
		press_step(world, take);
		break;
	default:
		kvp_assert(!session->session || core_session_in_flight(session->session) <= KVP_REQUESTS_IN_FLIGHT_MAX);
		break;
	}
}

static void step(struct world *world, struct take *take)
{
	uint8_t byte = take_u8(take);
	struct world_session *session = &world->sessions[byte % WORLD_SESSIONS];

	switch (step_of(take_u8(take))) {
	case STEP_REQUEST:
		world_request(session, take);
		break;
	case STEP_RAW:
		raw_step(session, take);
		break;
	case STEP_CONNECT:
		world_connect(world, byte % WORLD_SESSIONS, 1000 + (byte >> 7));
		break;
	case STEP_DISCONNECT:
		world_disconnect(session);
		break;
	case STEP_RUN:
		(void)core_run(world->core, world->now_ns);
		break;
	case STEP_TIME:
		time_step(world, take);
		break;
	case STEP_STAGING:
		staging_step(session, take);
		break;
	case STEP_CONTROL:
		control_step(session, take);
		break;
	default:
		host_step(world, session, take);
		break;
	}
	if (byte & 0x40) /* most of the time the daemon keeps up */
		world_run(world);
	if (session->session && session->hung_up)
		world_disconnect(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct take take = { .bytes = data, .left = size };
	struct world world;

	world_start(&world, &take);
	for (unsigned i = 0; i < WORLD_SESSIONS; i++)
		world_connect(&world, i, 1000 + i / 2);
	for (unsigned steps = 0; take.left > 0 && steps < STEPS_MAX; steps++) {
		step(&world, &take);
		world_audit(&world);
	}
	world_stop(&world);
	return 0;
}
