/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics as text: both formats, units, histograms, labels that somebody chose to do harm, and the bound. */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "daemon/host/exposition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct rig {
	struct kvp_counters counters;
	struct kvp_space_entry spaces[KVP_SPACES_MAX];
	struct exposition_source source;
	char *text; /* terminated */
	size_t n;
};

static struct rig *rig_new(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->source = (struct exposition_source){ .counters = &rig->counters,
						  .spaces = rig->spaces,
						  .version = "1.2\"3",
						  .restart_kind = "cold" };
	return rig;
}

static void rig_free(struct rig *rig)
{
	free(rig->text);
	free(rig);
}

static void render(struct rig *rig, enum exposition_format format)
{
	char *text;

	free(rig->text);
	rig->text = NULL;
	assert_int_equal(exposition_render(&rig->source, format, &text, &rig->n), 0);
	rig->text = malloc(rig->n + 1);
	assert_non_null(rig->text);
	memcpy(rig->text, text, rig->n);
	rig->text[rig->n] = '\0';
	free(text);
}

static bool has_line(const struct rig *rig, const char *line)
{
	size_t n = strlen(line);

	for (const char *at = rig->text; (at = strstr(at, line)); at++)
		if ((at == rig->text || at[-1] == '\n') && at[n] == '\n')
			return true;
	return false;
}

static void assert_line(const struct rig *rig, const char *line)
{
	if (!has_line(rig, line))
		fail_msg("no line '%s'", line);
}

static void assert_no_line(const struct rig *rig, const char *line)
{
	if (has_line(rig, line))
		fail_msg("there is a line '%s'", line);
}

static void add_space(struct rig *rig, unsigned i, const void *name, size_t n)
{
	struct kvp_space_entry *space = &rig->spaces[i];

	memcpy(space->name, name, n);
	space->name_bytes = (uint16_t)n;
	space->state = KVP_SPACE_LIVE;
	space->blocks = i + 1;
}

static void test_values(void **state)
{
	struct rig *rig = rig_new();

	rig->counters.requests_total = UINT64_MAX;
	rig->counters.fetch_miss_evicted_total = 7;
	rig->counters.encode_us_total = 1500000;
	rig->counters.decode_us_total = 3;
	render(rig, EXPOSITION_TEXT);
	assert_line(rig, "kvpaged_requests_total 18446744073709551615");
	assert_line(rig, "kvpaged_fetch_misses_total{reason=\"evicted\"} 7");
	assert_line(rig, "kvpaged_encode_timed_seconds_total 1.5");
	assert_line(rig, "kvpaged_decode_timed_seconds_total 0.000003");
	assert_line(rig, "kvpaged_loop_turn_max_seconds 0");
	assert_line(rig, "kvpaged_build_info{version=\"1.2\\\"3\"} 1");
	assert_line(rig, "kvpaged_restart_info{kind=\"cold\"} 1");
	rig_free(rig);
}

static void test_formats(void **state)
{
	struct rig *rig = rig_new();

	render(rig, EXPOSITION_TEXT);
	assert_line(rig, "# TYPE kvpaged_requests_total counter");
	assert_line(rig, "# TYPE kvpaged_arena_bytes gauge");
	assert_line(rig, "# TYPE kvpaged_request_duration_seconds histogram");
	assert_null(strstr(rig->text, "# UNIT"));
	assert_null(strstr(rig->text, "# EOF"));
	render(rig, EXPOSITION_OPENMETRICS);
	assert_line(rig, "# TYPE kvpaged_requests counter");
	assert_line(rig, "# HELP kvpaged_requests requests handled, of every verb");
	assert_line(rig, "kvpaged_requests_total 0");
	assert_line(rig, "# UNIT kvpaged_append_bytes bytes");
	assert_line(rig, "# UNIT kvpaged_encode_timed_seconds seconds");
	assert_null(strstr(rig->text, "# UNIT kvpaged_requests"));
	assert_string_equal(rig->text + rig->n - strlen("\n# EOF\n"), "\n# EOF\n");
	assert_string_equal(exposition_type(EXPOSITION_TEXT), "text/plain; version=0.0.4; charset=utf-8");
	assert_string_equal(exposition_type(EXPOSITION_OPENMETRICS),
			    "application/openmetrics-text; version=1.0.0; charset=utf-8");
	rig_free(rig);
}

static void test_histograms(void **state)
{
	struct rig *rig = rig_new();
	struct kvp_histogram *append = &rig->counters.request_seconds[KVP_VERB_APPEND];
	char line[128];

	for (unsigned i = 0; i < KVP_HISTOGRAM_BUCKETS; i++)
		append->buckets[i] = 1;
	append->sum_ns = UINT64_C(12000000345);
	rig->counters.loop_turn_seconds[0].buckets[KVP_HISTOGRAM_BUCKETS - 1] = 5;
	render(rig, EXPOSITION_TEXT);
	for (unsigned i = 0; i + 1 < KVP_HISTOGRAM_BUCKETS; i++) {
		(void)snprintf(line, sizeof(line),
			       "kvpaged_request_duration_seconds_bucket{verb=\"append\",le=\"%.12g\"} %u",
			       (double)(1u << i) / 1e6, i + 1);
		assert_line(rig, line);
	}
	assert_line(rig, "kvpaged_request_duration_seconds_bucket{verb=\"append\",le=\"+Inf\"} 22");
	assert_line(rig, "kvpaged_request_duration_seconds_sum{verb=\"append\"} 12.000000345");
	assert_line(rig, "kvpaged_request_duration_seconds_count{verb=\"append\"} 22");
	assert_line(rig, "kvpaged_request_duration_seconds_count{verb=\"hello\"} 0");
	assert_line(rig, "kvpaged_loop_turn_seconds_bucket{le=\"1.048576\"} 0");
	assert_line(rig, "kvpaged_loop_turn_seconds_bucket{le=\"+Inf\"} 5");
	assert_line(rig, "kvpaged_loop_turn_seconds_count 5");
	assert_line(rig, "kvpaged_loop_turn_seconds_sum 0");
	rig_free(rig);
}

