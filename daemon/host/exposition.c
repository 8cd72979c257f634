/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A family's head is written with its first sample, so that one whose source cannot be read, or that has no space to
 * tell of, leaves nothing. The loop waits for a scrape, so names of spaces are escaped once, not for each of their
 * samples, and numbers are written digit by digit.
 */
#include "daemon/host/exposition.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "proto/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "kvpaged_"
#define CHUNK_BYTES (64u << 10)
#define TOTAL "_total"
#define LE_BYTES 16

enum type { COUNTER, GAUGE, HISTOGRAM };

struct family {
	char name[96]; /* as samples have it */
	size_t n;
	enum type type;
	const char *unit;
	const char *sentence;
	bool begun; /* its head is written */
};

struct writer {
	const struct exposition_source *source;
	enum exposition_format format;
	struct family family;
	char le[KVP_HISTOGRAM_BUCKETS][LE_BYTES]; /* the upper bounds */
	char *names; /* of live spaces, as labels have them, one after the other */
	struct {
		size_t begin;
		size_t n; /* 0: not live, or without a name */
	} name[KVP_SPACES_MAX];
	char *text;
	size_t n;
	size_t capacity;
	int error;
};

/* --- Bytes ----------------------------------------------------------------------------- */

static bool make_room(struct writer *writer, size_t n)
{
	size_t wanted = writer->capacity;
	char *text;

	if (writer->error)
		return false;
	while (wanted - writer->n < n && wanted < EXPOSITION_BYTES_MAX)
		wanted = wanted ? 2 * wanted : CHUNK_BYTES;
	if (wanted - writer->n < n) {
		writer->error = -E2BIG;
		return false;
	}
	text = wanted > writer->capacity ? realloc(writer->text, wanted) : writer->text;
	if (!text) {
		writer->error = -ENOMEM;
		return false;
	}
	writer->text = text;
	writer->capacity = wanted;
	return true;
}

static void put(struct writer *writer, const char *bytes, size_t n)
{
	if (writer->capacity - writer->n < n && !make_room(writer, n))
		return;
	if (n > 0)
		memcpy(writer->text + writer->n, bytes, n);
	writer->n += n;
}

static void put_text(struct writer *writer, const char *text)
{
	put(writer, text, strlen(text));
}

static void put_u64(struct writer *writer, uint64_t value)
{
	char digits[20];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	put(writer, digits + i, sizeof(digits) - i);
}

/* value / 10^digits, exactly. */
static void put_fraction(struct writer *writer, uint64_t value, unsigned digits)
{
	char text[1 + 20] = ".";
	uint64_t scale = 1;
	size_t n = 1 + digits;

	for (unsigned i = 0; i < digits; i++)
		scale *= 10;
	put_u64(writer, value / scale);
	value %= scale;
	for (unsigned i = digits; i > 0; i--, value /= 10)
		text[i] = (char)('0' + value % 10);
	while (text[n - 1] == '0')
		n--;
	put(writer, text, n > 1 ? n : 0);
}

/* With the three escapes that both formats know; in help texts of 0.0.4 quotes stay as they are. */
static void put_escaped(struct writer *writer, const char *bytes, size_t n, bool quotes)
{
	size_t run = 0; /* where the bytes begin that are as they are */

	for (size_t i = 0; i < n; i++) {
		bool newline = bytes[i] == '\n';

		if (bytes[i] != '\\' && !newline && !(bytes[i] == '"' && quotes))
			continue;
		put(writer, bytes + run, i - run);
		put(writer, newline ? "\\n" : "\\", newline ? 2 : 1);
		run = newline ? i + 1 : i; /* the others follow their backslash */
	}
	put(writer, bytes + run, n - run);
}

/* --- Families -------------------------------------------------------------------------- */

static bool begins_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool ends_with(const char *text, size_t n, const char *with)
{
	size_t n_with = strlen(with);

	return n >= n_with && memcmp(text + n - n_with, with, n_with) == 0;
}

static void family_begin(struct writer *writer, const char *name, enum type type, const char *unit,
			 const char *sentence)
{
	struct family *family = &writer->family;

	*family = (struct family){ .type = type, .unit = unit, .sentence = sentence };
	(void)snprintf(family->name, sizeof(family->name), "%s%s", begins_with(name, "process_") ? "" : PREFIX, name);
	family->n = strlen(family->name);
}

/* OpenMetrics names a family of counters without the _total of its samples. */
static size_t head_name_bytes(const struct writer *writer)
{
	const struct family *family = &writer->family;
	bool cut = writer->format == EXPOSITION_OPENMETRICS && family->type == COUNTER &&
		   ends_with(family->name, family->n, TOTAL);

	return cut ? family->n - (sizeof(TOTAL) - 1) : family->n;
}

