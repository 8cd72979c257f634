/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl [OPTION...] VERB [OPTION...] [OPERAND...]: finds the verb, parses, runs it, and checks that stdout took
 * everything.
 */
#include "client/kvctl/kvctl.h"

#include "base/cleanup.h"
#include "client/kvctl/output.h"
#include "kvpaged-version.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_verb(struct ctl *ctl, const struct verb *verb, int argc, char **argv)
{
	_cleanup_free_ void *args = calloc(1, verb->args_bytes ? verb->args_bytes : 1);
	struct option_set sets[] = { { ctl_options, ctl }, { verb->options, args } };
	size_t n;
	int first;
	int r;

	if (!args)
		return ctl_error("out of memory");
	r = options_parse(argc, argv, sets, 2, false, &first);
	if (r < 0)
		return CTL_USAGE;
	if (ctl->help) {
		help_verb(verb);
		return CTL_OK;
	}
	n = (size_t)(argc - first);
	if (n < verb->operands_min)
		return ctl_usage("%s needs %s; see kvctl help %s", verb->name, verb->operands, verb->name);
	if (n > verb->operands_max) {
		char shown[PRINTABLE_BYTES];
		const char *extra = argv[first + (int)verb->operands_max];

		return ctl_usage("%s does not take '%s'", verb->name, printable(extra, strlen(extra), shown));
	}
	return verb->run(ctl, args, argv + first, n);
}

static int run(struct ctl *ctl, int argc, char **argv)
{
	struct option_set sets[] = { { ctl_options, ctl } };
	const struct verb *verb;
	int first;

	if (options_parse(argc, argv, sets, 1, true, &first) < 0)
		return CTL_USAGE;
	if (ctl->version) {
		(void)printf("kvctl %s\nlibkvclient %s\n", KVPAGED_VERSION, kvc_version());
		return CTL_OK;
	}
	if (ctl->help) {
		help_all();
		return CTL_OK;
	}
	if (first >= argc)
		return ctl_usage("what is to be done? see kvctl --help");
	verb = verb_find(argv[first]);
	if (!verb) {
		char shown[PRINTABLE_BYTES];

		return ctl_usage("unknown verb '%s'; see kvctl --help",
				 printable(argv[first], strlen(argv[first]), shown));
	}
	return run_verb(ctl, verb, argc - first, argv + first);
}

int main(int argc, char **argv)
{
	struct ctl ctl = { 0 };
	int status;

	/*
	 * A reader that went away, as in "kvctl ls S | head", is no failure worth a message: the write error below is.
	 */
	(void)signal(SIGPIPE, SIG_IGN);
	status = run(&ctl, argc, argv);
	ctl.client = kvc_close(ctl.client);
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == CTL_OK)
		status = errno == EPIPE ? CTL_FAILED : ctl_error("stdout: %s", strerror(errno));
	return status;
}
