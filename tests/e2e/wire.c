/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes away asynchronously (a closed connection's session) is waited for, a bounded time, by
 * asking again.
 */
#include "tests/e2e/wire.h"

#include "base/cleanup.h"
#include "codec/codec.h"
#include "proto/layout.h"
#include "proto/status.h"
#include "tests/lib/harness.h"

#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_LIMIT_MS 20000
#define WAIT_STEP_MS 5

/* What a client holds or leaves. Counters of requests are no part of it. */
static const char *const gauge_names[SCENE_GAUGES] = {
	"sessions", "spaces", "blocks", "blocks_partial", "blocks_limbo", "pages", "tokens",
	"stored_bytes", "overhead_bytes", "limbo_bytes", "free_bytes", "leases", "staging_bytes",
};

void pause_ms(long ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	(void)nanosleep(&pause, NULL);
}

uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* ---- the scene ---- */

/*
 * The address sanitizer keeps freed memory for a while, which would hide what the daemon itself
 * holds.
 */
void scene_prepare(void)
{
	const char *options = getenv("ASAN_OPTIONS");
	char extended[1024];

	(void)snprintf(extended, sizeof(extended),
		       "%s%squarantine_size_mb=1:thread_local_quarantine_size_kb=64",
		       options ? options : "", options ? ":" : "");
	assert_int_equal(setenv("ASAN_OPTIONS", extended, 1), 0);
}

static unsigned staging_mappings(const struct scene *scene)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *stream;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)scene->daemon.pid);
	stream = fopen(path, "r");
	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream))
		n += strstr(line, "kvpaged-staging") != NULL;
	(void)fclose(stream);
	return n;
}

void scene_watch(struct scene *scene)
{
	scene_client_works(scene->daemon.socket_path);
	peer_connect(&scene->watcher, scene->daemon.socket_path);
	peer_hello(&scene->watcher, 0);
	scene_await(scene, "sessions", 1);
	for (unsigned i = 0; i < SCENE_GAUGES; i++)
		scene->gauges[i] = peer_counter(&scene->watcher, gauge_names[i]);
	scene->fds = test_daemon_fds(&scene->daemon);
	scene->private_bytes = scene_private_bytes(scene);
}

void scene_await(struct scene *scene, const char *name, uint64_t value)
{
	uint64_t seen;

	for (unsigned waited_ms = 0; (seen = peer_counter(&scene->watcher, name)) != value;
	     waited_ms += WAIT_STEP_MS) {
		if (waited_ms > WAIT_LIMIT_MS)
			fail_msg("%s is %llu, not %llu", name, (unsigned long long)seen,
				 (unsigned long long)value);
		pause_ms(WAIT_STEP_MS);
	}
}

static void await_as_before(struct scene *scene)
{
	unsigned fds, mappings;

	for (unsigned i = 0; i < SCENE_GAUGES; i++)
		scene_await(scene, gauge_names[i], scene->gauges[i]);
	for (unsigned waited_ms = 0;; waited_ms += WAIT_STEP_MS) {
		fds = test_daemon_fds(&scene->daemon);
		mappings = staging_mappings(scene);
		if (fds == scene->fds && mappings == 0)
			break;
		if (waited_ms > WAIT_LIMIT_MS)
			fail_msg("the daemon has %u descriptors, not %u, and maps %u staging "
				 "memories",
				 fds, scene->fds, mappings);
		pause_ms(WAIT_STEP_MS);
	}
}

void scene_settle(struct scene *scene)
{
	scene_await(scene, "sessions", 1);
	wire_drop_spaces(&scene->watcher);
	await_as_before(scene);
	scene_client_works(scene->daemon.socket_path);
	await_as_before(scene);
}

void scene_end(struct scene *scene)
{
	scene_settle(scene);
	peer_close(&scene->watcher);
	test_daemon_stop(&scene->daemon);
}

uint64_t scene_private_bytes(const struct scene *scene)
{
	char path[64], line[128];
	unsigned long long kib = 0;
	FILE *stream;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)scene->daemon.pid);
	stream = fopen(path, "r");
	assert_non_null(stream);
	while (kib == 0 && fgets(line, sizeof(line), stream))
		(void)sscanf(line, "RssAnon: %llu", &kib);
	(void)fclose(stream);
	assert_true(kib > 0);
	return kib << 10;
}

