/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated machine around daemon/core and daemon/tier: clients with requests, readers without, time, a disk with
 * faults, stops and crashes. One seed fixes all of it: the setup (setup.c) and the list of steps (steps.c). Each step
 * is a few plain numbers that are taken modulo what there is, so that any part of a list is a list that can be run.
 *
 * Beside it goes a model (model.c, watch.c): what every byte, status and counter may be. What is found wrong ends the
 * process by sim_fail(); main.c runs every seed in a process of its own and shortens the list of one that fails.
 *
 *	step -> act.c: does it -> replies come -> reply.c: checks each -> watch.c: checks what everybody can see
 */
#pragma once

#include "base/list.h"
#include "client/arena.h"
#include "client/probe.h"
#include "codec/page.h"
#include "daemon/core/core.h"
#include "daemon/core/tier.h"
#include "proto/control.h"
#include "proto/fate.h"
#include "proto/kvpaged.pb-c.h"
#include "proto/layout.h"
#include "proto/limits.h"
#include "tests/lib/disk-memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SIM_PEERS_MAX 8
#define SIM_OBSERVER SIM_PEERS_MAX /* a session that only follows events */
#define SIM_NAMES 3
#define SIM_SHAPES 2
#define SIM_SPACES (SIM_NAMES * SIM_SHAPES)
#define SIM_KEYS_MAX 96
#define SIM_PAGES_MAX 24
#define SIM_LEASES_MAX 64 /* of one peer; it asks for no more */
#define SIM_PINS_MAX 8
#define SIM_GHOSTS_MAX 32
#define SIM_STRAYS_MAX 64
#define SIM_ITEMS_MAX 12
#define SIM_EVENTS_MAX 4096

#define SIM_BAD_VERSION (UINT32_C(1) << 31) /* of a page with a wrong checksum: it may never be seen */

#define SIM_VERBS(X)                                                                                        \
	X(CONNECT, "connect")                                                                               \
	X(HANG_UP, "hang-up")                                                                               \
	X(OPEN, "open")                                                                                     \
	X(APPEND, "append")                                                                                 \
	X(FETCH, "fetch")                                                                                   \
	X(RELEASE, "release")                                                                               \
	X(MATCH, "match")                                                                                   \
	X(FORECAST, "forecast")                                                                             \
	X(DELETE, "delete")                                                                                 \
	X(TOUCH, "touch")                                                                                   \
	X(PIN, "pin")                                                                                       \
	X(UNPIN, "unpin")                                                                                   \
	X(STATS, "stats")                                                                                   \
	X(EVICT, "evict")                                                                                   \
	X(EVICT_ONE, "evict-one")                                                                           \
	X(LIST, "list")                                                                                     \
	X(DROP, "drop")                                                                                     \
	X(WHY, "why")                                                                                       \
	X(SUBSCRIBE, "subscribe")                                                                           \
	X(RESIZE, "resize")                                                                                 \
	X(GARBAGE, "garbage")                                                                               \
	X(LOOK, "look")                                                                                     \
	X(SETTLE_PIN, "settle-pin")                                                                         \
	X(LET_GO, "let-go")                                                                                 \
	X(RUN, "run")                                                                                       \
	X(SETTLE, "settle")                                                                                 \
	X(TIME, "time")                                                                                     \
	X(DISK, "disk")                                                                                     \
	X(FAULT, "fault")                                                                                   \
	X(DAMAGE, "damage")                                                                                 \
	X(STOP, "stop")                                                                                     \
	X(CRASH, "crash")

enum sim_verb {
#define X(name, text) SIM_##name,
	SIM_VERBS(X)
#undef X
	SIM_VERB_COUNT
};

struct sim_step {
	enum sim_verb verb;
	uint32_t peer, space, key, n, value, order;
};

struct sim_steps {
	struct sim_step *steps;
	uint32_t n;
};

/* What a seed decides before the first step. */
struct sim_setup {
	uint64_t seed;
	uint64_t arena_bytes;
	uint32_t blocks_max;
	uint32_t peers;
	uint32_t uids;
	bool large; /* a block takes a good part of the arena */
	uint32_t keys;
	uint32_t roots;
	uint32_t branch;
	uint32_t names;
	struct page_schema shapes[SIM_SHAPES];
	struct core_limits limits;
	uint32_t mrc_samples;
	uint32_t weights[SIM_VERB_COUNT];
	uint32_t prompt_percent; /* of requests after which all work is done at once */
	bool readers;
	bool tier;
	enum core_tier_admit tier_admit;
	uint32_t tier_free_percent;
	uint64_t segment_bytes;
	uint32_t segments;
	uint32_t depth;
	uint64_t write_bytes_per_s;
	uint32_t tier_blocks;
	bool write_faults; /* also of tombstones: what was deleted may come back after a restart */
	bool read_faults;
	bool damage;
	bool torn;
};

