/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libkvclient: append K/V of finished token blocks to kvpaged and read them back, in this process or any other on the
 * node.
 *
 * Caveats first
 *  - This is a cache. A block may be gone at any time; every caller needs a way to go on without it.
 *  - K and V come back as the space's codec keeps them. Only f32, f16 and bf16 spaces are exact (to that type).
 *  - A client is bound to the process that opened it. After fork() the child must open its own; calls in the
 *    child on the parent's client return -ECHILD and change nothing, kvc_close() there only frees memory.
 *  - Bytes of a pinned block stay as they are until kvc_unpin(), the end of its lease or of the session, also when the
 *    daemon dies or the block is deleted meanwhile; whether what was read is the block is what kvc_block_check() and
 *    the results of kvc_fetch() tell.
 *
 * Results: 0 (KVC_OK); a negative errno when the call as a whole failed; a positive KVC_* when it has a documented
 * outcome. NULL where something is needed: -EINVAL. Every call that asks the daemon may also return KVC_STOPPING,
 * and for a space that cannot be used any more KVC_NO_SPACE_NAMED (dropped) or KVC_SCHEMA (see below).
 * Out-parameters (ret_*) are written only on KVC_OK, unless said otherwise. kvc_error() tells the last failure in
 * words.
 *
 * A lost connection: the call that finds it lost looks for the daemon for up to timeout_ms, opens the client's spaces
 * again and does its work once more from the beginning; the caller notices nothing but what a new daemon does not
 * have. Blocks leased before are KVC_STALE; those pinned with a reader can still be read, and checked. If somebody
 * else registered a space's name with another schema meanwhile, calls on that space return KVC_SCHEMA. If no daemon
 * comes, the call returns -ENOTCONN; later calls look for it at most twice a second, without waiting, and return
 * -ENOTCONN at once otherwise. A daemon that does not answer within timeout_ms costs the connection too: -ETIMEDOUT,
 * and the next call looks for it.
 *
 * Threads: a client and everything made from it may be used from any thread; calls on one client are serialised.
 * Only a reader belongs to one thread at a time, with what is pinned with it; its calls wait for nobody as long as they
 * find what they look for. Blocks that are pinned may be read by all threads at once: kvc_block_*() and
 * kvc_tile_decode() wait for nothing.
 *
 * Tensors: element (layer l, head h, token t, channel c) is at data + (l * stride_layer + h * stride_head +
 * t * stride_token + c) elements; channels are contiguous, other strides are free (also negative). l and h count from
 * the beginning of the range given with the call, t from the beginning of the block.
 */
#ifndef KVCLIENT_H
#define KVCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define KVC_API __attribute__((visibility("default")))
#else
#define KVC_API
#endif

#define KVC_KEY_BYTES_MAX 64
#define KVC_NAME_BYTES_MAX 128

/* Outcomes. The numbers are the protocol's and never change. */
enum kvc_status {
	KVC_OK = 0,
	KVC_MISS = 1,             /* no such block */
	KVC_PRESENT = 2,          /* present already; nothing was stored */
	KVC_PARTIAL = 3,          /* the block is there, but not every page asked for */
	KVC_NO_SPACE = 4,         /* the arena is full and nothing can be evicted now */
	KVC_NO_PARENT = 5,        /* the parent block is not resident */
	KVC_CONFLICT = 6,         /* the block exists with other tokens or another parent */
	KVC_CORRUPT = 7,          /* a checksum did not match */
	KVC_QUOTA = 8,            /* this user's quota is used up */
	KVC_BUSY = 9,             /* in use by another session */
	KVC_STALE = 10,           /* the block died, or the daemon restarted, since it was pinned */
	KVC_SCHEMA = 11,          /* the space exists with another schema; kvc_error() names the field */
	KVC_NO_SPACE_NAMED = 12,  /* no such space */
	KVC_RANGE = 13,           /* an index, offset or length is out of range */
	KVC_INVALID = 14,         /* a field is malformed or missing */
	KVC_PROTOCOL = 15,        /* the peer violated the protocol */
	KVC_VERSION = 16,         /* no common protocol version */
	KVC_UNSUPPORTED = 17,     /* the daemon does not know this request */
	KVC_PERMISSION = 18,      /* not allowed */
	KVC_STOPPING = 19,        /* the daemon is stopping */
	KVC_NONFINITE = 20,       /* a value is NaN or infinite; see struct kvc_fault */
	KVC_VALUE_RANGE = 21,     /* a value is beyond the codec's range (65504 for f16 and q); see struct kvc_fault */
	KVC_TOO_MANY = 22         /* too many spaces, blocks or requests */
};

