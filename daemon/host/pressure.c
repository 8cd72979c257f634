/* SPDX-License-Identifier: Apache-2.0 */
/* Less at a sign, more after calm. */
#include "daemon/host/pressure.h"

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void pressure_init(struct pressure *pressure, uint64_t bytes, uint64_t least)
{
	*pressure = (struct pressure){
		.bytes = bytes,
		.least = least ? least : bytes / 4,
		.wanted = PRESSURE_NONE,
		.grow_ns = UINT64_MAX,
	};
}

static void shrink(struct pressure *pressure, const struct pressure_sight *sight, uint64_t now_ns)
{
	uint64_t step = pressure->bytes / PRESSURE_STEPS;
	uint64_t base = lesser(lesser(pressure->wanted, sight->asked_bytes), sight->touched_bytes);
	uint64_t wanted = base > pressure->least + step ? base - step : pressure->least;

	if (pressure->shrunk_ns != 0 && now_ns - pressure->shrunk_ns < PRESSURE_STEP_NS)
		return;
	/* What readers hold takes its time: more would not come sooner. */
	if (pressure->wanted != PRESSURE_NONE && sight->held_bytes > pressure->wanted)
		return;
	if (wanted >= lesser(pressure->wanted, sight->asked_bytes))
		return;
	pressure->wanted = wanted;
	pressure->shrunk_ns = now_ns;
}

static void grow(struct pressure *pressure, const struct pressure_sight *sight, uint64_t now_ns)
{
	if (now_ns < pressure->grow_ns)
		return;
	pressure->wanted += pressure->bytes / PRESSURE_STEPS;
	pressure->grow_ns = now_ns + PRESSURE_GROW_NS;
	if (pressure->wanted >= lesser(pressure->bytes, sight->asked_bytes)) {
		pressure->wanted = PRESSURE_NONE;
		pressure->grow_ns = UINT64_MAX;
	}
}

uint64_t pressure_next(struct pressure *pressure, enum pressure_event event, const struct pressure_sight *sight,
		       uint64_t now_ns)
{
	if (event == PRESSURE_SIGN) {
		shrink(pressure, sight, now_ns);
		if (pressure->wanted != PRESSURE_NONE)
			pressure->grow_ns = now_ns + PRESSURE_CALM_NS;
	} else if (pressure->wanted != PRESSURE_NONE) {
		grow(pressure, sight, now_ns);
	}
	return pressure->wanted;
}

uint64_t pressure_due_ns(const struct pressure *pressure)
{
	return pressure->grow_ns;
}
