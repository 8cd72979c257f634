/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: header, keys, tensor records, then the tensors' bytes, each step checked before the
 * next. A key is kept as its name, its type and where its value begins; values are read when asked
 * for.
 */
#include "client/worker/gguf.h"

#include "base/checked.h"
#include "base/contract.h"
#include "base/text.h"
#include "client/worker/gguf-cursor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define GGUF_KEY_BYTES_MAX 65535
#define GGUF_NAME_BYTES_MAX 256

struct gguf_key {
	struct gguf_string name;
	uint32_t type;
	uint64_t offset;
};

struct gguf {
	const uint8_t *bytes;
	uint64_t n_bytes;
	bool mapped;
	uint64_t n_keys;
	uint64_t n_tensors;
	struct gguf_key *keys;
	struct gguf_tensor *tensors;
};

bool gguf_string_is(struct gguf_string string, const char *text)
{
	return strlen(text) == string.length && memcmp(string.bytes, text, string.length) == 0;
}

static bool strings_equal(struct gguf_string a, struct gguf_string b)
{
	return a.length == b.length && memcmp(a.bytes, b.bytes, a.length) == 0;
}

static int malformed(struct fault *fault, uint64_t offset, const char *what)
{
	return fault_set(fault, -EBADMSG, "malformed GGUF at byte %" PRIu64 ": %s", offset, what);
}

/* --- Opening ---------------------------------------------------------------------------------- */

static int read_header(struct gguf *gguf, struct gguf_cursor *cursor, struct fault *fault)
{
	const uint8_t *magic = cursor_take(cursor, 4);
	uint32_t version = cursor_u32(cursor);

	gguf->n_tensors = cursor_u64(cursor);
	gguf->n_keys = cursor_u64(cursor);
	if (!magic || memcmp(magic, "GGUF", 4) != 0)
		return malformed(fault, 0, "the file does not begin with \"GGUF\"");
	if (cursor->failed)
		return malformed(fault, cursor->offset, "the header is cut short");
	if (version != 2 && version != 3)
		return fault_set(fault, -ENOTSUP, "GGUF version %" PRIu32 " (2 and 3 are read)", version);
	if (gguf->n_keys > GGUF_KEYS_MAX)
		return malformed(fault, 16, "too many metadata keys");
	if (gguf->n_tensors > GGUF_TENSORS_MAX)
		return malformed(fault, 8, "too many tensors");
	return 0;
}

static int read_keys(struct gguf *gguf, struct gguf_cursor *cursor, struct fault *fault)
{
	gguf->keys = calloc(gguf->n_keys + 1, sizeof(gguf->keys[0]));
	if (!gguf->keys)
		return fault_set(fault, -ENOMEM, "no memory for the metadata");
	for (uint64_t i = 0; i < gguf->n_keys; i++) {
		struct gguf_key *key = &gguf->keys[i];
		uint64_t begin = cursor->offset;

		key->name = cursor_string(cursor, GGUF_KEY_BYTES_MAX);
		key->type = cursor_u32(cursor);
		key->offset = cursor->offset;
		cursor_skip_value(cursor, key->type);
		if (cursor->failed)
			return malformed(fault, begin, "a metadata key or its value is not sound");
	}
	return 0;
}

/* The sizes of a tensor; a row must be whole blocks and the product must fit. */
static int measure_tensor(struct gguf_tensor *tensor, uint64_t begin, struct fault *fault)
{
	const struct tensor_format *format = tensor->format;
	uint64_t values = 1;

	for (unsigned d = 0; d < GGUF_DIMS_MAX; d++)
		if (tensor->dims[d] == 0 || tensor->dims[d] > UINT32_MAX ||
		    !checked_mul_u64(values, tensor->dims[d], &values))
			return malformed(fault, begin, "a tensor's dimensions are not sound");
	if (tensor->dims[0] % format->block_values != 0)
		return malformed(fault, begin, "a tensor's row is not whole blocks of its type");
	if (!checked_mul_u64(values / format->block_values, format->block_bytes, &tensor->n_bytes))
		return malformed(fault, begin, "a tensor's size does not fit");
	return 0;
}

/* One record; `*ret_offset` is where its bytes lie behind the header. */
static int read_tensor(struct gguf_tensor *tensor, struct gguf_cursor *cursor, uint64_t *ret_offset,
		       struct fault *fault)
{
	uint64_t begin = cursor->offset;
	uint32_t type;

	tensor->name = cursor_string(cursor, GGUF_NAME_BYTES_MAX);
	tensor->n_dims = cursor_u32(cursor);
	if (cursor->failed || !text_is_clean(tensor->name.bytes, tensor->name.length) ||
	    tensor->n_dims == 0 || tensor->n_dims > GGUF_DIMS_MAX)
		return malformed(fault, begin, "a tensor's name or number of dimensions is not sound");
	for (unsigned d = 0; d < GGUF_DIMS_MAX; d++)
		tensor->dims[d] = d < tensor->n_dims ? cursor_u64(cursor) : 1;
	type = cursor_u32(cursor);
	*ret_offset = cursor_u64(cursor);
	if (cursor->failed)
		return malformed(fault, begin, "a tensor's record is cut short");
	tensor->format = tensor_format_find(type);
	if (!tensor->format)
		return fault_set(fault, -ENOTSUP,
				 "tensor %.*s has type %" PRIu32
				 " (F32, F16, Q4_0, Q4_1, Q8_0 and Q6_K are read)",
				 (int)tensor->name.length, tensor->name.bytes, type);
	return measure_tensor(tensor, begin, fault);
}

