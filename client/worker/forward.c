/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function a part of a layer. Everything token by token (norms, rotation) is done by the
 * caller's thread; matrices, attention and the gate are shared out.
 */
#include "client/worker/forward.h"

#include "base/contract.h"
#include "client/worker/matmul.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct forward {
	const struct model *model;
	const struct dot_kernels *kernels;
	struct pool *pool;
	uint32_t capacity;
	uint32_t n_batch; /* tokens of the last run */

	float *hidden;   /* a row a token, as all of these */
	float *normed;
	float *q;
	float *k;
	float *v;
	float *attended;
	float *gate;
	float *up;
	float *rotation; /* cos and sin of each pair of channels */
	float *storage;

	float *scratch;  /* a stretch a thread: rows of a matrix, or scores */
	size_t scratch_stride;
	size_t score_stride;

	struct codec_span *spans; /* a stretch a thread; of a packed store */
	size_t spans_stride;
};

/* --- Life ------------------------------------------------------------------------------------- */

static int allocate_rows(struct forward *f)
{
	const struct model *m = f->model;
	size_t q_width = (size_t)m->n_heads * m->head_dim;
	size_t kv_width = (size_t)m->n_kv_heads * m->head_dim;
	const struct {
		float **row;
		size_t width;
	} rows[] = {
		{ &f->hidden, m->width }, { &f->normed, m->width },     { &f->q, q_width },
		{ &f->k, kv_width },      { &f->v, kv_width },          { &f->attended, q_width },
		{ &f->gate, m->n_ff },    { &f->up, m->n_ff },          { &f->rotation, m->rope_dim },
	};
	size_t total = 0;
	float *next;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		total += rows[i].width;
	f->storage = calloc(total, FORWARD_BATCH_MAX * sizeof(float));
	if (!f->storage)
		return -ENOMEM;
	next = f->storage;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		*rows[i].row = next;
		next += rows[i].width * FORWARD_BATCH_MAX;
	}
	return 0;
}

static int allocate_scratch(struct forward *f, const struct kvstore *shape)
{
	const struct model *m = f->model;
	size_t widest = m->width > m->n_ff ? m->width : m->n_ff;
	size_t q_width = (size_t)m->n_heads * m->head_dim;
	size_t scores;

	f->score_stride = ((size_t)f->capacity + DOT_LANES - 1) / DOT_LANES * DOT_LANES;
	scores = shape->packed ? 0 : f->score_stride * (m->n_heads / m->n_kv_heads);
	f->scratch_stride = MATMUL_SCRATCH(widest > q_width ? widest : q_width);
	if (f->scratch_stride < scores)
		f->scratch_stride = scores;
	f->scratch = calloc(pool_threads(f->pool), f->scratch_stride * sizeof(float));
	f->spans_stride = shape->packed ? kvstore_spans_max(shape) : 1;
	f->spans = calloc(pool_threads(f->pool), f->spans_stride * sizeof(*f->spans));
	return f->scratch && f->spans ? 0 : -ENOMEM;
}

int forward_new(const struct model *model, const struct dot_kernels *kernels, struct pool *pool,
		const struct kvstore *shape, struct forward **ret_forward)
{
	_cleanup_(forward_freep) struct forward *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->model = model;
	f->kernels = kernels;
	f->pool = pool;
	f->capacity = shape->capacity;
	r = allocate_rows(f);
	if (r == 0)
		r = allocate_scratch(f, shape);
	if (r < 0)
		return r;
	*ret_forward = take_ptr(f);
	return 0;
}

struct forward *forward_free(struct forward *forward)
{
	if (!forward)
		return NULL;
	free(forward->storage);
	free(forward->scratch);
	free(forward->spans);
	free(forward);
	return NULL;
}

/* --- Parts of a layer ------------------------------------------------------------------------- */

static void embed(struct forward *f, const uint32_t *tokens, uint32_t n)
{
	const struct matrix *embedding = &f->model->embedding;

	for (uint32_t t = 0; t < n; t++) {
		kvp_assert(tokens[t] < embedding->rows);
		f->kernels->dequantise(embedding->format->type,
				       embedding->bytes + (size_t)tokens[t] * embedding->row_bytes,
				       embedding->cols, f->hidden + (size_t)t * embedding->cols);
	}
}

