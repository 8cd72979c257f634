/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's settings. One table (config-table.c) makes the keys of the file, the names in the
 * environment, the options, the help and what is printed. Later sources win:
 *
 *   defaults < FILE < FILE.d/ *.conf by name < environment < arguments
 *
 * where FILE is /etc/kvpaged/kvpaged.conf or what --config names. Any error in any source
 * refuses the whole; there is no partly applied configuration.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "daemon/core/core.h"
#include "daemon/host/error.h"

#define CONFIG_PATH_DEFAULT "/etc/kvpaged/kvpaged.conf"

#define CONFIG_SETTINGS 52
#define CONFIG_NAME_BYTES_MAX 64 /* of a setting, however it is spelled, with its end */
#define CONFIG_IDS_MAX 64

#define CONFIG_METRICS_AUTO "auto"
#define CONFIG_METRICS_NO "no"

/* What the name of the file that locks arena.path has more. */
#define CONFIG_LOCK_SUFFIX ".lock"

enum config_huge_pages { CONFIG_HUGE_PAGES_NO, CONFIG_HUGE_PAGES_YES, CONFIG_HUGE_PAGES_TRY };
enum config_admit { CONFIG_ADMIT_READ, CONFIG_ADMIT_ALL };
enum config_seal { CONFIG_SEAL_NORMAL, CONFIG_SEAL_STRICT };

/*
 * Numeric fields are 64 bits wide, whatever they mean, so that the table can fill them in; the
 * table bounds them.
 */
struct config_fields {
	uint64_t arena_bytes;
	uint64_t arena_blocks;
	uint64_t arena_huge_pages; /* enum config_huge_pages */
	uint64_t arena_prefault;
	uint64_t arena_seal; /* enum config_seal */
	uint64_t arena_pressure;
	uint64_t arena_bytes_min;
	const char *arena_path; /* "": none */
	const char *socket_path;
	uint64_t socket_mode;
	uint64_t socket_owner; /* UINT64_MAX: unchanged */
	uint64_t socket_group; /* UINT64_MAX: unchanged */
	uint64_t socket_backlog;
	uint64_t sessions;
	uint64_t sessions_per_uid;
	uint64_t staging_bytes;
	uint64_t staging_bytes_per_uid;
	uint64_t pinned_bytes_per_uid;
	uint64_t reply_queue_bytes;
	uint64_t reply_stall_ms;
	uint64_t slice_bytes;
	uint64_t lease_ttl_ms;
	uint64_t lease_ttl_ms_max;
	uint64_t partial_ttl_ms;
	uint64_t keep_ttl_ms_max;
	uint64_t pins_max;
	uint64_t pins_per_uid;
	uint64_t pin_grace_ms;
	uint64_t hello_ttl_ms;
	uint64_t events_kept;
	uint64_t spin_us;
	uint64_t mrc_samples;
	uint64_t drain_ms;
	uint64_t restart_grace_ms;
	const char *metrics_socket; /* a path, CONFIG_METRICS_AUTO or CONFIG_METRICS_NO */
	uint64_t metrics_mode;
	uint64_t metrics_group;     /* UINT64_MAX: unchanged */
	const char *metrics_listen; /* "": none */
	uint64_t metrics_listen_any;
	const char *tier_dir; /* "": no tier */
	uint64_t tier_bytes;
	uint64_t tier_segment_bytes;
	uint64_t tier_blocks;
	uint64_t tier_admit; /* enum config_admit */
	uint64_t tier_free_percent;
	uint64_t tier_write_bytes_per_s; /* 0: no limit */
	uint64_t tier_engine;            /* enum disk_engine_choice */
	uint64_t tier_direct;            /* enum disk_direct */
	uint64_t tier_depth;
	uint64_t log_level; /* enum log_level */
	/* With both lists empty: whoever can open the socket. */
	uid_t allow_uids[CONFIG_IDS_MAX];
	size_t n_allow_uids;
	gid_t allow_gids[CONFIG_IDS_MAX];
	size_t n_allow_gids;
};

struct config_value {
	char *text;
	char *origin; /* "default", "FILE:LINE", "environment NAME", "argument --NAME" */
};

/* values are in the table's order. */
struct config {
	struct config_fields fields;
	struct config_value values[CONFIG_SETTINGS];
};

struct config_sources {
	/* NULL: CONFIG_PATH_DEFAULT, which may be missing; a path that is named may not. */
	const char *path;
	const char *arguments[CONFIG_SETTINGS]; /* by index of the setting; NULL: not given */
};

/*
 * Reads all sources. *ret_config is the caller's, to be freed with config_free(). Results: 0,
 * -ENOMEM (and *error), -EINVAL and *error with a text such as "FILE:LINE: section.key: what is
 * wrong".
 */
int config_load(const struct config_sources *sources, struct config **ret_config,
		struct host_error *error);

/* NULL is fine; returns NULL. */
struct config *config_free(struct config *config);
DEFINE_CLEANUP(struct config *, config_free);

/* One line a setting: "section.key = value   # origin". */
void config_print(const struct config *config, FILE *stream);

/* Points items[CONFIG_SETTINGS] at the config's texts, which must outlive them; keys are static. */
void config_items(const struct config *config, struct core_config_item *items);

/* The index of the setting log.level, the only one that can change while the daemon runs. */
size_t config_log_level_index(void);

/* Whether a setting has another text in the two. */
bool config_differs(const struct config *a, const struct config *b, size_t index);

/* Moves log.level, with its origin, from one to the other, which then must be freed only. */
void config_take_log_level(struct config *config, struct config *from);

/* Limits as the core takes them. */
struct core_limits config_core_limits(const struct config *config);
