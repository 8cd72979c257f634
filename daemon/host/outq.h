/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies on their way to one peer: a bounded byte queue of frames. One set of descriptors can
 * travel with it; they go with the first byte of their frame and stay the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

struct outq {
	uint8_t *buffer;
	size_t capacity;
	size_t start; /* of what is not sent */
	size_t end;
	size_t bytes_max;
	uint64_t bytes_queued_total; /* positions in the stream since the beginning */
	uint64_t bytes_sent_total;
	int fds[KVP_FDS_MAX];
	size_t n_fds;    /* 0: none wait */
	uint64_t fds_at; /* position of the byte that they go with */
};

/*
 * An empty queue for at most bytes_max; allocates nothing. outq_deinit() frees what it came to
 * hold.
 */
void outq_init(struct outq *outq, size_t bytes_max);
void outq_deinit(struct outq *outq);

/*
 * Queues one message as a frame. n_fds is 0 unless no descriptors wait. Results: 0; -ENOBUFS (it
 * would hold more than bytes_max; nothing was queued); -ENOMEM.
 */
int outq_push(struct outq *outq, const uint8_t *message, size_t n, const int *fds, size_t n_fds);

/*
 * Sends what the socket takes, a bounded amount. Results: 0 (look at outq_bytes() for what is left:
 * try again when the socket is writable); -ETOOMANYREFS (too many descriptors are in flight in the
 * system: try again later); negative errno: the connection is lost.
 */
int outq_flush(struct outq *outq, int socket);

static inline size_t outq_bytes(const struct outq *outq)
{
	return outq->end - outq->start;
}
