/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvworker: a llama-family worker on the CPU that keeps the finished blocks of its KV cache in
 * kvpaged. Everything is made in the order of run(), each step from the ones before, and released
 * in the reverse.
 */
#include "base/cleanup.h"
#include "client/worker/dump.h"
#include "client/worker/generate.h"
#include "client/worker/input.h"
#include "client/worker/locate.h"
#include "client/worker/options.h"
#include "client/worker/perplexity.h"
#include "client/worker/report.h"
#include "client/worker/session.h"
#include "kvpaged-version.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

struct worker {
	const struct options *options;
	struct gguf *gguf;
	struct model *model;
	struct tokenizer *tokenizer;
	struct input input;
	const struct dot_kernels *kernels;
	struct pool *pool;
	struct session *session;
	struct cachelink *cache;
	struct fault fault;
};

static void worker_done(struct worker *worker)
{
	(void)session_free(worker->session);
	(void)cachelink_free(worker->cache);
	(void)pool_free(worker->pool);
	input_done(&worker->input);
	(void)tokenizer_free(worker->tokenizer);
	(void)model_free(worker->model);
	(void)gguf_free(worker->gguf);
}

/* --- Making ----------------------------------------------------------------------------------- */

static unsigned count_processors(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	n = CPU_COUNT(&set);
	return n < 1 ? 1 : n > POOL_THREADS_MAX ? POOL_THREADS_MAX : (unsigned)n;
}

static int open_model(struct worker *worker)
{
	int r = locate_model(worker->options->model, &worker->gguf, &worker->fault);

	if (r == 0)
		r = model_new(worker->gguf, &worker->model, &worker->fault);
	if (r == 0)
		r = tokenizer_new(worker->gguf, &worker->tokenizer, &worker->fault);
	if (r == 0 && tokenizer_size(worker->tokenizer) != worker->model->n_vocab)
		r = fault_set(&worker->fault, -EBADMSG,
			      "the tokenizer has %" PRIu32 " tokens, the model %" PRIu32,
			      tokenizer_size(worker->tokenizer), worker->model->n_vocab);
	return r;
}

/* Positions that the longest sequence of this run needs. */
static int plan_capacity(struct worker *worker, uint32_t *ret_capacity)
{
	const struct options *options = worker->options;
	uint32_t n_context = worker->model->n_context;
	uint64_t behind = options->follow_file ? worker->input.n_follow_longest : options->n_tokens;
	uint64_t capacity = worker->input.n_longest + behind;

	if (options->perplexity_file) {
		if (options->context > n_context)
			return fault_set(&worker->fault, -EINVAL,
					 "--context %" PRIu32 " is more than the model's %" PRIu32,
					 options->context, n_context);
		*ret_capacity = options->context;
		return 0;
	}
	if (worker->input.n_longest >= n_context)
		return fault_set(&worker->fault, -E2BIG,
				 "the prompt has %zu tokens; the model's context is %" PRIu32,
				 worker->input.n_longest, n_context);
	if (options->follow_file && capacity > n_context)
		return fault_set(&worker->fault, -E2BIG, "a prompt and what is to be followed have up to %" PRIu64
				 " tokens; the model's context is %" PRIu32, capacity, n_context);
	*ret_capacity = capacity < n_context ? (uint32_t)capacity : n_context;
	return 0;
}

static int make_session(struct worker *worker)
{
	const struct options *options = worker->options;
	struct session_options session_options = {
		.model = worker->model,
		.block_tokens = options->block_tokens,
		.codec_k = (enum codec_id)options->codec_k,
		.codec_v = (enum codec_id)options->codec_v,
		.packed = options->packed,
	};
	int r;

	worker->kernels = dot_kernels_select(getenv("KVC_ISA"));
	if (!worker->kernels)
		return fault_set(&worker->fault, -EINVAL,
				 "KVC_ISA: this processor does not have the instruction set %s",
				 getenv("KVC_ISA"));
	r = plan_capacity(worker, &session_options.capacity);
	if (r < 0)
		return r;
	r = pool_new(options->threads ? options->threads : count_processors(), &worker->pool);
	if (r < 0)
		return fault_set(&worker->fault, r, "cannot start threads: %s", strerror(-r));
	session_options.kernels = worker->kernels;
	session_options.pool = worker->pool;
	r = session_new(&session_options, &worker->session);
	return r < 0 ? fault_set(&worker->fault, r, "no memory for %" PRIu32 " tokens", session_options.capacity)
		     : 0;
}

static void print_notice(void *context, const char *text)
{
	(void)context;
	(void)fprintf(stderr, "kvworker: going on without the cache: %s\n", text);
}

/* A cache that is not there is no failure unless the user says so. */
static int open_cache(struct worker *worker)
{
	const struct options *options = worker->options;
	struct cachelink_options cache_options = {
		.socket_path = options->socket,
		.space_name = options->space,
		.notice = print_notice,
	};
	struct fault fault;
	int r;

	if (options->no_cache || options->perplexity_file)
		return 0;
	r = cachelink_open(&cache_options, worker->model, session_store(worker->session), &worker->cache,
			   &fault);
	if (r < 0 && options->require_cache) {
		worker->fault = fault;
		return r;
	}
	if (r < 0)
		print_notice(NULL, fault.text);
	session_use_cache(worker->session, worker->cache);
	return 0;
}

/* --- Running ---------------------------------------------------------------------------------- */

static struct report_frame make_frame(const struct worker *worker)
{
	return (struct report_frame){
		.model = worker->model,
		.store = session_store(worker->session),
		.isa = worker->kernels->name,
		.threads = pool_threads(worker->pool),
		.space = worker->cache ? cachelink_space(worker->cache) : NULL,
	};
}

