/* SPDX-License-Identifier: Apache-2.0 */
/* Every limit of the protocol, with its reason. Both sides enforce them; the daemon's configuration may only
 * lower some. */
#pragma once

#define KVP_PROTOCOL_VERSION_MIN 1
#define KVP_PROTOCOL_VERSION_MAX 1

/* A frame is refused by its length before anything is allocated. 16,384 PageRefs of 30 bytes fit. */
#define KVP_FRAME_BYTES_MAX (1u << 20)

/* Keys are prefix hashes: 16 to 32 bytes in practice. */
#define KVP_KEY_BYTES_MAX 64

#define KVP_NAME_BYTES_MAX 128 /* space and client names */
#define KVP_MODEL_BYTES_MAX 128
#define KVP_REVISION_BYTES_MAX 64

/* The schema. 256 tokens and 256 channels bound a tile to 256 KiB of f32. */
#define KVP_BLOCK_TOKENS_MAX 256
#define KVP_HEAD_DIM_MAX 256
#define KVP_HEAD_DIM_MULTIPLE 8
#define KVP_LAYERS_MAX 1024
#define KVP_KV_HEADS_MAX 1024
#define KVP_PAGES_PER_BLOCK_MAX 16384

/* Page sizes: the target for the automatic choice, and what a slot may be (one head of 256 tokens x 256
 * channels, K and V, f32). */
#define KVP_PAGE_BYTES_TARGET_MIN (16u << 10)
#define KVP_PAGE_BYTES_TARGET_MAX (64u << 10)
#define KVP_PAGE_BYTES_MAX (512u << 10)

/* Keys in one Fetch, Match, Delete, Touch, Pin or Unpin; leases in one Release: what the daemon does in well
 * under a millisecond. 1024 blocks of 128 tokens are 131,072 tokens. */
#define KVP_ITEMS_MAX 1024

/* Items of one List reply: they must fit a frame. */
#define KVP_LIST_ITEMS_MAX 1024

#define KVP_SPACES_MAX 256

/* In one answer to Subscribe, and how long it may wait. */
#define KVP_EVENTS_MAX 512
#define KVP_SUBSCRIBE_WAIT_MS_MAX 60000

/* How long a Resize may wait. */
#define KVP_RESIZE_WAIT_MS_MAX 60000

/* Other spaces that Why names. */
#define KVP_WHY_ELSEWHERE_MAX 8

/* How old amounts in shared memory may be that are derived from state. */
#define KVP_STATS_MS 100
#define KVP_PIN_PRIORITY_MAX 15

/* One session's unanswered requests: what a client can make the daemon remember. */
#define KVP_REQUESTS_IN_FLIGHT_MAX 256

#define KVP_STAGING_BYTES_MIN (64u << 10)

/* Descriptors in one HelloReply. */
#define KVP_FDS_MAX 4
