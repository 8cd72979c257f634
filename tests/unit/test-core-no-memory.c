/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core when memory runs out: for start-up and for each step of two clients' lives, the first allocation fails, then
 * the second, and so on until the step needs no more. All invariants hold after each failure, the step can be repeated
 * with memory and then succeeds, and nothing leaks (the address sanitizer looks).
 *
 * malloc(), calloc() and realloc() are wrapped by the linker. The rig's own memory comes from elsewhere while a step is
 * done (mmap(), aligned_alloc(), libprotobuf-c).
 */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/contract.h"
#include "base/units.h"
#include "proto/layout.h"
#include "proto/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FAILURES_MAX 64
#define STAGING_BYTES (64u << 10)
#define PAGES 4u
#define VERB(name) KVPAGED__V1__REQUEST__VERB_##name

/* ---- Allocations that fail ---- */

static unsigned countdown; /* the allocation that brings it to 0 fails; 0: none does */
static bool failed;

static bool fails(void)
{
	if (countdown == 0 || --countdown > 0)
		return false;
	failed = true;
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t n);

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t n)
{
	return fails() ? NULL : __real_realloc(memory, n);
}

static void fail_after(unsigned n)
{
	failed = false;
	countdown = n;
}

/* ---- Steps ---- */

struct life {
	struct rig rig;
	uint32_t space_id;
	uint32_t page_bytes;
	uint64_t lease_id;
	struct tier_memory tier;
	uint8_t message[4096]; /* a request, packed before memory runs out */
	size_t n;
};

static ProtobufCBinaryData text(const char *s)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)s, .len = strlen(s) };
}

/* The request, with a number of its own, as it will be sent. message: of the verb. */
static void pack(struct life *life, unsigned peer, Kvpaged__V1__Request__VerbCase verb, void *message)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;

	request.id = ++life->rig.peers[peer].next_id;
	request.verb_case = verb;
	request.stats = message; /* a union of pointers */
	assert_true(kvpaged__v1__request__get_packed_size(&request) <= sizeof(life->message));
	life->n = kvpaged__v1__request__pack(&request, life->message);
}

/* Sends what was packed, and does what it asks for. */
static void send_packed(struct life *life, unsigned peer)
{
	core_request(life->rig.peers[peer].session, life->message, life->n, life->rig.now_ns);
	rig_run(&life->rig);
}

/* The status of the last answer; -1: there was none, and the session is over. */
static int status_of(const struct life *life, unsigned peer)
{
	const struct rig_peer *p = &life->rig.peers[peer];

	if (p->last && p->last->status != KVP_OK)
		return (int)p->last->status;
	if (p->hung_up)
		return -1;
	assert_non_null(p->last);
	return (int)p->last->status;
}

static void pack_hello(struct life *life, unsigned peer)
{
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;

	hello.version_min = hello.version_max = 1;
	hello.staging_bytes = STAGING_BYTES;
	hello.records = 1;
	hello.want_event = true;
	pack(life, peer, VERB(HELLO), &hello);
}

static void pack_open(struct life *life, unsigned peer, const char *name)
{
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Schema schema;

	rig_schema(&schema, PAGES, 1, 64);
	open.name = text(name);
	open.schema = &schema;
	pack(life, peer, VERB(OPEN_SPACE), &open);
}

/* The first n pages of a block; the staging memory is zero. */
static void pack_append(struct life *life, unsigned peer, const char *key, const char *parent, unsigned n)
{
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	Kvpaged__V1__PageRef refs[PAGES], *pointers[PAGES];

	for (unsigned i = 0; i < n; i++) {
		kvpaged__v1__page_ref__init(&refs[i]);
		refs[i].index = i;
		refs[i].length = life->page_bytes;
		refs[i].checksum = kvp_page_checksum(life->rig.peers[peer].staging, life->page_bytes);
		pointers[i] = &refs[i];
	}
	append.space_id = life->space_id;
	append.key = text(key);
	append.parent = text(parent);
	append.tokens = 16;
	append.n_pages = n;
	append.pages = pointers;
	pack(life, peer, VERB(APPEND), &append);
}

