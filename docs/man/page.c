/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page FILE: prints the source of a manual page, for scdoc, with lines of the form "@NAME@" replaced by lists made from
 * the source's own tables, so that what is documented is what there is: settings from daemon/config-table.c, metrics
 * from proto/metrics.def, statuses from proto/status.h. Run at build time.
 */
#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/config-table.h"
#include "proto/status.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUND_BYTES 32

static void filep(FILE **file)
{
	if (*file)
		(void)fclose(*file);
}

/* What scdoc would take for markup is preceded by a backslash. */
static void put_escaped(const char *text)
{
	for (; *text; text++) {
		if (strchr("\\*_`#[]|", *text))
			(void)putchar('\\');
		(void)putchar(*text);
	}
}

/* ---- Settings ---- */

/* How a value is written; the others are choices. */
static const char *const value_names[_SETTING_TYPE_MAX] = {
	[SETTING_BYTES] = "size",	[SETTING_MS] = "time",	   [SETTING_COUNT] = "number",
	[SETTING_MODE] = "mode",	[SETTING_USER] = "user",   [SETTING_SOCKET_PATH] = "path",
	[SETTING_GROUP] = "group",	[SETTING_UIDS] = "users", [SETTING_GIDS] = "groups",
	[SETTING_ADDRESS] = "address",	[SETTING_METRICS_SOCKET] = "path",
	[SETTING_DIRECTORY] = "path",	[SETTING_FILE] = "path",
};

struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit byte_units[] = { { "TiB", GIB << 10 }, { "GiB", GIB }, { "MiB", MIB }, { "KiB", KIB } };
static const struct unit ms_units[] = { { "h", 3600000 }, { "min", 60000 }, { "s", 1000 }, { "ms", 1 } };

/* The number as one would write it in the file, exactly: with the largest unit that leaves nothing over. */
static const char *bound(const struct setting *setting, uint64_t value, char buffer[BOUND_BYTES])
{
	const struct unit *units = setting->type == SETTING_BYTES ? byte_units : ms_units;
	size_t n = setting->type == SETTING_COUNT ? 0 : 4;

	for (size_t i = 0; value > 0 && i < n; i++) {
		if (value % units[i].factor != 0)
			continue;
		(void)snprintf(buffer, BOUND_BYTES, "%" PRIu64 "%s", value / units[i].factor, units[i].suffix);
		return buffer;
	}
	(void)snprintf(buffer, BOUND_BYTES, "%" PRIu64, value);
	return buffer;
}

static void put_value(const struct setting *setting)
{
	if (setting->choices) {
		for (size_t i = 0; setting->choices[i]; i++)
			(void)printf("%s*%s*", i ? " or " : "", setting->choices[i]);
	} else {
		const char *name = value_names[setting->type];

		(void)printf("_%s_", name ? name : "text");
	}
}

static void put_setting(const struct setting *setting)
{
	char low[BOUND_BYTES], high[BOUND_BYTES];
	bool ranged = setting->type == SETTING_BYTES || setting->type == SETTING_MS || setting->type == SETTING_COUNT;

	(void)putchar('*');
	put_escaped(setting->key);
	(void)fputs("* = ", stdout);
	put_value(setting);
	(void)fputs("\n\t", stdout);
	put_escaped(setting->help);
	if (ranged)
		(void)printf(". From %s to %s", bound(setting, setting->min, low),
			     bound(setting, setting->max, high));
	(void)printf(". Default: %s", setting->initial[0] ? "*" : "empty");
	put_escaped(setting->initial);
	(void)fputs(setting->initial[0] ? "*.\n\n" : ".\n\n", stdout);
}

/* Of all sections, each with its settings. */
static void put_settings(void)
{
	for (int i = 0; i < CONFIG_SETTINGS; i++) {
		if (i == 0 || strcmp(settings[i].section, settings[i - 1].section) != 0)
			(void)printf("## [%s]\n\n", settings[i].section);
		put_setting(&settings[i]);
	}
}

