/* SPDX-License-Identifier: Apache-2.0 */
/* Cells are owned copies, row by row. */
#include "client/kvctl/output.h"

#include "base/contract.h"
#include "base/text.h"
#include "base/units.h"
#include "client/kvctl/kvctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEX_PREFIX "hex:"
#define GAP 2

char *printable(const void *bytes, size_t n, char *buffer)
{
	if (n < PRINTABLE_BYTES && text_is_clean(bytes, n)) {
		memcpy(buffer, bytes, n);
		buffer[n] = '\0';
		return buffer;
	}
	return text_escape(bytes, n, buffer, PRINTABLE_BYTES);
}

/* Printable ASCII without blanks and backslashes, that key_parse() reads back as these bytes. */
static bool key_is_plain(const char *key, size_t n)
{
	size_t prefix = strlen(HEX_PREFIX);

	if (key[0] == '-' || (n >= prefix && memcmp(key, HEX_PREFIX, prefix) == 0))
		return false;
	for (size_t i = 0; i < n; i++)
		if (key[i] <= ' ' || key[i] > '~' || key[i] == '\\')
			return false;
	return true;
}

char *printable_key(const void *key, size_t n, char *buffer)
{
	kvp_assert(n > 0 && n <= KVC_KEY_BYTES_MAX);
	if (key_is_plain(key, n))
		return printable(key, n, buffer);
	memcpy(buffer, HEX_PREFIX, sizeof(HEX_PREFIX));
	(void)text_hex(key, n, buffer + strlen(HEX_PREFIX), PRINTABLE_BYTES - strlen(HEX_PREFIX));
	return buffer;
}

int key_parse(const char *text, struct key_storage *storage, struct kvc_key *ret_key)
{
	size_t prefix = strlen(HEX_PREFIX);
	size_t n = strlen(text);
	char shown[PRINTABLE_BYTES];
	int r = 0;

	if (strncmp(text, HEX_PREFIX, prefix) == 0)
		r = text_unhex(text + prefix, storage->bytes, sizeof(storage->bytes), &n);
	else if (n == 0)
		return ctl_usage("a key may not be empty");
	else if (n > sizeof(storage->bytes))
		r = -ERANGE;
	else
		memcpy(storage->bytes, text, n);
	(void)printable(text, strlen(text), shown);
	if (r == -ERANGE)
		return ctl_usage("the key '%s' is longer than %d bytes", shown, KVC_KEY_BYTES_MAX);
	if (r < 0)
		return ctl_usage("'%s' is not hex:, then an even number of hex digits", shown);
	*ret_key = (struct kvc_key){ .bytes = storage->bytes, .n = n };
	return CTL_OK;
}

void json_kv_key(struct json *json, const void *key, size_t n)
{
	char text[PRINTABLE_BYTES];

	json_kv_string(json, "key", printable_key(key, n, text));
	json_kv_string(json, "key_hex", text_hex(key, n, text, sizeof(text)));
}

static void add_cell(struct table *table, const char *text)
{
	char *copy;

	if (table->n == table->capacity) {
		size_t capacity = table->capacity ? 2 * table->capacity : 256;
		char **cells = reallocarray(table->cells, capacity, sizeof(*cells));

		if (!cells) {
			table->failed = true;
			return;
		}
		table->cells = cells;
		table->capacity = capacity;
	}
	copy = strdup(text);
	if (!copy)
		table->failed = true;
	else
		table->cells[table->n++] = copy;
}

void table_init(struct table *table, ...)
{
	const char *title;
	va_list list;

	*table = (struct table){ 0 };
	va_start(list, table);
	while ((title = va_arg(list, const char *))) {
		kvp_assert(table->columns < TABLE_COLUMNS_MAX);
		table->right[table->columns++] = title[0] == '>';
		add_cell(table, title + (title[0] == '>'));
	}
	va_end(list);
}

void table_text(struct table *table, const char *text)
{
	char shown[PRINTABLE_BYTES];

	add_cell(table, printable(text, strlen(text), shown));
}

void table_u64(struct table *table, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	add_cell(table, text);
}

void table_size(struct table *table, uint64_t bytes)
{
	char text[24];

	add_cell(table, units_format_bytes(bytes, text, sizeof(text)));
}

void table_ms(struct table *table, uint64_t ms)
{
	char text[32];

	add_cell(table, format_ms(ms, text));
}

