/* SPDX-License-Identifier: Apache-2.0 */
/* The status is read from the arena's counters, as a client would read them; the core is not asked. */
#include "daemon/host/notify.h"

#include "base/text.h"
#include "base/units.h"
#include "daemon/host/error.h"
#include "daemon/host/server.h"
#include "daemon/host/systemd.h"
#include "proto/layout.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define STATUS_MS 5000

/* How long one step of allocating the arena may take, and how long the end may take beyond stop.drain_ms. */
#define STEP_US 60000000u


__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
	char text[4 * HOST_ERROR_TEXT_BYTES + 64];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	systemd_tell(text, /* last= */ false);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void describe(const struct segment *arena, char text[NOTIFY_STATUS_BYTES])
{
	const struct kvp_arena_header *header = arena->memory;
	const struct kvp_counters *counters =
		(const void *)((const uint8_t *)arena->memory + header->counters_offset);
	uint64_t sessions = load(&counters->sessions);
	uint64_t used = arena->bytes - load(&counters->free_bytes) - load(&counters->retired_bytes);
	char used_text[16], all_text[16];

	(void)snprintf(text, NOTIFY_STATUS_BYTES, "%" PRIu64 " session%s, %s of %s used", sessions,
		       sessions == 1 ? "" : "s", units_format_bytes(used, used_text, sizeof(used_text)),
		       units_format_bytes(arena->bytes, all_text, sizeof(all_text)));
}

static void on_watchdog(uv_timer_t *timer)
{
	struct notify *notify = timer->data;

	(void)server_turn(notify->server);
	tell("WATCHDOG=1");
}

static void on_status(uv_timer_t *timer)
{
	struct notify *notify = timer->data;
	char text[NOTIFY_STATUS_BYTES];

	(void)server_turn(notify->server);
	describe(notify->server->arena, text);
	if (strcmp(text, notify->said) == 0)
		return;
	memcpy(notify->said, text, sizeof(text));
	tell("STATUS=%s", text);
}

void notify_init(struct notify *notify, struct server *server)
{
	uint64_t watchdog_us = systemd_take_watchdog_us();

	*notify = (struct notify){ .server = server };
	(void)uv_timer_init(&server->loop, &notify->watchdog);
	(void)uv_timer_init(&server->loop, &notify->status);
	notify->watchdog.data = notify;
	notify->status.data = notify;
	if (!systemd_is_told())
		return;
	(void)uv_timer_start(&notify->status, on_status, STATUS_MS, STATUS_MS);
	if (watchdog_us > 0)
		(void)uv_timer_start(&notify->watchdog, on_watchdog, 0, (watchdog_us / 2 + 999) / 1000);
}

void notify_ready(struct notify *notify)
{
	describe(notify->server->arena, notify->said);
	tell("READY=1\nSTATUS=%s", notify->said);
}

/* Since 253, units of Type=notify-reload compare the time with that of the signal. */
void notify_reloading(void)
{
	tell("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, uv_hrtime() / NS_PER_US);
}

void notify_stopping(struct notify *notify, uint64_t drain_ms)
{
	(void)uv_timer_stop(&notify->status);
	tell("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%" PRIu64, drain_ms * 1000 + STEP_US);
}

void notify_stopped(void)
{
	systemd_tell("STATUS=stopped", /* last= */ true);
}

/* A line break in the reason would begin an assignment of its own. */
void notify_failed(const char *reason)
{
	char text[4 * HOST_ERROR_TEXT_BYTES];

	tell("STATUS=%s", text_escape(reason, strlen(reason), text, sizeof(text)));
}

void notify_allocating(uint64_t bytes_done, uint64_t bytes)
{
	char done_text[16], all_text[16];

	tell("EXTEND_TIMEOUT_USEC=%u\nSTATUS=allocating the arena: %s of %s", STEP_US,
	     units_format_bytes(bytes_done, done_text, sizeof(done_text)),
	     units_format_bytes(bytes, all_text, sizeof(all_text)));
}
