/* SPDX-License-Identifier: Apache-2.0 */
/* For people: name, median, lowest and highest round, ratio. For scripts: the median. Each line is written at once. */
#include "tests/bench/report.h"

#include "base/json.h"
#include "kvpaged-version.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_processor(void)
{
	FILE *stream = fopen("/proc/cpuinfo", "re");
	char line[256];
	bool found = false;

	while (stream && !found && fgets(line, sizeof(line), stream)) {
		const char *colon = strchr(line, ':');

		found = strncmp(line, "model name", 10) == 0 && colon;
		if (found)
			(void)printf("processor: %.*s, %ld CPUs\n", (int)strcspn(colon + 2, "\n"), colon + 2,
				     sysconf(_SC_NPROCESSORS_ONLN));
	}
	if (stream)
		(void)fclose(stream);
}

void report_title(const char *bench, bool json, const char *about)
{
	if (json)
		return;
	(void)printf("kvbench %s, kvpaged %s\n", bench, KVPAGED_VERSION);
	print_processor();
	(void)printf("%s\n\n", about);
}

void report_begin(const char *bench, bool json, const char *about)
{
	report_title(bench, json, about);
	if (!json)
		(void)printf("%-42s %10s  %-18s %-21s %s\n", "NAME", "MEDIAN", "UNIT", "LOWEST .. HIGHEST",
			     "RATIO");
}

static void print_json(const struct report *report)
{
	struct json json;

	json_init(&json, stdout);
	json_object_begin(&json);
	json_kv_string(&json, "bench", report->bench);
	json_kv_string(&json, "name", report->name);
	json_kv_double(&json, "value", report->value.median);
	json_kv_string(&json, "unit", report->unit);
	json_kv_string(&json, "reference", report->reference);
	json_kv_double(&json, "ratio", report->ratio);
	json_object_end(&json);
	json_finish(&json);
}

static void print_text(const struct report *report)
{
	char range[64];

	(void)snprintf(range, sizeof(range), "%.4g .. %.4g", report->value.low, report->value.high);
	(void)printf("%-42s %10.4g  %-18s %-21s %.3g of %s\n", report->name, report->value.median, report->unit, range,
		     report->ratio, report->reference);
}

void report(const struct report *report, bool json)
{
	if (json)
		print_json(report);
	else
		print_text(report);
	(void)fflush(stdout);
}
