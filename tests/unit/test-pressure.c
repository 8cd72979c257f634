/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory pressure does to the arena: the decision alone, and with the loop and a core, where the kernel's sign is
 * played by a byte out of band on a socket, an exceptional condition like it.
 */
#include "tests/lib/core-rig.h"
#include "tests/lib/harness.h"

#include "base/units.h"
#include "daemon/host/pressure-watch.h"
#include "daemon/host/server.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE (16 * GIB)
#define NOW (1000 * NS_PER_S)

/* The arena holds what it may, and all of it is touched. */
static struct pressure_sight full(uint64_t held)
{
	return (struct pressure_sight){ .held_bytes = held, .touched_bytes = held, .asked_bytes = SIZE };
}

static uint64_t sign(struct pressure *pressure, struct pressure_sight sight, uint64_t s)
{
	return pressure_next(pressure, PRESSURE_SIGN, &sight, NOW + s * NS_PER_S);
}

static uint64_t calm(struct pressure *pressure, struct pressure_sight sight, uint64_t s)
{
	return pressure_next(pressure, PRESSURE_TIME, &sight, NOW + s * NS_PER_S);
}

static void test_less_at_every_sign(void **state)
{
	struct pressure pressure;
	uint64_t held = SIZE;

	pressure_init(&pressure, SIZE, 10 * GIB);
	assert_int_equal(pressure_due_ns(&pressure), UINT64_MAX);
	for (unsigned s = 0; s < 10; s++) {
		uint64_t wanted = sign(&pressure, full(held), 2 * s);

		assert_int_equal(wanted, held > 10 * GIB ? held - GIB : 10 * GIB);
		held = wanted;
	}
	assert_int_equal(held, 10 * GIB);
}

/* Not while the last step is not done, and not at once again. */
static void test_one_step_at_a_time(void **state)
{
	struct pressure pressure;

	pressure_init(&pressure, SIZE, 0);
	assert_int_equal(sign(&pressure, full(SIZE), 0), 15 * GIB);
	assert_int_equal(sign(&pressure, full(15 * GIB), 0), 15 * GIB);
	assert_int_equal(sign(&pressure, full(SIZE), 5), 15 * GIB);
	assert_int_equal(sign(&pressure, full(15 * GIB), 6), 14 * GIB);
}

/* What was never touched gives nothing back. */
static void test_from_what_is_touched(void **state)
{
	struct pressure pressure;
	struct pressure_sight sight = full(SIZE);

	pressure_init(&pressure, SIZE, 0);
	sight.touched_bytes = 9 * GIB;
	assert_int_equal(sign(&pressure, sight, 0), 8 * GIB);
	pressure_init(&pressure, SIZE, 0);
	sight.touched_bytes = GIB;
	assert_int_equal(sign(&pressure, sight, 0), 4 * GIB);
	pressure_init(&pressure, SIZE, 0);
	sight = full(6 * GIB);
	sight.asked_bytes = 6 * GIB;
	assert_int_equal(sign(&pressure, sight, 0), 5 * GIB);
	/* Nothing to gain. */
	pressure_init(&pressure, SIZE, 8 * GIB);
	assert_int_equal(sign(&pressure, sight, 0), PRESSURE_NONE);
	assert_int_equal(pressure_due_ns(&pressure), UINT64_MAX);
}

static void test_more_after_calm(void **state)
{
	struct pressure pressure;
	struct pressure_sight sight = full(SIZE);

	pressure_init(&pressure, SIZE, 0);
	(void)sign(&pressure, full(SIZE), 0);
	(void)sign(&pressure, full(15 * GIB), 2);
	(void)sign(&pressure, full(14 * GIB), 4);
	assert_int_equal(pressure_due_ns(&pressure), NOW + 64 * NS_PER_S);
	assert_int_equal(calm(&pressure, sight, 63), 13 * GIB);
	assert_int_equal(calm(&pressure, sight, 64), 14 * GIB);
	assert_int_equal(pressure_due_ns(&pressure), NOW + 74 * NS_PER_S);
	/* A sign begins it anew, and takes what came back. */
	assert_int_equal(sign(&pressure, full(14 * GIB), 70), 13 * GIB);
	assert_int_equal(calm(&pressure, sight, 74), 13 * GIB);
	assert_int_equal(calm(&pressure, sight, 130), 14 * GIB);
	assert_int_equal(calm(&pressure, sight, 140), 15 * GIB);
	assert_int_equal(calm(&pressure, sight, 150), PRESSURE_NONE);
	assert_int_equal(pressure_due_ns(&pressure), UINT64_MAX);
	assert_int_equal(calm(&pressure, sight, 160), PRESSURE_NONE);
}

