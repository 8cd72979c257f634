/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The script for bash. The line is split at blanks alone: bash's own words break at ':' and '=', which names of spaces
 * may have, so what precedes the last of them is cut off from the answers.
 */
#include "client/kvctl/completion.h"

#include "client/kvctl/kvctl.h"

#include <stdio.h>

static const char head[] =
	"# kvctl for bash. Made by: kvctl completion bash\n"
	"\n"
	"_kvctl_offer() {\n"
	"\tlocal name\n"
	"\twhile IFS= read -r name; do\n"
	"\t\t[[ $name == \"$cur\"* ]] && COMPREPLY+=(\"$(printf %%q \"$name\")\")\n"
	"\tdone\n"
	"}\n"
	"\n"
	"_kvctl_spaces() {\n"
	"\t_kvctl_offer < <(command kvctl --timeout 1s \"${socket[@]}\" spaces --names 2>/dev/null)\n"
	"}\n"
	"\n"
	"_kvctl() {\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT} word verb= option= cut operands=0 i\n"
	"\tlocal words=() socket=() offered=\n"
	"\tread -ra words <<<\"$line\"\n"
	"\t[[ $line == *[[:space:]] ]] && words+=(\"\")\n"
	"\tlocal cur=${words[${#words[@]} - 1]}\n"
	"\tCOMPREPLY=()\n"
	"\tfor ((i = 1; i < ${#words[@]} - 1; i++)); do\n"
	"\t\tword=${words[i]}\n"
	"\t\tif [[ $option ]]; then\n"
	"\t\t\t[[ $option == -s || $option == --socket ]] && socket=(--socket \"$word\")\n"
	"\t\t\toption=\n"
	"\t\t\tcontinue\n"
	"\t\tfi\n"
	"\t\tcase $word in\n"
	"\t\t-*) _kvctl_takes_value && option=$word ;;\n"
	"\t\t*) if [[ $verb ]]; then ((++operands)); else verb=$word; fi ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tif [[ $option ]]; then\n"
	"\t\t_kvctl_values\n"
	"\telif [[ $cur == -* ]]; then\n"
	"\t\t_kvctl_options\n"
	"\telif [[ ! $verb ]]; then\n"
	"\t\toffered=\"%s\"\n"
	"\telse\n"
	"\t\t_kvctl_operands\n"
	"\tfi\n"
	"\tfor word in $offered; do\n"
	"\t\t[[ $word == \"$cur\"* ]] && COMPREPLY+=(\"$word\")\n"
	"\tdone\n"
	"\tcut=${cur%%\"${cur##*[:=]}\"}\n"
	"\tfor i in \"${!COMPREPLY[@]}\"; do\n"
	"\t\tCOMPREPLY[i]=${COMPREPLY[i]#\"$cut\"}\n"
	"\tdone\n"
	"}\n"
	"\n";

static void put_values(enum values values)
{
	if (values == VALUES_FILES)
		(void)printf("compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")");
	else if (values == VALUES_SPACES)
		(void)printf("_kvctl_spaces");
	else
		(void)printf("offered=\"%s\"", values_words(values));
}

/* "verb:--option" or, of every verb, "*:--option". */
static void put_pattern(const struct verb *verb, const struct option_spec *spec)
{
	(void)printf("\t%s:--%s", verb ? verb->name : "*", spec->name);
	if (spec->letter)
		(void)printf(" | %s:-%c", verb ? verb->name : "*", spec->letter);
	(void)printf(") ");
}

static void put_taking(const struct verb *verb, const struct option_spec *spec)
{
	if (!takes_value(spec))
		return;
	put_pattern(verb, spec);
	(void)printf("return 0 ;;\n");
}

static void put_option_values(const struct verb *verb, const struct option_spec *spec)
{
	enum values values = values_of_option(spec);

	if (!takes_value(spec) || values == VALUES_ANY)
		return;
	put_pattern(verb, spec);
	put_values(values);
	(void)printf(" ;;\n");
}

static void put_name(const struct verb *verb, const struct option_spec *spec)
{
	(void)printf(" --%s", spec->name);
}

/* The verb's own options first: what a letter means is the verb's to say. */
static void put_cases(const char *function, const char *word,
		      void (*fn)(const struct verb *, const struct option_spec *), const char *otherwise)
{
	const struct verb *verb;

	(void)printf("%s() {\n\tcase $verb:%s in\n", function, word);
	for (size_t i = 0; (verb = verb_at(i)); i++)
		each_option(verb, fn);
	each_option(NULL, fn);
	(void)printf("\t*) %s ;;\n\tesac\n}\n\n", otherwise);
}

static void put_options(void)
{
	const struct verb *verb;

	(void)printf("_kvctl_options() {\n\toffered=\"");
	each_option(NULL, put_name);
	(void)printf("\"\n\tcase $verb in\n");
	for (size_t i = 0; (verb = verb_at(i)); i++) {
		if (!verb->options)
			continue;
		(void)printf("\t%s) offered+=\"", verb->name);
		each_option(verb, put_name);
		(void)printf("\" ;;\n");
	}
	(void)printf("\tesac\n}\n\n");
}

static void put_operands(void)
{
	const struct verb *verb;

	(void)printf("_kvctl_operands() {\n\tcase $verb:$operands in\n");
	for (size_t i = 0; (verb = verb_at(i)); i++) {
		if (values_of_operand(verb) == VALUES_ANY)
			continue;
		(void)printf("\t%s:0) ", verb->name);
		put_values(values_of_operand(verb));
		(void)printf(" ;;\n");
	}
	(void)printf("\tesac\n}\n\n");
}

void completion_bash(void)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)printf(head, values_words(VALUES_VERBS));
#pragma GCC diagnostic pop
	put_cases("_kvctl_takes_value", "$word", put_taking, "return 1");
	put_cases("_kvctl_values", "$option", put_option_values, ":");
	put_options();
	put_operands();
	(void)printf("complete -F _kvctl kvctl\n");
}
