/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libuv's order in one turn is: timers, idle, prepare, poll (with the callbacks of I/O), check,
 * closing. The idle handle is active only while something can be done without waiting; that also
 * keeps the poll from waiting, as does another one for a moment after requests (vigil.h).
 */
#include "daemon/host/server.h"

#include "base/cleanup.h"
#include "base/contract.h"
#include "base/units.h"
#include "daemon/host/random.h"
#include "daemon/host/session.h"
#include "kvpaged-version.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Work goes on for so long before sockets are looked at; one slice may take longer. */
#define WORK_NS_MAX (50 * NS_PER_US)

#define SIGNALS (sizeof(((struct server *)NULL)->signals) / sizeof(uv_signal_t))

uint64_t server_turn(struct server *server)
{
	uint64_t now_ns = uv_hrtime();

	if (server->turn_begin_ns == 0)
		server->turn_begin_ns = now_ns;
	return now_ns;
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail for the calling thread */
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* --- between polls ------------------------------------------------------------------- */

static void settle(struct server *server)
{
	uint64_t now_ns = list_empty(&server->dirty) ? 0 : uv_hrtime();
	struct list *node;

	while ((node = list_first(&server->dirty)))
		session_settle(list_entry(node, struct session, dirty), now_ns);
}

/*
 * Each session that waits gets one turn; one that then waits again stands at the end for the next.
 */
static void resume_sessions(struct server *server, uint64_t now_ns)
{
	struct list waiting = LIST_INIT(waiting);
	struct list *node;

	while ((node = list_first(&server->ready))) {
		list_unlink(node);
		list_push_back(&waiting, node);
	}
	while ((node = list_first(&waiting)))
		session_resume(list_entry(node, struct session, ready), now_ns);
}

/* Slices of queued work until there is no more, or others have waited long enough. */
static void on_work(uv_idle_t *idle)
{
	struct server *server = idle->data;
	uint64_t begin_ns = server_turn(server);
	uint64_t now_ns = begin_ns;

	while (server->work_queued && now_ns - begin_ns < WORK_NS_MAX) {
		server->work_queued = core_run(server->core, now_ns);
		now_ns = uv_hrtime();
	}
	resume_sessions(server, now_ns);
}

static void on_deadline(uv_timer_t *timer)
{
	struct server *server = timer->data;

	server->deadline_ns = UINT64_MAX;
	core_tick(server->core, server_turn(server));
}

static void set_deadline(struct server *server)
{
	uint64_t deadline_ns = core_deadline_ns(server->core);
	uint64_t now_ns;

	if (deadline_ns == server->deadline_ns)
		return;
	server->deadline_ns = deadline_ns;
	if (deadline_ns == UINT64_MAX) {
		(void)uv_timer_stop(&server->deadline);
		return;
	}
	now_ns = uv_hrtime();
	uv_update_time(&server->loop);
	(void)uv_timer_start(&server->deadline, on_deadline,
			     deadline_ns > now_ns ? (deadline_ns - now_ns) / NS_PER_MS + 1 : 0, 0);
}

static void set_work(struct server *server)
{
	if (server->work_queued || !list_empty(&server->ready))
		(void)uv_idle_start(&server->work, on_work);
	else
		(void)uv_idle_stop(&server->work);
}

/* --- the end ------------------------------------------------------------------------- */

static void on_walk(uv_handle_t *handle, void *context)
{
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void close_all(struct server *server)
{
	if (server->state == SERVER_CLOSING)
		return;
	server->state = SERVER_CLOSING;
	host_tier_close(&server->tier); /* what waits for it is answered */
	listener_close(&server->listener);
	http_server_close(&server->http);
	pressure_watch_close(&server->pressure);
	list_for_each_safe(node, after, &server->sessions)
		session_close(list_entry(node, struct session, node));
	uv_walk(&server->loop, on_walk, NULL); /* the server's own handles are what is left */
}

static bool is_drained(const struct server *server)
{
	if (server->work_queued || !list_empty(&server->ready) || !core_stopped(server->core))
		return false;
	list_for_each(node, &server->sessions)
		if (outq_bytes(&list_entry(node, struct session, node)->outq) > 0)
			return false;
	return true;
}

static void on_drain_over(uv_timer_t *timer)
{
	struct server *server = timer->data;

	log_message(server->log, MESSAGE_STOP_HURRIED, "stopping: not everything was done within stop.drain_ms");
	close_all(server);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
	struct server *server = handle->data;

	(void)server_turn(server);
	if (server->state != SERVER_RUNNING) {
		log_message(server->log, MESSAGE_STOP_HURRIED, "stopping at once (a second signal)");
		close_all(server);
		return;
	}
	log_message(server->log, MESSAGE_STOPPING, "stopping (SIG%s)", sigabbrev_np(number));
	notify_stopping(&server->notify, server->config->fields.drain_ms);
	server->state = SERVER_DRAINING;
	listener_close(&server->listener);
	core_stop(server->core);
	(void)uv_timer_start(&server->drain, on_drain_over, server->config->fields.drain_ms, 0);
}

static void on_reload_signal(uv_signal_t *handle, int number)
{
	struct server *server = handle->data;

	(void)server_turn(server);
	notify_reloading();
	server->reload(server->context);
	notify_ready(&server->notify);
}

/* --- the loop ------------------------------------------------------------------------ */

/*
 * The clock alone cannot tell our own work from what a busy machine takes in between. CPU time since the end of
 * the turn before includes the polls between them, which is little; it costs one system call a turn instead of
 * two.
 */
static void note_turn(struct server *server)
{
	uint64_t cpu_ns = thread_cpu_ns();

	core_note_turn(server->core, uv_hrtime() - server->turn_begin_ns, cpu_ns - server->turns_cpu_ns);
	server->turns_cpu_ns = cpu_ns;
}

static void on_before_poll(uv_prepare_t *prepare)
{
	struct server *server = prepare->data;

	settle(server);
	if (server->state == SERVER_DRAINING && is_drained(server)) {
		close_all(server);
		return;
	}
	set_work(server);
	set_deadline(server);
	if (!uv_is_active((const uv_handle_t *)&server->work))
		vigil_begin(&server->vigil);
	if (server->turn_begin_ns > 0)
		note_turn(server);
	server->turn_begin_ns = 0;
}

static void on_after_poll(uv_check_t *check)
{
	struct server *server = check->data;

	settle(server);
	set_work(server);
}

/* None of these can fail: they only link handles into the loop. */
static void init_handles(struct server *server)
{
	(void)uv_idle_init(&server->loop, &server->work);
	vigil_init(&server->vigil, &server->loop, (uint32_t)server->config->fields.spin_us);
	(void)uv_prepare_init(&server->loop, &server->before_poll);
	(void)uv_check_init(&server->loop, &server->after_poll);
	(void)uv_timer_init(&server->loop, &server->deadline);
	(void)uv_timer_init(&server->loop, &server->drain);
	server->work.data = server;
	server->before_poll.data = server;
	server->after_poll.data = server;
	server->deadline.data = server;
	server->drain.data = server;
	(void)uv_prepare_start(&server->before_poll, on_before_poll);
	(void)uv_check_start(&server->after_poll, on_after_poll);
}

static int start_signals(struct server *server)
{
	static const struct {
		int number;
		uv_signal_cb callback;
	} wanted[SIGNALS] = {
		{ SIGTERM, on_stop_signal },
		{ SIGINT, on_stop_signal },
		{ SIGHUP, on_reload_signal },
	};

	for (size_t i = 0; i < SIGNALS; i++) {
		int r = uv_signal_init(&server->loop, &server->signals[i]);

		if (r < 0)
			return r;
		server->signals[i].data = server;
		r = uv_signal_start(&server->signals[i], wanted[i].callback, wanted[i].number);
		if (r < 0)
			return r;
	}
	return 0;
}

static void tell_recovery(struct server *server, uint64_t begin_ns)
{
	const struct core_recovery *recovery = core_recovery(server->core);
	char bytes[16];

	log_message(server->log, MESSAGE_ARENA_KEPT,
		    "arena taken over in %" PRIu64 " ms: %" PRIu32 " blocks in %" PRIu32 " spaces, %s of pages; "
		    "%" PRIu32 " unfinished ones are dropped",
		    (uv_hrtime() - begin_ns) / NS_PER_MS, recovery->blocks, recovery->spaces,
		    units_format_bytes(recovery->stored_bytes, bytes, sizeof(bytes)), recovery->unfinished);
	if (recovery->damaged || recovery->spaces_damaged)
		log_message(server->log, MESSAGE_ARENA_DAMAGED,
			    "%" PRIu32 " blocks and %" PRIu32 " spaces of the arena are damaged, and dropped",
			    recovery->damaged, recovery->spaces_damaged);
}

static int start_core(struct server *server, const struct core_config_item *items, struct host_error *error)
{
	struct core_options options = {
		.arena = server->arena->memory,
		.arena_bytes = server->arena->bytes,
		.fixed = server->config->fields.arena_seal == CONFIG_SEAL_STRICT,
		.recover = server->recovered,
		.blocks_max = (uint32_t)server->config->fields.arena_blocks,
		.now_ns = uv_hrtime(),
		.version = KVPAGED_VERSION,
		.mrc_samples = (uint32_t)server->config->fields.mrc_samples,
		.tier = server->tier.tier,
		.tier_admit = server->config->fields.tier_admit == CONFIG_ADMIT_ALL ? CORE_TIER_ADMIT_ALL
										    : CORE_TIER_ADMIT_READ,
		.tier_free_percent = (uint32_t)server->config->fields.tier_free_percent,
		.limits = config_core_limits(server->config),
		.host = &session_effects,
		.context = server,
		.config = items,
		.n_config = CONFIG_SETTINGS,
	};
	int r;

	r = random_incarnation(&options.incarnation);
	if (r == 0)
		r = random_u64(&options.hash_seed);
	if (r == 0)
		r = random_u64(&options.secret);
	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "no random numbers: %s", strerror(-r));
	r = core_new(&options, &server->core);
	if (r == -EINVAL)
		return host_error_set(
			error, HOST_EXIT_CONFIG,
			"arena.bytes leaves no room for pages beside the tables for arena.blocks");
	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "cannot lay out the arena: %s", strerror(-r));
	if (server->recovered)
		tell_recovery(server, options.now_ns);
	return 0;
}