static void prepare_rotation(struct forward *f, uint32_t position, uint32_t n)
{
	uint32_t n_pairs = f->model->rope_dim / 2;

	for (uint32_t t = 0; t < n; t++)
		for (uint32_t i = 0; i < n_pairs; i++) {
			double angle = (double)(position + t) * f->model->rope_frequency[i];
			float *pair = f->rotation + ((size_t)t * n_pairs + i) * 2;

			pair[0] = (float)cos(angle);
			pair[1] = (float)sin(angle);
		}
}

/* Turns the channel pairs (0, 1), (2, 3), ... of every head of each token. */
static void rotate(const struct forward *f, float *rows, uint32_t n_heads, uint32_t n)
{
	uint32_t head_dim = f->model->head_dim;
	uint32_t rope_dim = f->model->rope_dim;

	for (uint32_t t = 0; t < n; t++) {
		const float *turn = f->rotation + (size_t)t * rope_dim;

		for (uint32_t h = 0; h < n_heads; h++) {
			float *x = rows + ((size_t)t * n_heads + h) * head_dim;

			for (uint32_t i = 0; i < rope_dim; i += 2) {
				float even = x[i];
				float odd = x[i + 1];

				x[i] = even * turn[i] - odd * turn[i + 1];
				x[i + 1] = even * turn[i + 1] + odd * turn[i];
			}
		}
	}
}

static void norm(const struct forward *f, const float *weight, uint32_t n)
{
	uint32_t width = f->model->width;

	for (uint32_t t = 0; t < n; t++)
		f->kernels->rms_norm(f->hidden + (size_t)t * width, weight, width, f->model->norm_epsilon,
				     f->normed + (size_t)t * width);
}

static void multiply(const struct forward *f, const struct matmul_job *jobs, unsigned n_jobs,
		     const float *vectors, uint32_t n)
{
	matmul_run(f->pool, f->kernels, f->scratch, f->scratch_stride, jobs, n_jobs, vectors, n);
}

/* Adds the product of a matrix back to the hidden states; `normed` serves as room for it. */
static void add_product(struct forward *f, const struct matrix *matrix, const float *vectors, uint32_t n)
{
	struct matmul_job job = { matrix, f->normed };

	multiply(f, &job, 1, vectors, n);
	f->kernels->add(f->hidden, f->normed, (size_t)n * f->model->width);
}

/* Writes K and V of the batch into the store behind what it holds. */
static void store_rows(const struct forward *f, struct kvstore *store, uint32_t layer, uint32_t n)
{
	uint32_t n_heads = store->n_heads;
	size_t row_bytes = store->head_dim * sizeof(float);

	for (uint32_t t = 0; t < n; t++)
		for (uint32_t h = 0; h < n_heads; h++) {
			size_t from = ((size_t)t * n_heads + h) * store->head_dim;
			size_t to = kvstore_offset(store, layer, h, store->n_tokens + t);

			memcpy(store->k + to, f->k + from, row_bytes);
			memcpy(store->v + to, f->v + from, row_bytes);
		}
}

struct attention {
	const struct forward *forward;
	const struct kvstore *store;
	uint32_t layer;
};

/* An item of attention: the query heads of one token that share one K/V head. */
struct attention_item {
	uint32_t head;
	uint32_t n;     /* positions that the token sees */
	size_t row;     /* of the first query head, in q and attended */
	uint32_t group; /* query heads */
	float scale;
};

static struct attention_item attention_item(const struct attention *attention, size_t item)
{
	const struct model *m = attention->forward->model;
	uint32_t token = (uint32_t)(item / m->n_kv_heads);
	uint32_t head = (uint32_t)(item % m->n_kv_heads);
	uint32_t group = m->n_heads / m->n_kv_heads;

	return (struct attention_item){
		.head = head,
		.n = attention->store->n_tokens + token + 1,
		.row = ((size_t)token * m->n_heads + (size_t)head * group) * m->head_dim,
		.group = group,
		.scale = 1.0f / sqrtf((float)m->head_dim),
	};
}

