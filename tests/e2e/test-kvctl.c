/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl as a program: exit statuses, what goes to which stream, files in and out, and names that would harm a terminal.
 * The daemon is real; blocks come from .npy files made here byte by byte.
 */
#include "tests/e2e/kvctl-rig.h"

#include "base/cleanup.h"
#include "client/kvclient.h"
#include "tests/lib/process.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t read_file(const char *path, void *buffer, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, buffer, size);
	assert_true(n >= 0);
	return (size_t)n;
}

static void test_usage(void **state)
{
	static const struct {
		const char *words;
		const char *message;
	} cases[] = {
		{ "frobnicate", "unknown verb 'frobnicate'" },
		{ "--frobnicate", "unknown option '--frobnicate'" },
		{ "ls", "ls needs SPACE" },
		{ "ls a b", "does not take 'b'" },
		{ "get a b", "-o PREFIX" },
		{ "put a b", "--k FILE" },
		{ "rm a", "--all" },
		{ "rm --all a b", "not both" },
		{ "evict", "one of --bytes, --blocks and --all" },
		{ "evict --all --blocks 3", "one of" },
		{ "evict --bytes 12EiB", "--bytes wants a size" },
		{ "evict --blocks -3", "--blocks wants a whole number" },
		{ "evict --blocks", "needs a value" },
		{ "evict --all=yes", "takes no value" },
		{ "resize", "resize needs SIZE" },
		{ "resize much", "resize wants a size" },
		{ "stats --watch=0", "--watch wants" },
		{ "stats --count 3", "--watch" },
		{ "--timeout 1y status", "--timeout wants a time" },
		{ "--timeout 5000000000 doctor", "--timeout is too large" },
		{ "--timeout 5000000000 status", "--timeout is too large" },
		{ "get s k -o x --dtype bf16", "--dtype" },
		{ "put s k --k x --codec q7", "--codec wants one of" },
		{ "rm s hex:", "hex digits" },
		{ "rm s hex:0", "hex digits" },
		{ "rm s hex:zz", "hex digits" },
		{ "rm s aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "longer than 64 bytes" },
		{ "help frobnicate", "unknown verb" },
		{ "why s", "why needs SPACE KEY" },
		{ "events --after x", "--after wants a whole number" },
		{ "top --interval", "needs a value" },
		{ "top --interval 1.2345", "--interval wants" },
		{ "top --interval 99999999999999999999.5", "too large" },
		{ "bench --codec q7", "--codec wants one of" },
		{ "bench --seconds 601", "--seconds" },
		{ "completion tcsh", "bash, zsh and fish" },
		{ "doctor --arena-bytes 1XiB", "--arena-bytes wants a size" },
	};
	struct shell *shell = calloc(1, sizeof(*shell));

	assert_non_null(shell);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(kvctl(shell, cases[i].words), 2);
		assert_contains(shell->err, cases[i].message);
		assert_true(strncmp(shell->err, "kvctl: ", 7) == 0);
		/* The problem, not the whole help. */
		assert_ptr_equal(strchr(shell->err, '\n'), shell->err + strlen(shell->err) - 1);
		assert_string_equal(shell->out, "");
	}
	free(shell);
}

static void test_help_and_version(void **state)
{
	static const char *const verbs[] = { "status", "top",	 "stats", "spaces", "ls",	  "why",
					     "events", "get",	 "put",	  "rm",	    "evict",	  "resize", "health",
					     "doctor", "bench",	 "config", "completion", "help" };
	struct shell *shell = calloc(1, sizeof(*shell));
	char words[64];

	assert_non_null(shell);
	assert_int_equal(kvctl(shell, "--version"), 0);
	assert_true(strncmp(shell->out, "kvctl ", 6) == 0);
	assert_int_equal(kvctl(shell, "--help"), 0);
	assert_string_equal(shell->err, "");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		(void)snprintf(words, sizeof(words), "\n  %s ", verbs[i]);
		assert_int_equal(kvctl(shell, "-h"), 0);
		assert_contains(shell->out, words);
		(void)snprintf(words, sizeof(words), "%s --help", verbs[i]);
		assert_int_equal(kvctl(shell, words), 0);
		assert_contains(shell->out, "Usage: kvctl ");
	}
	free(shell);
}

