/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page server without the world: (state, request, now) -> (replies, effects). Deterministic; no system
 * call, clock, thread or descriptor. It works on arena memory that it is given and asks for effects through
 * struct core_host.
 *
 * Calls come from one thread. Effects are called synchronously from within core_request(), core_run(),
 * core_tick() and core_stop(); they must not call back into the core. After hang_up() the core ignores the
 * session's requests; the host then calls core_session_close() at its leisure.
 *
 * Long requests (copies, mass removal) are cut into slices: core_request() queues them and core_run() does one
 * slice a call, sessions in turn, so the host can serve other events between slices.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core;
struct core_session;
struct tier;
struct kvp_counters;
struct kvp_space_entry;

enum core_memory { CORE_MEMORY_STAGING, CORE_MEMORY_CONTROL };

/* What the core asks of the world. context is core_options.context, peer what core_session_open() was given. */
struct core_host {
	/*
	 * Memory shared with this peer only, zeroed, exactly this size, page-aligned; once of each kind; the host
	 * keeps it until the session closes. Results: 0 and the mapping, or negative errno (without staging memory
	 * the Hello is refused with QUOTA and the session ends; without control memory the session can only ask).
	 */
	int (*memory_create)(void *context, void *peer, enum core_memory kind, uint64_t bytes, void **ret_memory);

	/* One message for the peer, without frame header; the bytes are the core's and valid during the call
	 * only. */
	void (*reply)(void *context, void *peer, const uint8_t *message, size_t n, unsigned flags);

	/* Ends the session after the replies given so far. reason is static text. */
	void (*hang_up)(void *context, void *peer, const char *reason);

	/*
	 * The arena's memory at this offset is not used for now: the host takes it back, and it reads as zero. Or it
	 * is about to be used again: the host makes sure of it as far as it can. Whole extents; results: 0, or
	 * negative errno (all stays as it was). Never called with core_options.fixed, and may be NULL then.
	 */
	int (*discard)(void *context, uint64_t offset, uint64_t bytes);
	int (*restore)(void *context, uint64_t offset, uint64_t bytes);

	/* The monotonic clock, for how long requests take. NULL: they take no time. */
	uint64_t (*clock_ns)(void *context);

	/* There is work for core_run() that no request brought. NULL: the host calls it all the time. */
	void (*wake)(void *context);
};

/* The reply goes with the arena's descriptor, and those that are flagged, in the order of their flags. */
#define CORE_REPLY_FDS 1u
#define CORE_REPLY_FD_STAGING 2u
#define CORE_REPLY_FD_EVENT 4u
#define CORE_REPLY_FD_CONTROL 8u
#define CORE_REPLY_EVENT 16u /* signal the session's event after this reply */

struct core_config_item {
	const char *key;
	const char *value;
	const char *origin;
};

/* Zero means the default in every field of limits. */
struct core_limits {
	uint32_t sessions_max;              /* 1024 */
	uint32_t sessions_per_uid_max;      /* 256 */
	uint64_t staging_bytes_max;         /* of one session; 64 MiB */
	uint64_t staging_bytes_per_uid_max; /* 1 GiB */
	uint64_t pinned_bytes_per_uid_max;  /* under leases, and by pins; half of the arena */
	uint32_t pins_max;                  /* of one session; 65,536 */
	uint32_t pins_per_uid_max;          /* 262,144 */
	uint32_t pin_grace_ms;              /* without a sign of life from who pins what is wanted; 10,000 */
	uint32_t lease_ttl_ms;              /* when a client names none; 30,000 */
	uint32_t lease_ttl_ms_max;          /* 600,000 */
	uint32_t partial_ttl_ms;            /* for a block whose pages do not all come; 60,000 */
	uint64_t keep_ttl_ms_max;           /* of Pin; 24 h */
	uint32_t hello_ttl_ms;              /* for a session to say Hello; 1,000 */
	uint32_t slice_bytes;               /* copied in one slice; 256 KiB */
	uint32_t events_kept;               /* for those who ask what happened; 16,384 */
	uint32_t restart_grace_ms;          /* after taking an arena over nothing freed is used for so long; 2,000 */
};

/* Which blocks are worth being written to the tier. */
enum core_tier_admit {
	CORE_TIER_ADMIT_READ, /* what was read at least once */
	CORE_TIER_ADMIT_ALL,
};

/* The most that core_options.mrc_samples may be. */
#define CORE_MRC_SAMPLES_MAX (1u << 24)

