/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs, the options that all have, and the help made from both. */
#include "client/kvctl/kvctl.h"

#include <stdio.h>
#include <string.h>

static const struct verb *const verbs[] = {
	&verb_status, &verb_top,   &verb_stats,	 &verb_spaces,	   &verb_ls,	&verb_why,
	&verb_events, &verb_get,    &verb_put,	  &verb_rm,	&verb_evict,	  &verb_resize,
	&verb_health, &verb_doctor, &verb_bench, &verb_config, &verb_completion, &verb_help,
};

const struct option_spec ctl_options[] = {
	{ "socket", 's', OPTION_TEXT, "PATH",
	  "the daemon's socket (default: $KVPAGED_SOCKET, else /run/kvpaged/kvpaged.sock)",
	  offsetof(struct ctl, socket_path), 0 },
	{ "timeout", 0, OPTION_MS, "TIME", "how long to wait for an answer: 500, 500ms, 10s (default: 10s)",
	  offsetof(struct ctl, timeout_ms), 0 },
	{ "json", 'j', OPTION_FLAG, NULL, "print JSON, with stable names, sizes in bytes and times in ms",
	  offsetof(struct ctl, json), 0 },
	{ "help", 'h', OPTION_FLAG, NULL, "print this help", offsetof(struct ctl, help), 0 },
	{ "version", 'V', OPTION_FLAG, NULL, "print the version (before a verb)", offsetof(struct ctl, version), 0 },
	{ 0 },
};

const struct verb *verb_at(size_t i)
{
	return i < sizeof(verbs) / sizeof(verbs[0]) ? verbs[i] : NULL;
}

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

void help_all(void)
{
	(void)printf("Usage: kvctl [OPTION...] VERB [OPTION...] [OPERAND...]\n\n"
		     "Looks into kvpaged, the KV-cache page server, and changes what it holds.\n\nVerbs:\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		(void)printf("  %-12s %s\n", verbs[i]->name, verbs[i]->summary);
	(void)printf("\nOptions of every verb:\n");
	options_help(ctl_options);
	(void)printf("\nkvctl help VERB tells more. Keys are written as text, or as hex digits after hex:.\n"
		     "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 69 no daemon,\n"
		     "75 try again later, 78 wrong configuration.\n");
}

void help_verb(const struct verb *verb)
{
	(void)printf("Usage: kvctl %s [OPTION...]%s%s\n\n%s.\n", verb->name, verb->operands[0] ? " " : "",
		     verb->operands, verb->summary);
	if (verb->details)
		(void)printf("\n%s\n", verb->details);
	if (verb->options) {
		(void)printf("\nOptions:\n");
		options_help(verb->options);
	}
	(void)printf("\nOptions of every verb:\n");
	options_help(ctl_options);
}
