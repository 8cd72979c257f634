/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the table of docs/metrics.md from proto/metrics.def: a row a family, in the order of a scrape. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/verbs.h"

#define LABELS_BYTES 1024
#define NAME_BYTES 64

static char labels[LABELS_BYTES];
static char last_name[NAME_BYTES];
static bool begun;

static void add(const char *text)
{
	size_t used = strlen(labels);

	(void)snprintf(labels + used, sizeof(labels) - used, "%s", text);
}

/* One value of a label; values of the same label follow each other behind its name. */
static void add_label(const char *name, const char *value)
{
	char text[2 * NAME_BYTES];

	if (strcmp(name, last_name) == 0)
		(void)snprintf(text, sizeof(text), ", `%s`", value);
	else
		(void)snprintf(text, sizeof(text), "%s%s: `%s`", labels[0] ? "; " : "", name, value);
	add(text);
	(void)snprintf(last_name, sizeof(last_name), "%s", name);
}

/* name="value", or nothing. */
static void add_text(const char *text)
{
	char name[NAME_BYTES], value[NAME_BYTES];

	if (sscanf(text, "%63[^=]=\"%63[^\"]\"", name, value) == 2)
		add_label(name, value);
}

static void add_space(const char *text)
{
	if (!strstr(labels, "space"))
		add("space: its name");
	add_text(text);
}

static void add_verbs(const char *label, unsigned n, const char *(*name)(unsigned))
{
	for (unsigned i = 0; name && i < n; i++)
		add_label(label, name(i));
}

static void add_host(const char *source)
{
	if (strcmp(source, "build_info") == 0)
		add("version");
	else if (strcmp(source, "restart_info") == 0)
		add_label("kind", "cold");
}

static void end_row(const char *sentence)
{
	if (begun)
		(void)printf("| %s | %s |\n", labels, sentence);
	labels[0] = '\0';
	last_name[0] = '\0';
	begun = true;
}

static void begin_row(const char *name, const char *type)
{
	const char *prefix = strncmp(name, "process_", strlen("process_")) == 0 ? "" : "kvpaged_";

	(void)printf("| `%s%s` | ", prefix, name);
	for (; *type; type++)
		(void)putchar(*type - 'A' + 'a');
	(void)putchar(' ');
}

int main(void)
{
	const char *sentence = "";

	(void)printf("| metric | type | labels | what |\n|---|---|---|---|\n");
#define FAMILY(name, type, unit, text)                                                                         \
	end_row(sentence);                                                                                     \
	begin_row(#name, #type);                                                                               \
	sentence = text;
#define VALUE(field, text, what) add_text(text);
#define SPACE_VALUE(field, text) add_space(text);
#define HOST_VALUE(source) add_host(#source);
#define HISTOGRAM(field, label, n, name) add_verbs(label, n, name);
#include "proto/metrics.def"
	end_row(sentence);
	return 0;
}
