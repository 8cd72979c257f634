/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of bad clients share: a daemon under watch, and requests in one line each.
 *
 * A scene is a daemon and a well-behaved client of it, the watcher, who notes what the daemon holds
 *when nobody else is there: gauges, descriptors, private memory. At the end of the scene gauges and
 *descriptors must be as they were, no staging memory mapped, and another well-behaved client must
 *find everything working. (Private memory may have grown: free() keeps some.)
 *
 *	struct scene scene;
 *	scene_begin(&scene, "--limits-sessions", "8", NULL);
 *	... mischief at scene.daemon.socket_path ...
 *	scene_end(&scene);
 *
 * All functions fail the running test when they cannot do their work.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/daemon.h"
#include "tests/lib/peer.h"

#define SCENE_GAUGES 13

struct scene {
	struct test_daemon daemon;
	struct test_peer watcher; /* has no staging memory */
	uint64_t gauges[SCENE_GAUGES];
	unsigned fds;
	uint64_t private_bytes;
};

/* A space as the client that opened it sees it. */
struct wire_space {
	uint32_t id;
	uint32_t page_count;
	uint32_t page_bytes;
	uint32_t tokens; /* of a whole block */
};

/* Starts the daemon with these arguments, up to a NULL, and looks around. */
#define scene_begin(scene, ...) \
	(scene_prepare(), test_daemon_start(&(scene)->daemon, __VA_ARGS__), scene_watch(scene))

/* The two parts of scene_begin() around test_daemon_start(&scene->daemon, ...). */
void scene_prepare(void);
void scene_watch(struct scene *scene);

/* Removes all spaces and waits until everything is as it was; a well-behaved client then works. */
void scene_settle(struct scene *scene);

/* Settles, closes the watcher and stops the daemon in order. */
void scene_end(struct scene *scene);

/* Memory of the daemon that no file backs: what clients can make it allocate. */
uint64_t scene_private_bytes(const struct scene *scene);

/* Fails if the daemon holds this much more private memory than at the beginning. */
void scene_assert_memory(const struct scene *scene, uint64_t more_bytes);

/* Lines in the log that hold the text. */
unsigned scene_log_lines(const struct scene *scene, const char *text);

/* Waits until a gauge or counter has this value. */
void scene_await(struct scene *scene, const char *name, uint64_t value);

/* Connects, stores a block, reads it back through the arena, and removes it. */
void scene_client_works(const char *socket_path);

void pause_ms(long ms);

/* Small reproducible random numbers; *state is any number. */
uint64_t random_next(uint64_t *state);

#define USER_SELF UINT32_MAX

/*
 * Runs the function in a process of its own, as this user (USER_SELF: no change; others need root).
 * Asserts in it work. The process ends with the function; end_process() waits for that, and fails
 * the test if it did not end well.
 */
pid_t begin_process(uint32_t uid, void (*function)(void *context), void *context);
void end_process(pid_t pid);

/* A schema of q8 pages, one a layer and head, of 16 tokens: 2368 bytes each. */
void wire_schema(Kvpaged__V1__Schema *schema, uint32_t layers, uint32_t kv_heads);

/*
 * Says Hello and keeps the descriptors, which become the caller's; nothing is mapped in the peer.
 * ret_staging NULL: none is asked for.
 */
void wire_hello(struct test_peer *peer, uint64_t staging_bytes, int *ret_arena, int *ret_staging);

/* Opens (or registers) the space of that schema. */
void wire_open(struct test_peer *peer, const char *name, const Kvpaged__V1__Schema *schema,
	       struct wire_space *ret_space);

/*
 * Appends pages [first, first + n) of a block without parent, all of their bytes being fill, from
 * the staging memory's begin. Returns the request's status, or if that is OK the worst of the
 * pages'.
 */
unsigned wire_append(struct test_peer *peer, const struct wire_space *space, const char *key,
		     uint32_t first, uint32_t n, uint8_t fill);

/* The item's status. ret_item may be NULL. ttl_ms 0: the daemon's default. */
unsigned wire_fetch(struct test_peer *peer, uint32_t space_id, const char *key, uint32_t ttl_ms,
		    Kvpaged__V1__FetchItem *ret_item);

/* The item's status. */
unsigned wire_release(struct test_peer *peer, uint64_t lease_id);
unsigned wire_delete(struct test_peer *peer, uint32_t space_id, const char *key);

/* Evicts all that can be; the number of blocks. */
uint64_t wire_evict_all(struct test_peer *peer);

/* Removes each space that nobody else has open, with its blocks. */
void wire_drop_spaces(struct test_peer *peer);

/*
 * The bytes of a ready page and, if ret_checksum is not NULL, its recorded checksum. NULL: not
 * ready. In the peer's mapping.
 */
const uint8_t *wire_page(const struct test_peer *peer, uint32_t block, uint32_t index,
			 uint64_t *ret_checksum);

/* The block's generation now. */
uint64_t wire_generation(const struct test_peer *peer, uint32_t block);

/* Sends a frame with this body. */
int wire_send_body(struct test_peer *peer, const void *body, size_t n);

/* The next reply's status; the daemon must not hang up instead. */
unsigned wire_receive_status(struct test_peer *peer);