/* Bytes of the style that text begins with, or 0. */
static size_t style_bytes(const char *text)
{
	const char *end = text[0] == '\x1b' ? strchr(text, 'm') : NULL;

	return end ? (size_t)(end - text) + 1 : 0;
}

/* One column for each character, taking UTF-8 continuation bytes and styles for none. */
size_t text_fit(const char *text, size_t columns, size_t *ret_columns)
{
	size_t n = 0;
	size_t width = 0;

	while (text[n] != '\0') {
		size_t skipped = style_bytes(text + n);
		bool begins = ((unsigned char)text[n] & 0xc0) != 0x80;

		if (skipped == 0 && begins && width++ == columns) {
			width = columns;
			break;
		}
		n += skipped ? skipped : 1;
	}
	if (ret_columns)
		*ret_columns = width;
	return n;
}

static size_t text_width(const char *text)
{
	size_t width;

	(void)text_fit(text, SIZE_MAX, &width);
	return width;
}

static void print_cell(const char *text, size_t width, bool right, bool last)
{
	int pad = (int)(width - text_width(text));

	if (right)
		(void)printf("%*s%s", pad, "", text);
	else if (last)
		(void)printf("%s", text);
	else
		(void)printf("%s%*s", text, pad, "");
	(void)printf("%*s", last ? 0 : GAP, "");
}

static void print_rows(const struct table *table)
{
	size_t widths[TABLE_COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < table->n; i++) {
		size_t width = text_width(table->cells[i]);
		size_t *widest = &widths[i % table->columns];

		*widest = width > *widest ? width : *widest;
	}
	for (size_t i = 0; i < table->n; i++) {
		size_t column = i % table->columns;
		bool last = column + 1 == table->columns;

		print_cell(table->cells[i], widths[column], table->right[column], last);
		if (last)
			(void)putchar('\n');
	}
}

void table_deinit(struct table *table)
{
	for (size_t i = 0; i < table->n; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){ 0 };
}

int table_finish(struct table *table)
{
	bool failed = table->failed;

	kvp_assert(failed || table->n % table->columns == 0);
	if (!failed)
		print_rows(table);
	table_deinit(table);
	return failed ? ctl_error("out of memory") : CTL_OK;
}

char *format_ms(uint64_t ms, char *buffer)
{
	uint64_t seconds = ms / 1000;

	if (ms < 1000)
		(void)snprintf(buffer, 32, "%" PRIu64 " ms", ms);
	else if (seconds < 60)
		(void)snprintf(buffer, 32, "%.1f s", (double)ms / 1000.0);
	else if (seconds < 3600)
		(void)snprintf(buffer, 32, "%" PRIu64 " min %" PRIu64 " s", seconds / 60, seconds % 60);
	else if (seconds < 86400)
		(void)snprintf(buffer, 32, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600, seconds / 60 % 60);
	else
		(void)snprintf(buffer, 32, "%" PRIu64 " d %" PRIu64 " h", seconds / 86400, seconds / 3600 % 24);
	return buffer;
}

char *format_us(uint64_t us, char *buffer)
{
	if (us < 1000)
		(void)snprintf(buffer, 32, "%" PRIu64 " us", us);
	else if (us < 1000000)
		(void)snprintf(buffer, 32, "%.1f ms", (double)us / 1e3);
	else
		(void)snprintf(buffer, 32, "%.1f s", (double)us / 1e6);
	return buffer;
}

static bool styles_wanted(void)
{
	static int wanted = -1; /* not looked yet */
	const char *none = getenv("NO_COLOR");
	const char *terminal = getenv("TERM");

	if (wanted < 0)
		wanted = isatty(STDOUT_FILENO) && !(none && *none) && terminal && strcmp(terminal, "dumb") != 0;
	return wanted;
}

const char *style(enum style style)
{
	static const char *const sequences[] = {
		[STYLE_PLAIN] = "\x1b[0m",	[STYLE_TITLE] = "\x1b[1m",    [STYLE_DIM] = "\x1b[2m",
		[STYLE_GOOD] = "\x1b[32m", [STYLE_WARNING] = "\x1b[33m", [STYLE_BAD] = "\x1b[31m",
	};

	return styles_wanted() ? sequences[style] : "";
}

struct json json_stdout(void)
{
	struct json json;

	json_init(&json, stdout);
	return json;
}