static struct cachelink_counts cache_counts(struct worker *worker)
{
	if (!worker->cache)
		return (struct cachelink_counts){ 0 };
	cachelink_flush(worker->cache);
	return cachelink_counts(worker->cache);
}

static void warn_codec(const struct worker *worker)
{
	const struct kvstore_fault *fault = session_codec_fault(worker->session);

	if (fault)
		(void)fprintf(stderr,
			      "kvworker: a block was kept exact and not stored: %c of layer %" PRIu32 ", head %" PRIu32
			      ", token %" PRIu32 ", channel %" PRIu32 " is beyond the codec's range or not a number\n",
			      fault->tensor, fault->layer, fault->head, fault->at.token, fault->at.channel);
}

/* One generation, or one text followed. */
static int compute(struct worker *worker, size_t index, struct textout *out, struct generation *ret)
{
	const struct options *options = worker->options;
	const struct tokens *prompt = &worker->input.prompts[index];
	uint32_t room = session_store(worker->session)->capacity - (uint32_t)prompt->n;
	struct generate_options generate_options = {
		.n_tokens_max = options->n_tokens < room ? options->n_tokens : room,
		.ignore_end = options->ignore_eos,
	};
	struct sampler sampler = { options->temperature, options->top_k, options->seed };

	if (options->follow_file)
		return generate_follow(worker->session, worker->model->n_vocab, prompt,
				       &worker->input.follows[index], ret);
	return generate_run(worker->session, worker->tokenizer, &sampler, &generate_options, prompt, out, ret);
}

static int run_prompt(struct worker *worker, size_t index)
{
	const struct options *options = worker->options;
	_cleanup_(textout_done) struct textout out = { .stream = options->json ? NULL : stdout };
	_cleanup_(generation_done) struct generation generation = { 0 };
	struct cachelink_counts before = cache_counts(worker);
	struct report_frame frame = make_frame(worker);
	struct cachelink_counts after;
	struct report_blocks blocks;
	int r = compute(worker, index, &out, &generation);

	if (r < 0)
		return fault_set(&worker->fault, r, "cannot go on: %s", strerror(-r));
	after = cache_counts(worker);
	blocks = (struct report_blocks){
		.stored = after.blocks_stored - before.blocks_stored,
		.present = after.blocks_present - before.blocks_present,
		.refused = after.blocks_refused - before.blocks_refused,
	};
	warn_codec(worker);
	if (options->json)
		report_generation_json(&frame, &generation, &blocks, &out);
	else
		(void)putchar('\n');
	if (!options->quiet)
		report_generation_text(&frame, &generation, &blocks);
	return 0;
}

static int run_prompts(struct worker *worker)
{
	for (size_t i = 0; i < worker->input.n; i++) {
		int r;

		if (i > 0 && !worker->options->json)
			(void)puts("---");
		r = run_prompt(worker, i);
		if (r < 0)
			return r;
	}
	return 0;
}

static int dump(struct worker *worker)
{
	const char *path = worker->options->dump_kv_file;
	const char *what;
	int r = dump_write(path, worker->options->model, session_store(worker->session), &what);

	return r < 0 ? fault_set(&worker->fault, r, "--dump-kv %s: %s: %s", path, what, strerror(-r)) :
		       0;
}

static int run_perplexity(struct worker *worker)
{
	const struct tokens *text = &worker->input.prompts[0];
	struct report_frame frame = make_frame(worker);
	struct perplexity perplexity;
	int r = perplexity_run(worker->session, worker->model->n_vocab, text->ids, text->n,
			       worker->options->context, &perplexity);

	if (r == -ENODATA)
		return fault_set(&worker->fault, r,
				 "the text or --context is too short: a window needs %" PRIu32 " tokens",
				 worker->options->block_tokens + 2);
	if (r < 0)
		return fault_set(&worker->fault, r, "cannot go on: %s", strerror(-r));
	warn_codec(worker);
	if (worker->options->json)
		report_perplexity_json(&frame, &perplexity);
	else
		report_perplexity_text(&frame, &perplexity);
	return 0;
}

static int fail(const struct worker *worker, int status)
{
	(void)fflush(stdout);
	(void)fprintf(stderr, "kvworker: %s\n", worker->fault.text);
	return status;
}

static int run(const struct options *options)
{
	_cleanup_(worker_done) struct worker worker = { .options = options };
	int r = open_model(&worker);

	if (r < 0)
		return fail(&worker, r == -ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED);
	if (input_read(options, worker.tokenizer, &worker.input, &worker.fault) < 0)
		return fail(&worker, EXIT_FAILED);
	if (make_session(&worker) < 0)
		return fail(&worker, EXIT_FAILED);
	if (open_cache(&worker) < 0)
		return fail(&worker, EXIT_UNREACHABLE);
	r = options->perplexity_file ? run_perplexity(&worker) : run_prompts(&worker);
	if (r == 0 && options->dump_kv_file)
		r = dump(&worker);
	if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		r = fault_set(&worker.fault, -EIO, "cannot write to stdout");
	return r < 0 ? fail(&worker, EXIT_FAILED) : EXIT_OK;
}

int main(int argc, char **argv)
{
	struct options options;
	struct fault fault;

	if (options_parse(argc, argv, &options, &fault) < 0) {
		(void)fprintf(stderr, "kvworker: %s\n", fault.text);
		return EXIT_USAGE;
	}
	if (options.help) {
		options_print_help(stdout);
		return EXIT_OK;
	}
	if (options.version) {
		(void)printf("kvworker %s\n", KVPAGED_VERSION);
		return EXIT_OK;
	}
	return run(&options);
}
