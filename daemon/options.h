/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: what to do, and values for settings (every row of the settings' table is an
 * option).
 */
#pragma once

#include <stdio.h>

#include "daemon/config.h"
#include "daemon/host/error.h"

enum options_action {
	OPTIONS_RUN,
	OPTIONS_CHECK_CONFIG,
	OPTIONS_PRINT_CONFIG,
	OPTIONS_HELP,
	OPTIONS_VERSION
};

struct options {
	enum options_action action;
	struct config_sources sources; /* points into argv */
};

/*
 * Of an option given twice the last counts. Results: 0, or -EINVAL and *error (exit status
 * HOST_EXIT_USAGE).
 */
int options_parse(int argc, char **argv, struct options *ret_options, struct host_error *error);

/* What --help prints. */
void options_print_help(FILE *stream);