/* Only base units, and only where the name ends with the unit, as OpenMetrics demands. */
static void put_unit(struct writer *writer, size_t n)
{
	static const char *const units[] = { "seconds", "bytes" };
	const char *name = writer->family.name;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!ends_with(name, n, units[i]) || name[n - strlen(units[i]) - 1] != '_')
			continue;
		put_text(writer, "# UNIT ");
		put(writer, name, n);
		put_text(writer, " ");
		put_text(writer, units[i]);
		put_text(writer, "\n");
	}
}

static void put_head(struct writer *writer)
{
	static const char *const types[] = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };
	struct family *family = &writer->family;
	bool openmetrics = writer->format == EXPOSITION_OPENMETRICS;
	size_t n = head_name_bytes(writer);

	if (family->begun)
		return;
	family->begun = true;
	put_text(writer, "# HELP ");
	put(writer, family->name, n);
	put_text(writer, " ");
	put_escaped(writer, family->sentence, strlen(family->sentence), openmetrics);
	put_text(writer, "\n# TYPE ");
	put(writer, family->name, n);
	put_text(writer, " ");
	put_text(writer, types[family->type]);
	put_text(writer, "\n");
	if (openmetrics)
		put_unit(writer, n);
}

/* --- Samples --------------------------------------------------------------------------- */

/* Name and labels, up to the value. */
static void put_sample(struct writer *writer, const char *labels)
{
	put_head(writer);
	put(writer, writer->family.name, writer->family.n);
	if (labels[0]) {
		put_text(writer, "{");
		put_text(writer, labels);
		put_text(writer, "}");
	}
	put_text(writer, " ");
}

/* A value in the family's unit. */
static void put_value(struct writer *writer, uint64_t value)
{
	if (strcmp(writer->family.unit, "us") == 0)
		put_fraction(writer, value, 6);
	else
		put_u64(writer, value);
	put_text(writer, "\n");
}

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void put_counter(struct writer *writer, const char *labels, const _Atomic uint64_t *word)
{
	put_sample(writer, labels);
	put_value(writer, load(word));
}

/* Names are clean when they are registered; another one would break the lines, or not be UTF-8. */
static void put_space_name(struct writer *writer, const struct kvp_space_entry *space)
{
	size_t n = space->name_bytes < sizeof(space->name) ? space->name_bytes : sizeof(space->name);
	char escaped[4 * sizeof(space->name) + 1];

	if (text_is_clean(space->name, n)) {
		put_escaped(writer, space->name, n, true);
		return;
	}
	(void)text_escape(space->name, n, escaped, sizeof(escaped));
	put_escaped(writer, escaped, strlen(escaped), true);
}

/* Before all else: what is written here becomes writer.names, and the text begins anew. */
static void name_spaces(struct writer *writer)
{
	for (uint32_t i = 0; i < KVP_SPACES_MAX; i++) {
		const struct kvp_space_entry *space = &writer->source->spaces[i];

		if (atomic_load_explicit(&space->state, memory_order_acquire) != KVP_SPACE_LIVE)
			continue;
		writer->name[i].begin = writer->n;
		put_space_name(writer, space);
		writer->name[i].n = writer->n - writer->name[i].begin;
	}
	writer->names = take_ptr(writer->text);
	writer->n = 0;
	writer->capacity = 0;
}

static void put_spaces(struct writer *writer, const char *labels, size_t offset)
{
	for (uint32_t i = 0; i < KVP_SPACES_MAX; i++) {
		const char *space = (const char *)&writer->source->spaces[i];

		if (writer->name[i].n == 0)
			continue;
		put_head(writer);
		put(writer, writer->family.name, writer->family.n);
		put_text(writer, "{space=\"");
		put(writer, writer->names + writer->name[i].begin, writer->name[i].n);
		put_text(writer, labels[0] ? "\"," : "\"");
		put_text(writer, labels);
		put_text(writer, "} ");
		put_value(writer, load((const _Atomic uint64_t *)(const void *)(space + offset)));
	}
}

/* --- Histograms ------------------------------------------------------------------------ */

/* 2^i microseconds as the shortest number of seconds: "1e-06", "0.000128", "1.048576". */
static void name_bounds(struct writer *writer)
{
	for (unsigned i = 0; i + 1 < KVP_HISTOGRAM_BUCKETS; i++)
		(void)snprintf(writer->le[i], LE_BYTES, "%.7g", (double)(UINT64_C(1) << i) / 1e6);
	(void)snprintf(writer->le[KVP_HISTOGRAM_BUCKETS - 1], LE_BYTES, "+Inf");
}

