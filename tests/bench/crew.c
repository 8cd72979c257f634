/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control channel is a SOCK_SEQPACKET pair: a struct crew_command one way, one byte back. Each client draws from
 * a list of items that was made before the clock starts: for gets any values, in an order that no prefetcher foresees;
 * for puts only values of its own, each once in a list.
 */
#include "tests/bench/crew.h"

#include "base/cleanup.h"
#include "codec/half.h"
#include "tests/bench/bench.h"
#include "tests/bench/latency.h"
#include "tests/bench/normal.h"
#include "tests/bench/place.h"
#include "tests/bench/ticks.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIST_MAX 1024
#define LIST_MIN 16

/* Lists whose times a turn remembers. */
#define LISTS_MAX 4096

/*
 * Operations before the first that is timed: for a server that went to sleep. In memory they take so many times as
 * long as what is timed, because the neighbours' pages are in the caches: an index that is smaller than these comes
 * back only when each of its values was looked up several times.
 */
#define WARM_OPS 256
#define WARM_FIND_TURNS 10
#define WARM_READ_TURNS 2

/* Of the values that are compared after loading. */
#define CHECK_EVERY 61

/* Error that q6 stays well below, of normal values of deviation 1. */
#define ERROR_MAX 0.25

/* What one list took. */
struct pace {
	double seconds; /* an operation */
	uint64_t ops;
};

struct client {
	struct store *stores;
	unsigned n_stores;
	unsigned number;
	unsigned clients; /* that work at the command at hand */
	uint64_t random;
	uint32_t walk; /* through this client's own values */
	struct crew_result *result;
	struct store_item items[LIST_MAX];
	struct pace paces[LISTS_MAX];
	unsigned n_paces;
};

static bool is_put(enum store_op op)
{
	return op == STORE_PUT || op == STORE_PUT_BATCH || op == STORE_MOVE_IN;
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b > 0) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* The values that the client puts: every clients-th. */
static uint32_t own_count(const struct client *client, const struct store *store)
{
	uint32_t n = store->set->count / client->clients;

	return n > 0 ? n : 1;
}

/* The next of its own values: strides of about 0.618 of them, which visit each once. */
static uint32_t next_own(struct client *client, const struct store *store)
{
	uint32_t n = own_count(client, store);
	uint32_t stride = (uint32_t)(0.618 * n) + 1;

	while (gcd(stride, n) != 1)
		stride++;
	client->walk = (uint32_t)(((uint64_t)client->walk + stride) % n);
	return client->walk * client->clients + client->number;
}

static void make_list(struct client *client, const struct store *store, enum store_op op, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t index = is_put(op) ? next_own(client, store) :
					      (uint32_t)(random_u64(&client->random) % store->set->count);

		store_item(store, index, &client->items[i]);
	}
}

/* The longest list that the operation may have: no value twice in a list of puts, which settle() takes in one go. */
static uint32_t list_max(const struct client *client, const struct store *store, enum store_op op)
{
	uint32_t most = own_count(client, store);

	if (!is_put(op))
		return LIST_MAX;
	if (op == STORE_PUT_BATCH)
		return store_op_items(store, op);
	return most < STORE_BATCH ? most : STORE_BATCH;
}

static int settle(const struct client *client, struct store *store, enum store_op op, uint32_t n)
{
	return is_put(op) && store->class->settle ? store->class->settle(store, client->items, n) : 0;
}

/* --- Measuring ------------------------------------------------------------------------------------ */

/* The list, each operation by itself. */
static int run_single(struct client *client, struct store *store, enum store_op op, uint32_t n, uint32_t step)
{
	store_op_fn *run = store->class->ops[op];
	struct crew_result *result = client->result;

	for (uint32_t i = 0; i < n; i += step) {
		uint64_t begin = ticks_begin();
		int status = run(store, &client->items[i]);
		uint64_t ticks = ticks_end() - begin;

		if (status != 0)
			return 1;
		if (result->n_samples < CREW_SAMPLES_MAX)
			result->samples[result->n_samples++] = latency_sample(ticks);
	}
	return 0;
}

static int run_many(struct client *client, struct store *store, enum store_op op, uint32_t n, uint32_t step)
{
	store_op_fn *run = store->class->ops[op];

	for (uint32_t i = 0; i < n; i += step)
		if (run(store, &client->items[i]) != 0)
			return 1;
	return 0;
}

typedef int run_fn(struct client *client, struct store *store, enum store_op op, uint32_t n, uint32_t step);

