/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl why SPACE KEY: what became of a block. One that is resident is read page by page and compared with its
 * checksums; for one that is not, other spaces that have its key are named, with what their schemas differ in.
 */
#include "client/kvctl/kvctl.h"

#include "base/units.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIFFERENCES_BYTES 512

/* What reading all pages found. */
struct reading {
	bool done;	/* every page could be looked at */
	uint64_t pages; /* read */
	uint64_t corrupt;
	uint32_t layer; /* of the first that is */
	uint32_t head;
};

struct answer {
	const char *space;
	struct kvc_key key;
	struct kvc_why why;
	struct reading reading;
};

/* One tile of each page is enough: a page is compared as a whole. */
static void read_block(const kvc_block *block, const struct kvc_schema *schema, struct reading *reading)
{
	for (uint32_t layer = 0; layer < schema->layers; layer++)
		for (uint32_t head = 0; head < schema->kv_heads; head += schema->page_heads) {
			struct kvc_tile tile;
			int r = kvc_block_tile(block, 'K', layer, head, &tile);

			reading->pages += r == KVC_OK || r == KVC_CORRUPT;
			if (r != KVC_CORRUPT)
				continue;
			if (reading->corrupt++ == 0) {
				reading->layer = layer;
				reading->head = head;
			}
		}
	reading->done = kvc_block_check(block) == KVC_OK;
}

static int read_pages(struct answer *answer, kvc_space *space)
{
	kvc_block *block = NULL;
	int status = KVC_OK;
	int r = kvc_lease(space, &answer->key, 1, NULL, 0, &block, &status);

	if (block)
		read_block(block, kvc_space_schema(space), &answer->reading);
	(void)kvc_unpin(block);
	return r;
}

static void add_text(char *texts, const char *name, const char *here, const char *there)
{
	size_t used = strlen(texts);
	char shown[2][PRINTABLE_BYTES];

	if (strcmp(here, there) != 0)
		(void)snprintf(texts + used, DIFFERENCES_BYTES - used, "%s%s %s, not %s", used ? "; " : "", name,
			       printable(there, strlen(there), shown[0]), printable(here, strlen(here), shown[1]));
}

static void add_number(char *texts, const char *name, uint32_t here, uint32_t there)
{
	char shown[2][16];

	(void)snprintf(shown[0], sizeof(shown[0]), "%" PRIu32, here);
	(void)snprintf(shown[1], sizeof(shown[1]), "%" PRIu32, there);
	add_text(texts, name, shown[0], shown[1]);
}

/* In which fields the other space's schema is another one. */
static void differences(const struct kvc_schema *here, const struct kvc_schema *there, char *texts)
{
	texts[0] = '\0';
	add_text(texts, "model", here->model, there->model);
	add_text(texts, "revision", here->revision, there->revision);
	add_text(texts, "dtype", dtype_name(here->dtype), dtype_name(there->dtype));
	add_number(texts, "layers", here->layers, there->layers);
	add_number(texts, "kv_heads", here->kv_heads, there->kv_heads);
	add_number(texts, "head_dim_k", here->head_dim_k, there->head_dim_k);
	add_number(texts, "head_dim_v", here->head_dim_v, there->head_dim_v);
	add_number(texts, "block_tokens", here->block_tokens, there->block_tokens);
	add_text(texts, "codec_k", codec_name(here->codec_k), codec_name(there->codec_k));
	add_text(texts, "codec_v", codec_name(here->codec_v), codec_name(there->codec_v));
	add_number(texts, "page_heads", here->page_heads, there->page_heads);
}

static void compare_with(struct ctl *ctl, kvc_space *space, const char *name, char *texts)
{
	kvc_space *other;

	texts[0] = '\0'; /* it may be gone by now */
	if (kvc_space_open(ctl->client, name, NULL, &other) != KVC_OK)
		return;
	differences(kvc_space_schema(space), kvc_space_schema(other), texts);
	(void)kvc_space_close(other);
}

static void print_json(struct ctl *ctl, kvc_space *space, const struct answer *answer)
{
	const struct kvc_why *why = &answer->why;
	struct json json = json_stdout();
	char texts[DIFFERENCES_BYTES];

	json_object_begin(&json);
	json_kv_string(&json, "space", answer->space);
	json_kv_key(&json, answer->key.bytes, answer->key.n);
	json_kv_string(&json, "fate", answer->reading.corrupt ? "corrupt" : kvc_fate_word(why->fate));
	json_kv_u64(&json, "ago_ms", why->ago_ms);
	json_kv_u64(&json, "tokens", why->tokens);
	json_kv_u64(&json, "pages_ready", why->pages_ready);
	json_kv_u64(&json, "page_count", why->page_count);
	json_kv_u64(&json, "leases", why->leases);
	json_kv_u64(&json, "children", why->children);
	json_kv_u64(&json, "priority", why->priority);
	json_kv_u64(&json, "stored_bytes", why->stored_bytes);
	json_kv_u64(&json, "pages_read", answer->reading.pages);
	json_kv_u64(&json, "pages_corrupt", answer->reading.corrupt);
	json_kv_u64(&json, "remembered", why->remembered);
	json_key(&json, "elsewhere");
	json_array_begin(&json);
	for (size_t i = 0; i < why->n_elsewhere; i++) {
		compare_with(ctl, space, why->elsewhere[i], texts);
		json_object_begin(&json);
		json_kv_string(&json, "space", why->elsewhere[i]);
		json_kv_string(&json, "differs", texts);
		json_object_end(&json);
	}
	json_array_end(&json);
	json_object_end(&json);
	json_finish(&json);
}

