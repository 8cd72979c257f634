/* SPDX-License-Identifier: Apache-2.0 */
/* The operations and their timing; see bench.h. */
#include "client/kvctl/bench.h"

#include "base/cleanup.h"
#include "base/units.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_BYTES 64
#define FIRST_SAMPLES 2 /* which find caches cold and are left out */

/* One operation; i counts its repetitions. A negative or positive result ends the bench. */
typedef int operation(struct bench *bench, uint64_t i);

struct plan {
	const char *name;
	const char *meaning;
	operation *prepare; /* before each repetition, untimed; NULL: nothing */
	operation *run;
	uint64_t bytes; /* of a repetition, for gigabytes a second; 0: repetitions a second */
};

static uint64_t clock_ns(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static uint16_t *values_at(const struct bench *bench, unsigned part)
{
	return bench->values + part * BENCH_TENSOR_VALUES;
}

static struct kvc_tensor tensor_at(const struct bench *bench, unsigned part)
{
	return (struct kvc_tensor){
		.data = values_at(bench, part),
		.dtype = KVC_F16,
		.stride_layer = (int64_t)BENCH_HEADS * BENCH_TOKENS * BENCH_DIM,
		.stride_head = (int64_t)BENCH_TOKENS * BENCH_DIM,
		.stride_token = BENCH_DIM,
	};
}

/* The key lies in *number. */
static struct kvc_key key_at(uint64_t i, uint64_t *number)
{
	*number = i % BENCH_BLOCKS;
	return (struct kvc_key){ .bytes = number, .n = sizeof(*number) };
}

static int block_delete(struct bench *bench, uint64_t i)
{
	uint64_t number;
	struct kvc_key key = key_at(i, &number);

	return kvc_delete(bench->space, &key, 1, NULL);
}

static int block_append(struct bench *bench, uint64_t i)
{
	uint64_t number;
	struct kvc_append append = {
		.key = key_at(i, &number),
		.tokens = BENCH_TOKENS,
		.k = tensor_at(bench, 0),
		.v = tensor_at(bench, 1),
	};
	int r = kvc_append(bench->space, &append, 1);

	if (r == KVC_OK && append.status != KVC_PRESENT)
		r = append.status;
	return r;
}

static int block_pin(struct bench *bench, uint64_t i)
{
	uint64_t number;
	struct kvc_key key = key_at(i, &number);
	kvc_block *block = NULL;
	int status = KVC_OK;
	int r = kvc_pin(bench->space, bench->reader, &key, 1, NULL, &block, &status);

	(void)kvc_unpin(block);
	return r == KVC_OK ? status : r;
}

static int fetch(struct bench *bench, uint64_t i, kvc_reader *reader)
{
	uint64_t number;
	struct kvc_fetch wanted = {
		.key = key_at(i, &number),
		.k = tensor_at(bench, 2),
		.v = tensor_at(bench, 3),
	};
	int r = kvc_fetch(bench->space, reader, &wanted, 1);

	return r == KVC_OK ? wanted.status : r;
}

static int block_decode(struct bench *bench, uint64_t i)
{
	return fetch(bench, i, bench->reader);
}

static int block_fetch(struct bench *bench, uint64_t i)
{
	return fetch(bench, i, NULL);
}

static int memory_copy(struct bench *bench, uint64_t i)
{
	memcpy(values_at(bench, 2), values_at(bench, 0), BENCH_BLOCK_F16_BYTES);
	__asm__ volatile("" : : "r"(values_at(bench, 2)) : "memory"); /* somebody reads it */
	return KVC_OK;
}

static int message_there_and_back(struct bench *bench, uint64_t i)
{
	char message[MESSAGE_BYTES] = "";

	if (send(bench->sockets[0], message, sizeof(message), MSG_NOSIGNAL) != (ssize_t)sizeof(message) ||
	    recv(bench->sockets[0], message, sizeof(message), MSG_WAITALL) != (ssize_t)sizeof(message))
		return errno == EINTR ? KVC_OK : -EIO;
	return KVC_OK;
}

static const struct plan plans[] = {
	{ "append", "encode a block, the daemon stores it", block_delete, block_append, BENCH_BLOCK_F16_BYTES },
	{ "find+pin+unpin", "a block in shared memory, the daemon not asked", NULL, block_pin, 0 },
	{ "decode", "the same, and its values as f16", NULL, block_decode, BENCH_BLOCK_F16_BYTES },
	{ "fetch", "the daemon asked for a lease, and its values as f16", NULL, block_fetch, BENCH_BLOCK_F16_BYTES },
	{ "memcpy", "as many bytes as a block's f16 values copied", NULL, memory_copy, BENCH_BLOCK_F16_BYTES },
	{ "socket", "64 bytes to another thread and back, asleep", NULL, message_there_and_back, 0 },
};

#define PLANS (sizeof(plans) / sizeof(plans[0]))

static int compare(const void *a, const void *b)
{
	const uint32_t *x = a;
	const uint32_t *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void row_fill(struct bench_row *row, const struct plan *plan, uint32_t *samples_ns, size_t n)
{
	uint64_t sum_ns = 0;

	qsort(samples_ns, n, sizeof(*samples_ns), compare);
	for (size_t i = 0; i < n; i++)
		sum_ns += samples_ns[i];
	*row = (struct bench_row){
		.name = plan->name,
		.meaning = plan->meaning,
		.samples = n,
		.p50_us = samples_ns[n / 2] / 1e3,
		.p99_us = samples_ns[n - 1 - n / 100] / 1e3,
		.gigabytes = plan->bytes > 0,
		.rate = (plan->bytes ? (double)plan->bytes / 1e9 : 1.0) * (double)n * 1e9 /
			(double)(sum_ns ? sum_ns : 1),
	};
}

/* Repeats for so long. Interrupted with nothing measured: no row. */
static int measure(struct bench *bench, const struct plan *plan, uint64_t time_ns)
{
	uint64_t end_ns = clock_ns() + time_ns;
	size_t n = 0;

	for (uint64_t i = 0; n == 0 || (clock_ns() < end_ns && n < BENCH_SAMPLES_MAX); i++) {
		uint64_t begin_ns;
		uint64_t took_ns;
		int r = KVC_OK;

		if (bench_interrupted())
			break;
		if (plan->prepare)
			r = plan->prepare(bench, i);
		begin_ns = clock_ns();
		if (r == KVC_OK)
			r = plan->run(bench, i);
		took_ns = clock_ns() - begin_ns;
		if (r != KVC_OK)
			return r;
		if (i >= FIRST_SAMPLES)
			bench->samples_ns[n++] = took_ns < UINT32_MAX ? (uint32_t)took_ns : UINT32_MAX;
	}
	if (n > 0)
		row_fill(&bench->rows[bench->n++], plan, bench->samples_ns, n);
	return KVC_OK;
}

/* What is read must be there, however short the time for appending was. */
static int append_all(struct bench *bench)
{
	int r = KVC_OK;

	for (uint64_t i = 0; i < BENCH_BLOCKS && r == KVC_OK; i++)
		r = block_append(bench, i);
	return r;
}

static void *echo(void *data)
{
	const int *fd = data;
	char message[MESSAGE_BYTES];

	while (recv(*fd, message, sizeof(message), MSG_WAITALL) == (ssize_t)sizeof(message))
		if (send(*fd, message, sizeof(message), MSG_NOSIGNAL) != (ssize_t)sizeof(message))
			break;
	return NULL;
}

int bench_run(struct bench *bench)
{
	uint64_t time_ns = bench->seconds * NS_PER_S / PLANS;
	pthread_t thread;
	int r = pthread_create(&thread, NULL, echo, &bench->sockets[1]);

	if (r != 0)
		return -r;
	r = append_all(bench);
	for (size_t i = 0; i < PLANS && r == KVC_OK && !bench_interrupted(); i++) {
		r = measure(bench, &plans[i], time_ns);
		if (r == KVC_OK && plans[i].prepare)
			r = append_all(bench);
	}
	(void)shutdown(bench->sockets[0], SHUT_RDWR);
	(void)pthread_join(thread, NULL);
	return r;
}

/* Random halves in [-2, 2], from a generator that needs nothing else. */
static void values_fill(uint16_t *values, size_t n)
{
	uint64_t state = 88172645463325252u;

	for (size_t i = 0; i < n; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		values[i] = (uint16_t)((state & 0x83ff) | (0x3000 + (((state >> 32) & 3) << 10)));
	}
}

int bench_open(struct bench *bench, kvc_client *client, const char *space_name)
{
	struct kvc_schema schema = {
		.model = "kvctl-bench",
		.dtype = KVC_F16,
		.layers = BENCH_LAYERS,
		.kv_heads = BENCH_HEADS,
		.head_dim_k = BENCH_DIM,
		.head_dim_v = BENCH_DIM,
		.block_tokens = BENCH_TOKENS,
		.codec_k = bench->codec,
		.codec_v = bench->codec,
	};
	int r;

	bench->sockets[0] = bench->sockets[1] = -1;
	bench->values = calloc(4 * BENCH_TENSOR_VALUES, sizeof(*bench->values));
	bench->samples_ns = calloc(BENCH_SAMPLES_MAX + 1, sizeof(*bench->samples_ns));
	if (!bench->values || !bench->samples_ns)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bench->sockets) < 0)
		return -errno;
	values_fill(bench->values, 2 * BENCH_TENSOR_VALUES);
	r = kvc_space_open(client, space_name, &schema, &bench->space);
	return r == KVC_OK ? kvc_reader_open(client, &bench->reader) : r;
}

void bench_close(struct bench *bench)
{
	bench->reader = kvc_reader_close(bench->reader);
	bench->space = kvc_space_close(bench->space);
	free(bench->values);
	free(bench->samples_ns);
	bench->sockets[0] = close_fd(bench->sockets[0]);
	bench->sockets[1] = close_fd(bench->sockets[1]);
}
