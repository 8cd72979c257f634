/* SPDX-License-Identifier: Apache-2.0 */
/* The list of steps: step i follows from seed and i alone. Written as text it can be run without the generator. */
#include "tests/sim/sim.h"

#include "base/contract.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[SIM_VERB_COUNT] = {
#define X(name, text) [SIM_##name] = text,
	SIM_VERBS(X)
#undef X
};

const char *sim_verb_name(enum sim_verb verb)
{
	return verb < SIM_VERB_COUNT ? names[verb] : "?";
}

static enum sim_verb verb_choose(const struct sim_setup *setup, uint64_t random)
{
	uint32_t sum = 0;

	for (unsigned verb = 0; verb < SIM_VERB_COUNT; verb++)
		sum += setup->weights[verb];
	random %= sum;
	for (unsigned verb = 0; verb < SIM_VERB_COUNT; verb++) {
		if (random < setup->weights[verb])
			return (enum sim_verb)verb;
		random -= setup->weights[verb];
	}
	kvp_unreachable();
}

/* Two shapes of a space cannot be live at once: one of them is rare. */
static uint32_t space_choose(const struct sim_setup *setup, uint32_t random)
{
	return random % setup->names * SIM_SHAPES + (random >> 8) % 32 / 31;
}

void sim_steps_make(const struct sim_setup *setup, uint32_t n, struct sim_steps *ret_steps)
{
	*ret_steps = (struct sim_steps){ .steps = calloc(n ? n : 1, sizeof(*ret_steps->steps)), .n = n };
	kvp_assert(ret_steps->steps);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t random = sim_mix(setup->seed, i + UINT64_C(1000));

		ret_steps->steps[i] = (struct sim_step){
			.verb = verb_choose(setup, disk_memory_random(&random) >> 8),
			.peer = (uint32_t)disk_memory_random(&random) % setup->peers,
			.space = space_choose(setup, (uint32_t)disk_memory_random(&random)),
			.key = (uint32_t)disk_memory_random(&random) % setup->keys,
			.n = (uint32_t)disk_memory_random(&random) % 16,
			.value = (uint32_t)(disk_memory_random(&random) >> 40),
			.order = (uint32_t)(disk_memory_random(&random) >> 40),
		};
	}
}

void sim_step_print(FILE *file, uint32_t number, const struct sim_step *step)
{
	fprintf(file, "%6u %-10s peer %u space %u key %u n %u value %u order %u\n", number, sim_verb_name(step->verb),
		step->peer, step->space, step->key, step->n, step->value, step->order);
}

void sim_steps_write(FILE *file, uint64_t seed, const struct sim_steps *steps)
{
	fprintf(file, "seed %" PRIu64 "\n", seed);
	for (uint32_t i = 0; i < steps->n; i++)
		sim_step_print(file, i, &steps->steps[i]);
}

static int line_parse(const char *line, struct sim_step *step)
{
	char name[24];
	unsigned number;

	if (sscanf(line, "%u %23s peer %u space %u key %u n %u value %u order %u", &number, name, &step->peer,
		   &step->space, &step->key, &step->n, &step->value, &step->order) != 8)
		return -EINVAL;
	for (unsigned verb = 0; verb < SIM_VERB_COUNT; verb++) {
		if (strcmp(names[verb], name) == 0) {
			step->verb = (enum sim_verb)verb;
			return 0;
		}
	}
	return -EINVAL;
}

int sim_steps_read(FILE *file, uint64_t *ret_seed, struct sim_steps *ret_steps)
{
	struct sim_steps steps = { 0 };
	uint32_t capacity = 0;
	char line[256];
	bool seeded = false;

	while (fgets(line, sizeof(line), file)) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (!seeded) {
			if (sscanf(line, "seed %" SCNu64, ret_seed) != 1)
				break;
			seeded = true;
			continue;
		}
		if (steps.n == capacity) {
			capacity = capacity ? 2 * capacity : 64;
			steps.steps = reallocarray(steps.steps, capacity, sizeof(*steps.steps));
			kvp_assert(steps.steps);
		}
		if (line_parse(line, &steps.steps[steps.n++]) < 0) {
			free(steps.steps);
			return -EINVAL;
		}
	}
	*ret_steps = steps;
	return seeded ? 0 : -EINVAL;
}