/* Lists until the time is over and ops_min are done. They begin short and grow: slow operations stay in time. */
static int run_lists(struct client *client, const struct crew_command *command, run_fn *run)
{
	struct store *store = &client->stores[command->store];
	const uint32_t most = list_max(client, store, command->op);
	const uint32_t step = store_op_items(store, command->op);
	uint32_t n = step > 1 ? step : most < LIST_MIN ? most : LIST_MIN;
	double budget = (double)command->budget_ns / 1e9;
	uint64_t ops = 0;

	client->n_paces = 0;
	for (double seconds = 0; seconds < budget || ops < command->ops_min;) {
		uint64_t begin;
		double took;

		make_list(client, store, command->op, n);
		begin = ticks_begin();
		if (run(client, store, command->op, n, step) != 0)
			return 1;
		took = ticks_to_ns(ticks_end() - begin) / 1e9;
		if (settle(client, store, command->op, n) != 0)
			return 1;
		client->paces[client->n_paces % LISTS_MAX] = (struct pace){ took * step / n, n / step };
		client->n_paces++;
		seconds += took;
		ops += n / step;
		if (took < budget / 16 && 2 * n <= most)
			n *= 2;
	}
	return 0;
}

static int compare_paces(const void *a, const void *b)
{
	double x = ((const struct pace *)a)->seconds;
	double y = ((const struct pace *)b)->seconds;

	return (x > y) - (x < y);
}

/*
 * Operations a second at the pace of the median operation's list. Not their number by the time: on a shared machine
 * that would tell how much of the processor others took meanwhile.
 */
static double rate_of(struct client *client)
{
	size_t n = client->n_paces < LISTS_MAX ? client->n_paces : LISTS_MAX;
	uint64_t ops = 0;
	uint64_t seen = 0;
	size_t i;

	qsort(client->paces, n, sizeof(*client->paces), compare_paces);
	for (i = 0; i < n; i++)
		ops += client->paces[i].ops;
	for (i = 0; i + 1 < n && seen + client->paces[i].ops <= ops / 2; i++)
		seen += client->paces[i].ops;
	return 1 / client->paces[i].seconds;
}

static unsigned warm_turns(const struct store *store, enum store_op op)
{
	if (!store->class->memory || op == STORE_ASK || is_put(op))
		return 0;
	return op == STORE_FIND || op == STORE_FIND_BATCH ? WARM_FIND_TURNS : WARM_READ_TURNS;
}

static int turn(struct client *client, const struct crew_command *command)
{
	struct crew_command many = *command;

	client->result->n_samples = 0;
	many.budget_ns *= warm_turns(&client->stores[command->store], command->op);
	many.ops_min = command->ops_min < WARM_OPS ? command->ops_min : WARM_OPS;
	if (run_lists(client, &many, run_many) != 0 || run_lists(client, command, run_single) != 0)
		return 1;
	many.budget_ns = command->budget_ns;
	if (run_lists(client, &many, run_many) != 0)
		return 1;
	client->result->rate = rate_of(client);
	return 0;
}

static int loop(struct client *client, const struct crew_command *command)
{
	if (run_lists(client, command, run_many) != 0)
		return 1;
	client->result->rate = rate_of(client);
	return 0;
}

/* --- Getting ready -------------------------------------------------------------------------------- */

static bool near(const struct store *store, const uint16_t *got, const uint16_t *put)
{
	size_t n = store_caller_bytes(store) / sizeof(uint16_t);
	double error = 0;

	for (size_t i = 0; i < n; i++)
		error += fabsf(half_to_f32(got[i]) - half_to_f32(put[i]));
	return error < ERROR_MAX * (double)n;
}

static int check(struct store *store, uint32_t index)
{
	struct store_item item;
	bool good;

	if (!store->class->ops[STORE_COPY])
		return 0;
	store_item(store, index, &item);
	memset(store->out, 0, store_caller_bytes(store));
	if (store->class->ops[STORE_COPY](store, &item) != 0)
		return 1;
	good = store->class->lossy ? near(store, (const uint16_t *)store->out, (const uint16_t *)store->set->source) :
				     memcmp(store->out, store->set->source, store->set->value_bytes) == 0;
	return good ? 0 : bench_error("%s: what came back is not what went in", store->class->name);
}

/* In batches where the store can. */
static int load(struct client *client, struct store *store)
{
	const struct workset *set = store->set;
	const bool batches = store->class->ops[STORE_PUT_BATCH];
	uint32_t n = batches ? set->batch : 1;

	for (uint32_t i = 0; store->class->ops[STORE_PUT] && i < set->count; i += n) {
		n = set->count - i < n ? 1 : n;
		for (uint32_t j = 0; j < n; j++) {
			store_item(store, i + j, &client->items[j]);
			memcpy(client->items[j].next, client->items[j].key, STORE_KEY_BYTES);
		}
		if (store->class->ops[n > 1 ? STORE_PUT_BATCH : STORE_PUT](store, client->items) != 0)
			return 1;
	}
	for (uint32_t i = 0; i < store->set->count; i += CHECK_EVERY)
		if (check(store, i) != 0)
			return 1;
	return 0;
}

