/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON writer onto a stdio stream: objects and arrays nested up to JSON_DEPTH_MAX, commas and escapes by
 * itself. Strings are bytes; what is not UTF-8 text is written as \u00NN, so the output is always valid JSON.
 * Write errors stay in the stream (ferror). Misuse (a key outside an object, unbalanced ends) is a bug and
 * asserts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 16

struct json {
	FILE *stream;
	unsigned depth;
	bool object[JSON_DEPTH_MAX];
	bool used[JSON_DEPTH_MAX];
	bool key_open;
};

/* Starts a document on the stream, which the caller keeps. */
void json_init(struct json *json, FILE *stream);

void json_object_begin(struct json *json);
void json_object_end(struct json *json);
void json_array_begin(struct json *json);
void json_array_end(struct json *json);

/* The key of the next value; ASCII, owned by the caller. */
void json_key(struct json *json, const char *key);

void json_string(struct json *json, const char *text);
void json_bytes(struct json *json, const void *bytes, size_t n);
void json_u64(struct json *json, uint64_t value);
void json_i64(struct json *json, int64_t value);
/* NaN and infinities, which JSON lacks, are written as null. */
void json_double(struct json *json, double value);
void json_bool(struct json *json, bool value);

/* Key and value in one. */
void json_kv_string(struct json *json, const char *key, const char *text);
void json_kv_u64(struct json *json, const char *key, uint64_t value);
void json_kv_double(struct json *json, const char *key, double value);
void json_kv_bool(struct json *json, const char *key, bool value);

/* Ends the document with a newline; everything opened must be closed. */
void json_finish(struct json *json);
