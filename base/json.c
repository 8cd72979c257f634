/* SPDX-License-Identifier: Apache-2.0 */
/* The writer keeps one flag a level: whether a comma is due before the next value. */
#include "base/json.h"

#include "base/contract.h"
#include "base/text.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void json_init(struct json *json, FILE *stream)
{
	*json = (struct json){ .stream = stream };
}

static void value_begin(struct json *json)
{
	if (json->key_open) {
		json->key_open = false;
		return;
	}
	if (json->depth == 0)
		return;
	kvp_assert(!json->object[json->depth - 1]);
	if (json->used[json->depth - 1])
		(void)fputc(',', json->stream);
	json->used[json->depth - 1] = true;
}

static void level_begin(struct json *json, bool object)
{
	value_begin(json);
	kvp_assert(json->depth < JSON_DEPTH_MAX);
	json->object[json->depth] = object;
	json->used[json->depth] = false;
	json->depth++;
	(void)fputc(object ? '{' : '[', json->stream);
}

static void level_end(struct json *json, bool object)
{
	kvp_assert(json->depth > 0 && json->object[json->depth - 1] == object && !json->key_open);
	json->depth--;
	(void)fputc(object ? '}' : ']', json->stream);
}

void json_object_begin(struct json *json)
{
	level_begin(json, true);
}

void json_object_end(struct json *json)
{
	level_end(json, true);
}

void json_array_begin(struct json *json)
{
	level_begin(json, false);
}

void json_array_end(struct json *json)
{
	level_end(json, false);
}

/* Bytes of the character at p, 2 to 4 where it is one beyond ASCII, else 1. */
static size_t character_length(const uint8_t *p, size_t n)
{
	for (size_t length = 2; p[0] >= 0x80 && length <= 4 && length <= n; length++)
		if (text_is_clean(p, length))
			return length;
	return 1;
}

static void write_quoted(struct json *json, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	size_t length;

	(void)fputc('"', json->stream);
	for (size_t i = 0; i < n; i += length) {
		length = character_length(p + i, n - i);
		if (p[i] == '"' || p[i] == '\\')
			(void)fprintf(json->stream, "\\%c", p[i]);
		else if (length == 1 && (p[i] < 0x20 || p[i] >= 0x7f))
			(void)fprintf(json->stream, "\\u%04x", p[i]);
		else
			(void)fwrite(p + i, 1, length, json->stream);
	}
	(void)fputc('"', json->stream);
}

void json_key(struct json *json, const char *key)
{
	kvp_assert(json->depth > 0 && json->object[json->depth - 1] && !json->key_open);
	if (json->used[json->depth - 1])
		(void)fputc(',', json->stream);
	json->used[json->depth - 1] = true;
	write_quoted(json, key, strlen(key));
	(void)fputc(':', json->stream);
	json->key_open = true;
}

void json_string(struct json *json, const char *text)
{
	json_bytes(json, text, strlen(text));
}

void json_bytes(struct json *json, const void *bytes, size_t n)
{
	value_begin(json);
	write_quoted(json, bytes, n);
}

void json_u64(struct json *json, uint64_t value)
{
	value_begin(json);
	(void)fprintf(json->stream, "%" PRIu64, value);
}

void json_i64(struct json *json, int64_t value)
{
	value_begin(json);
	(void)fprintf(json->stream, "%" PRId64, value);
}

void json_double(struct json *json, double value)
{
	value_begin(json);
	if (isfinite(value))
		(void)fprintf(json->stream, "%.9g", value);
	else
		(void)fputs("null", json->stream);
}

void json_bool(struct json *json, bool value)
{
	value_begin(json);
	(void)fputs(value ? "true" : "false", json->stream);
}

void json_kv_string(struct json *json, const char *key, const char *text)
{
	json_key(json, key);
	json_string(json, text);
}

void json_kv_u64(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	json_u64(json, value);
}

void json_kv_double(struct json *json, const char *key, double value)
{
	json_key(json, key);
	json_double(json, value);
}

void json_kv_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	json_bool(json, value);
}

void json_finish(struct json *json)
{
	kvp_assert(json->depth == 0 && !json->key_open);
	(void)fputc('\n', json->stream);
}