static void test_unreachable(void **state)
{
	struct shell *shell = calloc(1, sizeof(*shell));

	assert_non_null(shell);
	assert_int_equal(chdir(harness_directory()), 0);
	assert_int_equal(unsetenv("KVPAGED_SOCKET"), 0);
	assert_int_equal(kvctl(shell, "--socket ./nothing status"), 69);
	assert_contains(shell->err, "cannot connect");
	assert_string_equal(shell->out, "");
	assert_int_equal(kvctl(shell, "health --socket ./nothing --json"), 69);
	assert_contains(shell->out, "\"healthy\":false");
	write_file("plain", "x", 1, NULL, 0);
	assert_int_equal(kvctl(shell, "spaces --socket ./plain"), 69);
	assert_int_equal(setenv("KVPAGED_SOCKET", "./nothing", 1), 0);
	assert_int_equal(kvctl(shell, "ls space"), 69);
	free(shell);
}

static void test_put_get(void **state)
{
	struct shell *shell = shell_open();
	_cleanup_free_ uint8_t *file = malloc(VALUES * 4 + 1024);
	double error = 0;
	float value;
	size_t n;

	assert_non_null(file);
	write_pair();
	assert_int_equal(kvctl(shell, "put s key --k k.npy --v v.npy --model m --codec f32"), 0);
	assert_string_equal(shell->out, "");
	assert_int_equal(kvctl(shell, "put s key --k k.npy --v v.npy"), 0);
	assert_contains(shell->out, "present already");
	assert_int_equal(kvctl(shell, "get s key -o back"), 0);
	for (unsigned which = 0; which < 2; which++) {
		n = read_file(which ? "back.v.npy" : "back.k.npy", file, VALUES * 4 + 1024);
		assert_true(n > VALUES * 4 && (n - VALUES * 4) % 64 == 0);
		assert_non_null(memmem(file, n, "'shape': (3, 2, 20, 16), }", 26));
		for (size_t i = 0; i < VALUES; i++) {
			memcpy(&value, file + n - VALUES * 4 + i * 4, 4);
			assert_true(value == value_at(i, which));
		}
	}
	/* One layer, and a codec that is not exact. */
	assert_int_equal(kvctl(shell, "put t key --k k.npy --v v.npy --model m --codec q8"), 0);
	assert_int_equal(kvctl(shell, "get t key -o part --layer 1 --json"), 0);
	assert_contains(shell->out, "\"shape\":[1,2,20,16]");
	n = read_file("part.k.npy", file, VALUES * 4 + 1024);
	for (size_t i = 0; i < VALUES / LAYERS; i++) {
		memcpy(&value, file + n - VALUES / LAYERS * 4 + i * 4, 4);
		error += fabs((double)value - (double)value_at(VALUES / LAYERS + i, 0));
	}
	assert_true(error > 0 && error / (VALUES / LAYERS) < 0.02);
	assert_int_equal(kvctl(shell, "get t key -o part --layer 3"), 2);
	assert_int_equal(kvctl(shell, "get t key -o part --layer 1:3"), 2);
	assert_int_equal(kvctl(shell, "get t key -o nowhere/part"), 1);
	shell_close(shell);
}

