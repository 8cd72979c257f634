/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl put SPACE KEY --k K.npy [--v V.npy]: one block from files of shape [layers, heads, tokens, head_dim]. A space
 * that is not there is registered when --model names what it is for; its shape is the files'.
 */
#include "client/kvctl/kvctl.h"

#include "client/kvctl/npy.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <inttypes.h>
#include <string.h>

#define BLOCK_TOKENS_DEFAULT 128
#define REASON_BYTES 256

enum { LAYERS, HEADS, TOKENS, DIM };

struct args {
	const char *k;
	const char *v;
	const char *parent;
	const char *model;
	const char *revision;
	const char *dtype;
	const char *codec;
	const char *codec_k;
	const char *codec_v;
	uint64_t block_tokens;
	uint64_t page_heads;
};

#define AT(field) offsetof(struct args, field)

static const struct option_spec options[] = {
	{ "k", 0, OPTION_TEXT, "FILE", "K, f32 or f16, [layers, heads, tokens, head_dim]", AT(k), 0 },
	{ "v", 0, OPTION_TEXT, "FILE", "V, likewise; none: the space has no V", AT(v), 0 },
	{ "parent", 0, OPTION_TEXT, "KEY", "the block before this one", AT(parent), 0 },
	{ "model", 0, OPTION_TEXT, "NAME", "register the space for this model if it is not there", AT(model), 0 },
	{ "revision", 0, OPTION_TEXT, "TEXT", "of the model", AT(revision), 0 },
	{ "dtype", 0, OPTION_TEXT, "TYPE", "of the model's K and V: " DTYPE_NAMES " (default: the file's)", AT(dtype),
	  0 },
	{ "codec", 0, OPTION_TEXT, "NAME", "how the space keeps K and V: " CODEC_NAMES " (default: q8)", AT(codec), 0 },
	{ "codec-k", 0, OPTION_TEXT, "NAME", "the same for K alone", AT(codec_k), 0 },
	{ "codec-v", 0, OPTION_TEXT, "NAME", "the same for V alone", AT(codec_v), 0 },
	{ "block-tokens", 0, OPTION_NUMBER, "N", "tokens in a block, 1 to 256 (default: 128)", AT(block_tokens), 0 },
	{ "page-heads", 0, OPTION_NUMBER, "N", "heads in a page (default: the daemon's choice)", AT(page_heads), 0 },
	{ 0 },
};

static int read_file(const char *path, struct npy *npy)
{
	char reason[REASON_BYTES] = "";
	char shown[PRINTABLE_BYTES];

	if (npy_read(path, npy, reason, sizeof(reason)) < 0)
		return ctl_error("%s: %s", printable(path, strlen(path), shown), reason);
	if (npy->n_dims != NPY_DIMS_MAX)
		return ctl_error("%s: it has %zu dimensions, not [layers, heads, tokens, head_dim]",
				 printable(path, strlen(path), shown), npy->n_dims);
	for (size_t i = 0; i < NPY_DIMS_MAX; i++)
		if (npy->shape[i] > UINT32_MAX)
			return ctl_error("%s: its shape is too large", printable(path, strlen(path), shown));
	return CTL_OK;
}

static int check_pair(const struct npy *k, const struct npy *v)
{
	if (!v->data)
		return CTL_OK;
	for (size_t i = LAYERS; i <= TOKENS; i++)
		if (k->shape[i] != v->shape[i])
			return ctl_error("K is [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", ...] but V is [%" PRIu64
					 ", %" PRIu64 ", %" PRIu64 ", ...]",
					 k->shape[LAYERS], k->shape[HEADS], k->shape[TOKENS], v->shape[LAYERS],
					 v->shape[HEADS], v->shape[TOKENS]);
	return CTL_OK;
}

/* The number of a name given with an option, or otherwise's. */
static int name_value(const char *option, const char *name, uint32_t (*number)(const char *), const char *names,
		      uint32_t otherwise, uint32_t *ret_value)
{
	char shown[PRINTABLE_BYTES];

	*ret_value = name ? number(name) : otherwise;
	if (*ret_value == 0)
		return ctl_usage("--%s wants one of %s, not '%s'", option, names, printable(name, strlen(name), shown));
	return CTL_OK;
}

/* What can be known of the schema before files are read. */
static int make_schema(const struct args *args, struct kvc_schema *schema)
{
	uint32_t codec;
	int status;

	if (args->block_tokens > UINT32_MAX || args->page_heads > UINT32_MAX)
		return ctl_usage("--block-tokens or --page-heads is too large");
	*schema = (struct kvc_schema){
		.model = args->model,
		.revision = args->revision,
		.block_tokens = args->block_tokens ? (uint32_t)args->block_tokens : BLOCK_TOKENS_DEFAULT,
		.page_heads = (uint32_t)args->page_heads,
	};
	status = name_value("codec", args->codec, codec_number, CODEC_NAMES, KVC_CODEC_Q8, &codec);
	if (status == CTL_OK)
		status = name_value("codec-k", args->codec_k, codec_number, CODEC_NAMES, codec, &schema->codec_k);
	if (status == CTL_OK)
		status = name_value("codec-v", args->codec_v, codec_number, CODEC_NAMES, codec, &schema->codec_v);
	if (status == CTL_OK)
		status = name_value("dtype", args->dtype, dtype_number, DTYPE_NAMES, KVC_F32, &schema->dtype);
	return status;
}