static int visit(struct client *client, struct store *store)
{
	const struct store_class *class = store->class;

	if (class->loaded && class->loaded(store) != 0)
		return 1;
	for (uint32_t i = 0; class->memory && i < store->set->count; i++) {
		store_op_fn *run = class->ops[class->ops[STORE_BARE] ? STORE_BARE : STORE_TOUCH];
		struct store_item item;

		store_item(store, i, &item);
		if (run(store, &item) != 0)
			return 1;
	}
	return 0;
}

/* --- Processes ------------------------------------------------------------------------------------ */

static int obey(struct client *client, const struct crew_command *command)
{
	client->clients = command->clients;
	place(0, command->processor[client->number]);
	switch (command->what) {
	case CREW_LOAD:
		return load(client, &client->stores[command->store]);
	case CREW_VISIT:
		return visit(client, &client->stores[command->store]);
	case CREW_TURN:
		return turn(client, command);
	case CREW_LOOP:
		return loop(client, command);
	}
	return 1;
}

static int open_all(const struct client *client)
{
	for (unsigned i = 0; i < client->n_stores; i++)
		if (client->stores[i].class && store_open(&client->stores[i], client->number) != 0)
			return 1;
	return 0;
}

__attribute__((noreturn)) static void client_process(struct client *client, int control)
{
	struct crew_command command;
	uint8_t failed;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	client->random = client->number + 1;
	failed = (uint8_t)open_all(client);
	while (send(control, &failed, sizeof(failed), MSG_NOSIGNAL) == sizeof(failed) &&
	       recv(control, &command, sizeof(command), 0) == sizeof(command))
		failed = (uint8_t)obey(client, &command);
	for (unsigned i = 0; i < client->n_stores; i++)
		if (client->stores[i].class)
			store_close(&client->stores[i]);
	free(client);
	_exit(0);
}

static int start_client(struct crew *crew, unsigned number, struct store *stores, unsigned n_stores)
{
	struct client *client;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return bench_error("socketpair: %s", strerror(errno));
	(void)fflush(NULL);
	crew->controls[number] = fds[0];
	crew->pids[number] = fork();
	if (crew->pids[number] == 0) {
		for (unsigned i = 0; i <= number; i++)
			(void)close(crew->controls[i]);
		client = calloc(1, sizeof(*client));
		if (!client)
			_exit(1);
		client->stores = stores;
		client->n_stores = n_stores;
		client->number = number;
		client->result = &crew->results[number];
		client_process(client, fds[1]);
	}
	(void)close(fds[1]);
	return crew->pids[number] < 0 ? bench_error("fork: %s", strerror(errno)) : 0;
}

static int await(const struct crew *crew, unsigned n)
{
	int status = 0;

	for (unsigned i = 0; i < n; i++) {
		uint8_t failed;

		if (recv(crew->controls[i], &failed, sizeof(failed), 0) != sizeof(failed))
			status = bench_error("a client process died");
		else if (failed)
			status = 1;
	}
	return status;
}

int crew_start(struct crew *crew, unsigned clients, struct store *stores, unsigned n_stores)
{
	size_t bytes = clients * sizeof(*crew->results);
	void *results = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*crew = (struct crew){ .clients = clients };
	if (results == MAP_FAILED)
		return bench_error("out of memory");
	crew->results = results;
	for (unsigned i = 0; i < clients; i++)
		if (start_client(crew, i, stores, n_stores) != 0)
			return 1;
	return await(crew, clients);
}

void crew_stop(struct crew *crew)
{
	for (unsigned i = 0; i < crew->clients; i++)
		if (crew->pids[i] > 0)
			crew->controls[i] = close_fd(crew->controls[i]);
	for (unsigned i = 0; i < crew->clients; i++)
		if (crew->pids[i] > 0)
			(void)waitpid(crew->pids[i], NULL, 0);
	if (crew->results)
		(void)munmap(crew->results, crew->clients * sizeof(*crew->results));
	*crew = (struct crew){ 0 };
}

int crew_do(struct crew *crew, const struct crew_command *command)
{
	for (unsigned i = 0; i < command->clients; i++)
		if (send(crew->controls[i], command, sizeof(*command), MSG_NOSIGNAL) != sizeof(*command))
			return bench_error("a client process died");
	return await(crew, command->clients);
}
