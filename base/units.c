/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsers: the whole text must match, overflow is an error, there are no signs, spaces or locales. */
#include "base/units.h"

#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit byte_units[] = {
	{ "", 1 },        { "B", 1 },       { "K", KIB },         { "KiB", KIB },           { "M", MIB },
	{ "MiB", MIB },   { "G", GIB },     { "GiB", GIB },       { "T", GIB << 10 },       { "TiB", GIB << 10 },
};

static const struct unit ms_units[] = {
	{ "", 1 }, { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 },
};

static int parse_scaled(const char *text, const struct unit *units, size_t n_units, uint64_t *ret)
{
	uint64_t value = 0;
	const char *p = text;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (!checked_mul_u64(value, 10, &value) || !checked_add_u64(value, (uint64_t)(*p - '0'), &value))
			return -ERANGE;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(p, units[i].suffix) != 0)
			continue;
		return checked_mul_u64(value, units[i].factor, ret) ? 0 : -ERANGE;
	}
	return -EINVAL;
}

int units_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	return parse_scaled(text, byte_units, sizeof(byte_units) / sizeof(byte_units[0]), ret_bytes);
}

int units_parse_ms(const char *text, uint64_t *ret_ms)
{
	return parse_scaled(text, ms_units, sizeof(ms_units) / sizeof(ms_units[0]), ret_ms);
}

int units_parse_u64(const char *text, uint64_t *ret_value)
{
	return parse_scaled(text, byte_units, 1, ret_value);
}

char *units_format_bytes(uint64_t bytes, char *buffer, size_t size)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 1024.0 && i + 1 < sizeof(names) / sizeof(names[0])) {
		value /= 1024.0;
		i++;
	}
	(void)snprintf(buffer, size, i == 0 ? "%.0f %s" : "%.1f %s", value, names[i]);
	return buffer;
}
