/* SPDX-License-Identifier: Apache-2.0 */
/* Mapping control memory and handing out its records; see control.h. */
#include "client/control.h"

#include "base/contract.h"
#include "client/kvclient.h"
#include "client/seals.h"
#include "client/words.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static const char *header_check(const struct kvp_control_header *header, uint32_t records)
{
	if (header->magic != KVP_CONTROL_MAGIC)
		return "the control memory has another magic number";
	if (header->version != KVP_CONTROL_VERSION)
		return "the control memory has another version";
	if (header->records_count != records)
		return "the control memory has another number of records than announced";
	return NULL;
}

/* A new object around a mapping, which becomes its own. On failure the mapping stays the caller's. */
static int control_wrap(void *memory, uint64_t bytes, uint32_t records, struct words *words,
			struct control **ret_control)
{
	const char *wrong = header_check(memory, records);
	struct control *control;

	if (wrong) {
		words_set(words, "%s", wrong);
		return -EPROTO;
	}
	control = calloc(1, sizeof(*control) + records * sizeof(control->free[0]));
	if (!control)
		return -ENOMEM;
	control->refs = 1;
	control->header = memory;
	control->bytes = bytes;
	control->records = records;
	*ret_control = control;
	return 0;
}

int control_map(int fd, uint32_t records, struct words *words, struct control **ret_control)
{
	uint64_t bytes = kvp_control_bytes(records);
	void *memory;
	int r;

	kvp_assert(records >= 1 && records <= KVP_RECORDS_MAX);
	r = seals_check(fd, "the control memory", F_SEAL_SHRINK, bytes, words);
	if (r < 0)
		return r;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		r = -errno;
		words_set(words, "cannot map the control memory: %s", kvc_strerror(r));
		return r;
	}
	r = control_wrap(memory, bytes, records, words, ret_control);
	if (r < 0)
		(void)munmap(memory, bytes);
	return r;
}

struct control *control_ref(struct control *control)
{
	kvp_assert(control->refs > 0);
	control->refs++;
	return control;
}

struct control *control_unref(struct control *control)
{
	if (!control)
		return NULL;
	kvp_assert(control->refs > 0);
	if (--control->refs == 0) {
		(void)munmap(control->header, control->bytes);
		free(control);
	}
	return NULL;
}

struct kvp_record *control_take(struct control *control, uint32_t *ret_number)
{
	uint32_t number;

	if (control->n_free > 0) {
		number = control->free[--control->n_free];
	} else if (control->given < control->records) {
		number = control->given++;
		atomic_store_explicit(&control->header->records_used, control->given, memory_order_release);
	} else {
		return NULL;
	}
	*ret_number = number;
	return &kvp_control_records(control->header)[number];
}

void control_give(struct control *control, uint32_t number)
{
	kvp_assert(number < control->given && control->n_free < control->given);
	control->free[control->n_free++] = number;
}
