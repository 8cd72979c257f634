/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl health: for probes. A connection is made and one request answered; the exit status is the result. */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/output.h"

static int run(struct ctl *ctl, const void *args, char **operands, size_t n)
{
	struct kvc_stats *stats = NULL;
	struct json json = json_stdout();
	int status = ctl_open(ctl, KVC_READ_ONLY);

	if (status == CTL_OK) {
		int r = kvc_stats_get(ctl->client, &stats);

		status = r == KVC_OK ? CTL_OK : ctl_fail(ctl, "stats", r);
	}
	if (ctl->json) {
		json_object_begin(&json);
		json_kv_bool(&json, "healthy", status == CTL_OK);
		json_kv_u64(&json, "exit_status", (uint64_t)status);
		if (stats)
			json_kv_u64(&json, "uptime_ms", stats->uptime_ms);
		json_object_end(&json);
		json_finish(&json);
	} else if (status == CTL_OK) {
		(void)puts("ok");
	}
	(void)kvc_stats_free(stats);
	return status;
}

const struct verb verb_health = {
	.name = "health",
	.operands = "",
	.summary = "Tell whether the daemon answers, for probes",
	.details = "Prints ok and exits with 0 when it does; otherwise the exit status tells why not.",
	.run = run,
};
