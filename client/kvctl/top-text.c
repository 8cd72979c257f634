/* SPDX-License-Identifier: Apache-2.0 */
/* A frame of kvctl top as lines: first what fits on any screen, then the spaces, as many as there is room for. */
#include "client/kvctl/top.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define VERBS_SHOWN 3
#define BAR_COLUMNS_MAX 50
#define BAR_TEXT_COLUMNS 50 /* beside the bar */
#define NAME_COLUMNS_MIN 12
#define SPACE_COLUMNS 60 /* of a space's row without its name */
#define SIZE_BYTES 24

/* Lines written so far are counted, so that the table of spaces knows how many rows are left. */
struct page {
	FILE *out;
	const struct top *top;
	unsigned columns;
	unsigned rows; /* 0: any number */
	unsigned used;
};

static void title(struct page *page, const char *text)
{
	(void)fprintf(page->out, "%s%-9s%s", style(STYLE_TITLE), text, style(STYLE_PLAIN));
}

static void end_line(struct page *page)
{
	(void)fputc('\n', page->out);
	page->used++;
}

static double rate(const struct page *page, const char *name)
{
	return top_rate(page->top, name);
}

static uint64_t value(const struct page *page, const char *name)
{
	return top_value(page->top, name);
}

static void put_header(struct page *page)
{
	const struct top *top = page->top;
	char version[PRINTABLE_BYTES];
	char up[32];
	char every[32];

	title(page, "kvpaged");
	if (top->now)
		(void)fprintf(page->out, "%s, up %s, incarnation %08" PRIx64 ", ",
			      printable(top->now->server_version, strlen(top->now->server_version), version),
			      format_ms((top->now_ns - top->start_ns) / NS_PER_MS, up), top->now->incarnation >> 32);
	(void)fprintf(page->out, "%s%s%s, every %s", style(top->lost_ns ? STYLE_BAD : STYLE_GOOD),
		      top->lost_ns  ? "gone"
		      : top->paused ? "paused"
				    : "running",
		      style(STYLE_PLAIN), format_ms(top->interval_ms, every));
	end_line(page);
}

static void put_loss(struct page *page)
{
	const struct top *top = page->top;
	char why[PRINTABLE_BYTES];

	if (top->lost_ns == 0)
		return;
	(void)fprintf(page->out, "%sno daemon, looking for it: %s; the numbers are its last%s", style(STYLE_BAD),
		      printable(top->why, strlen(top->why), why), style(STYLE_PLAIN));
	end_line(page);
}

