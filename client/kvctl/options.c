/* SPDX-License-Identifier: Apache-2.0 */
/* Options are numbered over all sets; getopt_long returns LONG_BASE plus that number for long and short forms alike. */
#include "client/kvctl/options.h"

#include "base/checked.h"
#include "base/contract.h"
#include "base/units.h"
#include "client/kvctl/kvctl.h"
#include "client/kvctl/output.h"

#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LONG_BASE 256

struct known {
	const struct option_spec *specs[OPTIONS_MAX];
	void *values[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1];
	char shorts[2 + 2 * OPTIONS_MAX + 1];
	size_t n;
};

static int has_argument(const struct option_spec *spec)
{
	if (spec->type == OPTION_FLAG)
		return no_argument;
	return spec->type == OPTION_INTERVAL ? optional_argument : required_argument;
}

static void known_add(struct known *known, const struct option_spec *spec, void *values)
{
	size_t at = strlen(known->shorts);

	kvp_assert(known->n < OPTIONS_MAX);
	known->specs[known->n] = spec;
	known->values[known->n] = values;
	known->longs[known->n] = (struct option){ spec->name, has_argument(spec), NULL, LONG_BASE + (int)known->n };
	known->n++;
	if (spec->letter == '\0')
		return;
	known->shorts[at++] = spec->letter;
	if (has_argument(spec) == required_argument)
		known->shorts[at++] = ':';
	known->shorts[at] = '\0';
}

static size_t known_of(const struct known *known, int code)
{
	size_t i = 0;

	if (code >= LONG_BASE)
		return (size_t)(code - LONG_BASE);
	while (known->specs[i]->letter != code)
		i++;
	return i;
}

static int complain(const struct option_spec *spec, const char *value, int result)
{
	static const char *const wanted[] = {
		[OPTION_NUMBER] = "a whole number",
		[OPTION_BYTES] = "a size such as 512MiB",
		[OPTION_MS] = "a time such as 250ms or 30s",
		[OPTION_INTERVAL] = "a number of seconds or a time such as 250ms",
		[OPTION_SECONDS] = "a number of seconds or a time such as 250ms",
	};
	char text[PRINTABLE_BYTES];

	(void)ctl_usage("--%s wants %s, not '%s'%s", spec->name, wanted[spec->type],
			printable(value, strlen(value), text), result == -ERANGE ? " (too large)" : "");
	return -EINVAL;
}

/* "0.25": seconds with at most three digits behind the point. */
static int parse_fraction(const char *text, uint64_t *ret_ms)
{
	const char *point = strchr(text, '.');
	uint64_t seconds = 0;
	uint64_t ms = 0;
	char digits[4] = "000";
	size_t n = point ? strlen(point + 1) : 0;

	if (n == 0 || n >= sizeof(digits) || strspn(text, "0123456789") != (size_t)(point - text))
		return -EINVAL;
	memcpy(digits, point + 1, n);
	for (const char *digit = text; digit < point; digit++)
		if (!checked_mul_u64(seconds, 10, &seconds) ||
		    !checked_add_u64(seconds, (uint64_t)(*digit - '0'), &seconds))
			return -ERANGE;
	if (units_parse_u64(digits, &ms) < 0)
		return -EINVAL;
	return checked_mul_u64(seconds, 1000, &seconds) && checked_add_u64(seconds, ms, ret_ms) ? 0 : -ERANGE;
}

static int parse_interval(const char *value, uint64_t *ret_ms)
{
	uint64_t ms;
	int r = units_parse_u64(value, &ms);

	if (r == 0 && !checked_mul_u64(ms, 1000, &ms))
		r = -ERANGE;
	else if (r < 0)
		r = strchr(value, '.') ? parse_fraction(value, &ms) : units_parse_ms(value, &ms);
	if (r == 0 && ms == 0)
		r = -EINVAL;
	if (r == 0)
		*ret_ms = ms;
	return r;
}

static int store(const struct option_spec *spec, void *values, const char *value)
{
	void *place = (char *)values + spec->offset;
	int r = 0;

	switch (spec->type) {
	case OPTION_FLAG:
		*(bool *)place = true;
		break;
	case OPTION_TEXT:
		*(const char **)place = value;
		break;
	case OPTION_NUMBER:
		r = units_parse_u64(value, place);
		break;
	case OPTION_BYTES:
		r = units_parse_bytes(value, place);
		break;
	case OPTION_INTERVAL:
	case OPTION_SECONDS:
		if (!value)
			*(uint64_t *)place = spec->default_ms;
		else
			r = parse_interval(value, place);
		break;
	case OPTION_MS:
		r = units_parse_ms(value, place);
		break;
	}
	return r < 0 ? complain(spec, value, r) : 0;
}

/* getopt_long found fault with this argument. */
static int refuse(const struct known *known, int code, const char *argument)
{
	char text[PRINTABLE_BYTES];

	(void)printable(argument, strlen(argument), text);
	if (code == ':')
		(void)ctl_usage("option '%s' needs a value", text);
	else if (optopt >= LONG_BASE)
		(void)ctl_usage("option '--%s' takes no value", known->specs[optopt - LONG_BASE]->name);
	else
		(void)ctl_usage("unknown option '%s'", text);
	return -EINVAL;
}

int options_parse(int argc, char **argv, const struct option_set *sets, size_t n_sets, bool first_operand_ends,
		  int *ret_operands)
{
	struct known known = { .shorts = ":" };
	int code;

	kvp_assert(n_sets <= OPTION_SETS_MAX);
	if (first_operand_ends)
		memcpy(known.shorts, "+:", 3);
	for (size_t i = 0; i < n_sets; i++)
		for (const struct option_spec *spec = sets[i].specs; spec && spec->name; spec++)
			known_add(&known, spec, sets[i].values);
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while ((code = getopt_long(argc, argv, known.shorts, known.longs, NULL)) != -1) {
		size_t i;
		int r;

		if (code == '?' || code == ':')
			return refuse(&known, code, argv[optind - 1]);
		i = known_of(&known, code);
		r = store(known.specs[i], known.values[i], optarg);
		if (r < 0)
			return r;
	}
	*ret_operands = optind;
	return 0;
}

void options_help(const struct option_spec *specs)
{
	for (const struct option_spec *spec = specs; spec && spec->name; spec++) {
		char left[64];
		const char *argument = spec->argument ? spec->argument : "";
		const char *format = !spec->argument		     ? "%s--%s%s"
				     : spec->type == OPTION_INTERVAL ? "%s--%s[=%s]"
								     : "%s--%s %s";
		char letter[8] = "    ";

		if (spec->letter)
			(void)snprintf(letter, sizeof(letter), "-%c, ", spec->letter);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)snprintf(left, sizeof(left), format, letter, spec->name, argument);
#pragma GCC diagnostic pop
		(void)printf("  %-28s %s\n", left, spec->help);
	}
}