static void test_half_precision(void **state)
{
	static const char header[] = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 1, 2, 8)}";
	static const uint16_t values[16] = { 0x3c00, 0xbc00, 0x0001, 0x7bff, 0x8000, 0x3555, 0x4248, 0x0400,
					     0x3c01, 0xfbff, 0x0000, 0x2e66, 0x5640, 0xd640, 0x1000, 0x3800 };
	struct shell *shell = shell_open();
	uint8_t file[256];
	size_t n;

	write_npy("k.npy", 2, header, values, sizeof(values));
	assert_int_equal(kvctl(shell, "put s key --k k.npy --model m --codec f16 --block-tokens 16"), 0);
	assert_int_equal(kvctl(shell, "spaces --json"), 0);
	assert_contains(shell->out, "\"dtype\":\"f16\",\"layers\":1,\"kv_heads\":1,\"head_dim_k\":8,\"head_dim_v\":0,"
				    "\"block_tokens\":16,\"codec_k\":\"f16\"");
	assert_int_equal(kvctl(shell, "get s key -o back --dtype f16"), 0);
	n = read_file("back.k.npy", file, sizeof(file));
	assert_memory_equal(file + n - sizeof(values), values, sizeof(values));
	assert_int_equal(access("back.v.npy", F_OK), -1);
	shell_close(shell);
}

static void test_npy_refused(void **state)
{
	static const struct {
		const char *header;
		const char *message;
	} headers[] = {
		{ "{'descr': '>f4', 'fortran_order': False, 'shape': (3, 2, 20, 16), }", "not little-endian" },
		{ "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2, 20, 16), }", "not little-endian" },
		{ "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2, 20, 16), }", "Fortran" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 20, 17), }", "size is not" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 320), }", "3 dimensions" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 2, 20, 16), }", "more than 4" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2, 20, 16), }", "empty" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 2, 20, 16), }", "bad 'shape'" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 1, 1), }", "too large" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 2, 20, 16), }",
		  "bad 'shape'" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "no dimensions" },
		{ "{'descr': '<f4', 'fortran_order': False, }", "lacks" },
		{ "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 20, 16), }", "repeated" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 20, 16), 'x': 1}", "unknown" },
		{ "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 20, 16), } x", "malformed" },
		{ "'descr'", "not a dict" },
		{ "", "not a dict" },
	};
	struct shell *shell = shell_open();
	float values[VALUES] = { 0 };

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		write_npy("bad.npy", 1, headers[i].header, values, sizeof(values));
		assert_int_equal(kvctl(shell, "put s key --k bad.npy --model m"), 1);
		assert_contains(shell->err, headers[i].message);
		assert_contains(shell->err, "bad.npy");
	}
	write_npy("bad.npy", 3, SHAPE_HEADER, values, sizeof(values));
	assert_int_equal(kvctl(shell, "put s key --k bad.npy --model m"), 1);
	assert_contains(shell->err, "version");
	write_file("bad.npy", "\x93NUMPY\x01\x00\xff\xff{", 11, NULL, 0);
	assert_int_equal(kvctl(shell, "put s key --k bad.npy --model m"), 1);
	write_file("bad.npy", "PK", 2, NULL, 0);
	assert_int_equal(kvctl(shell, "put s key --k bad.npy --model m"), 1);
	assert_contains(shell->err, "not a .npy file");
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(kvctl(shell, "put s key --k fifo --model m"), 1);
	assert_int_equal(kvctl(shell, "put s key --k missing.npy --model m"), 1);
	assert_contains(shell->err, "No such file");
	/* Nothing of all this reached the daemon. */
	assert_int_equal(kvctl(shell, "spaces --json"), 0);
	assert_string_equal(shell->out, "[]\n");
	shell_close(shell);
}

static void test_put_refused(void **state)
{
	struct shell *shell = shell_open();
	float values[VALUES] = { 0 };

	write_pair();
	assert_int_equal(kvctl(shell, "put s key --k k.npy --v v.npy"), 3);
	assert_int_equal(kvctl(shell, "put s key --k k.npy --v v.npy --model m --block-tokens 19"), 1);
	assert_contains(shell->err, "20 tokens");
	/* The space was not registered in passing. */
	assert_int_equal(kvctl(shell, "rm --all s"), 3);
	assert_int_equal(kvctl(shell, "put s key --k k.npy --v v.npy --model m"), 0);
	assert_int_equal(kvctl(shell, "put s key2 --k k.npy --v v.npy --model other"), 1);
	assert_contains(shell->err, "model");
	assert_int_equal(kvctl(shell, "put s key2 --k k.npy"), 1);
	assert_contains(shell->err, "channels of V");
	assert_int_equal(kvctl(shell, "put s key2 --k k.npy --v v.npy --parent nobody"), 3);
	assert_contains(shell->err, "parent");
	values[((1 * HEADS + 1) * TOKENS + 7) * DIM + 5] = NAN;
	write_npy("nan.npy", 1, SHAPE_HEADER, values, sizeof(values));
	assert_int_equal(kvctl(shell, "put s key2 --k k.npy --v nan.npy"), 1);
	assert_contains(shell->err, "V of layer 1, head 1, token 7, channel 5");
	shell_close(shell);
}

