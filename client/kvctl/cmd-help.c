/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl help [VERB]: the same text as --help. */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/output.h"

#include <string.h>

static int run(struct ctl *ctl, const void *args, char **operands, size_t n)
{
	const struct verb *verb;
	char shown[PRINTABLE_BYTES];

	if (n == 0) {
		help_all();
		return CTL_OK;
	}
	verb = verb_find(operands[0]);
	if (!verb)
		return ctl_usage("unknown verb '%s'; see kvctl --help",
				 printable(operands[0], strlen(operands[0]), shown));
	help_verb(verb);
	return CTL_OK;
}

const struct verb verb_help = {
	.name = "help",
	.operands = "[VERB]",
	.summary = "Print help, of everything or of one verb",
	.operands_max = 1,
	.run = run,
};
