/* SPDX-License-Identifier: Apache-2.0 */
/* Integers throughout; times that run backwards count as standing still. */
#include "daemon/tier/pace.h"

#include "base/contract.h"

#define NS_PER_S UINT64_C(1000000000)

/*
 * A measurement of the bytes a second: large enough to be about bandwidth, not about one read; it ends with the
 * reads.
 */
#define WINDOW_BYTES (UINT64_C(256) << 10)
#define WINDOW_NS UINT64_C(5000000)
#define LATENCY_READS_MAX 2

void tier_rate_init(struct tier_rate *rate, uint64_t bytes_per_s, uint64_t now_ns)
{
	*rate = (struct tier_rate){ .bytes_per_s = bytes_per_s, .filled_ns = now_ns };
	rate->bytes = bytes_per_s > INT64_MAX ? INT64_MAX : (int64_t)bytes_per_s;
}

static uint64_t scale(uint64_t a, uint64_t b, uint64_t divisor)
{
	__uint128_t product = (__uint128_t)a * b / divisor;

	return product > UINT64_MAX ? UINT64_MAX : (uint64_t)product;
}

bool tier_rate_open(struct tier_rate *rate, uint64_t now_ns)
{
	uint64_t since = now_ns > rate->filled_ns ? now_ns - rate->filled_ns : 0;
	uint64_t more = scale(rate->bytes_per_s, since, NS_PER_S);
	int64_t most = rate->bytes_per_s > INT64_MAX ? INT64_MAX : (int64_t)rate->bytes_per_s;

	if (rate->bytes_per_s == 0)
		return true;
	if (more > 0) {
		__int128 filled = (__int128)rate->bytes + more;

		rate->bytes = filled > most ? most : (int64_t)filled;
		rate->filled_ns = now_ns;
	}
	return rate->bytes > 0;
}

void tier_rate_take(struct tier_rate *rate, uint64_t bytes)
{
	if (rate->bytes_per_s > 0 && __builtin_sub_overflow(rate->bytes, (int64_t)bytes, &rate->bytes))
		rate->bytes = INT64_MIN;
}

void tier_forecast_init(struct tier_forecast *forecast)
{
	*forecast = (struct tier_forecast){
		.bytes_per_s = TIER_GUESS_BYTES_PER_S,
		.latency_ns = TIER_GUESS_LATENCY_NS,
	};
}

static void window_begin(struct tier_forecast *forecast, uint64_t now_ns)
{
	forecast->window_ns = now_ns;
	forecast->window_bytes = 0;
}

void tier_forecast_begun(struct tier_forecast *forecast, uint64_t now_ns)
{
	if (forecast->under_way++ == 0)
		window_begin(forecast, now_ns);
}

static uint64_t average(uint64_t old, uint64_t measured)
{
	return old - old / 8 + measured / 8;
}

void tier_forecast_ended(struct tier_forecast *forecast, uint64_t begun_ns, uint64_t now_ns, uint32_t bytes)
{
	uint64_t window = now_ns > forecast->window_ns ? now_ns - forecast->window_ns : 0;

	kvp_assert(forecast->under_way > 0);
	if (forecast->under_way <= LATENCY_READS_MAX && now_ns > begun_ns)
		forecast->latency_ns = average(forecast->latency_ns, now_ns - begun_ns);
	forecast->under_way--;
	forecast->window_bytes += bytes;
	if (forecast->window_bytes < WINDOW_BYTES || window == 0 ||
	    (window < WINDOW_NS && forecast->under_way > 0))
		return;
	forecast->bytes_per_s = average(forecast->bytes_per_s, scale(forecast->window_bytes, NS_PER_S, window));
	if (forecast->bytes_per_s == 0)
		forecast->bytes_per_s = 1;
	window_begin(forecast, now_ns);
}

uint64_t tier_forecast_ns(const struct tier_forecast *forecast, uint64_t queued_bytes, uint64_t bytes)
{
	uint64_t all = queued_bytes + bytes < bytes ? UINT64_MAX : queued_bytes + bytes;
	uint64_t transfer = scale(all, NS_PER_S, forecast->bytes_per_s);

	return transfer > UINT64_MAX - forecast->latency_ns ? UINT64_MAX : transfer + forecast->latency_ns;
}
