/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl evict: blocks in the order in which a full arena would give them up. */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/output.h"

#include <inttypes.h>
#include <stdio.h>

struct args {
	const char *space;
	uint64_t bytes;
	uint64_t blocks;
	bool all;
};

static const struct option_spec options[] = {
	{ "space", 0, OPTION_TEXT, "NAME", "only blocks of this space", offsetof(struct args, space), 0 },
	{ "bytes", 0, OPTION_BYTES, "SIZE", "until this much memory is free of them", offsetof(struct args, bytes), 0 },
	{ "blocks", 0, OPTION_NUMBER, "N", "N blocks", offsetof(struct args, blocks), 0 },
	{ "all", 'a', OPTION_FLAG, NULL, "everything that is not in use", offsetof(struct args, all), 0 },
	{ 0 },
};

static void print(struct ctl *ctl, uint64_t blocks, uint64_t bytes)
{
	struct json json = json_stdout();
	char size[24];

	if (!ctl->json) {
		(void)printf("evicted %" PRIu64 " blocks, %s\n", blocks, units_format_bytes(bytes, size, sizeof(size)));
		return;
	}
	json_object_begin(&json);
	json_kv_u64(&json, "blocks", blocks);
	json_kv_u64(&json, "bytes", bytes);
	json_object_end(&json);
	json_finish(&json);
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	kvc_space *space = NULL;
	uint64_t blocks;
	uint64_t bytes;
	int status;
	int r;

	if ((args->all ? 1 : 0) + (args->bytes ? 1 : 0) + (args->blocks ? 1 : 0) != 1)
		return ctl_usage("evict needs one of --bytes, --blocks and --all");
	status = ctl_open(ctl, KVC_READ_ONLY);
	if (status == CTL_OK && args->space)
		status = ctl_space(ctl, args->space, &space);
	if (status != CTL_OK)
		return status;
	r = kvc_evict(ctl->client, space, args->bytes, args->blocks, &blocks, &bytes);
	if (r != KVC_OK)
		return ctl_fail(ctl, "evict", r);
	print(ctl, blocks, bytes);
	return CTL_OK;
}

const struct verb verb_evict = {
	.name = "evict",
	.operands = "",
	.summary = "Free memory as a full arena would",
	.details = "Blocks that a client reads stay, and so do their ancestors.",
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