/* Name, suffix and the label that tells histograms of one family apart, if there is one. */
static void put_part(struct writer *writer, const char *suffix, const char *label, const char *value, const char *le)
{
	put(writer, writer->family.name, writer->family.n);
	put_text(writer, suffix);
	put_text(writer, value || le ? "{" : "");
	if (value) {
		put_text(writer, label);
		put_text(writer, "=\"");
		put_escaped(writer, value, strlen(value), true);
		put_text(writer, le ? "\"," : "\"");
	}
	if (le) {
		put_text(writer, "le=\"");
		put_text(writer, le);
		put_text(writer, "\"");
	}
	put_text(writer, value || le ? "} " : " ");
}

static void put_histogram(struct writer *writer, const struct kvp_histogram *histogram, const char *label,
			  const char *value)
{
	uint64_t count = 0;

	put_head(writer);
	for (unsigned i = 0; i < KVP_HISTOGRAM_BUCKETS; i++) {
		count += load(&histogram->buckets[i]);
		put_part(writer, "_bucket", label, value, writer->le[i]);
		put_u64(writer, count);
		put_text(writer, "\n");
	}
	put_part(writer, "_sum", label, value, NULL);
	put_fraction(writer, load(&histogram->sum_ns), 9);
	put_text(writer, "\n");
	put_part(writer, "_count", label, value, NULL);
	put_u64(writer, count);
	put_text(writer, "\n");
}

static void put_histograms(struct writer *writer, const struct kvp_histogram *histograms, const char *label,
			   unsigned n, const char *(*name)(unsigned))
{
	for (unsigned i = 0; i < n; i++)
		put_histogram(writer, &histograms[i], label, name ? name(i) : NULL);
}

/* --- What the host knows: one function a HOST_VALUE ------------------------------------- */

static void put_info(struct writer *writer, const char *label, const char *value)
{
	put_head(writer);
	put(writer, writer->family.name, writer->family.n);
	put_text(writer, "{");
	put_text(writer, label);
	put_text(writer, "=\"");
	put_escaped(writer, value, strlen(value), true);
	put_text(writer, "\"} 1\n");
}

static void host_build_info(struct writer *writer)
{
	put_info(writer, "version", writer->source->version);
}

static void host_restart_info(struct writer *writer)
{
	put_info(writer, "kind", writer->source->restart_kind);
}

/* digits: of the fraction that the value counts. */
static void put_usage(struct writer *writer, const struct usage_value *usage, unsigned digits)
{
	if (!usage->known)
		return;
	put_sample(writer, "");
	put_fraction(writer, usage->value, digits);
	put_text(writer, "\n");
}

static void host_process_cpu_seconds(struct writer *writer)
{
	put_usage(writer, &writer->source->usage.cpu_us, 6);
}

static void host_process_resident_bytes(struct writer *writer)
{
	put_usage(writer, &writer->source->usage.resident_bytes, 0);
}

static void host_process_open_fds(struct writer *writer)
{
	put_usage(writer, &writer->source->usage.open_fds, 0);
}

static void host_process_max_fds(struct writer *writer)
{
	put_usage(writer, &writer->source->usage.max_fds, 0);
}

static void host_process_start_time(struct writer *writer)
{
	put_usage(writer, &writer->source->usage.start_us, 6);
}

/* --- All of it ------------------------------------------------------------------------- */

static void put_all(struct writer *writer)
{
	const struct kvp_counters *counters = writer->source->counters;

#define FAMILY(name, type, unit, sentence) family_begin(writer, #name, type, unit, sentence);
#define VALUE(field, labels, sentence) put_counter(writer, labels, &counters->field);
#define SPACE_VALUE(field, labels) put_spaces(writer, labels, offsetof(struct kvp_space_entry, field));
#define HOST_VALUE(source) host_##source(writer);
#define HISTOGRAM(field, label, n, name) put_histograms(writer, counters->field, label, n, name);
#include "proto/metrics.def"
	if (writer->format == EXPOSITION_OPENMETRICS)
		put_text(writer, "# EOF\n");
}

const char *exposition_type(enum exposition_format format)
{
	return format == EXPOSITION_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
						  "text/plain; version=0.0.4; charset=utf-8";
}

int exposition_render(const struct exposition_source *source, enum exposition_format format, char **ret_text,
		      size_t *ret_n)
{
	struct writer writer = { .source = source, .format = format };

	name_bounds(&writer);
	name_spaces(&writer);
	put_all(&writer);
	free(writer.names);
	if (writer.error) {
		free(writer.text);
		return writer.error;
	}
	*ret_text = writer.text;
	*ret_n = writer.n;
	return 0;
}