static void pack_fetch(struct life *life, const char *a, const char *b, bool prefetch)
{
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	static ProtobufCBinaryData keys[2];

	keys[0] = text(a);
	keys[1] = text(b);
	fetch.space_id = life->space_id;
	fetch.keys = keys;
	fetch.n_keys = 2;
	fetch.prefetch = prefetch;
	pack(life, 0, VERB(FETCH), &fetch);
}

/* The verbs whose message is a space and keys. */
static void pack_keyed(struct life *life, Kvpaged__V1__Request__VerbCase verb, const char *key)
{
	ProtobufCBinaryData keys[1] = { text(key) };
	Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
	Kvpaged__V1__Touch touch = KVPAGED__V1__TOUCH__INIT;
	Kvpaged__V1__Match match = KVPAGED__V1__MATCH__INIT;
	Kvpaged__V1__Pin pin = KVPAGED__V1__PIN__INIT;
	Kvpaged__V1__Unpin unpin = KVPAGED__V1__UNPIN__INIT;

	delete.space_id = touch.space_id = match.space_id = pin.space_id = unpin.space_id = life->space_id;
	delete.keys = touch.keys = match.keys = pin.keys = unpin.keys = keys;
	delete.n_keys = touch.n_keys = match.n_keys = pin.n_keys = unpin.n_keys = 1;
	pin.priority = 3;
	pin.ttl_ms = 1000;
	pack(life, 0, verb,
	     verb == VERB(DELETE) ? (void *)&delete :
	     verb == VERB(TOUCH)  ? (void *)&touch :
	     verb == VERB(MATCH)  ? (void *)&match :
	     verb == VERB(PIN)	  ? (void *)&pin :
				    (void *)&unpin);
}

static void pack_tell(struct life *life, Kvpaged__V1__Request__VerbCase verb)
{
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	Kvpaged__V1__Config config = KVPAGED__V1__CONFIG__INIT;
	Kvpaged__V1__List list = KVPAGED__V1__LIST__INIT;
	Kvpaged__V1__Why why = KVPAGED__V1__WHY__INIT;
	Kvpaged__V1__Subscribe subscribe = KVPAGED__V1__SUBSCRIBE__INIT;

	list.space_id = why.space_id = life->space_id;
	list.limit = 10;
	why.key = text("root");
	subscribe.max = 10;
	pack(life, 0, verb,
	     verb == VERB(STATS)  ? (void *)&stats :
	     verb == VERB(CONFIG) ? (void *)&config :
	     verb == VERB(LIST)	  ? (void *)&list :
	     verb == VERB(WHY)	  ? (void *)&why :
				    (void *)&subscribe);
}

static void pack_remove(struct life *life, bool whole_space)
{
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;

	evict.blocks = 1;
	drop.name = text("second");
	pack(life, 0, whole_space ? VERB(DROP_SPACE) : VERB(EVICT), whole_space ? (void *)&drop : (void *)&evict);
}

static void pack_resize(struct life *life, uint64_t bytes)
{
	Kvpaged__V1__Resize resize = KVPAGED__V1__RESIZE__INIT;

	resize.bytes = bytes;
	resize.wait_ms = 1000;
	pack(life, 0, VERB(RESIZE), &resize);
}

static void pack_release(struct life *life)
{
	Kvpaged__V1__Release release = KVPAGED__V1__RELEASE__INIT;

	release.lease_ids = &life->lease_id;
	release.n_lease_ids = 1;
	pack(life, 0, VERB(RELEASE), &release);
}

static void pack_wait(struct life *life)
{
	Kvpaged__V1__Subscribe subscribe = KVPAGED__V1__SUBSCRIBE__INIT;

	subscribe.from_now = true;
	subscribe.max = 1;
	subscribe.wait_ms = 1000;
	pack(life, 1, VERB(SUBSCRIBE), &subscribe);
}

/* A step is prepared with memory and done without; once it succeeded its outcome is noted. */
struct step {
	const char *name;
	unsigned peer;
	bool connects; /* a connection, not a request */
	void (*prepare)(struct life *life);
	void (*note)(struct life *life);
	bool waits; /* no answer comes at once */
};

#define PREPARE(name, call)                         \
	static void prepare_##name(struct life *life) \
	{                                           \
		call;                               \
	}