static void print_resident(const struct answer *answer)
{
	const struct kvc_why *why = &answer->why;
	char size[24];
	char idle[32];

	(void)printf("%" PRIu32 " tokens, %" PRIu32 " of %" PRIu32 " pages, %s, last used %s ago, %" PRIu32
		     " children, %" PRIu32 " leases",
		     why->tokens, why->pages_ready, why->page_count,
		     units_format_bytes(why->stored_bytes, size, sizeof(size)), format_ms(why->ago_ms, idle),
		     why->children, why->leases);
	if (why->priority)
		(void)printf(", kept with priority %" PRIu32, why->priority);
	(void)putchar('\n');
	if (answer->reading.corrupt)
		(void)printf("%" PRIu64 " of %" PRIu64 " pages are not what was stored, the first at layer %" PRIu32
			     ", head %" PRIu32 ": delete the block (kvctl rm), and test the memory\n",
			     answer->reading.corrupt, answer->reading.pages, answer->reading.layer,
			     answer->reading.head);
	else if (answer->reading.done)
		(void)printf("all pages match their checksums\n");
}

static void print_text(struct ctl *ctl, kvc_space *space, const struct answer *answer)
{
	const struct kvc_why *why = &answer->why;
	bool resident = why->fate == KVC_FATE_PRESENT || why->fate == KVC_FATE_PARTIAL;
	char texts[DIFFERENCES_BYTES];
	char shown[PRINTABLE_BYTES];
	char ago[32];

	(void)printf("%s%s: %s%s", style(answer->reading.corrupt ? STYLE_BAD : STYLE_TITLE),
		     answer->reading.corrupt ? "corrupt" : kvc_fate_word(why->fate),
		     answer->reading.corrupt ? "resident, but damaged" : kvc_fate_text(why->fate), style(STYLE_PLAIN));
	if (!resident && why->fate != KVC_FATE_UNKNOWN)
		(void)printf(", %s ago", format_ms(why->ago_ms, ago));
	(void)putchar('\n');
	if (resident)
		print_resident(answer);
	if (why->fate == KVC_FATE_UNKNOWN)
		(void)printf("the daemon remembers the last %" PRIu32 " removals\n", why->remembered);
	for (size_t i = 0; i < why->n_elsewhere; i++) {
		compare_with(ctl, space, why->elsewhere[i], texts);
		(void)printf("the key is also in space %s%s%s\n",
			     printable(why->elsewhere[i], strlen(why->elsewhere[i]), shown),
			     texts[0] ? ", whose schema is another: " : "", texts);
	}
}

static int run(struct ctl *ctl, const void *args, char **operands, size_t n)
{
	struct kvc_options wanted = {
		.flags = KVC_READ_ONLY | KVC_NO_RECONNECT,
		.pins_max = 1,
		.verify = KVC_VERIFY_ALWAYS,
	};
	struct answer answer = { .space = operands[0] };
	struct key_storage storage;
	kvc_space *space;
	int status = key_parse(operands[1], &storage, &answer.key);
	int r;

	if (status == CTL_OK)
		status = ctl_open_with(ctl, &wanted);
	if (status == CTL_OK)
		status = ctl_space(ctl, operands[0], &space);
	if (status != CTL_OK)
		return status;
	r = kvc_why(space, &answer.key, &answer.why);
	if (r == KVC_OK && answer.why.fate == KVC_FATE_PRESENT)
		r = read_pages(&answer, space);
	if (r != KVC_OK)
		return ctl_fail(ctl, "why", r);
	if (ctl->json)
		print_json(ctl, space, &answer);
	else
		print_text(ctl, space, &answer);
	if (answer.reading.corrupt)
		return CTL_FAILED;
	return answer.why.fate == KVC_FATE_PRESENT ? CTL_OK : CTL_NOT_FOUND;
}

const struct verb verb_why = {
	.name = "why",
	.operands = "SPACE KEY",
	.summary = "Tell what became of a block: there, evicted, deleted, never stored, elsewhere, damaged",
	.details = "A block that is there is read whole and compared with its checksums, which also marks it as used.\n"
		   "Exit status: 0 there and whole, 3 not there or unfinished, 1 damaged.",
	.operands_min = 2,
	.operands_max = 2,
	.run = run,
};
