/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: what each source may say, the exact text of every refusal, and which source
 * wins.
 */
#include "tests/lib/harness.h"

#include "base/cleanup.h"
#include "base/units.h"
#include "daemon/config-table.h"
#include "daemon/config.h"
#include "daemon/host/log.h"
#include "daemon/options.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY 65534
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct host_error error;

static const char *path_of(const char *name)
{
	static char paths[8][256];
	static unsigned next;
	char *path = paths[next++ % 8];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", harness_directory(), name);
	return path;
}

static const char *write_bytes(const char *name, const void *bytes, size_t n)
{
	const char *path = path_of(name);
	FILE *stream = fopen(path, "w");

	assert_non_null(stream);
	assert_int_equal(fwrite(bytes, 1, n, stream), n);
	assert_int_equal(fclose(stream), 0);
	assert_int_equal(chmod(path, 0644), 0);
	return path;
}

static const char *write_file(const char *name, const char *text)
{
	return write_bytes(name, text, strlen(text));
}

static struct config *load(const char *path)
{
	struct config_sources sources = { .path = path };
	struct config *config;

	memset(&error, 0, sizeof(error));
	if (config_load(&sources, &config, &error) == 0)
		return config;
	return NULL;
}

/* For sources that are in order. */
static struct config *load_good(const char *path)
{
	struct config *config = load(path);

	if (!config) {
		fail_msg("%s", error.text);
		abort(); /* the compiler does not know that fail_msg() does not return */
	}
	return config;
}

/* The whole text, with the harness's directory taken out. */
static void assert_refused(const char *path, int exit_status, const char *expected)
{
	char full[1024];

	assert_null(load(path));
	(void)snprintf(full, sizeof(full), "%s/%s", harness_directory(), expected);
	assert_string_equal(error.text, full);
	assert_int_equal(error.exit_status, exit_status);
}

static void test_table_is_whole(void **state)
{
	for (int i = 0; i < CONFIG_SETTINGS; i++) {
		char name[CONFIG_NAME_BYTES_MAX];

		assert_non_null(settings[i].section);
		assert_non_null(settings[i].help);
		assert_int_equal(setting_find(settings[i].section, settings[i].key), i);
		(void)snprintf(name, sizeof(name), "%s.%s", settings[i].section, settings[i].key);
		assert_string_equal(settings[i].name, name);
	}
}

static void test_defaults(void **state)
{
	_cleanup_(config_freep) struct config *config = load_good(write_file("c", ""));

	assert_int_equal(config->fields.arena_bytes, GIB);
	assert_string_equal(config->fields.socket_path, "/run/kvpaged/kvpaged.sock");
	assert_int_equal(config->fields.socket_mode, 0660);
	assert_true(config->fields.socket_owner == UINT64_MAX);
	assert_int_equal(config->fields.lease_ttl_ms_max, 600000);
	assert_int_equal(config->fields.log_level, LOG_LEVEL_INFO);
	assert_int_equal(config->fields.n_allow_uids, 0);
	for (int i = 0; i < CONFIG_SETTINGS; i++)
		assert_string_equal(config->values[i].origin, "default");
}

static void test_file_is_read(void **state)
{
	const char *path = write_file(
		"c", "\xef\xbb\xbf# comment\n; comment\n\n[arena]\nbytes = 64MiB ; inline\n  "
		     "prefault: yes\r\n"
		     "[socket]\npath=/run/with space/s\nmode = 0600\nowner = 12\ngroup = root\n"
		     "[access]\nallow_uids = 0, 1000 ,root\n[log]\nlevel=debug");
	_cleanup_(config_freep) struct config *config = load_good(path);
	char origin[300];

	assert_int_equal(config->fields.arena_bytes, 64 * MIB);
	assert_int_equal(config->fields.arena_prefault, 1);
	assert_string_equal(config->fields.socket_path, "/run/with space/s");
	assert_int_equal(config->fields.socket_mode, 0600);
	assert_int_equal(config->fields.socket_owner, 12);
	assert_int_equal(config->fields.socket_group, 0);
	assert_int_equal(config->fields.n_allow_uids, 3);
	assert_int_equal(config->fields.allow_uids[1], 1000);
	assert_int_equal(config->fields.allow_uids[2], 0);
	assert_int_equal(config->fields.log_level, LOG_LEVEL_DEBUG);
	(void)snprintf(origin, sizeof(origin), "%s:6", path);
	assert_string_equal(config->values[setting_find("arena", "prefault")].origin, origin);
}

