/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl get SPACE KEY -o PREFIX: one block, decoded, as PREFIX.k.npy and PREFIX.v.npy of shape [layers, heads, tokens,
 * head_dim]. How many tokens the block has is known only after the fetch: rows are fetched at the space's block size
 * and then moved together.
 */
#include "client/kvctl/kvctl.h"

#include "base/checked.h"
#include "base/units.h"
#include "client/kvctl/npy.h"
#include "client/kvctl/output.h"
#include "client/kvctl/schema.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
	const char *prefix;
	const char *dtype;
	const char *layers;
	const char *heads;
};

static const struct option_spec options[] = {
	{ "output", 'o', OPTION_TEXT, "PREFIX", "write PREFIX.k.npy and PREFIX.v.npy", offsetof(struct args, prefix),
	  0 },
	{ "dtype", 0, OPTION_TEXT, "TYPE", "of the files: f32 (default) or f16", offsetof(struct args, dtype), 0 },
	{ "layer", 0, OPTION_TEXT, "FIRST[:N]", "only layer FIRST, or N layers from it", offsetof(struct args, layers),
	  0 },
	{ "head", 0, OPTION_TEXT, "FIRST[:N]", "only head FIRST, or N heads from it, in whole pages",
	  offsetof(struct args, heads), 0 },
	{ 0 },
};

struct plane {
	uint64_t shape[NPY_DIMS_MAX]; /* layers, heads, tokens, head_dim */
	size_t element_bytes;
	uint8_t *data;
};

static int parse_span(const char *option, const char *text, uint32_t all, uint32_t *ret_begin, uint32_t *ret_count)
{
	uint64_t begin = 0;
	uint64_t count = all;
	char shown[PRINTABLE_BYTES];
	char first[24];
	const char *colon;
	size_t n;

	*ret_begin = 0;
	*ret_count = all;
	if (!text)
		return CTL_OK;
	colon = strchr(text, ':');
	n = colon ? (size_t)(colon - text) : strlen(text);
	(void)snprintf(first, sizeof(first), "%.*s", (int)(n < sizeof(first) ? n : sizeof(first) - 1), text);
	count = 1;
	if (n >= sizeof(first) || units_parse_u64(first, &begin) < 0 ||
	    (colon && units_parse_u64(colon + 1, &count) < 0) || count == 0)
		return ctl_usage("--%s wants FIRST or FIRST:N, not '%s'", option, printable(text, strlen(text), shown));
	if (!checked_range(begin, count, all))
		return ctl_usage("--%s %s: the space has %" PRIu32, option, printable(text, strlen(text), shown), all);
	*ret_begin = (uint32_t)begin;
	*ret_count = (uint32_t)count;
	return CTL_OK;
}

static int plane_init(struct plane *plane, const struct kvc_range *range, uint32_t tokens, uint32_t head_dim,
		      uint32_t dtype)
{
	uint64_t bytes = npy_element_bytes(dtype);

	*plane = (struct plane){
		.shape = { range->layer_count, range->head_count, tokens, head_dim },
		.element_bytes = npy_element_bytes(dtype),
	};
	for (size_t i = 0; i < NPY_DIMS_MAX; i++)
		if (!checked_mul_u64(bytes, plane->shape[i], &bytes))
			return ctl_error("the block is too large");
	plane->data = malloc(bytes ? bytes : 1);
	return plane->data ? CTL_OK : ctl_error("out of memory");
}

static struct kvc_tensor plane_tensor(const struct plane *plane, uint32_t dtype)
{
	int64_t row = (int64_t)plane->shape[3];

	return (struct kvc_tensor){
		.data = plane->shape[3] ? plane->data : NULL,
		.dtype = dtype,
		.stride_token = row,
		.stride_head = row * (int64_t)plane->shape[2],
		.stride_layer = row * (int64_t)plane->shape[2] * (int64_t)plane->shape[1],
	};
}

/* Leaves out the rows between tokens and what the plane was made for. */
static void plane_close_up(struct plane *plane, uint32_t tokens)
{
	size_t row = plane->shape[3] * plane->element_bytes;
	size_t tiles = plane->shape[0] * plane->shape[1];

	for (size_t i = 1; i < tiles; i++)
		memmove(plane->data + i * tokens * row, plane->data + i * plane->shape[2] * row, tokens * row);
	plane->shape[2] = tokens;
}

static int plane_write(const struct plane *plane, const char *prefix, const char *suffix, uint32_t dtype,
		       char path[PATH_MAX])
{
	char shown[PRINTABLE_BYTES];
	int r;

	if ((size_t)snprintf(path, PATH_MAX, "%s.%s.npy", prefix, suffix) >= PATH_MAX)
		return ctl_usage("the output's name is too long");
	r = npy_write(path, dtype, plane->shape, NPY_DIMS_MAX, plane->data);
	if (r < 0)
		return ctl_error("%s: %s", printable(path, strlen(path), shown), strerror(-r));
	return CTL_OK;
}

