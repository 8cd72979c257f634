/* SPDX-License-Identifier: Apache-2.0 */
/* What writers and readers have in common; see torture.h. */
#include "tests/torture/torture.h"

#include "tests/e2e/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define HOT_BLOCKS (2 * PATTERN_CHAIN)
#define AWAY_PAUSE_MS 5

void torture_wrong(const struct worker *worker, const char *format, ...)
{
	char text[512];
	va_list list;

	va_start(list, format);
	(void)vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	(void)dprintf(STDERR_FILENO, "WRONG (seed %" PRIu64 ", %s %u, life %" PRIu64 "): %s\n", worker->torture->seed,
		      worker->writes ? "writer" : "reader", worker->number, worker->incarnation, text);
	(void)atomic_fetch_add(&worker->torture->wrong, 1);
	_exit(1);
}

void torture_wrong_place(const struct worker *worker, const struct pattern_block *block, uint64_t generation,
			 const struct pattern_place *place, const char *what)
{
	torture_wrong(worker,
		      "%s: space %s block %u (%u tokens) generation %" PRIu64
		      ": %c layer %u head %u token %u channel %u: %g, wanted %g",
		      what, block->space->name, block->number, block->tokens, generation, place->which, place->layer,
		      place->head, place->token, place->channel, (double)place->got, (double)place->wanted);
}

static bool away(int result)
{
	switch (result) {
	case -ENOTCONN:
	case -ECONNRESET:
	case -ECONNREFUSED:
	case -ENOENT:
	case -EACCES: /* between bind() and chmod() */
	case -EPIPE:
	case -ETIMEDOUT:
	case KVC_STOPPING:
	case KVC_QUOTA: /* those who were killed a moment ago are still counted */
	case KVC_TOO_MANY: /* the client's other threads have all pins */
		return true;
	default:
		return false;
	}
}

bool worker_answered(const struct worker *worker, int result, const char *call)
{
	if (result == KVC_OK)
		return true;
	if (!away(result))
		torture_wrong(worker, "%s: %d (%s)", call, result, kvc_strerror(result));
	tally_add(worker->torture, TALLY_LOST, 1);
	pause_ms(AWAY_PAUSE_MS);
	return false;
}

/* Each worker in another order, so that a space has another number with each daemon. */
static bool spaces_open(const struct worker *worker, kvc_client *client, kvc_space *ret_spaces[PATTERN_SPACES])
{
	for (unsigned n = 0; n < PATTERN_SPACES; n++) {
		unsigned i = (unsigned)((worker->random + n) % PATTERN_SPACES);
		const struct pattern_space *space = &pattern_spaces[i];
		int r;

		do
			r = kvc_space_open(client, space->name, &space->schema, &ret_spaces[i]);
		while (!worker_answered(worker, r, "kvc_space_open") && !torture_over(worker->torture));
		if (r != KVC_OK)
			return false;
	}
	return true;
}

kvc_client *worker_open(const struct worker *worker, const struct kvc_options *options,
			kvc_space *ret_spaces[PATTERN_SPACES])
{
	kvc_client *client = NULL;
	int r;

	do
		r = kvc_open(options, &client, NULL, 0);
	while (!worker_answered(worker, r, "kvc_open") && !torture_over(worker->torture));
	if (r == KVC_OK && !spaces_open(worker, client, ret_spaces))
		client = kvc_close(client);
	return r == KVC_OK ? client : NULL;
}

static unsigned choose(uint64_t bits, bool hot, struct pattern_block *ret_block)
{
	unsigned space = (unsigned)(bits % PATTERN_SPACES);
	uint32_t below = hot ? HOT_BLOCKS : pattern_spaces[space].blocks;

	pattern_block_of(space, (uint32_t)(bits >> 32) % below, ret_block);
	return space;
}

unsigned worker_choose(uint64_t *random, struct pattern_block *ret_block)
{
	uint64_t bits = random_next(random);

	return choose(bits, (bits >> 8) % 3 == 0, ret_block);
}

unsigned worker_choose_hot(uint64_t *random, struct pattern_block *ret_block)
{
	return choose(random_next(random), true, ret_block);
}
