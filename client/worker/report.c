/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the JSON objects are an interface: they are added to, not renamed. */
#include "client/worker/report.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>

#define MIB 1048576.0

void report_generation_text(const struct report_frame *frame, const struct generation *generation,
			    const struct report_blocks *blocks)
{
	(void)fprintf(stderr,
		      "kvworker: %" PRIu32 " prompt tokens, %" PRIu32 " from the cache, %" PRIu32
		      " computed; first token after %.1f ms; %zu tokens at %.1f tokens/s; %" PRIu64
		      " blocks stored; K/V %s in %.1f MiB\n",
		      generation->n_prompt, generation->n_cached, generation->n_computed,
		      generation->first_token_ms, generation->tokens.n, generation->tokens_per_s,
		      blocks->stored, kvstore_form(frame->store), (double)kvstore_bytes(frame->store) / MIB);
}

static void write_frame(struct json *json, const struct report_frame *frame)
{
	char identity[17];

	(void)snprintf(identity, sizeof(identity), "%016" PRIx64, frame->model->identity);
	json_kv_string(json, "model", frame->model->name);
	json_kv_string(json, "model_identity", identity);
	json_kv_string(json, "codec_k", codec_name(frame->store->codec_k));
	json_kv_string(json, "codec_v", codec_name(frame->store->codec_v));
	json_kv_u64(json, "block_tokens", frame->store->block_tokens);
	json_kv_string(json, "attend", kvstore_form(frame->store));
	json_kv_u64(json, "kv_tokens", frame->store->capacity);
	json_kv_u64(json, "kv_bytes", kvstore_bytes(frame->store));
	json_kv_string(json, "isa", frame->isa);
	json_kv_u64(json, "threads", frame->threads);
	json_kv_bool(json, "cache", frame->space != NULL);
	if (frame->space)
		json_kv_string(json, "space", frame->space);
}

void report_generation_json(const struct report_frame *frame, const struct generation *generation,
			    const struct report_blocks *blocks, const struct textout *out)
{
	struct json json;

	json_init(&json, stdout);
	json_object_begin(&json);
	write_frame(&json, frame);
	json_kv_u64(&json, "tokens_prompt", generation->n_prompt);
	json_kv_u64(&json, "tokens_from_cache", generation->n_cached);
	json_kv_u64(&json, "tokens_computed", generation->n_computed);
	json_kv_u64(&json, "tokens_generated", generation->tokens.n);
	json_kv_bool(&json, "ended", generation->ended);
	json_kv_double(&json, "time_to_first_token_ms", generation->first_token_ms);
	json_kv_double(&json, "prompt_tokens_per_s", generation->prompt_tokens_per_s);
	json_kv_double(&json, "tokens_per_s", generation->tokens_per_s);
	json_kv_u64(&json, "blocks_stored", blocks->stored);
	json_kv_u64(&json, "blocks_present", blocks->present);
	json_kv_u64(&json, "blocks_refused", blocks->refused);
	json_key(&json, "text");
	json_bytes(&json, out->text, out->n);
	json_key(&json, "tokens");
	json_array_begin(&json);
	for (size_t i = 0; i < generation->tokens.n; i++)
		json_u64(&json, generation->tokens.ids[i]);
	json_array_end(&json);
	json_object_end(&json);
	json_finish(&json);
}

void report_perplexity_text(const struct report_frame *frame, const struct perplexity *perplexity)
{
	(void)printf("perplexity %.4f over %" PRIu64 " tokens in %" PRIu32 " windows, K %s, V %s, %s\n",
		     perplexity->value, perplexity->n_scored, perplexity->n_windows,
		     codec_name(frame->store->codec_k), codec_name(frame->store->codec_v),
		     kvstore_form(frame->store));
}

void report_perplexity_json(const struct report_frame *frame, const struct perplexity *perplexity)
{
	struct json json;

	json_init(&json, stdout);
	json_object_begin(&json);
	write_frame(&json, frame);
	json_kv_double(&json, "perplexity", perplexity->value);
	json_kv_u64(&json, "tokens_scored", perplexity->n_scored);
	json_kv_u64(&json, "windows", perplexity->n_windows);
	json_object_end(&json);
	json_finish(&json);
}
