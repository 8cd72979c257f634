/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GGUF loader: what is sound is read, everything else is an error with a sentence, never a
 * crash.
 */
#include "client/worker/model.h"
#include "client/worker/tokenizer.h"

#include "tests/unit/test-worker-file.h"

#include <errno.h>
#include <stdio.h>

/*
 * Loads everything that can be loaded from a copy that ends exactly where the bytes end, so that a
 * sanitizer sees any read behind it. Returns the first error, or 0.
 */
static int load(const void *bytes, size_t n)
{
	uint8_t *copy = malloc(n + 1);
	struct fault fault = { "" };
	struct gguf *gguf = NULL;
	struct model *model = NULL;
	struct tokenizer *tokenizer = NULL;
	int r;

	assert_non_null(copy);
	if (n > 0)
		memcpy(copy + 1, bytes, n); /* misaligned on purpose */
	r = gguf_open_memory(copy + 1, n, &gguf, &fault);
	if (r == 0)
		r = model_new(gguf, &model, &fault);
	if (r == 0)
		r = tokenizer_new(gguf, &tokenizer, &fault);
	assert_true(r <= 0);
	if (r < 0)
		assert_true(fault.text[0] != '\0');
	(void)tokenizer_free(tokenizer);
	(void)model_free(model);
	(void)gguf_free(gguf);
	free(copy);
	return r;
}

static void test_sound(void **state)
{
	struct file file = llama_file(NULL);
	struct fault fault;
	struct gguf *gguf;
	struct gguf_string name;
	struct gguf_array tokens;
	uint64_t number;
	float epsilon;
	bool flag;

	assert_int_equal(load(file.bytes, file.n), 0);
	assert_int_equal(gguf_open_memory(file.bytes, file.n, &gguf, &fault), 0);
	assert_int_equal(gguf_get_string(gguf, "general.name", &name, &fault), 0);
	assert_true(gguf_string_is(name, "Test llama"));
	assert_int_equal(gguf_get_u64(gguf, "llama.block_count", &number, &fault), 0);
	assert_int_equal(number, LLAMA_LAYERS);
	assert_int_equal(gguf_get_u64(gguf, "no.such.key", &number, &fault), 1);
	assert_int_equal(gguf_get_u64(gguf, "general.name", &number, &fault), -EBADMSG);
	assert_int_equal(gguf_get_f32(gguf, "llama.attention.layer_norm_rms_epsilon", &epsilon, &fault), 0);
	assert_true(epsilon == 1e-5f);
	assert_int_equal(gguf_get_bool(gguf, "llama.block_count", &flag, &fault), -EBADMSG);
	assert_int_equal(gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, &fault), 0);
	assert_int_equal(tokens.count, LLAMA_VOCAB);
	assert_int_equal(gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_I32, &tokens, &fault), -EBADMSG);
	assert_int_equal(gguf_tensor_count(gguf), 2 + LLAMA_LAYERS * 9);
	assert_null(gguf_tensor_find(gguf, "output.weight"));
	assert_int_equal(gguf_tensor_find(gguf, "blk.1.ffn_down.weight")->dims[0], LLAMA_FF);
	(void)gguf_free(gguf);
	free(file.bytes);
}

static void test_truncated(void **state)
{
	size_t header;
	struct file file = llama_file(&header);

	for (size_t n = 0; n < header; n++)
		assert_true(load(file.bytes, n) < 0);
	for (size_t n = header; n < file.n; n += 97)
		assert_true(load(file.bytes, n) < 0);
	assert_true(load(file.bytes, file.n - 1) < 0);
	free(file.bytes);
}

/* Any byte of the header may become anything: some files stay sound, none may crash the loader. */
static void test_flipped(void **state)
{
	static const uint8_t masks[] = { 0x01, 0x80, 0xff };
	size_t header;
	struct file file = llama_file(&header);
	unsigned refused = 0;

	for (size_t at = 0; at < header; at++)
		for (size_t m = 0; m < sizeof(masks); m++) {
			file.bytes[at] ^= masks[m];
			refused += load(file.bytes, file.n) < 0;
			file.bytes[at] ^= masks[m];
		}
	assert_true(refused > header / 2);
	assert_int_equal(load(file.bytes, file.n), 0);
	free(file.bytes);
}