/* What is known of one key of one space. */
struct sim_key {
	uint32_t floor;      /* no page of an older version may be seen: it was deleted */
	uint32_t floor_safe; /* likewise after a crash */
	uint64_t floor_ns;   /* when floor was raised */
	bool was_present;    /* before the last end of a process */
	uint64_t parent_hash; /* of the present block */
	bool odd;            /* it was offered with another parent than sim_parent() says */
	bool present;        /* complete and resident, as events tell */
	uint32_t priority; /* of the block of priority_life */
	uint64_t priority_until_ns;
	uint64_t priority_life;
};

/* A block that somebody holds, by a lease or a pin: nothing of it may change. */
struct sim_held {
	bool used;
	bool dead; /* removed meanwhile */
	bool settled;
	uint32_t space, key, number;
	uint64_t generation;
	const struct kvp_page *map;
	uint32_t page_count;
	uint32_t slots[SIM_PAGES_MAX];
	uint32_t versions[SIM_PAGES_MAX]; /* 0: it was not ready */
	uint64_t id;                      /* of a lease */
	uint64_t until_least_ns;
	uint64_t until_most_ns;
	uint64_t cost;
	uint32_t record; /* of a pin */
	uint32_t hazard;
	uint64_t since_ns;
};

/* A read into the arena that a killed process began. */
struct sim_stray {
	void *memory;
	uint32_t bytes;
};

/* A request that was not answered yet. */
struct sim_ask {
	struct list link;
	uint64_t id;
	int verb; /* of the message */
	struct sim_step step;
	bool later; /* it was not answered at once */
	bool wrong; /* it cannot be answered OK */
	bool had_space;
	bool prefetch;
	bool resident_only;
	bool no_lease;
	uint64_t sent_ns;
	uint64_t until_ns; /* a Subscribe */
	uint64_t after;
	uint32_t max;
	uint32_t ttl_ms;
	uint32_t space;
	uint32_t n;
	uint32_t keys[SIM_ITEMS_MAX];
	uint32_t floors[SIM_ITEMS_MAX];
	uint32_t *space_floors; /* [keys], of a DropSpace */
	uint64_t leases[SIM_ITEMS_MAX];
	uint32_t layer_begin, layer_end, head_begin, head_end;
	uint32_t version;
	uint32_t parent; /* key + 1; 0: none */
	uint32_t drops;  /* of the space, when it was sent */
	uint32_t pages[SIM_PAGES_MAX];
	bool bad[SIM_PAGES_MAX];
	uint64_t staging_begin, staging_end;
};

struct sim_peer {
	struct sim *sim;
	unsigned number;
	struct core_session *session; /* NULL: not connected */
	uint32_t uid;
	bool ready;
	bool over; /* by a violation: the reply may have come before */
	const char *hung_up;
	uint64_t opened_ns;
	uint8_t *staging;
	uint64_t staging_bytes;
	uint64_t staging_at;
	struct kvp_control_header *control;
	uint32_t records;
	uint64_t control_bytes;
	uint64_t life_ns;   /* last request, pin or unpin */
	uint64_t greedy_ns; /* when its user held more than it may: signs of life do not count then */
	uint64_t next_id;
	struct list asks;
	struct sim_ask *waiting;  /* for events */
	struct sim_ask *resizing; /* for the end of a Resize */
	uint32_t open;           /* bit i: space i */
	struct sim_held leases[SIM_LEASES_MAX];
	struct sim_held pins[SIM_PINS_MAX];
};

struct sim_event {
	uint8_t kind;
	uint8_t reason;
	uint32_t space, key;
};

/* What replies said, for comparison with the daemon's counters. */
struct sim_counts {
	uint64_t requests, sessions, fetch_hits, match_hits, match_misses;
	uint64_t append_pages, append_present, append_corrupt, append_no_space, append_unknown;
};

/* The last answer to a request that somebody waits for. */
struct sim_answer {
	bool came;
	uint32_t status;
	uint32_t n;
	uint8_t items[SIM_ITEMS_MAX];
	uint32_t matched;
	uint32_t loadable;
	uint64_t blocks;
};