/* The settings as options, by their names alone. */
static void put_options(void)
{
	char name[CONFIG_NAME_BYTES_MAX];

	for (int i = 0; i < CONFIG_SETTINGS; i++) {
		(void)printf("%s*--%s*", i ? ",\n" : "", setting_option_name(&settings[i], name));
		if (settings[i].alias)
			(void)printf(" (or *--%s*)", settings[i].alias);
	}
	(void)puts(".");
}

/* ---- Metrics ---- */

enum metric_kind { FAMILY_OF, VALUE_OF, SPACE_OF, HOST_OF, HISTOGRAM_OF };

struct metric {
	enum metric_kind kind;
	const char *name; /* of a family; of a histogram its label */
	const char *type;
	const char *text; /* of a family the sentence, of a value its labels */
};

static const struct metric metrics[] = {
#define FAMILY(name, type, unit, sentence) { FAMILY_OF, #name, #type, sentence },
#define VALUE(field, labels, sentence) { VALUE_OF, NULL, NULL, labels },
#define SPACE_VALUE(field, labels) { SPACE_OF, NULL, NULL, labels },
#define HOST_VALUE(source) { HOST_OF, NULL, NULL, "" },
#define HISTOGRAM(field, label, n, name) { HISTOGRAM_OF, label, NULL, "" },
#include "proto/metrics.def"
};

#define METRICS (sizeof(metrics) / sizeof(metrics[0]))

/* Names of the process belong to every program; all others are ours. */
static const char *prefix_of(const struct metric *family)
{
	return strncmp(family->name, "process_", strlen("process_")) == 0 ? "" : "kvpaged_";
}

static const char *type_word(const struct metric *family)
{
	if (strcmp(family->type, "COUNTER") == 0)
		return "counter";
	return strcmp(family->type, "GAUGE") == 0 ? "gauge" : "histogram";
}

/* The names and values of a family's labels: "; by state: stored, free; by space". */
static void put_labels(size_t family)
{
	bool named = false;

	for (size_t i = family + 1; i < METRICS && metrics[i].kind != FAMILY_OF; i++) {
		const char *is = strchr(metrics[i].text, '=');

		if (metrics[i].kind == HISTOGRAM_OF && metrics[i].name[0])
			(void)printf("; by %s", metrics[i].name);
		if (!is)
			continue;
		if (named)
			(void)fputs(", ", stdout);
		else
			(void)printf("; by %.*s: ", (int)(is - metrics[i].text), metrics[i].text);
		(void)printf("%.*s", (int)strlen(is) - 3, is + 2); /* without the quotes */
		named = true;
	}
	if (family + 1 < METRICS && metrics[family + 1].kind == SPACE_OF)
		(void)fputs("; by space", stdout);
}

static void put_metrics(void)
{
	for (size_t i = 0; i < METRICS; i++) {
		const struct metric *metric = &metrics[i];

		if (metric->kind != FAMILY_OF)
			continue;
		(void)putchar('*');
		put_escaped(prefix_of(metric));
		put_escaped(metric->name);
		(void)printf("* (%s", type_word(metric));
		put_labels(i);
		(void)fputs(")\n\t", stdout);
		put_escaped(metric->text);
		(void)fputs(".\n\n", stdout);
	}
}

/* ---- Statuses ---- */

static void put_statuses(void)
{
#define X(name, number, text)                           \
	(void)fputs("|  *", stdout);                    \
	put_escaped(#name);                             \
	(void)printf("*\n:  %d\n:  %s\n", number, text);
	KVP_STATUS_LIST(X)
#undef X
}

/* ---- Documents ---- */

static const struct {
	const char *line;
	void (*put)(void);
} lists[] = {
	{ "@settings@\n", put_settings },
	{ "@options@\n", put_options },
	{ "@metrics@\n", put_metrics },
	{ "@statuses@\n", put_statuses },
};

static void put_line(const char *line)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		if (strcmp(line, lists[i].line) != 0)
			continue;
		lists[i].put();
		return;
	}
	(void)fputs(line, stdout);
}

int main(int argc, char **argv)
{
	_cleanup_(filep) FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	if (!file) {
		(void)fprintf(stderr, "usage: page FILE (which can be read)\n");
		return 2;
	}
	while (getline(&line, &size, file) > 0)
		put_line(line);
	return ferror(file) || fflush(stdout) != 0 ? 1 : 0;
}
