/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define UTF8_INVALID UINT32_MAX

/*
 * The code point at bytes[0..n), n > 0, and its length in bytes. What is not UTF-8 is UTF8_INVALID
 * of length 1.
 */
uint32_t utf8_decode(const uint8_t *bytes, size_t n, size_t *ret_length);

/*
 * How many bytes at the end of bytes[0..n) begin a character whose rest has not come yet: 0 to 3.
 */
size_t utf8_incomplete_tail(const uint8_t *bytes, size_t n);