/* It grows no further than what was asked for. */
static void test_a_request_bounds_it(void **state)
{
	struct pressure pressure;
	struct pressure_sight sight = full(SIZE);

	pressure_init(&pressure, SIZE, 0);
	(void)sign(&pressure, full(SIZE), 0);
	sight.asked_bytes = 8 * GIB;
	assert_int_equal(calm(&pressure, sight, 61), PRESSURE_NONE);
}

/* ---- With the loop ---- */

#define ARENA (64 * MIB)

struct scene {
	struct rig rig;
	struct config config;
	struct log log;
	struct segment arena;
	struct server server;
	int sender;
};

/* A connection over the loopback: the receiving end. */
static int connection_open(int *ret_sender)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t n = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int receiver;

	*ret_sender = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, n), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
	assert_int_equal(connect(*ret_sender, (struct sockaddr *)&address, n), 0);
	receiver = accept(listener, NULL, NULL);
	assert_true(receiver >= 0);
	assert_int_equal(close(listener), 0);
	return receiver;
}

static void scene_open(struct scene *scene)
{
	struct segment_arena_options options = { .bytes = ARENA, .prefault = true };
	struct host_error error;

	memset(scene, 0, sizeof(*scene));
	rig_start(&scene->rig, ARENA, 0, NULL);
	log_init(&scene->log, STDERR_FILENO, LOG_LEVEL_INFO);
	assert_int_equal(segment_create_arena(&options, &scene->log, &scene->arena, &error), 0);
	scene->server.config = &scene->config;
	scene->server.log = &scene->log;
	scene->server.arena = &scene->arena;
	scene->server.core = scene->rig.core;
	assert_int_equal(uv_loop_init(&scene->server.loop), 0);
	pressure_watch_fd(&scene->server.pressure, &scene->server, connection_open(&scene->sender));
}

static void on_handle(uv_handle_t *handle, void *context)
{
	uv_close(handle, NULL);
}

static void scene_close(struct scene *scene)
{
	pressure_watch_close(&scene->server.pressure);
	uv_walk(&scene->server.loop, on_handle, NULL);
	assert_int_equal(uv_run(&scene->server.loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&scene->server.loop), 0);
	uv_library_shutdown(); /* its pipe for signals */
	assert_int_equal(close(scene->sender), 0);
	segment_close(&scene->arena);
	rig_stop(&scene->rig);
}

static void test_a_sign_makes_it_smaller(void **state)
{
	struct scene scene;
	uint64_t held;

	scene_open(&scene);
	assert_int_equal(core_held_bytes(scene.rig.core), ARENA);
	assert_int_equal(send(scene.sender, "!", 1, MSG_OOB), 1);
	(void)uv_run(&scene.server.loop, UV_RUN_ONCE);
	assert_true(scene.server.pressure.pressure.wanted == ARENA - ARENA / 16);
	for (unsigned i = 0; i < 100; i++) {
		scene.rig.now_ns = uv_hrtime() + i;
		core_tick(scene.rig.core, scene.rig.now_ns);
	}
	held = core_held_bytes(scene.rig.core);
	assert_int_equal(held, ARENA - ARENA / 16);
	assert_int_equal(rig_counter(rig_connect(&scene.rig, 0, 1, 0), "pressure_watched"), 1);
	scene_close(&scene);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_less_at_every_sign),
		cmocka_unit_test(test_one_step_at_a_time),
		cmocka_unit_test(test_from_what_is_touched),
		cmocka_unit_test(test_more_after_calm),
		cmocka_unit_test(test_a_request_bounds_it),
		cmocka_unit_test(test_a_sign_makes_it_smaller),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