struct core_options {
	void *arena; /* page-aligned, arena_bytes long; stays the caller's and outlives the core */
	bool recover; /* it is an arena without core_arena_fault(), to be taken over; otherwise it is zeroed */
	uint64_t arena_bytes; /* a multiple of KVP_EXTENT_BYTES within KVP_ARENA_BYTES_MIN..MAX */
	bool fixed;           /* the arena's memory cannot be given back: no Resize */
	uint32_t blocks_max;  /* 0: one per 64 KiB of arena */
	uint64_t incarnation; /* not 0 */
	uint64_t hash_seed;   /* of a new arena */
	uint64_t secret;      /* unpredictable, and told to nobody */
	uint32_t mrc_samples; /* what the miss-ratio curve is made of, 44 to 48 bytes each; 0: no curve */
	uint64_t now_ns;     /* monotonic */
	const char *version; /* static text */
	struct core_limits limits;
	const struct core_host *host;
	void *context;
	struct tier *tier;                /* below RAM; bound by the core, outlives it. NULL: nothing is */
	enum core_tier_admit tier_admit;
	uint32_t tier_free_percent; /* of the arena; when less is free, what is admitted is written. 100: at once */
	const struct core_config_item *config; /* what Config answers; the caller's, outlives the core */
	size_t n_config;
};

/*
 * What keeps memory of this size from being taken over by a core with this blocks_max. NULL: nothing, its header is
 * that of such an arena; whatever else is wrong in it costs the block or the space that it concerns. Otherwise static
 * text.
 */
const char *core_arena_fault(const void *arena, uint64_t arena_bytes, uint32_t blocks_max);

/* What became of an arena that was taken over. */
struct core_recovery {
	uint32_t spaces;
	uint32_t blocks;
	uint64_t pages;
	uint64_t stored_bytes;
	uint32_t resting;    /* removed before, and still out of use for the sake of earlier readers */
	uint32_t unfinished; /* dropped: pages were missing, in them or in what they descend from */
	uint32_t damaged;    /* dropped: something about them cannot be */
	uint32_t spaces_damaged;
};

/*
 * Lays out the arena, or takes it over. Results: 0; -EINVAL (sizes out of range, metadata leaves no extent, or the
 * arena to be taken over has a fault); -ENOMEM.
 */
int core_new(const struct core_options *options, struct core **ret_core);

/* All zero when the arena was not taken over. */
const struct core_recovery *core_recovery(const struct core *core);

/* All sessions must be closed. NULL is fine; returns NULL. */
struct core *core_free(struct core *core);

/* A new connection. Results: 0; KVP_QUOTA (too many sessions, of all or of this uid); -ENOMEM. */
int core_session_open(struct core *core, void *peer, uint32_t uid, uint64_t now_ns,
		      struct core_session **ret_session);

/* The connection is gone: its leases end, blocks that it alone was writing and that are incomplete are dropped.
 * NULL is fine. */
struct core_session *core_session_close(struct core_session *session);

/* One message body from the peer. Whatever it is, it is answered or the session is hung up. */
void core_request(struct core_session *session, const uint8_t *message, size_t n, uint64_t now_ns);

/* The host found the stream itself broken (a frame's length, descriptors): counts it as a protocol error and
 * ends the session. */
void core_session_fault(struct core_session *session, const char *reason);

/* Requests that the session waits for; the host stops reading from a session that has
 * KVP_REQUESTS_IN_FLIGHT_MAX. */
unsigned core_session_in_flight(const struct core_session *session);

/* One slice of queued work. Returns whether more is queued. */
bool core_run(struct core *core, uint64_t now_ns);

/* When core_tick() is due next, monotonic; UINT64_MAX: nothing waits. */
uint64_t core_deadline_ns(const struct core *core);

/* Ends what is over by time: leases, partial blocks, soft pins, sessions without Hello. */
void core_tick(struct core *core, uint64_t now_ns);

/*
 * From now on requests are answered STOPPING; queued ones are still finished by core_run(). What the tier has begun to
 * write is written: core_stopped() tells when.
 */
void core_stop(struct core *core);
bool core_stopped(struct core *core);

/*
 * The machine is short of memory: the arena shall take at most so many bytes, or what the last Resize allows if that is
 * less. UINT64_MAX: no longer. Rounded to what is possible; the work goes on in core_tick(). Not with
 * core_options.fixed.
 */
void core_press(struct core *core, uint64_t bytes, uint64_t now_ns);

/* Whether somebody watches for that; kept in the counters. */
void core_note_pressure(struct core *core, bool watched);

/* What the arena takes of memory now, and the most that the last Resize lets it take. */
uint64_t core_held_bytes(const struct core *core);
uint64_t core_asked_bytes(const struct core *core);

/* One turn of the host's loop took this long, by the clock and of CPU time; kept in the counters. */
void core_note_turn(struct core *core, uint64_t duration_ns, uint64_t cpu_ns);

/* One request of the host's own (metrics over HTTP) was served or refused; kept in the counters. */
void core_note_http(struct core *core, bool served);

/*
 * Brings what follows from the state up to date in the shared counters and the space table: a pass over the spaces,
 * whatever they hold.
 */
void core_refresh(struct core *core, uint64_t now_ns);

/* The shared counters, and the table of KVP_SPACES_MAX spaces: proto/layout.h. The core's; they live as long as it. */
const struct kvp_counters *core_counters(const struct core *core);
const struct kvp_space_entry *core_spaces(const struct core *core);

/* Checks every invariant; slow. NULL: all hold; otherwise static text that names the first that does not. */
const char *core_audit(struct core *core);