void scene_assert_memory(const struct scene *scene, uint64_t more_bytes)
{
	uint64_t bytes = scene_private_bytes(scene);

	if (bytes > scene->private_bytes + more_bytes)
		fail_msg("the daemon's private memory grew from %llu to %llu bytes",
			 (unsigned long long)scene->private_bytes, (unsigned long long)bytes);
}

unsigned scene_log_lines(const struct scene *scene, const char *text)
{
	FILE *stream = fopen(scene->daemon.log_path, "r");
	char line[4096];
	unsigned n = 0;

	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream))
		n += strstr(line, text) != NULL;
	(void)fclose(stream);
	return n;
}

void scene_client_works(const char *socket_path)
{
	Kvpaged__V1__Schema schema;
	Kvpaged__V1__FetchItem item;
	struct wire_space space;
	struct test_peer peer;
	uint64_t checksum;

	wire_schema(&schema, 2, 2);
	peer_connect(&peer, socket_path);
	peer_hello(&peer, 64 << 10);
	wire_open(&peer, "well-behaved", &schema, &space);
	assert_int_equal(wire_append(&peer, &space, "key", 0, space.page_count, 0x5a), KVP_OK);
	assert_int_equal(wire_fetch(&peer, space.id, "key", 0, &item), KVP_OK);
	for (uint32_t i = 0; i < space.page_count; i++) {
		const uint8_t *page = wire_page(&peer, item.block, i, &checksum);

		assert_non_null(page);
		assert_memory_equal(page, peer.staging, space.page_bytes);
		assert_int_equal(checksum, kvp_page_checksum(page, space.page_bytes));
	}
	assert_int_equal(wire_release(&peer, item.lease_id), KVP_OK);
	assert_int_equal(wire_delete(&peer, space.id, "key"), KVP_OK);
	wire_drop_spaces(&peer);
	peer_close(&peer);
}

static void become(uint32_t uid)
{
	if (uid != USER_SELF && (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0))
		_exit(99);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_DUMPABLE, 1); /* as a process that was always this user's */
}

pid_t begin_process(uint32_t uid, void (*function)(void *context), void *context)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		become(uid);
		function(context);
		_exit(0);
	}
	return pid;
}

void end_process(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fail_msg("process %d did not end well, wait status 0x%x; see above", (int)pid,
			 (unsigned)status);
}

/* ---- requests ---- */

static ProtobufCBinaryData bytes_of(const char *text)
{
	return (ProtobufCBinaryData){ .data = (uint8_t *)text, .len = strlen(text) };
}

/* The reply, whose status must be OK. */
static Kvpaged__V1__Reply *call(struct test_peer *peer, Kvpaged__V1__Request *request)
{
	Kvpaged__V1__Reply *reply = peer_call(peer, request);

	if (reply->status != KVP_OK)
		fail_msg("request %d: %s, %.*s", (int)request->verb_case,
			 status_name(reply->status), (int)reply->error.len,
			 (const char *)reply->error.data);
	return reply;
}

static unsigned call_for_item(struct test_peer *peer, Kvpaged__V1__Request *request)
{
	Kvpaged__V1__Reply *reply = call(peer, request);
	unsigned status;

	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_ITEMS);
	assert_int_equal(reply->items->item_status.len, 1);
	status = reply->items->item_status.data[0];
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return status;
}

void wire_schema(Kvpaged__V1__Schema *schema, uint32_t layers, uint32_t kv_heads)
{
	kvpaged__v1__schema__init(schema);
	schema->model = bytes_of("model");
	schema->dtype = CODEC_DTYPE_F16;
	schema->layers = layers;
	schema->kv_heads = kv_heads;
	schema->head_dim_k = 64;
	schema->head_dim_v = 64;
	schema->block_tokens = 16;
	schema->codec_k = CODEC_Q8;
	schema->codec_v = CODEC_Q8;
	schema->page_heads = 1;
}

