/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One buffer, [sent | start .. end | room]: many small replies leave in one system call. It is
 * moved to the front rather than grown when that makes room, and given back when a large one has
 * become empty.
 */
#include "daemon/host/outq.h"

#include "base/contract.h"
#include "proto/fdpass.h"
#include "proto/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 4096
#define CAPACITY_KEPT (64u << 10)

/* In one turn of the loop, for one peer. */
#define FLUSH_BYTES_MAX (256u << 10)

void outq_init(struct outq *outq, size_t bytes_max)
{
	*outq = (struct outq){ .bytes_max = bytes_max };
}

void outq_deinit(struct outq *outq)
{
	free(outq->buffer);
	*outq = (struct outq){ 0 };
}

/* Room for n bytes after end; n and the content are at most bytes_max together. */
static int make_room(struct outq *outq, size_t n)
{
	size_t held = outq_bytes(outq);
	size_t capacity = outq->capacity ? outq->capacity : CAPACITY_MIN;
	uint8_t *grown;

	if (n <= outq->capacity - outq->end)
		return 0;
	if (outq->start > 0) {
		memmove(outq->buffer, outq->buffer + outq->start, held);
		outq->start = 0;
		outq->end = held;
	}
	while (capacity - held < n)
		capacity *= 2;
	if (capacity == outq->capacity)
		return 0;
	grown = realloc(outq->buffer, capacity);
	if (!grown)
		return -ENOMEM;
	outq->buffer = grown;
	outq->capacity = capacity;
	return 0;
}

int outq_push(struct outq *outq, const uint8_t *message, size_t n, const int *fds, size_t n_fds)
{
	size_t frame_bytes = FRAME_HEADER_BYTES + n;
	int r;

	kvp_assert(n > 0 && n <= KVP_FRAME_BYTES_MAX);
	kvp_assert(n_fds <= KVP_FDS_MAX);
	kvp_implies(n_fds > 0, outq->n_fds == 0);
	if (outq_bytes(outq) > outq->bytes_max || frame_bytes > outq->bytes_max - outq_bytes(outq))
		return -ENOBUFS;
	r = make_room(outq, frame_bytes);
	if (r < 0)
		return r;
	if (n_fds > 0) {
		memcpy(outq->fds, fds, sizeof(fds[0]) * n_fds);
		outq->n_fds = n_fds;
		outq->fds_at = outq->bytes_queued_total;
	}
	frame_put_header(outq->buffer + outq->end, (uint32_t)n);
	memcpy(outq->buffer + outq->end + FRAME_HEADER_BYTES, message, n);
	outq->end += frame_bytes;
	outq->bytes_queued_total += frame_bytes;
	return 0;
}

/* Sends once: up to the byte that descriptors go with, or from there on with them. */
static ssize_t send_some(struct outq *outq, int socket)
{
	size_t n = outq_bytes(outq);
	size_t n_fds = 0;
	ssize_t sent;

	if (n > FLUSH_BYTES_MAX)
		n = FLUSH_BYTES_MAX;
	if (outq->n_fds > 0 && outq->fds_at == outq->bytes_sent_total)
		n_fds = outq->n_fds;
	else if (outq->n_fds > 0 && outq->fds_at - outq->bytes_sent_total < n)
		n = outq->fds_at - outq->bytes_sent_total;
	sent = fdpass_send(socket, outq->buffer + outq->start, n, outq->fds, n_fds);
	if (sent > 0 && n_fds > 0)
		outq->n_fds = 0;
	return sent;
}

static void consume(struct outq *outq, size_t n)
{
	outq->start += n;
	outq->bytes_sent_total += n;
	if (outq->start != outq->end)
		return;
	outq->start = 0;
	outq->end = 0;
	if (outq->capacity > CAPACITY_KEPT) {
		free(outq->buffer);
		outq->buffer = NULL;
		outq->capacity = 0;
	}
}

int outq_flush(struct outq *outq, int socket)
{
	size_t sent_bytes = 0;

	while (outq_bytes(outq) > 0 && sent_bytes < FLUSH_BYTES_MAX) {
		ssize_t sent = send_some(outq, socket);

		if (sent == -EAGAIN)
			return 0;
		if (sent < 0)
			return (int)sent;
		consume(outq, (size_t)sent);
		sent_bytes += (size_t)sent;
	}
	return 0;
}
