/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command line options from tables. A table describes each option once; getopt_long's structures, the checks and the
 * help text are made from it. Values are written into a struct of the caller at the offset that the table names.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum option_type {
	OPTION_FLAG,	 /* bool */
	OPTION_TEXT,	 /* const char *, pointing into argv */
	OPTION_NUMBER,	 /* uint64_t: digits */
	OPTION_BYTES,	 /* uint64_t: "64MiB" */
	OPTION_MS,	 /* uint64_t: "250ms", "30s" */
	OPTION_INTERVAL, /* uint64_t, in ms: "2" (seconds), "0.5", "500ms"; the value may be left out: default_ms */
	OPTION_SECONDS,	 /* the same, but the value is needed */
};

struct option_spec {
	const char *name; /* without dashes; NULL ends the table */
	char letter;	  /* '\0': none */
	enum option_type type;
	const char *argument; /* its name in help; NULL for flags */
	const char *help;     /* one line */
	size_t offset;
	unsigned default_ms; /* of OPTION_INTERVAL */
};

/* A table and the struct that its options write to. */
struct option_set {
	const struct option_spec *specs; /* NULL: none */
	void *values;
};

#define OPTION_SETS_MAX 2
#define OPTIONS_MAX 32

/*
 * Parses argv[1..argc) with the options of all sets. Operands are moved behind options, so options may follow operands
 * ("--" ends them); with first_operand_ends, parsing stops at the first operand. Results: 0 and the index of the first
 * operand; -EINVAL after a line on stderr.
 */
int options_parse(int argc, char **argv, const struct option_set *sets, size_t n_sets, bool first_operand_ends,
		  int *ret_operands);

/* Prints the table's lines of help on stdout. */
void options_help(const struct option_spec *specs);
