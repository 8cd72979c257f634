/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GGUF file (version 2 or 3, little-endian): metadata keys with typed values, then tensors.
 *
 * The bytes come from a read-only mapping of a file or from memory that the caller keeps. Opening
 * walks the whole header once and checks every length, count and offset against the bytes that are
 * there and against the limits below; afterwards keys, strings and tensors are plain pointers into
 * the bytes, valid until gguf_free(). Nothing here changes after opening, so threads may share it.
 *
 * Another process that cuts a mapped file short makes reads of it fault; model files are replaced
 * by rename, never rewritten.
 */
#pragma once

#include "base/cleanup.h"
#include "client/worker/fault.h"
#include "client/worker/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_KEYS_MAX 4096
#define GGUF_TENSORS_MAX 65536
#define GGUF_STRING_BYTES_MAX (UINT64_C(1) << 24)
#define GGUF_ARRAY_VALUES_MAX (UINT64_C(1) << 22)
#define GGUF_DIMS_MAX 4
#define GGUF_ALIGNMENT_MAX 65536

/* The numbers of the file format. */
enum gguf_value_type {
	GGUF_U8 = 0,
	GGUF_I8 = 1,
	GGUF_U16 = 2,
	GGUF_I16 = 3,
	GGUF_U32 = 4,
	GGUF_I32 = 5,
	GGUF_F32 = 6,
	GGUF_BOOL = 7,
	GGUF_STRING = 8,
	GGUF_ARRAY = 9,
	GGUF_U64 = 10,
	GGUF_I64 = 11,
	GGUF_F64 = 12,
};

/* Bytes of the file; not terminated. */
struct gguf_string {
	const char *bytes;
	size_t length;
};

/* A position in an array of strings; see gguf_array_string_next(). */
struct gguf_array {
	enum gguf_value_type type; /* of the elements */
	uint64_t count;
	const uint8_t *bytes;
};

struct gguf_tensor {
	struct gguf_string name;
	const struct tensor_format *format;
	uint32_t n_dims;
	uint64_t dims[GGUF_DIMS_MAX]; /* dims[0] is the length of a row; unused ones are 1 */
	const uint8_t *bytes;
	uint64_t n_bytes;
};

struct gguf;

/*
 * Maps and checks a file. Results: 0 and *ret_gguf, which the caller frees; -ENOENT, -EACCES and
 * other errors of open(2) and mmap(2); -EBADMSG for a file that is not sound GGUF, with the byte
 * offset in the fault; -ENOTSUP for a version or tensor type that the worker does not read;
 * -ENOMEM.
 */
int gguf_open(const char *path, struct gguf **ret_gguf, struct fault *fault);

/* The same for bytes in memory, which must outlive the result. */
int gguf_open_memory(const void *bytes, size_t n_bytes, struct gguf **ret_gguf, struct fault *fault);

/* Frees it and its mapping; NULL is fine. Returns NULL. */
struct gguf *gguf_free(struct gguf *gguf);

DEFINE_CLEANUP(struct gguf *, gguf_free);

/* All bytes of the file, for its identity. */
void gguf_bytes(const struct gguf *gguf, const void **ret_bytes, size_t *ret_n_bytes);

/*
 * The value of a key. Results: 0 and *ret; 1 when the file lacks the key; -EBADMSG when it has
 * another type or does not fit, with the key in the fault. Whole numbers of any width are taken
 * where they fit.
 */
int gguf_get_u64(const struct gguf *gguf, const char *key, uint64_t *ret, struct fault *fault);
int gguf_get_f32(const struct gguf *gguf, const char *key, float *ret, struct fault *fault);
int gguf_get_bool(const struct gguf *gguf, const char *key, bool *ret, struct fault *fault);
int gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *ret,
		    struct fault *fault);

/* An array of this element type; results as above. */
int gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_value_type type,
		   struct gguf_array *ret, struct fault *fault);

/* Takes the next string off the front of an array of strings, whose count must not be 0. */
struct gguf_string gguf_array_string_next(struct gguf_array *array);

/* Element i of an array of 32-bit numbers; i < count. */
uint32_t gguf_array_u32(const struct gguf_array *array, uint64_t i);

size_t gguf_tensor_count(const struct gguf *gguf);

/* The tensor of this name, or NULL. */
const struct gguf_tensor *gguf_tensor_find(const struct gguf *gguf, const char *name);

/* Whether the string has exactly these characters. */
bool gguf_string_is(struct gguf_string string, const char *text);