void wire_hello(struct test_peer *peer, uint64_t staging_bytes, int *ret_arena, int *ret_staging)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Hello hello = KVPAGED__V1__HELLO__INIT;
	Kvpaged__V1__Reply *reply;
	int fds[KVP_FDS_MAX];
	size_t n_fds = 0;

	hello.version_min = KVP_PROTOCOL_VERSION_MIN;
	hello.version_max = KVP_PROTOCOL_VERSION_MAX;
	hello.staging_bytes = ret_staging ? staging_bytes : 0;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_HELLO;
	request.hello = &hello;
	assert_int_equal(peer_send(peer, &request), 0);
	reply = peer_receive(peer, fds, &n_fds);
	assert_non_null(reply);
	assert_int_equal(reply->status, KVP_OK);
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	assert_int_equal(n_fds, ret_staging ? 2 : 1);
	*ret_arena = fds[0];
	if (ret_staging)
		*ret_staging = fds[1];
}

void wire_open(struct test_peer *peer, const char *name, const Kvpaged__V1__Schema *schema,
	       struct wire_space *ret_space)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__OpenSpace open = KVPAGED__V1__OPEN_SPACE__INIT;
	Kvpaged__V1__Reply *reply;

	open.name = bytes_of(name);
	open.schema = (Kvpaged__V1__Schema *)schema;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_OPEN_SPACE;
	request.open_space = &open;
	reply = call(peer, &request);
	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_OPEN_SPACE);
	*ret_space = (struct wire_space){
		.id = reply->open_space->space_id,
		.page_count = reply->open_space->page_count,
		.page_bytes = reply->open_space->page_bytes,
		.tokens = reply->open_space->schema->block_tokens,
	};
	kvpaged__v1__reply__free_unpacked(reply, NULL);
}

static unsigned worst_page(Kvpaged__V1__Reply *reply, uint32_t n)
{
	unsigned status = reply->status;

	if (status == KVP_OK) {
		assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_APPEND);
		assert_int_equal(reply->append->page_status.len, n);
	}
	for (uint32_t i = 0; reply->status == KVP_OK && i < n; i++)
		if (reply->append->page_status.data[i] > status)
			status = reply->append->page_status.data[i];
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return status;
}

unsigned wire_append(struct test_peer *peer, const struct wire_space *space, const char *key,
		     uint32_t first, uint32_t n, uint8_t fill)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Append append = KVPAGED__V1__APPEND__INIT;
	_cleanup_free_ Kvpaged__V1__PageRef *refs = calloc(n, sizeof(*refs));
	_cleanup_free_ Kvpaged__V1__PageRef **pages = calloc(n, sizeof(*pages));

	assert_true(refs && pages && peer->staging && peer->staging_bytes >= space->page_bytes);
	memset(peer->staging, fill, space->page_bytes);
	for (uint32_t i = 0; i < n; i++) {
		kvpaged__v1__page_ref__init(&refs[i]);
		refs[i].index = first + i;
		refs[i].length = space->page_bytes;
		refs[i].checksum = i == 0 ? kvp_page_checksum(peer->staging, space->page_bytes)
					  : refs[0].checksum;
		pages[i] = &refs[i];
	}
	append.space_id = space->id;
	append.key = bytes_of(key);
	append.tokens = space->tokens;
	append.n_pages = n;
	append.pages = pages;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_APPEND;
	request.append = &append;
	return worst_page(peer_call(peer, &request), n);
}

unsigned wire_fetch(struct test_peer *peer, uint32_t space_id, const char *key, uint32_t ttl_ms,
		    Kvpaged__V1__FetchItem *ret_item)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Fetch fetch = KVPAGED__V1__FETCH__INIT;
	ProtobufCBinaryData keys = bytes_of(key);
	Kvpaged__V1__Reply *reply;
	unsigned status;

	fetch.space_id = space_id;
	fetch.n_keys = 1;
	fetch.keys = &keys;
	fetch.lease_ttl_ms = ttl_ms;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_FETCH;
	request.fetch = &fetch;
	reply = call(peer, &request);
	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_FETCH);
	assert_int_equal(reply->fetch->n_items, 1);
	status = reply->fetch->items[0]->status;
	if (ret_item)
		*ret_item = *reply->fetch->items[0];
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return status;
}

