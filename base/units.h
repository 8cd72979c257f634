/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and times as people write them: "64MiB", "30s". Used by configuration and command lines. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/*
 * Parses a non-negative whole number of bytes: digits and an optional suffix B, KiB, MiB, GiB, TiB (or K, M, G,
 * T, which mean the same binary units). Results: 0, -EINVAL (not such a text), -ERANGE (does not fit 64 bits).
 */
int units_parse_bytes(const char *text, uint64_t *ret_bytes);

/* Parses a duration in milliseconds: digits and ms, s, min or h; a bare number is milliseconds. Results as
 * above. */
int units_parse_ms(const char *text, uint64_t *ret_ms);

/* Parses a plain non-negative decimal number. Results as above. */
int units_parse_u64(const char *text, uint64_t *ret_value);

/* Writes a size for people ("1.5 GiB") into buffer, always terminated; returns buffer. 16 bytes suffice. */
char *units_format_bytes(uint64_t bytes, char *buffer, size_t size);
