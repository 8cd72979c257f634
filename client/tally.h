/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client tells the daemon of its encoding and decoding (struct kvp_codec_tally): bytes and time of one block in
 * KVP_CODEC_SAMPLE, since reading a clock twice a block would cost percents of its time. Only what happens under the
 * client's lock is timed: readers make no system call, and a clock can be one.
 */
#pragma once

#include "client/clock.h"
#include "proto/control.h"

struct tally_watch {
	uint64_t begin_ns; /* 0: this one is not timed */
};

static inline void tally_add(_Atomic uint64_t *word, uint64_t amount)
{
	atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + amount, memory_order_relaxed);
}

/* Begins one piece of work; works counts them. */
static inline struct tally_watch tally_begin(unsigned *works)
{
	return (struct tally_watch){ (*works)++ % KVP_CODEC_SAMPLE == 0 ? clock_now_ns(CLOCK_MONOTONIC) : 0 };
}

/* Ends it: so many bytes. */
static inline void tally_end(struct tally_watch watch, _Atomic uint64_t *bytes, _Atomic uint64_t *ns, uint64_t done)
{
	if (!watch.begin_ns)
		return;
	tally_add(bytes, done);
	tally_add(ns, clock_now_ns(CLOCK_MONOTONIC) - watch.begin_ns);
}
