/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people and scripts get to see. Text that came from outside is printed as it is when it is clean UTF-8 and
 * escaped (\xNN) otherwise. Tables are made of cells: first all are collected, then each column is as wide as its
 * widest cell.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"
#include "client/kvclient.h"

/* Room for any text that printable() makes; longer text is cut. */
#define PRINTABLE_BYTES 1024

/* Writes text fit for a terminal into buffer of PRINTABLE_BYTES; returns buffer. */
char *printable(const void *bytes, size_t n, char *buffer);

/* A key as kvctl prints and reads it: its text when that is clean and not mistakable, else "hex:..." Same buffer. */
char *printable_key(const void *key, size_t n, char *buffer);

/*
 * Reads a key from the command line: "hex:00ff" or plain text. The bytes lie in storage. Returns CTL_OK or, after a
 * line on stderr, CTL_USAGE.
 */
struct key_storage {
	uint8_t bytes[KVC_KEY_BYTES_MAX];
};
int key_parse(const char *text, struct key_storage *storage, struct kvc_key *ret_key);

/* The key as JSON members: "key" as printed, "key_hex" always. */
void json_kv_key(struct json *json, const void *key, size_t n);

#define TABLE_COLUMNS_MAX 16

struct table {
	size_t columns;
	bool right[TABLE_COLUMNS_MAX]; /* numbers are flush right */
	char **cells;
	size_t n;
	size_t capacity;
	bool failed; /* out of memory: nothing will be printed */
};

/* A title that begins with '>' makes its column flush right. Ends with NULL. */
__attribute__((sentinel)) void table_init(struct table *table, ...);
void table_text(struct table *table, const char *text);
void table_u64(struct table *table, uint64_t value);
void table_size(struct table *table, uint64_t bytes);
void table_ms(struct table *table, uint64_t ms);

void table_deinit(struct table *table);

/* Prints the table on stdout and frees it. Returns CTL_OK, or CTL_FAILED after a line on stderr. */
int table_finish(struct table *table);

/* Writes a duration for people ("3.2 s", "5 h 12 min") into buffer of 32 bytes; returns buffer. */
char *format_ms(uint64_t ms, char *buffer);

/* Writes a duration in microseconds ("64 us", "1.0 ms", "2.1 s") into buffer of 32 bytes; returns buffer. */
char *format_us(uint64_t us, char *buffer);

/* How text stands out. */
enum style { STYLE_PLAIN, STYLE_TITLE, STYLE_DIM, STYLE_GOOD, STYLE_WARNING, STYLE_BAD };

/*
 * What makes a terminal show the following text so, until STYLE_PLAIN; "" when stdout is not a terminal that can, or
 * $NO_COLOR is set. Static storage.
 */
const char *style(enum style style);

/*
 * How many bytes of text (a line with or without styles) take up at most so many columns of a terminal. ret_columns
 * (NULL: not wanted): how many they take.
 */
size_t text_fit(const char *text, size_t columns, size_t *ret_columns);

/* JSON on stdout. */
struct json json_stdout(void);
