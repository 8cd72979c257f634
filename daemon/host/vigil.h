/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a request the loop stays awake for a while, when the next one usually comes soon (base/spin.h): an idle handle
 * that is active keeps libuv's poll from sleeping. Turns in which nothing comes are not turns that anybody counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/spin.h"

struct vigil {
	uv_idle_t idle;
	struct spin spin;
	bool came;         /* requests since vigil_begin() */
	uint64_t until_ns; /* how long to stay awake, while the handle is active */
};

/* The handle is closed with the loop's others. */
void vigil_init(struct vigil *vigil, uv_loop_t *loop, uint32_t spin_us);

/* A request came. */
void vigil_note(struct vigil *vigil);

/* The loop was busy with something else, which is no waiting: what came meanwhile is found by the next poll. */
void vigil_pardon(struct vigil *vigil);

/* Requests are answered, if any came, and the loop is about to poll. */
void vigil_begin(struct vigil *vigil);