/* Counts, lengths and offsets whose arithmetic could wrap. */
static void test_huge_numbers(void **state)
{
	static const uint64_t huge[] = { UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63, UINT64_C(1) << 32, UINT32_MAX };
	size_t header;
	struct file file = llama_file(&header);

	for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++)
		for (size_t at = 8; at + 8 <= header; at++) {
			uint64_t kept;

			memcpy(&kept, file.bytes + at, sizeof(kept));
			memcpy(file.bytes + at, &huge[i], sizeof(kept));
			(void)load(file.bytes, file.n);
			memcpy(file.bytes + at, &kept, sizeof(kept));
		}
	free(file.bytes);
}

static int open_file(struct file *file, struct fault *fault)
{
	struct gguf *gguf = NULL;
	int r = gguf_open_memory(file->bytes, file->n, &gguf, fault);

	(void)gguf_free(gguf);
	free(file->bytes);
	*file = (struct file){ 0 };
	return r;
}

static void test_refusals(void **state)
{
	struct file file = { 0 };
	struct fault fault;

	file_put(&file, "GGML", 4);
	assert_int_equal(open_file(&file, &fault), -EBADMSG);

	file_header(&file, 0, 0);
	assert_int_equal(open_file(&file, &fault), 0);

	file_header(&file, 0, 0);
	file.bytes[4] = 4;
	assert_int_equal(open_file(&file, &fault), -ENOTSUP);

	file_header(&file, 0, GGUF_KEYS_MAX + 1);
	assert_int_equal(open_file(&file, &fault), -EBADMSG);

	file_header(&file, 0, 1);
	file_key_array(&file, "k", GGUF_ARRAY, 1); /* arrays of arrays are not read */
	assert_int_equal(open_file(&file, &fault), -EBADMSG);
	assert_non_null(strstr(fault.text, "byte 24"));

	file_header(&file, 0, 1);
	file_key_u32(&file, "general.alignment", 48);
	assert_int_equal(open_file(&file, &fault), -EBADMSG);
}

static void test_tensor_refusals(void **state)
{
	struct file file = { 0 };
	struct fault fault;

	file_header(&file, 1, 0);
	(void)file_tensor(&file, "t", 2, 8, 32);
	file_pad(&file);
	assert_int_equal(open_file(&file, &fault), -EBADMSG); /* its bytes are not there */
	assert_non_null(strstr(fault.text, "tensor t"));

	file_header(&file, 1, 0);
	(void)file_tensor(&file, "t", 2, 0, 0);
	assert_int_equal(open_file(&file, &fault), -EBADMSG);

	file_header(&file, 1, 0);
	(void)file_tensor(&file, "t", UINT32_MAX, UINT32_MAX, 0);
	assert_int_equal(open_file(&file, &fault), -EBADMSG);

	file_header(&file, 1, 0);
	(void)file_tensor(&file, "t", 1, 4, 0);
	file.bytes[file.n - 12] = 99; /* the type */
	assert_int_equal(open_file(&file, &fault), -ENOTSUP);

	file_header(&file, 1, 0);
	(void)file_tensor(&file, "t", 1, 33, 0);
	file.bytes[file.n - 12] = TENSOR_Q8_0; /* blocks of 32 */
	assert_int_equal(open_file(&file, &fault), -EBADMSG);
}

static void test_no_file(void **state)
{
	struct fault fault;
	struct gguf *gguf;
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/none.gguf", harness_directory());
	assert_int_equal(gguf_open(path, &gguf, &fault), -ENOENT);
	assert_non_null(strstr(fault.text, path));
	assert_int_equal(gguf_open(harness_directory(), &gguf, &fault), -EBADMSG);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sound),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_flipped),
		cmocka_unit_test(test_huge_numbers),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_tensor_refusals),
		cmocka_unit_test(test_no_file),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
