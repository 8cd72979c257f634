/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl events: what happened to blocks, from the daemon's memory of it, and with --follow what happens. A line is an
 * event with its number, from which a later run can go on.
 */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define EVENTS_MAX 512
#define WAIT_MS 500

/* With --follow a daemon that is gone is looked for; each attempt takes at most so long. */
#define TIMEOUT_MS 1000

struct args {
	const char *space;
	uint64_t after;
	uint64_t incarnation;
	bool follow;
};

static const struct option_spec options[] = {
	{ "space", 0, OPTION_TEXT, "NAME", "only events of this space", offsetof(struct args, space), 0 },
	{ "after", 'a', OPTION_NUMBER, "N", "those after number N (default: all remembered; with --follow: new ones)",
	  offsetof(struct args, after), 0 },
	{ "incarnation", 0, OPTION_NUMBER, "N", "of the daemon that counted to --after, as --json tells it",
	  offsetof(struct args, incarnation), 0 },
	{ "follow", 'f', OPTION_FLAG, NULL, "go on as events happen, until interrupted", offsetof(struct args, follow),
	  0 },
	{ 0 },
};

static const char *kind_name(int kind)
{
	switch (kind) {
	case KVC_EVENT_STORED:
		return "stored";
	case KVC_EVENT_REMOVED:
		return "removed";
	case KVC_EVENT_CLEARED:
		return "cleared";
	default:
		return "?";
	}
}

static void print_json(const struct kvc_event *event, uint64_t incarnation)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_u64(&json, "incarnation", incarnation);
	json_kv_u64(&json, "number", event->number);
	json_kv_string(&json, "event", kind_name(event->kind));
	json_kv_string(&json, "space", event->space);
	if (event->key_n > 0)
		json_kv_key(&json, event->key, event->key_n);
	if (event->kind == KVC_EVENT_STORED)
		json_kv_u64(&json, "tokens", event->tokens);
	if (event->kind == KVC_EVENT_REMOVED)
		json_kv_string(&json, "reason", kvc_fate_word(event->reason));
	json_object_end(&json);
	json_finish(&json);
}

static void print_text(const struct kvc_event *event)
{
	char space[PRINTABLE_BYTES];
	char key[PRINTABLE_BYTES];

	(void)printf("%10" PRIu64 "  %-8s %s", event->number, kind_name(event->kind),
		     event->space[0] ? printable(event->space, strlen(event->space), space) : "?");
	if (event->key_n > 0)
		(void)printf("  %s", printable_key(event->key, event->key_n, key));
	if (event->kind == KVC_EVENT_STORED)
		(void)printf("  %" PRIu32 " tokens", event->tokens);
	if (event->kind == KVC_EVENT_REMOVED)
		(void)printf("  %s", kvc_fate_word(event->reason));
	(void)putchar('\n');
}

/* What the numbers alone do not show. */
static void print_gap(struct ctl *ctl, const struct kvc_event_cursor *cursor)
{
	struct json json = json_stdout();

	if (!cursor->restarted && cursor->lost == 0)
		return;
	if (!ctl->json) {
		if (cursor->restarted)
			(void)puts("-- the daemon was restarted: numbers begin anew, blocks may be gone");
		if (cursor->lost)
			(void)printf("-- %" PRIu64 " events are forgotten\n", cursor->lost);
		return;
	}
	json_object_begin(&json);
	json_kv_u64(&json, "incarnation", cursor->incarnation);
	json_kv_bool(&json, "restarted", cursor->restarted);
	json_kv_u64(&json, "lost", cursor->lost);
	json_object_end(&json);
	json_finish(&json);
}

static void print(struct ctl *ctl, const struct args *args, const struct kvc_event_cursor *cursor,
		  const struct kvc_event *events, size_t n)
{
	print_gap(ctl, cursor);
	for (size_t i = 0; i < n; i++) {
		if (args->space && strcmp(events[i].space, args->space) != 0)
			continue;
		if (ctl->json)
			print_json(&events[i], cursor->incarnation);
		else
			print_text(&events[i]);
	}
}

/* Whoever reads may be gone: then there is nobody to print for. */
static bool flushed(void)
{
	return fflush(stdout) == 0 && !ferror(stdout);
}

/* Said once for each time that it is gone. */
static void wait_for_daemon(struct ctl *ctl, bool *gone, int r)
{
	static const struct timespec pause = { .tv_nsec = WAIT_MS * (long)NS_PER_MS };

	if (!*gone)
		(void)ctl_fail(ctl, "events, waiting for the daemon", r);
	*gone = true;
	(void)nanosleep(&pause, NULL);
}

static int loop(struct ctl *ctl, const struct args *args, struct kvc_event_cursor *cursor)
{
	static struct kvc_event events[EVENTS_MAX];
	bool gone = false;

	while (flushed()) {
		size_t n = 0;
		int r = kvc_events(ctl->client, cursor, events, EVENTS_MAX, args->follow ? WAIT_MS : 0, &n);

		if (args->follow && (r == -ENOTCONN || r == -ETIMEDOUT || r == KVC_STOPPING)) {
			wait_for_daemon(ctl, &gone, r);
			continue;
		}
		if (r != KVC_OK)
			return ctl_fail(ctl, "events", r);
		gone = false;
		print(ctl, args, cursor, events, n);
		if (n == 0 && !args->follow)
			return CTL_OK;
	}
	return CTL_FAILED;
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	struct kvc_options wanted = {
		.flags = KVC_READ_ONLY | (args->follow ? 0 : KVC_NO_RECONNECT),
		.pins_max = 1,
		.timeout_ms = args->follow ? TIMEOUT_MS : 0,
	};
	struct kvc_event_cursor cursor = { .incarnation = args->incarnation, .after = args->after };
	int status = ctl_open_with(ctl, &wanted);

	if (status != CTL_OK)
		return status;
	if (args->follow && args->after == 0)
		cursor.after = KVC_EVENTS_FROM_NOW;
	return loop(ctl, args, &cursor);
}

const struct verb verb_events = {
	.name = "events",
	.operands = "",
	.summary = "Show what happened to blocks: stored, removed and why, spaces cleared",
	.details = "The daemon remembers the last of them; it is said when some are forgotten, or when the daemon was\n"
		   "restarted. With --json one object a line.",
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
