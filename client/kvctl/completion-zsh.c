/* SPDX-License-Identifier: Apache-2.0 */
/* The script for zsh: _arguments does the work, the tables become its specifications. */
#include "client/kvctl/completion.h"

#include "client/kvctl/kvctl.h"

#include <stdio.h>
#include <string.h>

static const char head[] = "#compdef kvctl\n"
			   "# Made by: kvctl completion zsh\n"
			   "\n"
			   "_kvctl_spaces() {\n"
			   "\tlocal -a names\n"
			   "\tnames=(${(f)\"$(command kvctl --timeout 1s spaces --names 2>/dev/null)\"})\n"
			   "\tcompadd -a names\n"
			   "}\n"
			   "\n"
			   "_kvctl() {\n"
			   "\tlocal context state state_descr line\n"
			   "\tlocal -a verbs\n"
			   "\ttypeset -A opt_args\n"
			   "\t_arguments -C \\\n";

/* Text inside '...' that also is inside [...]. */
static void put_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			(void)fputs("'\\''", stdout);
		else if (strchr("[]:\\", *text))
			(void)printf("\\%c", *text);
		else
			(void)putchar(*text);
	}
}

static void put_values(const char *name, enum values values)
{
	(void)printf(":%s:", name);
	if (values == VALUES_FILES)
		(void)printf("_files");
	else if (values == VALUES_SPACES)
		(void)printf("_kvctl_spaces");
	else if (values != VALUES_ANY)
		(void)printf("(%s)", values_words(values));
}

static void put_option(const struct verb *verb, const struct option_spec *spec)
{
	(void)printf("\t\t");
	if (spec->letter)
		(void)printf("'(-%c --%s)'{-%c,--%s}'[", spec->letter, spec->name, spec->letter, spec->name);
	else
		(void)printf("'--%s[", spec->name);
	put_text(spec->help);
	(void)printf("]");
	if (takes_value(spec))
		put_values(spec->argument, values_of_option(spec));
	else if (spec->type == OPTION_INTERVAL)
		(void)printf("::%s:", spec->argument);
	(void)printf("' \\\n");
}

static void put_verbs(void)
{
	const struct verb *verb;

	(void)printf("\t\t'1:verb:->verb' '*::operand:->rest'\n"
		     "\tcase $state in\n\tverb)\n\t\tverbs=(\n");
	for (size_t i = 0; (verb = verb_at(i)); i++) {
		(void)printf("\t\t\t'%s:", verb->name);
		put_text(verb->summary);
		(void)printf("'\n");
	}
	(void)printf("\t\t)\n\t\t_describe verb verbs\n\t\t;;\n");
}

void completion_zsh(void)
{
	const struct verb *verb;

	(void)fputs(head, stdout);
	each_option(NULL, put_option);
	put_verbs();
	(void)printf("\trest)\n\t\tcase $words[1] in\n");
	for (size_t i = 0; (verb = verb_at(i)); i++) {
		(void)printf("\t\t%s)\n\t\t_arguments \\\n", verb->name);
		each_option(verb, put_option);
		each_option(NULL, put_option);
		(void)printf("\t\t'");
		if (values_of_operand(verb) == VALUES_ANY)
			(void)printf("*:operand:'\n\t\t;;\n");
		else {
			(void)printf("1");
			put_values("operand", values_of_operand(verb));
			(void)printf("'\n\t\t;;\n");
		}
	}
	(void)printf("\t\tesac\n\t\t;;\n\tesac\n}\n\n_kvctl \"$@\"\n");
}
