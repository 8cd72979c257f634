/* SPDX-License-Identifier: Apache-2.0 */
/* kvctl ls SPACE: the blocks, in no order. JSON is printed as it comes; a table needs all rows first. */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/output.h"

#include <inttypes.h>
#include <stdio.h>

#define ITEMS 512

struct args {
	uint64_t limit;
};

static const struct option_spec options[] = {
	{ "limit", 'n', OPTION_NUMBER, "N", "at most N blocks", offsetof(struct args, limit), 0 },
	{ 0 },
};

static void add_json(struct json *json, const struct kvc_list_item *item)
{
	json_object_begin(json);
	json_kv_key(json, item->key, item->key_n);
	json_kv_u64(json, "tokens", item->tokens);
	json_kv_u64(json, "pages_ready", item->pages_ready);
	json_kv_u64(json, "page_count", item->page_count);
	json_kv_u64(json, "stored_bytes", item->stored_bytes);
	json_kv_u64(json, "leases", item->leases);
	json_kv_u64(json, "children", item->children);
	json_kv_u64(json, "priority", item->priority);
	json_kv_bool(json, "root", item->is_root != 0);
	json_kv_u64(json, "idle_ms", item->idle_ms);
	json_object_end(json);
}

static void add_row(struct table *table, const struct kvc_list_item *item)
{
	char text[PRINTABLE_BYTES];

	table_text(table, printable_key(item->key, item->key_n, text));
	table_u64(table, item->tokens);
	(void)snprintf(text, sizeof(text), "%" PRIu32 "/%" PRIu32, item->pages_ready, item->page_count);
	table_text(table, text);
	table_size(table, item->stored_bytes);
	table_u64(table, item->leases);
	table_u64(table, item->children);
	table_u64(table, item->priority);
	table_ms(table, item->idle_ms);
}

static int list(struct ctl *ctl, kvc_space *space, uint64_t limit, struct json *json, struct table *table)
{
	struct kvc_list_item items[ITEMS];
	uint64_t cursor = 0;
	uint64_t left = limit ? limit : UINT64_MAX;

	do {
		size_t n;
		int r = kvc_list(space, &cursor, items, left < ITEMS ? (size_t)left : ITEMS, &n);

		if (r != KVC_OK)
			return ctl_fail(ctl, "ls", r);
		for (size_t i = 0; i < n; i++) {
			if (ctl->json)
				add_json(json, &items[i]);
			else
				add_row(table, &items[i]);
		}
		left -= n;
	} while (cursor != 0 && left > 0);
	return CTL_OK;
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	struct json json = json_stdout();
	struct table table;
	kvc_space *space;
	int printed = CTL_OK;
	int status = ctl_open(ctl, KVC_READ_ONLY);

	if (status == CTL_OK)
		status = ctl_space(ctl, operands[0], &space);
	if (status != CTL_OK)
		return status;
	table_init(&table, "KEY", ">TOKENS", ">PAGES", ">STORED", ">LEASES", ">CHILDREN", ">PRIORITY", ">IDLE", NULL);
	if (ctl->json)
		json_array_begin(&json);
	status = list(ctl, space, args->limit, &json, &table);
	if (ctl->json) {
		json_array_end(&json);
		json_finish(&json);
		table_deinit(&table);
	} else {
		printed = table_finish(&table);
	}
	return status != CTL_OK ? status : printed;
}

const struct verb verb_ls = {
	.name = "ls",
	.operands = "SPACE",
	.summary = "List the blocks of a space",
	.operands_min = 1,
	.operands_max = 1,
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