struct sim {
	struct sim_setup setup;
	uint32_t step; /* number of the one that is done */
	bool verbose;
	struct core *core;
	void *arena;
	struct sim_held ghosts[SIM_GHOSTS_MAX]; /* pins of clients of earlier processes, which may still read */
	uint64_t ghosts_until_ns;
	struct sim_stray strays[SIM_STRAYS_MAX]; /* that may come in until then */
	unsigned n_strays;
	uint8_t *kept; /* what a process left of it, for the next one */
	struct arena_layout layout;
	struct tier *tier;
	struct disk_memory disk;
	uint64_t now_ns;
	uint64_t step_ns;   /* when the step began */
	uint64_t ticked_ns; /* what was over by then has ended */
	uint64_t incarnation;
	bool runnable; /* core_run() is to be called */
	struct sim_peer peers[SIM_PEERS_MAX + 1];
	struct sim_peer *asking; /* whose core_request() is going on */
	bool stopping;
	struct sim_answer answer;
	/* The model: */
	uint32_t version; /* the last that was given out */
	struct sim_key keys[SIM_SPACES][SIM_KEYS_MAX];
	uint32_t ids[SIM_SPACES];         /* of live spaces; 0: there is none */
	uint32_t of_id[KVP_SPACES_MAX + 1]; /* space + 1 */
	uint32_t drops[SIM_SPACES]; /* how often each was dropped */
	uint64_t ready_ns;    /* when the tier was first seen to know what it holds; 0: not yet */
	uint64_t released_ns; /* when a lease ended last */
	uint64_t events_last;
	struct sim_event events[SIM_EVENTS_MAX]; /* of this step */
	uint32_t n_events;
	bool events_lost;
	struct sim_counts counts;
	uint64_t counters[KVP_COUNTERS];
	uint64_t past[KVP_COUNTERS]; /* of earlier processes */
	uint64_t faults; /* that were injected, of any kind */
	uint64_t checks; /* pages compared */
};

/* Says what is wrong, where, and ends the process. */
__attribute__((noreturn, format(printf, 2, 3))) void sim_fail(const struct sim *sim, const char *format, ...);

/* ---- setup.c ---- */
void sim_setup_make(struct sim_setup *setup, uint64_t seed);
void sim_setup_print(const struct sim_setup *setup);
uint64_t sim_mix(uint64_t a, uint64_t b);

/* ---- steps.c ---- */
void sim_steps_make(const struct sim_setup *setup, uint32_t n, struct sim_steps *ret_steps);
void sim_step_print(FILE *file, uint32_t number, const struct sim_step *step);
/* Results: 0; -EINVAL. seed is read from the file's first line. */
int sim_steps_read(FILE *file, uint64_t *ret_seed, struct sim_steps *ret_steps);
void sim_steps_write(FILE *file, uint64_t seed, const struct sim_steps *steps);
const char *sim_verb_name(enum sim_verb verb);

/* ---- world.c: the machine ---- */
void sim_start(struct sim *sim, const struct sim_setup *setup);
void sim_end(struct sim *sim);
/* keep: the next process takes the arena over as it is. */
void sim_stop(struct sim *sim, bool keep);
void sim_crash(struct sim *sim, bool torn, bool keep);
void sim_run(struct sim *sim, uint32_t slices);
/* All queued work; and all of the disk's, with disk. */
void sim_settle(struct sim *sim, bool disk);
void sim_time(struct sim *sim, uint64_t ns, bool at_once);
bool sim_disk_step(struct sim *sim);

/* ---- peer.c: sessions ---- */
void sim_connect(struct sim *sim, unsigned number, uint32_t uid, uint64_t staging_bytes, uint32_t records, bool hello);
void sim_disconnect(struct sim_peer *peer);
/* Of its appends that are not answered. */
uint32_t sim_pages_under_way(const struct sim_peer *peer);
void sim_peers_reap(struct sim *sim);
extern const struct core_host sim_host;

/* ---- ask.c: requests ---- */
struct sim_ask *sim_ask_new(struct sim_peer *peer, const struct sim_step *step);
void sim_ask_free(struct sim_ask *ask);
/* Sends it; whether it was answered already. The ask may be gone. */
void sim_send(struct sim_peer *peer, struct sim_ask *ask, Kvpaged__V1__Request *request);
void sim_send_bytes(struct sim_peer *peer, const uint8_t *bytes, size_t n);
/* The requests of steps that are one request. */
void sim_request(struct sim_peer *peer, const struct sim_step *step);
void sim_append(struct sim_peer *peer, const struct sim_step *step);
void sim_fetch_keys(struct sim_peer *peer, const struct sim_step *step, uint32_t n, const uint32_t *keys,
		    bool resident_only);

