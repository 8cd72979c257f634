/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lays the sources over each other, each value with its origin, and checks last what needs more
 * than one value.
 */
#include "daemon/config.h"

#include "daemon/config-file.h"
#include "daemon/config-table.h"
#include "daemon/host/inet.h"
#include "daemon/tier/log.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* Fields that are texts point at the value's. */
static void keep_text(struct config *config, const struct setting *setting, const char *text)
{
	bool is_text = setting->type == SETTING_SOCKET_PATH || setting->type == SETTING_METRICS_SOCKET ||
		       setting->type == SETTING_ADDRESS || setting->type == SETTING_DIRECTORY ||
		       setting->type == SETTING_FILE;

	if (is_text)
		*(const char **)(void *)((char *)&config->fields + setting->offset) = text;
}

/* Sets one value. subject stands before the message: what a person must look for to correct it. */
static int set_value(struct config *config, int index, const char *text, const char *origin,
		     int exit_status, const char *subject, struct host_error *error)
{
	const struct setting *setting = &settings[index];
	struct config_value *value = &config->values[index];
	_cleanup_free_ char *new_text = NULL, *new_origin = NULL;
	char problem[HOST_ERROR_TEXT_BYTES / 2];

	if (setting_parse(setting, text, &config->fields, problem, sizeof(problem)) < 0)
		return host_error_set(error, exit_status, "%s: %s", subject, problem);
	new_text = strdup(text);
	new_origin = strdup(origin);
	if (!new_text || !new_origin) {
		(void)host_error_set(error, HOST_EXIT_FAILURE, "out of memory");
		return -ENOMEM;
	}
	free(value->text);
	free(value->origin);
	*value = (struct config_value){ .text = take_ptr(new_text),
					.origin = take_ptr(new_origin) };
	keep_text(config, setting, value->text);
	return 0;
}

static int take_default(struct config *config, int index, struct host_error *error)
{
	return set_value(config, index, settings[index].initial, "default", HOST_EXIT_FAILURE,
			 settings[index].name, error);
}

static int take_file_line(void *context, int index, const char *text, const char *origin,
			  struct host_error *error)
{
	char subject[PATH_MAX + 16 + CONFIG_NAME_BYTES_MAX];

	(void)snprintf(subject, sizeof(subject), "%s: %s", origin, settings[index].name);
	return set_value(context, index, text, origin, HOST_EXIT_CONFIG, subject, error);
}

static int take_environment(struct config *config, int index, struct host_error *error)
{
	char name[CONFIG_NAME_BYTES_MAX], origin[CONFIG_NAME_BYTES_MAX + 16];
	const char *text = getenv(setting_environment_name(&settings[index], name));

	if (!text)
		return 0;
	(void)snprintf(origin, sizeof(origin), "environment %s", name);
	return set_value(config, index, text, origin, HOST_EXIT_CONFIG, name, error);
}

static int take_argument(struct config *config, int index, const char *text,
			 struct host_error *error)
{
	char name[CONFIG_NAME_BYTES_MAX], origin[CONFIG_NAME_BYTES_MAX + 16],
		subject[CONFIG_NAME_BYTES_MAX + 2];

	if (!text)
		return 0;
	(void)setting_option_name(&settings[index], name);
	(void)snprintf(origin, sizeof(origin), "argument --%s", name);
	(void)snprintf(subject, sizeof(subject), "--%s", name);
	return set_value(config, index, text, origin, HOST_EXIT_USAGE, subject, error);
}

static int take_files(struct config *config, const char *path, struct host_error *error)
{
	char directory[PATH_MAX];
	int r;

	if ((size_t)snprintf(directory, sizeof(directory), "%s.d",
			     path ? path : CONFIG_PATH_DEFAULT) >= sizeof(directory))
		return host_error_set(error, HOST_EXIT_CONFIG, "%s: the path is too long", path);
	r = config_file_read(path ? path : CONFIG_PATH_DEFAULT, /* optional= */ !path,
			     take_file_line, config, error);
	if (r < 0)
		return r;
	return config_directory_read(directory, take_file_line, config, error);
}

static int check_lease_times(const struct config *config, struct host_error *error)
{
	int low = setting_find("lease", "ttl_ms");
	int high = setting_find("lease", "ttl_ms_max");

	if (config->fields.lease_ttl_ms <= config->fields.lease_ttl_ms_max)
		return 0;
	return host_error_set(error, HOST_EXIT_CONFIG, "%s: %s: %s is above %s = %s (%s)",
			      config->values[low].origin, settings[low].name,
			      config->values[low].text, settings[high].name,
			      config->values[high].text, config->values[high].origin);
}

/* Who reads metrics is not asked who he is: other machines must be let in by name. */
static int check_listen(const struct config *config, struct host_error *error)
{
	int listen = setting_find("metrics", "listen");
	struct inet_address address;

	if (config->fields.metrics_listen[0] == '\0' || config->fields.metrics_listen_any ||
	    inet_parse(config->fields.metrics_listen, &address) < 0 || inet_is_loopback(&address))
		return 0;
	return host_error_set(error, HOST_EXIT_CONFIG,
			      "%s: %s: other machines could reach %s; if they may, set metrics.listen_any = yes",
			      config->values[listen].origin, settings[listen].name, config->values[listen].text);
}