enum kvc_dtype { KVC_F32 = 1, KVC_F16 = 2, KVC_BF16 = 3 };

/*
 * How a space keeps K or V. The numbers are the protocol's. Bits a value at 128 tokens: raw; K of qN and tN: N + 0.25;
 * V: N + 32 / head_dim, of tNg32 N + 0.25, of tNg16 N + 0.5. tN has less error than qN at the same size and takes
 * longer to encode.
 */
enum kvc_codec {
	KVC_CODEC_F32 = 1,
	KVC_CODEC_F16 = 2,
	KVC_CODEC_BF16 = 3,
	KVC_CODEC_Q8 = 16,
	KVC_CODEC_Q6 = 17,
	KVC_CODEC_Q5 = 18,
	KVC_CODEC_Q4 = 19,
	KVC_CODEC_T8 = 32,
	KVC_CODEC_T6 = 33,
	KVC_CODEC_T5 = 34,
	KVC_CODEC_T4 = 35,
	KVC_CODEC_T8G32 = 40, /* K as T8; likewise below */
	KVC_CODEC_T6G32 = 41,
	KVC_CODEC_T5G32 = 42,
	KVC_CODEC_T4G32 = 43,
	KVC_CODEC_T8G16 = 48,
	KVC_CODEC_T6G16 = 49,
	KVC_CODEC_T5G16 = 50,
	KVC_CODEC_T4G16 = 51
};

typedef struct kvc_client kvc_client; /* one connection */
typedef struct kvc_space kvc_space;   /* one opened space */
typedef struct kvc_block kvc_block;   /* one pinned block */

/* ---- Client ---- */

/* Zero every field that is not wanted; struct_bytes must be sizeof(struct kvc_options). */
struct kvc_options {
	size_t struct_bytes;
	const char *socket_path;  /* NULL: $KVPAGED_SOCKET, else /run/kvpaged/kvpaged.sock */
	const char *client_name;  /* NULL: the program's name; UTF-8, at most 128 bytes; shown to operators */
	uint64_t staging_bytes;   /* memory to append through; 0: 8 MiB; the daemon may give less */
	uint32_t timeout_ms;      /* without any answer, and for reconnecting; 0: 10,000 */
	uint32_t flags;           /* KVC_READ_ONLY, KVC_NO_RECONNECT, KVC_NO_SPIN */
	uint32_t pins_max;        /* of all readers together; 0: 2,048; at most 131,072; the daemon may give less */
	uint32_t verify;          /* enum kvc_verify */
};
#define KVC_READ_ONLY 1u    /* no staging memory; appends return KVC_PERMISSION */
#define KVC_NO_RECONNECT 2u /* a lost connection stays lost: calls return -ENOTCONN */
#define KVC_NO_SPIN 4u      /* always sleep until an answer comes, instead of looking for it for some microseconds */

/*
 * When pages are compared with their checksums before they are used: by kvc_fetch() when it decodes them, by
 * kvc_block_tile() when it hands them out. A page that differs is KVC_CORRUPT: memory failed, or somebody wrote who
 * should not; delete the block.
 */
enum kvc_verify {
	KVC_VERIFY_NEVER = 0,
	KVC_VERIFY_FIRST = 1,  /* pages that this client has not compared before, as far as it remembers */
	KVC_VERIFY_ALWAYS = 2,
};

/*
 * Connects, without waiting for a daemon to come. options may be NULL (all defaults). Results: KVC_OK and the
 * client, to be closed with kvc_close(); negative errno (-ENOENT, -ECONNREFUSED: no daemon there; -EACCES;
 * -ETIMEDOUT; -ENAMETOOLONG; -ECONNRESET: it hung up; -EPROTO: it is not kvpaged, or its arena does not have
 * the seals and layout it must have; -EBADMSG: descriptors were refused, by a limit or a security module),
 * KVC_VERSION, KVC_QUOTA, KVC_INVALID. reterr may be NULL; otherwise it receives the failure in words (up to
 * its size).
 */
KVC_API int kvc_open(const struct kvc_options *options, kvc_client **ret_client, char *reterr, size_t reterr_size);

/*
 * Ends the connection and frees the client, its spaces and its pinned blocks. Appends that were submitted and
 * not reaped may or may not be stored. NULL is fine. Returns NULL.
 */
KVC_API kvc_client *kvc_close(kvc_client *client);

/*
 * The last failure on this client in words, or "". Owned by the client, valid until the next call on it by any
 * thread.
 */
