/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl top: what goes on, live. The numbers are looked at in shared memory, so the daemon notices nothing but one
 * request when it is first seen, for its age. On a terminal each frame replaces the one before; elsewhere, or with
 * --batch, frames follow each other. A daemon that goes away is waited for: the client looks for it by itself.
 */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/output.h"
#include "client/kvctl/terminal.h"
#include "client/kvctl/top.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_MS_DEFAULT 1000
#define INTERVAL_MS_MIN 10
#define INTERVAL_MS_MAX 3600000
#define BATCH_COLUMNS 100

/* A daemon that is gone is waited for so long with keys unread; later it is looked for without waiting. */
#define TIMEOUT_MS 1000

struct args {
	uint64_t interval_ms;
	uint64_t frames;
	bool batch;
};

static const struct option_spec options[] = {
	{ "interval", 'i', OPTION_SECONDS, "SEC", "time between frames: 2, 0.5, 250ms (default: 1)",
	  offsetof(struct args, interval_ms), 0 },
	{ "frames", 'n', OPTION_NUMBER, "N", "end after N frames", offsetof(struct args, frames), 0 },
	{ "batch", 'b', OPTION_FLAG, NULL, "print frames one after the other, as when stdout is no terminal",
	  offsetof(struct args, batch), 0 },
	{ 0 },
};

/* What + and - go through. */
static const uint64_t intervals_ms[] = { 100, 250, 500, 1000, 2000, 5000, 10000, 30000, 60000 };

#define INTERVALS (sizeof(intervals_ms) / sizeof(intervals_ms[0]))

static uint64_t now_ms(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / NS_PER_MS;
}

static void slower(struct top *top)
{
	size_t i = 0;

	while (i + 1 < INTERVALS && intervals_ms[i] <= top->interval_ms)
		i++;
	if (intervals_ms[i] > top->interval_ms)
		top->interval_ms = intervals_ms[i];
}

static void faster(struct top *top)
{
	size_t i = INTERVALS - 1;

	while (i > 0 && intervals_ms[i] >= top->interval_ms)
		i--;
	if (intervals_ms[i] < top->interval_ms)
		top->interval_ms = intervals_ms[i];
}

/* Returns whether to go on. */
static bool handle_key(struct top *top, int key)
{
	switch (key) {
	case 'q':
	case 'Q':
		return false;
	case ' ':
		top->paused = !top->paused;
		break;
	case '+':
	case '=': /* the same key without shift */
		slower(top);
		break;
	case '-':
		faster(top);
		break;
	case 's':
		top->order = (top->order + 1) % TOP_ORDERS;
		break;
	case 'h':
	case '?':
		top->help = !top->help;
		break;
	default:
		break;
	}
	return true;
}

/* Whoever reads may be gone: then there is nobody to draw for. */
static bool flushed(void)
{
	return fflush(stdout) == 0 && !ferror(stdout);
}

/* Returns whether it could be shown. */
static bool show(const struct terminal *terminal, const struct top *top)
{
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);
	bool whole;

	if (!out)
		return false;
	top_text(out, top, terminal->columns, terminal->rows);
	whole = !ferror(out);
	whole = fclose(out) == 0 && whole;
	if (whole)
		terminal_show(terminal, text);
	free(text);
	return whole && flushed();
}

/* Until the time of the next look; what keys change is shown at once. Returns TERMINAL_TIME or TERMINAL_END. */
static enum terminal_event wait_for(struct terminal *terminal, struct top *top, int *ret_signal)
{
	uint64_t begin_ms = now_ms();

	for (;;) {
		uint64_t passed_ms = now_ms() - begin_ms;
		uint64_t left_ms = passed_ms < top->interval_ms ? top->interval_ms - passed_ms : 0;
		int key = 0;

		switch (terminal_wait(terminal, left_ms, &key)) {
		case TERMINAL_TIME:
			return TERMINAL_TIME;
		case TERMINAL_END:
			*ret_signal = key;
			return TERMINAL_END;
		case TERMINAL_KEY:
			if (!handle_key(top, key))
				return TERMINAL_END;
			break;
		case TERMINAL_REDRAW:
			break;
		}
		if (!show(terminal, top))
			return TERMINAL_END;
	}
}

/* Frames until the user has enough, or --frames are shown. Returns the signal that ended it, or 0. */
static int draw(struct ctl *ctl, struct terminal *terminal, struct top *top, uint64_t frames)
{
	int number = 0;

	for (uint64_t i = 0; frames == 0 || i < frames; i++) {
		if (!top->paused)
			(void)top_look(top, ctl->client);
		if (!show(terminal, top) || wait_for(terminal, top, &number) == TERMINAL_END)
			break;
	}
	return number;
}

static int run_terminal(struct ctl *ctl, struct top *top, uint64_t frames)
{
	struct terminal terminal;
	int r = terminal_begin(&terminal);
	int number;

	if (r < 0)
		return ctl_error("top: the terminal: %s", strerror(-r));
	number = draw(ctl, &terminal, top, frames);
	terminal_end(&terminal);
	if (number != 0 && number != SIGINT)
		(void)raise(number); /* as if it had not been caught */
	return CTL_OK;
}

static void pause_ms(uint64_t ms)
{
	struct timespec left = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * NS_PER_MS) };

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* The first frame comes after an interval: before that there are no rates. */
static int run_batch(struct ctl *ctl, struct top *top, uint64_t frames)
{
	int status = CTL_OK;
	int r = top_look(top, ctl->client);

	for (uint64_t i = 0; (frames == 0 || i < frames) && status == CTL_OK; i++) {
		pause_ms(top->interval_ms);
		r = top_look(top, ctl->client);
		if (ctl->json)
			top_json(top);
		else
			top_text(stdout, top, BATCH_COLUMNS, 0);
		if (!ctl->json)
			(void)putchar('\n');
		status = flushed() ? CTL_OK : CTL_FAILED;
	}
	return status == CTL_OK && r != KVC_OK ? ctl_fail(ctl, "top", r) : status;
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	struct kvc_options wanted = { .pins_max = 1, .flags = KVC_READ_ONLY, .timeout_ms = TIMEOUT_MS };
	struct top top = { .interval_ms = args->interval_ms ? args->interval_ms : INTERVAL_MS_DEFAULT };
	int status;

	if (top.interval_ms < INTERVAL_MS_MIN || top.interval_ms > INTERVAL_MS_MAX)
		return ctl_usage("--interval must be 10ms to 1h");
	status = ctl_open_with(ctl, &wanted);
	if (status != CTL_OK)
		return status;
	if (args->batch || ctl->json || !isatty(STDOUT_FILENO))
		status = run_batch(ctl, &top, args->frames);
	else
		status = run_terminal(ctl, &top, args->frames);
	top_deinit(&top);
	return status;
}

const struct verb verb_top = {
	.name = "top",
	.operands = "",
	.summary = "Show what goes on, live; it costs the daemon nothing",
	.details = "Keys: q ends, space pauses, + and - change the interval, s the order of the spaces, h helps.\n"
		   "With --json one object a frame.",
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
