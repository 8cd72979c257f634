/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl doctor: what keeps the daemon or its clients from working, or from working well, with what to do about it. The
 * table below is what is looked at; see doctor.h.
 */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/doctor.h"
#include "client/kvctl/output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 3000

struct args {
	const char *root;
	uint64_t arena_bytes;
};

static const struct option_spec options[] = {
	{ "arena-bytes", 0, OPTION_BYTES, "SIZE", "the arena that is to be, where no daemon tells",
	  offsetof(struct args, arena_bytes), 0 },
	{ "root", 0, OPTION_TEXT, "DIR", "read /proc and /sys below DIR (for tests)", offsetof(struct args, root), 0 },
	{ 0 },
};

static const struct {
	const char *name;
	void (*run)(struct doctor *doctor);
} checks[] = {
	{ "socket", doctor_socket },	 { "daemon", doctor_daemon },	      { "version", doctor_version },
	{ "memory", doctor_memory },	 { "huge_pages", doctor_huge_pages }, { "thp", doctor_thp },
	{ "swap", doctor_swap },	 { "memlock", doctor_memlock },	      { "cgroup", doctor_cgroup },
	{ "open_files", doctor_nofile }, { "io_uring", doctor_io_uring },     { "security", doctor_lsm },
	{ "processor", doctor_cpu },	 { "counters", doctor_counters },
};

static const struct {
	const char *word; /* for people */
	const char *json;
	enum style style;
} levels[DOCTOR_LEVELS] = {
	[DOCTOR_OK] = { "OK", "ok", STYLE_GOOD },
	[DOCTOR_INFO] = { "INFO", "info", STYLE_PLAIN },
	[DOCTOR_WARN] = { "WARN", "warn", STYLE_WARNING },
	[DOCTOR_FAIL] = { "FAIL", "fail", STYLE_BAD },
};

void doctor_say(struct doctor *doctor, enum doctor_level level, const char *format, ...)
{
	struct doctor_finding *finding;
	va_list list;

	if (doctor->n == DOCTOR_FINDINGS_MAX)
		return; /* more than all checks can find */
	finding = &doctor->findings[doctor->n++];
	*finding = (struct doctor_finding){ .check = doctor->check, .level = level };
	va_start(list, format);
	(void)vsnprintf(finding->text, sizeof(finding->text), format, list);
	va_end(list);
}

void doctor_remedy(struct doctor *doctor, const char *format, ...)
{
	struct doctor_finding *finding = &doctor->findings[doctor->n - 1];
	va_list list;

	va_start(list, format);
	(void)vsnprintf(finding->remedy, sizeof(finding->remedy), format, list);
	va_end(list);
}

/* What a living daemon tells; without it the checks do with less. */
static void ask(struct doctor *doctor, struct ctl *ctl)
{
	struct kvc_options wanted = {
		.struct_bytes = sizeof(wanted),
		.socket_path = doctor->socket_path,
		.client_name = "kvctl",
		.timeout_ms = ctl->timeout_ms ? (uint32_t)ctl->timeout_ms : TIMEOUT_MS,
		.flags = KVC_READ_ONLY | KVC_NO_RECONNECT,
		.pins_max = 1,
	};

	doctor->opened = kvc_open(&wanted, &ctl->client, doctor->why, sizeof(doctor->why));
	if (doctor->opened == KVC_OK)
		doctor->opened = kvc_client_info(ctl->client, &doctor->info);
	else
		ctl->client = NULL;
	if (doctor->opened != KVC_OK)
		return;
	doctor->arena_bytes = doctor->info.arena_bytes;
	if (kvc_stats_get(ctl->client, &doctor->stats) != KVC_OK)
		doctor->stats = NULL;
	if (kvc_config(ctl->client, &doctor->config, &doctor->n_config) != KVC_OK)
		doctor->config = NULL;
}

static size_t count(const struct doctor *doctor, enum doctor_level level)
{
	size_t n = 0;

	for (size_t i = 0; i < doctor->n; i++)
		n += doctor->findings[i].level == level;
	return n;
}

static void print_text(const struct doctor *doctor)
{
	char shown[PRINTABLE_BYTES];

	for (size_t i = 0; i < doctor->n; i++) {
		const struct doctor_finding *finding = &doctor->findings[i];

		(void)printf("%s%-4s%s  %-10s  %s\n", style(levels[finding->level].style), levels[finding->level].word,
			     style(STYLE_PLAIN), finding->check,
			     printable(finding->text, strlen(finding->text), shown));
		if (finding->remedy[0] != '\0')
			(void)printf("%18s%s%s%s\n", "", style(STYLE_DIM),
				     printable(finding->remedy, strlen(finding->remedy), shown), style(STYLE_PLAIN));
	}
	(void)printf("failures: %zu, warnings: %zu\n", count(doctor, DOCTOR_FAIL), count(doctor, DOCTOR_WARN));
}

static void print_json(const struct doctor *doctor)
{
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_bool(&json, "ok", count(doctor, DOCTOR_FAIL) == 0);
	json_kv_u64(&json, "failures", count(doctor, DOCTOR_FAIL));
	json_kv_u64(&json, "warnings", count(doctor, DOCTOR_WARN));
	json_key(&json, "findings");
	json_array_begin(&json);
	for (size_t i = 0; i < doctor->n; i++) {
		json_object_begin(&json);
		json_kv_string(&json, "check", doctor->findings[i].check);
		json_kv_string(&json, "level", levels[doctor->findings[i].level].json);
		json_kv_string(&json, "text", doctor->findings[i].text);
		json_kv_string(&json, "remedy", doctor->findings[i].remedy);
		json_object_end(&json);
	}
	json_array_end(&json);
	json_object_end(&json);
	json_finish(&json);
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	struct doctor doctor = {
		.socket_path = ctl_socket_path(ctl),
		.root = args->root ? args->root : "",
		.arena_bytes = args->arena_bytes,
	};
	int status;

	if (ctl->timeout_ms > UINT32_MAX)
		return ctl_usage("--timeout is too large");
	doctor.findings = calloc(DOCTOR_FINDINGS_MAX, sizeof(*doctor.findings));
	if (!doctor.findings)
		return ctl_error("out of memory");
	ask(&doctor, ctl);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		doctor.check = checks[i].name;
		checks[i].run(&doctor);
	}
	if (ctl->json)
		print_json(&doctor);
	else
		print_text(&doctor);
	status = count(&doctor, DOCTOR_FAIL) ? CTL_FAILED : CTL_OK;
	(void)kvc_stats_free(doctor.stats);
	free(doctor.config);
	free(doctor.findings);
	return status;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.operands = "",
	.summary = "Look for what keeps kvpaged or its clients from working, and say what to do",
	.details = "Works without a daemon too. Exit status 1: something fails.",
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