KVC_API const char *kvc_error(kvc_client *client);

/* The sentence for a result: a KVC_* or a negative errno. Static storage for KVC_*; thread-local for errno. */
KVC_API const char *kvc_strerror(int result);

/* The library's version, "major.minor.patch". */
KVC_API const char *kvc_version(void);

/* Facts about the connection. */
struct kvc_info {
	uint64_t session_id;
	uint64_t incarnation;     /* changes with every start of the daemon */
	uint64_t arena_bytes;
	uint64_t staging_bytes;
	uint64_t reconnects;      /* times this client found the daemon anew */
	uint32_t lease_ttl_ms_max;
	uint32_t pins_max;        /* of all readers together; 0: the daemon gave this client no control memory */
	char server_version[32];
};
KVC_API int kvc_client_info(kvc_client *client, struct kvc_info *ret_info);

/* ---- Spaces ---- */

/* What a space holds. Fixed when it is registered; everybody who opens it must agree. */
struct kvc_schema {
	const char *model;     /* UTF-8, 1..128 bytes */
	const char *revision;  /* UTF-8, 0..64 bytes; NULL: "" */
	uint32_t dtype;        /* the model's type for K and V: enum kvc_dtype */
	uint32_t layers;       /* 1..1024 */
	uint32_t kv_heads;     /* of the whole model, 1..1024 */
	uint32_t head_dim_k;   /* a multiple of 8, 8..256 */
	uint32_t head_dim_v;   /* the same, or 0: no V */
	uint32_t block_tokens; /* 1..256; 0: 128 */
	uint32_t codec_k;      /* enum kvc_codec */
	uint32_t codec_v;
	uint32_t page_heads;   /* heads in a page; must divide kv_heads; 0: chosen so that a page is 16-64 KiB */
};

/*
 * Opens the space of this name (UTF-8, 1..128 bytes), registering it if it is new. schema NULL: only if it is there.
 * Results: KVC_OK and the space, freed by kvc_space_close() or with the client; KVC_SCHEMA; KVC_NO_SPACE_NAMED;
 * KVC_INVALID; KVC_TOO_MANY; negative errno.
 */
KVC_API int kvc_space_open(kvc_client *client, const char *name, const struct kvc_schema *schema,
			   kvc_space **ret_space);

/* NULL is fine. Blocks pinned in the space stay pinned. Returns NULL. */
KVC_API kvc_space *kvc_space_close(kvc_space *space);

/* The schema as registered, page_heads filled in. Its strings live as long as the space. */
KVC_API const struct kvc_schema *kvc_space_schema(const kvc_space *space);

/*
 * Removes a space and all its blocks; this client's handles of it can only be closed then. KVC_BUSY while another
 * session has it open (a session has what it ever opened open until it ends); KVC_NO_SPACE_NAMED.
 */
KVC_API int kvc_space_drop(kvc_client *client, const char *name);

/* ---- Append ---- */

struct kvc_key {
	const void *bytes;
	size_t n; /* 1..KVC_KEY_BYTES_MAX; as a parent, 0: none */
};

struct kvc_tensor {
	void *data;            /* only read by append */
	uint32_t dtype;        /* enum kvc_dtype */
	int64_t stride_layer;  /* in elements */
	int64_t stride_head;
	int64_t stride_token;
};

/*
 * Layers [layer_begin, + layer_count) of global heads [head_begin, + head_count); a count of 0: all from
 * begin on. Heads of a range must cover whole pages: begin and count are multiples of the space's page_heads.
 */
struct kvc_range {
	uint32_t layer_begin;
	uint32_t layer_count;
	uint32_t head_begin;
	uint32_t head_count;
};

/* Where the value stands that made an append fail. */
struct kvc_fault {
	char tensor;    /* 'K' or 'V' */
	uint32_t layer; /* of the model, as head: not counted from the range's beginning */
	uint32_t head;
	uint32_t token;
	uint32_t channel;
};

/* One block, or a rank's part of one. */
struct kvc_append {
	struct kvc_key key;
	struct kvc_key parent;  /* n 0: a root. The parent must be resident */
	uint32_t tokens;        /* 1..block_tokens */
	struct kvc_range range; /* zeroed: everything */
	struct kvc_tensor k;
	struct kvc_tensor v;    /* ignored when the space has no V */
	int status;             /* out: KVC_OK, KVC_PRESENT (every page was), KVC_NO_SPACE (at least one page),
	                           KVC_NO_PARENT, KVC_CONFLICT, KVC_NONFINITE, KVC_VALUE_RANGE, KVC_QUOTA,
	                           KVC_CORRUPT, KVC_STALE (removed while it came in), KVC_RANGE, KVC_INVALID,
	                           KVC_TOO_MANY, KVC_STOPPING */
	struct kvc_fault fault; /* out: with KVC_NONFINITE and KVC_VALUE_RANGE */
	uint32_t pages_stored;  /* out */
	uint32_t pages_present; /* out */
};

