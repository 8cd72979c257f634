/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memcached with one thread, through its meta protocol: mg KEY v, answered VA BYTES, the value; ms KEY BYTES, the
 * value, answered HD. The client here does the least that can be done: one writev, and one readv that lays the value
 * where it is wanted, because the length of every answer is known. A client library would take longer.
 */
#include "tests/bench/store.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "tests/bench/bench.h"
#include "tests/bench/peer.h"
#include "tests/bench/spawn.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PROGRAM "memcached"
#define LINE_MAX_BYTES 48
#define END "\r\n"

/* Chunks of memcached's slabs are up to a quarter larger than what they hold; and some to spare. */
#define ROOM_FACTOR 2
#define ROOM_MIB 64

struct state {
	int fd;
	char value_head[LINE_MAX_BYTES]; /* of the answer to mg */
	size_t value_head_bytes;
};

static int start(struct store *store)
{
	const struct passwd *user = getpwuid(geteuid());
	uint64_t bytes = (uint64_t)store->set->count * store->set->value_bytes;
	char megabytes[24];
	/* It asks for a user's name where it would run as root. */
	const char *argv[] = { PROGRAM, "-s", store->socket_path, "-a", "0600", "-t", "1", "-I", "2m", "-m", megabytes,
			 "-M", "-u", user ? user->pw_name : "root", NULL };

	if (!spawn_there(PROGRAM))
		return store_missing(PROGRAM, "the program is not installed");
	(void)snprintf(megabytes, sizeof(megabytes), "%" PRIu64, ROOM_FACTOR * bytes / MIB + ROOM_MIB);
	(void)snprintf(store->socket_path, sizeof(store->socket_path), "%s/memcached", store->set->directory);
	return spawn_start(store->socket_path, argv, true, &store->servers[0]) == 0 ? STORE_STARTED : STORE_FAILED;
}

static void stop(struct store *store)
{
	spawn_stop(&store->servers[0]);
	(void)unlink(store->socket_path);
}

static int open_store(struct store *store)
{
	struct state *state = calloc(1, sizeof(*state));

	if (!state)
		return bench_error("out of memory");
	store->state = state;
	state->value_head_bytes = (size_t)snprintf(state->value_head, sizeof(state->value_head), "VA %" PRIu32 END,
						   store->set->value_bytes);
	state->fd = spawn_connect(store->socket_path);
	return state->fd >= 0 ? 0 : bench_error(PROGRAM ": %s", strerror(errno));
}

static void close_store(struct store *store)
{
	struct state *state = store->state;

	if (state)
		(void)close_fd(state->fd);
	free(state);
	store->state = NULL;
}

/* Moves a vector on by what was transferred. */
static void advance(struct iovec **parts, int *n, size_t done)
{
	while (*n > 0 && done >= (*parts)->iov_len) {
		done -= (*parts)->iov_len;
		(*parts)++;
		(*n)--;
	}
	if (*n > 0) {
		(*parts)->iov_base = (char *)(*parts)->iov_base + done;
		(*parts)->iov_len -= done;
	}
}

static int transfer(int fd, struct iovec *parts, int n, ssize_t (*io)(int, const struct iovec *, int))
{
	while (n > 0) {
		ssize_t done = io(fd, parts, n);

		if (done <= 0)
			return bench_error(PROGRAM ": %s", done < 0 ? strerror(errno) : "it hung up");
		advance(&parts, &n, (size_t)done);
	}
	return 0;
}

static int get(struct store *store, const struct store_item *item)
{
	struct state *state = store->state;
	char line[LINE_MAX_BYTES] = "mg ";
	char head[LINE_MAX_BYTES];
	char end[2];
	struct iovec ask = { line, 3 + STORE_KEY_BYTES + 4 };
	struct iovec parts[] = { { head, state->value_head_bytes },
				 { store->out, store->set->value_bytes },
				 { end, sizeof(end) } };

	memcpy(line + 3, item->key, STORE_KEY_BYTES);
	memcpy(line + 3 + STORE_KEY_BYTES, " v" END, 4);
	if (transfer(state->fd, &ask, 1, writev) != 0 || transfer(state->fd, parts, 3, readv) != 0)
		return 1;
	if (memcmp(head, state->value_head, state->value_head_bytes) != 0)
		return bench_error(PROGRAM " lost a value: %.8s", head);
	return 0;
}

static int touch(struct store *store, const struct store_item *item)
{
	if (get(store, item) != 0)
		return 1;
	store->sum += peer_read(store->out, store->set->value_bytes);
	return 0;
}

static int put(struct store *store, const struct store_item *item)
{
	struct state *state = store->state;
	char line[LINE_MAX_BYTES];
	char answer[4];
	int n = snprintf(line, sizeof(line), "ms %.*s %" PRIu32 END, STORE_KEY_BYTES, item->next,
			 store->set->value_bytes);
	struct iovec parts[] = { { line, (size_t)n },
				 { (void *)(uintptr_t)store->set->source, store->set->value_bytes },
				 { (void *)(uintptr_t) END, 2 } };
	struct iovec answers = { answer, sizeof(answer) };

	if (transfer(state->fd, parts, 3, writev) != 0 || transfer(state->fd, &answers, 1, readv) != 0)
		return 1;
	return memcmp(answer, "HD" END, 4) == 0 ? 0 : bench_error(PROGRAM " refused a value: %.4s", answer);
}

const struct store_class store_memcached = {
	.name = "memcached",
	.ops = { [STORE_FIND] = get, [STORE_TOUCH] = touch, [STORE_COPY] = get, [STORE_PUT] = put },
	.start = start,
	.stop = stop,
	.open = open_store,
	.close = close_store,
};