static void test_keys_and_ls(void **state)
{
	struct shell *shell = shell_open();

	write_pair();
	assert_int_equal(kvctl(shell, "put s plain --k k.npy --v v.npy --model m"), 0);
	assert_int_equal(kvctl(shell, "put s hex:00ff1b --k k.npy --v v.npy --parent plain"), 0);
	/* Bytes that would read as hex: are shown as hex. */
	assert_int_equal(kvctl(shell, "put s hex:6865783a3030 --k k.npy --v v.npy --parent hex:00ff1b"), 0);
	assert_int_equal(kvctl(shell, "ls s"), 0);
	assert_contains(shell->out, "\nplain ");
	assert_contains(shell->out, "\nhex:00ff1b ");
	assert_contains(shell->out, "\nhex:6865783a3030 ");
	assert_int_equal(kvctl(shell, "ls s --json --limit 1"), 0);
	assert_contains(shell->out, "\"key_hex\":");
	assert_null(strstr(shell->out, "},{"));
	assert_int_equal(kvctl(shell, "ls s --json"), 0);
	assert_contains(shell->out, "{\"key\":\"plain\",\"key_hex\":\"706c61696e\",\"tokens\":20,");
	assert_int_equal(kvctl(shell, "ls nothing"), 3);
	assert_string_equal(shell->err, "kvctl: nothing: no such space\n");
	/* A removed block takes its descendants along. */
	assert_int_equal(kvctl(shell, "rm s absent hex:00ff1b --json"), 3);
	assert_contains(shell->out, "\"removed\":1,\"missing\":1");
	assert_contains(shell->err, "absent");
	assert_int_equal(kvctl(shell, "ls s --json"), 0);
	assert_null(strstr(shell->out, "hex:"));
	shell_close(shell);
}

static void test_hostile_names(void **state)
{
	struct shell *shell = shell_open();
	static const char hostile[] = "s\x1b[2Jx";
	struct kvc_options options = { .struct_bytes = sizeof(options), .socket_path = shell->daemon.socket_path };
	struct kvc_schema schema = {
		.model = "caf\xc3\xa9",
		.dtype = KVC_F32,
		.layers = 1,
		.kv_heads = 1,
		.head_dim_k = 8,
		.codec_k = KVC_CODEC_Q8,
		.codec_v = KVC_CODEC_Q8,
	};
	kvc_client *client;
	kvc_space *space;
	char words[64];

	(void)snprintf(words, sizeof(words), "ls %s", hostile);
	assert_int_not_equal(kvctl(shell, words), 0);
	assert_null(strchr(shell->err, '\x1b'));
	assert_contains(shell->err, "\\x1b[2Jx");
	assert_int_equal(kvctl(shell, "\x1b[31m"), 2);
	assert_null(strchr(shell->err, '\x1b'));
	assert_int_equal(kvc_open(&options, &client, NULL, 0), KVC_OK);
	assert_int_equal(kvc_space_open(client, "clean", &schema, &space), KVC_OK);
	assert_int_equal(kvctl(shell, "spaces"), 0);
	assert_contains(shell->out, "caf\xc3\xa9");
	assert_int_equal(kvctl(shell, "rm --all clean"), 75);
	client = kvc_close(client);
	assert_int_equal(kvctl(shell, "rm --all clean"), 0);
	shell_close(shell);
}