static void attend_packed(void *context, size_t index, unsigned worker)
{
	const struct attention *attention = context;
	const struct forward *f = attention->forward;
	struct attention_item item = attention_item(attention, index);
	uint32_t head_dim = f->model->head_dim;
	struct codec_span *spans = f->spans + worker * f->spans_stride;
	size_t n_spans = kvstore_spans(attention->store, attention->layer, item.head, item.n, spans);

	for (uint32_t g = 0; g < item.group; g += CODEC_QUERIES_MAX) {
		uint32_t left = item.group - g;
		struct codec_attention queries = {
			.head_dim_k = head_dim,
			.head_dim_v = head_dim,
			.n_queries = left < CODEC_QUERIES_MAX ? left : CODEC_QUERIES_MAX,
			.queries = f->q + item.row + (size_t)g * head_dim,
			.query_stride = (ptrdiff_t)head_dim,
			.scale = item.scale,
			.out = f->attended + item.row + (size_t)g * head_dim,
			.out_stride = (ptrdiff_t)head_dim,
		};

		codec_attend(&queries, spans, n_spans);
	}
}

static void attend_decoded(void *context, size_t index, unsigned worker)
{
	const struct attention *attention = context;
	const struct forward *f = attention->forward;
	const struct kvstore *store = attention->store;
	const struct model *m = f->model;
	struct attention_item item = attention_item(attention, index);
	size_t rows = kvstore_head(store, attention->layer, item.head);
	float *scores = f->scratch + worker * f->scratch_stride;

	f->kernels->products(store->k + rows, m->head_dim, item.n, f->q + item.row, m->head_dim,
			     item.group, m->head_dim, scores, f->score_stride);
	for (uint32_t g = 0; g < item.group; g++) {
		float *weights = scores + g * f->score_stride;

		f->kernels->softmax(weights, item.n, item.scale);
		f->kernels->weighted_sum(weights, store->v + rows, m->head_dim, item.n, m->head_dim,
					 f->attended + item.row + (size_t)g * m->head_dim);
	}
}

static void attend(struct forward *f, struct kvstore *store, uint32_t layer, uint32_t n)
{
	const struct model *m = f->model;
	const struct model_layer *weights = &m->layers[layer];
	const struct matmul_job jobs[] = { { &weights->q, f->q }, { &weights->k, f->k }, { &weights->v, f->v } };
	struct attention attention = { f, store, layer };

	norm(f, weights->attn_norm, n);
	multiply(f, jobs, 3, f->normed, n);
	rotate(f, f->q, m->n_heads, n);
	rotate(f, f->k, m->n_kv_heads, n);
	store_rows(f, store, layer, n);
	pool_run(f->pool, (size_t)n * m->n_kv_heads, store->packed ? attend_packed : attend_decoded,
		 &attention);
	add_product(f, &weights->o, f->attended, n);
}

static void gate_item(void *context, size_t item, unsigned worker)
{
	const struct forward *f = context;
	size_t n_ff = f->model->n_ff;

	(void)worker;
	f->kernels->silu_mul(f->gate + item * n_ff, f->up + item * n_ff, n_ff);
}

static void feed_forward(struct forward *f, uint32_t layer, uint32_t n)
{
	const struct model_layer *weights = &f->model->layers[layer];
	const struct matmul_job jobs[] = { { &weights->gate, f->gate }, { &weights->up, f->up } };

	norm(f, weights->ffn_norm, n);
	multiply(f, jobs, 2, f->normed, n);
	pool_run(f->pool, n, gate_item, f);
	add_product(f, &weights->down, f->gate, n);
}

/* --- The pass --------------------------------------------------------------------------------- */

void forward_run(struct forward *forward, struct kvstore *store, const uint32_t *tokens, uint32_t n)
{
	kvp_assert(n >= 1 && n <= FORWARD_BATCH_MAX);
	kvp_assert(store->capacity <= forward->capacity && n <= store->capacity - store->n_tokens);
	kvp_assert(n <= store->first + store->rows - store->n_tokens);
	embed(forward, tokens, n);
	prepare_rotation(forward, store->n_tokens, n);
	for (uint32_t layer = 0; layer < forward->model->n_layers; layer++) {
		attend(forward, store, layer, n);
		feed_forward(forward, layer, n);
	}
	norm(forward, forward->model->output_norm, n);
	store->n_tokens += n;
	forward->n_batch = n;
}

void forward_logits(struct forward *forward, uint32_t first, uint32_t n, float *logits)
{
	struct matmul_job job = { &forward->model->output, logits };

	kvp_assert(n >= 1 && first + n <= forward->n_batch);
	multiply(forward, &job, 1, forward->normed + (size_t)first * forward->model->width, n);
}
