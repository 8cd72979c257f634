/* SPDX-License-Identifier: Apache-2.0 */
/*
 * getopt_long() over an array made from the settings' table. The values are checked when the
 * configuration is put together; the error then names the option.
 */
#include "daemon/options.h"

#include "base/text.h"
#include "daemon/config-table.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

enum verb {
	VERB_CONFIG = CONFIG_SETTINGS,
	VERB_CHECK_CONFIG,
	VERB_PRINT_CONFIG,
	VERB_VERSION,
	VERB_HELP = 'h',
};

#define FIXED_OPTIONS 5

_Static_assert(VERB_VERSION < VERB_HELP, "the number of a setting or verb is not a letter");

/* Each setting may have an alias; the last entry stays empty. */
struct option_table {
	struct option options[2 * CONFIG_SETTINGS + FIXED_OPTIONS + 1];
	char names[CONFIG_SETTINGS][CONFIG_NAME_BYTES_MAX];
};

static void option_table_init(struct option_table *table)
{
	static const struct option fixed[FIXED_OPTIONS] = {
		{ "config", required_argument, NULL, VERB_CONFIG },
		{ "check-config", no_argument, NULL, VERB_CHECK_CONFIG },
		{ "print-config", no_argument, NULL, VERB_PRINT_CONFIG },
		{ "version", no_argument, NULL, VERB_VERSION },
		{ "help", no_argument, NULL, VERB_HELP },
	};
	struct option *next = table->options;

	memset(table, 0, sizeof(*table));
	for (int i = 0; i < FIXED_OPTIONS; i++)
		*next++ = fixed[i];
	for (int i = 0; i < CONFIG_SETTINGS; i++) {
		const char *name = setting_option_name(&settings[i], table->names[i]);

		*next++ = (struct option){ name, required_argument, NULL, i };
		if (settings[i].alias)
			*next++ = (struct option){ settings[i].alias, required_argument, NULL, i };
	}
}

static int usage_error(struct host_error *error, const char *argument, const char *problem)
{
	char escaped[HOST_ERROR_TEXT_BYTES / 2];

	return host_error_set(error, HOST_EXIT_USAGE, "%s: %s (--help lists the options)",
			      text_escape(argument, strlen(argument), escaped, sizeof(escaped)),
			      problem);
}

/*
 * getopt_long() does not tell where in argv a bad letter stood; numbers of long options are below
 * every letter but VERB_HELP.
 */
static int refuse_option(char **argv, struct host_error *error)
{
	char letter[] = { '-', (char)optopt, '\0' };

	if (optopt > VERB_VERSION && optopt != VERB_HELP)
		return usage_error(error, letter, "unknown option");
	return usage_error(error, argv[optind - 1],
			   optopt == 0 ? "unknown option" : "takes no value");
}

static void take_option(struct options *options, int option)
{
	static const enum options_action actions[] = {
		[VERB_CHECK_CONFIG] = OPTIONS_CHECK_CONFIG,
		[VERB_PRINT_CONFIG] = OPTIONS_PRINT_CONFIG,
		[VERB_VERSION] = OPTIONS_VERSION,
		[VERB_HELP] = OPTIONS_HELP,
	};

	if (option < CONFIG_SETTINGS)
		options->sources.arguments[option] = optarg;
	else if (option == VERB_CONFIG)
		options->sources.path = optarg;
	else
		options->action = actions[option];
}

int options_parse(int argc, char **argv, struct options *ret_options, struct host_error *error)
{
	struct options options = { .action = OPTIONS_RUN };
	struct option_table table;
	int option;

	option_table_init(&table);
	opterr = 0;
	optind = 0; /* glibc: begin anew */
	while ((option = getopt_long(argc, argv, ":h", table.options, NULL)) != -1) {
		if (option == ':')
			return usage_error(error, argv[optind - 1], "needs a value");
		if (option == '?')
			return refuse_option(argv, error);
		take_option(&options, option);
	}
	if (optind < argc)
		return usage_error(error, argv[optind], "not an option");
	*ret_options = options;
	return 0;
}

static void print_setting(const struct setting *setting, FILE *stream)
{
	char name[CONFIG_NAME_BYTES_MAX];

	(void)fprintf(stream, "  --%s VALUE", setting_option_name(setting, name));
	if (setting->alias)
		(void)fprintf(stream, ", --%s VALUE", setting->alias);
	(void)fprintf(stream, "\n        %s", setting->help);
	if (setting->initial[0])
		(void)fprintf(stream, " [%s]", setting->initial);
	(void)fputc('\n', stream);
}

void options_print_help(FILE *stream)
{
	(void)fputs(
		"Usage: kvpaged [OPTION]...\n"
		"Serves compressed KV-cache pages in shared memory to inference workers.\n"
		"\n"
		"  --config FILE\n"
		"        read this file, and FILE.d/*.conf [" CONFIG_PATH_DEFAULT "]\n"
		"  --check-config\n"
		"        check all settings and exit\n"
		"  --print-config\n"
		"        print all settings, each with its origin, and exit\n"
		"  --version\n"
		"  -h, --help\n"
		"\n"
		"Settings, with their defaults. In the file --arena-bytes is \"bytes\" in section\n"
		"[arena], in the environment KVPAGED_ARENA_BYTES. Arguments win over the\n"
		"environment, that over the files.\n",
		stream);
	for (int i = 0; i < CONFIG_SETTINGS; i++)
		print_setting(&settings[i], stream);
	(void)fputs(
		"\n"
		"Signals: SIGTERM and SIGINT stop in order, a second one at once; SIGHUP reads\n"
		"log.level again.\n"
		"Exit status: 0 stopped in order, 1 failure, 2 usage, 6 something that the\n"
		"configuration relies on is not there, 78 configuration error.\n",
		stream);
}
