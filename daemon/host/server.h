/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop: it serves connections and signals, and between them gives the core its slices and its
 * time. One turn:
 *
 *   timers -> one slice of queued work -> settle -> poll -> requests -> settle -> ...
 *
 * "Settle" is where what the core asked for is done: replies leave, sessions end, reading stops or
 * goes on. A stop runs through
 *
 *   RUNNING -> DRAINING -> CLOSING
 *
 * DRAINING: no new connections but for metrics; queued work is finished, replies leave. CLOSING: everything is
 * closed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "daemon/config.h"
#include "daemon/core/core.h"
#include "daemon/host/activation.h"
#include "daemon/host/http-server.h"
#include "daemon/host/listener.h"
#include "daemon/host/log.h"
#include "daemon/host/notify.h"
#include "daemon/host/pressure-watch.h"
#include "daemon/host/segment.h"
#include "daemon/host/tier.h"
#include "daemon/host/vigil.h"

struct server_options {
	const struct config *config;
	const struct core_config_item *items; /* what clients are told; CONFIG_SETTINGS */
	struct log *log;
	const struct segment *arena;
	bool recover; /* the arena is one that another process left */
	struct activation *activation; /* the sockets that are the server's are taken from it */
	void (*reload)(void *context); /* at SIGHUP */
	void *context;
};

enum server_state { SERVER_RUNNING, SERVER_DRAINING, SERVER_CLOSING };

/* Fields are for the files of the host only. */
struct server {
	uv_loop_t loop;
	uv_idle_t work; /* active while there is work to do without waiting */
	struct vigil vigil;
	uv_prepare_t before_poll;
	uv_check_t after_poll;
	uv_timer_t deadline; /* the core's */
	uv_timer_t drain;
	uv_signal_t signals[3];
	struct listener listener;
	struct http_server http;
	struct notify notify;
	struct pressure_watch pressure;
	struct core *core;
	struct host_tier tier;
	const struct config *config;
	struct log *log;
	const struct segment *arena;
	bool recovered;
	void (*reload)(void *context);
	void *context;
	enum server_state state;
	bool work_queued;         /* perhaps: the core was asked for something, or said so itself */
	uint64_t deadline_ns;     /* what the timer is set to; UINT64_MAX: not set */
	uint64_t turn_begin_ns;   /* 0: nothing has happened in this turn */
	uint64_t turns_cpu_ns; /* of this thread, at the end of the last turn */
	uint64_t sessions_opened; /* numbers them */
	struct list sessions;
	struct list dirty; /* sessions to settle */
	struct list ready; /* sessions that hold requests which wait for their turn */
};

/*
 * The core laid out in the arena, listening. All options outlive the server. Results: 0, -ENOMEM or
 * -EINVAL, and *error.
 */
int server_new(const struct server_options *options, struct server **ret_server,
	       struct host_error *error);

/* Where it listens, for people. */
const char *server_socket_name(const struct server *server);

/* Serves until it is stopped by a signal. */
void server_run(struct server *server);

/* Must have run to its end, or never. NULL is fine; returns NULL. */
struct server *server_free(struct server *server);
DEFINE_CLEANUP(struct server *, server_free);

/*
 * For each callback of the loop, first of all: marks the begin of the turn's work. Returns the
 * time.
 */
uint64_t server_turn(struct server *server);
