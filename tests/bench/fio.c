/* SPDX-License-Identifier: Apache-2.0 */
/* Its figures come as fio's terse line: fields between semicolons, whose meaning has not changed since version 3. */
#include "tests/bench/fio.h"

#include "base/cleanup.h"
#include "tests/bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TERSE_VERSION "3"
#define FIELD_READ_KIB_S 6
#define FIELD_WRITE_KIB_S 47
#define OUTPUT_BYTES 8192
#define ARGUMENT_BYTES 512
#define ARGUMENTS 20

struct command {
	char texts[ARGUMENTS][ARGUMENT_BYTES];
	char *argv[ARGUMENTS + 1];
	unsigned n;
};

__attribute__((format(printf, 2, 3))) static void add(struct command *command, const char *format, ...)
{
	char *text = command->texts[command->n];
	va_list list;

	va_start(list, format);
	(void)vsnprintf(text, ARGUMENT_BYTES, format, list);
	va_end(list);
	command->argv[command->n++] = text;
}

__attribute__((noreturn)) static void become(struct command *command, int output)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)dup2(output, STDOUT_FILENO);
	(void)execvp(command->argv[0], command->argv);
	_exit(127);
}

/* All that it prints; 1 when it fails. */
static int run(struct command *command, char output[OUTPUT_BYTES])
{
	int ends[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return 1;
	pid = fork();
	if (pid == 0)
		become(command, ends[1]);
	(void)close(ends[1]);
	while (pid > 0 && (got = read(ends[0], output + n, OUTPUT_BYTES - 1 - n)) > 0)
		n += (size_t)got;
	output[n] = '\0';
	(void)close(ends[0]);
	return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
}

/* The field of the line that begins with the version; NULL: there is none. */
static const char *field_of(const char *output, unsigned field)
{
	const char *at = strstr(output, TERSE_VERSION ";fio");

	for (; at && field > 0; field--) {
		at = strchr(at, ';');
		at = at ? at + 1 : NULL;
	}
	return at;
}

int fio_run(const char *directory, const char *how, const char *file, uint64_t file_bytes, uint64_t bytes,
	    uint32_t block_bytes, unsigned depth, double *ret_rate)
{
	struct command command = { .n = 0 };
	char output[OUTPUT_BYTES];
	const char *value;

	add(&command, "fio");
	add(&command, "--name=kvbench");
	add(&command, "--directory=%s", directory);
	add(&command, "--filename=%s", file);
	add(&command, "--rw=%s", how);
	add(&command, "--bs=%" PRIu32, block_bytes);
	add(&command, "--size=%" PRIu64, file_bytes);
	add(&command, "--io_size=%" PRIu64, bytes);
	add(&command, "--iodepth=%u", depth);
	add(&command, "--ioengine=io_uring");
	add(&command, "--direct=1");
	add(&command, "--fallocate=native");
	add(&command, "--norandommap");
	add(&command, "--file_service_type=random");
	add(&command, "--randrepeat=0");
	add(&command, "--thread");
	if (strcmp(how, "write") != 0 && strchr(file, ':'))
		add(&command, "--readonly");
	add(&command, "--output-format=terse");
	add(&command, "--terse-version=" TERSE_VERSION);
	value = run(&command, output) == 0 ?
			field_of(output, strcmp(how, "write") == 0 ? FIELD_WRITE_KIB_S : FIELD_READ_KIB_S) :
			NULL;
	*ret_rate = value ? strtod(value, NULL) * 1024 : 0;
	return *ret_rate > 0 ? 0 : bench_error("fio failed, or says nothing: %s", output);
}
