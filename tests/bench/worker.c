/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control channel is a SOCK_SEQPACKET pair: a struct command one way, a struct worker_answer back. For OP_PING the
 * worker has an echo process of its own. All of them die with the process that started them.
 */
#include "tests/bench/worker.h"

#include "base/cleanup.h"
#include "tests/bench/measure.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BATCH_MAX 8

/* Mean absolute error over mean absolute value that even 4-bit codes of normal data stay well below. */
#define ERROR_MAX 0.25

struct command {
	enum worker_op op;
	uint64_t round;
};

struct key_bytes {
	uint64_t worker;
	uint64_t round;
	uint64_t block;
};

struct state {
	const struct worker_job *job;
	kvc_client *client;
	kvc_space *space;
	size_t values; /* of the whole batch, K and V */
	float *source;
	float *destination;
	int echo;
	struct key_bytes keys[BATCH_MAX];
};

static int fail(const char *doing, int result)
{
	return bench_error("%s: %s", doing, kvc_strerror(result));
}

static void set_keys(struct state *state, uint64_t round)
{
	for (uint32_t i = 0; i < state->job->shape->batch; i++)
		state->keys[i] = (struct key_bytes){ state->job->number, round, i };
}

static float *block_at(const struct state *state, float *base, uint32_t i)
{
	return base + i * 2 * bench_plane_values(state->job->shape);
}

static int do_append(struct state *state, struct worker_answer *answer)
{
	const struct bench_shape *shape = state->job->shape;
	struct kvc_append blocks[BATCH_MAX] = { 0 };
	int r;

	for (uint32_t i = 0; i < shape->batch; i++) {
		float *data = block_at(state, state->source, i);

		blocks[i] = (struct kvc_append){
			.key = { &state->keys[i], sizeof(state->keys[i]) },
			.tokens = BENCH_BLOCK_TOKENS,
			.k = bench_tensor(shape, data),
			.v = bench_tensor(shape, data + bench_plane_values(shape)),
		};
	}
	answer->begin_ns = now_ns();
	r = kvc_append(state->space, blocks, shape->batch);
	answer->end_ns = now_ns();
	for (uint32_t i = 0; r == KVC_OK && i < shape->batch; i++) {
		r = blocks[i].status;
		answer->pages += blocks[i].pages_stored;
	}
	return r == KVC_OK ? 0 : fail("append", r);
}

static int do_fetch(struct state *state, struct worker_answer *answer)
{
	const struct bench_shape *shape = state->job->shape;
	struct kvc_fetch blocks[BATCH_MAX] = { 0 };
	int r;

	for (uint32_t i = 0; i < shape->batch; i++) {
		float *data = block_at(state, state->destination, i);

		blocks[i] = (struct kvc_fetch){
			.key = { &state->keys[i], sizeof(state->keys[i]) },
			.k = bench_tensor(shape, data),
			.v = bench_tensor(shape, data + bench_plane_values(shape)),
		};
	}
	answer->begin_ns = now_ns();
	r = kvc_fetch(state->space, NULL, blocks, shape->batch);
	answer->end_ns = now_ns();
	for (uint32_t i = 0; r == KVC_OK && i < shape->batch; i++)
		r = blocks[i].status;
	return r == KVC_OK ? 0 : fail("fetch", r);
}

static int do_check(struct state *state)
{
	double error = 0;
	double size = 0;

	for (size_t i = 0; i < state->values; i++) {
		error += fabs((double)state->destination[i] - (double)state->source[i]);
		size += fabs((double)state->source[i]);
	}
	memset(state->destination, 0, state->values * sizeof(float));
	if (!(error < ERROR_MAX * size))
		return bench_error("what was fetched is not what was appended: mean absolute error is %g of the mean "
				   "absolute value",
				   error / size);
	return 0;
}

static int do_delete(struct state *state)
{
	struct kvc_key keys[BATCH_MAX];
	int r;

	for (uint32_t i = 0; i < state->job->shape->batch; i++)
		keys[i] = (struct kvc_key){ &state->keys[i], sizeof(state->keys[i]) };
	r = kvc_delete(state->space, keys, state->job->shape->batch, NULL);
	return r == KVC_OK ? 0 : fail("delete", r);
}

static void do_memcpy(struct state *state, struct worker_answer *answer)
{
	answer->begin_ns = now_ns();
	memcpy(state->destination, state->source, state->values * sizeof(float));
	__asm__ volatile("" : : "r"(state->destination) : "memory");
	answer->end_ns = now_ns();
}

static bool exchange(int fd, char *bytes)
{
	return send(fd, bytes, PING_BYTES, MSG_NOSIGNAL) == PING_BYTES &&
	       recv(fd, bytes, PING_BYTES, MSG_WAITALL) == PING_BYTES;
}

static int do_ping(struct state *state, struct worker_answer *answer)
{
	char bytes[PING_BYTES] = { 0 };
	bool good = true;

	answer->begin_ns = now_ns();
	for (unsigned i = 0; good && i < PINGS; i++)
		good = exchange(state->echo, bytes);
	answer->end_ns = now_ns();
	return good ? 0 : bench_error("ping: %s", strerror(errno));
}

