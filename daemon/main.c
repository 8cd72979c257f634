/* SPDX-License-Identifier: Apache-2.0 */
/* kvpaged: the order of start-up and its end. The parts are in host/, what it serves in core/. */
#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/config.h"
#include "daemon/host/activation.h"
#include "daemon/host/keep.h"
#include "daemon/host/log.h"
#include "daemon/host/notify.h"
#include "daemon/host/process.h"
#include "daemon/host/server.h"
#include "daemon/options.h"
#include "kvpaged-version.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct daemon {
	struct options options;
	struct config *config;
	struct core_config_item items[CONFIG_SETTINGS];
	struct log log;
	struct activation activation;
};

static void keep_closep(struct keep *keep)
{
	keep_close(keep);
}

static void configp(struct config **config)
{
	*config = config_free(*config);
}

/* SIGHUP: everything is read and checked; only the log's level changes while we run. */
static void reload(void *context)
{
	struct daemon *daemon = context;
	_cleanup_(configp) struct config *fresh = NULL;
	struct host_error error;

	if (config_load(&daemon->options.sources, &fresh, &error) < 0) {
		log_message(&daemon->log, MESSAGE_CONFIG_REFUSED,
			    "configuration not reloaded, everything stays as it is: %s", error.text);
		return;
	}
	for (size_t i = 0; i < CONFIG_SETTINGS; i++)
		if (i != config_log_level_index() && config_differs(daemon->config, fresh, i))
			log_message(&daemon->log, MESSAGE_CONFIG_PENDING,
				    "%s has changed; this takes effect at the next start", daemon->items[i].key);
	config_take_log_level(daemon->config, fresh);
	config_items(daemon->config, daemon->items);
	daemon->log.level = (enum log_level)daemon->config->fields.log_level;
	log_message(&daemon->log, MESSAGE_CONFIG_RELOADED, "configuration reloaded");
}

/* The arena of the process before, or a new one. */
static int find_arena(struct daemon *daemon, struct keep *ret_keep, struct host_error *error)
{
	_cleanup_close_ int stored_fd = activation_take(&daemon->activation, ACTIVATION_ARENA);
	static const enum segment_huge huge[] = {
		[CONFIG_HUGE_PAGES_NO] = SEGMENT_HUGE_NO,
		[CONFIG_HUGE_PAGES_YES] = SEGMENT_HUGE_YES,
		[CONFIG_HUGE_PAGES_TRY] = SEGMENT_HUGE_TRY,
	};
	const struct config_fields *fields = &daemon->config->fields;
	struct keep_options options = {
		.arena = {
			.bytes = fields->arena_bytes,
			.huge = huge[fields->arena_huge_pages],
			.prefault = fields->arena_prefault,
			.progress = notify_allocating,
			.strict = fields->arena_seal == CONFIG_SEAL_STRICT,
		},
		.path = fields->arena_path[0] ? fields->arena_path : NULL,
		.blocks_max = (uint32_t)fields->arena_blocks,
		.stored_fd = stored_fd,
	};

	return keep_open(&options, &daemon->log, ret_keep, error);
}

static int serve(struct daemon *daemon, struct host_error *error)
{
	_cleanup_(keep_closep) struct keep keep = KEEP_NULL;
	_cleanup_(server_freep) struct server *server = NULL;
	struct server_options options = {
		.config = daemon->config,
		.items = daemon->items,
		.log = &daemon->log,
		.arena = &keep.arena,
		.activation = &daemon->activation,
		.reload = reload,
		.context = daemon,
	};
	char bytes[16], metrics[256];
	int r;

	process_prepare();
	r = activation_receive(&daemon->activation, error);
	if (r < 0)
		return r;
	r = find_arena(daemon, &keep, error);
	if (r < 0)
		return r;
	options.recover = keep.recover;
	config_items(daemon->config, daemon->items);
	r = server_new(&options, &server, error);
	if (r < 0)
		return r;
	keep_store(&keep);
	activation_close_rest(&daemon->activation, &daemon->log);
	log_message(&daemon->log, MESSAGE_READY, "kvpaged %s ready: socket %s, arena %s, pid %d%s",
		    KVPAGED_VERSION, server_socket_name(server),
		    units_format_bytes(keep.arena.bytes, bytes, sizeof(bytes)), (int)getpid(),
		    http_server_where(&server->http, metrics, sizeof(metrics)));
	server_run(server);
	log_left_out(&daemon->log);
	log_message(&daemon->log, MESSAGE_STOPPED, "stopped");
	notify_stopped();
	return 0;
}

/* What is printed for a person at the command line. */
static int print_only(const struct daemon *daemon)
{
	switch (daemon->options.action) {
	case OPTIONS_PRINT_CONFIG:
		config_print(daemon->config, stdout);
		break;
	case OPTIONS_CHECK_CONFIG:
		(void)puts("The configuration is valid.");
		break;
	case OPTIONS_VERSION:
		(void)puts("kvpaged " KVPAGED_VERSION);
		break;
	default:
		options_print_help(stdout);
	}
	if (fflush(stdout) == 0)
		return 0;
	(void)fprintf(stderr, "kvpaged: cannot write: %m\n");
	return HOST_EXIT_FAILURE;
}

/* The journal has a form of its own for what a person at a command line reads as one line. */
static int complain(struct daemon *daemon, const struct host_error *error)
{
	if (daemon->log.journal)
		log_message(&daemon->log, MESSAGE_CONFIG_REFUSED, "%s", error->text);
	else
		(void)fprintf(stderr, "kvpaged: %s\n", error->text);
	notify_failed(error->text);
	return error->exit_status;
}

static int run(struct daemon *daemon)
{
	struct host_error error;
	int r;

	daemon->log.level = (enum log_level)daemon->config->fields.log_level;
	r = serve(daemon, &error);
	activation_deinit(&daemon->activation);
	if (r == 0)
		return 0;
	log_message(&daemon->log, MESSAGE_START_FAILED, "%s", error.text);
	notify_failed(error.text);
	return error.exit_status;
}

int main(int argc, char **argv)
{
	struct daemon daemon = { .config = NULL };
	_cleanup_(configp) struct config *config = NULL;
	struct host_error error;

	log_init(&daemon.log, STDERR_FILENO, LOG_LEVEL_INFO);
	if (options_parse(argc, argv, &daemon.options, &error) < 0)
		return complain(&daemon, &error);
	if (daemon.options.action == OPTIONS_HELP || daemon.options.action == OPTIONS_VERSION)
		return print_only(&daemon);
	if (config_load(&daemon.options.sources, &config, &error) < 0)
		return complain(&daemon, &error);
	daemon.config = config;
	return daemon.options.action == OPTIONS_RUN ? run(&daemon) : print_only(&daemon);
}
