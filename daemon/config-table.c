/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One row a setting. A new one is a field in struct config_fields and a row here; keys, options,
 * environment, help and checks follow.
 */
#include "daemon/config-table.h"

#include "base/spin.h"
#include "base/units.h"
#include "daemon/host/disk-open.h"
#include "daemon/host/log.h"
#include "proto/control.h"
#include "proto/layout.h"
#include "proto/limits.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *const no_yes[] = { "no", "yes", NULL };
static const char *const huge_pages[] = { "no", "yes", "try", NULL };
static const char *const seals[] = { "normal", "strict", NULL };

static const char *const admissions[] = { "read", "all", NULL };
static const char *const disk_engines[] = { "auto", "io_uring", "threads", NULL };
static const char *const disk_directs[] = { "auto", "yes", "no", NULL };

#define MS_MAX (UINT64_C(366) * 24 * 3600 * 1000)
#define FIELD(name) offsetof(struct config_fields, name)
#define NAMED(section, key) section, key, section "." key

/* clang-format off */
const struct setting settings[CONFIG_SETTINGS] = {
	{ NAMED("arena", "bytes"), SETTING_BYTES, FIELD(arena_bytes),
	  KVP_ARENA_BYTES_MIN, KVP_ARENA_BYTES_MAX, .multiple = KVP_EXTENT_BYTES, .initial = "1GiB",
	  .help = "size of the arena, a multiple of 2MiB" },
	{ NAMED("arena", "blocks"), SETTING_COUNT, FIELD(arena_blocks),
	  0, UINT32_MAX, .initial = "0",
	  .help = "most blocks that it can index; 0: one for each 64KiB" },
	{ NAMED("arena", "huge_pages"), SETTING_CHOICE, FIELD(arena_huge_pages),
	  .choices = huge_pages, .initial = "no",
	  .help = "take it from the system's pool of 2 MiB pages; try: if there are enough" },
	{ NAMED("arena", "prefault"), SETTING_CHOICE, FIELD(arena_prefault),
	  .choices = no_yes, .initial = "no",
	  .help = "allocate all of it at the start" },
	{ NAMED("arena", "seal"), SETTING_CHOICE, FIELD(arena_seal),
	  .choices = seals, .initial = "normal",
	  .help = "strict: no process, not even a later kvpaged, can map it for writing" },
	{ NAMED("arena", "pressure"), SETTING_CHOICE, FIELD(arena_pressure),
	  .choices = no_yes, .initial = "no",
	  .help = "give memory back while the system is short of it, and take it again when it is not" },
	{ NAMED("arena", "bytes_min"), SETTING_BYTES, FIELD(arena_bytes_min),
	  0, KVP_ARENA_BYTES_MAX, .multiple = KVP_EXTENT_BYTES, .initial = "0",
	  .help = "what arena.pressure leaves to the arena, a multiple of 2MiB; 0: a quarter" },
	{ NAMED("arena", "path"), SETTING_FILE, FIELD(arena_path),
	  .initial = "",
	  .help = "a file on tmpfs or hugetlbfs that holds the arena, to be found again after a restart; empty: memory "
	          "without a name, which systemd keeps" },
	{ NAMED("socket", "path"), SETTING_SOCKET_PATH, FIELD(socket_path),
	  .initial = "/run/kvpaged/kvpaged.sock", .alias = "socket",
	  .help = "where clients connect" },
	{ NAMED("socket", "mode"), SETTING_MODE, FIELD(socket_mode),
	  0, 0777, .initial = "0660",
	  .help = "who may connect, as file permissions (octal)" },
	{ NAMED("socket", "owner"), SETTING_USER, FIELD(socket_owner),
	  .initial = "",
	  .help = "owner of the socket, a name or number; empty: unchanged" },
	{ NAMED("socket", "group"), SETTING_GROUP, FIELD(socket_group),
	  .initial = "",
	  .help = "group of the socket, a name or number; empty: unchanged" },
	{ NAMED("socket", "backlog"), SETTING_COUNT, FIELD(socket_backlog),
	  1, 65535, .initial = "128",
	  .help = "connections that may wait to be accepted" },
	{ NAMED("limits", "sessions"), SETTING_COUNT, FIELD(sessions),
	  1, 65536, .initial = "1024",
	  .help = "open sessions" },
	{ NAMED("limits", "sessions_per_uid"), SETTING_COUNT, FIELD(sessions_per_uid),
	  1, 65536, .initial = "256",
	  .help = "open sessions of one user" },
	{ NAMED("limits", "staging_bytes"), SETTING_BYTES, FIELD(staging_bytes),
	  KVP_STAGING_BYTES_MIN, 16 * GIB, .initial = "64MiB",
	  .help = "staging memory of one session" },
	{ NAMED("limits", "staging_bytes_per_uid"), SETTING_BYTES, FIELD(staging_bytes_per_uid),
	  KVP_STAGING_BYTES_MIN, KVP_ARENA_BYTES_MAX, .initial = "1GiB",
	  .help = "staging memory of one user's sessions" },
	{ NAMED("limits", "pinned_bytes_per_uid"), SETTING_BYTES, FIELD(pinned_bytes_per_uid),
	  0, KVP_ARENA_BYTES_MAX, .initial = "0",
	  .help = "arena memory that one user's leases and pins may hold; 0: half of the arena" },
	{ NAMED("limits", "reply_queue_bytes"), SETTING_BYTES, FIELD(reply_queue_bytes),
	  KVP_FRAME_BYTES_MAX, GIB, .initial = "1MiB",
	  .help = "unread replies from which on a session's requests wait; at four times "
	          "as much it ends" },
	{ NAMED("limits", "reply_stall_ms"), SETTING_MS, FIELD(reply_stall_ms),
	  100, MS_MAX, .initial = "30s",
	  .help = "how long a session may stay above reply_queue_bytes" },
	{ NAMED("limits", "slice_bytes"), SETTING_BYTES, FIELD(slice_bytes),
	  4 * KIB, 64 * MIB, .initial = "256KiB",
	  .help = "bytes copied before other clients get their turn" },
	{ NAMED("lease", "ttl_ms"), SETTING_MS, FIELD(lease_ttl_ms),
	  1, UINT32_MAX, .initial = "30s",
	  .help = "time of a lease when the client names none" },
	{ NAMED("lease", "ttl_ms_max"), SETTING_MS, FIELD(lease_ttl_ms_max),
	  1, UINT32_MAX, .initial = "10min",
	  .help = "longest time of a lease" },
	{ NAMED("reader", "pins_max"), SETTING_COUNT, FIELD(pins_max),
	  KVP_HAZARDS, KVP_HAZARDS * KVP_RECORDS_MAX, .initial = "65536",
	  .help = "blocks that one session may pin without asking" },
	{ NAMED("reader", "pins_per_uid"), SETTING_COUNT, FIELD(pins_per_uid),
	  KVP_HAZARDS, UINT32_MAX, .initial = "262144",
	  .help = "pins of one user's sessions: what scanning for them may cost" },
	{ NAMED("reader", "pin_grace_ms"), SETTING_MS, FIELD(pin_grace_ms),
	  1, UINT32_MAX, .initial = "10s",
	  .help = "a session that pins memory which is wanted, and shows no sign of life for so "
	          "long, ends" },
	{ NAMED("block", "partial_ttl_ms"), SETTING_MS, FIELD(partial_ttl_ms),
	  1, UINT32_MAX, .initial = "60s",
	  .help = "after which a block whose pages do not all come is dropped" },
	{ NAMED("block", "keep_ttl_ms_max"), SETTING_MS, FIELD(keep_ttl_ms_max),
	  1, MS_MAX, .initial = "24h",
	  .help = "longest time of a soft pin" },
	{ NAMED("session", "hello_ttl_ms"), SETTING_MS, FIELD(hello_ttl_ms),
	  1, UINT32_MAX, .initial = "1s",
	  .help = "within which a new session must say hello" },
	{ NAMED("events", "kept"), SETTING_COUNT, FIELD(events_kept),
	  1, 1 << 24, .initial = "16384",
	  .help = "events that are kept for those who follow what happens, 140 bytes each" },
	{ NAMED("loop", "spin_us"), SETTING_COUNT, FIELD(spin_us),
	  0, SPIN_US_MAX, .initial = "50",
	  .help = "stay awake for so long after a request, while the next one usually comes "
	          "within it; 0: sleep at once" },
	{ NAMED("mrc", "samples"), SETTING_COUNT, FIELD(mrc_samples),
	  0, CORE_MRC_SAMPLES_MAX, .initial = "16384",
	  .help = "blocks that are followed to tell the hit rate of other arena sizes, 48 bytes "
	          "each; 0: none" },
	{ NAMED("stop", "drain_ms"), SETTING_MS, FIELD(drain_ms),
	  0, 3600 * 1000, .initial = "5s",
	  .help = "for requests and replies on their way when the daemon stops" },
	{ NAMED("restart", "grace_ms"), SETTING_MS, FIELD(restart_grace_ms),
	  1, UINT32_MAX, .initial = "2s",
	  .help = "after a restart that kept the arena nothing that is removed is used again for so long: clients "
	          "of the process before may be reading it" },
	{ NAMED("access", "allow_uids"), SETTING_UIDS, FIELD(allow_uids),
	  .initial = "",
	  .help = "users that are served, names or numbers with commas; empty, as allow_gids is: whoever "
	          "can open the socket" },
	{ NAMED("access", "allow_gids"), SETTING_GIDS, FIELD(allow_gids),
	  .initial = "",
	  .help = "groups whose members are served too, by their processes' groups" },
	{ NAMED("metrics", "socket"), SETTING_METRICS_SOCKET, FIELD(metrics_socket),
	  .initial = CONFIG_METRICS_AUTO,
	  .help = "where metrics are served over HTTP; auto: the path of the clients' socket and "
	          "\".metrics\"; no: nowhere" },
	{ NAMED("metrics", "mode"), SETTING_MODE, FIELD(metrics_mode),
	  0, 0777, .initial = "0660",
	  .help = "who may read metrics there, as file permissions (octal); access.allow_uids has "
	          "no part in it" },
	{ NAMED("metrics", "group"), SETTING_GROUP, FIELD(metrics_group),
	  .initial = "",
	  .help = "group of that socket, a name or number; empty: unchanged" },
	{ NAMED("metrics", "listen"), SETTING_ADDRESS, FIELD(metrics_listen),
	  .initial = "",
	  .help = "serve metrics on TCP too, for whoever can connect: 127.0.0.1:9464 or "
	          "[::1]:9464; empty: no" },
	{ NAMED("metrics", "listen_any"), SETTING_CHOICE, FIELD(metrics_listen_any),
	  .choices = no_yes, .initial = "no",
	  .help = "let metrics.listen be an address that other machines can reach" },
	{ NAMED("tier", "dir"), SETTING_DIRECTORY, FIELD(tier_dir),
	  .initial = "",
	  .help = "directory on a local disk for blocks that are evicted; empty: they are gone" },
	{ NAMED("tier", "bytes"), SETTING_BYTES, FIELD(tier_bytes),
	  8 * MIB, UINT64_C(1) << 50, .initial = "16GiB",
	  .help = "what the files there may take together; at least three segments" },
	{ NAMED("tier", "segment_bytes"), SETTING_BYTES, FIELD(tier_segment_bytes),
	  2 * MIB, GIB, .multiple = MIB, .initial = "128MiB",
	  .help = "size of each file, and of what is reclaimed at a time; larger than a block" },
	{ NAMED("tier", "blocks"), SETTING_COUNT, FIELD(tier_blocks),
	  1, UINT64_C(1) << 28, .initial = "1048576",
	  .help = "most blocks there; each takes 130 bytes of memory, 8 for each of its pages, and its keys" },
	{ NAMED("tier", "admit"), SETTING_CHOICE, FIELD(tier_admit),
	  .choices = admissions, .initial = "read",
	  .help = "which blocks are worth being written: those that were read at least once, or all" },
	{ NAMED("tier", "free_percent"), SETTING_COUNT, FIELD(tier_free_percent),
	  0, 100, .initial = "25",
	  .help = "write blocks while less than this part of the arena is free; 100: at once" },
	{ NAMED("tier", "write_bytes_per_s"), SETTING_BYTES, FIELD(tier_write_bytes_per_s),
	  0, UINT64_C(1) << 40, .initial = "0",
	  .help = "most that is written in a second, to spare the disk; 0: no limit" },
	{ NAMED("tier", "engine"), SETTING_CHOICE, FIELD(tier_engine),
	  .choices = disk_engines, .initial = "auto",
	  .help = "how it is read and written; auto: io_uring, or threads where that is refused" },
	{ NAMED("tier", "direct"), SETTING_CHOICE, FIELD(tier_direct),
	  .choices = disk_directs, .initial = "auto",
	  .help = "past the page cache (O_DIRECT); auto: where the file system can" },
	{ NAMED("tier", "depth"), SETTING_COUNT, FIELD(tier_depth),
	  1, DISK_DEPTH_MAX, .initial = "64",
	  .help = "transfers under way at once" },
	{ NAMED("log", "level"), SETTING_CHOICE, FIELD(log_level),
	  .choices = log_level_names, .initial = "info",
	  .help = "error, warning, info or debug; read again at SIGHUP" },
};
/* clang-format on */

int setting_find(const char *section, const char *key)
{
	for (int i = 0; i < CONFIG_SETTINGS; i++)
		if (strcmp(settings[i].section, section) == 0 && strcmp(settings[i].key, key) == 0)
			return i;
	return -1;
}

bool setting_section_exists(const char *section)
{
	for (int i = 0; i < CONFIG_SETTINGS; i++)
		if (strcmp(settings[i].section, section) == 0)
			return true;
	return false;
}

char *setting_option_name(const struct setting *setting, char buffer[CONFIG_NAME_BYTES_MAX])
{
	(void)snprintf(buffer, CONFIG_NAME_BYTES_MAX, "%s-%s", setting->section, setting->key);
	for (char *p = buffer; *p; p++)
		if (*p == '_')
			*p = '-';
	return buffer;
}

char *setting_environment_name(const struct setting *setting, char buffer[CONFIG_NAME_BYTES_MAX])
{
	(void)snprintf(buffer, CONFIG_NAME_BYTES_MAX, "KVPAGED_%s_%s", setting->section,
		       setting->key);
	for (char *p = buffer; *p; p++)
		*p = (char)toupper((unsigned char)*p);
	return buffer;
}