/* ---- act.c ---- */
void sim_act(struct sim *sim, const struct sim_step *step);

/* ---- reply.c, reply-read.c, reply-space.c ---- */
void sim_reply(struct sim_peer *peer, const Kvpaged__V1__Reply *reply, unsigned flags);
typedef void sim_reply_fn(struct sim_peer *peer, struct sim_ask *ask, const Kvpaged__V1__Reply *reply);
sim_reply_fn sim_reply_fetch, sim_reply_release, sim_reply_match, sim_reply_keep, sim_reply_list, sim_reply_why;
sim_reply_fn sim_reply_resize, sim_reply_hello, sim_reply_open, sim_reply_drop, sim_reply_stats, sim_reply_subscribe;
/* Fails unless the item's status is what it must be. */
void sim_status_check(struct sim *sim, const struct sim_ask *ask, uint32_t status, uint32_t expected);

/* ---- reader.c ---- */
void sim_look(struct sim_peer *peer, const struct sim_step *step);
void sim_settle_pin(struct sim_peer *peer, const struct sim_step *step);
void sim_let_go(struct sim_peer *peer, const struct sim_step *step);

/* ---- model.c ---- */
uint32_t sim_parent(const struct sim *sim, uint32_t key); /* key + 1 of the parent; 0: a root */
size_t sim_key_bytes(const struct sim *sim, uint32_t key, uint8_t bytes[KVP_KEY_BYTES_MAX]);
/* The number of the key of these bytes; SIM_KEYS_MAX: none. */
uint32_t sim_key_of(const struct sim *sim, const uint8_t *bytes, size_t n);
uint32_t sim_tokens(const struct sim *sim, uint32_t space, uint32_t key);
const struct page_schema *sim_schema(const struct sim *sim, uint32_t space);
void sim_space_name(uint32_t space, char name[16]);
/* The space's block of this key as a reader finds it. */
bool sim_find(const struct sim *sim, uint32_t space, uint32_t key, struct block_view *ret_view);
bool sim_complete(const struct block_view *view);
bool sim_range_ready(const struct sim *sim, uint32_t space, const struct block_view *view, const struct sim_ask *ask);
uint64_t sim_pin_cost(const struct sim *sim, uint32_t space, uint32_t pages);
void sim_page_fill(uint8_t *page, uint32_t bytes, uint32_t space, uint32_t key, uint32_t number, uint32_t version);
/* Fails unless the ready page is the key's, of a version that may be seen. Returns the version. whole: every byte. */
uint32_t sim_page_check(struct sim *sim, uint32_t space, uint32_t key, const struct block_view *view, uint32_t number,
			bool whole);
/* Notes what the block holds now. */
void sim_hold(struct sim *sim, struct sim_held *held, uint32_t space, uint32_t key, const struct block_view *view);
/* Fails if anything of it changed. */
void sim_held_check(struct sim *sim, struct sim_held *held, bool whole);
/* Fails if the bytes that earlier clients may still read changed. */
void sim_ghosts_check(struct sim *sim);
/* The key is deleted: nothing older than floor may be seen. */
void sim_floor_raise(struct sim *sim, uint32_t space, uint32_t key, uint32_t floor);
void sim_floors_safe(struct sim *sim);
void sim_floors_crash(struct sim *sim, bool crashed);
/* After an arena was taken over: all complete blocks with complete ancestors are there, and no others. */
void sim_taken_over(struct sim *sim);
/* The floor that removing the key now will make. */
uint32_t sim_floor_now(const struct sim *sim, uint32_t space, uint32_t key);
/* What leases of this user hold; those that may have ended or not count with most only. */
uint64_t sim_pinned(const struct sim *sim, uint32_t uid, bool most);
uint32_t sim_leases_of(const struct sim *sim, const struct block_view *view, bool most);
uint32_t sim_priority_of(const struct sim *sim, uint32_t space, uint32_t key, const struct block_view *view);
/* Tells this life of this number from all others. */
static inline uint64_t sim_life(const struct block_view *view)
{
	return view->generation << 16 | view->number;
}

/* ---- watch.c ---- */
void sim_watch(struct sim *sim);
extern const char *const sim_counter_names[KVP_COUNTERS];
void sim_event(struct sim *sim, const Kvpaged__V1__Event *event);