PREPARE(hello_0, pack_hello(life, 0))
PREPARE(hello_1, pack_hello(life, 1))
PREPARE(open, pack_open(life, 0, "first"))
PREPARE(open_again, pack_open(life, 1, "first"))
PREPARE(open_second, pack_open(life, 0, "second"))
PREPARE(root, pack_append(life, 0, "root", "", PAGES))
PREPARE(child, pack_append(life, 0, "child", "root", PAGES))
PREPARE(leaf, pack_append(life, 0, "leaf", "child", PAGES))
PREPARE(partial, pack_append(life, 1, "partial", "root", 1))
PREPARE(fetch, pack_fetch(life, "root", "child", false))
PREPARE(prefetch, pack_fetch(life, "child", "leaf", true))
PREPARE(fetch_leaf, pack_fetch(life, "child", "leaf", false))
PREPARE(resize, pack_resize(life, KVP_ARENA_BYTES_MIN - KVP_EXTENT_BYTES))
PREPARE(match, pack_keyed(life, VERB(MATCH), "root"))
PREPARE(touch, pack_keyed(life, VERB(TOUCH), "root"))
PREPARE(pin, pack_keyed(life, VERB(PIN), "root"))
PREPARE(unpin, pack_keyed(life, VERB(UNPIN), "root"))
PREPARE(stats, pack_tell(life, VERB(STATS)))
PREPARE(config, pack_tell(life, VERB(CONFIG)))
PREPARE(list, pack_tell(life, VERB(LIST)))
PREPARE(why, pack_tell(life, VERB(WHY)))
PREPARE(subscribe, pack_tell(life, VERB(SUBSCRIBE)))
PREPARE(wait, pack_wait(life))
PREPARE(release, pack_release(life))
PREPARE(evict, pack_remove(life, false))
PREPARE(drop, pack_remove(life, true))
PREPARE(delete, pack_keyed(life, VERB(DELETE), "root"))

static void note_open(struct life *life)
{
	life->space_id = life->rig.peers[0].last->open_space->space_id;
	life->page_bytes = life->rig.peers[0].last->open_space->page_bytes;
	assert_int_equal(life->rig.peers[0].last->open_space->page_count, PAGES);
}

static void note_lease(struct life *life)
{
	life->lease_id = life->rig.peers[0].last->fetch->items[0]->lease_id;
	assert_int_not_equal(life->lease_id, 0);
}