static int check_tier(const struct config *config, struct host_error *error)
{
	int bytes = setting_find("tier", "bytes"), segment = setting_find("tier", "segment_bytes");
	const struct config_fields *fields = &config->fields;

	if (fields->tier_dir[0] == '\0' || fields->tier_bytes / TIER_SEGMENTS_MIN >= fields->tier_segment_bytes)
		return 0;
	return host_error_set(error, HOST_EXIT_CONFIG, "%s: %s: %s is less than three times %s = %s (%s)",
			      config->values[bytes].origin, settings[bytes].name, config->values[bytes].text,
			      settings[segment].name, config->values[segment].text, config->values[segment].origin);
}

/* Only what has no name can be sealed. */
static int check_arena_path(const struct config *config, struct host_error *error)
{
	int path = setting_find("arena", "path");

	if (config->fields.arena_path[0] == '\0' || config->fields.arena_seal != CONFIG_SEAL_STRICT)
		return 0;
	return host_error_set(error, HOST_EXIT_CONFIG,
			      "%s: %s: a file cannot be sealed, so it cannot go with arena.seal = strict",
			      config->values[path].origin, settings[path].name);
}

/* What needs two values. */
static int check_together(const struct config *config, struct host_error *error)
{
	int r = check_lease_times(config, error);

	if (r == 0)
		r = check_arena_path(config, error);
	if (r == 0)
		r = check_listen(config, error);
	return r < 0 ? r : check_tier(config, error);
}

int config_load(const struct config_sources *sources, struct config **ret_config,
		struct host_error *error)
{
	_cleanup_(config_freep) struct config *config = calloc(1, sizeof(*config));
	int r = 0;

	if (!config) {
		(void)host_error_set(error, HOST_EXIT_FAILURE, "out of memory");
		return -ENOMEM;
	}
	for (int i = 0; r == 0 && i < CONFIG_SETTINGS; i++)
		r = take_default(config, i, error);
	if (r == 0)
		r = take_files(config, sources->path, error);
	for (int i = 0; r == 0 && i < CONFIG_SETTINGS; i++)
		r = take_environment(config, i, error);
	for (int i = 0; r == 0 && i < CONFIG_SETTINGS; i++)
		r = take_argument(config, i, sources->arguments[i], error);
	if (r == 0)
		r = check_together(config, error);
	if (r < 0)
		return r;
	*ret_config = take_ptr(config);
	return 0;
}

struct config *config_free(struct config *config)
{
	if (!config)
		return NULL;
	for (int i = 0; i < CONFIG_SETTINGS; i++) {
		free(config->values[i].text);
		free(config->values[i].origin);
	}
	free(config);
	return NULL;
}

void config_print(const struct config *config, FILE *stream)
{
	for (int i = 0; i < CONFIG_SETTINGS; i++)
		(void)fprintf(stream, "%s =%s%s   # %s\n", settings[i].name,
			      config->values[i].text[0] ? " " : "", config->values[i].text,
			      config->values[i].origin);
}

void config_items(const struct config *config, struct core_config_item *items)
{
	for (int i = 0; i < CONFIG_SETTINGS; i++)
		items[i] = (struct core_config_item){
			.key = settings[i].name,
			.value = config->values[i].text,
			.origin = config->values[i].origin,
		};
}

size_t config_log_level_index(void)
{
	return (size_t)setting_find("log", "level");
}

bool config_differs(const struct config *a, const struct config *b, size_t index)
{
	return strcmp(a->values[index].text, b->values[index].text) != 0;
}

void config_take_log_level(struct config *config, struct config *from)
{
	size_t index = config_log_level_index();
	struct config_value old = config->values[index];

	config->fields.log_level = from->fields.log_level;
	config->values[index] = from->values[index];
	from->values[index] = old;
}

struct core_limits config_core_limits(const struct config *config)
{
	const struct config_fields *fields = &config->fields;

	return (struct core_limits){
		.sessions_max = (uint32_t)fields->sessions,
		.sessions_per_uid_max = (uint32_t)fields->sessions_per_uid,
		.staging_bytes_max = fields->staging_bytes,
		.staging_bytes_per_uid_max = fields->staging_bytes_per_uid,
		.pinned_bytes_per_uid_max = fields->pinned_bytes_per_uid,
		.pins_max = (uint32_t)fields->pins_max,
		.pins_per_uid_max = (uint32_t)fields->pins_per_uid,
		.pin_grace_ms = (uint32_t)fields->pin_grace_ms,
		.lease_ttl_ms = (uint32_t)fields->lease_ttl_ms,
		.lease_ttl_ms_max = (uint32_t)fields->lease_ttl_ms_max,
		.partial_ttl_ms = (uint32_t)fields->partial_ttl_ms,
		.keep_ttl_ms_max = fields->keep_ttl_ms_max,
		.hello_ttl_ms = (uint32_t)fields->hello_ttl_ms,
		.slice_bytes = (uint32_t)fields->slice_bytes,
		.events_kept = (uint32_t)fields->events_kept,
		.restart_grace_ms = (uint32_t)fields->restart_grace_ms,
	};
}
