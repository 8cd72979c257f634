/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives shared memory back away from the loop: freeing a session's memory takes the kernel over a
 * millisecond for a few MiB, and nobody waits for it. libuv's thread pool does it; the loop does not end before
 * it is done.
 */
#pragma once

#include <uv.h>

#include "daemon/host/segment.h"

/* Takes the segment over, which becomes empty. Without memory for the task it is closed at once. */
void reaper_take(uv_loop_t *loop, struct segment *segment);
