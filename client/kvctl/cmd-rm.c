/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl rm SPACE KEY...: blocks with all that descend from them. kvctl rm --all SPACE: the space. */
#include "client/kvctl/kvctl.h"

#include "base/cleanup.h"
#include "client/kvctl/output.h"

#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 4096

struct args {
	bool all;
};

static const struct option_spec options[] = {
	{ "all", 'a', OPTION_FLAG, NULL, "remove the whole space, which no one may have open",
	  offsetof(struct args, all), 0 },
	{ 0 },
};

static void print_json(uint64_t removed, uint64_t missing)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_u64(&json, "removed", removed);
	json_kv_u64(&json, "missing", missing);
	json_object_end(&json);
	json_finish(&json);
}

static int drop_space(struct ctl *ctl, const char *name)
{
	int status = ctl_open(ctl, KVC_READ_ONLY);
	int r;

	if (status != CTL_OK)
		return status;
	r = kvc_space_drop(ctl->client, name);
	if (r != KVC_OK)
		return ctl_fail(ctl, name, r);
	if (ctl->json) {
		struct json json = json_stdout();

		json_object_begin(&json);
		json_kv_string(&json, "removed_space", name);
		json_object_end(&json);
		json_finish(&json);
	}
	return CTL_OK;
}

/* Says which keys were not there; counts both kinds. */
static int judge(struct ctl *ctl, char **names, const int *statuses, size_t n)
{
	size_t missing = 0;
	char shown[PRINTABLE_BYTES];
	int status = CTL_OK;

	for (size_t i = 0; i < n; i++) {
		if (statuses[i] == KVC_OK)
			continue;
		missing++;
		(void)ctl_error("%s: %s", printable(names[i], strlen(names[i]), shown), kvc_strerror(statuses[i]));
		status = ctl_exit_of(statuses[i]);
	}
	if (ctl->json)
		print_json(n - missing, missing);
	return status;
}

static int remove_blocks(struct ctl *ctl, const char *space_name, char **names, size_t n)
{
	_cleanup_free_ struct key_storage *storage = calloc(n, sizeof(*storage));
	_cleanup_free_ struct kvc_key *keys = calloc(n, sizeof(*keys));
	_cleanup_free_ int *statuses = calloc(n, sizeof(*statuses));
	kvc_space *space;
	int status = CTL_OK;
	int r;

	if (!storage || !keys || !statuses)
		return ctl_error("out of memory");
	for (size_t i = 0; i < n && status == CTL_OK; i++)
		status = key_parse(names[i], &storage[i], &keys[i]);
	if (status == CTL_OK)
		status = ctl_open(ctl, KVC_READ_ONLY);
	if (status == CTL_OK)
		status = ctl_space(ctl, space_name, &space);
	if (status != CTL_OK)
		return status;
	r = kvc_delete(space, keys, n, statuses);
	return r == KVC_OK ? judge(ctl, names, statuses, n) : ctl_fail(ctl, "rm", r);
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;

	if (args->all && n > 1)
		return ctl_usage("rm takes keys or --all, not both");
	if (args->all)
		return drop_space(ctl, operands[0]);
	if (n < 2)
		return ctl_usage("rm needs keys, or --all to remove the whole space");
	return remove_blocks(ctl, operands[0], operands + 1, n - 1);
}

const struct verb verb_rm = {
	.name = "rm",
	.operands = "SPACE [KEY...]",
	.summary = "Remove blocks with their descendants, or a whole space",
	.operands_min = 1,
	.operands_max = 1 + KEYS_MAX,
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