static void test_bad_lines(void **state)
{
	static const struct {
		const char *text;
		const char *expected;
	} cases[] = {
		{ "[arena]\nbyte = 1GiB\n", "c:2: arena.byte: unknown key" },
		{ "\n[arna]\nbytes = 1GiB\n", "c:2: [arna]: unknown section" },
		{ "[arena]\n[empty]\n", "c:2: [empty]: unknown section" },
		{ "bytes = 1GiB\n", "c:1: bytes: stands before the first [section]" },
		{ "[arena]\nbytes = 1GiB\n# x\nbytes = 2GiB\n",
		  "c:4: arena.bytes: set twice, before in line 2" },
		{ "[arena]\nbytes = 1GiB\n[socket]\nmode=0600\n[arena]\nbytes = 1GiB\n",
		  "c:6: arena.bytes: set twice, before in line 2" },
		{ "[arena]\nbytes\n", "c:2: neither a [section] nor a key = value" },
		{ "[arena\nbytes = 1GiB\n", "c:1: neither a [section] nor a key = value" },
		{ "[arena]\nbytes\nbytes = x\n", "c:2: neither a [section] nor a key = value" },
		{ "[arena]\nbytes = x\nbytes\n",
		  "c:2: arena.bytes: 'x' is not a size: digits and B, KiB, MiB, GiB or TiB" },
		{ "[arena]\nbytes = 16EiB\n",
		  "c:2: arena.bytes: '16EiB' is not a size: digits and B, KiB, MiB, GiB or TiB" },
		{ "[arena]\nbytes = 99999999999999999999\n",
		  "c:2: arena.bytes: '99999999999999999999' is too large" },
		{ "[arena]\nbytes = 99999999TiB\n",
		  "c:2: arena.bytes: '99999999TiB' is too large" },
		{ "[arena]\nbytes = -1\n", "c:2: arena.bytes: '-1' is negative" },
		{ "[arena]\nbytes =\n",
		  "c:2: arena.bytes: '' is not a size: digits and B, KiB, MiB, GiB or TiB" },
		{ "[arena]\nbytes = 1 GiB\n",
		  "c:2: arena.bytes: '1 GiB' is not a size: digits and B, KiB, MiB, GiB or TiB" },
		{ "[arena]\nbytes = 4MiB\n",
		  "c:2: arena.bytes: '4MiB' is below the least, which is 8.0 MiB" },
		{ "[arena]\nbytes = 2TiB\n",
		  "c:2: arena.bytes: '2TiB' is above the most, which is 1.0 TiB" },
		{ "[arena]\nbytes = 9MiB\n",
		  "c:2: arena.bytes: '9MiB' is not a multiple of 2.0 MiB" },
		{ "[arena]\nblocks = 4294967296\n",
		  "c:2: arena.blocks: '4294967296' is above the most, which is 4294967295" },
		{ "[arena]\nblocks = 1e3\n", "c:2: arena.blocks: '1e3' is not a whole number" },
		{ "[arena]\nhuge_pages = maybe\n",
		  "c:2: arena.huge_pages: 'maybe' is not one of no, yes, try" },
		{ "[arena]\nprefault = YES\n", "c:2: arena.prefault: 'YES' is not one of no, yes" },
		{ "[socket]\nmode = 0888\n",
		  "c:2: socket.mode: '0888' is not a mode: octal, at most 0777" },
		{ "[socket]\nmode = 1777\n",
		  "c:2: socket.mode: '1777' is not a mode: octal, at most 0777" },
		{ "[socket]\nmode = 77777777777777777777777777\n",
		  "c:2: socket.mode: '77777777777777777777777777' is not a mode: octal, at most "
		  "0777" },
		{ "[socket]\nmode =\n", "c:2: socket.mode: is empty" },
		{ "[socket]\npath =\n", "c:2: socket.path: is empty" },
		{ "[socket]\nowner = no-such-user\n",
		  "c:2: socket.owner: 'no-such-user' is not a user here" },
		{ "[socket]\ngroup = no-such-group\n",
		  "c:2: socket.group: 'no-such-group' is not a group here" },
		{ "[socket]\nowner = 4294967295\n",
		  "c:2: socket.owner: '4294967295' is too large for a user or group number" },
		{ "[access]\nallow_uids = 1,,2\n",
		  "c:2: access.allow_uids: '' is not a user here" },
		{ "[access]\nallow_uids = 1,-2\n",
		  "c:2: access.allow_uids: '-2' is not a user here" },
		{ "[lease]\nttl_ms = 3 weeks\n",
		  "c:2: lease.ttl_ms: '3 weeks' is not a time: digits and ms, s, min or h" },
		{ "[lease]\nttl_ms = 0\n",
		  "c:2: lease.ttl_ms: '0' is below the least, which is 1 ms" },
		{ "[stop]\ndrain_ms = 2h\n",
		  "c:2: stop.drain_ms: '2h' is above the most, which is 3600000 ms" },
		{ "[log]\nlevel = loud\n",
		  "c:2: log.level: 'loud' is not one of error, warning, info, debug" },
		{ "[log]\nlevel = \x1b[31m\n",
		  "c:2: log.level: '\\x1b[31m' has control characters or is not UTF-8" },
		{ "[log]\nlev\x1b"
		  "el = info\n",
		  "c:2: log.lev\\x1bel: unknown key" },
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_refused(write_file("c", cases[i].text), HOST_EXIT_CONFIG, cases[i].expected);
}

static void test_lengths(void **state)
{
	char text[70000];

	/* What fits the address of a socket, and one more. */
	(void)snprintf(text, sizeof(text), "[socket]\npath = /%0106d\n", 0);
	config_free(load_good(write_file("c", text)));
	(void)snprintf(text, sizeof(text), "[socket]\npath = /%0107d\n", 0);
	assert_refused(write_file("c", text), HOST_EXIT_CONFIG,
		       "c:2: socket.path: is 108 bytes long; the path of a socket has at most 107");
	/* A line that inih would cut, in a value and in a comment. */
	(void)snprintf(text, sizeof(text), "[arena]\n#%0196d\nbytes = 1GiB%0190d\n", 0, 0);
	assert_refused(write_file("c", text), HOST_EXIT_CONFIG,
		       "c:3: the line is longer than 198 bytes");
	(void)snprintf(text, sizeof(text), "[arena]\n#%0198d\n", 0);
	assert_refused(write_file("c", text), HOST_EXIT_CONFIG,
		       "c:2: the line is longer than 198 bytes");
	assert_refused(write_bytes("c", "[arena]\n#\0\nbytes = x\n", 21), HOST_EXIT_CONFIG,
		       "c:2: the line has a NUL byte");
	memset(text, '\n', sizeof(text));
	assert_refused(write_bytes("c", text, (64 << 10) + 1), HOST_EXIT_CONFIG,
		       "c: larger than 65536 bytes");
}

static void test_pair(void **state)
{
	char expected[512];

	assert_null(load(write_file("c", "[lease]\nttl_ms_max = 10s\nttl_ms = 11s\n")));
	(void)snprintf(expected, sizeof(expected),
		       "%s:3: lease.ttl_ms: 11s is above lease.ttl_ms_max = 10s (%s:2)",
		       path_of("c"), path_of("c"));
	assert_string_equal(error.text, expected);
}

static void test_unsafe_files(void **state)
{
	const char *path = write_file("c", "");

	assert_int_equal(chmod(path, 0666), 0);
	assert_refused(path, HOST_EXIT_CONFIG, "c: everyone can write it (mode 0666)");
	assert_int_equal(unlink(path), 0);
	assert_refused(path, HOST_EXIT_NOT_CONFIGURED, "c: No such file or directory");
	assert_int_equal(mkdir(path, 0755), 0);
	assert_refused(path, HOST_EXIT_CONFIG, "c: not a regular file");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(path, HOST_EXIT_CONFIG, "c: not a regular file");
}

static void test_foreign_file(void **state)
{
	const char *path = write_file("c", "");

	if (geteuid() != 0)
		harness_skip("only root can give a file away");
	assert_int_equal(chown(path, NOBODY, (gid_t)-1), 0);
	assert_refused(path, HOST_EXIT_CONFIG,
		       "c: belongs to user 65534, neither root nor this process's user");
}

static void test_unreadable_file(void **state)
{
	const char *path = write_file("c", "");
	uid_t before = geteuid();

	assert_int_equal(chmod(path, 0), 0);
	if (before == 0)
		assert_int_equal(seteuid(NOBODY), 0);
	assert_refused(path, HOST_EXIT_CONFIG, "c: Permission denied");
	assert_int_equal(seteuid(before), 0);
}

static void test_drop_ins(void **state)
{
	const char *path = write_file(
		"c", "[arena]\nbytes = 16MiB\nprefault = yes\n[log]\nlevel = error\n");
	_cleanup_(config_freep) struct config *config = NULL;
	int bytes = setting_find("arena", "bytes");

	assert_int_equal(mkdir(path_of("c.d"), 0755), 0);
	(void)write_file("c.d/20-b.conf", "[arena]\nbytes = 32MiB\n");
	(void)write_file("c.d/10-a.conf", "[arena]\nbytes = 64MiB\n[log]\nlevel = warning\n");
	(void)write_file("c.d/30-c.conf.bak", "nonsense\n");
	(void)write_file("c.d/.hidden.conf", "nonsense\n");
	config = load_good(path);
	assert_int_equal(config->fields.arena_bytes, 32 * MIB);
	assert_int_equal(config->fields.arena_prefault, 1);
	assert_int_equal(config->fields.log_level, LOG_LEVEL_WARNING);
	assert_non_null(strstr(config->values[bytes].origin, "c.d/20-b.conf:2"));
	(void)write_file("c.d/40-d.conf", "[arena]\nbytes = 3\n");
	assert_refused(path, HOST_EXIT_CONFIG,
		       "c.d/40-d.conf:2: arena.bytes: '3' is below the least, which is 8.0 MiB");
}

static void test_order_of_sources(void **state)
{
	struct config_sources sources = {
		.path = write_file("c", "[arena]\nbytes = 16MiB\n[log]\nlevel = error\n")
	};
	_cleanup_(config_freep) struct config *config = NULL;
	_cleanup_free_ char *printed = NULL;
	int bytes = setting_find("arena", "bytes");
	size_t n;
	FILE *stream;

	assert_int_equal(setenv("KVPAGED_ARENA_BYTES", "32MiB", 1), 0);
	assert_int_equal(setenv("KVPAGED_LIMITS_SESSIONS_PER_UID", "7", 1), 0);
	sources.arguments[bytes] = "64MiB";
	assert_int_equal(config_load(&sources, &config, &error), 0);
	assert_int_equal(config->fields.arena_bytes, 64 * MIB);
	assert_int_equal(config->fields.sessions_per_uid, 7);
	stream = open_memstream(&printed, &n);
	assert_non_null(stream);
	config_print(config, stream);
	assert_int_equal(fclose(stream), 0);
	assert_non_null(strstr(printed, "arena.bytes = 64MiB   # argument --arena-bytes\n"));
	assert_non_null(strstr(printed, "limits.sessions_per_uid = 7   # environment "
					"KVPAGED_LIMITS_SESSIONS_PER_UID\n"));
	assert_non_null(strstr(printed, "/c:4\n"));
	assert_non_null(strstr(printed, "stop.drain_ms = 5s   # default\n"));
}

static void test_bad_environment(void **state)
{
	assert_int_equal(setenv("KVPAGED_ARENA_BYTES", "lots", 1), 0);
	assert_null(load(write_file("c", "")));
	assert_string_equal(error.text, "KVPAGED_ARENA_BYTES: 'lots' is not a size: digits and B, "
					"KiB, MiB, GiB or TiB");
	assert_int_equal(error.exit_status, HOST_EXIT_CONFIG);
}

static void test_bad_argument(void **state)
{
	struct config_sources sources = { .path = write_file("c", "") };
	struct config *config;

	sources.arguments[setting_find("socket", "mode")] = "9";
	assert_true(config_load(&sources, &config, &error) < 0);
	assert_string_equal(error.text, "--socket-mode: '9' is not a mode: octal, at most 0777");
	assert_int_equal(error.exit_status, HOST_EXIT_USAGE);
}

static void test_reload_takes_the_level_only(void **state)
{
	_cleanup_(config_freep) struct config *config = load_good(
		write_file("c", "[log]\nlevel = error\n"));
	struct config *fresh = load_good(
		write_file("c", "[stop]\ndrain_ms = 1s\n[log]\nlevel = debug\n"));
	size_t drain = (size_t)setting_find("stop", "drain_ms");

	assert_true(config_differs(config, fresh, drain));
	assert_true(config_differs(config, fresh, config_log_level_index()));
	assert_false(config_differs(config, fresh, 0));
	config_take_log_level(config, fresh);
	assert_null(config_free(fresh));
	assert_int_equal(config->fields.log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(config->values[config_log_level_index()].text, "debug");
	assert_string_equal(config->values[drain].text, "5s");
}

static void test_options(void **state)
{
	const char *argv[] = { "kvpaged", "--config",       "f", "--socket=a", "--socket-path",
			       "b",       "--print-config", NULL };
	struct options options;

	assert_int_equal(options_parse((int)COUNT(argv) - 1, (char **)argv, &options, &error), 0);
	assert_int_equal(options.action, OPTIONS_PRINT_CONFIG);
	assert_string_equal(options.sources.path, "f");
	assert_string_equal(options.sources.arguments[setting_find("socket", "path")], "b");
	assert_null(options.sources.arguments[setting_find("arena", "bytes")]);
}

static void test_bad_options(void **state)
{
	static const struct {
		const char *argv[4];
		const char *expected;
	} cases[] = {
		{ { "kvpaged", "--wrong" }, "--wrong: unknown option (--help lists the options)" },
		{ { "kvpaged", "--check-config", "-hx" },
		  "-x: unknown option (--help lists the options)" },
		{ { "kvpaged", "--help=1" },
		  "--help=1: takes no value (--help lists the options)" },
		{ { "kvpaged", "--config" }, "--config: needs a value (--help lists the options)" },
		{ { "kvpaged", "--check-config", "x\n" },
		  "x\\x0a: not an option (--help lists the options)" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct options options;
		int argc = 0;

		while (cases[i].argv[argc])
			argc++;
		assert_true(options_parse(argc, (char **)cases[i].argv, &options, &error) < 0);
		assert_string_equal(error.text, cases[i].expected);
		assert_int_equal(error.exit_status, HOST_EXIT_USAGE);
	}
}

static void test_help_names_everything(void **state)
{
	_cleanup_free_ char *printed = NULL;
	size_t n;
	FILE *stream = open_memstream(&printed, &n);

	assert_non_null(stream);
	options_print_help(stream);
	assert_int_equal(fclose(stream), 0);
	for (int i = 0; i < CONFIG_SETTINGS; i++) {
		char name[CONFIG_NAME_BYTES_MAX];

		assert_non_null(strstr(printed, setting_option_name(&settings[i], name)));
		assert_non_null(strstr(printed, settings[i].help));
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_table_is_whole),
	cmocka_unit_test(test_defaults),
	cmocka_unit_test(test_file_is_read),
	cmocka_unit_test(test_bad_lines),
	cmocka_unit_test(test_lengths),
	cmocka_unit_test(test_pair),
	cmocka_unit_test(test_unsafe_files),
	cmocka_unit_test(test_foreign_file),
	cmocka_unit_test(test_unreadable_file),
	cmocka_unit_test(test_drop_ins),
	cmocka_unit_test(test_order_of_sources),
	cmocka_unit_test(test_bad_environment),
	cmocka_unit_test(test_bad_argument),
	cmocka_unit_test(test_reload_takes_the_level_only),
	cmocka_unit_test(test_options),
	cmocka_unit_test(test_bad_options),
	cmocka_unit_test(test_help_names_everything),
};

int main(void)
{
	return harness_run(tests, COUNT(tests));
}