/*
 * Encodes and stores blocks in order, so a block may name the one before it as parent. Pages that are present are
 * neither encoded nor sent. Returns when the daemon has answered for all: KVC_OK, each block's outcome in its status;
 * KVC_PERMISSION (a read-only client); or negative errno, when statuses are unspecified (blocks may have been stored).
 * Blocks with values that cannot be stored are not stored, others are.
 */
KVC_API int kvc_append(kvc_space *space, struct kvc_append *blocks, size_t n);

/*
 * The same without waiting: encodes (the tensors are free again on return), sends, and returns. Each submitted block
 * later yields one completion. A block larger than the staging memory goes in parts, and the call waits for all but
 * the last of them. Results: KVC_OK; -EAGAIN (staging memory is full: reap completions first; nothing was submitted);
 * KVC_NONFINITE or KVC_VALUE_RANGE (in block->fault; nothing was submitted); KVC_INVALID, KVC_RANGE, KVC_PERMISSION,
 * KVC_QUOTA (the staging memory is smaller than a page); negative errno. block->status is not written.
 */
KVC_API int kvc_submit(kvc_space *space, struct kvc_append *block, uint64_t user_data);

struct kvc_completion {
	uint64_t user_data;
	int status; /* as in struct kvc_append, or negative errno when the connection was lost before the answer */
	uint32_t pages_stored;
	uint32_t pages_present;
};

/*
 * A descriptor that becomes readable when completions may be ready or the connection was lost; owned by the client, the
 * same for its life, also over reconnects (it is an epoll instance over what changes: the session's event and socket).
 * Poll it, level-triggered, alone or in any event loop; when it is readable call kvc_reap(), which resets it. Never
 * read or write it. -ECHILD in another process.
 */
KVC_API int kvc_completion_fd(kvc_client *client);

/*
 * Collects up to n completions. wait_ms 0: only what is there; otherwise waits up to that long for the first one, while
 * other threads' calls go on. Results: KVC_OK and their number (which may be 0), or negative errno.
 */
KVC_API int kvc_reap(kvc_client *client, struct kvc_completion *completions, size_t n, uint32_t wait_ms, size_t *ret_n);

/* ---- Look up and read ---- */

/*
 * One thread's way to read resident blocks without asking the daemon: no system call, no lock. It finds them in the
 * shared index and pins them in memory that it shares with the daemon. A reader and what is pinned with it belong to
 * one thread at a time; a client has as many readers as its pins_max allows (one takes 32 pins, and 32 more when they
 * are in use).
 *
 * Where a function takes a reader, NULL asks the daemon instead, from any thread, under the client's lock. What
 * a reader cannot find in the index it reports as KVC_MISS; only kvc_fetch() then asks the daemon.
 *
 * A reader notices by itself that the daemon ended the session or stopped; its next call reconnects, which takes the
 * lock and may wait. A daemon that was killed is noticed by calls that ask it; until then blocks of its arena are found
 * and read as they were.
 */
typedef struct kvc_reader kvc_reader;

/*
 * Results: KVC_OK and a reader, freed by kvc_reader_close() or with the client; KVC_TOO_MANY (pins_max); KVC_QUOTA (the
 * daemon gave this client no control memory, since limits.staging_bytes_per_uid or reader.pins_per_uid is used up);
 * negative errno.
 */
KVC_API int kvc_reader_open(kvc_client *client, kvc_reader **ret_reader);

/* Ends the reader and what is pinned with it: those handles are gone. NULL is fine. Returns NULL. */
KVC_API kvc_reader *kvc_reader_close(kvc_reader *reader);

/*
 * Whether the block is resident with every page in range (NULL: all pages). It is not marked as used. Results: KVC_OK;
 * KVC_MISS; KVC_PARTIAL; KVC_TOO_MANY (pins_max); KVC_INVALID (a malformed key); KVC_RANGE; negative errno. reader must
 * not be NULL.
 */
KVC_API int kvc_find(kvc_space *space, kvc_reader *reader, const struct kvc_key *key, const struct kvc_range *range);