static const struct step steps[] = {
	{ "connect", 0, .connects = true },
	{ "hello", 0, .prepare = prepare_hello_0 },
	{ "connect again", 1, .connects = true },
	{ "hello again", 1, .prepare = prepare_hello_1 },
	{ "open", 0, .prepare = prepare_open, .note = note_open },
	{ "open again", 1, .prepare = prepare_open_again },
	{ "root", 0, .prepare = prepare_root },
	{ "child", 0, .prepare = prepare_child },
	{ "leaf", 0, .prepare = prepare_leaf },
	{ "partial", 1, .prepare = prepare_partial },
	{ "fetch", 0, .prepare = prepare_fetch, .note = note_lease },
	{ "match", 0, .prepare = prepare_match },
	{ "touch", 0, .prepare = prepare_touch },
	{ "pin", 0, .prepare = prepare_pin },
	{ "unpin", 0, .prepare = prepare_unpin },
	{ "stats", 0, .prepare = prepare_stats },
	{ "config", 0, .prepare = prepare_config },
	{ "list", 0, .prepare = prepare_list },
	{ "why", 0, .prepare = prepare_why },
	{ "subscribe", 0, .prepare = prepare_subscribe },
	{ "wait", 1, .prepare = prepare_wait, .waits = true },
	{ "release", 0, .prepare = prepare_release },
	{ "evict", 0, .prepare = prepare_evict },
	{ "prefetch", 0, .prepare = prepare_prefetch },
	{ "evict again", 0, .prepare = prepare_evict },
	{ "fetch leaf", 0, .prepare = prepare_fetch_leaf },
	{ "resize", 0, .prepare = prepare_resize, .waits = true },
	{ "open second", 0, .prepare = prepare_open_second },
	{ "drop", 0, .prepare = prepare_drop },
	{ "delete", 0, .prepare = prepare_delete },
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* Does a step whose allocation number n fails, 0: none. Whether it succeeded. */
static bool step_do(struct life *life, const struct step *step, unsigned n)
{
	struct rig_peer *peer = &life->rig.peers[step->peer];
	unsigned replies = peer->n_replies;
	int r;

	if (step->connects) {
		countdown = n;
		r = rig_connect_raw(&life->rig, step->peer, 1000 + step->peer);
		countdown = 0;
		return r == 0;
	}
	step->prepare(life);
	countdown = n;
	send_packed(life, step->peer);
	countdown = 0;
	if (step->waits && peer->n_replies == replies)
		return true;
	r = status_of(life, step->peer);
	if (r == KVP_OK && step->note && (!peer->last->fetch || peer->last->fetch->items[0]->lease_id))
		step->note(life);
	return r == KVP_OK;
}

/* What a failure may have ended is begun anew. */
static void session_mend(struct life *life, unsigned i)
{
	struct rig_peer *peer = &life->rig.peers[i];

	if (peer->session && !peer->hung_up)
		return;
	rig_disconnect(peer);
	assert_int_equal(rig_connect_raw(&life->rig, i, 1000 + i), 0);
	pack_hello(life, i);
	send_packed(life, i);
	assert_int_equal(status_of(life, i), KVP_OK);
}

/* The life up to this step, in which allocation n fails, and its end. Whether one failed. */
static bool live(size_t at, unsigned n, bool over_tier)
{
	struct life life = { 0 };
	bool any, good;

	if (over_tier)
		rig_start_tier(&life.rig, KVP_ARENA_BYTES_MIN, 64, &life.tier, CORE_TIER_ADMIT_ALL, 100);
	else
		rig_start(&life.rig, KVP_ARENA_BYTES_MIN, 64, NULL);
	for (size_t i = 0; i < at; i++)
		assert_true(step_do(&life, &steps[i], 0));
	failed = false;
	good = step_do(&life, &steps[at], n);
	any = failed;
	rig_audit(&life.rig);
	if (!any)
		assert_true(good);
	if (!good && !steps[at].connects) {
		session_mend(&life, steps[at].peer);
		if (steps[at].prepare != prepare_hello_0 && steps[at].prepare != prepare_hello_1)
			assert_true(step_do(&life, &steps[at], 0));
	}
	rig_advance_ms(&life.rig, 120000); /* every time that is set comes */
	rig_audit(&life.rig);
	rig_stop(&life.rig);
	return any;
}

static void sweep(bool over_tier)
{
	unsigned failures = 0;

	for (size_t at = 0; at < STEPS; at++) {
		unsigned n = 1;

		while (live(at, n, over_tier))
			assert_true(++n < FAILURES_MAX);
		failures += n - 1;
		print_message("%s: %u\n", steps[at].name, n - 1);
	}
	assert_true(failures > 20);
}

static void test_steps(void **state)
{
	sweep(false);
}

static void test_steps_over_a_tier(void **state)
{
	sweep(true);
}

/* ---- Start-up ---- */

static int memory_create(void *context, void *peer, enum core_memory kind, uint64_t bytes, void **ret_memory)
{
	return -ENOMEM;
}

static void test_start(void **state)
{
	static const struct core_host host = { .memory_create = memory_create };
	struct core_options options = {
		.arena_bytes = KVP_ARENA_BYTES_MIN,
		.incarnation = 1,
		.mrc_samples = 16,
		.version = "0.1.0",
		.host = &host,
	};
	unsigned n = 0;
	int r;

	do {
		struct core *core = NULL;

		options.arena = mmap(NULL, options.arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
				     0);
		assert_ptr_not_equal(options.arena, MAP_FAILED);
		fail_after(++n);
		r = core_new(&options, &core);
		countdown = 0;
		assert_int_equal(r, failed ? -ENOMEM : 0);
		assert_true(failed == !core);
		(void)core_free(core);
		assert_int_equal(munmap(options.arena, options.arena_bytes), 0);
	} while (r < 0);
	print_message("%u allocations failed\n", n - 1);
	assert_true(n > 10);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_start),
	cmocka_unit_test(test_steps),
	cmocka_unit_test(test_steps_over_a_tier),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