static void print_json(const char *paths[2], const struct plane planes[2], uint32_t dtype)
{
	static const char *const names[] = { "k", "v" };
	struct json json = json_stdout();

	json_object_begin(&json);
	json_kv_string(&json, "dtype", dtype_name(dtype));
	for (size_t i = 0; i < 2; i++) {
		if (!planes[i].shape[3])
			continue;
		json_key(&json, names[i]);
		json_object_begin(&json);
		json_kv_string(&json, "path", paths[i]);
		json_key(&json, "shape");
		json_array_begin(&json);
		for (size_t j = 0; j < NPY_DIMS_MAX; j++)
			json_u64(&json, planes[i].shape[j]);
		json_array_end(&json);
		json_object_end(&json);
	}
	json_object_end(&json);
	json_finish(&json);
}

static int write_out(struct ctl *ctl, const char *prefix, struct plane planes[2], uint32_t tokens, uint32_t dtype)
{
	static const char *const suffixes[] = { "k", "v" };
	char paths[2][PATH_MAX] = { "", "" };
	int status = CTL_OK;

	for (size_t i = 0; i < 2 && status == CTL_OK; i++) {
		if (!planes[i].shape[3])
			continue;
		plane_close_up(&planes[i], tokens);
		status = plane_write(&planes[i], prefix, suffixes[i], dtype, paths[i]);
	}
	if (status == CTL_OK && ctl->json)
		print_json((const char *[]){ paths[0], paths[1] }, planes, dtype);
	return status;
}

static int get(struct ctl *ctl, kvc_space *space, const struct args *args, const struct kvc_key *key,
	       const char *key_text)
{
	const struct kvc_schema *schema = kvc_space_schema(space);
	uint32_t dtype = args->dtype ? dtype_number(args->dtype) : KVC_F32;
	struct plane planes[2] = { 0 };
	struct kvc_fetch fetch = { .key = *key };
	char shown[PRINTABLE_BYTES];
	int status;
	int r;

	status = parse_span("layer", args->layers, schema->layers, &fetch.range.layer_begin, &fetch.range.layer_count);
	if (status == CTL_OK)
		status = parse_span("head", args->heads, schema->kv_heads, &fetch.range.head_begin,
				    &fetch.range.head_count);
	if (status == CTL_OK)
		status = plane_init(&planes[0], &fetch.range, schema->block_tokens, schema->head_dim_k, dtype);
	if (status == CTL_OK)
		status = plane_init(&planes[1], &fetch.range, schema->block_tokens, schema->head_dim_v, dtype);
	if (status == CTL_OK) {
		fetch.k = plane_tensor(&planes[0], dtype);
		fetch.v = plane_tensor(&planes[1], dtype);
		r = kvc_fetch(space, NULL, &fetch, 1);
		if (r != KVC_OK)
			status = ctl_fail(ctl, "get", r);
		else if (fetch.status != KVC_OK) {
			(void)ctl_error("%s: %s", printable(key_text, strlen(key_text), shown),
					kvc_strerror(fetch.status));
			status = ctl_exit_of(fetch.status);
		} else
			status = write_out(ctl, args->prefix, planes, fetch.tokens, dtype);
	}
	free(planes[0].data);
	free(planes[1].data);
	return status;
}

static int run(struct ctl *ctl, const void *data, char **operands, size_t n)
{
	const struct args *args = data;
	struct key_storage storage;
	struct kvc_key key;
	kvc_space *space;
	int status;

	if (!args->prefix)
		return ctl_usage("get needs -o PREFIX");
	if (args->dtype && npy_element_bytes(dtype_number(args->dtype)) == 0)
		return ctl_usage("--dtype: f32 or f16; .npy files know no other that fits");
	status = key_parse(operands[1], &storage, &key);
	if (status == CTL_OK)
		status = ctl_open(ctl, KVC_READ_ONLY);
	if (status == CTL_OK)
		status = ctl_space(ctl, operands[0], &space);
	return status == CTL_OK ? get(ctl, space, args, &key, operands[1]) : status;
}

const struct verb verb_get = {
	.name = "get",
	.operands = "SPACE KEY",
	.summary = "Write a block's K and V to .npy files",
	.details = "The files hold [layers, heads, tokens, head_dim]; V is left out where the space has none.",
	.operands_min = 2,
	.operands_max = 2,
	.options = options,
	.args_bytes = sizeof(struct args),
	.run = run,
};