static int do_command(struct state *state, const struct command *command, struct worker_answer *answer)
{
	set_keys(state, command->round);
	switch (command->op) {
	case OP_APPEND:
		return do_append(state, answer);
	case OP_FETCH:
		return do_fetch(state, answer);
	case OP_CHECK:
		return do_check(state);
	case OP_DELETE:
		return do_delete(state);
	case OP_MEMCPY:
		do_memcpy(state, answer);
		return 0;
	case OP_PING:
		return do_ping(state, answer);
	}
	return 1;
}

__attribute__((noreturn)) static void echo_process(int fd)
{
	char bytes[PING_BYTES];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (recv(fd, bytes, PING_BYTES, MSG_WAITALL) == PING_BYTES &&
	       send(fd, bytes, PING_BYTES, MSG_NOSIGNAL) == PING_BYTES)
		;
	_exit(0);
}

static int start_echo(struct state *state)
{
	int fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return bench_error("socketpair: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		(void)close(fds[0]);
		echo_process(fds[1]);
	}
	(void)close(fds[1]);
	state->echo = fds[0];
	return pid < 0 ? bench_error("fork: %s", strerror(errno)) : 0;
}

/* Memory is written to here, so that no round pays for its first use. */
static int prepare(struct state *state)
{
	const struct worker_job *job = state->job;
	struct kvc_options options = { .struct_bytes = sizeof(options),
				       .socket_path = job->socket_path,
				       .client_name = "kvbench" };
	struct kvc_schema schema = bench_schema(job->shape, job->codec->codec);
	char reason[256] = "";
	int r;

	state->values = job->shape->batch * 2 * bench_plane_values(job->shape);
	state->source = malloc(state->values * sizeof(float));
	state->destination = calloc(state->values, sizeof(float));
	if (!state->source || !state->destination)
		return bench_error("out of memory");
	bench_fill(state->source, state->values, job->shape->head_dim, job->number + 1);
	if (start_echo(state) != 0)
		return 1;
	r = kvc_open(&options, &state->client, reason, sizeof(reason));
	if (r != KVC_OK)
		return bench_error("cannot connect: %s", reason);
	r = kvc_space_open(state->client, job->space, &schema, &state->space);
	return r == KVC_OK ? 0 : fail(job->space, r);
}

__attribute__((noreturn)) static void worker_process(const struct worker_job *job, int control)
{
	struct state state = { .job = job, .echo = -1 };
	struct worker_answer answer = { 0 };
	struct command command;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	answer.failed = prepare(&state);
	while (send(control, &answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer) &&
	       recv(control, &command, sizeof(command), 0) == sizeof(command)) {
		answer = (struct worker_answer){ 0 };
		answer.failed = do_command(&state, &command, &answer);
	}
	(void)close_fd(state.echo);
	(void)kvc_close(state.client);
	free(state.source);
	free(state.destination);
	while (wait(NULL) > 0)
		;
	_exit(0);
}

int worker_start(struct worker *worker, const struct worker_job *job)
{
	int fds[2];

	*worker = (struct worker){ .control = -1 };
	if (job->shape->batch > BATCH_MAX || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return bench_error("socketpair: %s", strerror(errno));
	(void)fflush(NULL);
	worker->pid = fork();
	if (worker->pid == 0) {
		(void)close(fds[0]);
		worker_process(job, fds[1]);
	}
	(void)close(fds[1]);
	worker->control = fds[0];
	return worker->pid < 0 ? bench_error("fork: %s", strerror(errno)) : 0;
}

/* A worker holds the parent's ends of those that were started before it: all are closed before any is waited for. */
void workers_stop(struct worker *workers, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		workers[i].control = close_fd(workers[i].control);
	for (unsigned i = 0; i < n; i++) {
		if (workers[i].pid > 0)
			(void)waitpid(workers[i].pid, NULL, 0);
		workers[i].pid = 0;
	}
}

static int await(const struct worker *worker, struct worker_answer *answer)
{
	if (recv(worker->control, answer, sizeof(*answer), 0) != sizeof(*answer))
		return bench_error("a client process died");
	return answer->failed ? 1 : 0;
}

int workers_ready(const struct worker *workers, unsigned n)
{
	struct worker_answer answer;

	for (unsigned i = 0; i < n; i++)
		if (await(&workers[i], &answer) != 0)
			return 1;
	return 0;
}

int workers_do(const struct worker *workers, unsigned n, enum worker_op op, uint64_t round, double *ret_seconds,
	       uint64_t *ret_pages)
{
	struct command command = { .op = op, .round = round };
	uint64_t begin_ns = UINT64_MAX;
	uint64_t end_ns = 0;
	uint64_t pages = 0;
	int status = 0;

	for (unsigned i = 0; i < n; i++)
		if (send(workers[i].control, &command, sizeof(command), MSG_NOSIGNAL) != sizeof(command))
			return bench_error("a client process died");
	for (unsigned i = 0; i < n; i++) {
		struct worker_answer answer;

		if (await(&workers[i], &answer) != 0)
			status = 1;
		begin_ns = answer.begin_ns < begin_ns ? answer.begin_ns : begin_ns;
		end_ns = answer.end_ns > end_ns ? answer.end_ns : end_ns;
		pages += answer.pages;
	}
	*ret_seconds = (double)(end_ns - begin_ns) / 1e9;
	if (ret_pages)
		*ret_pages = pages;
	return status;
}