static int read_alignment(const struct gguf *gguf, uint64_t *ret_alignment, struct fault *fault)
{
	uint64_t alignment = 32;
	int r = gguf_get_u64(gguf, "general.alignment", &alignment, fault);

	if (r < 0)
		return r;
	if (alignment == 0 || alignment > GGUF_ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
		return fault_set(fault, -EBADMSG, "general.alignment is not a power of two up to %d",
				 GGUF_ALIGNMENT_MAX);
	*ret_alignment = alignment;
	return 0;
}

/* Turns the offsets of the records into pointers, now that the header's end is known. */
static int place_tensors(struct gguf *gguf, const uint64_t *offsets, uint64_t header_end,
			 struct fault *fault)
{
	uint64_t alignment = 0;
	uint64_t data = 0;
	int r = read_alignment(gguf, &alignment, fault);

	if (r < 0)
		return r;
	if (!checked_align_u64(header_end, alignment, &data))
		return malformed(fault, header_end, "the tensors begin behind the end");
	for (uint64_t i = 0; i < gguf->n_tensors; i++) {
		struct gguf_tensor *tensor = &gguf->tensors[i];
		uint64_t begin;

		if (offsets[i] % alignment != 0 || !checked_add_u64(data, offsets[i], &begin) ||
		    !checked_range(begin, tensor->n_bytes, gguf->n_bytes))
			return fault_set(fault, -EBADMSG,
					 "malformed GGUF: the bytes of tensor %.*s (offset %" PRIu64
					 ", %" PRIu64 " bytes) do not lie in the file of %" PRIu64 " bytes",
					 (int)tensor->name.length, tensor->name.bytes, offsets[i],
					 tensor->n_bytes, gguf->n_bytes);
		tensor->bytes = gguf->bytes + begin;
	}
	return 0;
}

static int read_tensors(struct gguf *gguf, struct gguf_cursor *cursor, struct fault *fault)
{
	_cleanup_free_ uint64_t *offsets = calloc(gguf->n_tensors + 1, sizeof(*offsets));

	gguf->tensors = calloc(gguf->n_tensors + 1, sizeof(gguf->tensors[0]));
	if (!offsets || !gguf->tensors)
		return fault_set(fault, -ENOMEM, "no memory for the tensor table");
	for (uint64_t i = 0; i < gguf->n_tensors; i++) {
		int r = read_tensor(&gguf->tensors[i], cursor, &offsets[i], fault);

		if (r < 0)
			return r;
	}
	return place_tensors(gguf, offsets, cursor->offset, fault);
}

static int parse(struct gguf *gguf, struct fault *fault)
{
	struct gguf_cursor cursor = { .bytes = gguf->bytes, .size = gguf->n_bytes };
	int r = read_header(gguf, &cursor, fault);

	if (r == 0)
		r = read_keys(gguf, &cursor, fault);
	if (r == 0)
		r = read_tensors(gguf, &cursor, fault);
	return r;
}

static int open_bytes(const void *bytes, uint64_t n_bytes, bool mapped, struct gguf **ret_gguf,
		      struct fault *fault)
{
	_cleanup_(gguf_freep) struct gguf *gguf = calloc(1, sizeof(*gguf));
	int r;

	if (!gguf) {
		if (mapped)
			(void)munmap((void *)bytes, n_bytes);
		return fault_set(fault, -ENOMEM, "no memory");
	}
	*gguf = (struct gguf){ .bytes = bytes, .n_bytes = n_bytes, .mapped = mapped };
	r = parse(gguf, fault);
	if (r < 0)
		return r;
	*ret_gguf = take_ptr(gguf);
	return 0;
}

int gguf_open_memory(const void *bytes, size_t n_bytes, struct gguf **ret_gguf, struct fault *fault)
{
	return open_bytes(bytes, n_bytes, false, ret_gguf, fault);
}

int gguf_open(const char *path, struct gguf **ret_gguf, struct fault *fault)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *bytes;

	if (fd < 0 || fstat(fd, &status) < 0)
		return fault_set(fault, -errno, "cannot open %s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode) || status.st_size <= 0)
		return fault_set(fault, -EBADMSG, "%s is empty or not a file", path);
	bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		return fault_set(fault, -errno, "cannot map %s: %s", path, strerror(errno));
	return open_bytes(bytes, (uint64_t)status.st_size, true, ret_gguf, fault);
}

struct gguf *gguf_free(struct gguf *gguf)
{
	if (!gguf)
		return NULL;
	if (gguf->mapped)
		(void)munmap((void *)gguf->bytes, gguf->n_bytes);
	free(gguf->keys);
	free(gguf->tensors);
	free(gguf);
	return NULL;
}

void gguf_bytes(const struct gguf *gguf, const void **ret_bytes, size_t *ret_n_bytes)
{
	*ret_bytes = gguf->bytes;
	*ret_n_bytes = gguf->n_bytes;
}

/* --- Keys ------------------------------------------------------------------------------------- */

static const struct gguf_key *find_key(const struct gguf *gguf, const char *name)
{
	for (uint64_t i = 0; i < gguf->n_keys; i++)
		if (gguf_string_is(gguf->keys[i].name, name))
			return &gguf->keys[i];
	return NULL;
}

static int wrong_type(struct fault *fault, const char *key)
{
	return fault_set(fault, -EBADMSG, "GGUF key %s does not have the type that it should have", key);
}

/* The value of a whole number of any type. Signed ones must not be negative. */
static bool value_u64(const uint8_t *at, uint32_t type, uint64_t *ret)
{
	uint64_t size = gguf_value_size(type);
	bool is_signed = type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
	uint64_t value = 0;

	if (type == GGUF_F32 || type == GGUF_F64 || type == GGUF_BOOL || size == 0)
		return false;
	memcpy(&value, at, size);
	if (is_signed && value >> (8 * size - 1) != 0)
		return false;
	*ret = value;
	return true;
}

int gguf_get_u64(const struct gguf *gguf, const char *key, uint64_t *ret, struct fault *fault)
{
	const struct gguf_key *found = find_key(gguf, key);

	if (!found)
		return 1;
	return value_u64(gguf->bytes + found->offset, found->type, ret) ? 0 : wrong_type(fault, key);
}

int gguf_get_f32(const struct gguf *gguf, const char *key, float *ret, struct fault *fault)
{
	const struct gguf_key *found = find_key(gguf, key);

	if (!found)
		return 1;
	if (found->type != GGUF_F32)
		return wrong_type(fault, key);
	memcpy(ret, gguf->bytes + found->offset, sizeof(*ret));
	return 0;
}

int gguf_get_bool(const struct gguf *gguf, const char *key, bool *ret, struct fault *fault)
{
	const struct gguf_key *found = find_key(gguf, key);

	if (!found)
		return 1;
	if (found->type != GGUF_BOOL)
		return wrong_type(fault, key);
	*ret = gguf->bytes[found->offset] != 0;
	return 0;
}

/* A cursor for a value that opening has walked over, so its reads cannot fail. */
static struct gguf_cursor value_cursor(const struct gguf *gguf, const struct gguf_key *key)
{
	return (struct gguf_cursor){ .bytes = gguf->bytes, .size = gguf->n_bytes, .offset = key->offset };
}

int gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *ret,
		    struct fault *fault)
{
	const struct gguf_key *found = find_key(gguf, key);
	struct gguf_cursor cursor;

