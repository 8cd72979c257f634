/* SPDX-License-Identifier: Apache-2.0 */
/* The script for fish: a line for each verb, option and kind of operand. */
#include "client/kvctl/completion.h"

#include "client/kvctl/kvctl.h"

#include <stdio.h>
#include <string.h>

static void put_quoted(const char *text)
{
	(void)putchar('\'');
	for (; *text; text++)
		(void)printf(strchr("'\\", *text) ? "\\%c" : "%c", *text);
	(void)putchar('\'');
}

static void put_values(enum values values)
{
	if (values == VALUES_FILES)
		(void)printf(" -F");
	else if (values == VALUES_SPACES)
		(void)printf(" -a '(command kvctl --timeout 1s spaces --names 2>/dev/null)'");
	else if (values != VALUES_ANY)
		(void)printf(" -a '%s'", values_words(values));
}

static void put_option(const struct verb *verb, const struct option_spec *spec)
{
	(void)printf("complete -c kvctl");
	if (verb)
		(void)printf(" -n '__fish_seen_subcommand_from %s'", verb->name);
	(void)printf(" -l %s", spec->name);
	if (spec->letter)
		(void)printf(" -s %c", spec->letter);
	if (takes_value(spec)) {
		(void)printf(" -r");
		put_values(values_of_option(spec));
	}
	(void)printf(" -d ");
	put_quoted(spec->help);
	(void)putchar('\n');
}

void completion_fish(void)
{
	const struct verb *verb;

	(void)printf("# kvctl for fish. Made by: kvctl completion fish\n\ncomplete -c kvctl -f\n");
	each_option(NULL, put_option);
	for (size_t i = 0; (verb = verb_at(i)); i++) {
		(void)printf("complete -c kvctl -n __fish_use_subcommand -a %s -d ", verb->name);
		put_quoted(verb->summary);
		(void)putchar('\n');
		each_option(verb, put_option);
		if (values_of_operand(verb) == VALUES_ANY)
			continue;
		(void)printf("complete -c kvctl -n '__fish_seen_subcommand_from %s'", verb->name);
		put_values(values_of_operand(verb));
		(void)putchar('\n');
	}
}