/*
 * How many of the keys, from the first on, are resident with every page in range (NULL: all pages). They are marked as
 * used. Results: KVC_OK and the number; KVC_INVALID (a malformed key); KVC_RANGE; KVC_TOO_MANY (with a reader, see
 * kvc_find()); negative errno.
 */
KVC_API int kvc_match(kvc_space *space, kvc_reader *reader, const struct kvc_key *keys, size_t n,
		      const struct kvc_range *range, size_t *ret_matched);

struct kvc_fetch {
	struct kvc_key key;
	struct kvc_range range;
	struct kvc_tensor k;   /* destination; data NULL: K is not wanted */
	struct kvc_tensor v;
	int status;            /* out: KVC_OK; KVC_MISS, KVC_PARTIAL, KVC_STALE (died while being read; contents
	                          unspecified), KVC_CORRUPT (see enum kvc_verify), KVC_NO_SPACE (it is on the tier, and
	                          nothing can be evicted for it), KVC_QUOTA, KVC_TOO_MANY, KVC_RANGE,
	                          KVC_INVALID; the call's result, when it ended before this block's turn */
	uint32_t tokens;       /* out: tokens written, with KVC_OK */
};

/*
 * Decodes blocks into the caller's tensors, which must have room for as many tokens as the block may have. With a
 * reader, blocks that are not found in the index, or not with every page, are asked for afterwards, together. What is
 * on the daemon's tier is loaded first; the call waits for it. KVC_OK, each block's outcome in its status; or
 * negative errno, when blocks that were read before have KVC_OK all the same.
 */
KVC_API int kvc_fetch(kvc_space *space, kvc_reader *reader, struct kvc_fetch *blocks, size_t n);

/* What a fetch of a prefix would find. */
struct kvc_forecast {
	size_t resident;  /* keys, from the first on, that are in RAM with every page in range */
	size_t loadable;  /* keys behind them that a fetch would have too, some from the tier */
	uint64_t load_us; /* how long loading those would take, from what was measured lately and what is queued */
};

/*
 * Whether to load or to compute: asks the daemon, and marks the resident ones as used. Results: KVC_OK; KVC_INVALID (a
 * malformed key); KVC_RANGE; negative errno.
 */
KVC_API int kvc_forecast(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
			 struct kvc_forecast *ret_forecast);

/*
 * Has blocks brought up from the tier that will be needed soon, and returns when that has begun. Statuses (may be
 * NULL): KVC_OK (resident, or on its way), KVC_MISS, KVC_PARTIAL, KVC_NO_SPACE. Results as kvc_forecast()'s.
 */
KVC_API int kvc_prefetch(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
			 int *ret_statuses);

/*
 * A fetch in steps, one layer of all blocks after the other, so that computing can begin with the first layer while
 * others are loaded from the tier. It belongs to one thread at a time.
 */
typedef struct kvc_fetching kvc_fetching;

/*
 * Begins: blocks is the caller's until kvc_fetch_end(), tensors are written by kvc_fetch_next(), and all have one
 * range. reader may be NULL. Results: KVC_OK and the fetching, freed by kvc_fetch_end() before its space and its
 * reader are; KVC_RANGE; KVC_INVALID (a malformed key); negative errno.
 */
KVC_API int kvc_fetch_begin(kvc_space *space, kvc_reader *reader, struct kvc_fetch *blocks, size_t n,
			    kvc_fetching **ret_fetching);

/*
 * Waits for the next layer of the range, decodes it to its place in the tensors, and tells its number. A block's status
 * says whether all its layers so far were read; one that failed is left out from then on. Results: KVC_OK; KVC_RANGE
 * (there are no more layers); negative errno (it may be tried again).
 */
KVC_API int kvc_fetch_next(kvc_fetching *fetching, uint32_t *ret_layer);

/* NULL is fine. Returns NULL. */
KVC_API kvc_fetching *kvc_fetch_end(kvc_fetching *fetching);

/*
 * Pins blocks for reading in place: their pages stay mapped and unchanged until kvc_unpin(). For each key,
 * ret_blocks[i] receives a handle, or NULL with the reason in ret_statuses[i] (KVC_MISS, KVC_PARTIAL, KVC_TOO_MANY).
 * They are marked as used. reader NULL: as kvc_lease() with its default time. Results: KVC_OK; KVC_INVALID (a malformed
 * key); KVC_RANGE; negative errno. When it is not KVC_OK nothing is pinned, and ret_blocks may have been set to NULL.
 *
 * A pin ends early only with the session: when the connection is lost, or when the daemon wants the memory and the
 * client has shown no sign of life (any call on a reader, kvc_block_tile(), kvc_block_check() or kvc_unpin() of what it
 * pinned, any request) for its reader.pin_grace_ms, or pins more than limits.pinned_bytes_per_uid allows for so long.
 * kvc_block_check() tells. A pinned block may be deleted; it stays readable, and the check tells that too.
 */
