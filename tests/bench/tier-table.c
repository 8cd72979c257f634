/* SPDX-License-Identifier: Apache-2.0 */
/* A ratio is the median of the ratios of the rounds: neighbours in time are compared, as disks have moods. */
#include "tests/bench/report.h"
#include "tests/bench/tier.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tier_row *row_of(struct tier_table *table, const char *name)
{
	for (size_t i = 0; i < table->n; i++)
		if (strcmp(table->rows[i].name, name) == 0)
			return &table->rows[i];
	if (!table->rows)
		table->rows = calloc(TIER_ROWS_MAX, sizeof(*table->rows));
	if (!table->rows || table->n == TIER_ROWS_MAX)
		abort();
	(void)snprintf(table->rows[table->n].name, sizeof(table->rows[0].name), "%s", name);
	return &table->rows[table->n++];
}

struct tier_row *tier_add(struct tier_table *table, double value, const char *unit, double against,
			  const char *format, ...)
{
	struct tier_row *row;
	char name[48];
	va_list list;

	va_start(list, format);
	(void)vsnprintf(name, sizeof(name), format, list);
	va_end(list);
	row = row_of(table, name);
	row->unit = unit;
	row->values[row->n] = value;
	row->ratios[row->n] = against > 0 ? value / against : 0;
	row->n += row->n + 1 < ROUNDS_MAX;
	return row;
}

static struct spread spread_of_copy(const double *values, size_t n)
{
	double sorted[ROUNDS_MAX];

	memcpy(sorted, values, n * sizeof(*values));
	return spread_of(sorted, n);
}

static void report_row(const struct tier_row *row, bool json)
{
	struct report number = { .bench = "tier",
				 .name = row->name,
				 .value = spread_of_copy(row->values, row->n),
				 .unit = row->unit,
				 .reference = row->reference ? row->reference : "itself",
				 .ratio = row->reference ? spread_of_copy(row->ratios, row->n).median : 1 };

	report(&number, json);
}

static void report_target(const struct tier_row *row, bool json)
{
	struct spread ratio = spread_of_copy(row->ratios, row->n);
	bool met = row->at_most ? ratio.median <= row->target : ratio.median >= row->target;
	char name[64], text[64];
	struct report number = { .bench = "tier",
				 .name = name,
				 .value = ratio,
				 .unit = "x",
				 .reference = text,
				 .ratio = ratio.median / row->target };

	(void)snprintf(name, sizeof(name), "target.%s", row->name);
	(void)snprintf(text, sizeof(text), "target: at %s %g, %s", row->at_most ? "most" : "least", row->target,
		       met ? "met" : "missed");
	report(&number, json);
}

void tier_report(const struct tier_table *table, bool json)
{
	for (size_t i = 0; i < table->n; i++)
		report_row(&table->rows[i], json);
	for (size_t i = 0; i < table->n; i++)
		if (table->rows[i].target > 0 && table->rows[i].reference)
			report_target(&table->rows[i], json);
}

void tier_table_free(struct tier_table *table)
{
	free(table->rows);
	*table = (struct tier_table){ 0 };
}
