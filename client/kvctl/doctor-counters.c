/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of the daemon that hint at trouble since it started. */
#include "client/kvctl/doctor.h"

#include <inttypes.h>

static const struct {
	const char *counter;
	enum doctor_level level;
	const char *sentence;
	const char *remedy;
} hints[] = {
	{ "append_corrupt_total", DOCTOR_FAIL, "pages came in that did not match their checksums",
	  "memory failed, or a writer changes its staging memory while it is read: test the memory, look at the "
	  "writers" },
	{ "protocol_errors_total", DOCTOR_WARN, "sessions ended because they violated the protocol",
	  "see the daemon's log for who they were; programs that speak it themselves are the first suspects" },
	{ "sessions_stuck_total", DOCTOR_WARN,
	  "sessions ended because they pinned memory that was wanted, silent or too much",
	  "look for workers that hang with pinned blocks; reader.pin_grace_ms is how long they may" },
	{ "sessions_refused_total", DOCTOR_WARN, "sessions were refused by a limit",
	  "raise limits.sessions or limits.sessions_per_uid, or end clients that are not needed" },
	{ "quota_refused_total", DOCTOR_WARN, "leases and soft pins were refused by a quota",
	  "raise limits.pinned_bytes_per_uid, or unpin earlier" },
	{ "quota_staging_refused_total", DOCTOR_WARN, "sessions were refused staging memory by a quota",
	  "raise limits.staging_bytes_per_uid, or ask for less in kvc_open()" },
	{ "append_no_space_total", DOCTOR_WARN, "pages were refused because nothing could be evicted",
	  "make arena.bytes larger, or pin and keep less" },
	{ "loop_turns_busy_total", DOCTOR_WARN, "turns of the daemon's loop took more than 1 ms of CPU time",
	  "reads and appends of others waited meanwhile: a lower limits.slice_bytes makes turns shorter" },
};

void doctor_counters(struct doctor *doctor)
{
	bool any = false;

	if (!doctor->stats)
		return;
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		uint64_t value = kvc_stats_counter(doctor->stats, hints[i].counter);

		if (value == 0)
			continue;
		any = true;
		doctor_say(doctor, hints[i].level, "%s since its start: %" PRIu64 " (%s)", hints[i].sentence, value,
			   hints[i].counter);
		doctor_remedy(doctor, "%s", hints[i].remedy);
	}
	if (!any)
		doctor_say(doctor, DOCTOR_OK, "no counter of the daemon hints at trouble");
}
