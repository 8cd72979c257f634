/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast: what may be written (a bucket of bytes that fills with time), and what reading will take (from what it
 * took).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Holds what comes in one second. What is written may overdraw it: then nothing begins until that is made up for. */
struct tier_rate {
	uint64_t bytes_per_s; /* 0: no limit */
	int64_t bytes;
	uint64_t filled_ns;
};

void tier_rate_init(struct tier_rate *rate, uint64_t bytes_per_s, uint64_t now_ns);
bool tier_rate_open(struct tier_rate *rate, uint64_t now_ns);
void tier_rate_take(struct tier_rate *rate, uint64_t bytes);

/* Before anything was measured: a drive of the cheaper kind. */
#define TIER_GUESS_BYTES_PER_S (UINT64_C(500) << 20)
#define TIER_GUESS_LATENCY_NS UINT64_C(200000)

/*
 * The time of single reads when few are under way, and the bytes a second when there were many: moving averages, each
 * measurement an eighth.
 */
struct tier_forecast {
	uint64_t bytes_per_s;
	uint64_t latency_ns;
	uint64_t window_ns;    /* when the present measurement began */
	uint64_t window_bytes; /* read since */
	uint32_t under_way;
};

void tier_forecast_init(struct tier_forecast *forecast);
void tier_forecast_begun(struct tier_forecast *forecast, uint64_t now_ns);
void tier_forecast_ended(struct tier_forecast *forecast, uint64_t begun_ns, uint64_t now_ns, uint32_t bytes);

/* For so many bytes behind others that are queued already. */
uint64_t tier_forecast_ns(const struct tier_forecast *forecast, uint64_t queued_bytes, uint64_t bytes);
