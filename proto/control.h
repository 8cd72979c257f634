/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's control memory: a memfd shared between one client and the daemon, both mapping it read-write. With it
 * the client's threads read resident blocks without asking: they publish the block they are about to read (a hazard),
 * and leave word of what they read (touches). docs/memory-model.md tells the order of accesses and why it is safe.
 *
 *   header 64 B | records of 512 B
 *
 * A record belongs to one reading thread at a time. Everything is little endian.
 *
 * Trust: a client can write anything here, at any time. The daemon reads each word once, checks it, and what it finds
 * can keep memory from being reused (as long as the limits allow) and colour the eviction order; nothing else. The
 * client in turn believes `over` only to the effect that its pins may be void.
 */
#pragma once

#include "base/checked.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define KVP_CONTROL_MAGIC UINT64_C(0x4c52544e4350564b) /* "KVPCNTRL" */
#define KVP_CONTROL_VERSION 2

/* Blocks that one record can pin at once. */
#define KVP_HAZARDS 32

/* Entries of a record's touch ring: a power of two. */
#define KVP_TOUCHES 64

/*
 * In an entry of the ring: the block was only looked for, or other pages than its first were read. Eviction takes it
 * for used, but it does not count as a use of its own (daemon/core/curve.h).
 */
#define KVP_TOUCH_ASIDE (UINT32_C(1) << 31)

/* Records of one session: 131,072 pins, 2 MiB of control memory. */
#define KVP_RECORDS_MAX 4096

#define KVP_CONTROL_ALIGN 4096

/*
 * Page bytes and time of every KVP_CODEC_SAMPLE-th block that a client encoded, or decoded after asking. Only grows,
 * but for a client that lies.
 */
struct kvp_codec_tally {
	_Atomic uint64_t encode_bytes;
	_Atomic uint64_t encode_ns;
	_Atomic uint64_t decode_bytes;
	_Atomic uint64_t decode_ns;
};

#define KVP_CODEC_SAMPLE 16

struct kvp_control_header {
	uint64_t magic;
	uint32_t version;
	uint32_t records_count;        /* the daemon writes it once; the client checks it against the size */
	_Atomic uint32_t records_used; /* the client's: records from this on were never used; it only grows */
	_Atomic uint32_t over;         /* the daemon's: not 0 once the session ended and its hazards are void */
	uint32_t reserved[2];
	struct kvp_codec_tally tally;
};
_Static_assert(sizeof(struct kvp_control_header) == 64, "shared layout");

struct kvp_record {
	_Atomic uint32_t hazard[KVP_HAZARDS]; /* block numbers; 0: none */
	/* Grows with every sign of life that is not a touch: unpins, checks. Wraps. */
	_Atomic uint32_t beats;
	/* How often the thread wrote to touched; entry i was written at a count of i modulo KVP_TOUCHES. Wraps. Written
	 * after the entry. */
	_Atomic uint32_t touches;
	_Atomic uint32_t misses; /* keys looked up that were not there. Wraps */
	_Atomic uint32_t asides; /* how many of the touches were aside. Wraps. Written before touches */
	uint32_t reserved0[12];
	/* Block numbers, with KVP_TOUCH_ASIDE or without; old ones are overwritten, read or not. */
	_Atomic uint32_t touched[KVP_TOUCHES];
	uint32_t reserved1[16];
};
_Static_assert(sizeof(struct kvp_record) == 512, "shared layout");
_Static_assert(offsetof(struct kvp_record, beats) == 128, "shared layout");
_Static_assert(offsetof(struct kvp_record, touched) == 192, "shared layout");

/* The size of control memory with so many records, 0..KVP_RECORDS_MAX: whole pages. */
static inline uint64_t kvp_control_bytes(uint32_t records)
{
	return align_up_u64(sizeof(struct kvp_control_header) + (uint64_t)records * sizeof(struct kvp_record),
			    KVP_CONTROL_ALIGN);
}

static inline struct kvp_record *kvp_control_records(struct kvp_control_header *header)
{
	return (struct kvp_record *)(header + 1);
}
