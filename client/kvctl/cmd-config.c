/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl config: the running daemon's settings, each with where it came from. */
#include "client/kvctl/kvctl.h"

#include "base/cleanup.h"
#include "client/kvctl/output.h"

static void print_json(const struct kvc_config_item *items, size_t n)
{
	struct json json = json_stdout();

	json_array_begin(&json);
	for (size_t i = 0; i < n; i++) {
		json_object_begin(&json);
		json_kv_string(&json, "key", items[i].key);
		json_kv_string(&json, "value", items[i].value);
		json_kv_string(&json, "origin", items[i].origin);
		json_object_end(&json);
	}
	json_array_end(&json);
	json_finish(&json);
}

static int print_text(const struct kvc_config_item *items, size_t n)
{
	struct table table;

	table_init(&table, "SETTING", "VALUE", "FROM", NULL);
	for (size_t i = 0; i < n; i++) {
		table_text(&table, items[i].key);
		table_text(&table, items[i].value);
		table_text(&table, items[i].origin);
	}
	return table_finish(&table);
}

static int run(struct ctl *ctl, const void *args, char **operands, size_t n_operands)
{
	_cleanup_free_ struct kvc_config_item *items = NULL;
	size_t n;
	int status = ctl_open(ctl, KVC_READ_ONLY);
	int r;

	if (status != CTL_OK)
		return status;
	r = kvc_config(ctl->client, &items, &n);
	if (r != KVC_OK)
		return ctl_fail(ctl, "config", r);
	if (!ctl->json)
		return print_text(items, n);
	print_json(items, n);
	return CTL_OK;
}

const struct verb verb_config = {
	.name = "config",
	.operands = "",
	.summary = "Show the running daemon's settings and where they came from",
	.run = run,
};