unsigned wire_release(struct test_peer *peer, uint64_t lease_id)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Release release = KVPAGED__V1__RELEASE__INIT;

	release.n_lease_ids = 1;
	release.lease_ids = &lease_id;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_RELEASE;
	request.release = &release;
	return call_for_item(peer, &request);
}

unsigned wire_delete(struct test_peer *peer, uint32_t space_id, const char *key)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Delete delete = KVPAGED__V1__DELETE__INIT;
	ProtobufCBinaryData keys = bytes_of(key);

	delete.space_id = space_id;
	delete.n_keys = 1;
	delete.keys = &keys;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DELETE;
	request.delete_ = &delete;
	return call_for_item(peer, &request);
}

uint64_t wire_evict_all(struct test_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Evict evict = KVPAGED__V1__EVICT__INIT;
	Kvpaged__V1__Reply *reply;
	uint64_t blocks;

	evict.all = true;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_EVICT;
	request.evict = &evict;
	reply = call(peer, &request);
	assert_int_equal(reply->verb_case, KVPAGED__V1__REPLY__VERB_EVICT);
	blocks = reply->evict->blocks;
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return blocks;
}

static void drop_space(struct test_peer *peer, ProtobufCBinaryData name)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__DropSpace drop = KVPAGED__V1__DROP_SPACE__INIT;

	drop.name = name;
	request.verb_case = KVPAGED__V1__REQUEST__VERB_DROP_SPACE;
	request.drop_space = &drop;
	(void)peer_call_status(peer, &request);
}

void wire_drop_spaces(struct test_peer *peer)
{
	Kvpaged__V1__Request request = KVPAGED__V1__REQUEST__INIT;
	Kvpaged__V1__Stats stats = KVPAGED__V1__STATS__INIT;
	Kvpaged__V1__Reply *reply;

	request.verb_case = KVPAGED__V1__REQUEST__VERB_STATS;
	request.stats = &stats;
	reply = call(peer, &request);
	for (size_t i = 0; i < reply->stats->n_spaces; i++)
		drop_space(peer, reply->stats->spaces[i]->name);
	kvpaged__v1__reply__free_unpacked(reply, NULL);
}

/* ---- the arena ---- */

static const struct kvp_block *block_at(const struct test_peer *peer, uint32_t block)
{
	const struct kvp_arena_header *header = peer->arena;

	assert_true(block >= 1 && block <= header->blocks_count);
	return (const struct kvp_block *)((const uint8_t *)peer->arena + header->blocks_offset) +
	       (block - 1);
}

uint64_t wire_generation(const struct test_peer *peer, uint32_t block)
{
	return atomic_load(&block_at(peer, block)->generation);
}

const uint8_t *wire_page(const struct test_peer *peer, uint32_t block, uint32_t index,
			 uint64_t *ret_checksum)
{
	const uint8_t *arena = peer->arena;
	const struct kvp_block *entry = block_at(peer, block);
	const struct kvp_page *page;

	assert_true(index < entry->page_count);
	assert_true(entry->map_offset < peer->arena_bytes);
	page = (const struct kvp_page *)(arena + entry->map_offset) + index;
	if (!(atomic_load(&page->flags) & KVP_PAGE_READY))
		return NULL;
	if (ret_checksum)
		*ret_checksum = page->checksum;
	assert_true((uint64_t)page->slot * KVP_SLOT_ALIGN < peer->arena_bytes);
	return arena + (uint64_t)page->slot * KVP_SLOT_ALIGN;
}

/* ---- frames ---- */

int wire_send_body(struct test_peer *peer, const void *body, size_t n)
{
	_cleanup_free_ uint8_t *frame = malloc(FRAME_HEADER_BYTES + n);

	assert_non_null(frame);
	frame_put_header(frame, (uint32_t)n);
	if (n > 0)
		memcpy(frame + FRAME_HEADER_BYTES, body, n);
	return peer_send_bytes(peer, frame, FRAME_HEADER_BYTES + n);
}

unsigned wire_receive_status(struct test_peer *peer)
{
	Kvpaged__V1__Reply *reply = peer_receive(peer, NULL, NULL);
	unsigned status;

	if (!reply)
		fail_msg("the daemon hung up instead of answering");
	status = reply->status;
	kvpaged__v1__reply__free_unpacked(reply, NULL);
	return status;
}
