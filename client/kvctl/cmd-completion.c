/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl completion SHELL: the script that completes kvctl's command line, made from the same tables as its help. */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/completion.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <string.h>

#define WORDS_BYTES 1024

static const struct {
	const char *name;
	void (*print)(void);
} shells[] = {
	{ "bash", completion_bash },
	{ "zsh", completion_zsh },
	{ "fish", completion_fish },
};

enum values values_of_option(const struct option_spec *spec)
{
	static const char *const files[] = { "FILE", "PATH", "DIR", "PREFIX" };

	if (strcmp(spec->name, "space") == 0)
		return VALUES_SPACES;
	if (strncmp(spec->name, "codec", 5) == 0)
		return VALUES_CODECS;
	if (strcmp(spec->name, "dtype") == 0)
		return VALUES_DTYPES;
	for (size_t i = 0; spec->argument && i < sizeof(files) / sizeof(files[0]); i++)
		if (strcmp(spec->argument, files[i]) == 0)
			return VALUES_FILES;
	return VALUES_ANY;
}

enum values values_of_operand(const struct verb *verb)
{
	static const struct {
		const char *operand;
		enum values values;
	} known[] = { { "SPACE", VALUES_SPACES }, { "[VERB]", VALUES_VERBS }, { "SHELL", VALUES_SHELLS } };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strncmp(verb->operands, known[i].operand, strlen(known[i].operand)) == 0)
			return known[i].values;
	return VALUES_ANY;
}

/* The names of the verbs, and lists for messages without their commas. */
static void add_word(char *words, const char *word, size_t n)
{
	size_t used = strlen(words);

	(void)snprintf(words + used, WORDS_BYTES - used, "%s%.*s", used ? " " : "", (int)n, word);
}

static const char *words_of_list(const char *list, char *words)
{
	for (words[0] = '\0'; *list; list += strspn(list, ", ")) {
		size_t n = strcspn(list, ",");

		add_word(words, list, n);
		list += n;
	}
	return words;
}

static const char *words_of_verbs(char *words)
{
	const struct verb *verb;

	words[0] = '\0';
	for (size_t i = 0; (verb = verb_at(i)); i++)
		add_word(words, verb->name, strlen(verb->name));
	return words;
}

const char *values_words(enum values values)
{
	static char words[WORDS_BYTES];

	switch (values) {
	case VALUES_VERBS:
		return words_of_verbs(words);
	case VALUES_SHELLS:
		return "bash zsh fish";
	case VALUES_CODECS:
		return words_of_list(CODEC_NAMES, words);
	case VALUES_DTYPES:
		return words_of_list(DTYPE_NAMES, words);
	default:
		return NULL;
	}
}

void each_option(const struct verb *verb, void (*fn)(const struct verb *verb, const struct option_spec *spec))
{
	for (const struct option_spec *spec = verb ? verb->options : ctl_options; spec && spec->name; spec++)
		fn(verb, spec);
}

static int run(struct ctl *ctl, const void *args, char **operands, size_t n)
{
	char shown[PRINTABLE_BYTES];

	for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
		if (strcmp(shells[i].name, operands[0]) != 0)
			continue;
		shells[i].print();
		return CTL_OK;
	}
	return ctl_usage("completion wants one of bash, zsh and fish, not '%s'",
			 printable(operands[0], strlen(operands[0]), shown));
}

const struct verb verb_completion = {
	.name = "completion",
	.operands = "SHELL",
	.summary = "Print a script that completes kvctl's command line in bash, zsh or fish",
	.details = "For this shell alone: source <(kvctl completion bash), or kvctl completion fish | source.\n"
		   "What is installed with kvctl is the same.",
	.operands_min = 1,
	.operands_max = 1,
	.run = run,
};