KVC_API int kvc_pin(kvc_space *space, kvc_reader *reader, const struct kvc_key *keys, size_t n,
		    const struct kvc_range *range, kvc_block **ret_blocks, int *ret_statuses);

/*
 * As kvc_pin(), by asking the daemon for a lease: for ttl_ms (0: its default) whether the client shows signs of life or
 * not; after that the block's memory may be reused, which kvc_block_check() tells. The handles belong to no thread.
 */
KVC_API int kvc_lease(kvc_space *space, const struct kvc_key *keys, size_t n, const struct kvc_range *range,
		      uint32_t ttl_ms, kvc_block **ret_blocks, int *ret_statuses);

/* NULL is fine. Returns NULL. */
KVC_API kvc_block *kvc_unpin(kvc_block *block);

/* Tokens in the block. */
KVC_API uint32_t kvc_block_tokens(const kvc_block *block);

/* One head's K or V inside a pinned page, encoded (docs/codecs.md gives the formats). */
struct kvc_tile {
	const void *bytes;
	size_t n;
	uint32_t codec;    /* enum kvc_codec */
	uint32_t tokens;
	uint32_t head_dim;
};

/*
 * The tile of one layer and global head. which is 'K' or 'V'. No call to the daemon. Results: KVC_OK; KVC_PARTIAL (that
 * page is not ready); KVC_STALE; KVC_CORRUPT (see enum kvc_verify); KVC_RANGE; KVC_INVALID (no V in this space).
 */
KVC_API int kvc_block_tile(const kvc_block *block, char which, uint32_t layer, uint32_t head,
			   struct kvc_tile *ret_tile);

/*
 * Whether what was read since it was pinned was the block: KVC_OK, or KVC_STALE (it was deleted or, its pin having
 * ended, evicted; its lease ran out, or the connection that leased it was lost). Call it after reading and before using
 * the result. No call to the daemon.
 */
KVC_API int kvc_block_check(const kvc_block *block);

/* Decodes a tile into rows of head_dim values, stride_token elements apart, not overlapping. KVC_OK, KVC_INVALID. */
KVC_API int kvc_tile_decode(const struct kvc_tile *tile, char which, void *data, uint32_t dtype, int64_t stride_token);

/* ---- Removing and keeping ---- */

/*
 * Calls on lists of keys return KVC_OK, KVC_INVALID (a malformed key), or negative errno, when some may have been done.
 *
 * Removes each block and all that descend from it. Statuses (may be NULL): KVC_OK, KVC_MISS. Pinned readers keep their
 * bytes.
 */
KVC_API int kvc_delete(kvc_space *space, const struct kvc_key *keys, size_t n, int *ret_statuses);

/* Marks blocks as used now. Statuses (may be NULL): KVC_OK, KVC_MISS. */
KVC_API int kvc_touch(kvc_space *space, const struct kvc_key *keys, size_t n, int *ret_statuses);

/*
 * Keeps blocks for ttl_ms: evicted only when nothing of lower priority (1..15; normal blocks have 0) can be. KVC_RANGE:
 * the priority, or a ttl_ms of 0 or longer than the daemon allows.
 */
KVC_API int kvc_keep(kvc_space *space, const struct kvc_key *keys, size_t n, uint32_t priority, uint64_t ttl_ms,
		     int *ret_statuses);
KVC_API int kvc_unkeep(kvc_space *space, const struct kvc_key *keys, size_t n, int *ret_statuses);

/*
 * Evicts in the policy's order until so many bytes or blocks went (what is 0 does not bind; both 0: everything
 * evictable, that is, not held, and not being written to a tier just now). space NULL: of any space. ret_blocks and
 * ret_bytes may be NULL.
 */
KVC_API int kvc_evict(kvc_client *client, kvc_space *space, uint64_t bytes, uint64_t blocks, uint64_t *ret_blocks,
		      uint64_t *ret_bytes);

struct kvc_resized {
	int is_done;              /* it takes no more than it may, and has what it may take */
	uint64_t bytes;           /* what the arena may take now */
	uint64_t held_bytes;      /* what it takes: used or not, this memory is the daemon's */
	uint64_t asked_bytes;     /* what was asked for, as rounded; more than bytes while the machine is short */
	uint64_t evicted_blocks;  /* for it, so far, as what follows */
	uint64_t evicted_bytes;
	uint64_t moved_bytes;
	uint64_t discarded_bytes; /* given back to the system */
};