	if (!found)
		return 1;
	if (found->type != GGUF_STRING)
		return wrong_type(fault, key);
	cursor = value_cursor(gguf, found);
	*ret = cursor_string(&cursor, GGUF_STRING_BYTES_MAX);
	return 0;
}

int gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_value_type type,
		   struct gguf_array *ret, struct fault *fault)
{
	const struct gguf_key *found = find_key(gguf, key);
	struct gguf_cursor cursor;
	uint32_t element;

	if (!found)
		return 1;
	if (found->type != GGUF_ARRAY)
		return wrong_type(fault, key);
	cursor = value_cursor(gguf, found);
	element = cursor_u32(&cursor);
	if (element != (uint32_t)type)
		return wrong_type(fault, key);
	ret->type = type;
	ret->count = cursor_u64(&cursor);
	ret->bytes = gguf->bytes + cursor.offset;
	return 0;
}

struct gguf_string gguf_array_string_next(struct gguf_array *array)
{
	uint64_t length;
	struct gguf_string string;

	kvp_assert(array->type == GGUF_STRING && array->count > 0);
	memcpy(&length, array->bytes, sizeof(length));
	string = (struct gguf_string){ (const char *)array->bytes + sizeof(length), (size_t)length };
	array->bytes += sizeof(length) + length;
	array->count--;
	return string;
}

uint32_t gguf_array_u32(const struct gguf_array *array, uint64_t i)
{
	uint32_t value;

	kvp_assert(i < array->count && gguf_value_size(array->type) == sizeof(value));
	memcpy(&value, array->bytes + i * sizeof(value), sizeof(value));
	return value;
}

/* --- Tensors ---------------------------------------------------------------------------------- */

size_t gguf_tensor_count(const struct gguf *gguf)
{
	return gguf->n_tensors;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *gguf, const char *name)
{
	struct gguf_string wanted = { name, strlen(name) };

	for (uint64_t i = 0; i < gguf->n_tensors; i++)
		if (strings_equal(gguf->tensors[i].name, wanted))
			return &gguf->tensors[i];
	return NULL;
}
