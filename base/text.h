/* SPDX-License-Identifier: Apache-2.0 */
/* Text from outside: names are checked, keys and messages are made printable before a person or a log sees
 * them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Whether bytes[0..n) is valid UTF-8 without control characters (C0, DEL, C1) and without NUL. */
bool text_is_clean(const void *bytes, size_t n);

/*
 * Writes bytes[0..n) as printable ASCII: printable characters as they are, others and '\' as \xNN. Cut at the
 * buffer's end, always terminated; returns buffer. A buffer of 4 * n + 1 bytes never cuts.
 */
char *text_escape(const void *bytes, size_t n, char *buffer, size_t size);

/* Writes bytes as lower-case hex, terminated; returns buffer. Needs 2 * n + 1 bytes; cut at the buffer's end. */
char *text_hex(const void *bytes, size_t n, char *buffer, size_t size);

/*
 * Reads hex digits (an even number, at most 2 * size) into buffer. Results: 0 and *ret_n, -EINVAL (not hex,
 * odd, empty), -ERANGE (too long).
 */
int text_unhex(const char *hex, void *buffer, size_t size, size_t *ret_n);