/* Whether files of this shape are a block of the space. */
static int check_shape(const struct kvc_schema *schema, const struct npy *k, const struct npy *v)
{
	const struct {
		const char *what;
		uint64_t file;
		uint64_t space;
	} facts[] = {
		{ "layers", k->shape[LAYERS], schema->layers },
		{ "heads", k->shape[HEADS], schema->kv_heads },
		{ "channels of K", k->shape[DIM], schema->head_dim_k },
		{ "channels of V", v->data ? v->shape[DIM] : 0, schema->head_dim_v },
	};

	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		if (facts[i].file != facts[i].space)
			return ctl_error("the files have %" PRIu64 " %s, the space has %" PRIu64, facts[i].file,
					 facts[i].what, facts[i].space);
	if (k->shape[TOKENS] > schema->block_tokens)
		return ctl_error("the files have %" PRIu64 " tokens, a block of the space at most %" PRIu32,
				 k->shape[TOKENS], schema->block_tokens);
	return CTL_OK;
}

static int open_space(struct ctl *ctl, const char *name, const struct args *args, struct kvc_schema *schema,
		      const struct npy *k, const struct npy *v, kvc_space **ret_space)
{
	int status;
	int r;

	if (!args->model)
		return ctl_space(ctl, name, ret_space);
	schema->dtype = args->dtype ? schema->dtype : k->dtype;
	schema->layers = (uint32_t)k->shape[LAYERS];
	schema->kv_heads = (uint32_t)k->shape[HEADS];
	schema->head_dim_k = (uint32_t)k->shape[DIM];
	schema->head_dim_v = v->data ? (uint32_t)v->shape[DIM] : 0;
	status = check_shape(schema, k, v);
	if (status != CTL_OK)
		return status;
	r = kvc_space_open(ctl->client, name, schema, ret_space);
	return r == KVC_OK ? CTL_OK : ctl_fail(ctl, name, r);
}

static struct kvc_tensor npy_tensor(const struct npy *npy)
{
	int64_t row = (int64_t)npy->shape[DIM];

	return (struct kvc_tensor){
		.data = npy->data,
		.dtype = npy->dtype,
		.stride_token = row,
		.stride_head = row * (int64_t)npy->shape[TOKENS],
		.stride_layer = row * (int64_t)npy->shape[TOKENS] * (int64_t)npy->shape[HEADS],
	};
}

static void print_result(struct ctl *ctl, const struct kvc_append *append)
{
	struct json json = json_stdout();

	if (!ctl->json) {
		if (append->status == KVC_PRESENT)
			(void)puts("present already");
		return;
	}
	json_object_begin(&json);
	json_kv_u64(&json, "tokens", append->tokens);
	json_kv_u64(&json, "pages_stored", append->pages_stored);
	json_kv_u64(&json, "pages_present", append->pages_present);
	json_object_end(&json);
	json_finish(&json);
}

static int append_block(struct ctl *ctl, kvc_space *space, struct kvc_append *append)
{
	int r = kvc_append(space, append, 1);

	if (r != KVC_OK)
		return ctl_fail(ctl, "put", r);
	if (append->status == KVC_NONFINITE || append->status == KVC_VALUE_RANGE)
		return ctl_error("%s: %c of layer %" PRIu32 ", head %" PRIu32 ", token %" PRIu32 ", channel %" PRIu32,
				 kvc_strerror(append->status), append->fault.tensor, append->fault.layer,
				 append->fault.head, append->fault.token, append->fault.channel);
	if (append->status != KVC_OK && append->status != KVC_PRESENT) {
		(void)ctl_error("%s", kvc_strerror(append->status));
		return ctl_exit_of(append->status);
	}
	print_result(ctl, append);
	return CTL_OK;
}

static int put(struct ctl *ctl, const struct args *args, char **operands, struct npy *k, struct npy *v)
{
	struct key_storage storage[2];
	struct kvc_append append = { 0 };
	struct kvc_schema schema;
	kvc_space *space = NULL;
	int status = make_schema(args, &schema);

	if (status == CTL_OK)
		status = key_parse(operands[1], &storage[0], &append.key);
	if (status == CTL_OK && args->parent)
		status = key_parse(args->parent, &storage[1], &append.parent);
	if (status == CTL_OK)
		status = read_file(args->k, k);
	if (status == CTL_OK && args->v)
		status = read_file(args->v, v);
	if (status == CTL_OK)
		status = check_pair(k, v);
	if (status == CTL_OK)
		status = ctl_open(ctl, 0);
	if (status == CTL_OK)
		status = open_space(ctl, operands[0], args, &schema, k, v, &space);
	if (status == CTL_OK)
		status = check_shape(kvc_space_schema(space), k, v);
	if (status != CTL_OK)
		return status;
	append.tokens = (uint32_t)k->shape[TOKENS];
	append.k = npy_tensor(k);
	if (v->data)
		append.v = npy_tensor(v);
	return append_block(ctl, space, &append);
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	struct npy k = { 0 };
	struct npy v = { 0 };
	int status;

	if (!args->k)
		return ctl_usage("put needs --k FILE");
	status = put(ctl, args, operands, &k, &v);
	npy_deinit(&k);
	npy_deinit(&v);
	return status;
}

const struct verb verb_put = {
	.name = "put",
	.operands = "SPACE KEY",
	.summary = "Store a block from .npy files",
	.details =
		"The codec, type and block size matter only when the space is registered; afterwards, if given with\n"
		"--model, they must be the space's own.",
	.operands_min = 2,
	.operands_max = 2,
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
