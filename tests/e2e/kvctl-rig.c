/* SPDX-License-Identifier: Apache-2.0 */
/* Running kvctl; see kvctl-rig.h. */
#include "tests/e2e/kvctl-rig.h"

#include "base/cleanup.h"
#include "tests/lib/process.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct shell *shell_alone(void)
{
	struct shell *shell = calloc(1, sizeof(*shell));

	assert_non_null(shell);
	assert_int_equal(chdir(harness_directory()), 0);
	assert_int_equal(unsetenv("KVPAGED_SOCKET"), 0);
	return shell;
}

struct shell *shell_open(void)
{
	struct shell *shell = shell_alone();

	test_daemon_start(&shell->daemon, NULL);
	assert_int_equal(setenv("KVPAGED_SOCKET", shell->daemon.socket_path, 1), 0);
	return shell;
}

void shell_close(struct shell *shell)
{
	test_daemon_stop(&shell->daemon);
	free(shell);
}

int shell_run(struct shell *shell, char *const argv[])
{
	return process_run(argv, shell->out, sizeof(shell->out), shell->err, sizeof(shell->err));
}

int kvctl(struct shell *shell, const char *words)
{
	char *argv[32] = { (char *)test_program("KVCTL_BIN") };
	char text[1024];
	char *rest = text;
	size_t n = 1;

	assert_true(strlen(words) < sizeof(text));
	(void)snprintf(text, sizeof(text), "%s", words);
	for (char *word; (word = strsep(&rest, " "));)
		argv[n++] = word;
	assert_true(n < 32);
	print_message("kvctl %s\n", words);
	return shell_run(shell, argv);
}

void write_file(const char *path, const void *head, size_t n_head, const void *tail, size_t n_tail)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, head, n_head), n_head);
	if (n_tail > 0)
		assert_int_equal(write(fd, tail, n_tail), n_tail);
}

void write_npy(const char *path, char version, const char *header, const void *data, size_t n)
{
	size_t length = strlen(header) + 1;
	uint8_t head[1024];
	size_t at = version == 2 ? 12 : 10;

	assert_true(at + length <= sizeof(head));
	memcpy(head, "\x93NUMPY", 6);
	head[6] = (uint8_t)version;
	head[7] = 0;
	head[8] = (uint8_t)length;
	head[9] = (uint8_t)(length >> 8);
	head[10] = head[11] = 0;
	memcpy(head + at, header, length - 1);
	head[at + length - 1] = '\n';
	write_file(path, head, at + length, data, n);
}

float value_at(size_t i, unsigned which)
{
	return (float)sin((double)i * 0.37 + which) * 3.0f;
}

void write_pair(void)
{
	float values[VALUES];

	for (unsigned which = 0; which < 2; which++) {
		for (size_t i = 0; i < VALUES; i++)
			values[i] = value_at(i, which);
		write_npy(which ? "v.npy" : "k.npy", 1, SHAPE_HEADER, values, sizeof(values));
	}
}
