/* SPDX-License-Identifier: Apache-2.0 */
/* What the three completion scripts have in common: which values an option or an operand takes. */
#pragma once

#include "client/kvctl/options.h"

#include <stdbool.h>
#include <stddef.h>

struct verb;

enum values {
	VALUES_ANY, /* nothing to offer */
	VALUES_FILES,
	VALUES_SPACES, /* asked of the daemon when somebody completes */
	VALUES_VERBS,
	VALUES_SHELLS,
	VALUES_CODECS,
	VALUES_DTYPES,
};

/* The values of an option that takes one, and of a verb's first operand. */
enum values values_of_option(const struct option_spec *spec);
enum values values_of_operand(const struct verb *verb);

/* The words to offer, with blanks between; NULL: files, spaces or nothing. */
const char *values_words(enum values values);

/* Whether the value is the next word of the command line. */
static inline bool takes_value(const struct option_spec *spec)
{
	return spec->type != OPTION_FLAG && spec->type != OPTION_INTERVAL;
}

/* Calls fn for each option of the verb alone; verb NULL: for each that all verbs have. */
void each_option(const struct verb *verb, void (*fn)(const struct verb *verb, const struct option_spec *spec));

/* Print a script on stdout. */
void completion_bash(void);
void completion_zsh(void);
void completion_fish(void);
