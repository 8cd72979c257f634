/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl spaces: what is registered, and how much each holds. */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <stdio.h>
#include <string.h>

struct args {
	bool names;
};

static const struct option_spec options[] = {
	{ "names", 0, OPTION_FLAG, NULL, "print their names alone, one a line", offsetof(struct args, names), 0 },
	{ 0 },
};

static void print_json(const struct kvc_stats *stats)
{
	struct json json = json_stdout();

	json_array_begin(&json);
	for (size_t i = 0; i < stats->n_spaces; i++) {
		const struct kvc_space_stats *space = &stats->spaces[i];

		json_object_begin(&json);
		json_kv_string(&json, "name", space->name);
		json_kv_schema(&json, &space->schema);
		json_kv_u64(&json, "blocks", space->blocks);
		json_kv_u64(&json, "tokens", space->tokens);
		json_kv_u64(&json, "stored_bytes", space->stored_bytes);
		json_kv_u64(&json, "overhead_bytes", space->overhead_bytes);
		json_kv_u64(&json, "sessions", space->sessions);
		json_object_end(&json);
	}
	json_array_end(&json);
	json_finish(&json);
}

static int print_text(const struct kvc_stats *stats)
{
	struct table table;

	table_init(&table, "NAME", "MODEL", "SHAPE", "CODEC K/V", ">BLOCKS", ">TOKENS", ">STORED", ">SESSIONS", NULL);
	for (size_t i = 0; i < stats->n_spaces; i++) {
		const struct kvc_space_stats *space = &stats->spaces[i];
		const struct kvc_schema *schema = &space->schema;
		char text[96];

		table_text(&table, space->name);
		table_text(&table, schema->model);
		(void)snprintf(text, sizeof(text), "%u layers x %u heads x %u+%u, %u tokens", schema->layers,
			       schema->kv_heads, schema->head_dim_k, schema->head_dim_v, schema->block_tokens);
		table_text(&table, text);
		(void)snprintf(text, sizeof(text), "%s/%s", codec_name(schema->codec_k),
			       schema->head_dim_v ? codec_name(schema->codec_v) : "-");
		table_text(&table, text);
		table_u64(&table, space->blocks);
		table_u64(&table, space->tokens);
		table_size(&table, space->stored_bytes);
		table_u64(&table, space->sessions);
	}
	return table_finish(&table);
}

static int print_names(const struct kvc_stats *stats)
{
	char shown[PRINTABLE_BYTES];

	for (size_t i = 0; i < stats->n_spaces; i++)
		(void)puts(printable(stats->spaces[i].name, strlen(stats->spaces[i].name), shown));
	return CTL_OK;
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	int status = ctl_open(ctl, KVC_READ_ONLY);

	if (status != CTL_OK)
		return status;
	return ctl_show_stats(ctl, "spaces", print_json, args->names ? print_names : print_text);
}

const struct verb verb_spaces = {
	.name = "spaces",
	.operands = "",
	.summary = "List the spaces, with what they hold",
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
