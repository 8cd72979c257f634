/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl resize: how much memory the daemon's arena may take. */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/output.h"

#include <inttypes.h>
#include <stdio.h>

#define WAIT_MS 30000

struct args {
	uint64_t wait_ms;
	bool no_wait;
};

static const struct option_spec options[] = {
	{ "wait", 0, OPTION_MS, "TIME", "how long to wait until it is so: 500ms, 10s (default: 30s)",
	  offsetof(struct args, wait_ms), 0 },
	{ "no-wait", 'n', OPTION_FLAG, NULL, "do not wait", offsetof(struct args, no_wait), 0 },
	{ 0 },
};

static void print_json(const struct kvc_resized *resized)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_bool(&json, "done", resized->is_done);
	json_kv_u64(&json, "bytes", resized->bytes);
	json_kv_u64(&json, "held_bytes", resized->held_bytes);
	json_kv_u64(&json, "asked_bytes", resized->asked_bytes);
	json_kv_u64(&json, "evicted_blocks", resized->evicted_blocks);
	json_kv_u64(&json, "evicted_bytes", resized->evicted_bytes);
	json_kv_u64(&json, "moved_bytes", resized->moved_bytes);
	json_kv_u64(&json, "discarded_bytes", resized->discarded_bytes);
	json_object_end(&json);
	json_finish(&json);
}

static void print_text(const struct kvc_resized *resized)
{
	char size[3][24];

	(void)printf("the arena may take %s and takes %s\n", units_format_bytes(resized->bytes, size[0], 24),
		     units_format_bytes(resized->held_bytes, size[1], 24));
	if (resized->discarded_bytes > 0)
		(void)printf("evicted %" PRIu64 " blocks, %s; moved %s; gave back %s\n", resized->evicted_blocks,
			     units_format_bytes(resized->evicted_bytes, size[0], 24),
			     units_format_bytes(resized->moved_bytes, size[1], 24),
			     units_format_bytes(resized->discarded_bytes, size[2], 24));
}

/* On stderr, since it is no result. */
static void print_difference(uint64_t wanted, const struct kvc_resized *resized)
{
	char size[2][24];

	if (resized->asked_bytes != wanted)
		(void)fprintf(stderr, "kvctl: %s became %s: whole extents of 2 MiB, two at least\n",
			      units_format_bytes(wanted, size[0], 24),
			      units_format_bytes(resized->asked_bytes, size[1], 24));
	if (resized->bytes < resized->asked_bytes)
		(void)fprintf(stderr, "kvctl: it does not get more: the machine is short of memory\n");
	if (resized->bytes > resized->asked_bytes)
		(void)fprintf(stderr, "kvctl: the system did not take the memory back: see the daemon's log\n");
	if (!resized->is_done)
		(void)fprintf(stderr, "kvctl: not done yet: blocks are pinned, leased or unfinished; it goes on\n");
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	uint64_t wait_ms = args->wait_ms ? args->wait_ms : WAIT_MS;
	struct kvc_resized resized;
	uint64_t bytes;
	int status;
	int r;

	if (units_parse_bytes(operands[0], &bytes) < 0)
		return ctl_usage("resize wants a size such as 512MiB, not '%s'", operands[0]);
	status = ctl_open(ctl, KVC_READ_ONLY);
	if (status != CTL_OK)
		return status;
	r = kvc_resize(ctl->client, bytes, args->no_wait ? 0 : (uint32_t)(wait_ms < UINT32_MAX ? wait_ms : UINT32_MAX),
		       &resized);
	if (r != KVC_OK)
		return ctl_fail(ctl, "resize", r);
	if (ctl->json)
		print_json(&resized);
	else
		print_text(&resized);
	print_difference(bytes, &resized);
	if (args->no_wait)
		return CTL_OK;
	return resized.is_done && resized.bytes == resized.asked_bytes ? CTL_OK : CTL_TRY_AGAIN;
}

const struct verb verb_resize = {
	.name = "resize",
	.operands = "SIZE",
	.summary = "Make the arena take less memory, or more again",
	.details = "What does not fit any more is evicted, least recently used blocks first, and the memory goes back\n"
		   "to the system. Blocks that a client reads stay where they are. SIZE is at most arena.bytes,\n"
		   "which undoes it. Exit status 75: not, or not yet, as small or as large as wanted.",
	.operands_min = 1,
	.operands_max = 1,
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