static const struct part {
	const char *counter;
	const char *name;
	char mark;
	enum style style;
} parts[] = {
	{ "stored_bytes", "stored", '#', STYLE_GOOD },	  { "overhead_bytes", "overhead", '+', STYLE_WARNING },
	{ "metadata_bytes", "tables", '=', STYLE_PLAIN }, { "limbo_bytes", "limbo", '~', STYLE_BAD },
	{ "loading_bytes", "loading", '^', STYLE_WARNING }, { "free_bytes", "free", '.', STYLE_DIM },
	{ "retired_bytes", "given back", ' ', STYLE_DIM },
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

/* Every part ends where the bytes up to its end would, so the bar is as long as the whole. */
static void put_bar(struct page *page, unsigned columns)
{
	uint64_t total = value(page, "arena_bytes");
	uint64_t sum = 0;
	unsigned at = 0;

	(void)fputc('[', page->out);
	for (size_t i = 0; i < PARTS; i++) {
		unsigned end;

		sum += value(page, parts[i].counter);
		end = total ? (unsigned)((double)(sum < total ? sum : total) / (double)total * columns + 0.5) : 0;
		(void)fputs(style(parts[i].style), page->out);
		for (; at < end; at++)
			(void)fputc(parts[i].mark, page->out);
		(void)fputs(style(STYLE_PLAIN), page->out);
	}
	(void)fprintf(page->out, "%*s]", (int)(columns - at), "");
}

static void put_memory(struct page *page)
{
	uint64_t arena = value(page, "arena_bytes");
	uint64_t used = arena - value(page, "free_bytes") - value(page, "retired_bytes");
	unsigned bar = page->columns > BAR_TEXT_COLUMNS + 10 ? page->columns - BAR_TEXT_COLUMNS : 10;
	char size[SIZE_BYTES];
	const char *gap = "";

	title(page, "memory");
	put_bar(page, bar < BAR_COLUMNS_MAX ? bar : BAR_COLUMNS_MAX);
	(void)fprintf(page->out, " %.1f%% of %s used, %.2f x f16", arena ? 100.0 * (double)used / (double)arena : 0,
		      units_format_bytes(arena, size, sizeof(size)), top_ratio(value(page, "logical_f16_bytes"), used));
	end_line(page);
	title(page, "");
	for (size_t i = 0; i < PARTS; i++) {
		uint64_t bytes = value(page, parts[i].counter);

		if (bytes == 0)
			continue;
		(void)fprintf(page->out, "%s%s%c%s %s %s", gap, style(parts[i].style), parts[i].mark,
			      style(STYLE_PLAIN), parts[i].name, units_format_bytes(bytes, size, sizeof(size)));
		gap = "  ";
	}
	end_line(page);
}

static void put_holds(struct page *page)
{
	title(page, "holds");
	(void)fprintf(
		page->out, "%" PRIu64 " tokens in %" PRIu64 " blocks (%" PRIu64 " unfinished) of %" PRIu64 " spaces",
		value(page, "tokens"), value(page, "blocks"), value(page, "blocks_partial"), value(page, "spaces"));
	end_line(page);
	title(page, "clients");
	(void)fprintf(page->out, "%" PRIu64 " sessions, %" PRIu64 " leases, %" PRIu64 " blocks pinned",
		      value(page, "sessions"), value(page, "leases"), value(page, "blocks_pinned"));
	end_line(page);
}

static const char *bound(uint64_t us, char *buffer)
{
	return us == UINT64_MAX ? "> 1 s" : format_us(us, buffer);
}

static void put_requests(struct page *page)
{
	struct top_verb verbs[VERBS_SHOWN];
	size_t n = top_verbs(page->top, verbs, VERBS_SHOWN);
	char text[2][32];

	title(page, "requests");
	(void)fprintf(page->out, "%.1f/s, failed %.1f/s", rate(page, "requests_total"),
		      rate(page, "requests_failed_total"));
	end_line(page);
	for (size_t i = 0; i < n; i++) {
		title(page, "");
		(void)fprintf(page->out, "%-10s %10.1f/s, half within %s, 99%% within %s", verbs[i].name, verbs[i].rate,
			      bound(verbs[i].p50_us, text[0]), bound(verbs[i].p99_us, text[1]));
		end_line(page);
	}
}

static void put_reads(struct page *page)
{
	title(page, "reads");
	(void)fprintf(page->out, "in place %.1f/s, not there %.1f/s; fetched %.1f/s", rate(page, "local_reads_total"),
		      rate(page, "local_misses_total"), rate(page, "fetch_hits_total"));
	end_line(page);
	title(page, "misses");
	(void)fprintf(page->out, "never stored %.1f/s, evicted %.1f/s, removed %.1f/s, unfinished %.1f/s",
		      rate(page, "fetch_miss_never_total"), rate(page, "fetch_miss_evicted_total"),
		      rate(page, "fetch_miss_removed_total"), rate(page, "fetch_partial_total"));
	end_line(page);
}

static void put_tier(struct page *page)
{
	char size[3][SIZE_BYTES];

	if (value(page, "tier_capacity_bytes") == 0)
		return;
	title(page, "tier");
	(void)fprintf(page->out, "%s of %s, %" PRIu64 " blocks; written %s/s, loaded %.1f/s, lost %.1f/s",
		      units_format_bytes(value(page, "tier_used_bytes"), size[0], sizeof(size[0])),
		      units_format_bytes(value(page, "tier_capacity_bytes"), size[1], sizeof(size[1])),
		      value(page, "tier_blocks"),
		      units_format_bytes((uint64_t)rate(page, "tier_written_bytes_total"), size[2], sizeof(size[2])),
		      rate(page, "tier_loaded_blocks_total"), rate(page, "tier_lost_blocks_total"));
	end_line(page);
}

static const char *percent(double share, char *buffer)
{
	if (share < 0)
		return "-";
	(void)snprintf(buffer, 32, "%.1f%%", 100 * share);
	return buffer;
}

static void put_hit_rate(struct page *page)
{
	char text[4][32];

	title(page, "hit rate");
	(void)fprintf(page->out, "reads %s now, %s since start; prefixes %s now, %s since start",
		      percent(top_hit_rate(page->top, false, false), text[0]),
		      percent(top_hit_rate(page->top, false, true), text[1]),
		      percent(top_hit_rate(page->top, true, false), text[2]),
		      percent(top_hit_rate(page->top, true, true), text[3]));
	end_line(page);
}

static void put_curve(struct page *page)
{
	struct top_curve curve;

	top_curve(page->top, &curve);
	title(page, "by size");
	for (size_t i = 0; i < TOP_CURVE_POINTS && curve.references; i++)
		(void)fprintf(page->out, "%sx%s %.0f%%", i ? "  " : "", top_curve_sizes[i], 100 * curve.hits[i]);
	(void)fprintf(page->out, "%s",
		      !curve.references	  ? "no uses sampled yet"
		      : curve.since_start ? "  (since start)"
					  : "");
	end_line(page);
}

static void put_writes(struct page *page)
{
	title(page, "stored");
	(void)fprintf(page->out, "%.1f blocks/s, %.1f MB/s", rate(page, "append_blocks_total"),
		      rate(page, "append_bytes_total") / 1e6);
	end_line(page);
	title(page, "left");
	(void)fprintf(page->out, "evicted %.1f/s, by request %.1f/s; deleted %.1f/s, unfinished %.1f/s",
		      rate(page, "evictions_capacity_total"), rate(page, "evictions_request_total"),
		      rate(page, "deleted_total"),
		      rate(page, "dropped_writer_gone_total") + rate(page, "dropped_partial_ttl_total"));
	end_line(page);
}

static void put_loop(struct page *page)
{
	char longest[32];

	title(page, "loop");
	(void)fprintf(page->out, "%.1f turns/s, longest %s; above 1 ms of CPU %" PRIu64 ", by the clock %" PRIu64,
		      rate(page, "loop_turns_total"), format_us(value(page, "loop_lag_max_us"), longest),
		      value(page, "loop_turns_busy_total"), value(page, "loop_turns_slow_total"));
	end_line(page);
}

/* The name in so many columns. */
static void put_name(struct page *page, const char *name, size_t columns)
{
	char text[PRINTABLE_BYTES];
	size_t width;

	(void)printable(name, strlen(name), text);
	text[text_fit(text, columns, &width)] = '\0';
	(void)fprintf(page->out, "%s%*s", text, (int)(columns - width), "");
}

static void put_space(struct page *page, const struct kvc_space_stats *space, size_t name_columns)
{
	char codec[32];
	char size[SIZE_BYTES];

	put_name(page, space->name, name_columns);
	(void)snprintf(codec, sizeof(codec), "%s/%s", codec_name(space->schema.codec_k),
		       space->schema.head_dim_v ? codec_name(space->schema.codec_v) : "-");
	(void)fprintf(page->out, " %-11s %8" PRIu64 " %11" PRIu64 " %10s %6.2f %8" PRIu32, codec, space->blocks,
		      space->tokens, units_format_bytes(space->stored_bytes, size, sizeof(size)),
		      top_ratio(space->logical_f16_bytes, space->stored_bytes + space->overhead_bytes),
		      space->sessions);
	end_line(page);
}

static void put_spaces(struct page *page)
{
	_cleanup_free_ const struct kvc_space_stats **spaces = top_spaces(page->top);
	size_t n = spaces ? page->top->now->n_spaces : 0;
	size_t shown = n;
	size_t name_columns = NAME_COLUMNS_MIN;

	if (n == 0 || (page->rows && page->used + 2 >= page->rows))
		return;
	if (page->rows && shown > page->rows - page->used - 1)
		shown = page->rows - page->used - 2; /* and a line that says so */
	if (page->columns > SPACE_COLUMNS + name_columns)
		name_columns = page->columns - SPACE_COLUMNS;
	(void)fputs(style(STYLE_TITLE), page->out);
	put_name(page, "SPACE", name_columns);
	(void)fprintf(page->out, " %-11s %8s %11s %10s %6s %8s%s", "CODEC K/V", "BLOCKS", "TOKENS", "STORED", "x F16",
		      "SESSIONS", style(STYLE_PLAIN));
	end_line(page);
	for (size_t i = 0; i < shown; i++)
		put_space(page, spaces[i], name_columns);
	if (shown < n) {
		(void)fprintf(page->out, "and %zu more, by %s", n - shown, top_order_name(page->top->order));
		end_line(page);
	}
}

static void put_help(struct page *page)
{
	static const char *const lines[] = {
		"",
		"q        end",
		"space    pause, and go on",
		"+  -     longer and shorter intervals",
		"s        sort the spaces by stored bytes, tokens, blocks, sessions, name",
		"h        this help",
		"",
		"Rates are of the last interval. \"half within 8 us\": half of the requests took at most",
		"8 us, as the daemon's histogram tells, whose steps double.",
		"by size: hits among uses of blocks, had the arena been so much larger or smaller.",
		"x f16: what the values would take as f16, over what they take.",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		(void)fputs(lines[i], page->out);
		end_line(page);
	}
}

void top_text(FILE *out, const struct top *top, unsigned columns, unsigned rows)
{
	struct page page = { .out = out, .top = top, .columns = columns, .rows = rows };

	put_header(&page);
	put_loss(&page);
	if (top->help) {
		put_help(&page);
		return;
	}
	if (!top->now)
		return;
	put_memory(&page);
	put_holds(&page);
	put_requests(&page);
	put_reads(&page);
	put_tier(&page);
	put_hit_rate(&page);
	put_curve(&page);
	put_writes(&page);
	put_loop(&page);
	put_spaces(&page);
}