static void test_numbers_agree(void **state)
{
	struct shell *shell = shell_open();

	write_pair();
	assert_int_equal(kvctl(shell, "put s a --k k.npy --v v.npy --model m --codec f16"), 0);
	assert_int_equal(kvctl(shell, "put s b --k k.npy --v v.npy --parent a"), 0);
	assert_int_equal(kvctl(shell, "stats --json"), 0);
	assert_contains(shell->out, "\"blocks\":2,");
	assert_contains(shell->out, "\"logical_f32_bytes\":30720,");
	assert_contains(shell->out, "\"stored_bytes\":15360,");
	assert_int_equal(kvctl(shell, "status --json"), 0);
	assert_contains(shell->out, "\"arena_bytes\":67108864,");
	assert_contains(shell->out, "\"tokens\":40,");
	assert_int_equal(kvctl(shell, "stats"), 0);
	assert_contains(shell->out, "stored_bytes ");
	assert_contains(shell->out, "encoded page bytes held");
	assert_int_equal(kvctl(shell, "stats --watch=20ms --count 2 --json"), 0);
	assert_contains(shell->out, "}\n{");
	assert_int_equal(kvctl(shell, "stats -w --count 1"), 0);
	assert_contains(shell->out, "requests/s");
	assert_int_equal(kvctl(shell, "evict --blocks 1 --json"), 0);
	assert_contains(shell->out, "{\"blocks\":1,\"bytes\":7680}");
	assert_int_equal(kvctl(shell, "evict --all --space s"), 0);
	assert_contains(shell->out, "evicted 1 blocks");
	assert_int_equal(kvctl(shell, "evict --all --space t"), 3);
	assert_int_equal(kvctl(shell, "resize 20MiB --json"), 0);
	assert_contains(shell->out, "{\"done\":true,\"bytes\":20971520,\"held_bytes\":20971520,"
				    "\"asked_bytes\":20971520,\"evicted_blocks\":0,");
	assert_string_equal(shell->err, "");
	assert_int_equal(kvctl(shell, "status"), 0);
	assert_contains(shell->out, " free, 44.0 MiB given back\n");
	assert_int_equal(kvctl(shell, "resize --no-wait 33MiB"), 0);
	assert_contains(shell->out, "the arena may take 32.0 MiB");
	assert_contains(shell->err, "33.0 MiB became 32.0 MiB");
	assert_int_equal(kvctl(shell, "resize 64MiB"), 0);
	assert_string_equal(shell->out, "the arena may take 64.0 MiB and takes 64.0 MiB\n");
	assert_int_equal(kvctl(shell, "resize 0"), 1);
	assert_int_equal(kvctl(shell, "resize 65MiB"), 1);
	assert_contains(shell->err, "more than arena.bytes");
	assert_int_equal(kvctl(shell, "config --json"), 0);
	assert_contains(shell->out, "{\"key\":\"arena.bytes\",\"value\":\"64MiB\",\"origin\":\"argument");
	assert_int_equal(kvctl(shell, "health"), 0);
	assert_string_equal(shell->out, "ok\n");
	shell_close(shell);
}

/* Everything that was asked for but could not be written is a failure. */
static void test_full_stdout(void **state)
{
	struct shell *shell = shell_open();
	char *argv[] = { (char *)test_program("KVCTL_BIN"), (char *)"stats", NULL };
	_cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_true(full >= 0);
	assert_int_equal(process_wait(process_start(argv, full, -1), 20000), 1 << 8);
	shell_close(shell);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_usage),	       cmocka_unit_test(test_help_and_version),
	cmocka_unit_test(test_unreachable),    cmocka_unit_test(test_put_get),
	cmocka_unit_test(test_half_precision), cmocka_unit_test(test_npy_refused),
	cmocka_unit_test(test_put_refused),    cmocka_unit_test(test_keys_and_ls),
	cmocka_unit_test(test_hostile_names),  cmocka_unit_test(test_numbers_agree),
	cmocka_unit_test(test_full_stdout),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