static int start_listener(struct server *server, int passed_fd, struct host_error *error)
{
	const struct config_fields *fields = &server->config->fields;
	struct socket_options options = {
		.passed_fd = passed_fd,
		.path = fields->socket_path,
		.mode = (mode_t)fields->socket_mode,
		.owner = (uid_t)fields->socket_owner, /* UINT64_MAX becomes -1: unchanged */
		.group = (gid_t)fields->socket_group,
		.backlog = (int)fields->socket_backlog,
	};

	return listener_open(&server->listener, server, &options, error);
}

int server_new(const struct server_options *options, struct server **ret_server, struct host_error *error)
{
	_cleanup_(server_freep) struct server *server = NULL;
	_cleanup_close_ int passed_fd = -1;
	struct server *fresh = calloc(1, sizeof(*fresh));
	int r = fresh ? uv_loop_init(&fresh->loop) : -ENOMEM;

	if (r < 0) {
		free(fresh);
		return host_error_set(error, HOST_EXIT_FAILURE, "cannot make the loop: %s", strerror(-r));
	}
	server = fresh;
	server->config = options->config;
	server->log = options->log;
	server->arena = options->arena;
	server->recovered = options->recover;
	server->reload = options->reload;
	server->context = options->context;
	server->deadline_ns = UINT64_MAX;
	list_init(&server->sessions);
	list_init(&server->dirty);
	list_init(&server->ready);
	init_handles(server);
	r = host_tier_open(&server->tier, &server->config->fields, server->arena, &server->loop, server->log, error);
	if (r == 0)
		r = start_core(server, options->items, error);
	if (r < 0)
		return r;
	r = start_signals(server);
	if (r < 0)
		return host_error_set(error, HOST_EXIT_FAILURE, "cannot watch signals: %s", strerror(-r));
	if (server->config->fields.arena_pressure)
		pressure_watch_open(&server->pressure, server);
	/* Clients come last: who finds their socket finds a daemon that has all it needs. */
	passed_fd = activation_take(options->activation, ACTIVATION_RPC);
	r = http_server_open(&server->http, server, options->activation, passed_fd, error);
	if (r == 0)
		r = start_listener(server, take_fd(&passed_fd), error);
	if (r < 0)
		return r;
	notify_init(&server->notify, server);
	*ret_server = take_ptr(server);
	return 0;
}

const char *server_socket_name(const struct server *server)
{
	return server->listener.socket.name;
}

void server_run(struct server *server)
{
	notify_ready(&server->notify);
	server->turns_cpu_ns = thread_cpu_ns();
	(void)uv_run(&server->loop, UV_RUN_DEFAULT);
	kvp_assert(server->state == SERVER_CLOSING);
}

struct server *server_free(struct server *server)
{
	int r;

	if (!server)
		return NULL;
	close_all(server);
	(void)uv_run(&server->loop, UV_RUN_DEFAULT);
	r = uv_loop_close(&server->loop);
	kvp_assert(r == 0);
	kvp_assert(list_empty(&server->sessions));
	server->core = core_free(server->core);
	host_tier_free(&server->tier);
	free(server);
	return NULL;
}
