/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of somebody else's that uses libkvclient as installed: opens a space on the daemon at $KVPAGED_SOCKET,
 * appends a block, fetches it and compares. Exits with 0 when all values came back.
 */
#include <kvclient.h>

#include <stdio.h>

#define LAYERS 2
#define HEADS 2
#define TOKENS 16
#define HEAD_DIM 32
#define VALUES (LAYERS * HEADS * TOKENS * HEAD_DIM)

static float k[VALUES], v[VALUES], k_back[VALUES], v_back[VALUES];

static struct kvc_tensor tensor(float *data)
{
	struct kvc_tensor t = { 0 };

	t.data = data;
	t.dtype = KVC_F32;
	t.stride_layer = HEADS * TOKENS * HEAD_DIM;
	t.stride_head = TOKENS * HEAD_DIM;
	t.stride_token = HEAD_DIM;
	return t;
}

static int fail(const char *what, int result, kvc_client *client)
{
	(void)fprintf(stderr, "%s: %s (%s)\n", what, kvc_strerror(result), client ? kvc_error(client) : "");
	(void)kvc_close(client);
	return 1;
}

static int round_trip(kvc_client *client, kvc_space *space)
{
	struct kvc_append append = { 0 };
	struct kvc_fetch fetch = { 0 };
	int r;

	append.key.bytes = fetch.key.bytes = "block 0";
	append.key.n = fetch.key.n = 7;
	append.tokens = TOKENS;
	append.k = tensor(k);
	append.v = tensor(v);
	r = kvc_append(space, &append, 1);
	if (r == KVC_OK && append.status != KVC_PRESENT)
		r = append.status;
	if (r != KVC_OK)
		return fail("append", r, client);
	fetch.k = tensor(k_back);
	fetch.v = tensor(v_back);
	r = kvc_fetch(space, NULL, &fetch, 1);
	if (r == KVC_OK)
		r = fetch.status;
	if (r != KVC_OK)
		return fail("fetch", r, client);
	for (int i = 0; i < VALUES; i++)
		if (k_back[i] != k[i] || v_back[i] != v[i])
			return fail("compare", KVC_CORRUPT, client);
	(void)printf("%u tokens came back\n", (unsigned)fetch.tokens);
	return 0;
}

int main(void)
{
	struct kvc_schema schema = { 0 };
	kvc_client *client = NULL;
	kvc_space *space = NULL;
	char why[256] = "";
	int r = kvc_open(NULL, &client, why, sizeof(why));

	if (r != KVC_OK) {
		(void)fprintf(stderr, "kvc_open: %s (%s)\n", kvc_strerror(r), why);
		return 1;
	}
	for (int i = 0; i < VALUES; i++) {
		k[i] = (float)i / 64;
		v[i] = -(float)i / 32;
	}
	schema.model = "consumer";
	schema.dtype = KVC_F32;
	schema.layers = LAYERS;
	schema.kv_heads = HEADS;
	schema.head_dim_k = schema.head_dim_v = HEAD_DIM;
	schema.block_tokens = TOKENS;
	schema.codec_k = schema.codec_v = KVC_CODEC_F32;
	r = kvc_space_open(client, "consumer", &schema, &space);
	if (r != KVC_OK)
		return fail("kvc_space_open", r, client);
	r = round_trip(client, space);
	if (r == 0)
		(void)kvc_close(client);
	return r;
}