/*
 * How much memory the daemon's arena may take, up to its size (kvc_client_info()): rounded down to 2 MiB, and up to the
 * least that is possible. What does not fit is evicted, and the memory goes back to the system; what readers hold stays
 * where it is. Waits for that, at most timeout_ms; the daemon goes on afterwards by itself. ret_resized may be NULL.
 * Results: KVC_OK (done or not); KVC_INVALID (0 bytes); KVC_RANGE (more than the arena's size); KVC_UNSUPPORTED (the
 * daemon's arena cannot give memory back); negative errno.
 */
KVC_API int kvc_resize(kvc_client *client, uint64_t bytes, uint32_t timeout_ms, struct kvc_resized *ret_resized);

/* ---- Looking around ---- */

struct kvc_counter {
	const char *name; /* as in the daemon's list of counters */
	uint64_t value;
};

struct kvc_space_stats {
	const char *name;
	struct kvc_schema schema;
	uint64_t blocks;
	uint64_t blocks_partial;
	uint64_t pages;
	uint64_t tokens;
	uint64_t logical_f16_bytes; /* what the held values would take as f16 */
	uint64_t logical_f32_bytes;
	uint64_t stored_bytes;      /* encoded pages */
	uint64_t overhead_bytes;    /* slot rounding and page maps */
	uint32_t sessions;          /* that have it open */
};

#define KVC_HISTOGRAM_BUCKETS 22

/*
 * How often something took up to 2^i microseconds and more than half of that; the last bucket takes all that took
 * longer than 2^20 microseconds.
 */
struct kvc_histogram {
	const char *name;  /* "request_seconds", "loop_turn_seconds" */
	const char *label; /* of request_seconds the verb: "fetch"; else "" */
	uint64_t buckets[KVC_HISTOGRAM_BUCKETS];
	uint64_t sum_ns;
};

struct kvc_stats {
	uint64_t incarnation;
	uint64_t uptime_ms;         /* of kvc_stats_look(): 0 */
	const char *server_version;
	size_t n_counters;
	const struct kvc_counter *counters;
	size_t n_spaces;
	const struct kvc_space_stats *spaces;
	size_t n_histograms;        /* of kvc_stats_get(): 0 */
	const struct kvc_histogram *histograms;
};

/* A snapshot as the daemon answers it, freed by kvc_stats_free(). */
KVC_API int kvc_stats_get(kvc_client *client, struct kvc_stats **ret_stats);

/*
 * The same from the shared memory alone, with histograms: the daemon is not asked and notices nothing, so it may be
 * called often. Each number is read for itself while the daemon goes on; sums of several may be off by what happened
 * meanwhile, and amounts held (bytes, blocks and tokens, also of spaces) are as the daemon last brought them up to
 * date, a fraction of a second ago. Results: KVC_OK; KVC_UNSUPPORTED (the daemon's list of counters is of another
 * version: kvc_stats_get() still works); negative errno. A connection that was lost is noticed as by any other call.
 */
KVC_API int kvc_stats_look(kvc_client *client, struct kvc_stats **ret_stats);
KVC_API struct kvc_stats *kvc_stats_free(struct kvc_stats *stats);

/* The value of a counter, or 0 if the daemon does not have it. */
KVC_API uint64_t kvc_stats_counter(const struct kvc_stats *stats, const char *name);

struct kvc_list_item {
	uint8_t key[KVC_KEY_BYTES_MAX];
	size_t key_n;
	uint32_t tokens;
	uint32_t pages_ready;
	uint32_t page_count;
	uint32_t leases;
	uint32_t children;
	uint32_t priority;
	int is_root;
	uint64_t stored_bytes;
	uint64_t idle_ms;
};

/*
 * Blocks of a space in no order, a part at a time: *cursor is 0 first and 0 again at the end; a part may be
 * empty before that. Blocks that come or go between calls may or may not be seen; others are seen once.
 * KVC_OK and the number of items (n at most, at most 1,024); negative errno.
 */
KVC_API int kvc_list(kvc_space *space, uint64_t *cursor, struct kvc_list_item *items, size_t n, size_t *ret_n);

/* ---- What became of blocks ---- */

