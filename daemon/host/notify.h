/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells systemd, or whoever understands sd_notify(3), how we are: ready, reloading, stopping, and in one line what is
 * held. Silent when nobody wants to know.
 *
 * The watchdog is fed by a timer of the loop, twice in the time that it waits. So it is fed only as long as the loop
 * turns: a callback that does not come back, a write to a log that nobody reads, a stopped process all end it, and
 * whoever supervises us acts. That turns go on but serve nobody is not found by it; limits.slice_bytes bounds what one
 * turn does.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "daemon/host/segment.h"

#define NOTIFY_STATUS_BYTES 128

struct server;

struct notify {
	struct server *server;
	uv_timer_t watchdog;
	uv_timer_t status;
	char said[NOTIFY_STATUS_BYTES]; /* the last status */
};

/*
 * Begins to feed the watchdog and to tell the status when it has changed, if somebody wants it. The timers are closed
 * with the loop's other handles.
 */
void notify_init(struct notify *notify, struct server *server);

/* It serves: at the start, and again after notify_reloading(). */
void notify_ready(struct notify *notify);

/* SIGHUP is being acted on. */
void notify_reloading(void);

/* It stops, and may take so long. The watchdog is still fed. */
void notify_stopping(struct notify *notify, uint64_t drain_ms);

/* It has stopped. The last that is told. */
void notify_stopped(void);

/* It will not start, for this reason. The last that is told. */
void notify_failed(const char *reason);

/* So much of the arena is allocated: the start goes on and takes longer than others. A segment_progress_fn. */
void notify_allocating(uint64_t bytes_done, uint64_t bytes);
