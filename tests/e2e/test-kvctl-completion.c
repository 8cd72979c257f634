/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The completion scripts: bash runs its own as it would for a person, with a real daemon to ask for spaces; zsh and
 * fish parse theirs.
 */
#include "tests/e2e/kvctl-rig.h"

#include "client/kvclient.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Prints what bash would offer for a line, with blanks between. */
#define HARNESS                                                                                                        \
	"kvctl() { \"$KVCTL_BIN\" \"$@\"; }\n"                                                                         \
	"command() { \"$@\"; }\n"                                                                                      \
	"source ./kvctl.bash || exit 9\n"                                                                              \
	"COMP_LINE=$LINE COMP_POINT=${#LINE}\n"                                                                        \
	"_kvctl\n"                                                                                                     \
	"printf '%s|' \"${COMPREPLY[@]}\"\n"

static bool have(const char *program)
{
	return access(program, X_OK) == 0;
}

static void script(struct shell *shell, const char *name, const char *file)
{
	char words[64];

	(void)snprintf(words, sizeof(words), "completion %s", name);
	assert_int_equal(kvctl(shell, words), 0);
	write_file(file, shell->out, strlen(shell->out), NULL, 0);
}

static void complete(struct shell *shell, const char *line)
{
	char *argv[] = { (char *)"/bin/bash", (char *)"--norc", (char *)"-c", (char *)HARNESS, NULL };

	print_message("completing: %s\n", line);
	assert_int_equal(setenv("LINE", line, 1), 0);
	assert_int_equal(shell_run(shell, argv), 0);
	assert_string_equal(shell->err, "");
}

static void test_bash(void **state)
{
	char *syntax[] = { (char *)"/bin/bash", (char *)"-n", (char *)"./kvctl.bash", NULL };
	struct shell *shell;

	if (!have("/bin/bash"))
		harness_skip("there is no bash");
	shell = shell_open();
	script(shell, "bash", "kvctl.bash");
	assert_int_equal(shell_run(shell, syntax), 0);
	assert_string_equal(shell->err, "");
	complete(shell, "kvctl sta");
	assert_string_equal(shell->out, "status|stats|");
	complete(shell, "kvctl --json heal");
	assert_string_equal(shell->out, "health|");
	complete(shell, "kvctl --timeout 3s sp");
	assert_string_equal(shell->out, "spaces|");
	complete(shell, "kvctl top --i");
	assert_string_equal(shell->out, "--interval|");
	complete(shell, "kvctl ls --");
	assert_contains(shell->out, "--limit|");
	assert_contains(shell->out, "--socket|");
	assert_null(strstr(shell->out, "--interval|"));
	complete(shell, "kvctl put s k --codec t4");
	assert_string_equal(shell->out, "t4|t4g32|t4g16|");
	complete(shell, "kvctl completion ");
	assert_string_equal(shell->out, "bash|zsh|fish|");
	complete(shell, "kvctl help wh");
	assert_string_equal(shell->out, "why|");
	write_file("file one", "", 0, NULL, 0);
	complete(shell, "kvctl put s k --k file");
	assert_string_equal(shell->out, "file one|");
	complete(shell, "kvctl ls s ");
	assert_string_equal(shell->out, "|"); /* nothing */
	shell_close(shell);
}

static void open_space(kvc_client *client, const char *name)
{
	struct kvc_schema schema = { .model = "m",
				     .dtype = KVC_F32,
				     .layers = 1,
				     .kv_heads = 1,
				     .head_dim_k = 8,
				     .codec_k = KVC_CODEC_Q8,
				     .codec_v = KVC_CODEC_Q8 };
	kvc_space *space;

	assert_int_equal(kvc_space_open(client, name, &schema, &space), KVC_OK);
}

/* Names that a shell would take apart come back as one word; those behind a ':' without what bash keeps. */
static void test_spaces(void **state)
{
	struct kvc_options options = { .struct_bytes = sizeof(options) };
	struct shell *shell;
	kvc_client *client;
	char line[256];

	if (!have("/bin/bash"))
		harness_skip("there is no bash");
	shell = shell_open();
	script(shell, "bash", "kvctl.bash");
	options.socket_path = shell->daemon.socket_path;
	assert_int_equal(kvc_open(&options, &client, NULL, 0), KVC_OK);
	open_space(client, "alpha");
	open_space(client, "al pha; $(x)");
	open_space(client, "org:model");
	complete(shell, "kvctl ls alp");
	assert_string_equal(shell->out, "alpha|");
	complete(shell, "kvctl rm al");
	assert_contains(shell->out, "al\\ pha\\;\\ \\$\\(x\\)|");
	complete(shell, "kvctl why org:m");
	assert_string_equal(shell->out, "model|");
	complete(shell, "kvctl events --space alp");
	assert_string_equal(shell->out, "alpha|");
	assert_int_equal(setenv("KVPAGED_SOCKET", "./nothing", 1), 0);
	complete(shell, "kvctl ls alp");
	assert_string_equal(shell->out, "|");
	(void)snprintf(line, sizeof(line), "kvctl -s %s ls alp", shell->daemon.socket_path);
	complete(shell, line);
	assert_string_equal(shell->out, "alpha|");
	(void)kvc_close(client);
	shell_close(shell);
}

static void parse(const char *program, const char *name, const char *file)
{
	char *argv[] = { (char *)program, (char *)"-n", (char *)file, NULL };
	struct shell *shell;

	if (!have(program))
		harness_skip("this shell is not installed");
	shell = shell_alone();
	script(shell, name, file);
	assert_contains(shell->out, "kvctl");
	assert_int_equal(shell_run(shell, argv), 0);
	assert_string_equal(shell->err, "");
	free(shell);
}

static void test_zsh(void **state)
{
	parse("/usr/bin/zsh", "zsh", "./_kvctl");
}

static void test_fish(void **state)
{
	parse("/usr/bin/fish", "fish", "./kvctl.fish");
}

/* fish tells what it would offer. */
static void test_fish_offers(void **state)
{
	char *argv[] = { (char *)"/usr/bin/fish", (char *)"--no-config", (char *)"-c",
			 (char *)"source ./kvctl.fish; complete -C 'kvctl sta'; complete -C 'kvctl ls --li'", NULL };
	struct shell *shell;

	if (!have("/usr/bin/fish"))
		harness_skip("there is no fish");
	shell = shell_alone();
	assert_int_equal(setenv("HOME", harness_directory(), 1), 0);
	script(shell, "fish", "./kvctl.fish");
	assert_int_equal(shell_run(shell, argv), 0);
	assert_contains(shell->out, "status\tShow the daemon at a glance");
	assert_contains(shell->out, "--limit\t");
	free(shell);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_bash), cmocka_unit_test(test_spaces),	 cmocka_unit_test(test_zsh),
	cmocka_unit_test(test_fish), cmocka_unit_test(test_fish_offers),
};

int main(void)
{
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