enum kvc_fate {
	KVC_FATE_UNKNOWN = 0,         /* never stored, or so long ago that it is forgotten */
	KVC_FATE_PRESENT = 1,         /* resident */
	KVC_FATE_PARTIAL = 2,         /* resident, but pages are still missing */
	KVC_FATE_EVICTED = 3,         /* evicted to make room */
	KVC_FATE_EVICTED_REQUEST = 4, /* evicted by kvc_evict() */
	KVC_FATE_DELETED = 5,         /* deleted, alone or with a block that it descends from */
	KVC_FATE_SPACE_DROPPED = 6,   /* removed with its space */
	KVC_FATE_WRITER_GONE = 7,     /* dropped unfinished when its writer's connection ended */
	KVC_FATE_UNFINISHED = 8,      /* dropped unfinished: its pages did not come in time, or found no room */
	KVC_FATE_DEMOTED = 9,         /* evicted, but on the tier below: a fetch brings it back */
	KVC_FATE_LOST = 10,           /* lost by the tier below: it could not be read back */
};

/* A word ("evicted") and a sentence for a fate; "?" for an unknown number. Static storage. */
KVC_API const char *kvc_fate_word(int fate);
KVC_API const char *kvc_fate_text(int fate);

#define KVC_WHY_ELSEWHERE_MAX 8

struct kvc_why {
	int fate;             /* enum kvc_fate */
	uint64_t ago_ms;      /* since then; of a resident block, since its last use */
	uint32_t tokens;      /* of a resident block, as all up to stored_bytes */
	uint32_t pages_ready;
	uint32_t page_count;
	uint32_t leases;
	uint32_t children;    /* resident blocks that name it as parent */
	uint32_t priority;    /* of kvc_keep(); 0: none */
	uint64_t stored_bytes;
	uint32_t remembered;  /* keys of removed blocks that the daemon can remember */
	size_t n_elsewhere;   /* other spaces in which a block of this key is resident: the first of them */
	char elsewhere[KVC_WHY_ELSEWHERE_MAX][KVC_NAME_BYTES_MAX + 1];
};

/*
 * What the daemon knows of a key. Keys of removed blocks are remembered by 64-bit hashes, about as many as the arena
 * can hold blocks; the oldest are forgotten. KVC_OK; KVC_INVALID (the key); errors of kvc_space_open(); negative
 * errno.
 */
KVC_API int kvc_why(kvc_space *space, const struct kvc_key *key, struct kvc_why *ret_why);

enum kvc_event_kind {
	KVC_EVENT_STORED = 1,  /* a block is complete */
	KVC_EVENT_REMOVED = 2, /* a block cannot be found any more */
	KVC_EVENT_CLEARED = 3, /* a space is gone, with all its blocks */
};

struct kvc_event {
	uint64_t number;
	int kind;   /* enum kvc_event_kind */
	int reason; /* of a removal: enum kvc_fate */
	uint32_t tokens;
	size_t key_n;
	uint8_t key[KVC_KEY_BYTES_MAX];
	char space[KVC_NAME_BYTES_MAX + 1]; /* empty where the daemon does not know it any more */
};

#define KVC_EVENTS_FROM_NOW UINT64_MAX

/* Where a follower of events is. Zeroed: at the oldest that the daemon remembers. */
struct kvc_event_cursor {
	uint64_t incarnation; /* of the daemon process whose numbers these are; 0: of none yet */
	uint64_t after;       /* the last number seen; KVC_EVENTS_FROM_NOW: only what is yet to happen */
	uint64_t lost;        /* out: events between that one and the first returned, which are forgotten */
	int restarted;        /* out: the daemon is another process: numbers begin anew, blocks may be gone */
};

/*
 * Waits up to timeout_ms for events after the cursor and moves it behind those returned, n at most, 512 at most. The
 * cursor can be stored and used again later, by another client too. Deleted and evicted blocks and those of an
 * unfinished space are told as removed one by one; of blocks that never were complete nothing is told. A call holds the
 * client's lock for up to a second at a time: who follows events opens a client of its own.
 * KVC_OK, and *ret_n 0 when nothing happened in time; KVC_STALE (the daemon's numbers do not reach the cursor's, which
 * names no incarnation); negative errno.
 */
KVC_API int kvc_events(kvc_client *client, struct kvc_event_cursor *cursor, struct kvc_event *events, size_t n,
		       uint32_t timeout_ms, size_t *ret_n);

struct kvc_config_item {
	const char *key;
	const char *value;
	const char *origin; /* "default", a file with line, "environment", "command line" */
};

/* The daemon's configuration in effect; freed with one free(*ret_items). */
KVC_API int kvc_config(kvc_client *client, struct kvc_config_item **ret_items, size_t *ret_n);

#ifdef __cplusplus
}
#endif

#endif
