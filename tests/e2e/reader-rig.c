/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of readers share; see reader-rig.h. */
#include "tests/e2e/reader-rig.h"
#include "tests/lib/harness.h"

kvc_client *open_with(const struct test_daemon *d, const struct kvc_options *wanted)
{
	struct kvc_options options = *wanted;
	kvc_client *client = NULL;
	char why[256] = "";
	int r;

	options.struct_bytes = sizeof(options);
	options.socket_path = d->socket_path;
	r = kvc_open(&options, &client, why, sizeof(why));
	assert_string_equal(why, "");
	assert_int_equal(r, KVC_OK);
	return client;
}

void rig_join(struct rig *rig, const struct kvc_options *options)
{
	struct kvc_schema schema = schema_small();

	schema.codec_k = schema.codec_v = KVC_CODEC_F32;
	rig->client = open_with(&rig->d, options);
	rig->space = open_space(rig->client, "s", &schema);
	assert_int_equal(kvc_reader_open(rig->client, &rig->reader), KVC_OK);
}

void rig_start(struct rig *rig)
{
	test_daemon_start(&rig->d, "--reader-pin-grace-ms", "300ms", NULL);
	rig_join(rig, &(struct kvc_options){ 0 });
}

void rig_stop(struct rig *rig)
{
	kvc_close(rig->client);
	test_daemon_stop(&rig->d);
}

int pin_try(struct rig *rig, const char *key, const struct kvc_range *range, kvc_block **ret_block)
{
	struct kvc_key wanted = key_of(key);
	int status = -1;

	assert_int_equal(kvc_pin(rig->space, rig->reader, &wanted, 1, range, ret_block, &status), KVC_OK);
	assert_true((status == KVC_OK) == (*ret_block != NULL));
	return status;
}

kvc_block *pin(struct rig *rig, const char *key)
{
	kvc_block *block = NULL;

	assert_int_equal(pin_try(rig, key, NULL, &block), KVC_OK);
	return block;
}

int find(struct rig *rig, const char *key)
{
	struct kvc_key wanted = key_of(key);

	return kvc_find(rig->space, rig->reader, &wanted, NULL);
}

bool expect_block(const kvc_block *block, uint32_t seed)
{
	for (uint32_t layer = 0; layer < 3; layer++) {
		for (uint32_t head = 0; head < 4; head++) {
			struct kvc_tile tile;
			const float *values;
			bool right = true;

			if (kvc_block_tile(block, 'K', layer, head, &tile) != KVC_OK)
				return false;
			values = tile.bytes;
			for (uint32_t i = 0; i < tile.tokens * tile.head_dim; i++)
				right &= values[i] == value_at(seed, 'K', layer, head, i / 64, i % 64);
			if (kvc_block_check(block) != KVC_OK)
				return false;
			assert_true(right);
		}
	}
	return true;
}

int fetch(struct rig *rig, const char *key, uint32_t seed)
{
	struct kvc_fetch block = { .key = key_of(key) };
	struct box k;
	int r;

	box_new(&k, LAYOUT_HEAD_MAJOR, KVC_F32, 3, 4, 32, 64);
	block.k = k.tensor;
	r = kvc_fetch(rig->space, rig->reader, &block, 1);
	if (r == KVC_OK && block.status == KVC_OK)
		box_expect(&k, seed, 'K', 0, 0, block.tokens, 0);
	box_free(&k);
	return r != KVC_OK ? r : block.status;
}