static void test_spaces(void **state)
{
	struct rig *rig = rig_new();

	add_space(rig, 0, "a b", 3);
	add_space(rig, 2, "x\"} 1\\", 6);
	add_space(rig, 3, "caf\xc3\xa9", 5);
	add_space(rig, 4, "a\nkvpaged_requests_total 9", 26); /* cannot be registered; nor can the next two */
	add_space(rig, 5, "\xff\xfe", 2);
	add_space(rig, 6, "a\0b", 3);
	add_space(rig, 255, "last", 4);
	rig->spaces[255].name_bytes = UINT16_MAX;
	memset(rig->spaces[255].name, 'n', sizeof(rig->spaces[255].name));
	render(rig, EXPOSITION_TEXT);
	assert_line(rig, "kvpaged_space_blocks{space=\"a b\"} 1");
	assert_line(rig, "kvpaged_space_bytes{space=\"a b\",state=\"stored\"} 0");
	assert_line(rig, "kvpaged_space_blocks{space=\"x\\\"} 1\\\\\"} 3");
	assert_line(rig, "kvpaged_space_blocks{space=\"caf\xc3\xa9\"} 4");
	assert_line(rig, "kvpaged_space_blocks{space=\"a\\\\x0akvpaged_requests_total 9\"} 5");
	assert_line(rig, "kvpaged_space_blocks{space=\"\\\\xff\\\\xfe\"} 6");
	assert_line(rig, "kvpaged_space_blocks{space=\"a\\\\x00b\"} 7");
	assert_no_line(rig, "kvpaged_requests_total 9");
	assert_non_null(strstr(rig->text, "nnnn\"} 256\n"));
	assert_null(strstr(rig->text, "kvpaged_space_blocks{space=\"\"}"));
	rig_free(rig);
}

static void test_nothing_known(void **state)
{
	struct rig *rig = rig_new();

	render(rig, EXPOSITION_TEXT);
	assert_null(strstr(rig->text, "kvpaged_space_"));
	assert_null(strstr(rig->text, "process_"));
	rig->source.usage.open_fds = (struct usage_value){ true, 9 };
	rig->source.usage.cpu_us = (struct usage_value){ true, 2500000 };
	render(rig, EXPOSITION_OPENMETRICS);
	assert_line(rig, "# TYPE process_cpu_seconds counter");
	assert_line(rig, "process_cpu_seconds_total 2.5");
	assert_line(rig, "process_open_fds 9");
	assert_null(strstr(rig->text, "process_resident_memory_bytes"));
	rig_free(rig);
}

static void test_longest(void **state)
{
	struct rig *rig = rig_new();
	char name[KVP_NAME_BYTES_MAX];

	memset(name, '\xff', sizeof(name)); /* four characters each, of which one is doubled */
	for (unsigned i = 0; i < KVP_SPACES_MAX; i++) {
		add_space(rig, i, name, sizeof(name));
		rig->spaces[i].stored_bytes = UINT64_MAX;
	}
	render(rig, EXPOSITION_TEXT);
	assert_true(rig->n > 500000 && rig->n < EXPOSITION_BYTES_MAX);
	rig_free(rig);
}

/* Every line is a comment or a sample, and no family or sample comes twice. */
static void test_lines(void **state)
{
	struct rig *rig = rig_new();
	_cleanup_free_ char *copy = NULL;
	char *lines[4096], *rest;
	unsigned n = 0;

	add_space(rig, 0, "s", 1);
	for (int format = EXPOSITION_TEXT; format <= EXPOSITION_OPENMETRICS; format++) {
		render(rig, (enum exposition_format)format);
		free(copy);
		copy = strdup(rig->text);
		assert_non_null(copy);
		rest = copy;
		for (n = 0; n < COUNT(lines) && (lines[n] = strsep(&rest, "\n")) && rest; n++)
			if (lines[n][0] != '#')
				*strrchr(lines[n], ' ') = '\0';
		assert_true(n > 600 && n < COUNT(lines));
		for (unsigned i = 0; i < n; i++)
			for (unsigned j = i + 1; j < n; j++)
				if (strcmp(lines[i], lines[j]) == 0)
					fail_msg("twice: %s", lines[i]);
	}
	rig_free(rig);
}

static void test_usage(void **state)
{
	struct usage usage;

	usage_read(&usage);
	assert_true(usage.cpu_us.known && usage.max_fds.known);
	if (!usage.start_us.known)
		harness_skip("there is no /proc/self/stat");
	assert_true(usage.resident_bytes.known && usage.resident_bytes.value > 100000);
	assert_true(usage.open_fds.known && usage.open_fds.value >= 3 && usage.open_fds.value < 1000);
	assert_true(usage.start_us.value / 1000000 <= (uint64_t)time(NULL) + 1);
	assert_true(usage.start_us.value / 1000000 + 600 > (uint64_t)time(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_histograms),
		cmocka_unit_test(test_spaces),
		cmocka_unit_test(test_nothing_known),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_usage),
	};

	return harness_run(tests, COUNT(tests));
}
