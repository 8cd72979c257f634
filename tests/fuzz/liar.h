/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon that lies: a thread that answers each request of a client as the input says. An answer is what an honest
 * daemon would say with some fields changed, any message of the protocol, any bytes, an error, or the end of the
 * connection. It never keeps a client waiting: when the input ends, so does the daemon.
 */
#pragma once

#include "tests/fuzz/take.h"

#include <pthread.h>
#include <stdbool.h>

#define LIAR_STAGING_BYTES (UINT64_C(64) << 10)

struct liar {
	struct take take;
	char path[64];
	int listener;
	pthread_t thread;
};

/* Listens; the bytes are the caller's until liar_stop(). */
void liar_start(struct liar *liar, const uint8_t *bytes, size_t n);

/* When the client is closed. */
void liar_stop(struct liar *liar);
